"""Tables on pages, filled in by commands.

On a page every table stands below its name: ``<!-- gamma-slim -->``, an empty line, the table, and
another empty line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from optistyle.files import write_whole

_TABLE = re.compile(r"(?<=^<!-- )(\S+)( -->\n)\n?(?:\|.*\n)*\n?", re.MULTILINE)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(page: str, table: Callable[[str], str]) -> str:
    """The page with every table as ``table`` has it for its name, in place of what was there."""
    text = _TABLE.sub(lambda found: f"{found[1]}{found[2]}\n{table(found[1])}\n", page)
    return text.rstrip("\n") + "\n"


def fill(page: Path, table: Callable[[str], str]) -> None:
    """The same in a file."""
    text = filled(page.read_text(encoding="utf-8"), table)
    write_whole(page.resolve(), text.encode())
