"""Killed at random moments, a run ends in the same bytes as one that was never stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from interpreters import Interpreter
from torch import Tensor

from optistyle import pictures

SETTINGS = ["--encoder", "slim", "--device", "cpu", "--scales", "32,48,64"]

Start = Callable[[list[str]], Interpreter]


@pytest.fixture
def inputs(tmp_path: Path, picture: Callable[..., Tensor]) -> list[str]:
    pictures.write(tmp_path / "content.png", picture(64, 48, 1))
    pictures.write(tmp_path / "style.png", picture(60, 70, 2))
    return [str(tmp_path / "content.png"), str(tmp_path / "style.png")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def start(interpreter: Callable[..., Interpreter]) -> Start:
    """``start(arguments)``: a process of ``optistyle run``."""
    return lambda arguments: interpreter("-m", "optistyle", "run", *arguments)


def finish(process: Interpreter) -> str:
    """What it says until its good end."""
    _, said = process.communicate()
    assert process.returncode == 0, said
    return said


def iterations_in(checkpoint: Path) -> int:
    return len(torch.load(checkpoint, weights_only=True)["trace"])


def wait_for(checkpoint: Path, process: Interpreter, before: int = 0) -> None:
    """Until the checkpoint is newer than that of so many nanoseconds."""
    while process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns > before:
            return
        time.sleep(0.002)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.slow
def test_killed_at_random_moments(
    inputs: list[str], folder: Path, start: Start, optimizer: str
) -> None:
    settings = [*inputs, *SETTINGS, "--iterations", "40,30,20", "--optimizer", optimizer]
    finish(start([*settings, "-o", "whole.png"]))
    settings += ["-o", "killed.png", "--checkpoint-every", "0", "--resume"]
    checkpoint, done, stamp = folder / "killed.png.checkpoint", [0], 0
    moments = random.Random(optimizer)
    for _ in range(5):
        process = start(settings)
        wait_for(checkpoint, process, stamp)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.wait()
        if not checkpoint.exists():  # it was faster
            break
        stamp = checkpoint.stat().st_mtime_ns
        done.append(iterations_in(checkpoint))
    else:
        finish(start(settings))
    assert len(done) > 2
    assert done == sorted(set(done)), "every start went on from the one before"
    assert (folder / "killed.png").read_bytes() == (folder / "whole.png").read_bytes()
    whole, killed = (json.loads((folder / f"{x}.json").read_text()) for x in ("whole", "killed"))
    for key in ("trace", "first", "final", "recipe", "inputs", "threads"):
        assert killed[key] == whole[key], key
    assert not killed["interrupted"]
    assert not [path for path in folder.iterdir() if "checkpoint" in path.name]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.slow
def test_ctrl_c_twice_then_resume(
    inputs: list[str], folder: Path, start: Start, optimizer: str
) -> None:
    settings = [*inputs, *SETTINGS, "--iterations", "40,30,20", "--optimizer", optimizer]
    finish(start([*settings, "-o", "whole.png"]))
    settings += ["-o", "stopped.png", "--checkpoint-every", "0"]
    process = start(settings)
    wait_for(folder / "stopped.png.checkpoint", process)
    time.sleep(random.Random(optimizer).uniform(0, 0.3))
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.003)
    process.wait()
    said = process.err.read_text()
    assert process.returncode == 130, said
    assert "interrupted: stopped.png holds the picture so far; --resume goes on" in said
    assert "Traceback" not in said
    manifest = json.loads((folder / "stopped.json").read_text())
    assert manifest["interrupted"]
    assert manifest["first"]["total"] > manifest["final"]["total"] > 0
    assert pictures.read(folder / "stopped.png").height == 64
    assert {path.name for path in folder.iterdir()} == {
        *("stopped.json", "stopped.png", "stopped.png.checkpoint"),
        *("whole.json", "whole.png"),
    }
    assert "no checkpoint" not in finish(start([*settings, "--resume"]))
    finish(start(["--from", "stopped.json"]))
    whole = (folder / "whole.png").read_bytes()
    assert (folder / "stopped.png").read_bytes() == whole
    assert (folder / "stopped-again.png").read_bytes() == whole


def test_ctrl_c_before_the_first_step(inputs: list[str], folder: Path, start: Start) -> None:
    """While the first objective is being built there is no picture yet: nothing is written."""
    process = start([*inputs, "--size", "64", "-o", "out.png"])
    while "encoder slim" not in process.err.read_text():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    process.wait()
    said = process.err.read_text()
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "optistyle: interrupted; nothing was written"
    assert list(folder.iterdir()) == []
