"""Plots with matplotlib, an extra: what numbers alone do not show."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optistyle import files
from optistyle.errors import InputError, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUFFIXES = (".png", ".jpg", ".pdf", ".svg")


def axes(
    rows: int,
    columns: int,
    width: float = 3.2,
    height: float = 3.0,
    projection: str | None = None,
) -> tuple[Figure, Any]:
    """A figure and its (rows, columns) axes; ``width`` and ``height`` of each in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError('figures need matplotlib: pip install "optistyle[experiments]"') from error
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    kind = {"projection": projection}
    return figure, figure.subplots(rows, columns, squeeze=False, subplot_kw=kind)


def check_writable(path: Path, inputs: Sequence[Path]) -> None:
    """Raise `InputError` where a figure cannot be written."""
    if path.suffix.lower() not in _SUFFIXES:
        raise unknown("extension of a figure", path.suffix, _SUFFIXES)
    files.check_place(path, inputs)


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all: PNG, JPEG, PDF or SVG."""
    buffer = io.BytesIO()
    # Without a version and a date inside, the same figure gives the same bytes.
    dated = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    kind = path.suffix.lower()
    figure.savefig(buffer, format=kind[1:], dpi=110, metadata=dated.get(kind))
    files.write_whole(path.resolve(), buffer.getvalue())


def losses(runs: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Total losses against iterations and against seconds.

    An iteration is one evaluation of objective and gradient: at each scale the seconds are shared
    equally among its iterations.

    Args:
        runs: label -> manifest.
        path: the figure.
    """
    figure, ((by_iteration, by_second),) = axes(1, 2, 4.5, 3.4)
    for label, manifest in runs.items():
        totals = [row["total"] for row in manifest["trace"]]
        scales = [row["scale"] for row in manifest["trace"]]
        each = {s: manifest["seconds"][s] / scales.count(s) for s in set(scales)}
        seconds, passed = [], 0.0
        for scale in scales:
            passed += each[scale]
            seconds.append(passed)
        by_iteration.plot(range(1, len(totals) + 1), totals, label=label)
        by_second.plot(seconds, totals, label=label)
    for axis, name in ((by_iteration, "iterations"), (by_second, "seconds")):
        axis.set_yscale("log")
        axis.set_xlabel(name)
        axis.set_ylabel("total loss")
        axis.grid(alpha=0.3)
        axis.legend()
    save(figure, path)
    return path
