"""Which device computes, and in which precision."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import torch

from optistyle.errors import InputError
from optistyle.machine import devices


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs of NVIDIA's, as far as names go."""
    monkeypatch.setattr(devices, "available", lambda: ["cpu", "cuda"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available", lambda: ["cpu"])


@pytest.mark.usefixtures("no_gpu")
def test_cpu_only() -> None:
    assert devices.resolve() == devices.resolve("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1", "mps"):
        with pytest.raises(InputError, match=rf"'{name}' is not available here \(there is: cpu\)"):
            devices.resolve(name)


@pytest.mark.usefixtures("gpus")
def test_gpus() -> None:
    assert devices.resolve("auto") == devices.resolve("cuda") == torch.device("cuda")
    assert devices.resolve("cuda:1") == torch.device("cuda:1")
    assert devices.resolve("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="there are 2 GPUs, from cuda:0"):
        devices.resolve("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "cuda:-1", "cpu:0", "mps:1", "auto:0"])
@pytest.mark.usefixtures("gpus")
def test_unknown_names(name: str) -> None:
    with pytest.raises(InputError, match=f"unknown device '{name}'.*allowed: auto, cpu, cuda, mps"):
        devices.resolve(name)


def test_available_starts_with_the_cpu() -> None:
    assert devices.available()[0] == "cpu"


CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda:1", "mps"))


@contextmanager
def chosen(device: torch.device) -> Iterator[None]:
    """In place of `torch.cuda.device`, which takes a GPU."""
    assert device == CUDA
    yield


@pytest.mark.parametrize("able", [False, True])
def test_precisions_by_device(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def bf16(including_emulation: bool = True) -> bool:
        return able or including_emulation

    monkeypatch.setattr(torch.cuda, "device", chosen)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", bf16)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version: able)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: able)
    monkeypatch.setattr(devices.torch.ops, "mkldnn", Kernels)
    assert all(devices.computes(device, "float32") for device in (CPU, CUDA, MPS))
    assert {devices.computes(device, "bfloat16") for device in (CPU, CUDA, MPS)} == {able}
    assert devices.computes(CUDA, "tf32") is able
    assert not any(devices.computes(device, "tf32") for device in (CPU, MPS))


class Kernels:
    """Of a CPU with AVX-512."""

    @staticmethod
    def _is_mkldnn_bf16_supported() -> bool:
        return True


def test_a_refusal_says_what_to_do() -> None:
    message = r"device 'mps' does not compute in tf32 \(.*GPU.*\): use --precision float32"
    with pytest.raises(InputError, match=message):
        devices.check(MPS, "tf32")


def word() -> list[str]:
    """What CUDA makes of float32 in convolutions and in matrix products."""
    backends = torch.backends
    return [backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision]


def switch() -> list[bool]:
    return [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]


@pytest.mark.parametrize(
    "choose",
    [lambda: None, lambda: torch.set_float32_matmul_precision("high")],
    ids=["as it comes", "TF32 wherever it can be"],
)
def test_arithmetic_is_what_it_says_and_is_put_back(choose: Callable[[], None]) -> None:
    state, exact, fast = (
        (word, "ieee", "tf32") if hasattr(torch.backends.cudnn, "conv") else (switch, False, True)
    )
    choose()
    try:
        before = state()
        for precision in ("float32", "bfloat16"):
            with devices.arithmetic(CUDA, precision):
                assert state() == [exact, exact]
        with suppress(KeyError), devices.arithmetic(CUDA, "tf32"):
            assert state() == [fast, exact]
            raise KeyError
        with devices.arithmetic(CPU, "float32"):
            assert state() == before
        assert state() == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_what_is_on_the_cpu_is_there() -> None:
    tensor = torch.ones(3)
    assert devices.fetched(tensor)() is tensor


# --- a setting of the process, and threads ---


class Backend:
    """A switch of the whole process, as torch.backends has them, and every value it was given."""

    def __init__(self) -> None:
        self.value, self.written = "outer", list[str]()

    def read(self) -> str:
        return self.value

    def write(self, value: str) -> None:
        self.value = value
        self.written.append(value)


class Thread(threading.Thread):
    """Holds a value from `entered` until it is told to leave."""

    def __init__(self, shared: devices.Shared[str], backend: Backend, value: str) -> None:
        super().__init__(daemon=True)
        self._shared, self._backend, self._value = shared, backend, value
        self.entered, self._leaving = threading.Event(), threading.Event()
        self.saw: list[str] = []
        self.start()

    def run(self) -> None:
        with self._shared.hold(self._value):
            self.saw.append(self._backend.value)
            self.entered.set()
            self._leaving.wait(20)
            self.saw.append(self._backend.value)

    def leave(self) -> None:
        self._leaving.set()
        self.join(20)
        assert not self.is_alive()


def test_threads_of_one_precision_compute_side_by_side_and_another_waits() -> None:
    backend = Backend()
    shared = devices.Shared(backend.read, backend.write)
    first = Thread(shared, backend, "exact")
    assert first.entered.wait(20)
    second = Thread(shared, backend, "exact")
    assert second.entered.wait(20)
    other = Thread(shared, backend, "fast")
    assert not other.entered.wait(0.05)
    first.leave()
    assert not other.entered.wait(0.05)
    assert backend.value == "exact"
    second.leave()
    assert other.entered.wait(20)
    assert backend.value == "fast"
    other.leave()
    assert backend.value == "outer"
    assert [thread.saw for thread in (first, second, other)] == [
        ["exact", "exact"],
        ["exact", "exact"],
        ["fast", "fast"],
    ]
    assert backend.written == ["exact", "outer", "fast", "outer"]


def test_a_thread_may_hold_a_value_within_another() -> None:
    backend = Backend()
    shared = devices.Shared(backend.read, backend.write)
    with shared.hold("exact"):
        with shared.hold("exact"):
            assert backend.value == "exact"
        with suppress(KeyError), shared.hold("fast"):
            assert backend.value == "fast"
            raise KeyError
        assert backend.value == "exact"
    assert backend.value == "outer"


def test_two_values_while_others_compute_are_refused_not_waited_for() -> None:
    backend = Backend()
    shared = devices.Shared(backend.read, backend.write)
    other = Thread(shared, backend, "exact")
    assert other.entered.wait(20)
    with shared.hold("exact"):
        with pytest.raises(RuntimeError, match="two precisions at once"), shared.hold("fast"):
            pass
        assert backend.value == "exact"
    other.leave()
    assert backend.value == "outer"
