"""Which device computes."""

from __future__ import annotations

import pytest
import torch

from optistyle import devices
from optistyle.errors import InputError


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
