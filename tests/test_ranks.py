"""Several processes, one picture: the same as by one; and what ends them all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import make_picture, make_tiny
from interpreters import Interpreter
from torch import Tensor

from optistyle import pictures
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.losses import AttentionLocal, Content, GramStyle, TotalVariation, WassersteinStyle
from optistyle.machine import torchrun
from optistyle.machine.ranks import ALONE, Ranks, match
from optistyle.optimise.objective import Objective, Terms
from optistyle.optimise.scale import Progress, steps
from optistyle.optimise.solvers import LBFGS
from optistyle.run.demand import Demand

LAYERS = frozenset({"relu1_1", "relu2_1"})
Start = Callable[..., list[Interpreter]]
#: Layers that see little around a position: a small picture has several tiles.
FAST = "--encoder slim --device cpu --size 128 --scales single --gamma 0 --content-layers relu2_1"
FAST += " --style-layers relu1_1,relu2_1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with content.png, other.png and style.png."""
    for seed, name in enumerate(("content", "other", "style")):
        pictures.write(tmp_path / f"{name}.png", make_picture(96, 128, seed))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def start(interpreter: Callable[..., Interpreter]) -> Start:
    """``start(command, ...)``: Python with these arguments, every command a rank; ended after."""

    def launch(*commands: Sequence[str]) -> list[Interpreter]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        group = {"WORLD_SIZE": str(len(commands)), "MASTER_ADDR": "127.0.0.1"}
        group["MASTER_PORT"] = str(port)
        return [
            interpreter(*command, environment={**os.environ, **group, "RANK": str(rank)})
            for rank, command in enumerate(commands)
        ]

    return launch


def _path() -> str:
    here = Path(__file__).parent
    return os.pathsep.join([str(here), str(here.parent)])


def command(*options: str, content: str = "content.png") -> list[str]:
    return ["-m", "optistyle", "run", content, "style.png", *FAST.split(), *options]


# --- the same picture ---


def measured(
    kind: torch.dtype, ranks: Ranks = ALONE
) -> tuple[dict[str, float], dict[str, float], Tensor, Tensor]:
    """Losses, the same evaluated, the gradient, and the picture after some steps, in tiles."""

    def picture(seed: int, *size: int) -> Tensor:
        return make_picture(*size, seed).to(kind)

    weights = {"relu2_1": 1.0, "relu3_1": 2.0}
    terms: Terms = {
        "content": (1e4, Content(weights)),
        "gram": (1e4, GramStyle(weights)),
        "wasserstein": (1e4, WassersteinStyle(weights)),
        "local": (1e4, AttentionLocal(weights)),
        "tv": (1e4, TotalVariation()),
    }
    alpha = picture(7, 83, 75)[:, :1].round()
    objective = Objective.build(
        make_tiny().to(kind),
        terms,
        (picture(0, 83, 75), alpha),
        [(picture(1, 70, 81), None), (picture(2, 40, 40), None)],  # the second one is one tile
        [0.25, 0.75],
        tile=32,
        ranks=ranks,
    )
    assert len(objective.tiles) > 2
    image = 1.2 * picture(3, 83, 75) - 0.1
    losses, gradient = objective.gradient(image)
    evaluated, solver = objective.evaluate(image), LBFGS()
    progress = Progress.start(image, solver.start(image))
    for _, found, _ in steps(objective, solver, progress, 3):
        progress = found
    return losses, evaluated, gradient, progress.image


def main() -> None:
    """What a rank of the test below does."""
    with torchrun.group("cpu", 30) as ranks:
        kinds = torch.float32, torch.float64
        torch.save([measured(kind, ranks) for kind in kinds], f"rank{ranks.rank}.pt")


@pytest.mark.slow
def test_two_ranks_give_the_same_as_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: Start,
) -> None:
    monkeypatch.chdir(tmp_path)
    both = start(*2 * [["-c", "import test_ranks; test_ranks.main()"]])
    alone = [measured(kind) for kind in (torch.float32, torch.float64)]
    for process in both:
        assert process.wait(100) == 0, process.communicate()
    first, second = torch.load("rank0.pt"), torch.load("rank1.pt")
    for one, two, own, close in zip(first, second, alone, (1e-5, 1e-10), strict=True):
        assert one[:2] == two[:2]
        assert torch.equal(one[2], two[2])
        assert torch.equal(one[3], two[3])
        assert one[0] == pytest.approx(own[0], rel=close)
        assert one[1] == pytest.approx(one[0], rel=close)
        assert float((one[2] - own[2]).norm() / own[2].norm()) < close
        assert float((one[3] - own[3]).norm() / own[3].norm()) < 100 * close


@pytest.mark.slow
def test_torchrun_paints_what_one_process_does(folder: Path) -> None:
    # Two scales, of which the first is one tile.
    options = ["--scales", "48,128", "--iterations", "2,3", "--snapshot-every", "5"]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": _path()}

    def painted(*arguments: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("128x96") == 1
        return [line for line in done.stderr.splitlines() if line.startswith("optistyle: ")]

    painted(*command(*options, "--tile", "off", "-o", "one.png"))
    who, _, plan = painted(*torchrun, *command(*options, "--tile", "64", "-o", "two.png"))
    assert who == "optistyle: painting content.png in the style of style.png"
    assert "128x96 px in tiles of 64 px over 2 ranks, about " in plan
    one, two = (pictures.read(name).pixels for name in ("one.png", "two.png"))
    assert float((one - two).abs().max()) < 1.01 / 255
    assert {path.name for path in folder.glob("two*")} == {"two.png", "two.json", "two-00005.png"}


# --- what ends them all ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "sign", "code", "line"),
    [
        (1, signal.SIGKILL, 1, "rank 1 was lost"),
        (0, signal.SIGKILL, 1, "rank 0 was lost"),
        (1, signal.SIGSTOP, 1, "rank 1 gave no sign for 4 s"),
        (1, signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_rank_that_is_lost_ends_the_others(
    folder: Path,
    start: Start,
    rank: int,
    sign: int,
    code: int,
    line: str,
) -> None:
    options = ["--iterations", "100000", "--snapshot-every", "2", "--rank-timeout", "4"]
    processes = start(*2 * [command(*options)])
    began = time.monotonic()
    while not Path("out-00002.png").exists():
        assert time.monotonic() - began < 100
        assert processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.1)
    processes[rank].send_signal(sign)
    _, said = processes[1 - rank].communicate(timeout=40)
    assert processes[1 - rank].returncode == code
    assert said.splitlines()[-1] == (
        f"optistyle: {line}: out.png holds the picture so far; --resume goes on"
    )
    assert "Traceback" not in said
    assert pictures.read("out.png").width == 128
    assert Path("out.png.checkpoint").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("others", "line"),
    [
        (
            command("--alpha", "2", content="other.png"),
            "ranks do not match: rank 1 differs from rank 0 in the content, --alpha; "
            "start all with the same command, inputs and versions",
        ),
        (
            command(content="missing.png"),
            "rank 1 failed: missing.png does not exist: check its name and folder; "
            "nothing was written",
        ),
    ],
)
def test_ranks_that_do_not_match(
    folder: Path,
    start: Start,
    others: list[str],
    line: str,
) -> None:
    before = sorted(folder.iterdir())
    processes = start(command(), others)
    output, said = processes[0].communicate(timeout=100)
    assert (output, said) == ("", f"optistyle: {line}\n")
    output, said = processes[1].communicate(timeout=40)
    assert output == ""
    assert "optistyle: " not in said  # torch may have something to say of the store
    assert all(process.returncode in (1, 2) for process in processes)
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
def test_a_rank_that_does_not_come(folder: Path, interpreter: Callable[..., Interpreter]) -> None:
    group = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = interpreter(*command("--rank-timeout", "1"), environment={**os.environ, **group})
    _, stderr = done.communicate()
    assert done.returncode == 1
    said = [line for line in stderr.splitlines() if line.startswith("optistyle: ")]
    assert len(said) == 1
    assert said[0].startswith("optistyle: the 2 ranks did not meet within 1 s")
    assert "Traceback" not in stderr


# --- tiles for all ---


def first_of(count: int) -> Any:
    """Rank 0 of as many, as far as plans go."""
    return SimpleNamespace(
        rank=0, count=count, neighbours=count, gathered=lambda value: [value] * count
    )


@pytest.mark.parametrize("count", [2, 4, 5, 12])
def test_a_plan_has_a_tile_for_every_rank(count: int, tiny: VGG) -> None:
    demand = Demand(tiny, LAYERS, ranks=first_of(count))
    tile = demand.choose(200, 300, "auto", "auto").tile
    content = make_picture(200, 300)
    terms: Terms = {"style": (1.0, GramStyle(dict.fromkeys(LAYERS, 1.0)))}
    built = Objective.build(tiny, terms, (content, None), [(content, None)], [1.0], tile=tile)
    assert len(built.tiles) >= count


@pytest.mark.parametrize(
    ("count", "tile", "line"),
    [
        (2, "off", "--tile off leaves one part for 2 ranks to share: give --tile auto or a side"),
        (3, 64, "64x40 px are too small for 3 ranks: 1 fit with tiles of 64 px, 112 with the "),
        (113, "auto", "64x40 px are too small for 113 ranks: 112 fit with tiles of 4 px"),
    ],
)
def test_ranks_that_do_not_fit(count: int, tile: int | str, line: str, tiny: VGG) -> None:
    with pytest.raises(InputError) as caught:
        Demand(tiny, LAYERS, ranks=first_of(count)).choose(40, 64, tile, "auto")
    assert str(caught.value).startswith(line)


def test_one_process_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with torchrun.group() as ranks:
        assert ranks is ALONE
        assert (ranks.rank, ranks.count, ranks.lost, ranks.neighbours) == (0, 1, False, 1)
        assert torchrun.leads()
        parts = {"a": torch.ones(2)}
        assert ranks.joined(parts)["a"] is parts["a"]
        assert ranks.gathered(3) == [3]
        assert ranks.share([1, 2, 3]) == [1, 2, 3]
        match(ranks, {"a": 1})
