"""The code keeps to docs/architecture.md: imports go down, files and functions are short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "optistyle"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MOST_LINES, MOST_IN_A_FUNCTION = 450, 60

#: Functions that are longer, and why.
LONG_FUNCTIONS = {
    "cli/run.py:run": "a parameter for every option of the main command",
    "optimise/solvers.py:step": "one step of L-BFGS reads best as the algorithm is written",
}


@cache
def trees() -> dict[str, ast.Module]:
    """File, relative to the package -> its syntax."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def layers() -> dict[str, int]:
    """Room -> layer, from the page's table."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert len({room for _, room in rows}) == len(rows)
    return {room: int(layer) for layer, room in rows}


def room(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def imported(tree: ast.Module) -> Iterator[str]:
    """The rooms that a file imports from, at its top or inside functions."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("optistyle."):
                yield name.split(".")[1]


def test_every_room_is_on_the_map() -> None:
    rooms = {room(file) for file in trees()} - {"__init__", "__main__"}
    assert rooms == set(layers())


def test_imports_go_down() -> None:
    numbers = layers()
    upward = [
        f"{file} imports {other}"
        for file, tree in trees().items()
        if room(file) in numbers  # __init__ and __main__ are above all rooms
        for other in imported(tree)
        if other != room(file) and numbers[other] >= numbers[room(file)]
    ]
    assert upward == []


def test_every_layer_is_needed() -> None:
    """A room stands as low as its imports allow."""
    numbers = layers()
    below: dict[str, set[int]] = {name: {0} for name in numbers}
    for file, tree in trees().items():
        if room(file) in numbers:
            below[room(file)] |= {numbers[x] for x in imported(tree) if x != room(file)}
    assert {name: max(found) + 1 for name, found in below.items()} == numbers


def test_files_are_short() -> None:
    counts = {
        file: len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in trees()
    }
    assert not {file for file, count in counts.items() if count > MOST_LINES}


def test_functions_are_short() -> None:
    """Docstrings do not count."""
    found = set()
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                first = node.body[0]
                text = ast.get_docstring(node) is not None
                docstring = (first.end_lineno or 0) - first.lineno + 1 if text else 0
                if (node.end_lineno or 0) - node.lineno + 1 - docstring > MOST_IN_A_FUNCTION:
                    found.add(f"{file}:{node.name}")
    assert found == set(LONG_FUNCTIONS)


def test_the_files_on_the_page_exist() -> None:
    files = re.findall(r"`((?:\w+/)*\w+\.py)`", PAGE)
    assert len(files) > 8
    for file in files:
        assert (PACKAGE / file).is_file() or (ROOT / file).is_file(), file
