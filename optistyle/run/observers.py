"""Observers of a run: progress on the terminal, snapshots, checkpoints.

Observers read a run's state; they do not change it.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from torch import Tensor
from tqdm import tqdm

from optistyle import files, pictures
from optistyle.errors import InputError
from optistyle.files import fitted
from optistyle.pictures import Picture
from optistyle.run.checkpoint import Checkpoint

#: Iterations of a scale by which the time left is known.
_TIMED = 3
#: (H, W) and iterations of every scale.
Schedule = Sequence[tuple[tuple[int, int], int]]


@dataclass(frozen=True)
class Step:
    """One iteration of a run, as a `Run` yields it and observers receive it.

    A step that you keep holds its picture and its losses, and nothing of the solver's memory.

    Attributes:
        scale: the scale's number, from 0.
        scales: how many scales the run has.
        iteration: the iteration's number at this scale, from 1.
        iterations: how many iterations this scale has.
        count: iterations so far, over all scales.
        size: (H, W) in pixels at this scale.
        losses: weighted losses of the evaluated image, by name, and their ``total``.
        look: a function that makes ``image``.
        picture: a function that makes the picture to save, with original colours and alpha put
            back.
        standing: a function that returns ``checkpoint``, or None once nobody holds it.
        warning: one line about a divergence in this step, or None.

    >>> import torch
    >>> from optistyle import Recipe, Run
    >>> recipe = Recipe(size=32, iterations=2, encoder="slim", device="cpu")
    >>> for step in Run(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), recipe):
    ...     print(step.iteration, step.iterations, step.image.shape)
    1 2 torch.Size([1, 3, 32, 32])
    2 2 torch.Size([1, 3, 32, 32])
    """

    scale: int
    scales: int
    iteration: int
    iterations: int
    count: int
    size: tuple[int, int]
    losses: dict[str, float]
    look: Callable[[], Tensor]
    picture: Callable[[], Picture]
    standing: Callable[[], Checkpoint | None]
    warning: str | None = None

    @property
    def image(self) -> Tensor:
        """The picture if the run ended here, (1, 3, H, W) in [0, 1]."""
        return self.look()

    @property
    def checkpoint(self) -> Checkpoint:
        """The state of the run after this step. It does not change when the run goes on.

        Raises:
            InputError: the run has gone on already, and nobody kept the checkpoint.
        """
        at = self.standing()
        if at is None:
            raise InputError(
                f"the run has gone on from iteration {self.iteration} of scale {self.scale + 1}: "
                "take step.checkpoint before the next step"
            )
        return at


class Observer:
    """Receive a run's steps: a base class whose methods do nothing, to override.

    Observers read a run's state; they do not change it.

    >>> import torch
    >>> from optistyle import Observer, Recipe, stylize
    >>> class Losses(Observer):
    ...     def __init__(self):
    ...         self.totals = []
    ...     def stepped(self, step):
    ...         self.totals.append(step.losses["total"])
    >>> losses = Losses()
    >>> recipe = Recipe(size=32, iterations=2, encoder="slim", device="cpu")
    >>> photograph, painting = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    >>> result = stylize(photograph, painting, recipe, observers=[losses], progress=False)
    >>> len(losses.totals)
    2
    """

    def started(self, schedule: Schedule) -> None:
        """Called before the first step, with (H, W) and iterations of every scale."""

    def stepped(self, step: Step) -> None:
        """Called after every iteration."""

    def ended(self) -> None:
        """Called after the last step, also of an interrupted run."""


class ProgressBar(Observer):
    """Show scale, losses and time left.

    It is a tqdm bar on a terminal, a widget in a notebook that has ipywidgets, and plain lines
    everywhere else. The time left is shown after a few iterations. The first iteration of a scale
    is not timed: it measures the targets, and libraries warm up.

    Args:
        stream: the text stream to write to; stderr by default.
        every: seconds between two plain lines. The last line of a scale is always written.

    >>> import io, torch
    >>> from optistyle import ProgressBar, Recipe, Run
    >>> recipe = Recipe(size=32, iterations=2, encoder="slim", device="cpu")
    >>> lines = io.StringIO()
    >>> run = Run(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), recipe)
    >>> run.finish([ProgressBar(lines)])
    >>> lines.getvalue().splitlines()[-1][:33]
    'scale 1/1 (32x32)  iteration 2/2 '
    """

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self._widget = stream is None and _in_notebook()
        self._stream = stream or sys.stderr
        self._every = every
        self._bar: tqdm | None = None
        self._shown = -math.inf
        self._rate: float | None = None  # seconds per unit of work

    def started(self, schedule: Schedule) -> None:
        # Work is told in pixels times iterations: later scales take longer.
        self._work = [h * w * n / 1e6 for (h, w), n in schedule]
        self._scale: int | None = None
        self._begun = time.monotonic()
        if self._widget:
            from tqdm.notebook import tqdm as widget

            self._bar = widget(total=sum(self._work), bar_format="{bar} {percentage:.0f}%")
        elif self._stream is not None and self._stream.isatty():
            self._bar = tqdm(
                total=sum(self._work),
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{desc}",
            )

    def stepped(self, step: Step) -> None:
        now, each = time.monotonic(), self._work[step.scale] / step.iterations
        if step.scale != self._scale:
            self._scale, self._first, self._since = step.scale, step.iteration, now
        elif (count := step.iteration - self._first) >= _TIMED:
            self._rate = (now - self._since) / (count * each)
        to_do = each * (step.iterations - step.iteration) + sum(self._work[step.scale + 1 :])
        left = 0.0 if not to_do else None if self._rate is None else to_do * self._rate
        height, width = step.size
        losses = "  ".join(f"{name} {value:.3g}" for name, value in step.losses.items())
        scale, iteration = f"{step.scale + 1}/{step.scales}", f"{step.iteration}/{step.iterations}"
        if step.warning:
            self._write(step.warning)
        if self._bar is not None:
            remaining = "?" if left is None else tqdm.format_interval(left)
            line = f"scale {scale} {width}x{height}  {iteration}  " + losses.replace("  ", " ")
            self._bar.set_description_str(f"{remaining} {line}", refresh=False)
            self._bar.update(self._bar.total - to_do - self._bar.n)
        elif step.iteration == step.iterations or now - self._shown > self._every:
            self._shown = now
            remaining = "" if left is None else f", {left:.0f} s left"
            self._write(
                f"scale {scale} ({width}x{height})  iteration {iteration}  {losses}  "
                f"{now - self._begun:.0f} s{remaining}"
            )

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the run does not depend on a reader
            if self._bar is not None:
                self._bar.write(line, file=self._stream)
            elif self._stream is not None:  # a process may be started without a stderr
                print(line, file=self._stream, flush=True)

    def ended(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()


def _in_notebook() -> bool:
    """Whether this is a notebook's kernel, with the package that shows widgets."""
    if "ipykernel" not in sys.modules or find_spec("ipywidgets") is None:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


class Snapshots(Observer):
    """Writes the picture as it is every so many iterations: ``out-00050.png`` beside ``out.png``.

    A thread of its own fetches, encodes and writes it while the run goes on, one at a time; what
    goes wrong is raised at the next, or at the end.

    Args:
        output: the file whose name and format they take.
        every: iterations between two, counted over all scales.
        inputs: files that none of them may overwrite.
        overwrite: whether other files of their names may be overwritten.
        strip: whether to leave out the photograph's date, author and copyright.
    """

    def __init__(
        self,
        output: Path,
        every: int,
        inputs: Sequence[Path] = (),
        *,
        overwrite: bool = True,
        strip: bool = False,
    ) -> None:
        if every < 1:
            raise InputError(f"snapshots every {every} iterations: it must be 1 or more")
        self._output, self._every, self._inputs = output, every, inputs
        self._overwrite, self._strip = overwrite, strip
        self._writer = futures.ThreadPoolExecutor(1)
        self._writing: futures.Future[None] | None = None

    def _path(self, count: int) -> Path:
        ending = f"-{count:05d}{self._output.suffix}"
        return self._output.with_name(fitted(self._output.stem, ending))

    def started(self, schedule: Schedule) -> None:
        total = sum(iterations for _, iterations in schedule)
        for count in range(self._every, total + 1, self._every):
            path = self._path(count)
            pictures.check_writable(path, inputs=self._inputs)
            if not self._overwrite:
                files.check_new(path)

    def stepped(self, step: Step) -> None:
        count = step.count
        if count % self._every == 0:
            self._wait()
            self._writing = self._writer.submit(self._write, self._path(count), step.picture)

    def _write(self, path: Path, picture: Callable[[], Picture]) -> None:
        shown = picture()
        pictures.write(path, shown.stripped() if self._strip else shown)

    def _wait(self) -> None:
        if self._writing is not None:
            futures.wait([self._writing])  # which Ctrl-C may end
            writing, self._writing = self._writing, None
            writing.result()

    def ended(self) -> None:
        self._wait()


class Checkpoints(Observer):
    """Saves where the run stands every so many seconds, for `Run.resume`.

    A disk that refuses costs a warning, not the run.

    Args:
        path: the checkpoint file.
        identity: the run's, see `Checkpoint.save`.
        every: seconds between two saves; 0 saves after every iteration.
    """

    def __init__(self, path: Path, identity: str, every: float = 60.0) -> None:
        if not (math.isfinite(every) and every >= 0):
            raise InputError(f"checkpoints every {every} seconds: it must be a number of 0 or more")
        self._path, self._identity, self._every = path, identity, every
        self._saved = time.monotonic()

    def stepped(self, step: Step) -> None:
        if time.monotonic() - self._saved >= self._every:
            try:
                step.checkpoint.save(self._path, self._identity)
            except InputError as error:
                warnings.warn(f"{error}; going on without", stacklevel=2)
            self._saved = time.monotonic()
