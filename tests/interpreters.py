"""Python processes that start in milliseconds: forks of a process that has imported optistyle.

Each pytest process has one fork server (multiprocessing's, which the workers of sweeps come from,
too). It imports modules and computes nothing, so that a fork of it is a new interpreter in all but
name. Tests of what a real new interpreter does (its imports, its peak memory, the console script,
torchrun) start one with `subprocess` all the same.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["optistyle.cli", "optistyle.experiments.work"])


class Interpreter:
    """``python ARGUMENTS``, with the methods of `subprocess.Popen` that tests need.

    Attributes:
        pid: of the process.
        out, err: the files that its output goes to.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, in the working folder of this process.

        Args:
            arguments: of Python: ``-m MODULE``, ``-c CODE`` or a file, and what follows.
            folder: where the files of its output go.
            environment: its environment variables; by default this process's.
        """
        number = len(list(folder.glob("interpreter*.out")))
        self.out, self.err = (folder / f"interpreter{number}.{kind}" for kind in ("out", "err"))
        for file in (self.out, self.err):
            file.touch()
        command = [os.fspath(x) if isinstance(x, Path) else str(x) for x in arguments]
        variables = dict(os.environ if environment is None else environment)
        files = str(self.out), str(self.err)
        self._process = _context.Process(target=_become, args=(command, files, variables))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; `subprocess.TimeoutExpired` where it has not ended."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("python", timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, and return all of its output and errors."""
        self.wait(timeout)
        return self.out.read_text("utf-8"), self.err.read_text("utf-8")

    def send_signal(self, sign: int) -> None:
        if self._process.is_alive():
            os.kill(self.pid, sign)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become(
    arguments: Sequence[str], files: tuple[str, str], environment: Mapping[str, str]
) -> None:
    """In the new process: what ``python ARGUMENTS`` does."""
    sys.stdout.flush()
    for number, file in enumerate(files, 1):
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding="utf-8", errors=stream.errors)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    if sys.version_info < (3, 14):
        # Its own workers come from the same fork server, as multiprocessing has meant it to be; it
        # would start another one, with another import of torch.
        forkserver._forkserver.ensure_running = lambda: None
    option, rest = arguments[0], arguments[1:]
    if option == "-m":
        sys.argv = list(rest)
        sys.path.insert(0, os.getcwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif option == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, os.getcwd())
        exec(compile(rest[0], "<string>", "exec"), sys.modules["__main__"].__dict__)
    else:
        sys.argv = list(arguments)
        sys.path.insert(0, os.path.dirname(option))
        runpy.run_path(option, run_name="__main__")
