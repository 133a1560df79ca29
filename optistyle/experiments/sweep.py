"""Many runs into one folder, which can be killed at any moment and started again.

.. code-block:: text

    runs/
        sweep.json                       whose folder this is
        chelsea-swirls-0a1b2c3d4e/       content, styles, and the start of the job's key
            picture.png
            trace.csv                    every evaluation: scale, iteration, losses
            manifest.json                written last: a run that has it is finished
            failure.json                 in place of these where it failed
        results.parquet (or .csv), sheet.jpg, report.html
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from optistyle import files, pictures
from optistyle.errors import InputError
from optistyle.experiments import report
from optistyle.experiments.engines import Engine, local
from optistyle.experiments.grid import Job
from optistyle.experiments.runs import MANIFEST, finished, write_json
from optistyle.experiments.work import Failure, Outcome, Worker

_OWNER, _FAILURE = "sweep.json", "failure.json"


@dataclass(frozen=True)
class Summary:
    """What a sweep did.

    Attributes:
        folders: of all jobs, in their order.
        made, kept, failed: how many were run now, were there already, and could not be done.
        results: the table. sheet: the contact sheet. page: the HTML report.
    """

    folders: list[Path]
    made: int
    kept: int
    failed: int
    results: Path
    sheet: Path | None
    page: Path


def sweep(
    jobs: Sequence[Job],
    output: Path,
    engine: Engine | None = None,
    *,
    stream: TextIO | None = sys.stderr,
) -> Summary:
    """Do the jobs that are not done yet, and write the reports.

    Args:
        jobs: see `grid.read` and `grid.jobs`.
        output: the folder; it is made if it is not there.
        engine: see `engines`; processes of this machine by default.
        stream: where progress goes; None for nowhere.

    Raises:
        InputError: the folder holds other things, or cannot be written.
        KeyboardInterrupt: Ctrl-C, with what is done until then.
    """
    _claim(output, jobs)
    engine = engine or local()
    try:
        _measure_anew(jobs, output)
        left = [job for job in jobs if finished(output / job.folder, job) is None]
        kept, failed = len(jobs) - len(left), 0
        with _Progress(len(jobs), kept, stream) as progress:
            for event in engine(left) if left else ():
                if isinstance(event.news, float):
                    progress.shows(event.job, event.news)
                    continue
                _write(output / event.job.folder, event.job, event.news)
                failed += isinstance(event.news, Failure)
                progress.ended(event.job, event.news)
        folders = [output / job.folder for job in jobs]
        rows = [row(job, folder) for job, folder in zip(jobs, folders, strict=True)]
        results = report.table(rows, output)
        sheet = report.contact_sheet(jobs, folders, output / "sheet.jpg")
        page = report.page(jobs, rows, folders, output / "report.html")
        return Summary(folders, len(left) - failed, kept, failed, results, sheet, page)
    except KeyboardInterrupt:
        there = sum(finished(output / job.folder, job) is not None for job in jobs)
        raise KeyboardInterrupt(
            f"{there} of {len(jobs)} runs are done and kept: start it again"
        ) from None


def _measure_anew(jobs: Sequence[Job], output: Path) -> None:
    """Measure what is asked for now of pictures that are there: no run is repeated for that."""
    worker = Worker()
    for job in jobs:
        folder = output / job.folder
        if finished(folder, job) is not None:
            continue
        manifest = finished(folder, replace(job, metrics=()))
        if manifest is None:
            continue
        with contextlib.suppress(InputError):  # without its picture the run is repeated
            picture = pictures.read(folder / "picture.png")
            manifest["judge"], manifest["metrics"] = worker.judge(job, picture.pixels)
            write_json(folder.resolve() / MANIFEST, manifest)


def row(job: Job, folder: Path) -> dict[str, Any]:
    """A line of the results: inputs, settings, losses, time, metrics, and how it ended."""
    start = {
        "content": str(job.content),
        "style": " + ".join(map(str, job.styles)),
        "folder": folder.name,
        **report.settings(job.recipe),
    }
    manifest = finished(folder, job)
    if manifest is None:
        try:
            message = json.loads((folder / _FAILURE).read_text(encoding="utf-8"))["message"]
        except (OSError, ValueError, KeyError):
            message = "not run"
        return {**start, "status": "failed", "message": message}
    return {
        **start,
        "encoder_used": manifest["encoder"],
        "device_used": manifest["device"],
        "seconds": sum(manifest["seconds"]),
        **{f"loss_{name}": value for name, value in manifest["final"].items()},
        **{f"metric_{name}": value for name, value in manifest.get("metrics", {}).items()},
        "status": "finished",
        "message": " ".join(manifest["warnings"]),
    }


def _claim(output: Path, jobs: Sequence[Job]) -> None:
    """Make the folder ours, or raise `InputError` if it is somebody else's.

    A sweep may grow: a folder is ours as long as one of its jobs is still among these.
    """
    owner, keys = output / _OWNER, [job.key for job in jobs]
    try:
        if owner.is_file():
            known = json.loads(owner.read_text(encoding="utf-8"))["jobs"]
            if not set(known) & set(keys):
                raise InputError(
                    f"{output} belongs to another sweep: none of its {len(known)} runs is in this "
                    "one; choose another -o"
                )
            keys = [*known, *(key for key in keys if key not in set(known))]
        elif output.is_dir() and any(output.iterdir()):
            raise InputError(f"{output} is not empty, and not a sweep's: choose another -o")
        output.mkdir(parents=True, exist_ok=True)
        write_json(owner.resolve(), {"jobs": keys})
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{output} cannot be used as a sweep's folder: {error}") from error


def _write(folder: Path, job: Job, news: Outcome | Failure) -> None:
    """A job's files, the one that says that all are there last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / _FAILURE).unlink(missing_ok=True)
    if isinstance(news, Failure):
        write_json(folder.resolve() / _FAILURE, {"key": job.key, "message": news.message})
        return
    files.write_whole(folder.resolve() / "picture.png", news.png)
    files.write_whole(folder.resolve() / "trace.csv", _csv(news.manifest["trace"]).encode())
    write_json(folder.resolve() / MANIFEST, {"key": job.key, **news.manifest})


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["scale", "iteration", "total"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class _Progress:
    """One tqdm bar over all jobs, in jobs; plain lines where the stream is no terminal."""

    def __init__(self, total: int, kept: int, stream: TextIO | None) -> None:
        self._total, self._stream, self._count = total, stream, kept
        self._running: dict[str, float] = {}
        self._bar: tqdm | None = None
        if stream is not None and stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=kept,
                file=stream,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining} {desc}",
            )
        elif stream is not None and kept:
            print(f"{kept} of {total} are there already", file=stream, flush=True)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def shows(self, job: Job, share: float) -> None:
        self._running[job.folder] = share
        if self._bar is not None:
            names = ", ".join(f"{name} {share:.0%}" for name, share in self._running.items())
            self._bar.set_description_str(f"{self._count}/{self._total}  {names}", refresh=False)
            self._bar.update(self._count + sum(self._running.values()) - self._bar.n)

    def ended(self, job: Job, news: Outcome | Failure) -> None:
        self._running.pop(job.folder, None)
        self._count += 1
        how = "failed: " + news.message if isinstance(news, Failure) else "done"
        if isinstance(news, Outcome):
            how += f", {sum(news.manifest['seconds']):.0f} s"
        line = f"{self._count}/{self._total}  {job.folder}  {how}"
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
            self._bar.update(self._count + sum(self._running.values()) - self._bar.n)
        elif self._stream is not None:
            print(line, file=self._stream, flush=True)
