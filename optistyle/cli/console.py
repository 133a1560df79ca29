"""The standard streams: they print names of any bytes, and what is behind them ends no run."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

import click

from optistyle.errors import InputError


def tell(line: object) -> None:
    """Write a line to stdout about what is in a file; a stdout that refuses it ends nothing."""
    with contextlib.suppress(InputError, OSError):
        click.echo(line)


def is_closed(stream: TextIO) -> bool:
    """Whether a stream cannot be written to."""
    try:
        os.write(stream.fileno(), b"")
    except io.UnsupportedOperation:  # in memory
        return False
    except OSError:
        return True
    return False


@contextlib.contextmanager
def console() -> Iterator[None]:
    """Let stdin, stdout and stderr be of any state and encoding until the end of the block.

    Characters that an encoding lacks become escapes such as ``\\udce9``. Closed streams are opened
    on the null device. Errors of stderr are ignored; the first error of stdout is raised as
    `InputError`, except for a closed pipe, whose `OSError` click answers by a quiet end.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    # In this order, each takes the number of the stream that was closed, so that no file that is
    # opened later does. The stdout refuses to be written to, as a closed one does.
    sys.stdin = sys.stdin or _null("r", os.O_RDONLY)
    sys.stdout = sys.stdout or _null("w", os.O_RDONLY)
    sys.stderr = sys.stderr or _null("w", os.O_WRONLY)
    sys.stdout, sys.stderr = _wrapped(sys.stdout, True), _wrapped(sys.stderr, False)
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def _null(mode: str, flags: int) -> TextIO:
    """A stream on the null device, which child processes get too."""
    number = os.open(os.devnull, flags)
    os.set_inheritable(number, True)
    return cast(TextIO, os.fdopen(number, mode))


def _wrapped(stream: TextIO, strict: bool) -> TextIO:
    if not hasattr(stream, "buffer"):  # text in memory takes every character
        return stream
    stream.flush()
    return io.TextIOWrapper(
        _Sink(stream, strict),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors="backslashreplace",
        write_through=True,
    )


class _Sink(io.RawIOBase):
    """The bytes of a stream; after an error they go nowhere.

    Args:
        stream: text that is written as bytes. strict: whether the error is raised.
    """

    def __init__(self, stream: TextIO, strict: bool) -> None:
        self._stream = stream  # which would close its bytes when it is deleted
        self._raw: Any = getattr(stream.buffer, "raw", stream.buffer)
        self._strict, self._broken = strict, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def write(self, data: Any) -> int:
        left = memoryview(data)
        try:
            while left and not self._broken:
                left = left[self._raw.write(left) or 0 :]
        except OSError as error:
            self._broken = True
            if self._strict and error.errno == errno.EPIPE:
                raise
            if self._strict:
                raise InputError(
                    f"stdout cannot be written: {error.strerror}; send it elsewhere"
                ) from error
        return len(data)
