"""Tiles: an image of any size through an encoder, a part at a time, with the whole's features.

A tile is looked at with a halo as wide as what its deepest features see (`Encoder.reach`), and its
features are cut to the tile's own positions. Tiles lie on the grid of the deepest layer's
positions, so that pooling pairs the same pixels as in the whole image, and halos end where the
image does: it is padded at its own border, where the whole image is, and what a crop's other edges
spoil is cut off with the halo. Hence features, and derivatives with respect to pixels, are the
whole's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Size, Tensor

from optistyle.encoders.base import Encoder, Features
from optistyle.errors import InputError
from optistyle.layers import IMAGE
from optistyle.losses.base import Part, Reference, Window, cut
from optistyle.machine.ranks import ALONE, Ranks
from optistyle.statistics import Moments, moments


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes:
        crop: rows and columns of the image that are looked at: the tile and its halo.
        window: layer -> rows and columns of the tile's own positions in the whole image's map.
    """

    crop: Part
    window: Window

    def features(self, encoder: Encoder, pixels: Tensor) -> Features:
        """The features of the tile's own positions, from the crop's pixels (1, 3, h, w)."""
        maps = encoder(pixels, self.window)
        return {
            layer: cut(maps[layer], self.inside(layer, encoder.halvings(layer)))
            for layer in self.window
        }

    def inside(self, layer: str, halvings: int) -> Part:
        """Rows and columns of the tile's own positions in the crop's map, so often halved."""
        rows, columns = (
            slice(own.start - offset, own.stop - offset)
            for own, crop in zip(self.window[layer], self.crop, strict=True)
            for offset in (crop.start >> halvings,)
        )
        return rows, columns


def grid(encoder: Encoder, layers: Iterable[str]) -> int:
    """The side in pixels of a position of the deepest layer: tiles are multiples of it."""
    return int(2 ** max(map(encoder.halvings, layers)))


def halo(encoder: Encoder, layers: Iterable[str]) -> int:
    """Pixels around a tile that its features see, in whole positions of the deepest layer."""
    layers = frozenset(layers)
    step = grid(encoder, layers)
    return step * math.ceil(encoder.reach(layers) / step)


def check(encoder: Encoder, layers: Iterable[str], side: int) -> None:
    """Raise `InputError` where a tile would be smaller than its halo, or than a position."""
    layers = frozenset(layers)
    least = max(halo(encoder, layers), grid(encoder, layers))
    if side < least:
        raise InputError(
            f"a tile of {side} px is smaller than the {least} px around it that the deepest layer "
            f"of encoder {encoder.name} sees: give --tile {least} or more, or auto"
        )


def tiling(
    encoder: Encoder, layers: Iterable[str], size: Sequence[int], side: int | None
) -> list[Tile]:
    """The tiles of an image of (H, W), row by row; one where ``side`` is None or large enough.

    Args:
        side: of a tile in pixels, without its halo; all are about as large, on the layers' grid.
            Tiles at the image's border are larger by the halo that they do not have there: none is
            looked at with more than ``side`` and two halos. Smaller ones are looked at with more
            than their halo, so that all crops have one shape, but for the last row and column of an
            image that the grid does not divide: then the memory of one tile fits the next.
    """
    layers = frozenset(layers)
    height, width = (_along(length, encoder, layers, side) for length in size)
    return [
        Tile(
            (down, across),
            {
                x: (
                    slice(rows[0] >> encoder.halvings(x), rows[1] >> encoder.halvings(x)),
                    slice(columns[0] >> encoder.halvings(x), columns[1] >> encoder.halvings(x)),
                )
                for x in layers
            },
        )
        for rows, down in height
        for columns, across in width
    ]


def crop(
    encoder: Encoder, layers: Iterable[str], size: Sequence[int], side: int | None
) -> tuple[int, ...]:
    """The (H, W) that the tiles of an image are looked at with, see `tiling`."""
    layers = frozenset(layers)
    first = (_along(length, encoder, layers, side)[0] for length in size)
    return tuple(seen.stop - seen.start for _, seen in first)


def _along(
    length: int, encoder: Encoder, layers: frozenset[str], side: int | None
) -> list[tuple[tuple[int, int], slice]]:
    """Tiles in one direction: the first and last pixel of each, and what it is looked at with."""
    step, margin = grid(encoder, layers), halo(encoder, layers)
    cells = max(1, math.ceil((length - 2 * margin) / step))
    count = 1 if side is None else math.ceil(cells / max(1, side // step))
    inner = [margin + step * (cells * i // count) for i in range(1, count)]
    own = list(zip([0, *inner], [*inner, length], strict=True))
    seen = [(max(0, a - margin), min(length, b + margin)) for a, b in own]
    most = max(stop - start for start, stop in seen)
    found = []
    for span, (start, _) in zip(own, seen, strict=True):
        stop = min(length, start + most)
        found.append((span, slice(start - (most - stop + start) // step * step, stop)))
    return found


class TiledFeatures(Mapping[str, Tensor]):
    """An image's features, put together from tiles whenever a layer is asked for, and not kept.

    Args:
        encoder: what sees the image. pixels: (1, 3, H, W). layers: the names.
        side: of a tile in pixels.
    """

    def __init__(self, encoder: Encoder, pixels: Tensor, layers: frozenset[str], side: int) -> None:
        self.pixels, self._encoder, self._layers, self._side = pixels, encoder, layers, side

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self._layers:
            raise KeyError(layer)
        if layer == IMAGE:
            return self.pixels
        whole = self.pixels.new_empty(self.like(layer).shape)
        for tile, features in self.parts({layer}):
            cut(whole, tile.window[layer]).copy_(features[layer])
        return whole

    def like(self, layer: str) -> Tensor:
        """Of the shape, type and device of a layer's map, and of no size in memory."""
        size = Size(length >> self._encoder.halvings(layer) for length in self.pixels.shape[-2:])
        return self.pixels.new_zeros(1).expand(1, self._encoder.channels(layer), *size)

    def tiles(self, layers: Iterable[str]) -> list[Tile]:
        return tiling(self._encoder, layers, self.pixels.shape[-2:], self._side)

    def parts(
        self, layers: Iterable[str], tiles: Sequence[Tile] | None = None
    ) -> Iterator[tuple[Tile, Features]]:
        """Tile by tile, or some of the tiles, with the features of the tile."""
        for tile in self.tiles(layers) if tiles is None else tiles:
            yield tile, tile.features(self._encoder, cut(self.pixels, tile.crop))


@dataclass(frozen=True)
class TiledReference(Reference):
    """A `Reference` of which no map is kept: moments are summed over tiles, in one pass for all.

    Ranks share the tiles where there are enough for all.
    """

    features: TiledFeatures
    ranks: Ranks = ALONE

    def size(self, layer: str) -> Size:
        return self._like(layer).shape[-2:]

    def _like(self, layer: str) -> Tensor:
        return self.features.like(layer)

    def _measure(self, layer: str) -> Mapping[str, Moments]:
        sums: dict[str, Moments] = {}
        tiles: Sequence[Tile] = self.features.tiles(self.features)
        shared = len(tiles) >= self.ranks.count > 1
        if shared:
            tiles = self.ranks.share(tiles)
        for tile, features in self.features.parts(self.features, tiles):
            for name, feature in features.items():
                part = moments(feature, cut(self.weights(name), tile.window[name]))
                if name in sums:
                    part = Moments(sums[name].first + part.first, sums[name].second + part.second)
                sums[name] = part
        if not shared:
            return sums
        whole = self.ranks.joined(
            {(x, order): getattr(sums[x], order) for x in sums for order in ("first", "second")}
        )
        return {x: Moments(whole[x, "first"], whole[x, "second"]) for x in sums}


def refer(
    encoder: Encoder,
    pixels: Tensor,
    alpha: Tensor | None,
    layers: frozenset[str],
    side: int | None,
    ranks: Ranks = ALONE,
) -> Reference:
    """The image (1, 3, H, W) as an encoder sees it: whole, or in tiles where it has several."""
    if len(tiling(encoder, layers, pixels.shape[-2:], side)) == 1 or side is None:
        return Reference(encoder(pixels, layers), alpha)
    return TiledReference(TiledFeatures(encoder, pixels, layers, side), alpha, ranks=ranks)
