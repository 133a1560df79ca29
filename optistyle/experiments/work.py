"""What a worker does: one job after another, with one encoder and the styles it has seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from optistyle import encoders, metrics, pictures, sizes
from optistyle.encoders import weights
from optistyle.encoders.base import Encoder
from optistyle.errors import InputError
from optistyle.experiments.grid import Job
from optistyle.optimise.objective import Measured
from optistyle.recipes import Recipe
from optistyle.run import Run, load_encoder, resolved
from optistyle.run.observers import Observer, Step

#: Told the share of a job that is done, in [0, 1].
Report = Callable[[float], None]


@dataclass(frozen=True)
class Outcome:
    """A finished job: the picture as PNG, and the manifest with the metrics in it."""

    png: bytes
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """A job that could not be done, and why."""

    message: str


@cache
def judge_name() -> str:
    """What pictures are judged in: the real VGG-19 where it is at hand, else the slim encoder."""
    try:
        weights.locate("vgg19")
    except InputError:
        return "slim"
    return "vgg19"


@cache
def judging_encoder() -> Encoder:
    """The encoder of that name."""
    return encoders.load(judge_name())


class Worker:
    """Keeps the encoders it has loaded, and the styles it has measured."""

    def __init__(self) -> None:
        self._encoders: dict[object, Encoder] = {}
        self._measured = Measured()

    def attempt(self, job: Job, report: Report) -> Outcome | Failure:
        """The job's outcome, or what went wrong: nothing that a job does ends the worker."""
        try:
            return self.perform(job, report)
        except InputError as error:
            return Failure(str(error))
        except Exception as error:  # recorded beside the job, with its type
            return Failure(f"{type(error).__name__}: {error}")

    def perform(self, job: Job, report: Report) -> Outcome:
        """Run the job and measure its result."""
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
        """The metrics of a picture (1, 3, H, W), rounded to 8 bits as it is saved.

        Measured in the same encoder whatever the picture was optimised in, which is named too.
        """
        image = torch.from_numpy(pictures.to_uint8(image)).permute(2, 0, 1)[None] / 255
        size = (image.shape[-2], image.shape[-1])
        styles = []
        for path, share in zip(job.styles, job.recipe.shares(len(job.styles)), strict=True):
            style = pictures.read(path)
            area = sizes.fit_area(style.height, style.width, size[0] * size[1])
            styles.append((pictures.resize(style.pixels, area), share))
        content = pictures.resize(pictures.read(job.content).pixels, size)
        found = metrics.measure(job.metrics, image, content, styles, judging_encoder())
        return judge_name(), found


class _Reporter(Observer):
    """Tells how much of a run is done, at most twice a second."""

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
