"""The training loop: checkpoints, log, progress, and an end where a loss is not finite.

A training that was stopped at any moment and started again ends in the same bits as one that ran
through, on the same machine: a checkpoint holds all state that decides what comes next.
"""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from optistyle import files
from optistyle.errors import InputError
from optistyle.training.progress import Progress

log = logging.getLogger(__name__)

#: Steps per line of the log.
LOGGED = 100
#: The names of a log line that are no losses.
CLOCK = ("step", "seconds")


class Task(Protocol):
    """What is trained, one step at a time.

    Attributes:
        optimiser: of `parameters`; the loop sets its learning rate.
        parameters: what it changes.
    """

    optimiser: torch.optim.Optimizer
    parameters: Sequence[nn.Parameter]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""

    def losses(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss to be lowered, and what the log is told, by name; scalars."""

    def state(self) -> dict[str, Any]:
        """Return all state beside the optimiser's, as `torch.load` reads it with weights only."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned; its tensors are on the CPU."""

    def after(self, done: int, last: bool) -> None:
        """Act after a step, such as writing a sample; ``done`` steps are complete."""
        return


def run(
    task: Task,
    work: Path,
    total: int,
    identity: Mapping[str, Any],
    *,
    checkpoint_every: int,
    clip: float,
    progress: bool = True,
) -> None:
    """Train, or continue from ``work/checkpoint.pt``.

    Writes there: the checkpoint, whole or not at all, and ``log.jsonl``, the mean losses of every
    `LOGGED` steps.

    Args:
        task: as it is to start.
        work: the training's own folder; made where it does not exist.
        total: steps in all, those before the checkpoint included.
        identity: everything that makes this training another one, as JSON can hold it. The length
            is not part of it: a training may be made longer.
        checkpoint_every: steps between checkpoints.
        clip: the largest norm of a gradient; larger ones are scaled down to it.
        progress: show a bar on a terminal, and plain lines on stderr elsewhere.

    Raises:
        InputError: the checkpoint is of another training, or cannot be read.
        FloatingPointError: a loss or a gradient is not finite; the last checkpoint is kept.
    """
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / "checkpoint.pt"
    first = _continue(task, checkpoint, identity) if checkpoint.exists() else 0
    lines = Log(work / "log.jsonl", first)
    with Progress(total, first, shown=progress) as shown:
        for step in range(first, total):
            parts = _step(task, step, clip, checkpoint)
            done, last = step + 1, step + 1 == total
            shown.step(parts)
            lines.add(done, parts, last=last)
            task.after(done, last)
            if done % checkpoint_every == 0 or last:
                state = {**task.state(), "optimiser": task.optimiser.state_dict()}
                _save(checkpoint, {**state, "step": done, "identity": dict(identity)})


def _step(task: Task, step: int, clip: float, checkpoint: Path) -> dict[str, float]:
    """One step, and its losses as numbers."""
    loss, parts = task.losses(step)
    if not torch.isfinite(loss):
        raise _not_finite("loss", step, checkpoint)
    for group in task.optimiser.param_groups:
        group["lr"] = task.rate(step)
    task.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    # A gradient can be infinite where the loss is not, and would be in the next checkpoint.
    if not torch.isfinite(nn.utils.clip_grad_norm_(task.parameters, clip)):
        raise _not_finite("gradient", step, checkpoint)
    task.optimiser.step()
    return {name: float(x.detach()) for name, x in parts.items()}


def _not_finite(what: str, step: int, checkpoint: Path) -> FloatingPointError:
    kept = f"{checkpoint} has the last good state" if checkpoint.exists() else "nothing is kept yet"
    return FloatingPointError(
        f"the {what} is not finite at step {step}; {kept}: try a lower learning rate"
    )


class Log:
    """Appends the means over every `LOGGED` steps to a file, one JSON line each.

    Args:
        path: the file. first: the step to continue from; later lines, of a training that was
            stopped after its last checkpoint, are dropped.
    """

    def __init__(self, path: Path, first: int = 0) -> None:
        self._path, self._started = path, time.monotonic()
        self._rows: list[Mapping[str, float]] = []
        if path.exists():
            kept = [line for line in read_log(path) if line["step"] <= first]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            files.write_whole(path.resolve(), text.encode())

    def add(self, step: int, row: Mapping[str, float], *, last: bool) -> None:
        """Add a step's losses, and write a line where one is due."""
        self._rows.append(row)
        if step % LOGGED and not last:
            return
        line: dict[str, float] = {"step": step}
        line["seconds"] = round(time.monotonic() - self._started)
        for name in dict.fromkeys(name for row in self._rows for name in row):
            values = [row[name] for row in self._rows if name in row]
            line[name] = round(float(np.mean(values)), 5)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._rows = []


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the lines of a log; one that was cut short by a crash is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def _save(path: Path, state: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    files.write_whole(path.resolve(), buffer.getvalue())


def _continue(task: Task, path: Path, identity: Mapping[str, Any]) -> int:
    """Restore a task from a checkpoint; return the number of steps that are done."""
    try:
        # Made on a GPU, it can be continued on a CPU: everything is moved to where it belongs.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        known, step = state["identity"], int(state["step"])
    except MemoryError:
        raise
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError
        raise InputError(f"{path} cannot be read; delete it to start over") from error
    if known != identity:
        differing = [k for k in {**identity, **known} if known.get(k) != identity.get(k)]
        raise InputError(
            f"{path} is of a training with another {', '.join(differing)}; use another folder"
        )
    task.restore(state)
    task.optimiser.load_state_dict(state["optimiser"])
    log.info("continuing from step %d", step)
    return step
