"""The forecast of memory, held against real runs, and what is said when it does not suffice."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from optistyle import load_encoder
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.machine import memory
from optistyle.optimise.solvers import LBFGS
from optistyle.recipes import Recipe
from optistyle.run import Run, terms, timing
from optistyle.run.demand import SIDES, Demand, Fit, Needs

LAYERS = frozenset({"relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1"})
#: What scripts that measure their own memory begin with.
MEASURING = """
import gc, json, sys
from pathlib import Path
import torch
from optistyle.machine import heap

def kilobytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

def anew():
    gc.collect()
    heap.give_back()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    return kilobytes("VmRSS")
"""
#: One run; prints the growth of the resident memory at its peak, and the forecast.
RUN = """
from optistyle import Recipe, Run, load_encoder

heap.keep()  # as the command line does
name, side, iterations, settings = json.loads(sys.argv[1])
encoder = load_encoder(name)
content, style = torch.rand(2, 1, 3, side, side, generator=torch.Generator().manual_seed(0))

def run(size, iterations, **settings):
    recipe = Recipe(size=size, scales="single", iterations=(iterations,), **settings)
    run = Run(content, style, recipe, encoder=encoder)
    run.finish()
    run.result()
    return run.plan.fit

run(64, 2)  # what the libraries keep for themselves
before = anew()
plan = run(side, iterations, **settings)
print(json.dumps([1024 * (kilobytes("VmHWM") - before), plan.bytes]))
"""
#: Steps of L-BFGS until its rings are full; prints the growth in the last one.
STEP = """
from optistyle.optimise.solvers import LBFGS

solver = LBFGS(memory=0, least=2)
image = torch.rand(1, 3, *json.loads(sys.argv[1]), generator=torch.Generator().manual_seed(0))
state = solver.start(image)
for _ in range(4):
    gradient = 1e-3 * image
    before = anew()
    image, state = solver.step(image, gradient, state)
print(1024 * (kilobytes("VmHWM") - before))
"""
measures = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc"
)


def measured(script: str, *arguments: object) -> Any:
    """What a script prints that measures its own memory, in a process of its own."""
    output = subprocess.run(
        [sys.executable, "-c", MEASURING + script, json.dumps(arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(output)


@measures
@pytest.mark.parametrize(
    ("side", "iterations", "settings"),
    [(320, 12, {"tile": "off"}), (448, 2, {"tile": 160})],
    ids=["whole", "tiled"],
)
@pytest.mark.slow
@pytest.mark.xdist_group("machine")
def test_the_forecast_is_near_the_peak(
    side: int, iterations: int, settings: dict[str, object]
) -> None:
    peak, forecast = measured(RUN, "slim", side, iterations, settings)
    assert forecast == pytest.approx(peak, rel=0.25)


@measures
@pytest.mark.slow
@pytest.mark.xdist_group("machine")
def test_a_step_on_a_huge_picture_takes_little_beside_it() -> None:
    """One more picture, a gradient in half the bytes, and a dozen passes; no third picture."""
    size = 4096, 4096
    assert 1.5 < measured(STEP, *size) / (12 * math.prod(size)) < 2.5


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
@pytest.mark.parametrize("method", ["build", "slope"])
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

    monkeypatch.setattr(f"optistyle.optimise.objective.Objective.{method}", fail)
    message = r"out of memory on cpu at 1024x683 px with encoder tiny: --size \d+ would fit$"
    with pytest.raises(InputError, match=message):
        next(run)


def test_other_errors_are_not_called_a_shortage(tiny: VGG) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with (
        pytest.raises(RuntimeError, match="shapes"),
        Demand(tiny, LAYERS).guard(512, 512, Fit(None, 5, 1)),
    ):
        raise error


def test_free_counts_what_torch_has_and_does_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, found in (
        ("mem_get_info", (10, 100)),
        ("memory_reserved", 50),
        ("memory_allocated", 20),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda device, found=found: found)
    assert memory.free(torch.device("cuda")) == 40


def test_free_knows_of_containers_and_held_of_this_program(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 16000 kB\nMemAvailable:  8000 kB\nHugePages_Total:  0\n",
        "/proc/self/cgroup": "0::/\n",
        "/proc/self/mountinfo": "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
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
    files["/proc/self/status"] = "VmPeak: 9000 kB\nVmRSS: 2000 kB\n"
    assert memory.held(cpu) == 2_048_000
    files.clear()
    assert memory.free(cpu) is None
    assert memory.held(cpu) == 0


def test_targets_tell_what_maps_they_need(tiny: VGG) -> None:
    named = terms(Recipe(attention_layers={"relu3_1": 1.0}))
    assert Needs.of(tiny, named) == Needs(("relu4_2",), frozenset({"relu3_1"}))
    local = terms(Recipe(attention_form="local", attention_layers={"relu3_1": 1.0}))
    assert Needs.of(tiny, local) == Needs(("relu4_2", "relu3_1"), frozenset({"relu3_1"}))
    assert Needs.of(tiny, {"style": named["style"]}) == Needs()


def test_tiles_take_less_and_more_history_more(tiny: VGG) -> None:
    demand = Demand(tiny, LAYERS, iterations=10, needs=Needs(("relu4_2",)))
    whole, large, small = (demand.bytes(4096, 4096, tile) for tile in (None, 1024, 256))
    assert whole > large > small
    assert demand.bytes(4096, 4096, 256, least=2) < small
    assert demand.bytes(512, 512, 1024) <= demand.bytes(512, 512, None)


def test_a_plan_has_the_largest_tile_and_history_that_fit(
    tiny: VGG, monkeypatch: pytest.MonkeyPatch
) -> None:
    demand = Demand(tiny, LAYERS, needs=Needs(("relu4_2",)))
    size, found = (3000, 4000), []
    monkeypatch.setattr(memory, "held", lambda device: 700)
    for room in (40e9, 5e9, 1.9e9):
        monkeypatch.setattr(memory, "free", lambda device, room=room: int(room))
        plan = demand.choose(*size, "auto", "auto")
        assert plan.bytes == demand.bytes(*size, plan.tile, plan.history) <= room
        assert plan.peak == plan.bytes + 700
        found.append(plan)
    assert (found[0].tile, found[0].history) == (None, 5)
    assert found[1].tile is not None
    assert found[1].history == 5 > found[2].history
    assert demand.choose(*size, 512, 2).tile == 512
    monkeypatch.setattr(memory, "free", lambda device: 10**8)
    with pytest.raises(InputError, match=r"4000x3000 px takes about .*--size \d+ would fit$"):
        demand.choose(*size, "auto", "auto")
    with pytest.raises(InputError, match=r"--size \d+ would fit, or --tile auto may$"):
        demand.choose(*size, "off", "auto")


def test_huge_pictures_keep_a_short_history(tiny: VGG, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda device: None)
    histories = [
        Demand(tiny, LAYERS).choose(s, s, "auto", "auto").history for s in (512, 4096, 8192)
    ]
    assert histories == [5, 5, 2]


@pytest.mark.parametrize(("name", "side", "gigabytes"), [("vgg19", 4096, 6), ("slim", 8192, 8)])
def test_what_is_promised_fits(name: str, side: int, gigabytes: float) -> None:
    """By the forecast, the whole of the default recipe."""
    encoder, named = load_encoder(name), terms(Recipe())
    demand = Demand(encoder, LAYERS | {"image"}, needs=Needs.of(encoder, named))
    history = demand.choose(side, side, 256, "auto").history
    assert min(demand.bytes(side, side, tile, history) for tile in SIDES) < 1e9 * gigabytes


def test_the_time_grows_with_the_work(tiny: VGG) -> None:
    named = terms(Recipe())
    demand = Demand(tiny, LAYERS | {"image"}, needs=Needs.of(tiny, named))

    def seconds(side: int, iterations: int) -> float:
        return timing.seconds(demand, named, [((side, side), iterations)], Fit(256, 5, 0))

    small = seconds(128, 10)
    assert 0 < small < seconds(512, 100)
    assert [timing.spell(s) for s in (40.2, 600, 9000)] == ["40 s", "10 min", "2.5 h"]


def test_the_plan_is_in_the_manifest_and_not_in_the_identity(
    tiny: VGG, picture: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint fits when there is more memory, or less, than before."""
    pictures = picture(200, 300), picture(200, 300, seed=1)
    recipe = Recipe(size=1200, scales="single", iterations=(1,))
    ample = Run(*pictures, recipe, encoder=tiny)
    monkeypatch.setattr(memory, "free", lambda device: 300_000_000)
    short = Run(*pictures, recipe, encoder=tiny)
    assert (ample.plan.fit.tile, ample.plan.fit.history) == (None, 5)
    assert isinstance(short.plan.fit.tile, int)
    assert short.identity == ample.identity
    assert short.recipe == ample.recipe
    again = Run(*pictures, replace(recipe, tile=short.plan.fit.tile), encoder=tiny)
    assert again.identity == ample.identity  # what did not fit goes on in smaller tiles
