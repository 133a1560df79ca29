"""How much memory a run takes, and what would fit: a forecast, to refuse early and usefully.

The forecast is of the peak beside the program, its weights and the input pictures.
`python -m benchmarks sizes` holds whole runs, with the program and its pictures in them, against
their plans: docs/speed.md.

What tiles leave is images: the picture, the best one, gradients and L-BFGS's history, 12 bytes a
pixel each, and the maps that targets are made from.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from optistyle.choices import MOST_KEYS
from optistyle.encoders.base import Encoder
from optistyle.errors import InputError
from optistyle.losses.base import References
from optistyle.machine import heap, memory
from optistyle.machine.ranks import ALONE, Ranks
from optistyle.optimise.objective import Terms
from optistyle.optimise.solvers import LBFGS, Solver, is_compact
from optistyle.optimise.tiles import TiledFeatures, TiledReference, crop, grid, halo, tiling

#: Copies of every activation alive at a step's peak: output, padded input, gradients in part.
_COPIES = 3.1
#: What the C library makes of them where it keeps what is freed, of which the next ones leave gaps.
_SCATTER = 1.3
#: Images of the picture's size alive beside the history while tiles are looked at: the picture, the
#: best one, the gradient and, in the history's type, the one before; and while the solver steps,
#: which holds two of the latter.
_LOOKING, _STEPPING = 3, 4
#: The same for Adam.
_ADAM_LOOKING, _ADAM_STEPPING = 7, 12
#: Bytes that convolutions take for themselves, whatever the size.
_FIXED = 30_000_000
#: Bytes of a float32, and of an RGB pixel of them.
_FLOAT, _PIXEL = 4, 12
#: Tiles to choose from, the side in pixels; None is the whole picture.
SIDES = (None, 2048, 1024, 768, 512, 256)
#: Pairs of L-BFGS to choose from, at the least; and bytes that they may take where there is choice.
PAIRS, _HISTORY = (5, 4, 3, 2), 2_500_000_000


@dataclass(frozen=True)
class Needs:
    """Whole maps that the targets of terms are made from.

    Attributes:
        held: layer by layer, with repetition, of the content's size: what targets keep.
        matched: layers at which content and style are compared place by place.
    """

    held: tuple[str, ...] = ()
    matched: frozenset[str] = frozenset()

    @classmethod
    @torch.no_grad()
    def of(cls, encoder: Encoder, terms: Terms) -> Needs:
        """Found out by making the targets of a tiny picture: no term has to declare anything."""
        layers = frozenset[str]().union(*(term.layers for _, term in terms.values()))
        image = torch.linspace(0, 1, 3 * 32 * 32, device=encoder.device).view(1, 3, 32, 32)
        content, style = (_Watched(encoder, image, layers, 32) for _ in range(2))
        references = References(TiledReference(content), [TiledReference(style)], [1.0])
        targets = [term.target(references) for _, term in terms.values()]
        held = tuple(layer for target in targets for layer in sorted(target.maps))
        return cls(held, frozenset(style.asked))


class _Watched(TiledFeatures):
    """Remembers which layers it was asked for."""

    asked: tuple[str, ...] = ()

    def __getitem__(self, layer: str) -> torch.Tensor:
        self.asked = (*self.asked, layer)
        return super().__getitem__(layer)


@dataclass(frozen=True)
class Demand:
    """What decides how much memory a run takes, but for its size and how it is done.

    Attributes:
        encoder: with ``layers``, the union of what the loss terms read.
        styles: pixels of every style image per pixel of the picture.
        iterations: of the largest scale.
        solver: see `solvers`.
        needs: of the terms.
        exact: whether attention reads all positions of a style, however many.
        ranks: who shares the tiles.
    """

    encoder: Encoder
    layers: frozenset[str]
    styles: tuple[float, ...] = (1.0,)
    iterations: int = 100
    solver: Solver = field(default_factory=LBFGS)
    needs: Needs = Needs()
    exact: bool = False
    ranks: Ranks = ALONE

    def bytes(self, height: int, width: int, tile: int | None = None, least: int = 5) -> int:
        """The forecast for a picture of (H, W).

        Args:
            tile: the side of its tiles; None for none.
            least: pairs that L-BFGS holds at least.
        """
        pixels = height * width
        peak, held = self._floats()
        seen = math.prod(crop(self.encoder, self.layers, (height, width), tile))
        maps = _beside(_FLOAT, pixels) * sum(self._map(layer) for layer in self.needs.held) * pixels
        image, most = _PIXEL * pixels, max((1.0, *self.styles))
        if seen == pixels:
            measuring = _FLOAT * (held * (1 + sum(self.styles)) + (peak - held) * most) * pixels
        else:
            measuring = _FLOAT * peak * seen
        measuring += maps + max(
            (self._matching(x, pixels, most) for x in self.needs.matched), default=0
        )
        measuring += image * (2 + sum(self.styles))
        fixed, floats = self.encoder.workspace(self.layers)
        step = _COPIES * self._alive(seen) + _FLOAT * floats * seen + maps
        adam = not isinstance(self.solver, LBFGS)
        pairs = self.history(pixels, least)
        before = _beside(image, pixels)
        looking = pairs + (_ADAM_LOOKING * image if adam else _LOOKING * image + before)
        stepping = pairs + (_ADAM_STEPPING * image if adam else _STEPPING * image + 2 * before)
        return round(_FIXED + fixed + max(measuring, looking + step, stepping + maps))

    def history(self, pixels: int, least: int) -> int:
        """Bytes of L-BFGS's pairs, and of the half of one that comes next."""
        if not isinstance(self.solver, LBFGS):
            return 0
        most = self.pairs(pixels, least)
        rows = min(self.iterations, most + 1) + min(self.iterations, most)
        return rows * _pair(pixels) // 2

    def pairs(self, pixels: int, least: int) -> int:
        """How many pairs L-BFGS remembers."""
        if not isinstance(self.solver, LBFGS):
            return 0
        return replace(self.solver, least=least).capacity(_pair(pixels))

    def positions(self, layer: str, pixels: int) -> float:
        """Of a layer's map."""
        return pixels / float(4 ** self.encoder.halvings(layer))

    def _map(self, layer: str) -> float:
        """Floats of a layer's map per pixel of the image."""
        return self.encoder.channels(layer) * self.positions(layer, 1)

    def _matching(self, layer: str, pixels: int, most: float) -> float:
        """Bytes that attention takes at a layer: the style's map, or then the content's and FA."""
        keys = most * self.positions(layer, pixels)
        if not self.exact:
            keys = min(keys, MOST_KEYS)
        maps = self._map(layer) * pixels * max(most, 2)
        return _FLOAT * (maps + 3 * self.encoder.channels(layer) * keys)

    def _way(self) -> Sequence[str]:
        """The layers on the way to the deepest."""
        taps = self.encoder.taps
        return taps[: max((taps.index(x) for x in self.layers & {*taps}), default=-1) + 1]

    def _alive(self, pixels: int) -> float:
        """Bytes of all activations of so many pixels."""
        sizes = [_FLOAT * self._map(layer) * pixels for layer in self._way()]
        return sum(size * (_SCATTER if size < heap.KEPT else 1) for size in sizes)

    def _floats(self) -> tuple[float, float]:
        """Per pixel, of a pass without gradient: at its peak, and after it."""
        held, peak, source = 2.0 * 3, 0.0, 0.0
        for layer in self._way():
            size = self._map(layer)
            peak = max(peak, held + source + 2 * size)
            held, source = (held + size, 0.0) if layer in self.layers else (held, size)
        return max(peak, held), held

    def sampled(self, height: int, width: int) -> bool:
        """Whether attention looks at a part of the style's positions only."""
        most = round(max(self.styles) * height * width)
        return not self.exact and any(
            self.positions(layer, most) > MOST_KEYS for layer in self.needs.matched
        )

    def choose(self, height: int, width: int, tile: int | str, history: int | str) -> Fit:
        """The largest tile, and the history, at which (H, W) fits what is free.

        Args:
            tile, history: see `recipes.Recipe`.

        Raises:
            InputError: nothing fits; names a size that does. Or there are fewer tiles than ranks.
        """
        sides, pairs = self._sides(tile), self._pairs(height * width, history)
        room = memory.free(self.encoder.device)
        if self.ranks.count > 1:
            sides, room = self._shared(height, width, tile), self._least(room)
        if room is None:
            needed = self.bytes(height, width, sides[0], pairs[0])
            return Fit(sides[0], pairs[0], needed, memory.held(self.encoder.device))
        # Rather tiles than more than half of what is free; rather more than that than less history.
        for least, share in ((pairs[0], 0.5), *((least, 1.0) for least in pairs)):
            for side in sides:
                needed = self.bytes(height, width, side, least)
                if needed <= share * room:
                    return Fit(side, least, needed, memory.held(self.encoder.device))
        needed = min(self.bytes(height, width, x, pairs[-1]) for x in sides)
        raise InputError(
            f"{width}x{height} px takes about {needed / 1e9:.1f} GB of memory with encoder "
            f"{self.encoder.name}, and {room / 1e9:.1f} GB are free on {self.encoder.device}: "
            + self._advice(height, width, math.floor(0.9 * room), sides, pairs[-1])
            + ("" if tile == "auto" else ", or --tile auto may")
        )

    def _sides(self, tile: int | str) -> Sequence[int | None]:
        if tile == "off":
            return [None]
        if isinstance(tile, int):
            return [tile]
        least = halo(self.encoder, self.layers)
        return [side for side in SIDES if side is None or side >= least]

    def _shared(self, height: int, width: int, tile: int | str) -> Sequence[int]:
        """The sides of tiles of which (H, W) has one for every rank, the largest first."""
        if tile == "off":
            raise InputError(
                f"--tile off leaves one part for {self.ranks.count} ranks to share: "
                "give --tile auto or a side in pixels"
            )

        def fit(side: int) -> int:
            return len(tiling(self.encoder, self.layers, (height, width), side))

        step = grid(self.encoder, self.layers)
        least = max(halo(self.encoder, self.layers), step)
        sides = range(max(least, max(height, width) // step * step), least - 1, -step)
        some = [tile] if isinstance(tile, int) else sides
        if (largest := next((x for x in some if fit(x) >= self.ranks.count), None)) is None:
            most = fit(some[-1])
            raise InputError(
                f"{width}x{height} px are too small for {self.ranks.count} ranks: {most} fit "
                f"with tiles of {some[-1]} px"
                + (f", {fit(least)} with the smallest, of {least}" if most < fit(least) else "")
            )
        return [largest, *(x for x in SIDES if x and least <= x < largest and tile == "auto")]

    def _least(self, room: int | None) -> int | None:
        """What is free for a rank, where others take of the same; on every rank the same."""
        if room is not None and self.encoder.device.type == "cpu":
            room //= self.ranks.neighbours
        rooms = [x for x in self.ranks.gathered(room) if x is not None]
        return min(rooms, default=None)

    def _pairs(self, pixels: int, history: int | str) -> Sequence[int]:
        if isinstance(history, int):
            return [history]
        if not isinstance(self.solver, LBFGS):
            return PAIRS[:1]
        return [n for n in PAIRS if self.history(pixels, n) <= _HISTORY] or PAIRS[-1:]

    @contextlib.contextmanager
    def guard(self, height: int, width: int, fit: Fit) -> Iterator[None]:
        """Turn running out of memory at (H, W) into an `InputError` that names a smaller size."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not memory.is_shortage(error):
                raise
            room = min(fit.bytes // 2, memory.free(self.encoder.device) or fit.bytes)
            raise InputError(
                f"out of memory on {self.encoder.device} at {width}x{height} px with encoder "
                f"{self.encoder.name}: "
                + self._advice(height, width, room, [fit.tile], fit.history)
            ) from error

    def _advice(
        self, height: int, width: int, room: int, sides: Sequence[int | None], least: int
    ) -> str:
        fits = max(self.largest(height, width, room, side, least) for side in sides)
        return f"--size {fits} would fit" if fits else "no size would fit"

    def largest(
        self, height: int, width: int, room: int, tile: int | None = None, least: int = 5
    ) -> int:
        """The longer side, a multiple of 16 px, at which the shape fits ``room`` bytes; 0: none."""
        longer = max(height, width)
        for side in range(longer - longer % 16, 15, -16):
            size = round(height * side / longer), round(width * side / longer)
            if self.bytes(*size, tile, least) <= room:
                return side
        return 0


@dataclass(frozen=True)
class Fit:
    """How a run fits into memory.

    Attributes:
        tile: the side of its tiles in pixels; None for none.
        history: pairs that L-BFGS holds at least.
        bytes: the forecast of what the run takes.
        held: what the program, its weights and the pictures took before.
    """

    tile: int | None
    history: int
    bytes: int
    held: int = 0

    @property
    def peak(self) -> int:
        """Bytes that the program takes at the most."""
        return self.held + self.bytes


def _pair(pixels: int) -> int:
    """Bytes of one of L-BFGS's pairs."""
    return 2 * _beside(_PIXEL, pixels) * pixels


def _beside(size: int, pixels: int) -> int:
    """Bytes, of so many, that what lies beside a picture of so many pixels is kept in."""
    return size // 2 if is_compact(pixels) else size
