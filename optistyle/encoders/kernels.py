"""Which of the ways to compute convolutions is the fastest for an encoder on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import math
import platform
import time
from copy import copy
from importlib import metadata

import torch

from optistyle import choices
from optistyle.encoders import winograd
from optistyle.encoders.vgg import KERNELS, VGG
from optistyle.errors import InputError, unknown
from optistyle.files import cache, write_whole
from optistyle.layers import BLOCK_STARTS

#: Side of the picture that is timed, in pixels, and how often.
_SIDE, _ROUNDS = 256, 10
#: What others than torch's may take of their time at the most, to be chosen.
_WORTH = 0.9


def check(kernels: str, precision: str, device: torch.device) -> None:
    """Raise `InputError` where kernels that were asked for cannot run."""
    if kernels not in choices.KERNELS:
        raise unknown("kernels", kernels, choices.KERNELS)
    if kernels != "winograd":
        return
    if device.type != "cpu" or precision != "float32":
        raise InputError(
            f"kernels 'winograd' compute in float32 on a CPU, not in {precision} on {device}: "
            "use --kernels auto"
        )
    if not winograd.available():
        raise InputError(
            "kernels 'winograd' need the extra fast: "
            'pip install "optistyle[fast]", or use --kernels auto'
        )


def fastest(encoder: VGG) -> str:
    """The kernels to use: timed once per machine, encoder and number of threads, then remembered.

    So that results do not change from run to run by chance, they are torch's unless others are
    faster by a tenth.
    """
    if not (winograd.available() and any(map(encoder.is_wide, encoder.layers))):
        return "torch"
    folder = cache()
    if folder is None:
        return _timed(encoder)
    path = folder / f"kernels-{_key(encoder)}.txt"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if (known := path.read_text().strip()) in KERNELS:
            return known
    found = _timed(encoder)
    # A cache that cannot be written only costs time.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, found.encode())
    return found


def _key(encoder: VGG) -> str:
    """Of everything that decides which kernels are faster."""
    shapes = [tuple(x.shape) for x in encoder.convolutions().values()]
    machine = platform.node(), platform.machine(), torch.backends.cpu.get_cpu_capability()
    kernels = torch.__version__, metadata.version("ncnn"), torch.get_num_threads()
    return hashlib.sha256(repr((shapes, machine, kernels)).encode()).hexdigest()[:16]


def _timed(encoder: VGG) -> str:
    """The faster ones for features and their derivatives."""
    trial = copy(encoder)
    trial.transformed = {}  # not to be kept where they are not used
    layers = {x for x in BLOCK_STARTS if x in encoder.layers}
    image = torch.linspace(0, 1, 3 * _SIDE**2).view(1, 3, _SIDE, _SIDE).requires_grad_()
    best = dict.fromkeys(KERNELS, math.inf)
    for _ in range(_ROUNDS):
        for trial.kernels in KERNELS:
            begun = time.perf_counter()
            sum(x.sum() for x in trial(image, layers).values()).backward()
            best[trial.kernels] = min(best[trial.kernels], time.perf_counter() - begun)
    return "winograd" if best["winograd"] < _WORTH * best["torch"] else "torch"
