"""What watches a run: progress on the terminal, snapshots, checkpoints. Observers never touch."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor
from tqdm import tqdm

from optistyle import images
from optistyle.errors import InputError
from optistyle.optimise import Progress

#: One evaluation: scale (from 0), iteration (from 1), and the weighted losses by name.
TraceRow = dict[str, float]


@dataclass(frozen=True)
class Step:
    """One iteration of a run, as observers and notebooks see it.

    Attributes:
        scale, scales: which scale, from 0, of how many.
        iteration, iterations: which evaluation at this scale, from 1, of how many.
        size: (H, W) at this scale.
        losses: weighted, by name, with ``total``, of the image evaluated.
        image: (1, 3, H, W) in [0, 1], what the picture would be if the run ended here.
        progress: the full state between this step and the next.
        trace: all evaluations up to and with this one.
        seconds: of computing so far, over resumptions.
    """

    scale: int
    scales: int
    iteration: int
    iterations: int
    size: tuple[int, int]
    losses: dict[str, float]
    image: Tensor
    progress: Progress
    trace: list[TraceRow]
    seconds: float


class Observer:
    """Does nothing; subclasses override what they want to see."""

    def started(self, schedule: list[tuple[tuple[int, int], int]]) -> None:
        """Before the first step, with (H, W) and iterations of every scale."""

    def stepped(self, step: Step) -> None:
        """After every iteration."""

    def warned(self, message: str) -> None:
        """Something went wrong and was mended."""

    def ended(self) -> None:
        """After the last step, also of an interrupted run."""


class ProgressBar(Observer):
    """A tqdm bar with scale, losses and time left; plain lines where stderr is not a terminal."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._every = every
        self._bar: tqdm | None = None
        self._shown = 0.0
        self._work: list[float] = []
        self._begun = time.monotonic()

    def started(self, schedule: list[tuple[tuple[int, int], int]]) -> None:
        # Time left is told in pixels times iterations: later scales take longer.
        self._work = [h * w * n / 1e6 for (h, w), n in schedule]
        self._begun = time.monotonic()
        if self._stream.isatty():
            self._bar = tqdm(
                total=sum(self._work),
                file=self._stream,
                bar_format="{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining} {desc}",
            )

    def stepped(self, step: Step) -> None:
        done = sum(self._work[: step.scale])
        done += self._work[step.scale] * step.iteration / step.iterations
        height, width = step.size
        losses = "  ".join(f"{name} {value:.3g}" for name, value in step.losses.items())
        line = (
            f"scale {step.scale + 1}/{step.scales} ({width}x{height})  "
            f"iteration {step.iteration}/{step.iterations}  {losses}"
        )
        last = step.iteration == step.iterations
        if self._bar is not None:
            self._bar.set_description_str(line, refresh=False)
            self._bar.update(done - self._bar.n)
        elif last or time.monotonic() - self._shown > self._every:
            self._shown = time.monotonic()
            passed = self._shown - self._begun
            left = passed * (sum(self._work) / done - 1)
            print(f"{line}  {passed:.0f} s, {left:.0f} s left", file=self._stream, flush=True)

    def warned(self, message: str) -> None:
        if self._bar is not None:
            self._bar.write(message, file=self._stream)
        else:
            print(message, file=self._stream, flush=True)

    def ended(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Snapshots(Observer):
    """Writes the picture as it is every so many iterations: ``out-0001.png`` beside ``out.png``."""

    def __init__(self, output: Path, every: int) -> None:
        if every < 1:
            raise InputError(f"snapshots every {every} iterations: it must be 1 or more")
        self._output, self._every, self._taken, self._count = output, every, 0, 0

    def stepped(self, step: Step) -> None:
        self._count = len(step.trace)
        if self._count % self._every == 0:
            name = f"{self._output.stem}-{self._count:05d}{self._output.suffix}"
            images.write(self._output.with_name(name), step.image)


class Checkpoints(Observer):
    """Saves a run's state so that it can be resumed: every so many seconds, and at its end.

    The file appears whole or not at all. It holds tensors and plain values only.

    Args:
        path: the checkpoint file.
        identity: a text that stands for inputs and settings; a run resumes only its own.
        every: seconds between saves.
    """

    def __init__(self, path: Path, identity: str, every: float = 60.0) -> None:
        self._path, self._identity, self._every = path, identity, every
        self._saved = time.monotonic()
        self._last: Step | None = None

    def stepped(self, step: Step) -> None:
        self._last = step
        if time.monotonic() - self._saved >= self._every:
            self.save()

    def save(self) -> None:
        """Write the last step seen, if any."""
        if self._last is None:
            return
        content = {
            "identity": self._identity,
            "scale": self._last.scale,
            "progress": vars(self._last.progress),
            "trace": self._last.trace,
            "seconds": self._last.seconds,
        }
        part = self._path.with_name(self._path.name + ".part")
        try:
            with part.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        finally:
            part.unlink(missing_ok=True)
        self._saved = time.monotonic()


@dataclass(frozen=True)
class Resumption:
    """Where a run goes on."""

    scale: int
    progress: Progress
    trace: list[TraceRow]
    seconds: float

    @classmethod
    def load(cls, path: Path, identity: str, device: torch.device) -> Resumption:
        """Read a checkpoint; `InputError` if it is damaged or of another run."""
        try:
            content = torch.load(path, weights_only=True, map_location=device)
            found = content["identity"]
        except Exception as error:  # whatever torch finds wrong with it
            raise InputError(
                f"{path}: not a checkpoint that can be read; delete it to start over"
            ) from error
        if found != identity:
            raise InputError(
                f"{path}: the checkpoint is of a run with other inputs or settings; "
                "repeat those, or delete it to start over"
            )
        return cls(
            content["scale"], Progress(**content["progress"]), content["trace"], content["seconds"]
        )
