"""What a worker process does: one job after another, with the same encoder and style targets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from optistyle import pictures
from optistyle.encoders.base import Encoder
from optistyle.errors import InputError
from optistyle.experiments import judging
from optistyle.experiments.grid import Job
from optistyle.experiments.processes import Report
from optistyle.optimise.objective import Measured
from optistyle.recipes import Recipe
from optistyle.run import Run, load_encoder, resolved
from optistyle.run.observers import Observer, Step


@dataclass(frozen=True)
class Outcome:
    """A finished job: the picture as PNG, and the manifest with the metrics."""

    png: bytes
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """A job that failed, and why."""

    message: str


class Worker:
    """Runs jobs, and keeps encoders and style statistics from one job to the next."""

    def __init__(self) -> None:
        self._encoders: dict[object, Encoder] = {}
        self._measured = Measured()

    def attempt(self, job: Job, report: Report) -> Outcome | Failure:
        """Run a job and measure its result; return what went wrong instead of raising it."""
        try:
            return self.perform(job, report)
        except InputError as error:
            return Failure(str(error))
        except Exception as error:
            return Failure(f"{type(error).__name__}: {error}")

    def perform(self, job: Job, report: Report) -> Outcome:
        """Run a job and measure its result."""
        recipe = resolved(job.recipe)
        run = Run(
            job.content,
            job.styles,
            recipe,
            encoder=self._encoder(recipe),
            measured=self._measured,
        )
        run.finish([_Reporter(report)])
        result = run.result()
        manifest = {"output": "picture.png", "bits": 8, **result.manifest()}
        if job.metrics:
            manifest["judge"], manifest["metrics"] = self.judge(job, result.image)
        return Outcome(pictures.encode(result.picture), manifest)

    def _encoder(self, recipe: Recipe) -> Encoder:
        names = ("encoder", "weights", "pooling", "padding", "precision", "kernels", "device")
        key = tuple(getattr(recipe, name) for name in names)
        if key not in self._encoders:
            self._encoders[key] = load_encoder(recipe)
        return self._encoders[key]

    def judge(self, job: Job, image: Tensor) -> tuple[str, dict[str, float]]:
        """Measure the job's metrics of a picture (1, 3, H, W), rounded to 8 bits as it is saved.

        Returns:
            The judge's name (see `judging.judge_name`), and metric -> value.
        """
        image = torch.from_numpy(pictures.to_uint8(image)).permute(2, 0, 1)[None] / 255
        shares = job.recipe.shares(len(job.styles))
        styles = [(pictures.read(p).pixels, s) for p, s in zip(job.styles, shares, strict=True)]
        content = pictures.read(job.content).pixels
        return judging.judge_name(), judging.measured(job.metrics, image, content, styles)


@cache
def _worker() -> Worker:
    """The worker of this process."""
    return Worker()


def attempt(job: Job, report: Report) -> Outcome | Failure:
    """`Worker.attempt`, by the worker of this process."""
    return _worker().attempt(job, report)


class _Reporter(Observer):
    """Reports the share of a run that is done, at most twice a second."""

    def __init__(self, report: Report) -> None:
        self._report, self._told = report, time.monotonic()

    def started(self, schedule: Any) -> None:
        self._work = [h * w * n for (h, w), n in schedule]

    def stepped(self, step: Step) -> None:
        if time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            done = sum(self._work[: step.scale])
            done += self._work[step.scale] * step.iteration / step.iterations
            self._report(done / sum(self._work))
