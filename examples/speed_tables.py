"""The tables of docs/speed.md and docs/quality.md, and its plot, from the newest results recorded.

python examples/speed_tables.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tables

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # the benchmarks are not installed

from benchmarks import record, schedules, steps  # noqa: E402

PAGES = tuple(ROOT / "docs" / name for name in ("speed.md", "quality.md"))

Row = Mapping[str, Any]


def newest(name: str, folder: Path = record.RESULTS) -> Any:
    """The rows of a benchmark's latest results; none where it never ran."""
    files = sorted(folder.glob(f"{name}-2*.json"))
    return json.loads(files[-1].read_text())["rows"] if files else {}


def plain(rows: Sequence[Row]) -> str:
    """Rows as they are."""
    return record.listed(rows) + "\n" if rows else ""


def together(kind: str, folder: Path) -> list[Row]:
    """The newest results of all benchmarks of a kind, by encoder and size."""
    names = {path.stem.rsplit("-", 3)[0] for path in folder.glob(f"{kind}-*.json")}
    rows = [row for name in sorted(names) for row in newest(name, folder)]
    return sorted(rows, key=lambda row: (row["encoder"], row["px"]))


def _schedules(folder: Path = record.RESULTS) -> Sequence[Row]:
    return newest(f"schedules-{schedules.SIZE}", folder).get("painted", [])


def made(folder: Path = record.RESULTS) -> dict[str, str]:
    """Name -> table; nothing where a benchmark never ran."""
    speed, parts = newest("speed", folder), newest("parts", folder)
    return {
        "ratios": plain(speed.get("ratios", ())),
        "errors": plain(newest("gradients", folder)),
        "race": plain(together("race", folder)),
        "steps": plain(steps.means(together("steps", folder))),
        "schedules": plain(schedules.means(_schedules(folder))),
        **{
            name: plain(parts.get(name, ()))
            for name in ("convolutions", "allocator", "tiles", "solver", "attention")
        },
        "beside": plain(together("beside", folder)),
        "sizes": plain(together("sizes", folder)),
    }


if __name__ == "__main__":
    for page in PAGES:
        tables.fill(page, made().__getitem__)
    schedules.front(_schedules(), ROOT / "docs" / "front.png")
