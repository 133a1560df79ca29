"""How much longer ``optistyle run`` takes beside a busy process, by how its threads wait."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks import pairs, record, speed
from optistyle.pictures import encode

SIZE, ITERATIONS = 256, 40
#: How threads wait: the command line's own way, and GNU's OpenMP's where nothing is set.
WAYS: Mapping[str, Mapping[str, str]] = {
    "bounded spinning": {},
    "OpenMP's default": {"GOMP_SPINCOUNT": "300000"},
}


@contextmanager
def busy() -> Iterator[None]:
    """A process that computes on one thread."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def measure(encoder: str, folder: Path) -> list[dict[str, Any]]:
    """Seconds from start to end of a run, alone and beside a busy process, for every way."""
    content, style = folder / "content.png", folder / "style.png"
    content.write_bytes(encode(pairs.photograph("astronaut")))
    style.write_bytes(encode(pairs.painting("swirls")))
    arguments = ["run", str(content), str(style), "-q", "--force", "--encoder", encoder]
    arguments += ["--size", str(SIZE), "--scales", "single", "--iterations", str(ITERATIONS)]
    arguments += ["-o", str(folder / "out.png")]
    rows = []
    for way, variables in WAYS.items():
        with patch.dict(os.environ, variables):
            alone, _ = speed.start(arguments)
            with busy():
                beside, _ = speed.start(arguments)
        facts = {"encoder": encoder, "px": SIZE, "iterations": ITERATIONS, "threads wait by": way}
        rows.append({**facts, "alone": alone, "beside": beside, "times as long": beside / alone})
        print(rows[-1], flush=True)
    return rows


def medians(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Over rounds, one line for each way."""
    lines = []
    for way in dict.fromkeys(row["threads wait by"] for row in rows):
        same = [row for row in rows if row["threads wait by"] == way]
        numbers = ("alone", "beside", "times as long")
        lines.append({**same[0], **{name: median(row[name] for row in same) for name in numbers}})
    return lines


def main(names: Sequence[str], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for _ in range(rounds) for name in names for row in measure(name, Path(folder))]
    for name in names:
        lines = medians([row for row in rows if row["encoder"] == name])
        print(record.listed(lines))
        print(record.save(f"beside-{name}-{SIZE}", lines))
