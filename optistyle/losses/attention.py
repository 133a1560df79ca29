"""Attention losses: each position takes the style of the places in the painting that resemble it.

Soft attention gathers the painting's features to the photograph's positions, FA = A Wᵀ
(`statistics.attend`). The losses compare the picture's features F with FA: `AttentionGram` by Gram
matrices (Chen, "Neural Style Transfer with Self-Attention Module", equation 7), `AttentionLocal`
position by position (AdaAttN's local loss, Liu et al., ICCV 2021, equation 10).

Chen subtracts the mean from FA and not from F. Read literally, the two can never be equal, and the
picture turns grey. ``centre`` therefore has three values:

- ``both``, the default: subtract both means, which compares covariances. The style loss alone
  decides the overall colour.
- ``none``: subtract no mean.
- ``target``: subtract the mean of FA only, as Chen does; kept for reproduction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from optistyle.choices import CENTRES, MOST_KEYS
from optistyle.encoders.base import Features
from optistyle.errors import unknown
from optistyle.layers import CHANNELS
from optistyle.losses.base import (
    Reference,
    References,
    Statistic,
    Target,
    content_weights,
    weighted_total,
)
from optistyle.losses.gram import gram_distance
from optistyle.statistics import Keys, Moments, blend, moments, recall, weighted_sum


class Pairing(TypedDict):
    """The arguments of `attend`, `log_attention` and `correspond` in `statistics`, by name."""

    content: Tensor
    style: Tensor
    content_weights: Tensor
    style_weights: Tensor
    sharpness: float


def pairing(content: Reference, style: Reference, layer: str) -> Pairing:
    """Return what attention at a layer needs of a content and a style."""
    feature = content.features[layer]
    return {
        "content": feature,
        "style": style.features[layer],
        "content_weights": content.weights(layer),
        "style_weights": style.weights(layer),
        "sharpness": _sharpness(layer, feature),
    }


def attended(references: References, layer: str, most: int | None = None) -> Iterator[Tensor]:
    """Yield FA at a layer, (1, N, H, W) as the content's map, for one style after another.

    Args:
        references: the content and the styles.
        layer: the layer.
        most: the most style positions that attention reads (see `statistics.attend`).
    """
    for style in references.styles:
        # First the style's map, then the content's: of a huge picture both take much memory.
        known = Keys.of(style.features[layer], style.weights(layer), most)
        yield _recalled(references.content, known, layer)


def _recalled(content: Reference, known: Keys, layer: str) -> Tensor:
    """Return FA. A function of its own, so that the content's map is freed before FA is used."""
    feature = content.features[layer]
    sharpness = _sharpness(layer, feature)
    return recall(feature, content.weights(layer), known, sharpness=sharpness)


def _sharpness(layer: str, feature: Tensor) -> float:
    """Return N_VGG / N, which scales inner products over N channels to the size of VGG-19's."""
    return CHANNELS[layer] / feature.shape[1]


@dataclass(frozen=True)
class AttentionGram:
    """Compare Gram matrices with those of the attended style.

    Soft attention finds, for every position of the photograph, the positions of the painting whose
    features resemble it, and averages their features into FA, a map of the photograph's size. The
    loss is that of `GramStyle` with FA in place of the painting (Chen, "Neural Style Transfer with
    Self-Attention Module", equation 7). Departure: the paper subtracts the mean from FA alone; by
    default it is subtracted from both, because otherwise the picture turns grey.

    Args:
        layer_weights: layer -> relative weight.
        centre: the features from which the mean is subtracted: ``both``, ``none`` or ``target``
            (only FA, as in the paper).
        most: the most positions of a painting that attention reads; a sample is drawn where there
            are more. None reads all.

    Raises:
        InputError: another value of ``centre``.

    >>> from optistyle import AttentionGram
    >>> AttentionGram({"relu4_1": 1.0}).centre
    'both'
    """

    layer_weights: Mapping[str, float]
    centre: str = "both"
    most: int | None = MOST_KEYS

    def __post_init__(self) -> None:
        if self.centre not in CENTRES:
            raise unknown("centre", self.centre, CENTRES)

    @property
    def layers(self) -> frozenset[str]:
        return frozenset(self.layer_weights)

    def target(self, references: References) -> Target:
        values = {}
        for layer in self.layers:
            weights = references.content.weights(layer)
            found = attended(references, layer, self.most)
            mixture = blend([moments(fa, weights) for fa in found], references.shares)
            values[layer] = mixture.second if self.centre == "none" else mixture.covariance
        return Target(content_weights(references, self.layers), values=values)

    def statistic(self, features: Features, target: Target) -> Statistic:
        statistic = {}
        for layer in self.layers:
            part = moments(features[layer], target.weights[layer])
            statistic[f"{layer}/first"], statistic[f"{layer}/second"] = part.first, part.second
        return statistic

    def score(self, statistic: Statistic, target: Target) -> Tensor:
        def distance(layer: str) -> Tensor:
            whole = Moments(statistic[f"{layer}/first"], statistic[f"{layer}/second"])
            matrix = whole.covariance if self.centre == "both" else whole.second
            return gram_distance(matrix, target.values[layer], layer)

        return weighted_total(self.layer_weights, distance)


@dataclass(frozen=True)
class AttentionLocal:
    """Compare features with the attended style, position by position.

    The loss is that of `Content` with the attended style FA in place of the photograph's features:

        1 / (2 N M) * sum (F - FA)²

    averaged over the layers by their weights. `AttentionGram` says what FA is. The maps of several
    paintings are averaged by their shares. Source: the local loss of AdaAttN (Liu et al., ICCV
    2021, equation 10). Departure: it trained a network; here it drives the picture itself.

    Args:
        layer_weights: layer -> relative weight.
        centre: the features from which the mean is subtracted: ``both``, ``none`` or ``target``
            (only FA).
        most: the most positions of a painting that attention reads; a sample is drawn where there
            are more. None reads all.

    Raises:
        InputError: another value of ``centre``.

    >>> from optistyle import AttentionLocal
    >>> sorted(AttentionLocal({"relu3_1": 1.0, "relu4_1": 1.0}).layers)
    ['relu3_1', 'relu4_1']
    """

    layer_weights: Mapping[str, float]
    centre: str = "both"
    most: int | None = MOST_KEYS

    def __post_init__(self) -> None:
        if self.centre not in CENTRES:
            raise unknown("centre", self.centre, CENTRES)

    @property
    def layers(self) -> frozenset[str]:
        return frozenset(self.layer_weights)

    def target(self, references: References) -> Target:
        maps = {}
        for layer in self.layers:
            found = zip(references.shares, attended(references, layer, self.most), strict=True)
            goal = sum((share * fa for share, fa in found), start=torch.zeros(()))
            if self.centre != "none":
                mean = weighted_sum(goal, references.content.weights(layer))
                goal = goal - mean.view(1, -1, 1, 1)
            maps[layer] = goal
        return Target(content_weights(references, self.layers), maps)

    def statistic(self, features: Features, target: Target) -> Statistic:
        statistic = {}
        for layer, goal in target.maps.items():
            error, weights = features[layer] - goal, target.weights[layer]
            statistic[f"{layer}/first"] = weighted_sum(error, weights)
            statistic[f"{layer}/second"] = weighted_sum(error.square(), weights)
        return statistic

    def score(self, statistic: Statistic, target: Target) -> Tensor:
        def distance(layer: str) -> Tensor:
            first, second = statistic[f"{layer}/first"], statistic[f"{layer}/second"]
            # FA has mean 0 here, so that first is F's own mean: |F - mean F - FA|² in two sums.
            return (second - first.square() if self.centre == "both" else second).mean() / 2

        return weighted_total(self.layer_weights, distance)
