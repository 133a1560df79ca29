"""How much memory a run takes, and what would fit: a forecast, to refuse early and usefully."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError

#: Copies of every activation alive at the peak: padded input, output, their gradients in part.
#: Measured on VGG-19 and the slim encoder at 512 and 1024 px on a CPU; tests/test_memory.py holds it.
_COPIES = 3.0


def forecast(encoder: VGG, layers: frozenset[str], height: int, width: int) -> int:
    """Bytes that an optimisation at that size takes at its peak, beside the program itself."""
    deepest = max((x for x in encoder.layers if x in layers), default=encoder.layers[0])
    floats = 0.0
    for layer in encoder.layers[: encoder.layers.index(deepest) + 1]:
        floats += _COPIES * encoder.channels(layer) / 4 ** (int(layer[4]) - 1)
    pixels = height * width
    history = min(2 * 100 * 3 * pixels * 4, 700_000_000)  # of L-BFGS, see `solvers.LBFGS`
    return round(4 * floats * pixels) + history


def free(device: torch.device) -> int | None:
    """Bytes free on a device; None where that cannot be known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":") for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024


def largest(encoder: VGG, layers: frozenset[str], height: int, width: int, budget: int) -> int:
    """The longer side in px, a multiple of 16, at which that shape fits into ``budget`` bytes."""
    longer = max(height, width)
    for side in range(longer - longer % 16, 16, -16):
        scale = side / longer
        if forecast(encoder, layers, round(height * scale), round(width * scale)) <= budget:
            return side
    return 16


def check(encoder: VGG, layers: frozenset[str], height: int, width: int) -> None:
    """Raise `InputError` naming a size that fits, where this one does not."""
    room = free(encoder.device)
    needed = forecast(encoder, layers, height, width)
    if room is not None and needed > room:
        raise too_large(encoder, layers, height, width, room)


def too_large(
    encoder: VGG, layers: frozenset[str], height: int, width: int, room: int
) -> InputError:
    """The error for a run that needs more than ``room`` bytes."""
    fits = largest(encoder, layers, height, width, math.floor(0.9 * room))
    needed = forecast(encoder, layers, height, width)
    return InputError(
        f"{width}x{height} px needs about {needed / 1e9:.1f} GB with encoder {encoder.name}, and "
        f"{room / 1e9:.1f} GB are free on {encoder.device}: --size {fits} would fit"
    )
