"""The parts of a loss term: references, target, statistic and score.

A term is three pure functions. Tiles, several styles and masks therefore need no code in any term:

- ``target``: computed once per scale, without gradient, from the features of content and styles;
- ``statistic``: sums over positions, which add up over disjoint parts of the image;
- ``score``: the loss, a scalar, from the sums over the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Size, Tensor

from optistyle.encoders.base import Features
from optistyle.layers import normalised
from optistyle.statistics import Moments, blend, moments, position_weights

#: Sums over positions, by name. Adding them name by name joins disjoint parts of an image.
Statistic = Mapping[str, Tensor]

#: Rows and columns of an image, or of a map.
Part = tuple[slice, slice]
#: Layer -> rows and columns of a tile.
Window = Mapping[str, Part]


@dataclass(frozen=True)
class Reference:
    """An image's features, and its opacity: (1, 1, H, W) in [0, 1], or None."""

    features: Features
    alpha: Tensor | None = None
    _moments: dict[str, Moments] = field(default_factory=dict, repr=False, compare=False)
    _weights: dict[Size, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def size(self, layer: str) -> Size:
        """(H, W) of a layer's map."""
        return self.features[layer].shape[-2:]

    def weights(self, layer: str) -> Tensor:
        """The position weights of a layer (see `statistics.position_weights`), computed once."""
        size = self.size(layer)
        if size not in self._weights:
            self._weights[size] = position_weights(self.alpha, self._like(layer))
        return self._weights[size]

    def moments(self, layer: str) -> Moments:
        """The raw moments at a layer, computed once."""
        if layer not in self._moments:
            self._moments.update(self._measure(layer))
        return self._moments[layer]

    def _like(self, layer: str) -> Tensor:
        """Of the shape, type and device of a layer's map."""
        return self.features[layer]

    def _measure(self, layer: str) -> Mapping[str, Moments]:
        """The moments of a layer, and of others that come with it."""
        return {layer: moments(self.features[layer], self.weights(layer))}


@dataclass(frozen=True)
class References:
    """What targets are computed from: the content, the styles, and their shares, which sum to 1."""

    content: Reference
    styles: Sequence[Reference]
    shares: Sequence[float]

    def style_moments(self, layer: str) -> Moments:
        """Return the raw moments of the styles, averaged by their shares."""
        return blend([style.moments(layer) for style in self.styles], self.shares)


@dataclass(frozen=True)
class Target:
    """What a term compares the picture with.

    Attributes:
        weights: layer -> weight of each position of the picture in the sums; the content's.
        maps: layer -> (1, K, H, W), values for each position.
        values: name -> values that do not depend on position.
    """

    weights: Mapping[str, Tensor]
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Tensor] = field(default_factory=dict)

    def rounded(self) -> Target:
        """Return the target with maps in bfloat16: half the memory, exact to 1 in 256.

        Differences from the picture's features are computed in float32.
        """
        return replace(self, maps={layer: x.bfloat16() for layer, x in self.maps.items()})

    def window(self, window: Window) -> Target:
        """Return the part of the target that belongs to a tile."""
        weights = {layer: cut(x, window[layer]) for layer, x in self.weights.items()}
        maps = {layer: cut(x, window[layer]) for layer, x in self.maps.items()}
        return Target(weights, maps, self.values)


def cut(values: Tensor, part: Part) -> Tensor:
    """Return the part of (..., H, W) values; a uniform value without dimensions as it is."""
    return values[..., part[0], part[1]] if values.ndim else values


class LossTerm(Protocol):
    """A loss in three steps: a frozen dataclass that holds settings and no tensors.

    - ``target`` computes, once a scale and without gradient, what the picture is compared with.
    - ``statistic`` sums over positions of the picture. Sums over disjoint parts of a picture add up
      to the sum over the whole, which makes tiles exact.
    - ``score`` turns the sums over the whole picture into the loss, a scalar.

    ``target`` gets the photograph's and the paintings' features as `References`. Reading a full map
    needs memory for all of it; moments, weights and sizes are cheap. Give an object of your own to
    `stylize` as ``extra={"name": (weight, term)}``, or to the command line as
    ``--loss "package.module:Term weight=0.1"``.

    >>> import torch
    >>> from dataclasses import dataclass
    >>> from optistyle import Recipe, stylize
    >>> from optistyle.losses import Target
    >>> @dataclass(frozen=True)
    ... class Brightness:
    ...     '''Pull the mean of the picture towards a level.'''
    ...     level: float = 0.5
    ...     layers = frozenset({"image"})
    ...     def target(self, references):
    ...         return Target({"image": references.content.weights("image")})
    ...     def statistic(self, features, target):
    ...         return {"mean": (features["image"] * target.weights["image"]).sum() / 3}
    ...     def score(self, statistic, target):
    ...         return (statistic["mean"] - self.level) ** 2
    >>> recipe = Recipe(size=32, iterations=2, encoder="slim", device="cpu")
    >>> photograph, painting = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    >>> extra = {"brightness": (1e3, Brightness(0.8))}
    >>> result = stylize(photograph, painting, recipe, extra=extra, progress=False)
    >>> "brightness" in result.final
    True
    """

    @property
    def layers(self) -> frozenset[str]:
        """The layers whose features it reads; ``image`` is the picture itself."""
        ...

    def target(self, references: References) -> Target:
        """Return what the picture is compared with."""
        ...

    def statistic(self, features: Features, target: Target) -> Statistic:
        """Return sums over positions, by name."""
        ...

    def score(self, statistic: Statistic, target: Target) -> Tensor:
        """Return the loss, a scalar, from the sums over the whole picture."""
        ...


def content_weights(references: References, layers: frozenset[str]) -> dict[str, Tensor]:
    return {layer: references.content.weights(layer) for layer in layers}


def weighted_total(layer_weights: Mapping[str, float], score: Callable[[str], Tensor]) -> Tensor:
    """Return the weighted mean of a score over layers."""
    scores = [weight * score(layer) for layer, weight in normalised(layer_weights).items()]
    return sum(scores[1:], start=scores[0])
