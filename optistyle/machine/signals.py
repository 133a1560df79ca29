"""What ends a command early: Ctrl-C, SIGTERM and SIGHUP. For the command line.

It imports little, so that its handlers stand before click and torch are loaded.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

#: The signals by name; Windows has no SIGHUP, but a SIGBREAK.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_NUMBERS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
#: Seconds within which signals are one: a terminal that is closed, and systemd, send two at once.
_TOGETHER = 0.1


class Interruption(KeyboardInterrupt):
    """A signal that ends the command.

    Attributes:
        code: the exit code, 128 + the signal's number: 130 for Ctrl-C.
    """

    def __init__(self, number: int, *words: str) -> None:
        super().__init__(*words)
        self.code = 128 + number


def code_of(error: BaseException | None) -> int:
    """Return the exit code of an interruption; a plain `KeyboardInterrupt` is Ctrl-C."""
    return error.code if isinstance(error, Interruption) else 128 + signal.SIGINT


class Interrupts:
    """Raise `Interruption` in the main thread at Ctrl-C, SIGTERM and SIGHUP.

    The first signal raises, so that the work so far is saved. The second one raises as well, in the
    middle of the saving: files are written whole, so nothing partial is left. A third one ends the
    process where it is.

    A signal that is ignored already stays ignored, as by nohup or in a background job. SIGTERM
    under torchrun stays with `torchrun.group`. In another thread than the main one this does
    nothing.

    Args:
        starting: whether this is the start of a command. Outside of inner `Interrupts`, a signal
            during an import ends the process with one line: exceptions do not pass through the
            loading of every library. Afterwards signals have their default action, for an
            interpreter that shuts down would print a traceback.

    Attributes:
        count: how many signals came.
    """

    def __init__(self, *, starting: bool = False) -> None:
        self.count = 0
        self._starting, self._held = starting, False
        self._last, self._when = 0, 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                before = signal.getsignal(number)
                theirs = number == signal.SIGTERM and _several()
                if before not in (signal.SIG_IGN, None) and not theirs:
                    self._before[number] = before
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            if self._starting:
                signal.signal(number, signal.SIG_DFL)
            elif not self.count:  # else the process is about to end, and counts on
                signal.signal(number, before)

    def hold(self) -> None:
        """Count a first signal from now on, and raise at a second one: the work is being saved."""
        self._held = True

    def release(self) -> None:
        """End `hold`, and raise what came in the meantime."""
        self._held = False
        if self.count:
            raise Interruption(self._last)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.count and now - self._when < _TOGETHER:
            return
        self.count, self._last, self._when = self.count + 1, number, now
        early = self._starting and _importing(frame)
        if early or self.count > 2:
            if early and os.environ.get("RANK", "0") == "0":
                os.write(2, b"optistyle: interrupted; nothing was written\n")
            os._exit(128 + number)
        if self.count == 2:
            raise Interruption(number, "again, while saving; what was saved before is kept")
        if not self._held:
            raise Interruption(number)


def _several() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _importing(frame: FrameType | None) -> bool:
    """Whether the main thread is loading a module."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
