"""The tables of docs/report-003.md, filled in from the numbers in docs/report-003/.

python examples/report_003_tables.py

On the page every table stands below the name of its numbers: ``<!-- gamma-slim -->`` means
docs/report-003/gamma-slim.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tables

from optistyle.experiments.intervals import Interval
from optistyle.files import write_whole

PAGE = Path(__file__).parents[1] / "docs" / "report-003.md"
#: Metric -> its name on the page.
COLUMNS = {
    "content_distance": "content",
    "gram_distance": "Gram",
    "self_similarity": "self-similarity",
    "strays": "strays",
}


def table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Label -> metric -> cell, in Markdown; empty where there is none."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for label, row in rows.items():
        lines.append(f"| {label} | " + " | ".join(row.get(name, "") for name in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def ablation(numbers: Mapping[str, Mapping[str, float]]) -> str:
    """The table of what `ablations.ablate` found."""
    return table(
        {
            label: {name: f"{value:.3g}" for name, value in row.items()}
            for label, row in numbers.items()
        }
    )


def claims(numbers: Mapping[str, Any]) -> str:
    """The table of what `claims.run` found: means, then what attention changes."""
    found = {name: Interval(**values) for name, values in numbers["findings"].items()}
    rows: dict[str, dict[str, str]] = {}
    for label in numbers["rows"]:
        without = ", gamma 0" if label.startswith("beta") else ""
        rows[label + without] = {name: f"{found[f'{label}: {name}'].mean:.3g}" for name in COLUMNS}
    for label in numbers["rows"]:
        if label.startswith("beta"):
            continue
        less, ratio = f"{label}, less gamma 0", f"{label}, log ratio at equal content error (pairs)"
        rows[less], rows[ratio] = {}, {}
        for name in COLUMNS:
            rows[less][name] = str(found[f"{label} less gamma 0: {name}"])
            interval = found.get(f"{label}: log ratio of {name} at equal content error")
            if interval is not None:
                rows[ratio][name] = f"{interval} ({interval.count})"
    return table(rows)


def filled(page: str, folder: Path) -> str:
    """The page with every table as the numbers in the folder have it."""

    def numbered(name: str) -> str:
        numbers = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return (claims if "findings" in numbers else ablation)(numbers)

    return tables.filled(page, numbered)


def main(page: Path = PAGE) -> None:
    """Fill the page in."""
    text = filled(page.read_text(encoding="utf-8"), page.with_suffix(""))
    write_whole(page.resolve(), text.encode())


if __name__ == "__main__":
    main()
