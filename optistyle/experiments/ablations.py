"""Vary one setting at a time: the experiments of report 003, and questions that it left open.

Report 003 is Chen, "Neural Style Transfer with Self-Attention Module" (COGS 185, UC San Diego).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from optistyle.errors import InputError, unknown
from optistyle.experiments import grid, report
from optistyle.experiments.engines import Engine
from optistyle.experiments.grid import Job
from optistyle.experiments.runs import PICTURE, finished
from optistyle.experiments.sweep import Summary, sweep
from optistyle.layers import BLOCK_STARTS, POOL5
from optistyle.pictures import plots
from optistyle.published import preset
from optistyle.recipes import changed

METRICS = ("content_distance", "gram_distance", "self_similarity", "strays")


@dataclass(frozen=True)
class Ablation:
    """A question, and the settings that answer it side by side.

    Attributes:
        question: what the ablation is to show.
        source: where the question comes from.
        columns: label -> the settings that vary.
        base: settings of all columns, on top of the preset.
        preset: a name of `published.PRESETS`.
        curves: whether the losses are plotted too.
    """

    question: str
    source: str
    columns: Mapping[str, Mapping[str, Any]]
    base: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "default"
    curves: bool = False


def _each(name: str, values: Sequence[Any]) -> dict[str, dict[str, Any]]:
    return {f"{name} {value}": {name: value} for value in values}


ABLATIONS: Mapping[str, Ablation] = {
    "gamma": Ablation(
        "What does the attention loss add?",
        "report 003, figure 1: alpha 1, beta 1e7, 500 iterations",
        {"gamma 0": {"gamma": 0.0}, "gamma 6e6": {"gamma": 6e6}},
        preset="attention",
    ),
    "attention-layer": Ablation(
        "Which layer should attention compare?",
        "report 003, figure 2: gamma 5e7; with relu1_1 and relu2_1, which did not fit into its "
        "memory, and pool5 for its sixth level",
        {layer: {"attention_layers": layer} for layer in (*BLOCK_STARTS, POOL5)},
        {"gamma": 5e7},
        preset="attention",
    ),
    "optimizer": Ablation(
        "L-BFGS or Adam?",
        "report 003, figure 3: beta 1e6, gamma 5e6, Adam with step size 0.01",
        {"L-BFGS": {"optimizer": "lbfgs"}, "Adam 0.01": {"optimizer": "adam", "lr": 0.01}},
        {"beta": 1e6, "gamma": 5e6},
        preset="attention",
        curves=True,
    ),
    "gamma-range": Ablation(
        "How much attention is too much?",
        "left open by report 003",
        {f"gamma {text}": {"gamma": float(text)} for text in ("1e5", "1e6", "6e6", "3e7", "1e8")},
    ),
    "centre": Ablation(
        "Which features should the attention loss centre?",
        "left open by report 003, which reads as 'target'",
        _each("centre", ["both", "none", "target"]),
    ),
    "form": Ablation(
        "Should attention compare Gram matrices, or every position?",
        "left open by report 003",
        {
            "gamma 0": {"gamma": 0.0},
            "gram, gamma 6e6": {"attention_form": "gram", "gamma": 6e6},
            # The local form has the content loss's formula, and so its order of magnitude.
            **{
                f"local, gamma {gamma:g}": {"attention_form": "local", "gamma": gamma}
                for gamma in (1.0, 3.0, 10.0)
            },
        },
    ),
    "content-layer": Ablation(
        "Which layer should hold the content?",
        "report 003, section 2.1, chooses relu4_2",
        {x: {"content_layers": x} for x in ("relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1")},
    ),
    "style-layers": Ablation(
        "How deep should style reach?",
        "report 003, section 2.2, takes all five",
        {
            f"to {layer}": {"style_layers": ",".join(BLOCK_STARTS[: n + 1])}
            for n, layer in enumerate(BLOCK_STARTS)
        },
    ),
    "start": Ablation(
        "Does it matter where the optimisation starts?",
        "report 003 says white noise in its text",
        {f"from {init}": {"init": init} for init in ("content", "noise", "grey", "style")},
    ),
}


#: (content, style) files.
Pair = tuple[Path, Path]


@dataclass(frozen=True)
class Findings:
    """What an ablation came to.

    Attributes:
        figure: pictures, a row for each pair. Where one file would be too large, the next ones,
            ``figure-2.jpg`` and so on, are beside it.
        curves: losses against iterations and seconds, or None.
        table: label -> metric -> mean over pairs, with ``seconds``.
        summary: the sweep's.
    """

    figure: Path
    curves: Path | None
    table: Mapping[str, Mapping[str, float]]
    summary: Summary


def named(name: str) -> Ablation:
    """Look up an ablation.

    Raises:
        InputError: there is none of that name.

    >>> list(named("gamma").columns)
    ['gamma 0', 'gamma 6e6']
    """
    if name not in ABLATIONS:
        raise unknown("ablation", name, ABLATIONS)
    return ABLATIONS[name]


def ablate(
    ablation: Ablation,
    pairs: Sequence[Pair],
    output: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    engine: Engine | None = None,
    cell: int = 256,
    **options: Any,
) -> Findings:
    """Run an ablation over pairs of images, and draw the pictures side by side.

    A run that fails leaves its cell blank, and is left out of the means.

    Args:
        ablation: one of `ABLATIONS`, or another.
        pairs: content and style files.
        output: the sweep's folder; the figure is ``figure.jpg`` in it.
        changes: settings of all columns which the ablation does not vary: size, encoder …
        engine: see `sweep.sweep`.
        cell: longer side of a picture in the figure, in px.
        options: see `sweep.sweep`.

    Raises:
        InputError: as `sweep.sweep`, and for a change of what the ablation varies.
    """
    varied = {name for column in ablation.columns.values() for name in column}
    if clash := sorted(varied & set(changes or {})):
        raise InputError(f"{clash[0]} is what this ablation varies; leave it out")
    base = changed(preset(ablation.preset), {**ablation.base, **(changes or {})})
    recipes = {label: changed(base, column) for label, column in ablation.columns.items()}
    jobs: dict[tuple[Pair, str], Job] = {}
    for pair in pairs:
        for label, recipe in recipes.items():
            (jobs[pair, label],) = grid.jobs(pair[:1], pair[1:], [recipe], METRICS)
    every = list({job.key: job for job in jobs.values()}.values())
    summary = sweep(every, output, engine, **options)
    done = {
        at: (output / job.folder, manifest)
        for at, job in jobs.items()
        if (manifest := finished(output / job.folder, job)) is not None
    }
    rows: list[list[Path | None]] = []
    for pair in pairs:
        painted = [done[pair, x][0] / PICTURE if (pair, x) in done else None for x in recipes]
        rows.append([*pair, *painted])
    figure, *_ = report.sheets(
        output / "figure.jpg", rows, ["content", "style", *recipes], cell=cell, quality=88
    )
    table = {x: _means([done[at][1] for at in done if at[1] == x]) for x in recipes}
    curves = None
    first = {x: done[pairs[0], x][1] for x in recipes if (pairs[0], x) in done}
    if ablation.curves and first:
        curves = plots.losses(first, output / "curves.png")
    return Findings(figure, curves, table, summary)


def _means(manifests: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metric -> mean, with ``seconds``; empty where no run is finished."""
    values = [{**m["metrics"], "seconds": sum(m["seconds"])} for m in manifests]
    names = values[0] if values else ()
    return {name: float(np.mean([value[name] for value in values])) for name in names}


def markdown(table: Mapping[str, Mapping[str, float]]) -> str:
    """Write the table of `Findings` in Markdown."""
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, row in table.items():
        cells = [f"{row[name]:.3g}" if name in row else "failed" for name in names]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pairs_of(files: Sequence[Path]) -> list[Pair]:
    """Take files as pairs: content, style, content, style …

    Raises:
        InputError: no file, or an odd number of them.
    """
    if not files or len(files) % 2:
        raise InputError(
            f"{len(files)} files; give a content and a style, or several such pairs: C S C S"
        )
    return list(zip(files[::2], files[1::2], strict=True))
