"""What a sweep shows: a table, a contact sheet, and a page that needs nothing but a browser."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from optistyle import files, pictures, sizes
from optistyle.experiments.grid import Job, caption, varied
from optistyle.experiments.runs import MANIFEST, finished
from optistyle.recipes import Recipe
from optistyle.settings import spell

Row = Mapping[str, Any]
_THUMBNAIL, _CELL = 192, 320  # longer sides in px, on the page and on the sheet


def settings(recipe: Recipe) -> dict[str, Any]:
    """All settings as numbers and texts."""
    values = {setting.name: getattr(recipe, setting.name) for setting in fields(Recipe)}
    return {
        name: value if isinstance(value, int | float | None) else spell(value)
        for name, value in values.items()
    }


def table(rows: Sequence[Row], folder: Path) -> Path:
    """``results.parquet``, or ``results.csv`` where pyarrow is not installed."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
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


def contact_sheet(jobs: Sequence[Job], folders: Sequence[Path], path: Path) -> Path | None:
    """Contents and styles down, settings across, each labelled; None where nothing is finished."""
    names = varied(jobs)
    across = list(dict.fromkeys(caption(job.recipe, names) for job in jobs))
    down = list(dict.fromkeys(job.pair for job in jobs))
    cells: dict[tuple[str, str], Tensor] = {}
    for job, folder in zip(jobs, folders, strict=True):
        picture = folder / "picture.png"
        if (folder / MANIFEST).is_file() and picture.is_file():
            cells[job.pair, caption(job.recipe, names)] = small(picture, _CELL)
    if not cells:
        return None
    blank = next(iter(cells.values())).new_ones(1, 3, 16, 16)
    rows = [[cells.get((pair, setting), blank) for setting in across] for pair in down]
    pictures.write(path, pictures.sheet(rows, across, row_labels=down))
    return path


def small(path: Path, side: int) -> Tensor:
    """The picture in a file, (1, 3, H, W) in [0, 1], with that longer side in px."""
    picture = pictures.read(path)
    size = sizes.fit_longer_side(picture.height, picture.width, side)
    return pictures.resize(picture.pixels, size)


def page(jobs: Sequence[Job], rows: Sequence[Row], folders: Sequence[Path], path: Path) -> Path:
    """One HTML file: thumbnails, a table that sorts by any column, and loss curves."""
    names = varied(jobs)
    shown = ["content", "style", *names]
    measured = [n for row in rows for n in row if n.startswith(("loss_", "metric_"))]
    shown += [*dict.fromkeys(measured), "seconds", "status", "message"]
    body = []
    for job, row, folder in zip(jobs, rows, folders, strict=True):
        manifest = finished(folder, job)
        image = thumbnail(folder / "picture.png") if manifest else ""
        curve = _curve(manifest["trace"]) if manifest else ""
        cells = "".join(cell(row.get(name)) for name in shown)
        body.append(f"<tr><td>{image}</td>{cells}<td>{curve}</td></tr>")
    failed = sum(row["status"] != "finished" for row in rows)
    title = f"{len(rows)} runs" + f", {failed} failed" * bool(failed)
    note = "Losses are weighted, of the picture as saved."
    text = sortable(title, note, ("picture", *shown, "loss"), body)
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
    """A page that needs nothing but a browser: a table that sorts by a click on a heading.

    Args:
        title, note: plain text. head: of the columns. body: ``<tr>`` elements of `cell`.
        style: further CSS. before: HTML above the table.
    """
    return _PAGE.format(
        title=html.escape(title),
        note=html.escape(note),
        style=style,
        before=before,
        head="".join(f"<th>{html.escape(name)}</th>" for name in head),
        body="\n".join(body),
    )


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f'<td data-value="{value!r}">{value:.4g}</td>'
    text = "" if value is None else str(value)
    shown = Path(text).name if "/" in text else text
    return f'<td data-value="{html.escape(text)}">{html.escape(shown)}</td>'


def thumbnail(path: Path) -> str:
    """A small picture as an ``img``, its data in it."""
    return f'<img src="{thumbnail_data(path)}" alt="">'


def thumbnail_data(path: Path) -> str:
    """A small picture as a ``data:`` address."""
    data = pictures.encode(small(path, _THUMBNAIL), "JPEG", quality=85)
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
