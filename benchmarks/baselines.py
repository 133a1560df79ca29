"""Feed-forward models against the optimiser, judged in the real VGG-19; and warm starts.

**Quality**: the held-out pairs at 512 px, painted by every model whose weights are at hand and by
the optimiser's default run. In VGG-19: *style*, the mean over relu1_1 … relu5_1 of |G - S|² / |S|²,
and *content*, |F - C|² / |C|² at relu4_2; *self-similarity* to the content (report 000's preset).
``adain, 16x`` is AdaIN without parameters of its own between encoder4 and decoder4 of Wang et al.
(collaborative distillation, CVPR 2020): what a trained AdaIN has to beat.

**Warm starts**: how many iterations at a single scale of 512 px, and seconds, it takes from a
model's picture to the objective that a content start has after 500, and to that of the default
schedule's result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks import encoders, pairs, record
from optistyle import baselines, metrics
from optistyle.baselines.adain import AdaIN
from optistyle.baselines.base import Baseline
from optistyle.baselines.codec import CONVOLUTIONS, Decoder
from optistyle.baselines.paint import paint
from optistyle.choices import WARM_STARTS
from optistyle.encoders import load
from optistyle.encoders.vgg import VGG
from optistyle.encoders.weights import load_tensors
from optistyle.files import digest
from optistyle.pictures import Picture
from optistyle.recipes import Recipe
from optistyle.run import stylize
from optistyle.run.observers import Observer, Step

SIZE = 512
JUDGED = ("gram_distance", "content_distance", "self_similarity")

#: Content and style, (1, 3, H, W) each, to a painted one.
Painter = Callable[[Tensor, Tensor], Tensor]


def distilled() -> AdaIN:
    """AdaIN between the published encoder4 and decoder4."""
    model = AdaIN(
        encoders.compressed(encoders.COMPRESSED / "encoder4.pth"), Decoder((16, 32, 64, 128))
    )
    decoder, _ = load_tensors(encoders.COMPRESSED / "decoder4.pth")
    parts = ("weight", "bias")
    found = {f"{c}.{p}": decoder[f"{c.replace('_', '')}.{p}"] for c in CONVOLUTIONS for p in parts}
    model.decoder.load_state_dict(found)
    return model.requires_grad_(False).eval()


def painters() -> dict[str, Painter]:
    """Every model of any style whose weights are at hand, and what they stand between."""
    models: dict[str, Baseline] = {
        name: baselines.load(name) for name in WARM_STARTS if baselines.packaged(name).is_file()
    }
    if (microast := pairs.SHARED / "weights" / "microast").is_dir():
        models["microast"] = baselines.load("microast", files=[microast])
    if encoders.COMPRESSED.is_dir():
        models["adain, 16x"] = distilled()

    def feed_forward(model: Baseline, alpha: float = 1.0) -> Painter:
        def painter(content: Tensor, style: Tensor) -> Tensor:
            size = (content.shape[-2], content.shape[-1])
            return paint(model, Picture(content), [Picture(style)], size, alpha=alpha).pixels

        return painter

    return {
        "content image": lambda content, style: content,
        "style image": lambda content, style: style,
        **{name: feed_forward(model) for name, model in models.items()},
        "adain, alpha 0.8": feed_forward(models["adain"], 0.8),
        "optimiser": lambda content, style: (
            stylize(content, style, Recipe(size=SIZE), progress=False).image
        ),
    }


def quality(work: Path, own_pairs: bool, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row per painter and pair; rows already in ``work``, by the same weights, are kept."""
    judge, rows = load("vgg19"), []
    for name, painter in painters().items():
        if names and name not in names:
            continue
        for pair, (content, style) in _pairs(own_pairs).items():
            path = record.place(work, name, pair, version(name))
            rows.append(
                record.kept(
                    path,
                    {"by": name, "pair": pair},
                    partial(_judged, painter, content, style, judge),
                )
            )
    return rows


def version(name: str) -> str:
    """The start of the digest of a model's weights, where they are packaged."""
    model = name.split(",")[0]
    here = model in WARM_STARTS and "16x" not in name
    return digest(baselines.packaged(model))[:8] if here else "published"


def _judged(painter: Painter, content: Tensor, style: Tensor, judge: VGG) -> dict[str, float]:
    started = time.perf_counter()
    output = painter(content, style)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        **metrics.measure(JUDGED, output, content, [(style, 1.0)], judge),
    }


def _pairs(own_pairs: bool) -> Mapping[str, tuple[Tensor, Tensor]]:
    return pairs.own(SIZE) if own_pairs else pairs.held_out(SIZE)


def quality_table(rows: list[dict[str, Any]]) -> str:
    """Means over pairs, as Markdown."""
    lines = []
    for name in dict.fromkeys(row["by"] for row in rows):
        own = [row for row in rows if row["by"] == name]
        style, content, alike, seconds = (
            float(np.mean([row[key] for row in own])) for key in (*JUDGED, "seconds")
        )
        lines.append([name, style, content, style + content, alike, seconds])
    header = ["painted by", "style", "content", "sum", "self-similarity", "seconds"]
    return record.table(header, lines)


class _Clock(Observer):
    """The objective and the time of every iteration."""

    def __init__(self) -> None:
        self.totals: list[float] = []
        self.times: list[float] = []

    def stepped(self, step: Step) -> None:
        self.totals.append(step.losses["total"])
        self.times.append(time.perf_counter())


class _Until(_Clock):
    """The same, ending the run where a goal is reached."""

    def __init__(self, goal: float) -> None:
        super().__init__()
        self.goal = goal

    def stepped(self, step: Step) -> None:
        super().stepped(step)
        if self.totals[-1] <= self.goal:
            raise KeyboardInterrupt


@dataclass(frozen=True)
class _Race:
    """One pair, from several starts."""

    content: Tensor
    style: Tensor
    encoder: VGG

    def run(self, recipe: Recipe, clock: _Clock) -> None:
        stylize(
            self.content,
            self.style,
            recipe,
            encoder=self.encoder,
            observers=[clock],
            progress=False,
        )

    def cold(self, recipe: Recipe) -> dict[str, Any]:
        """From the content: iterations and the last objective."""
        clock = _Clock()
        self.run(recipe, clock)
        return {"iterations": len(clock.totals), "objective": clock.totals[-1]}

    def warm(self, name: str, goals: Mapping[str, float]) -> dict[str, Any]:
        """From a model's picture: the objective there, and iterations to every goal."""
        clock = _Until(min(goals.values()))
        self.run(replace(_SINGLE, init=name), clock)
        row: dict[str, Any] = {"first": clock.totals[0]}
        for goal, value in goals.items():
            below = [i for i, total in enumerate(clock.totals, 1) if total <= value]
            row[f"iterations to {goal}"] = below[0] if below else None
        return row

    def timing(self, names: Sequence[str]) -> dict[str, float]:
        """Seconds of one iteration, of the default schedule, and of every model's pass."""
        clock, usual = _Clock(), _Clock()
        self.run(replace(_SINGLE, iterations=(30,)), clock)
        started = time.perf_counter()
        self.run(Recipe(size=SIZE), usual)
        seconds = {
            "iteration": (clock.times[-1] - clock.times[0]) / (len(clock.times) - 1),
            "default": usual.times[-1] - started,
        }
        for name in names:
            model, size = baselines.load(name), (self.content.shape[-2], self.content.shape[-1])
            started = time.perf_counter()
            paint(model, Picture(self.content), [Picture(self.style)], size)
            seconds[name] = time.perf_counter() - started
        return seconds


_SINGLE = Recipe(size=SIZE, scales="single", iterations=(500,))


def warm_starts(work: Path, names: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    """One row per start and pair; rows already in ``work`` are not measured again."""
    encoder, rows = load("slim"), []
    images = {**pairs.held_out(SIZE), **pairs.own(SIZE)}
    for pair, (content, style) in list(images.items())[:count]:
        race, goals = _Race(content, style, encoder), {}
        for start, recipe in (("500", _SINGLE), ("default", Recipe(size=SIZE))):
            path = record.place(work, start, pair)
            facts = {"start": start, "pair": pair}
            rows.append(record.kept(path, facts, partial(race.cold, recipe)))
            goals[start] = rows[-1]["objective"]
        for name in names:
            path = record.place(work, name, pair)
            facts = {"start": name, "pair": pair}
            rows.append(record.kept(path, facts, partial(race.warm, name, goals)))
    # Times apart from the runs, which may take an hour on a machine that has other work.
    return [*rows, {"start": "timing", **race.timing(names)}]


def warm_table(rows: list[dict[str, Any]]) -> str:
    """Medians over pairs, as Markdown; a goal that is not reached counts as infinitely far."""
    timing = rows[-1]
    cold = {(row["start"], row["pair"]): row["iterations"] for row in rows if "objective" in row}
    whole = {"500": 500 * timing["iteration"], "default": timing["default"]}
    lines = []
    for name in dict.fromkeys(row["start"] for row in rows if "first" in row):
        own = [row for row in rows if row["start"] == name]
        for goal, seconds in whole.items():
            counts = [row[f"iterations to {goal}"] or math.inf for row in own]
            base = cold[goal, own[0]["pair"]]
            median = float(np.median(counts))
            spent = timing[name] + median * timing["iteration"]
            reached = f"{sum(map(math.isfinite, counts))} of {len(own)}"
            lines.append([name, goal, reached, median, median / base, spent, spent / seconds])
    header = ["start", "goal", "reached", "iterations", "of the goal's", "seconds", "of the goal's"]
    return record.table(header, lines)


def main(work: Path, own_pairs: bool, names: tuple[str, ...]) -> None:
    rows = quality(work, own_pairs, names)
    print(quality_table(rows))
    print(record.save("baselines", rows))


def warm_main(work: Path, names: tuple[str, ...], count: int) -> None:
    rows = warm_starts(work, names, count)
    print(warm_table(rows))
    print(record.save("warm-starts", rows))
