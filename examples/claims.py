"""Does attention keep local detail? Report 003's claim, over twenty pairs of rc2021 at 256 px.

Each pair is painted without attention at several weights of style, and with attention: Gram form
(gamma 6e6) and, in the slim encoder, local form (gamma 3). All are judged in VGG-19. Differences
are paired, with bootstrap intervals; and since every loss trades content for style, styles are
compared at equal content error too: along the curve that runs without attention draw from weight
to weight.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from optistyle.experiments import grid
from optistyle.experiments.ablations import METRICS
from optistyle.experiments.engines import local
from optistyle.experiments.intervals import Interval, bootstrap
from optistyle.experiments.runs import finished
from optistyle.experiments.sweep import sweep
from optistyle.files import write_whole
from optistyle.published import preset
from optistyle.recipes import changed

RC2021 = Path(__file__).parents[2] / "shared" / "images" / "rc2021"
BETAS = {"slim": (1e7, 3e7), "vgg19": (3e6, 1e7, 3e7)}
ITERATIONS = {"slim": "100", "vgg19": "60"}
GRAM = {"gram, gamma 6e6": {"gamma": 6e6}}
LOCAL = {"local, gamma 3": {"gamma": 3.0, "attention_form": "local"}}
WITH = {"slim": {**GRAM, **LOCAL}, "vgg19": GRAM}

Row = Mapping[str, float]


def pairs(count: int) -> list[tuple[Path, Path]]:
    """Each of rc2021's twenty styles with a content of its own."""

    def numbered(kind: str) -> list[Path]:
        return sorted((RC2021 / kind).glob("*.png"), key=lambda p: int(p.stem.removeprefix(kind)))

    return list(zip(numbered("content")[1::2], numbered("style"), strict=False))[:count]


def run(encoder: str, work: Path, output: Path, options: Any) -> None:
    """Paint, judge, and write ``claims-ENCODER.json``."""
    if not RC2021.is_dir():
        print(f"claims, {encoder}: the rc2021 pictures are not at {RC2021}; skipped")
        return
    size, iterations = (96, "8") if options.small else (256, ITERATIONS[encoder])
    changes = {"encoder": encoder, "size": size, "scales": "single", "iterations": iterations}
    if encoder == "vgg19":
        changes["precision"] = "bfloat16"
    base = changed(preset("attention"), changes)
    columns = {f"beta {beta:.0e}": {"beta": beta, "gamma": 0.0} for beta in BETAS[encoder]}
    columns |= WITH[encoder]
    recipes = {label: changed(base, column) for label, column in columns.items()}
    chosen = pairs(3 if options.small else 20)
    jobs = [grid.jobs([c], [s], list(recipes.values()), METRICS) for c, s in chosen]
    summary = sweep(
        [job for row in jobs for job in row], work, local(options.workers, options.threads)
    )
    if summary.failed:
        raise SystemExit(f"{summary.failed} runs failed: see {summary.page}")
    table: dict[str, list[Row]] = {label: [] for label in recipes}
    for row in jobs:
        for label, job in zip(recipes, row, strict=True):
            table[label].append(finished(work / job.folder, job)["metrics"])
    found = findings(table)
    text = json.dumps({"rows": table, "findings": found}, indent=1, default=vars)
    write_whole((output / f"claims-{encoder}.json").resolve(), text.encode())
    print(f"claims, {encoder}")
    for name, interval in found.items():
        print(f"  {name}: {interval} ({interval.count} pairs)", flush=True)


def findings(table: Mapping[str, list[Row]]) -> dict[str, Interval]:
    """Means and paired differences, named."""
    result = {
        f"{label}: {metric}": bootstrap([row[metric] for row in rows])
        for label, rows in table.items()
        for metric in METRICS
    }
    without = [label for label in table if label.startswith("beta")]
    for label in [label for label in table if label not in without]:
        for metric in METRICS:
            differences = [
                a[metric] - b[metric]
                for a, b in zip(table[label], table["beta 1e+07"], strict=True)
            ]
            result[f"{label} less gamma 0: {metric}"] = bootstrap(differences)
        for metric in METRICS[1:]:
            ratios = [
                np.log(row[metric] / value)
                for index, row in enumerate(table[label])
                if row[metric] > 0
                and (value := matched([table[x][index] for x in without], row, metric)) is not None
            ]
            if ratios:
                result[f"{label}: log ratio of {metric} at equal content error"] = bootstrap(ratios)
    return result


def matched(curve: list[Row], row: Row, metric: str) -> float | None:
    """A metric along the curve of runs without attention, at the row's content error.

    Interpolated in logarithms; None outside the curve, or where the metric is 0.
    """
    points = sorted((p["content_distance"], p[metric]) for p in curve)
    contents, values = np.array(points).T
    if not (contents[0] <= row["content_distance"] <= contents[-1]) or (values <= 0).any():
        return None
    at = np.interp(np.log(row["content_distance"]), np.log(contents), np.log(values))
    return float(np.exp(at))
