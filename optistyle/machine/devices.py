"""Which device computes, in which precision, and how its results come back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from optistyle.choices import DEVICES, PRECISIONS
from optistyle.errors import InputError, unknown


def resolve(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is a GPU where there is one.

    ``cuda:1`` and the like name one of several GPUs.
    """
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and (kind != "cuda" or not index.isdecimal())):
        raise unknown("device", name, DEVICES)
    present = available()
    if kind == "auto":
        return torch.device(present[-1])
    if kind not in present:
        raise InputError(
            f"device {name!r} is not available here (there is: {', '.join(present)}); "
            "use --device auto"
        )
    if index and int(index) >= torch.cuda.device_count():
        raise InputError(
            f"device {name!r}: there are {torch.cuda.device_count()} GPUs, from cuda:0"
        )
    return torch.device(name)


def available() -> list[str]:
    """The kinds of device here, the fastest last."""
    kinds = ["cpu"]
    if torch.backends.mps.is_available():
        kinds.append("mps")
    if torch.cuda.is_available():
        kinds.append("cuda")
    return kinds


def computes(device: torch.device, precision: str) -> bool:
    """Whether a device has a precision of `PRECISIONS`: without it float32 is faster, or all there
    is."""
    if precision == "float32":
        return True
    if device.type == "cuda":
        with torch.cuda.device(device):  # TensorFloat-32 came with bfloat16
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "tf32":
        return False
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return torch.backends.mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def check(device: torch.device, precision: str) -> None:
    """Raise `InputError` where a device does not have a precision, or nothing has."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if not computes(device, precision):
        raise InputError(
            f"device {str(device)!r} does not compute in {precision} ({PRECISIONS[precision]} "
            "does): use --precision float32"
        )


@contextlib.contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """What CUDA makes of float32, whatever the program around has set: in convolutions
    TensorFloat-32 where that is the precision, in matrix products never."""
    if device.type != "cuda":
        yield
        return
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    # A word since torch 2.9, a switch before.
    convolutions, words = getattr(cudnn, "conv", cudnn), hasattr(cudnn, "conv")
    name, exact, fast = ("fp32_precision", "ieee", "tf32") if words else ("allow_tf32", False, True)
    before = getattr(convolutions, name), getattr(products, name)
    try:
        setattr(convolutions, name, fast if precision == "tf32" else exact)
        setattr(products, name, exact)
        yield
    finally:
        setattr(convolutions, name, before[0])
        setattr(products, name, before[1])


def fetched(tensor: Tensor) -> Callable[[], Tensor]:
    """The tensor on the CPU, when it is asked for; from a GPU it sets out at once, and whatever
    the GPU is given later does not hold it up."""
    if not tensor.is_cuda:
        return tensor.cpu
    copy = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
    arrived = torch.cuda.current_stream(tensor.device).record_event()

    def wait() -> Tensor:
        arrived.synchronize()
        return copy

    return wait
