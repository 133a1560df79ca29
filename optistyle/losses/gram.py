"""Gram style: the picture has the style image's Gram matrices (Gatys et al. 2016, eqs. 3-5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from optistyle.encoders.base import Features
from optistyle.layers import CHANNELS
from optistyle.losses.base import References, Statistic, Target, content_weights, weighted_total
from optistyle.statistics import second_moment


def gram_distance(matrix: Tensor, goal: Tensor, layer: str) -> Tensor:
    """1/4 * mean over i, j of ((G_ij - S_ij) / N)², for (n, n) matrices already divided by M.

    N is VGG-19's own channel count at the layer, not the encoder's width n: with the mean over i, j
    the same distance then weighs the same in a slim encoder as in VGG-19. For VGG-19 itself it is
    Gatys et al.'s formula, 1 / (4 N² M²) * sum (G - S)², over N² once more.
    """
    return ((matrix - goal) / CHANNELS[layer]).square().mean() / 4


@dataclass(frozen=True)
class GramStyle:
    """Compare the picture's Gram matrices with the painting's.

    At a layer with N feature maps of M positions, G = F Fᵀ / M is the Gram matrix of the picture's
    features F, and S that of the painting's. The loss is

        1 / (4 N²) * mean (G - S)²

    averaged over the layers by their weights (Gatys et al. 2016, equations 3 to 5). The Gram
    matrices of several paintings are averaged by their shares. Departures: the mean replaces the
    sum, which divides by N² once more; and N is VGG-19's number of feature maps in every encoder,
    so that the same beta has the same effect in a narrower one.

    Args:
        layer_weights: layer -> relative weight.

    >>> from optistyle import GramStyle
    >>> sorted(GramStyle({"relu1_1": 1.0, "relu2_1": 1.0}).layers)
    ['relu1_1', 'relu2_1']
    """

    layer_weights: Mapping[str, float]

    @property
    def layers(self) -> frozenset[str]:
        return frozenset(self.layer_weights)

    def target(self, references: References) -> Target:
        values = {layer: references.style_moments(layer).second for layer in self.layers}
        return Target(content_weights(references, self.layers), values=values)

    def statistic(self, features: Features, target: Target) -> Statistic:
        return {x: second_moment(features[x], target.weights[x]) for x in self.layers}

    def score(self, statistic: Statistic, target: Target) -> Tensor:
        return weighted_total(
            self.layer_weights, lambda x: gram_distance(statistic[x], target.values[x], x)
        )
