"""A run's folder: the files that a sweep writes into it, and how others read them.

.. code-block:: text

    chelsea-swirls-0a1b2c3d4e/
        picture.png
        trace.csv         every evaluation: scale, iteration, losses
        manifest.json     written last: a run that has it is finished
        failure.json      in place of the others where the run failed
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optistyle import files
from optistyle.experiments import judging
from optistyle.experiments.grid import Job
from optistyle.experiments.work import Failure, Outcome

PICTURE, MANIFEST, FAILURE = "picture.png", "manifest.json", "failure.json"

_log = logging.getLogger(__name__)


def finished(folder: Path, job: Job) -> dict[str, Any] | None:
    """Return the manifest of a job's finished run; None where the run is to be done or measured.

    Args:
        folder: the run's folder, which need not exist.
        job: its key must be the manifest's, and its metrics must have been measured by the judge
            of now (see `judging.judge_name`): numbers of different judges cannot be compared.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = manifest["key"] == job.key and (folder / PICTURE).is_file()
        measured = set(job.metrics) <= set(manifest.get("metrics", ()))
        judged = not job.metrics or manifest.get("judge") == judging.judge_name()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if whole and measured and judged else None


def failure(folder: Path) -> str:
    """Why the run of a folder failed, or that it has not been run."""
    try:
        return str(json.loads((folder / FAILURE).read_text(encoding="utf-8"))["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return "not run"


def write(folder: Path, job: Job, news: Outcome | Failure) -> Failure | None:
    """Write what came of a job, the file that marks the run as finished last.

    Returns:
        The failure, where the job or the writing failed.
    """
    if isinstance(news, Outcome):
        try:
            _clear(folder)
            files.write_whole(folder.resolve() / PICTURE, news.png)
            files.write_whole(folder.resolve() / "trace.csv", _csv(news.manifest["trace"]).encode())
            write_json(folder / MANIFEST, {"key": job.key, **news.manifest})
            return None
        except OSError as error:
            news = Failure(f"{folder} cannot be written: {error.strerror or error}")
    _log.warning("%s failed: %s", folder.name, news.message)
    with contextlib.suppress(OSError):
        _clear(folder)
        write_json(folder / FAILURE, {"key": job.key, "message": news.message})
    return news


def _clear(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / FAILURE).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    files.write_whole(path.resolve(), json.dumps(value, indent=1).encode())


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["scale", "iteration", "total"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
