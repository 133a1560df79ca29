"""The report of a comparison: tables, figures, and a page that needs nothing but a browser."""

from __future__ import annotations

import html
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optistyle import files, metrics, pictures
from optistyle.experiments import report
from optistyle.experiments.cases import Case
from optistyle.experiments.findings import Comparison
from optistyle.experiments.intervals import Interval
from optistyle.pictures import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"

_Table = Mapping[str, Mapping[str, Interval]]
_ROWS = 1500  # on the page; of more rows it shows the worst and the best

_log = logging.getLogger(__name__)


def write(comparison: Comparison, todo: Sequence[Case], output: Path) -> None:
    """Write the tables, the figures where they can be drawn, and the page.

    Args:
        comparison: what to report.
        todo: the case of every row.
        output: the report's folder.
    """
    report.table([_flat(row) for row in comparison.rows], output)
    files.write_whole((output / "means.md").resolve(), markdown(comparison).encode())
    facts = {
        "means": comparison.means,
        "differences": comparison.differences,
        "at equal content error": comparison.matched,
        "failed": [row for row in comparison.rows if "error" in row],
    }
    text = json.dumps(facts, indent=1, default=vars)
    files.write_whole((output / "findings.json").resolve(), text.encode())
    for name, make in _figures(comparison, todo):
        try:
            plots.save(make(), output / name)
        except Exception as error:  # matplotlib is an extra, and a metric may be infinite
            _log.warning("%s is not drawn: %s", name, error)
    files.write_whole((output / PAGE).resolve(), page(comparison, todo).encode())


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "picture sha256"}


def markdown(comparison: Comparison) -> str:
    """Tabulate means, paired differences and those at equal content error, with intervals."""
    parts = []
    for title, rows in _findings(comparison):
        names = _columns(rows)
        better = [f"{name} ({metrics.METRICS[name].better})" for name in names]
        lines = [f"## {title}", "", f"| | {' | '.join(better)} |", "|---" * (len(names) + 1) + "|"]
        lines += [
            f"| {label} | {' | '.join(str(row.get(name, '')) for name in names)} |"
            for label, row in rows.items()
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts or ["No means and intervals: no method has 2 pairs or more."]) + "\n"


def _table(title: str, rows: _Table) -> str:
    """The same as HTML."""
    names = _columns(rows)
    head = "".join(f"<th>{x} ({metrics.METRICS[x].better} is better)</th>" for x in names)
    body = "".join(
        f"<tr><td>{html.escape(label)}</td>"
        + "".join(f"<td>{row.get(name, '')}</td>" for name in names)
        + "</tr>"
        for label, row in rows.items()
    )
    return f"<h2>{title}</h2><table><tr><th></th>{head}</tr>{body}</table>"


def _findings(comparison: Comparison) -> Iterator[tuple[str, _Table]]:
    """The tables that are not empty, with their titles."""
    for title, rows in (
        ("Means", comparison.means),
        ("Paired differences", comparison.differences),
        ("Paired differences at equal content error", comparison.matched),
    ):
        counts = {interval.count for row in rows.values() for interval in row.values()}
        if counts:
            low, high = min(counts), max(counts)
            pairs = str(low) if low == high else f"{low} to {high}"
            yield f"{title}, {pairs} pairs, 95 % intervals", rows


def _columns(rows: _Table) -> list[str]:
    return list(dict.fromkeys(name for row in rows.values() for name in row))


def draw(comparison: Comparison, todo: Sequence[Case], output: Path) -> None:
    """Draw means with intervals, the polar plot of report 000's figure 5, histograms as in its 6a.

    Args:
        comparison: what to draw.
        todo: the case of every row.
        output: a folder, for ``METRIC.png``, ``structure.png`` and ``histograms.png``.

    Raises:
        InputError: matplotlib is not installed, or a picture cannot be read.
    """
    for name, make in _figures(comparison, todo):
        plots.save(make(), output / name)


def _figures(
    comparison: Comparison, todo: Sequence[Case]
) -> Iterator[tuple[str, Callable[[], Figure]]]:
    names = list(dict.fromkeys(name for row in comparison.means.values() for name in row))
    for name in names:
        yield f"{name}.png", partial(_means, comparison, name)
    if "self_similarity" in names:
        yield "structure.png", partial(_polar, comparison)
    if "chi_square" in names:
        yield "histograms.png", partial(_histograms, comparison, todo)


def _means(comparison: Comparison, name: str) -> Figure:
    """A metric by method: the distribution over pairs, its mean and the interval."""
    methods = [m for m in comparison.means if name in comparison.means[m]]
    figure, ((axis,),) = plots.axes(1, 1, 1.2 + 0.9 * len(methods), 3.2)
    values = [[r[name] for r in comparison.rows if r["method"] == m and name in r] for m in methods]
    axis.violinplot(values, showextrema=False)
    for at, method in enumerate(methods, start=1):
        interval = comparison.means[method][name]
        axis.errorbar(
            at,
            interval.mean,
            [[max(0, interval.mean - interval.low)], [max(0, interval.high - interval.mean)]],
            fmt="o",
            color="black",
        )
    axis.set_xticks(range(1, len(methods) + 1), methods)
    axis.set_ylabel(f"{name} ({metrics.METRICS[name].better} is better)")
    return figure


def _polar(comparison: Comparison) -> Figure:
    """Contents along the radius, styles around, the self-similarity error as colour."""
    good = [row for row in comparison.rows if "self_similarity" in row]
    contents = {name: i for i, name in enumerate(dict.fromkeys(r["content"] for r in good), 1)}
    styles = {name: i for i, name in enumerate(dict.fromkeys(r["style"] for r in good))}
    methods = list(dict.fromkeys(row["method"] for row in good))
    figure, (axes,) = plots.axes(1, len(methods), 3.4, 3.4, projection="polar")
    most = float(np.percentile([row["self_similarity"] for row in good], 98))
    for axis, method in zip(axes, methods, strict=True):
        rows = [row for row in good if row["method"] == method]
        points = axis.scatter(
            [2 * math.pi * styles[row["style"]] / len(styles) for row in rows],
            [contents[row["content"]] for row in rows],
            c=[row["self_similarity"] for row in rows],
            vmin=0,
            vmax=most,
            s=9,
        )
        axis.set_title(method)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(points, ax=list(axes), label="self-similarity error", shrink=0.8)
    return figure


def _histograms(comparison: Comparison, todo: Sequence[Case]) -> Figure:
    """The pair nearest to each method's median distance: style filled, output as a line."""
    methods = list(dict.fromkeys(r["method"] for r in comparison.rows if "chi_square" in r))
    figure, axes = plots.axes(len(methods), 3, 2.6, 1.6)
    for line, method in zip(axes, methods, strict=True):
        pairs = [
            (row["chi_square"], case)
            for row, case in zip(comparison.rows, todo, strict=True)
            if row["method"] == method and "chi_square" in row
        ]
        distance, case = sorted(pairs, key=lambda pair: pair[0])[len(pairs) // 2]
        for index, (axis, name) in enumerate(zip(line, ("red", "green", "blue"), strict=True)):
            for file, filled in ((case.style, True), (case.picture, False)):
                values = 255 * pictures.read(file).pixels[0, index].flatten().numpy()
                style = {"alpha": 0.4, "color": name} if filled else {"color": "black"}
                kind = "stepfilled" if filled else "step"
                axis.hist(values, 64, range=(0, 255), density=True, histtype=kind, **style)
            axis.set_yticks([])
        line[0].set_ylabel(f"{method}\n{distance:.3f}", fontsize=8)
    return figure


def page(comparison: Comparison, todo: Sequence[Case]) -> str:
    """Make one HTML page: the tables, then every picture with its metrics, the worst first.

    Args:
        comparison: what to report.
        todo: the case of every row; the first metric of the first case ranks the pictures.
    """
    names = [name for name in todo[0].names if any(name in row for row in comparison.rows)]
    pairs = list(zip(comparison.rows, todo, strict=True))
    if names:
        sign = 1 if metrics.METRICS[names[0]].better == "lower" else -1
        pairs.sort(key=lambda pair: -sign * pair[0].get(names[0], sign * math.inf))
    note = "worst first"
    if len(pairs) > _ROWS:
        note = f"the {_ROWS // 2} worst and best of {len(pairs)}"
        pairs = pairs[: _ROWS // 2] + pairs[-_ROWS // 2 :]
    inputs = dict.fromkeys(file for _, case in pairs for file in (case.content, case.style))
    classes = {file: f"p{index}" for index, file in enumerate(inputs)}
    style = [
        "i { display: block; width: 120px; height: 120px; background: center/contain no-repeat }"
    ]
    for file, name in classes.items():
        if data := report.thumbnail_data(file):
            style.append(f".{name} {{ background-image: url({data}) }}")
    body = []
    for row, case in pairs:
        picture = report.thumbnail(case.picture) if "error" not in row else ""
        images = "".join(
            f'<td><i class="{classes[x]}"></i></td>' for x in (case.content, case.style)
        )
        cells = "".join(
            report.cell(row.get(name))
            for name in ("method", "content", "style", *names, "resized", "error")
        )
        body.append(f"<tr><td>{picture}</td>{images}{cells}</tr>")
    head = ["output", "content", "style", "method", "content", "style", *names, "resized", "error"]
    tables = "\n".join(_table(title, rows) for title, rows in _findings(comparison))
    return report.sortable(
        f"{len(comparison.rows)} pictures, {comparison.failed} failed",
        note,
        head,
        body,
        "\n".join(style),
        tables,
    )
