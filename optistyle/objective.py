"""The objective: weighted loss terms over one shared pass of the encoder."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.losses.base import LossTerm, Reference, References, Target

#: Name -> weight and term. A weight of 0 leaves the term out.
Terms = Mapping[str, tuple[float, LossTerm]]


class Measured:
    """Features and moments of style images, the latest ones kept: a sweep meets them again.

    Args:
        limit: bytes of features to keep at most.
    """

    def __init__(self, limit: int = 2**29) -> None:
        self._limit = limit
        self._kept: dict[object, Reference] = {}

    def __call__(
        self, encoder: VGG, layers: frozenset[str], pixels: Tensor, alpha: Tensor | None
    ) -> Reference:
        """The style (1, 3, H, W) as seen by an encoder, which must not change in the meantime."""
        key = encoder, layers, digest(pixels, alpha)
        reference = self._kept.pop(key, None)
        if reference is None:
            reference = Reference(encoder(pixels, layers), alpha)
        self._kept[key] = reference
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > self._limit:
            del self._kept[next(iter(self._kept))]
        return reference


def _size(reference: Reference) -> int:
    return sum(x.numel() * x.element_size() for x in reference.features.values())


def digest(*tensors: Tensor | None) -> str:
    """The SHA-256 of tensors' values, in float32."""
    sha = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            sha.update(str(tuple(tensor.shape)).encode())
            sha.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return sha.hexdigest()


@dataclass(frozen=True)
class Objective:
    """A function of the image; build it with `Objective.build`, call it as often as needed."""

    encoder: VGG
    terms: Terms
    targets: Mapping[str, Target]
    layers: frozenset[str]

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        encoder: VGG,
        terms: Terms,
        content: tuple[Tensor, Tensor | None],
        styles: list[tuple[Tensor, Tensor | None]],
        shares: list[float],
        measured: Measured | None = None,
    ) -> Objective:
        """Measure content and styles once.

        Args:
            content: the image that the picture is compared with in place, and its alpha:
                (1, 3, H, W) in [0, 1] and (1, 1, H, W) in [0, 1] or None.
            styles: the same for every style image, of any sizes.
            shares: each style's share; positive, sum 1.
            measured: styles seen before, where several objectives share them.
        """
        for name, (weight, _) in terms.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"the weight of {name} is {weight}; it must be 0 or more")
        terms = {name: pair for name, pair in terms.items() if pair[0] > 0}
        if not terms:
            raise InputError("all weights are 0; there is nothing to optimise")
        layers = frozenset[str]().union(*(term.layers for _, term in terms.values()))

        measured = Measured() if measured is None else measured
        references = References(
            Reference(encoder(content[0], layers), content[1]),
            [measured(encoder, layers, *style) for style in styles],
            shares,
        )
        targets = {name: term.target(references) for name, (_, term) in terms.items()}
        return cls(encoder, terms, targets, layers)

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Every term's weighted loss, by name; their sum is what is minimised."""
        features = self.encoder(image, self.layers)
        losses = {}
        for name, (weight, term) in self.terms.items():
            target = self.targets[name]
            losses[name] = weight * term.score(term.statistic(features, target), target)
        return losses

    def evaluate(self, image: Tensor) -> dict[str, float]:
        """The losses as numbers, with their sum as ``total``, without a gradient."""
        with torch.no_grad():
            return _numbers(self(image))

    def gradient(self, image: Tensor) -> tuple[dict[str, float], Tensor]:
        """The losses as numbers, and the derivative of their sum, (1, 3, H, W)."""
        image = image.detach().requires_grad_()
        losses = self(image)
        (gradient,) = torch.autograd.grad(sum(losses.values(), start=torch.zeros(())), image)
        return _numbers(losses), gradient


def _numbers(losses: Mapping[str, Tensor]) -> dict[str, float]:
    numbers = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
    return {"total": math.fsum(numbers.values()), **numbers}
