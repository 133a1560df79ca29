"""What watches a run: bars, snapshots, checkpoints."""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from optistyle import pictures
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.optimise.scale import Progress
from optistyle.optimise.solvers import LBFGS, State
from optistyle.pictures import Picture
from optistyle.recipes import Recipe
from optistyle.run import Run
from optistyle.run.checkpoint import Checkpoint
from optistyle.run.observers import Checkpoints, ProgressBar, Snapshots, Step

Make = Callable[..., Tensor]
SMALL = Recipe(size=48, scales=(32, 48), iterations=(4, 3))


@pytest.fixture
def run(tiny: VGG, picture: Make) -> Run:
    return Run(picture(40, 60, 1), picture(50, 44, 2), SMALL, encoder=tiny)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# --- progress ---


def test_plain_lines(run: Run) -> None:
    stream = io.StringIO()
    run.finish([ProgressBar(stream, every=1000)])
    lines = stream.getvalue().splitlines()
    # The first, and the last of every scale.
    assert [line.split("  total")[0] for line in lines] == [
        "scale 1/2 (32x21)  iteration 1/4",
        "scale 1/2 (32x21)  iteration 4/4",
        "scale 2/2 (48x32)  iteration 3/3",
    ]
    for name in ("content", "style", "attention", "range"):
        assert f"  {name} " in lines[0]
    assert lines[-1].endswith(" 0 s left")


def test_bar_on_a_terminal(run: Run) -> None:
    stream = Terminal()
    run.finish([ProgressBar(stream)])
    text = stream.getvalue()
    assert "100%" in text
    assert "scale 2/2 48x32  3/3  total" in text
    assert "attention" in text
    assert "<00:00 scale 2/2" in text  # time left


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_warnings_have_a_line_of_their_own(run: Run, stream: Callable[[], Any]) -> None:
    file = stream()
    bar = ProgressBar(file)
    bar.started(run.schedule)
    bar.stepped(replace(next(run), warning="diverged: half the step"))
    bar.ended()
    assert "diverged: half the step\n" in file.getvalue()


def test_time_left_is_told_after_a_few_iterations(
    tiny: VGG, picture: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed at 2 of 6; a second each, 100 for the first of a scale; then 2.3 times the pixels."""
    recipe = replace(SMALL, iterations=(6, 4))
    steps = list(Run(picture(40, 60, 1), picture(50, 44, 2), recipe, encoder=tiny))[2:]
    now, stream = 0.0, io.StringIO()
    monkeypatch.setattr("optistyle.run.observers.time.monotonic", lambda: now)
    bar = ProgressBar(stream, every=0)
    bar.started([((21, 32), 6), ((32, 48), 4)])
    for index, step in enumerate(steps):
        now += 100 if index in (0, 4) else 1
        bar.stepped(step)
    assert [line.split("  ")[-1] for line in stream.getvalue().splitlines()] == [
        "100 s",
        "101 s",
        "102 s",
        "103 s, 9 s left",
        "203 s, 7 s left",
        "204 s, 5 s left",
        "205 s, 2 s left",
        "206 s, 0 s left",
    ]


# --- snapshots ---


def test_snapshots_show_what_would_be_saved(tiny: VGG, picture: Make, tmp_path: Path) -> None:
    alpha = torch.ones(1, 1, 40, 60)
    alpha[..., :30] = 0
    recipe = replace(SMALL, original_colors="luminance")
    run = Run(Picture(picture(40, 60, 1), alpha), picture(50, 44, 2), recipe, encoder=tiny)
    run.finish([Snapshots(tmp_path / "out.png", 3)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-00003.png", "out-00006.png"]
    early, late = (pictures.read(path) for path in sorted(tmp_path.iterdir()))
    assert (early.width, late.width) == (32, 48)
    assert late.alpha is not None
    assert late.alpha[..., :20].max() < 0.1
    colour = pictures.resize(picture(40, 60, 1), (32, 48))
    grey = late.pixels - late.pixels.mean(1, keepdim=True)
    assert (grey - (colour - colour.mean(1, keepdim=True)))[..., 28:].abs().mean() < 0.1


def test_snapshots_never_overwrite_an_input(run: Run, tmp_path: Path) -> None:
    start = tmp_path / "out-00006.png"
    pictures.write(start, torch.zeros(1, 3, 16, 16))
    before = start.read_bytes()
    with pytest.raises(InputError, match=r"is the input .* as well"):
        run.finish([Snapshots(tmp_path / "out.png", 2, [start])])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_the_run_does_not_wait_for_a_snapshot(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the one before, and at the end."""
    go, written = threading.Event(), []

    def write(path: Path, picture: Picture) -> None:
        assert go.wait(60)
        written.append((path.name, picture.width))

    monkeypatch.setattr(pictures, "write", write)
    observer = Snapshots(tmp_path / "out.png", 3)
    observer.started(run.schedule)
    for step in run:
        observer.stepped(step)
        if step.scale == 0 and step.iteration == 4:
            assert not written
            go.set()
    observer.ended()
    assert written == [("out-00003.png", 32), ("out-00006.png", 48)]


@pytest.mark.parametrize("every", [3, 7])
def test_a_snapshot_that_fails_ends_the_run(
    every: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next one, or at the end."""

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("optistyle.pictures.writing.write_whole", full)
    with pytest.raises(InputError, match=f"out-0000{every}.png cannot be written: No space"):
        run.finish([Snapshots(tmp_path / "out.png", every)])
    assert len(run.checkpoint.trace) == {3: 6, 7: 7}[every]


@pytest.mark.parametrize("every", [0, -3])
def test_snapshots_every_none(every: int) -> None:
    with pytest.raises(InputError, match=f"snapshots every {every} iterations"):
        Snapshots(Path("out.png"), every)


# --- checkpoints ---


def test_checkpoints_are_saved_every_so_often(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Checkpoint] = []
    monkeypatch.setattr(Checkpoint, "save", lambda self, path, identity: saved.append(self))
    now = 0.0
    monkeypatch.setattr("optistyle.run.observers.time.monotonic", lambda: now)
    observer = Checkpoints(tmp_path / "c", run.identity, every=2.5)
    for step in run:
        now += 1
        observer.stepped(step)
    assert [len(checkpoint.trace) for checkpoint in saved] == [3, 6]


@pytest.mark.parametrize("every", [-1.0, float("nan"), float("inf")])
def test_checkpoints_every_none(every: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoints every"):
        Checkpoints(tmp_path / "c", "", every)


def test_a_full_disk_costs_a_warning(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.checkpoint.save(tmp_path / "c", run.identity)
    before = (tmp_path / "c").read_bytes()

    def full(content: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.warns(UserWarning, match="cannot be written: No space left on device; going on"):
        run.finish([Checkpoints(tmp_path / "c", run.identity, every=0)])
    assert not run.result().interrupted
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"c": before}


def test_round_trip(run: Run, tmp_path: Path) -> None:
    steps: list[Step] = [next(run) for _ in range(5)]
    steps[-1].checkpoint.save(tmp_path / "c", "id")
    loaded = Checkpoint.load(tmp_path / "c", "id", torch.device("cpu"))
    saved = steps[-1].checkpoint
    assert (loaded.scale, loaded.trace, loaded.seconds) == (1, saved.trace, saved.seconds)
    assert torch.equal(loaded.progress.image, saved.progress.image)
    assert torch.equal(loaded.progress.state["moves"], saved.progress.state["moves"])
    assert list(tmp_path.iterdir()) == [tmp_path / "c"]


def test_a_file_holds_what_a_state_shows(tmp_path: Path) -> None:
    """Of memory for a hundred pairs the three that are written."""
    image = torch.rand(1, 3, 40, 40)
    solver, state = LBFGS(), LBFGS().start(image)
    for _ in range(3):
        image, state = solver.step(image, image - 0.5, state)
    Checkpoint(0, Progress(3, image, state, 1.0, image)).save(tmp_path / "c", "id")
    assert (
        (tmp_path / "c").stat().st_size
        < 20 * image.nbytes
        < state["moves"].untyped_storage().nbytes()
    )
    loaded = Checkpoint.load(tmp_path / "c", "id", torch.device("cpu")).progress.state
    for _ in range(3):
        expected, state = solver.step(image, image - 0.5, state)
        image, loaded = solver.step(image, image - 0.5, loaded)
        assert torch.equal(image, expected)


def test_threads_are_recorded_and_left_alone(tmp_path: Path) -> None:
    image = torch.zeros(1, 3, 4, 4)
    before = torch.get_num_threads()
    Checkpoint(0, Progress.start(image, State()), threads=3).save(tmp_path / "c", "id")
    assert Checkpoint.load(tmp_path / "c", "id", torch.device("cpu")).threads == 3
    assert torch.get_num_threads() == before


def test_of_another_run(run: Run, tmp_path: Path) -> None:
    run.checkpoint.save(tmp_path / "c", "one")
    with pytest.raises(InputError, match="other inputs or settings"):
        Checkpoint.load(tmp_path / "c", "two", torch.device("cpu"))


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other", "pickle"])
def test_damaged(run: Run, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c"
    run.checkpoint.save(path, "id")
    if damage == "other":
        torch.save({"identity": "id"}, path)
    elif damage == "pickle":  # code in a pickle is never run
        torch.save({"identity": Path("x"), "progress": print}, path)
    else:
        data = {"empty": b"", "cut": path.read_bytes()[:-200], "text": b"hello"}
        path.write_bytes(data[damage])
    with pytest.raises(InputError, match="not a checkpoint that can be read"):
        Checkpoint.load(path, "id", torch.device("cpu"))


def test_a_kept_checkpoint_stays_as_it_is(
    tiny: VGG, picture: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the run goes on so long that L-BFGS forgets the steps before it."""
    recipe = Recipe(size=32, scales="single", iterations=14)
    run = Run(picture(32, 32), picture(32, 32, 1), recipe, encoder=tiny)
    monkeypatch.setattr(LBFGS, "capacity", lambda solver, size: 3)
    kept = [step.checkpoint for step in run]
    whole = run.result().image
    for at in kept[::4]:
        run._standing, run._ended = (None, at), False
        run._stepping = run._steps()
        run.finish()
        assert torch.equal(run.result().image, whole)


def test_a_step_that_is_kept_is_light(run: Run) -> None:
    """It has its picture, and none of the solver's memory."""
    early = next(run)
    at = weakref.ref(early.checkpoint)
    image = early.image
    for _ in run:
        pass
    assert at() is None
    assert torch.equal(early.image, image)
    with pytest.raises(InputError, match="gone on from iteration 1 of scale 1"):
        _ = early.checkpoint


def test_a_notebook_gets_a_widget(
    tiny: VGG, picture: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ipykernel  # noqa: F401
    import IPython
    from tqdm.notebook import tqdm as widget

    assert not ProgressBar()._widget  # ipykernel alone makes no notebook
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    bar = ProgressBar()
    recipe = Recipe(scales=(32, 40), iterations=(5, 4))
    Run(picture(32, 40), picture(32, 32), recipe, encoder=tiny).finish([bar])
    assert isinstance(bar._bar, widget)
    assert bar._bar.n == pytest.approx(bar._bar.total)
    assert "scale 2/2 40x32  4/4  total " in bar._bar.desc
