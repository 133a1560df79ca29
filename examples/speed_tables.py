"""The tables of docs/speed.md, from the newest results in benchmarks/results.

python examples/speed_tables.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tables

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "speed.md"
RESULTS = ROOT / "benchmarks" / "results"

Row = Mapping[str, Any]


def newest(name: str, folder: Path = RESULTS) -> Any:
    """The rows of a benchmark's latest results; none where it never ran."""
    files = sorted(folder.glob(f"{name}-2*.json"))
    return json.loads(files[-1].read_text())["rows"] if files else {}


def number(value: Any) -> str:
    """Three significant digits; nothing for what was not reached."""
    if value is None:
        return "not reached"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def plain(rows: Sequence[Row]) -> str:
    """Rows as they are."""
    if not rows:
        return ""
    return tables.markdown([*rows[0]], [[number(x) for x in row.values()] for row in rows])


def made(folder: Path = RESULTS) -> dict[str, str]:
    """Name -> table; nothing where a benchmark never ran."""
    speed, parts = newest("speed", folder), newest("parts", folder)
    return {
        **{name: plain(speed.get(name, ())) for name in ("ratios", "errors")},
        "race": plain(newest("race", folder)),
        "schedules": plain(newest("schedules", folder).get("means", ())),
        **{name: plain(parts.get(name, ())) for name in ("tiles", "solver", "attention")},
    }


if __name__ == "__main__":
    tables.fill(PAGE, made().__getitem__)
