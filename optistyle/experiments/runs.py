"""A run's folder, as `sweep` writes it and others read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from optistyle import files
from optistyle.experiments.grid import Job

#: Written last: a run that has it is finished.
MANIFEST = "manifest.json"


def finished(folder: Path, job: Job) -> dict[str, Any] | None:
    """The manifest where a folder holds this very job's whole result, its metrics included."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        measured = set(manifest.get("metrics", ()))
        whole = manifest["key"] == job.key and set(job.metrics) <= measured
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    files.write_whole(path, json.dumps(value, indent=1).encode())
