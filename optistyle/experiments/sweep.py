"""Many runs into one folder, which can be killed at any moment and started again.

.. code-block:: text

    runs/
        sweep.json                       which sweep the folder belongs to
        chelsea-swirls-0a1b2c3d4e/       content, styles, and the start of the job's key;
            …                            see `runs`
        results.parquet (or .csv), sheet.jpg, report.html
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from optistyle import pictures
from optistyle.errors import InputError
from optistyle.experiments import report, runs
from optistyle.experiments.engines import Engine, local
from optistyle.experiments.grid import Job
from optistyle.experiments.naming import printable
from optistyle.experiments.runs import finished
from optistyle.experiments.work import Failure, Outcome, Worker
from optistyle.machine import locks

_OWNER = "sweep.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a sweep did.

    Attributes:
        folders: the folder of every job, in the order of the jobs.
        made: how many jobs were run now.
        kept: how many had been finished before.
        failed: how many failed.
        results: the table, Parquet or CSV.
        sheets: the contact sheets; several where one would be too large, none where every job
            failed.
        page: the HTML report.
    """

    folders: list[Path]
    made: int
    kept: int
    failed: int
    results: Path
    sheets: list[Path]
    page: Path


def sweep(
    jobs: Sequence[Job],
    output: Path,
    engine: Engine | None = None,
    *,
    stream: TextIO | None = sys.stderr,
) -> Summary:
    """Run the jobs that are not finished yet, and write the reports.

    A job that fails is recorded; the others are run, and the reports are written.

    Args:
        jobs: see `grid.read` and `grid.jobs`.
        output: the folder; it is created where it does not exist.
        engine: where the jobs run, see `engines`; by default in processes of this machine.
        stream: where progress is printed; None prints nothing.

    Raises:
        InputError: the folder holds other things, cannot be written, or another process writes it.
        KeyboardInterrupt: Ctrl-C; its message says how many jobs are finished.
    """
    with locks.held(output):
        return _sweep(jobs, output, engine, stream)


def _sweep(
    jobs: Sequence[Job], output: Path, engine: Engine | None, stream: TextIO | None
) -> Summary:
    _claim(output, jobs)
    try:
        _measure_anew(jobs, output)
        left = [job for job in jobs if finished(output / job.folder, job) is None]
        kept = len(jobs) - len(left)
        _log.info("%d of %d runs are finished; %d to do", kept, len(jobs), len(left))
        failures = _run(left, output, engine or local(), _Progress(len(jobs), kept, stream))
        folders = [output / job.folder for job in jobs]
        rows = [row(job, output / job.folder, failures.get(job.key)) for job in jobs]
        results = report.table(rows, output)
        sheets = report.contact_sheets(jobs, folders, output / "sheet.jpg")
        page = report.page(jobs, rows, folders, output / "report.html")
    except KeyboardInterrupt as error:  # its kind says which signal it was
        there = sum(finished(output / job.folder, job) is not None for job in jobs)
        error.args = (f"{there} of {len(jobs)} runs are done and kept: start it again",)
        raise
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}") from error
    failed = len(failures)
    return Summary(folders, len(left) - failed, kept, failed, results, sheets, page)


def _run(left: Sequence[Job], output: Path, engine: Engine, progress: _Progress) -> dict[str, str]:
    """Run the jobs and write what comes of them; key -> message of the jobs that failed."""
    failures: dict[str, str] = {}
    with progress:
        for event in engine(left) if left else ():
            if isinstance(event.news, float):
                progress.shows(event.job, event.news)
                continue
            failure = runs.write(output / event.job.folder, event.job, event.news)
            if failure is not None:
                failures[event.job.key] = failure.message
            progress.ended(event.job, failure or event.news)
    return failures


def _measure_anew(jobs: Sequence[Job], output: Path) -> None:
    """Measure finished pictures again where other metrics are asked for, or the judge is another.

    A picture that cannot be measured so is left to be run again.
    """
    worker = Worker()
    for job in jobs:
        folder = output / job.folder
        manifest = finished(folder, replace(job, metrics=()))
        if manifest is None or finished(folder, job) is not None:
            continue
        _log.info("%s is measured again, not run", folder.name)
        try:
            picture = pictures.read(folder / runs.PICTURE)
            manifest["judge"], manifest["metrics"] = worker.judge(job, picture.pixels)
            runs.write_json(folder / runs.MANIFEST, manifest)
        except Exception as error:
            _log.warning("%s cannot be measured and is run again: %s", folder.name, error)


def row(job: Job, folder: Path, failure: str | None = None) -> dict[str, Any]:
    """Tabulate a job: inputs, settings, losses, seconds, metrics, and how it ended.

    Args:
        job: the job.
        folder: of its run.
        failure: why it failed; by default what the folder says.
    """
    start = {
        "content": str(job.content),
        "style": " + ".join(map(str, job.styles)),
        "folder": folder.name,
        **report.settings(job.recipe),
    }
    manifest = finished(folder, job)
    if manifest is None:
        return {**start, "status": "failed", "message": failure or runs.failure(folder)}
    judged = {"judge": manifest["judge"]} if job.metrics else {}
    return {
        **start,
        "encoder_used": manifest["encoder"],
        "device_used": manifest["device"],
        "seconds": sum(manifest["seconds"]),
        **{f"loss_{name}": value for name, value in manifest["final"].items()},
        **{f"metric_{name}": manifest["metrics"][name] for name in job.metrics},
        **judged,
        "status": "finished",
        "message": " ".join(manifest["warnings"]),
    }


def _claim(output: Path, jobs: Sequence[Job]) -> None:
    """Mark the folder as this sweep's; `InputError` where it belongs to something else.

    A sweep may grow, and another version may run it: the folder belongs to this sweep as long as
    one of the requests in it is among these jobs.
    """
    owner, requests = output / _OWNER, [job.request for job in jobs]
    try:
        if owner.is_file():
            known = json.loads(owner.read_text(encoding="utf-8"))["jobs"]
            if not set(known) & set(requests):
                raise InputError(
                    f"{output} belongs to another sweep: none of its {len(known)} runs is in this "
                    "one; choose another -o"
                )
            requests = list(dict.fromkeys([*known, *requests]))
        elif output.is_dir() and any(output.iterdir()):
            raise InputError(f"{output} is not empty, and not a sweep's: choose another -o")
        output.mkdir(parents=True, exist_ok=True)
        runs.write_json(owner, {"jobs": requests})
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{output} cannot be used as a sweep's folder: {error}") from error


class _Progress:
    """One progress bar over all jobs; plain lines where the stream is no terminal."""

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
        how = f"failed: {printable(news.message)}" if isinstance(news, Failure) else "done"
        if isinstance(news, Outcome):
            how += f", {sum(news.manifest['seconds']):.0f} s"
        line = f"{self._count}/{self._total}  {job.folder}  {how}"
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
            self._bar.update(self._count + sum(self._running.values()) - self._bar.n)
        elif self._stream is not None:
            print(line, file=self._stream, flush=True)
