"""How much memory a run takes, and what would fit: a forecast, to refuse early and usefully.

The forecast is of the peak beside the program, its weights and the input pictures. Measured as the
growth of resident memory of one run on one CPU thread, content and style square, with attention
(MB; the forecast in brackets):

    =========================  ==========  ===========  ===========
    px                         256         512          1024
    =========================  ==========  ===========  ===========
    slim, 6 iterations          149 (138)   487  (463)  1712 (1761)
    slim, history full          413 (375)   896  (795)  1975 (1882)
    slim, Adam                              502  (402)  1762 (1520)
    slim, Wasserstein                       529  (463)
    slim, 8 styles                          504  (573)
    slim, style scale 4                    1226 (1263)
    vgg19, 6 iterations         307 (267)   977  (980)
    vgg19, Wasserstein          319 (267)  1024  (980)
    vgg19, Adam                            1049  (919)
    =========================  ==========  ===========  ===========
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from optistyle.encoders.layers import POOL5
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError

#: Copies of every activation alive at a step's peak: output, padded input, gradients in part.
_COPIES = 2.8
#: Images of the picture's size alive with them: content, start, best, gradient, directions.
_IMAGES = 12
#: Bytes that convolutions take for themselves, whatever the size.
_FIXED = 30_000_000
#: Bytes of a float32, and of an RGB pixel of them.
_FLOAT, _PIXEL = 4, 12
#: Curvature pairs that L-BFGS keeps, see `solvers.LBFGS`, and what the heap makes of one: they live
#: long, and lie scattered between activations that do not.
_MOST_PAIRS, _LEAST_PAIRS = 100, 5
_SCATTER = 1.6


@dataclass(frozen=True)
class Demand:
    """What decides how much memory a run takes, but for its size.

    Attributes:
        encoder: with ``layers``, the union of what the loss terms read.
        styles: pixels of every style image per pixel of the picture.
        iterations: of the largest scale.
        history: bytes at which the solver's memory ends (see `solvers.LBFGS.memory`); 0 for a
            solver without.
    """

    encoder: VGG
    layers: frozenset[str]
    styles: tuple[float, ...] = (1.0,)
    iterations: int = 100
    history: int = 0

    def bytes(self, height: int, width: int) -> int:
        """The forecast for a picture of (H, W)."""
        pixels = height * width
        every, peak, held = self._floats()
        images = 1 + sum(self.styles)
        measuring = _FLOAT * (held * images + (peak - held) * max(1, *self.styles))
        stepping = _FLOAT * _COPIES * every + _PIXEL * _IMAGES
        pairs = 0
        if self.history:
            pairs = max(_LEAST_PAIRS, self.history // (2 * _PIXEL * pixels))
            pairs = min(self.iterations, _MOST_PAIRS, pairs)
        stepping += pairs * 2 * _PIXEL * _SCATTER
        return round(_FIXED + pixels * max(measuring, stepping))

    def _floats(self) -> tuple[float, float, float]:
        """Per pixel: of all activations; at the peak of a pass without gradient; and after it."""
        every, held, peak, source = 0.0, 2.0 * 3, 0.0, 0.0
        taps = self.encoder.taps
        deepest = max((taps.index(x) for x in self.layers & {*taps}), default=-1)
        for layer in taps[: deepest + 1]:
            halvings = 5 if layer == POOL5 else int(layer[4]) - 1
            size = self.encoder.channels(layer) / 4**halvings
            every += size
            peak = max(peak, held + source + 2 * size)
            held, source = (held + size, 0.0) if layer in self.layers else (held, size)
        return every, max(peak, held), held

    def check(self, height: int, width: int) -> None:
        """Raise `InputError`, naming a size that fits, where (H, W) does not."""
        room, needed = free(self.encoder.device), self.bytes(height, width)
        if room is not None and needed > room:
            raise InputError(
                f"{width}x{height} px takes about {needed / 1e9:.1f} GB of memory with encoder "
                f"{self.encoder.name}, and {room / 1e9:.1f} GB are free on {self.encoder.device}: "
                + self._advice(height, width, math.floor(0.9 * room))
            )

    @contextlib.contextmanager
    def guard(self, height: int, width: int) -> Iterator[None]:
        """Turn running out of memory at (H, W) into an `InputError` that names a smaller size."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            needed = self.bytes(height, width)
            room = min(needed // 2, free(self.encoder.device) or needed)
            raise InputError(
                f"out of memory on {self.encoder.device} at {width}x{height} px with encoder "
                f"{self.encoder.name}: " + self._advice(height, width, room)
            ) from error

    def _advice(self, height: int, width: int, room: int) -> str:
        fits = self.largest(height, width, room)
        return f"--size {fits} would fit" if fits else "no size would fit"

    def largest(self, height: int, width: int, room: int) -> int:
        """The longer side, a multiple of 16 px, at which the shape fits ``room`` bytes; 0: none."""
        longer = max(height, width)
        for side in range(longer - longer % 16, 15, -16):
            if self.bytes(round(height * side / longer), round(width * side / longer)) <= room:
                return side
        return 0


def free(device: torch.device) -> int | None:
    """Bytes free on a device; None where that cannot be known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        room = _fields("/proc/meminfo")["MemAvailable:"] * 1024
    except (OSError, KeyError):
        return None
    with contextlib.suppress(OSError, KeyError, ValueError):  # a container may have less
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        room = min(room, limit - _fields("/sys/fs/cgroup/memory.stat")["anon"])
    return room


def _fields(path: str) -> dict[str, int]:
    rows = (line.split() for line in Path(path).read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch's CPU allocator has no type for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in ("not enough memory", "can't allocate", "out of memory"))
