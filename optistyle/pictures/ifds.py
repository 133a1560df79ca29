"""TIFF directories: the tags of a TIFF file's pages, and of an EXIF block, which is a small TIFF.

Pillow and tifffile each refuse some files before they say what is in them, and Pillow reads an
orientation only in the integer types that it expects.  This parser decides nothing: it returns
the integers and texts that it can read and skips what is damaged.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
ORIENTATION, SAMPLES, PLANAR, SUB_IFDS, COLOR_MAP = 274, 277, 284, 330, 320
NEW_SUBFILE, SUBFILE, TILE_WIDTH, TILE_HEIGHT = 254, 255, 322, 323
SAMPLE_FORMAT, EXIF_IFD, DNG_VERSION = 339, 34665, 50706
XMP, DATE, ARTIST, COPYRIGHT, DATE_ORIGINAL, DATE_DIGITIZED = 700, 306, 315, 33432, 36867, 36868

_WANTED = {
    *(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANAR, SUB_IFDS),
    *(COLOR_MAP, NEW_SUBFILE, SUBFILE, TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT, EXIF_IFD),
    *(DNG_VERSION, XMP, DATE, ARTIST, COPYRIGHT, DATE_ORIGINAL, DATE_DIGITIZED),
}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I"}
_LONG_INTEGERS = {16: "Q", 17: "q", 18: "Q"}
_TEXT = 2
_MOST_VALUES = 3 * 65_536  # a 16-bit colour map
_MOST_PAGES = 10_000


@dataclass(frozen=True)
class Directory:
    """One image file directory: its offset and the tags of interest that could be read."""

    offset: int
    tags: Mapping[int, tuple[int, ...] | str]
    following: int  # the offset of the next page's directory; 0 after the last

    def integers(self, tag: int) -> tuple[int, ...]:
        values = self.tags.get(tag, ())
        return () if isinstance(values, str) else values

    def integer(self, tag: int, default: int = 0) -> int:
        """The tag's first value."""
        return next(iter(self.integers(tag)), default)

    def text(self, tag: int) -> str:
        value = self.tags.get(tag, "")
        return value if isinstance(value, str) else ""


@dataclass
class Tiff:
    """A TIFF file or EXIF block, in either byte order, classic or BigTIFF."""

    file: BinaryIO
    order: str = field(init=False)  # "<" or ">"
    big: bool = field(init=False)
    first: int = field(init=False)

    def __post_init__(self) -> None:
        self.file.seek(0)
        head = self.file.read(16)
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = len(head) == 16 and 43 in (head[2], head[3])
        try:
            (self.first,) = self._unpack("Q" if self.big else "I", head[8 if self.big else 4 :])
        except struct.error:
            self.first = 0

    def pages(self) -> list[Directory]:
        """The directories of the chain of pages, without their SubIFDs."""
        return list(self._chain(self.first))

    def below(self, page: Directory) -> list[Directory]:
        """The directories that a page's SubIFDs tag names."""
        found = (self.directory(offset) for offset in page.integers(SUB_IFDS)[:64])
        return [directory for directory in found if directory]

    def directory(self, offset: int) -> Directory | None:
        """The directory at an offset; None where there is none."""
        counts, entries, pointer = ("Q", "HHQ8s", "Q") if self.big else ("H", "HHI4s", "I")
        try:
            (count,) = self._read(offset, counts)
            tags: dict[int, tuple[int, ...] | str] = {}
            size, start = struct.calcsize("=" + entries), offset + struct.calcsize("=" + counts)
            for index in range(min(count, 4096)):
                tag, kind, number, value = self._read(start + index * size, entries)
                if tag in _WANTED and number <= _MOST_VALUES:
                    values = self._values(kind, number, value)
                    if values:
                        tags.setdefault(tag, values)
        except (struct.error, ValueError, OverflowError, OSError):
            return None
        try:
            (following,) = self._read(start + count * size, pointer)
        except (struct.error, ValueError, OverflowError, OSError):
            following = 0
        return Directory(offset, tags, following)

    def _chain(self, offset: int) -> Iterator[Directory]:
        visited: set[int] = set()
        while offset and offset not in visited and len(visited) < _MOST_PAGES:
            visited.add(offset)
            directory = self.directory(offset)
            if directory is None:
                return
            yield directory
            offset = directory.following

    def _values(self, kind: int, count: int, inline: bytes) -> tuple[int, ...] | str | None:
        """A tag's integers or text; None for other types and where it points outside the file."""
        letter = _INTEGERS.get(kind) or (_LONG_INTEGERS.get(kind) if self.big else None)
        form = f"{count}s" if kind == _TEXT else f"{count}{letter}"
        if kind != _TEXT and letter is None:
            return None
        size = struct.calcsize("=" + form)
        data = inline
        try:
            if size > len(inline):
                (offset,) = self._unpack("Q" if self.big else "I", inline)
                self.file.seek(offset)
                data = self.file.read(size)
            values = self._unpack(form, data)
        except (struct.error, ValueError, OverflowError, OSError):
            return None
        return _decoded(values[0]) if kind == _TEXT else values

    def _read(self, offset: int, form: str) -> tuple:
        self.file.seek(offset)
        return self._unpack(form, self.file.read(struct.calcsize("=" + form)))

    def _unpack(self, form: str, data: bytes) -> tuple:
        return struct.unpack_from(self.order + form, data)


def exif(block: bytes) -> tuple[Directory, Directory] | None:
    """The main and the Exif directory of an EXIF block; None where it holds neither."""
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    if block[:2] not in (b"II", b"MM"):
        return None
    return with_exif(Tiff(io.BytesIO(block)))


def with_exif(tiff: Tiff, page: Directory | None = None) -> tuple[Directory, Directory] | None:
    """A page's directory (the first's by default) and the Exif directory that it points to."""
    main = page or tiff.directory(tiff.first)
    if main is None:
        return None
    offset = main.integer(EXIF_IFD)
    return main, (tiff.directory(offset) if offset else None) or Directory(0, {}, 0)


def _decoded(text: bytes) -> str:
    """EXIF texts are ASCII by the standard, and UTF-8 or Latin-1 where cameras need more."""
    text = text.rstrip(b"\0")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")
