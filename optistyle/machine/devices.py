"""Which device computes, in which precision, and how its results come back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from optistyle.choices import DEVICES, PRECISIONS
from optistyle.errors import InputError, unknown


def resolve(name: str = "auto") -> torch.device:
    """Return the device of a name; ``auto`` is a GPU where there is one.

    Args:
        name: one of `DEVICES`, or ``cuda:1`` and the like for one of several GPUs.

    Raises:
        InputError: an unknown name, or a device that is not here.
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
    """Return the kinds of device here, the fastest last."""
    kinds = ["cpu"]
    if torch.backends.mps.is_available():
        kinds.append("mps")
    if torch.cuda.is_available():
        kinds.append("cuda")
    return kinds


def computes(device: torch.device, precision: str) -> bool:
    """Return whether a device computes in a precision of `PRECISIONS` at full speed."""
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


Value = TypeVar("Value")


class Shared(Generic[Value]):
    """A setting of the whole process that several threads hold at once where they want the same.

    A thread that wants another value waits until all others have left. What was set before the
    first came is restored when the last leaves.

    Args:
        read: returns the setting as it is. write: sets it.
    """

    def __init__(self, read: Callable[[], Value], write: Callable[[Value], None]) -> None:
        self._read, self._write = read, write
        self._changed = threading.Condition()
        #: Thread -> the values it holds, the innermost last.
        self._held: dict[int, list[Value]] = {}
        self._before: Value | None = None

    @contextlib.contextmanager
    def hold(self, value: Value) -> Iterator[None]:
        """Have the setting at a value.

        Raises:
            RuntimeError: the thread holds another value already, which other threads share. To
                wait for them could be to wait for ever.
        """
        self._enter(value)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, value: Value) -> None:
        me = threading.get_ident()
        with self._changed:
            while any(held[-1] != value for thread, held in self._held.items() if thread != me):
                if me in self._held:
                    raise RuntimeError("two precisions at once, while other threads compute")
                self._changed.wait()
            # All others hold this value: it is set already, unless this thread holds another.
            unset = not self._held or self._held.get(me, [value])[-1] != value
            if not self._held:
                self._before = self._read()
            self._held.setdefault(me, []).append(value)
            if unset:
                self._write(value)

    def _leave(self) -> None:
        me = threading.get_ident()
        with self._changed:
            held = self._held[me]
            left = held.pop()
            if held and held[-1] != left:
                self._write(held[-1])
            if not held:
                del self._held[me]
            if not self._held:
                self._write(cast(Value, self._before))
            self._changed.notify_all()


def _cuda_words() -> tuple[Any, Any, str, Any, Any]:
    """Where torch keeps CUDA's precisions in convolutions and products, and what it calls them."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(cudnn, "conv"):  # words since torch 2.9, switches before
        return cudnn.conv, products, "fp32_precision", "ieee", "tf32"
    return cudnn, products, "allow_tf32", False, True


def _read_cuda() -> tuple[Any, Any]:
    convolutions, products, name, *_ = _cuda_words()
    return getattr(convolutions, name), getattr(products, name)


def _write_cuda(values: tuple[Any, Any]) -> None:
    convolutions, products, name, *_ = _cuda_words()
    for place, value in zip((convolutions, products), values, strict=True):
        setattr(place, name, value)


_cuda = Shared(_read_cuda, _write_cuda)


def arithmetic(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """Return a context in which CUDA computes float32 as a precision says.

    Convolutions are in TensorFloat-32 where that is the precision, matrix products never. torch
    keeps this for the whole process: threads of the same precision compute side by side, and one of
    another waits (see `Shared`).

    Args:
        device: on others than CUDA nothing is set.
        precision: one of `PRECISIONS`.
    """
    if device.type != "cuda":
        return contextlib.nullcontext()
    *_, exact, fast = _cuda_words()
    return _cuda.hold((fast if precision == "tf32" else exact, exact))


def fetched(tensor: Tensor) -> Callable[[], Tensor]:
    """Start to copy a tensor to the CPU; return a function that waits for the copy.

    What the GPU is given later does not delay the copy.
    """
    if not tensor.is_cuda:
        return tensor.cpu
    copy = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
    arrived = torch.cuda.current_stream(tensor.device).record_event()

    def wait() -> Tensor:
        arrived.synchronize()
        return copy

    return wait
