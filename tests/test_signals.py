"""What ends a command early: Ctrl-C, SIGTERM, SIGHUP, closed pipes; and two runs on one output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optistyle import pictures
from optistyle.errors import InputError
from optistyle.machine import locks, signals
from optistyle.machine.signals import Interruption, Interrupts

ROOT = Path(__file__).parents[1]
LONG = ["--encoder", "slim", "--device", "cpu", "--size", "48", "--iterations", "100000"]
Start = Callable[..., "subprocess.Popen[str]"]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """``optistyle`` as a process of its own; what is left of it is killed at the end."""
    processes = []

    def started(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "optistyle", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=_heeding,
        )
        processes.append(process)
        return process

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def _heeding() -> None:
    """In the new process: signals as a terminal has them, however these tests were started."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - began < 100
        time.sleep(0.02)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_a_run_with_the_picture_so_far(
    folder: Path, start: Start, name: str, code: int
) -> None:
    process = start("run", "content.png", "style.png", *LONG, "--snapshot-every", "2")
    wait_for(folder / "out-00002.png", process)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert said.splitlines()[-1] == (
        "optistyle: interrupted: out.png holds the picture so far; --resume goes on"
    )
    assert "Traceback" not in said
    assert pictures.read("out.png").width == 48
    assert json.loads(Path("out.json").read_text())["interrupted"]
    assert Path("out.png.checkpoint").exists()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_nohup_keeps_a_run_alive(folder: Path, start: Start) -> None:
    ignoring = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    ignoring += "os.execv(sys.argv[1], sys.argv[1:])"
    options = ["--encoder", "slim", "--device", "cpu", "--size", "48", "--iterations", "60"]
    process = start(
        *("run", "content.png", "style.png", *options, "--snapshot-every", "2"),
        before=(sys.executable, "-c", ignoring),
    )
    wait_for(folder / "out-00002.png", process)
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert not json.loads(Path("out.json").read_text())["interrupted"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("delay", [0, 0.5])
def test_ctrl_c_during_imports_is_one_line(folder: Path, start: Start, delay: float) -> None:
    before = sorted(folder.iterdir())
    process = start("run", "content.png", "style.png", *LONG, "-q")
    status, began = Path(f"/proc/{process.pid}/status"), time.monotonic()
    caught = 0
    while not caught & (1 << signal.SIGTERM - 1):  # Python itself handles SIGINT only
        assert time.monotonic() - began < 60
        caught = int(status.read_text().split("SigCgt:")[1].split()[0], 16)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    output, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert (output, said.strip()) == ("", "optistyle: interrupted; nothing was written")
    assert sorted(folder.iterdir()) == before


# --- Interrupts in this process ---


@pytest.fixture
def usual() -> Iterator[None]:
    """Ctrl-C as in a terminal, and as it was afterwards."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.001)


@pytest.mark.usefixtures("usual")
def test_a_second_ctrl_c_ends_the_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_TOGETHER", 0.0)
    with Interrupts() as interrupts:
        with pytest.raises(Interruption) as first:
            press()
        interrupts.hold()
        with pytest.raises(Interruption, match="again, while saving"):
            press()
    assert first.value.code == 130
    assert interrupts.count == 2


@pytest.mark.usefixtures("usual")
def test_signals_at_the_same_moment_are_one() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(Interruption) as caught:
            press(signal.SIGINT)
        press(signal.SIGTERM)
    assert (caught.value.code, interrupts.count) == (130, 1)


@pytest.mark.usefixtures("usual")
def test_a_signal_while_a_finished_picture_is_saved_waits() -> None:
    with Interrupts() as interrupts:
        interrupts.hold()
        press()
        with pytest.raises(Interruption):
            interrupts.release()


@pytest.mark.usefixtures("usual")
def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    after = [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before


def test_under_torchrun_sigterm_stays_with_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) == before


# --- closed pipes ---


@pytest.mark.parametrize(
    "command",
    [
        "presets | head -1",
        "run content.png style.png -q --size 32 --iterations 2 --encoder slim -o - | true",
    ],
)
def test_a_closed_pipe_is_quiet(folder: Path, command: str) -> None:
    first, _, last = command.partition(" | ")
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m optistyle {first} | {last}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stderr == ""
    assert not Path("out.png").exists()


def test_a_picture_is_painted_without_a_reader_of_its_progress(folder: Path, start: Start) -> None:
    options = ["--encoder", "slim", "--device", "cpu", "--size", "48", "--iterations", "20"]
    process = start("run", "content.png", "style.png", *options)
    assert process.stderr is not None
    process.stderr.close()
    process.stderr = None
    process.communicate(timeout=100)
    assert not json.loads(Path("out.json").read_text())["interrupted"]


# --- two runs on one output ---


def test_the_second_run_on_an_output_is_refused(folder: Path, start: Start) -> None:
    first = start("run", "content.png", "style.png", *LONG, "--checkpoint-every", "0", "-q")
    wait_for(folder / "out.png.checkpoint", first)
    for options in (["--force"], ["-o", "out.tif"]):
        second = start("run", "content.png", "style.png", *LONG, *options)
        output, said = second.communicate(timeout=60)
        name = options[1] if len(options) == 2 else "out.png"
        assert second.returncode == 2
        assert (output, said) == (
            "",
            f"optistyle: {name} is being written by process {first.pid}: wait for its end, or "
            "choose another output with -o\n",
        )
    first.kill()
    first.communicate()
    assert Path(".out.json.lock").exists()
    third = start(
        *("run", "content.png", "style.png", *LONG[:-1], "2", "--force"),
    )
    assert third.communicate(timeout=100)[1]
    assert third.returncode == 0
    assert not Path(".out.json.lock").exists()


def test_a_lock_is_of_one_holder_and_leaves_nothing(tmp_path: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "out.png")
    with (
        locks.held(tmp_path / "out.png"),
        pytest.raises(InputError, match=rf"link.png is being written by process {os.getpid()}"),
        locks.held(link),
    ):
        pass
    with locks.held(tmp_path / "out.png"), locks.held(tmp_path / "other.png"):
        pass
    assert list(tmp_path.iterdir()) == [link]


def test_a_lock_of_a_long_name(tmp_path: Path) -> None:
    with locks.held(tmp_path / ("x" * 250)), locks.held(tmp_path / ("y" * 250)):
        assert len(list(tmp_path.iterdir())) == 2


def test_no_lock_is_no_obstacle(tmp_path: Path) -> None:
    with locks.held(tmp_path / "missing" / "out.png"):
        pass
