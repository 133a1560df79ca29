"""The command line where streams, names, homes and locales are not as usual."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from commands import FAST

#: A name that is not UTF-8.
LATIN = os.fsdecode(b"caf\xe9.png")


def started(
    *arguments: str, streams: str = "", under: tuple[str, ...] = (), **environment: str | None
) -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own.

    Args:
        arguments: of optistyle.
        streams: redirections, as a shell writes them.
        under: a program and its arguments that start the command.
        environment: changes; None removes a variable.
    """
    variables: Mapping[str, str | None] = {**os.environ, **environment}
    return subprocess.run(
        [
            "sh",
            "-c",
            f'"$@" {streams}',
            "sh",
            *under,
            sys.executable,
            "-m",
            "optistyle",
            *arguments,
        ],
        capture_output=True,
        env={name: value for name, value in variables.items() if value is not None},
        timeout=300,
    )


def painted(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return started("run", "content.png", "style.png", *FAST, *arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("streams", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_no_picture(folder: Path, streams: str) -> None:
    result = painted(streams=streams)
    assert result.returncode == 0, result.stderr
    assert (folder / "out.png").is_file()
    assert json.loads((folder / "out.json").read_text())["output"] == "out.png"
    assert b"Error" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("streams", [">/dev/full 2>&1"])
def test_full_streams_cost_no_picture(folder: Path, streams: str) -> None:
    result = painted(streams=streams)
    assert result.returncode == 0, result.stderr
    assert (folder / "out.png").is_file()
    assert b"Error" not in result.stderr


@pytest.mark.parametrize("command", ["presets", "--help"])
@pytest.mark.parametrize("streams", [">&-", ">/dev/full"])
def test_what_stdout_was_to_hold_is_missed(command: str, streams: str) -> None:
    result = started(command, streams=streams)
    assert result.returncode == 2
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("optistyle: stdout cannot be written: ")


def test_a_picture_to_a_closed_stdout_is_not_begun(folder: Path) -> None:
    result = painted("-o", "-", streams=">&-")
    assert result.returncode == 2
    assert (
        result.stderr == b"optistyle: -o - writes a PNG to stdout, which is closed: name a file\n"
    )
