"""Killed at random moments, a run ends in the same bytes as one that was never stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from optistyle import pictures
from optistyle.cli import main

SETTINGS = ["--encoder", "slim", "--device", "cpu", "--scales", "32,48,64"]

# Every run is a process of its own, forked from one that has torch loaded already.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["optistyle.cli", "optistyle.run"])


@pytest.fixture
def inputs(tmp_path: Path, picture: Callable[..., Tensor]) -> list[str]:
    pictures.write(tmp_path / "content.png", picture(64, 48, 1))
    pictures.write(tmp_path / "style.png", picture(60, 70, 2))
    return [str(tmp_path / "content.png"), str(tmp_path / "style.png")]


def command(arguments: list[str], folder: Path, log: Path) -> None:
    """``optistyle run`` in a folder, with what it says in a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
    os.chdir(folder)
    torch.set_num_threads(1)
    with log.open("w") as sys.stderr, Path(os.devnull).open("w") as sys.stdout:
        main(["run", *arguments])


def start(arguments: list[str], folder: Path) -> tuple[BaseProcess, Path]:
    log = folder.with_name("log.txt")
    log.write_text("")
    process = _processes.Process(target=command, args=(arguments, folder, log))
    process.start()
    return process, log


def finish(arguments: list[str], folder: Path) -> str:
    process, log = start(arguments, folder)
    process.join()
    assert process.exitcode == 0, log.read_text()
    return log.read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def iterations_in(checkpoint: Path) -> int:
    return len(torch.load(checkpoint, weights_only=True)["trace"])


def wait_for(checkpoint: Path, process: BaseProcess, before: int = 0) -> None:
    """Until the checkpoint is newer than that of so many nanoseconds."""
    while process.is_alive():
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns > before:
            return
        time.sleep(0.002)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_killed_at_random_moments(inputs: list[str], folder: Path, optimizer: str) -> None:
    settings = [*inputs, *SETTINGS, "--iterations", "40,30,20", "--optimizer", optimizer]
    finish([*settings, "-o", "whole.png"], folder)
    settings += ["-o", "killed.png", "--checkpoint-every", "0", "--resume"]
    checkpoint, done, stamp = folder / "killed.png.checkpoint", [0], 0
    moments = random.Random(optimizer)
    for _ in range(5):
        process, _ = start(settings, folder)
        wait_for(checkpoint, process, stamp)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.join()
        if not checkpoint.exists():  # it was faster
            break
        stamp = checkpoint.stat().st_mtime_ns
        done.append(iterations_in(checkpoint))
    else:
        finish(settings, folder)
    assert len(done) > 2
    assert done == sorted(set(done)), "every start went on from the one before"
    assert (folder / "killed.png").read_bytes() == (folder / "whole.png").read_bytes()
    whole, killed = (json.loads((folder / f"{x}.json").read_text()) for x in ("whole", "killed"))
    for key in ("trace", "first", "final", "recipe", "inputs", "threads"):
        assert killed[key] == whole[key], key
    assert not killed["interrupted"]
    assert not [path for path in folder.iterdir() if "checkpoint" in path.name]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_ctrl_c_twice_then_resume(inputs: list[str], folder: Path, optimizer: str) -> None:
    settings = [*inputs, *SETTINGS, "--iterations", "40,30,20", "--optimizer", optimizer]
    finish([*settings, "-o", "whole.png"], folder)
    settings += ["-o", "stopped.png", "--checkpoint-every", "0"]
    process, log = start(settings, folder)
    wait_for(folder / "stopped.png.checkpoint", process)
    time.sleep(random.Random(optimizer).uniform(0, 0.3))
    assert process.pid is not None
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.003)
    process.join()
    said = log.read_text()
    assert process.exitcode == 130, said
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
    assert "no checkpoint" not in finish([*settings, "--resume"], folder)
    finish(["--from", "stopped.json"], folder)
    whole = (folder / "whole.png").read_bytes()
    assert (folder / "stopped.png").read_bytes() == whole
    assert (folder / "stopped-again.png").read_bytes() == whole


def test_ctrl_c_before_the_first_step(inputs: list[str], folder: Path) -> None:
    """While the first objective is being built there is no picture yet: nothing is written."""
    process, log = start([*inputs, "--size", "64", "-o", "out.png"], folder)
    while "encoder slim" not in log.read_text():
        assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    said = log.read_text()
    assert process.exitcode == 130, said
    assert said.splitlines()[-1] == "optistyle: interrupted; nothing was written"
    assert list(folder.iterdir()) == []
