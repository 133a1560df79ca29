"""The tables of docs/report-003.md hold the numbers that were measured."""

from __future__ import annotations

import re

import report_003_tables as tables

FOLDER = tables.PAGE.with_suffix("")


def test_the_page_holds_what_was_measured() -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(page, FOLDER) == page
    named = re.findall(r"^<!-- (\S+) -->$", page, re.MULTILINE)
    assert sorted(named) == sorted(path.stem for path in FOLDER.glob("*.json"))
    assert page.count("\n|---|") == len(named)  # no table without numbers


def test_a_wrong_number_and_a_missing_table_are_mended() -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    (cell,) = re.findall(r"<!-- gamma-slim -->\n\n.*\n.*\n\| gamma 0 \| (\S+) \|", page)
    assert tables.filled(page.replace(f"| gamma 0 | {cell} |", "| gamma 0 | 9 |"), FOLDER) == page
    bare = re.sub(r"^\|.*\n", "", page, flags=re.MULTILINE)
    assert "\n|" not in bare
    assert tables.filled(bare, FOLDER) == page


def test_ratios_that_there_are_not_leave_their_cells_empty() -> None:
    interval = {"mean": -0.01234, "low": -0.5, "high": 1.0, "count": 3}
    metrics = tables.COLUMNS
    found = {f"{label}: {name}": interval for label in ("beta 1e+07", "local") for name in metrics}
    found |= {f"local less gamma 0: {name}": interval for name in metrics}
    found["local: log ratio of strays at equal content error"] = interval
    text = tables.claims({"rows": {"beta 1e+07": [], "local": []}, "findings": found})
    assert text.splitlines()[2:] == [
        "| beta 1e+07, gamma 0 | -0.0123 | -0.0123 | -0.0123 | -0.0123 |",
        "| local | -0.0123 | -0.0123 | -0.0123 | -0.0123 |",
        "| local, less gamma 0 |" + 4 * " -0.0123 [-0.5, 1] |",
        "| local, log ratio at equal content error (pairs) |  |  |  | -0.0123 [-0.5, 1] (3) |",
    ]
