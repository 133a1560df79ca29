"""The command line where streams, names, homes and locales are not as usual."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from commands import FAST, optistyle, paint
from PIL import Image

from optistyle.cli import main
from optistyle.files import LONGEST

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


@pytest.fixture
def latin(folder: Path) -> Path:
    """A copy of the content under a name that is not UTF-8."""
    try:
        shutil.copy("content.png", LATIN)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    return Path(LATIN)


@pytest.mark.parametrize(("charset", "name"), [("utf-8", "\\udce9"), ("ascii", "?")])
def test_run_prints_names_that_no_encoding_holds(latin: Path, charset: str, name: str) -> None:
    """The .json holds them so that they can be read back."""
    output = os.fsdecode(b"\xe9.png")
    arguments = ["run", LATIN, "style.png", *FAST, "-o", output]
    result = CliRunner(charset=charset).invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{name}.png  (32x21, ")
    assert "painting caf\\udce9.png in the style of style.png" in result.stderr
    record = json.loads(Path(output).with_suffix(".json").read_text())
    assert record["output"] == output
    assert record["inputs"]["content"]["path"] == str(latin.absolute())
    again = CliRunner(charset=charset).invoke(
        main, ["run", "--from", str(Path(output).with_suffix(".json"))]
    )
    assert again.exit_code == 0, again.output
    assert again.stdout.startswith(f"{name}-again.png  (32x21, ")


COMMANDS = {
    "sweep": ["sweep", "grid.toml", "-o", "out"],
    "compare": [
        *("compare", "contents", "styles", "--outputs", "there=there", "-o", "out"),
        *("--metrics", "ssim"),
    ],
    "attention": [
        *("attention", LATIN, "style.png", "--point", "3,3", "-o", os.fsdecode(b"\xe9.png")),
        *("--encoder", "slim", "--size", "64"),
    ],
    "baseline": [
        *("baseline", "adain", LATIN, "style.png", "--size", "64"),
        *("-o", os.fsdecode(b"\xe9.png")),
    ],
    "evaluate": ["evaluate", LATIN, "--content", LATIN, "--style", LATIN, "--metrics", "ssim"],
    "folder": ["run", "contents", "style.png", *FAST, "-o", "out"],
    "refused": ["run", os.fsdecode(b"\xe9.png"), "style.png", "-o", os.fsdecode(b"\xea.png")],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_names_that_are_not_utf_8(
    latin: Path, folder: Path, command: str
) -> None:
    for place in ("contents", "styles", "there"):
        (folder / place).mkdir()
        name = LATIN if place != "there" else f"{Path(LATIN).stem}_{LATIN}"
        shutil.copy("style.png", f"{place}/{name}")
    (folder / "grid.toml").write_text(
        'contents = ["contents/*"]\nstyles = ["styles/*"]\n[settings]\nencoder = "slim"\n'
        'device = "cpu"\nsize = 32\niterations = 2\n'
    )
    result = CliRunner(charset="ascii").invoke(main, COMMANDS[command])
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code == (2 if command == "refused" else 0), result.output


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help-all"], ["evaluate", "--help"]])
def test_help_is_printed_in_every_encoding(arguments: list[str]) -> None:
    result = CliRunner(charset="ascii").invoke(main, arguments)
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert "\\" not in result.stdout


def test_names_as_long_as_a_disk_takes(folder: Path) -> None:
    """What is written beside an output has a shorter name where it needs one, an own one each."""
    for letter in "ab":
        output = folder / f"{'x' * 250}{letter}.png"
        arguments = ("-o", str(output), "--snapshot-every", "1", "--checkpoint-every", "0")
        assert paint(*arguments).exit_code == 0
    pictures, reports = sorted(folder.glob("x*.png")), sorted(folder.glob("x*.json"))
    assert len(pictures) == 6
    assert len(reports) == 2
    assert all(len(path.name) <= LONGEST for path in (*pictures, *reports))
    (report,) = {x for x in reports if json.loads(x.read_text())["output"] == output.name}
    assert optistyle("run", "--from", str(report)).exit_code == 0


def test_folders_and_sweeps_of_long_names(folder: Path) -> None:
    for place in ("contents", "styles"):
        (folder / place).mkdir()
        shutil.copy("style.png", f"{place}/{'é' * 125}.png")
    result = optistyle("run", "contents", f"styles/{'é' * 125}.png", *FAST, "-o", "out")
    assert result.exit_code == 0, result.output
    assert (folder / "out" / f"{'é' * 125}.png").is_file()
    assert len([*(folder / "out").iterdir()]) == 2


#: Starts a command as a user without a passwd entry and a home, who may read everything.
NOBODY = ("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups")
READING = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")


@pytest.mark.parametrize(
    ("command", "home"),
    [("run", None), ("evaluate", None), ("run", "/"), ("run", "relative"), ("info", None)],
)
def test_a_user_without_a_name_and_a_home(folder: Path, command: str, home: str | None) -> None:
    as_nobody = [*NOBODY, *READING]
    can = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("setpriv")
    if not can or subprocess.run([*as_nobody, "true"], capture_output=True).returncode:
        pytest.skip("users cannot be changed here")
    folder.chmod(0o777)
    for parent in folder.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    arguments = {
        "run": ["run", "content.png", "style.png", *FAST],
        "evaluate": [
            *("evaluate", "content.png", "--content", "content.png", "--style", "style.png"),
            *("--metrics", "ssim"),
        ],
        "info": ["info"],
    }[command]
    nameless = dict.fromkeys(("USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME"))
    result = started(*arguments, under=tuple(as_nobody), HOME=home, **nameless)
    assert result.returncode == 0, result.stderr
    assert not (folder / "~").exists()


def test_a_folder_with_pictures_that_cannot_be_written(folder: Path) -> None:
    """The others are painted, also where two names collide and one cannot be read."""
    (folder / "contents").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save("contents/a.png")
    shutil.copy("content.png", "contents/b.png")
    shutil.copy("content.png", "contents/B.jpg")
    result = started(
        *("run", "contents", "style.png", *FAST[:4], "--size", "original", "-o", "out"),
        *("--iterations", "1", "--scales", "single"),
        under=("sh", "-c", 'ulimit -f 100; exec "$@"', "sh"),  # a full disk fails in the same place
    )
    lines = result.stderr.decode().splitlines()
    assert result.returncode == 1, lines
    assert lines[-1] == "optistyle: 2 painted, 0 finished before, 1 failed"
    assert any("a.png cannot be written: File too large" in line for line in lines)
    assert len([*(folder / "out").glob("*.png")]) == 2
