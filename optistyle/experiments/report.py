"""The reports of a sweep: a table, contact sheets, and a page that needs nothing but a browser."""

from __future__ import annotations

import base64
import csv
import html
import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optistyle import files, pictures, sizes
from optistyle.errors import InputError
from optistyle.experiments.grid import FILES, Job, Pair, caption, pair_labels, varied
from optistyle.experiments.naming import printable
from optistyle.experiments.runs import PICTURE, finished
from optistyle.recipes import Recipe
from optistyle.settings import spell

Row = Mapping[str, Any]
_THUMBNAIL, _CELL = 192, 320  # longer sides in px, on the page and on sheets
#: Cells of a wide sheet shrink down to this side in px; a sheet has at most so many px across,
#: down (a JPEG ends at 65 535) and in all (in memory, 12 bytes each).
_LEAST_CELL, _ACROSS, _DOWN, _AREA = 64, 16_000, 60_000, 64_000_000
_GAP = 8

_log = logging.getLogger(__name__)


def settings(recipe: Recipe) -> dict[str, Any]:
    """All settings of a recipe as numbers and texts."""
    values = {setting.name: getattr(recipe, setting.name) for setting in fields(Recipe)}
    return {
        name: value if isinstance(value, int | float | None) else spell(value)
        for name, value in values.items()
    }


def table(rows: Sequence[Row], folder: Path) -> Path:
    """Write ``results.parquet``, or ``results.csv`` where pyarrow is not installed.

    Args:
        rows: column -> value; columns that a row lacks are empty in it.
        folder: where to write.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    rows = [{k: printable(x) if isinstance(x, str) else x for k, x in row.items()} for row in rows]
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        path = folder / "results.csv"
        files.write_whole(path.resolve(), text.getvalue().encode())
        return path
    # Columns of numbers and texts alike, as size 512 and 'original' may be, become texts.
    values = {name: [row.get(name) for row in rows] for name in columns}
    for name, column in values.items():
        if any(isinstance(x, str) for x in column):
            values[name] = [None if x is None else str(x) for x in column]
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(values), buffer)
    path = folder / "results.parquet"
    files.write_whole(path.resolve(), buffer.getvalue())
    return path


def contact_sheets(jobs: Sequence[Job], folders: Sequence[Path], path: Path) -> list[Path]:
    """Write sheets of all pictures: contents and styles down, settings across, each labelled.

    Returns:
        The files, see `sheets`; none where no job is finished.
    """
    names = varied(jobs)
    across = list(dict.fromkeys(caption(job.recipe, names) for job in jobs))
    down = {pair: " x ".join(both) for pair, both in pair_labels(jobs).items()}
    cells: dict[tuple[Pair, str], Path] = {}
    for job, folder in zip(jobs, folders, strict=True):
        if finished(folder, job) is not None:
            cells[job.pair, caption(job.recipe, names)] = folder / PICTURE
    if not cells:
        return []
    rows = [[cells.get((pair, setting)) for setting in across] for pair in down]
    return sheets(path, rows, across, list(down.values()))


def sheets(
    path: Path,
    rows: Sequence[Sequence[Path | None]],
    columns: Sequence[str],
    row_labels: Sequence[str] | None = None,
    *,
    cell: int = _CELL,
    quality: int = 95,
) -> list[Path]:
    """Write a contact sheet, or several where one would be too large for its format or for memory.

    Args:
        path: of the first sheet; the next ones are ``NAME-2``, ``NAME-3`` and so on, each with as
            many columns and rows as it can hold.
        rows: picture files; None, and a file that cannot be read, leaves a cell blank.
        columns: captions, one for each column.
        row_labels: captions, one for each row, if any.
        cell: longer side of a picture in px; less where there are many columns.
        quality: of a JPEG, 1 to 100.
    """
    cell = max(_LEAST_CELL, min(cell, _ACROSS // len(columns) - _GAP))
    wide = min(len(columns), _ACROSS // (cell + _GAP))
    high = min(_DOWN, _AREA // (wide * (cell + _GAP))) // (cell + _GAP)
    blank = torch.ones(1, 3, 16, 16)
    written: list[Path] = []
    for top in range(0, len(rows), high):
        for left in range(0, len(columns), wide):
            images = [
                [blank if file is None else _shown(file, cell, blank) for file in row]
                for row in (row[left : left + wide] for row in rows[top : top + high])
            ]
            number = f"-{len(written) + 1}" if written else ""
            file = path.with_name(files.fitted(path.stem, f"{number}{path.suffix}"))
            labels = None if row_labels is None else row_labels[top : top + high]
            sheet = pictures.sheet(images, columns[left : left + wide], _GAP, labels)
            pictures.write(file, sheet, quality=quality)
            written.append(file)
    return written


def _shown(path: Path, side: int, blank: Tensor) -> Tensor:
    """`small`, or the blank one where the file cannot be read."""
    try:
        return small(path, side)
    except InputError as error:
        _log.warning("left out of a report: %s", error)
        return blank


def small(path: Path, side: int) -> Tensor:
    """Read a picture at a longer side of ``side`` px: (1, 3, H, W) in [0, 1].

    Raises:
        InputError: a file that cannot be read.
    """
    picture = pictures.read(path)
    size = sizes.fit_longer_side(picture.height, picture.width, side)
    return pictures.resize(picture.pixels, size)


def page(jobs: Sequence[Job], rows: Sequence[Row], folders: Sequence[Path], path: Path) -> Path:
    """Write one HTML file: thumbnails, a table that sorts by any column, and loss curves.

    Args:
        jobs: all jobs.
        rows: the row of each, see `sweep.row`.
        folders: the folder of each.
        path: the file.
    """
    names = varied(jobs)
    columns = ["content", "style", *names]
    measured = [n for row in rows for n in row if n.startswith(("loss_", "metric_"))]
    columns += [*dict.fromkeys(measured), "seconds", "status", "message"]
    pairs = pair_labels(jobs)
    body = []
    for job, row, folder in zip(jobs, rows, folders, strict=True):
        manifest = finished(folder, job)
        image = thumbnail(folder / PICTURE) if manifest else ""
        curve = _curve(manifest["trace"]) if manifest else ""
        short = dict(zip(("content", "style"), pairs[job.pair], strict=True))
        short |= {name: Path(row[name]).name for name in FILES if row.get(name)}
        cells = "".join(cell(row.get(name), short.get(name)) for name in columns)
        body.append(f"<tr><td>{image}</td>{cells}<td>{curve}</td></tr>")
    failed = sum(row["status"] != "finished" for row in rows)
    title = f"{len(rows)} runs" + f", {failed} failed" * bool(failed)
    note = "Losses are weighted, of the picture as saved."
    text = sortable(title, note, ("picture", *columns, "loss"), body)
    files.write_whole(path.resolve(), text.encode())
    return path


def sortable(
    title: str,
    note: str,
    head: Sequence[str],
    body: Sequence[str],
    style: str = "",
    before: str = "",
) -> str:
    """An HTML page with a table that sorts by a click on a heading.

    Args:
        title: plain text.
        note: plain text below the title.
        head: the headings of the columns, plain text.
        body: ``<tr>`` elements, made of `cell`.
        style: further CSS.
        before: HTML above the table.
    """
    return _PAGE.format(
        title=html.escape(title),
        note=html.escape(note),
        style=style,
        before=before,
        head="".join(f"<th>{html.escape(name)}</th>" for name in head),
        body="\n".join(body),
    )


def cell(value: Any, shown: str | None = None) -> str:
    """A ``<td>`` that sorts by a value, and shows it or a shorter text.

    >>> cell(0.5)
    '<td data-value="0.5">0.5</td>'
    """
    if isinstance(value, float):
        return f'<td data-value="{value!r}">{value:.4g}</td>'
    text = printable("" if value is None else str(value))
    return f'<td data-value="{html.escape(text)}">{html.escape(printable(shown or text))}</td>'


def thumbnail(path: Path) -> str:
    """A small picture as an ``<img>`` that holds its data; empty where the file cannot be read."""
    data = thumbnail_data(path)
    return f'<img src="{data}" alt="">' if data else ""


def thumbnail_data(path: Path) -> str:
    """A small picture as a ``data:`` URL; empty where the file cannot be read."""
    try:
        data = pictures.encode(small(path, _THUMBNAIL), "JPEG", quality=85)
    except InputError as error:
        _log.warning("left out of a report: %s", error)
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _curve(trace: Sequence[Mapping[str, Any]]) -> str:
    """The total loss against iterations as an SVG, logarithmic; scales follow one another."""
    totals = [row["total"] for row in trace if row["total"] and row["total"] > 0]
    if len(totals) < 2:
        return ""
    logs = [math.log10(total) for total in totals]
    low, high = min(logs), max(logs)
    points = " ".join(
        f"{160 * i / (len(logs) - 1):.1f},{60 - 60 * (y - low) / (high - low or 1):.1f}"
        for i, y in enumerate(logs)
    )
    title = f"{totals[0]:.3g} to {totals[-1]:.3g} in {len(totals)} evaluations"
    return (
        f'<svg width="160" height="62"><title>{title}</title>'
        f'<polyline points="{points}" fill="none" stroke="currentColor"/></svg>'
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>optistyle: {title}</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 1.5em; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: 4px 8px; border-bottom: 1px solid #ccc; text-align: left; }}
th {{ cursor: pointer; position: sticky; top: 0; background: #fff; }}
th[data-order]::after {{ content: " \\25B4"; }}
th[data-order="-1"]::after {{ content: " \\25BE"; }}
img {{ display: block; }}
{style}
</style></head><body>
<h1>{title}</h1>
{before}
<p>Click a heading to sort. {note}</p>
<table id="rows"><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table>
<script>
for (const th of document.querySelectorAll("#rows th")) th.onclick = () => {{
  const order = th.dataset.order === "1" ? -1 : 1, column = th.cellIndex;
  const body = document.querySelector("#rows tbody");
  const value = row => row.cells[column].dataset.value ?? "";
  const compare = (a, b) => {{
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");  // gaps last, either way
    const numbers = !isNaN(x) && !isNaN(y);
    return order * (numbers ? x - y : x.localeCompare(y));
  }};
  body.append(...[...body.rows].sort(compare));
  document.querySelectorAll("#rows th").forEach(other => delete other.dataset.order);
  th.dataset.order = order;
}};
</script></body></html>
"""
