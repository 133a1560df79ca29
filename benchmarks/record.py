"""Results with machine, versions and date, one JSON file a benchmark and day."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from optistyle.experiments.intervals import bootstrap
from optistyle.files import write_whole
from optistyle.run import versions

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    threads = torch.get_num_threads()
    return {"cpu": _processor(), "cores": os.cpu_count(), "threads": threads, "gpu": gpu}


def _processor() -> str:
    """Its name; on Linux with family and model, for a virtual one's name may leave them out."""
    listed = Path("/proc/cpuinfo")
    if not listed.exists():
        return platform.processor() or platform.machine()
    fields = (line.partition(":") for line in listed.read_text().split("\n\n")[0].splitlines())
    facts = {name.strip(): value.strip() for name, _, value in fields}
    words = [facts.get("model name", platform.machine())]
    words += [f"{x} {facts[x]}" for x in ("cpu family", "model") if x in facts]
    return ", ".join(words)


def commit() -> str:
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent
    )
    return head.stdout.strip() or "unknown"


def peak() -> int:
    """Bytes that this program has taken at the most; of Linux.

    Not getrusage's, in which is what the program that started this one takes.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def save(name: str, rows: Any) -> Path:
    """Write ``results/NAME-DATE.json``; a second run on the same day replaces the first."""
    now = datetime.now(timezone.utc)
    content = {
        "benchmark": name,
        "date": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{now:%Y-%m-%d}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def place(folder: Path, *words: object) -> Path:
    """The file to keep a row in, named by words; its folder is made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (" ".join(map(str, words)).replace(" ", "_") + ".json")


def kept(path: Path, facts: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]) -> Any:
    """A row, from its file where it was measured before."""
    if not path.exists():
        write_whole(path, json.dumps({**facts, **measure()}).encode())
    row = json.loads(path.read_text())
    print(json.dumps(row), flush=True)
    return row


def compared(
    rows: Sequence[Mapping[str, Any]], contender: str
) -> dict[tuple[str, int, str], dict[str, Mapping[str, Any]]]:
    """By encoder, size and what the column ``contender`` names: the row of every pair."""
    found: dict[tuple[str, int, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["encoder"], row["px"], row[contender]), {})[row["pair"]] = row
    return found


def mean_ratio(ratios: Sequence[float]) -> str:
    """The geometric mean, with a 95 % bootstrap interval."""
    return str(bootstrap(np.log(ratios), lambda logs: np.exp(logs.mean(-1))))


def table(header: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; numbers to three significant digits, None for what was not reached."""

    def cell(value: Any) -> str:
        if value is None:
            return "not reached"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [header, ["---"] * len(header), *([cell(x) for x in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def listed(rows: Sequence[Mapping[str, Any]]) -> str:
    """A `table` of rows that all have the same keys."""
    return table(list(rows[0]), [list(row.values()) for row in rows])
