"""What tests of the command line share: short runs, and commands that must be refused."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from optistyle.cli import main

FAST = ["--encoder", "slim", "--device", "cpu", "--size", "32", "--iterations", "2"]


def optistyle(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def paint(*arguments: str) -> Result:
    return optistyle("run", "content.png", "style.png", *FAST, *arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(folder: Path, *arguments: str) -> str:
    """The one line on stderr of a command that must fail and write nothing."""
    before = contents(folder)
    result = optistyle(*arguments)
    assert result.exit_code == 2, result.output
    assert contents(folder) == before
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("optistyle: ")
    return line
