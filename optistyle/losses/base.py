"""What every loss term is made of.

A term is three pure steps, so that a picture can be taken whole or in tiles, with one style or
many, with or without a mask, and no term needs to know:

- ``target``: once per scale, without gradient, from the features of content and styles;
- ``statistic``: sums over positions, additive over disjoint parts of the image;
- ``score``: from the sums over the whole image to a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from optistyle.encoders.layers import normalised
from optistyle.encoders.vgg import Features
from optistyle.statistics import Moments, blend, moments, position_weights

#: Sums over positions, by name. Adding them name by name joins disjoint parts of an image.
Statistic = Mapping[str, Tensor]

#: Layer -> rows and columns of a tile.
Window = Mapping[str, tuple[slice, slice]]


@dataclass(frozen=True)
class Reference:
    """An image's features, and its opacity: (1, 1, H, W) in [0, 1], or None."""

    features: Features
    alpha: Tensor | None = None
    _moments: dict[str, Moments] = field(default_factory=dict, repr=False, compare=False)

    def weights(self, layer: str) -> Tensor:
        """The position weights of a layer (see `statistics.position_weights`)."""
        return position_weights(self.alpha, self.features[layer])

    def moments(self, layer: str) -> Moments:
        """The raw moments at a layer, computed once."""
        if layer not in self._moments:
            self._moments[layer] = moments(self.features[layer], self.weights(layer))
        return self._moments[layer]


@dataclass(frozen=True)
class References:
    """What a target is made from: the content, the styles, and each style's share (sum 1)."""

    content: Reference
    styles: Sequence[Reference]
    shares: Sequence[float]

    def style_moments(self, layer: str) -> Moments:
        """Raw moments of the styles, blended."""
        return blend([style.moments(layer) for style in self.styles], self.shares)


@dataclass(frozen=True)
class Target:
    """What a term compares with.

    Attributes:
        weights: layer -> position weights of the image being optimised, the content's.
        maps: layer -> (1, K, H, W), something for every position.
        values: name -> anything that does not depend on position.
    """

    weights: Mapping[str, Tensor]
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Tensor] = field(default_factory=dict)

    def window(self, window: Window) -> Target:
        """The part of the target that belongs to a tile."""

        def cut(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
            parts = {}
            for layer, values in maps.items():
                rows, columns = window[layer]
                parts[layer] = values[..., rows, columns] if values.ndim else values
            return parts

        return Target(cut(self.weights), cut(self.maps), self.values)


class LossTerm(Protocol):
    """A loss: a frozen dataclass that holds settings and no tensors."""

    @property
    def layers(self) -> frozenset[str]:
        """The layers whose features it reads."""
        ...

    def target(self, references: References) -> Target: ...

    def statistic(self, features: Features, target: Target) -> Statistic: ...

    def score(self, statistic: Statistic, target: Target) -> Tensor: ...


def content_weights(references: References, layers: frozenset[str]) -> dict[str, Tensor]:
    return {layer: references.content.weights(layer) for layer in layers}


def weighted_total(layer_weights: Mapping[str, float], score: Callable[[str], Tensor]) -> Tensor:
    """Scores over layers, with the weights divided by their sum."""
    scores = [weight * score(layer) for layer, weight in normalised(layer_weights).items()]
    return sum(scores[1:], start=scores[0])
