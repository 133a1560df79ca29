"""Where pictures come from: files, bytes and streams, each as one seekable file with a name."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from optistyle.errors import InputError
from optistyle.files import AnyPath
from optistyle.sizes import SMALLEST

#: Where a picture comes from: a path, a file's bytes, or a binary file object.
Source = AnyPath | bytes | bytearray | memoryview | BinaryIO

# The most bytes that are held of a file, for each pixel allowed and beside them: twice what
# 16-bit RGBA takes without compression.
_BYTES_PER_PIXEL, _BYTES_BESIDE = 16, 64 << 20


@dataclass
class Job:
    """One file to read, and what is to be said about it."""

    file: BinaryIO
    name: str
    suffix: str
    max_pixels: int
    notices: list[str] = field(default_factory=list)

    def check_size(self, width: int, height: int) -> None:
        """Raise InputError for a size that is too small or too large."""
        if width * height > self.max_pixels:
            raise InputError(
                f"{self.name} has more than {self.max_pixels} pixels, the most allowed: "
                "make it smaller first"
            )
        if min(width, height) < SMALLEST:
            raise InputError(
                f"{self.name} is {width} x {height} pixels; its shorter side must have "
                f"at least {SMALLEST} pixels: use a larger picture"
            )

    def check_bytes(self) -> None:
        """Raise InputError for a file that is to be held in memory and too large for it."""
        if self.file.seek(0, io.SEEK_END) > _most_bytes(self.max_pixels):
            raise self.too_long()

    def too_long(self) -> InputError:
        """Return the error for a file of too many bytes."""
        return InputError(
            f"{self.name} has more than {_most_bytes(self.max_pixels)} bytes, the most allowed "
            f"for a picture of up to {self.max_pixels} pixels: make it smaller first"
        )

    def taken_as_srgb(self, what: str) -> None:
        """Note that a description of the colours is damaged."""
        self.notices.append(f"{self.name} has a damaged {what}; taken as sRGB")


@contextlib.contextmanager
def opened(source: Source, max_pixels: int) -> Iterator[Job]:
    """Open a source for one reading.

    Raises:
        InputError: There is nothing to read, or more than is held in memory.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        _check_readable(path)
        try:
            file: BinaryIO = path.open("rb")
        except PermissionError as error:
            raise InputError(f"{path} may not be read: change its permissions") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
        with file:
            yield Job(file, str(path), path.suffix, max_pixels)
        return
    if isinstance(source, bytes | bytearray | memoryview):
        data, name = bytes(source), "the picture in memory"
    else:
        data, name = source.read(_most_bytes(max_pixels) + 1), _name_of(source)
    job = Job(io.BytesIO(data), name, "", max_pixels)
    if not data:
        raise InputError(f"{name} is empty (0 bytes): give an image file's contents")
    job.check_bytes()
    yield job


def _name_of(stream: BinaryIO) -> str:
    name = getattr(stream, "name", None)
    if name in ("<stdin>", 0):
        return "standard input"
    return name if isinstance(name, str) else "the stream"


def _most_bytes(max_pixels: int) -> int:
    return max_pixels * _BYTES_PER_PIXEL + _BYTES_BESIDE


def _check_readable(path: Path) -> None:
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist: check its name and folder")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name an image file in it")
    if not path.is_file():
        raise InputError(f"{path} is not a regular file: name an image file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or save it anew")
