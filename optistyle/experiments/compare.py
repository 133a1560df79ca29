"""Which method is better? Paint the same pairs by every method, and judge them alike.

.. code-block:: text

    report/
        compare.json                                              marks the folder as ours
        pictures/METHOD-0a1b2c3d4e/CONTENT__STYLE-0a1b2c3d.png    what was painted here
        rows/METHOD-0a1b2c3d4e/CONTENT__STYLE-0a1b2c3d.json       its metrics: the pair is done
        results.parquet (or .csv), means.md, findings.json
        METRIC.png, structure.png, histograms.png, report.html

The digits stand for all that a method's pictures depend on, and for the bytes of a pair's files.
Killed and started again, a comparison does what is missing. See `cases` for what is compared,
`findings` for the statistics and `compare_report` for the report.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import torch
from tqdm import tqdm

from optistyle import baselines, files, metrics, pictures, sizes
from optistyle.baselines.paint import paint
from optistyle.encoders.base import Encoder
from optistyle.errors import InputError
from optistyle.experiments import compare_report, judging, processes
from optistyle.experiments.cases import METHODS, OPTIMISERS, USUAL, Case, cases, pairs_of
from optistyle.experiments.compare_report import PAGE, draw, markdown
from optistyle.experiments.findings import Comparison, findings
from optistyle.experiments.judging import judge
from optistyle.experiments.naming import labels
from optistyle.experiments.processes import Lost, Report
from optistyle.machine import devices, locks
from optistyle.pictures import Picture
from optistyle.recipes import Recipe
from optistyle.run import load_encoder, resolved, stylize

__all__ = [
    "METHODS",
    "OPTIMISERS",
    "PAGE",
    "USUAL",
    "Case",
    "Comparison",
    "cases",
    "compare",
    "done",
    "draw",
    "findings",
    "judge",
    "markdown",
    "pairs_of",
]

#: Marks a folder as a comparison's.
_OWNER = "compare.json"

_log = logging.getLogger(__name__)


def compare(
    todo: Sequence[Case],
    output: Path,
    *,
    workers: int | None = None,
    stream: TextIO | None = sys.stderr,
) -> Comparison:
    """Paint and judge what is not done yet, and write the report.

    A picture that cannot be painted, judged or recorded has an ``error`` in place of metrics; the
    others are done, and the report is written. It is tried again the next time.

    Args:
        todo: the pictures, see `cases.cases`.
        output: the report's folder; it is created where it does not exist.
        workers: processes, 1 or more; by default one per torch thread, but one where optimisers
            paint on a GPU.
        stream: where progress is printed; None prints nothing.

    Raises:
        InputError: the folder cannot be written, or a metric needs what is not installed.
        KeyboardInterrupt: Ctrl-C; its message says how many pictures are done.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more")
    with locks.held(output):
        return _compare(todo, output, workers, stream)


def _compare(
    todo: Sequence[Case], output: Path, workers: int | None, stream: TextIO | None
) -> Comparison:
    rows = {case: row for case in todo if (row := done(case)) is not None}
    left = [case for case in todo if case not in rows]
    _check_needs({name for case in left for name in case.names})
    _log.info("%d of %d pictures are done; %d to do", len(rows), len(todo), len(left))
    _claim(output)
    try:
        with (
            tqdm(
                total=len(todo),
                initial=len(rows),
                unit="picture",
                file=stream,
                disable=stream is None,
            ) as bar,
            contextlib.closing(_judged(left, workers)) as judged,
        ):
            for case, row in judged:
                rows[case] = _recorded(case, row)
                bar.update()
        result = findings(_labelled(todo, rows))
        compare_report.write(result, todo, output)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}") from error
    except KeyboardInterrupt as error:  # its kind says which signal it was
        kept = sum(done(case) is not None for case in todo)
        error.args = (f"{kept} of {len(todo)} pictures are done and kept: start it again",)
        raise
    return result


def _claim(output: Path) -> None:
    """Mark the folder as a comparison's; `InputError` where it holds other things."""
    ours = [output / name for name in (_OWNER, "findings.json", "rows")]
    try:
        if not any(path.exists() for path in ours) and output.is_dir() and any(output.iterdir()):
            raise InputError(f"{output} is not empty, and not a comparison's: choose another -o")
        output.mkdir(parents=True, exist_ok=True)
        files.check_place(output / PAGE)
        files.write_whole(output.resolve() / _OWNER, b"{}")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}") from error


def _labelled(todo: Sequence[Case], rows: Mapping[Case, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the cases, with names of contents and of styles that are unique among them."""
    contents = labels((case.content for case in todo), suffix=True)
    styles = labels((case.style for case in todo), suffix=True)
    return [
        {**rows[case], "content": contents[case.content], "style": styles[case.style]}
        for case in todo
    ]


def _check_needs(names: Iterable[str]) -> None:
    """Raise `InputError` where a metric needs a package or a file that is not installed."""
    needy = [metrics.METRICS[name] for name in names if metrics.METRICS[name].needs]
    if needy:
        grey = torch.full((1, 3, 192, 192), 0.5)
        judged = metrics.Judged(grey, grey, grey, judging.judging_encoder())
        for metric in needy:
            metric.measure(judged)


def done(case: Case) -> dict[str, Any] | None:
    """Return the row of a case; None where it is to be painted or judged.

    A row counts if it holds the case's metrics, measured of the picture as it is now, by the judge
    of now (see `judging.judge_name`).
    """
    try:
        row: dict[str, Any] = json.loads(case.row.read_text(encoding="utf-8"))
        same = (
            row["picture sha256"] == files.digest(case.picture)
            and row["judge"] == judging.judge_name()
        )
        if not same or not set(case.names) <= set(row):
            return None
        return {k: x for k, x in row.items() if k not in metrics.METRICS or k in case.names}
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None


def _recorded(case: Case, row: dict[str, Any]) -> dict[str, Any]:
    """The row, written unless it holds an error; with an error where it cannot be written."""
    if "error" not in row:
        try:
            case.row.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(case.row.resolve(), json.dumps(row).encode())
        except OSError as error:
            row = {**row, "error": f"{case.row} cannot be written: {error.strerror or error}"}
    if "error" in row:
        _log.warning("%s, %s x %s: %s", case.method, row["content"], row["style"], row["error"])
    return row


def _judged(
    left: Sequence[Case], workers: int | None
) -> Generator[tuple[Case, dict[str, Any]], None, None]:
    """Rows as they come, from processes of this machine."""
    processors = torch.get_num_threads()
    count = min(len(left), workers or (1 if _on_gpu(left) else processors))
    threads = max(1, processors // max(1, count))
    for case, row in processes.spread(_reported, left, workers=count, threads=threads):
        if isinstance(row, Lost):
            row = {**_named(case), "error": row.message}
        if not isinstance(row, float):
            yield case, row


def _reported(case: Case, report: Report) -> dict[str, Any]:
    return perform(case)


def _on_gpu(left: Iterable[Case]) -> bool:
    """Whether pictures are optimised on a GPU, whose memory processes would have to share."""
    paints = any(case.size is not None and case.method in OPTIMISERS for case in left)
    return paints and devices.resolve().type == "cuda"


def _named(case: Case) -> dict[str, Any]:
    return {"method": case.method, "content": case.content.name, "style": case.style.name}


def perform(case: Case) -> dict[str, Any]:
    """Paint a case unless its picture is there, and judge it.

    Returns:
        The row: method, content and style, then the metrics, the judge and the picture's SHA-256;
        or an ``error`` in place of these.
    """
    row = _named(case)
    try:
        content, style = pictures.read(case.content), pictures.read(case.style)
        if case.size is not None and not case.picture.is_file():
            case.picture.parent.mkdir(parents=True, exist_ok=True)
            pictures.write(case.picture, _paint(case, content, style))
        output = pictures.read(case.picture)
        values, notes = judge(output.pixels, content.pixels, style.pixels, case.names)
        sha = files.digest(case.picture)
        return {**row, **values, **notes, "judge": judging.judge_name(), "picture sha256": sha}
    except InputError as error:
        return {**row, "error": str(error)}
    except Exception as error:
        return {**row, "error": f"{type(error).__name__}: {error}"}


def _paint(case: Case, content: Picture, style: Picture) -> Picture:
    assert case.size is not None
    if case.method in OPTIMISERS:
        recipe, network = _optimiser(case.method, case.encoder)
        recipe = replace(recipe, size=case.size)
        return stylize(content, style, recipe, encoder=network, progress=False).picture
    at = sizes.fit_longer_side(content.height, content.width, case.size)
    return paint(_model(case.method), content, [style], at)


@functools.cache
def _model(name: str) -> baselines.Baseline:
    return baselines.load(name)


@functools.cache
def _optimiser(name: str, encoder: str) -> tuple[Recipe, Encoder]:
    recipe = resolved(replace(OPTIMISERS[name], encoder=encoder))
    return recipe, load_encoder(recipe)
