"""The forecast of memory, held against real runs, and what is said when it does not suffice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from optistyle import memory
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.memory import Demand, Needs, Plan
from optistyle.recipes import Recipe
from optistyle.run import Run
from optistyle.solvers import LBFGS

LAYERS = frozenset({"relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1"})
#: One run; prints the growth of the resident memory at its peak, and the forecast.
MEASURE = """
import ctypes, gc, json, sys
from pathlib import Path
import torch
from optistyle import Recipe, Run, load_encoder

def kilobytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

name, side, iterations, settings = json.loads(sys.argv[1])
encoder = load_encoder(name)
content, style = torch.rand(2, 1, 3, side, side, generator=torch.Generator().manual_seed(0))

def run(size, iterations, **settings):
    recipe = Recipe(size=size, scales="single", iterations=(iterations,), **settings)
    run = Run(content, style, recipe, encoder=encoder)
    run.finish()
    run.result()
    return run.plan

run(64, 2)  # what the libraries keep for themselves
gc.collect()
ctypes.CDLL("libc.so.6").malloc_trim(0)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = kilobytes("VmRSS")
plan = run(side, iterations, **settings)
print(json.dumps([1024 * (kilobytes("VmHWM") - before), plan.bytes]))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("side", "settings"), [(320, {"tile": "off"}), (640, {"tile": 96})], ids=["whole", "tiled"]
)
def test_the_forecast_is_near_the_peak(side: int, settings: dict[str, object]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(["slim", side, 12, settings])],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    peak, forecast = json.loads(output)
    assert forecast == pytest.approx(peak, rel=0.3)


def test_more_of_anything_takes_more(tiny: VGG) -> None:
    least = Demand(tiny, frozenset({"relu3_1"}), iterations=10, solver=LBFGS(memory=0, least=2))
    assert least.bytes(512, 512) < least.bytes(512, 768)
    for more in (
        Demand(tiny, LAYERS, iterations=10),
        Demand(tiny, frozenset({"relu3_1"}), styles=(1.0,) * 20, iterations=10),
        Demand(tiny, frozenset({"relu3_1"}), styles=(25.0,), iterations=10),
        Demand(tiny, frozenset({"relu3_1"}), iterations=10, solver=LBFGS(memory=10**9)),
        Demand(tiny, frozenset({"relu3_1"}), iterations=10, needs=Needs(("relu1_1",) * 20)),
    ):
        assert more.bytes(512, 512) > least.bytes(512, 512)


def test_pixels_alone_need_no_network(tiny: VGG) -> None:
    demand = Demand(tiny, frozenset({"image", "differences"}))
    assert 0 < demand.bytes(64, 64) < Demand(tiny, LAYERS).bytes(64, 64)


def test_largest_fits_and_the_next_does_not(tiny: VGG) -> None:
    demand = Demand(tiny, LAYERS)
    room = demand.bytes(450, 900)
    side = demand.largest(1000, 2000, room)
    assert side % 16 == 0
    assert demand.bytes(side // 2, side) <= room < demand.bytes(side // 2 + 8, side + 16)
    assert demand.largest(1000, 2000, 1000) == 0


def test_too_large_is_refused_before_the_work(
    tiny: VGG, picture: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free", lambda device: 60_000_000)
    recipe = Recipe(size=2048)
    with pytest.raises(InputError, match=r"2048x1365 px takes about .* GB of memory") as caught:
        Run(picture(40, 60), picture(40, 60), recipe, encoder=tiny)
    size = int(str(caught.value).split("--size ")[1].split()[0])
    Run(picture(40, 60), picture(40, 60), Recipe(size=size), encoder=tiny)
    monkeypatch.setattr(memory, "free", lambda device: 1_000_000)
    with pytest.raises(InputError, match=r"0\.0 GB are free on cpu: no size would fit"):
        Run(picture(40, 60), picture(40, 60), recipe, encoder=tiny)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: not enough memory"
        ),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
@pytest.mark.parametrize("method", ["build", "gradient"])
def test_running_out_says_what_would_fit(
    tiny: VGG,
    picture: Callable[..., Tensor],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    method: str,
) -> None:
    run = Run(picture(40, 60), picture(40, 60), Recipe(size=1024, iterations=(1,)), encoder=tiny)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"optistyle.objective.Objective.{method}", fail)
    message = r"out of memory on cpu at 1024x683 px with encoder tiny: --size \d+ would fit$"
    with pytest.raises(InputError, match=message):
        next(run)


def test_other_errors_are_not_called_a_shortage(tiny: VGG) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with (
        pytest.raises(RuntimeError, match="shapes"),
        Demand(tiny, LAYERS).guard(512, 512, Plan(None, 5, 1)),
    ):
        raise error


def test_free_knows_of_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 16000 kB\nMemAvailable:  8000 kB\nHugePages_Total:  0\n",
        "/sys/fs/cgroup/memory.max": "max\n",
        "/sys/fs/cgroup/memory.stat": "anon 1000000\nfile 9000000\n",
    }

    def read(path: Path) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    cpu = torch.device("cpu")
    assert memory.free(cpu) == 8_192_000
    files["/sys/fs/cgroup/memory.max"] = "5000000\n"
    assert memory.free(cpu) == 4_000_000
    files.clear()
    assert memory.free(cpu) is None
