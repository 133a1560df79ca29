"""The objective: weighted loss terms over one shared pass of the encoder, whole or in tiles.

Terms are functions of sums over positions, so that tiles need two passes at bounded memory: the
sums first, without gradient; the derivative of the scores with respect to the sums, once; then
every tile's sums again, and their derivatives back to its pixels (Galerne et al., "Scaling Painting
Style Transfer", CGF 2024, do so for Gram matrices). An image whole is one tile, whose sums are the
whole sums: its first pass is kept, and serves as the second.

Several ranks (see `machine.ranks`) share the tiles: each adds up its share, and the sums and the
gradient are added up over ranks.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from optistyle.encoders.base import Encoder
from optistyle.errors import InputError
from optistyle.losses.base import LossTerm, Reference, References, Statistic, Target, cut
from optistyle.machine import devices, heap
from optistyle.machine.graphs import Replayed
from optistyle.machine.ranks import ALONE, Ranks
from optistyle.optimise.solvers import is_compact
from optistyle.optimise.tiles import Tile, TiledReference, refer, tiling

log = logging.getLogger(__name__)

#: Name -> weight and term. A weight of 0 leaves the term out.
Terms = Mapping[str, tuple[float, LossTerm]]
#: A term's name, and a name in its statistic.
Sum = tuple[str, str]
#: Makes the losses as numbers, with their sum as ``total``, once they are there.
Reading = Callable[[], dict[str, float]]


class Measured:
    """Features and moments of style images, the latest ones kept: a sweep meets them again.

    Args:
        limit: bytes of features to keep at most.
    """

    def __init__(self, limit: int = 2**29) -> None:
        self._limit = limit
        self._kept: dict[object, Reference] = {}

    def __call__(
        self,
        encoder: Encoder,
        layers: frozenset[str],
        pixels: Tensor,
        alpha: Tensor | None,
        tile: int | None = None,
        ranks: Ranks = ALONE,
    ) -> Reference:
        """The style (1, 3, H, W) as an encoder sees it, which must not change in the meantime."""
        key = encoder, layers, digest(pixels, alpha), tile
        reference = self._kept.pop(key, None)
        if reference is None:
            log.debug("measuring a style of %dx%d px", *reversed(pixels.shape[-2:]))
            reference = refer(encoder, pixels, alpha, layers, tile, ranks)
        self._kept[key] = reference
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > self._limit:
            del self._kept[next(iter(self._kept))]
        return reference


def _size(reference: Reference) -> int:
    if isinstance(reference, TiledReference):  # the image only
        return reference.features.pixels.numel() * 4
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
    """A function of the image; build it with `Objective.build`, call it as often as needed.

    Attributes:
        tiles: of the whole image.
        ranks: who shares the tiles. Where there are several, a rank that evaluates the objective or
            its gradient waits until all others do the same.
    """

    encoder: Encoder
    terms: Terms
    targets: Mapping[str, Target]
    layers: frozenset[str]
    tiles: Sequence[Tile]
    ranks: Ranks = ALONE

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        encoder: Encoder,
        terms: Terms,
        content: tuple[Tensor, Tensor | None],
        styles: list[tuple[Tensor, Tensor | None]],
        shares: list[float],
        measured: Measured | None = None,
        tile: int | None = None,
        ranks: Ranks = ALONE,
    ) -> Objective:
        """Measure content and styles once.

        Args:
            content: the image that the picture is compared with in place, and its alpha:
                (1, 3, H, W) in [0, 1] and (1, 1, H, W) in [0, 1] or None.
            styles: the same for every style image, of any sizes.
            shares: each style's share; positive, sum 1.
            measured: styles seen before, where several objectives share them.
            tile: the side of the tiles in which all images are evaluated; None for no tiles.
            ranks: who shares the tiles.
        """
        for name, (weight, _) in terms.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"the weight of {name} is {weight}; it must be 0 or more")
        terms = {name: pair for name, pair in terms.items() if pair[0] > 0}
        if not terms:
            raise InputError("all weights are 0; there is nothing to optimise")
        layers = frozenset[str]().union(*(term.layers for _, term in terms.values()))

        measured = Measured() if measured is None else measured
        with encoder.arithmetic():
            references = References(
                refer(encoder, *content, layers, tile, ranks),
                [measured(encoder, layers, *style, tile, ranks) for style in styles],
                shares,
            )
            compact, targets = is_compact(content[0][0, 0].numel()), {}
            for name, (_, term) in terms.items():
                target = term.target(references)
                targets[name] = target.rounded() if compact else target
        tiles = tiling(encoder, layers, content[0].shape[-2:], tile)
        return cls(encoder, terms, targets, layers, tiles, ALONE if tile is None else ranks)

    @property
    def shared(self) -> bool:
        """Whether several ranks share the tiles."""
        return self.ranks.count > 1

    def reweighted(self, weights: Mapping[str, float]) -> Objective:
        """The same objective with other weights above 0 for the terms that it has."""
        terms = {name: (weights[name], term) for name, (_, term) in self.terms.items()}
        return replace(self, terms=terms)

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Every term's weighted loss, by name; their sum is what is minimised.

        Where ranks share the tiles it has no derivative: `gradient` gives it.
        """
        with self._looking():
            parts = _joined(self._sums(cut(image, t.crop), t) for t in self._own)
            return self._scores(self._whole(parts, image))

    def evaluate(self, image: Tensor) -> dict[str, float]:
        """The losses as numbers, with their sum as ``total``, without a gradient."""
        with torch.no_grad():
            losses = torch.stack(list(self(image).values()))
            return self._numbers(self._agreed(losses) if self.shared else losses)

    def gradient(self, image: Tensor) -> tuple[dict[str, float], Tensor]:
        """The losses as numbers, and the derivative of their sum, (1, 3, H, W)."""
        losses, gradient = self.slope(image)
        return self._numbers(losses), gradient

    def gradients(self) -> Callable[[Tensor], tuple[Reading, Tensor]]:
        """`gradient` for many images of one size, whose losses are read when they are asked for.

        On a GPU it is replayed (see `graphs`); the memory for that is held as long as this is.
        """
        alone = self.encoder.device.type == "cuda" and not self.shared
        slope = Replayed(self.slope) if alone else self.slope

        def look(image: Tensor) -> tuple[Reading, Tensor]:
            losses, gradient = slope(image)
            arriving = devices.fetched(losses)
            return lambda: self._numbers(arriving()), gradient

        return look

    def slope(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The losses in the terms' order, (T,), and the derivative of their sum, (1, 3, H, W).

        Unless ranks share the tiles, nothing in it waits for the device.
        """
        with self._looking():
            return self._slope(image)

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        """In the encoder's arithmetic; what tiles leave of memory is given back, to the solver."""
        with self.encoder.arithmetic():
            yield
        if len(self._own) > 1:
            heap.give_back()

    def _slope(self, image: Tensor) -> tuple[Tensor, Tensor]:
        own = self._own
        crops = [cut(image.detach(), tile.crop).requires_grad_() for tile in own]
        looks = zip(crops, own, strict=True)
        alone = len(own) == 1
        with torch.set_grad_enabled(alone):
            sums = _joined(self._sums(crop, tile) for crop, tile in looks)
        whole = self._whole(sums, image)
        leaves = {name: x.detach().requires_grad_() for name, x in whole.items()}
        losses = torch.stack(list(self._scores(leaves).values()))
        found = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True)
        slopes = dict(zip(leaves, found, strict=True))

        gradient = torch.zeros_like(image)
        for crop, tile in zip(crops, own, strict=True):
            part = sums if alone else self._sums(crop, tile)
            (derivative,) = torch.autograd.grad(
                list(part.values()), crop, [slopes[k] for k in part]
            )
            cut(gradient, tile.crop).add_(derivative)
        if self.shared:
            # Rank 0's numbers for all: what is decided by them is decided alike.
            both = self.ranks.joined({"gradient": gradient, "losses": self._first(losses)})
            losses, gradient = both["losses"], both["gradient"]
        return losses.detach(), gradient

    def _numbers(self, losses: Tensor) -> dict[str, float]:
        numbers = dict(zip(self.terms, losses.tolist(), strict=True))
        return {"total": math.fsum(numbers.values()), **numbers}

    @property
    def _own(self) -> Sequence[Tile]:
        """This rank's tiles."""
        return self.ranks.share(self.tiles)

    def _whole(self, sums: Mapping[Sum, Tensor], image: Tensor) -> Mapping[Sum, Tensor]:
        """The sums over all ranks' tiles, from those over this one's."""
        if not self.shared:
            return sums
        with torch.no_grad():
            if not sums:  # a scale of fewer tiles than ranks: the names and shapes of another's
                tile = self.tiles[0]
                some = self._sums(cut(image.detach(), tile.crop), tile)
                sums = {key: torch.zeros_like(x) for key, x in some.items()}
            return self.ranks.joined({key: x.detach().clone() for key, x in sums.items()})

    def _agreed(self, losses: Tensor) -> Tensor:
        """Rank 0's losses, on every rank."""
        return self.ranks.joined({"": self._first(losses)})[""]

    def _first(self, losses: Tensor) -> Tensor:
        """What adds up over ranks to rank 0's losses; in float64, apart from large gradients."""
        exact = losses.detach().double()
        return exact if self.ranks.rank == 0 else torch.zeros_like(exact)

    def _sums(self, crop: Tensor, tile: Tile) -> dict[Sum, Tensor]:
        """A tile's share of all terms' statistics."""
        features = tile.features(self.encoder, crop)
        return {
            (name, key): x
            for name, (_, term) in self.terms.items()
            for key, x in term.statistic(features, self.targets[name].window(tile.window)).items()
        }

    def _scores(self, sums: Mapping[Sum, Tensor]) -> dict[str, Tensor]:
        losses = {}
        for name, (weight, term) in self.terms.items():
            own: Statistic = {key: x for (owner, key), x in sums.items() if owner == name}
            losses[name] = weight * term.score(own, self.targets[name])
        return losses


def _joined(parts: Iterable[Mapping[Sum, Tensor]]) -> dict[Sum, Tensor]:
    whole: dict[Sum, Tensor] = {}
    for part in parts:
        whole = {key: whole[key] + x for key, x in part.items()} if whole else {**part}
    return whole
