"""The boxes of AVIF and JPEG 2000 files: the colours and depths that Pillow does not report."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_INSIDE = (b"meta", b"iprp", b"ipco", b"jp2h")  # boxes that hold the boxes of interest
_VERSIONED = b"meta"  # whose boxes follow four bytes of version and flags
_CODESTREAM = b"\xff\x4f\xff\x51"
_LONGEST = 32 << 20
_MOST = 10_000  # boxes of a file


@dataclass
class Boxes:
    """What the boxes of a file say; None where they say nothing."""

    icc: bytes | None = None
    cicp: tuple[int, int] | None = None  # primaries and transfer curve of ITU-T H.273
    enumerated: int | None = None  # JPEG 2000's number of a colour space
    bits: int = 8
    codestream: tuple[int, int] | None = None  # JPEG 2000: width and height by the codestream


def look(file: BinaryIO) -> Boxes:
    """Read the boxes of an AVIF or JPEG 2000 file, or the header of a JPEG 2000 codestream."""
    found = Boxes()
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(4) == _CODESTREAM:
        _heed_codestream(found, file, 0)
        return found
    for kind, start, size in walk(file, 0, end):
        file.seek(start)
        if kind == b"jp2c":
            _heed_codestream(found, file, start)
        elif kind in (b"colr", b"av1C", b"ihdr") and size <= _LONGEST:
            _heed(found, kind, file.read(size))
    return found


def walk(
    file: BinaryIO, start: int, end: int, count: list[int] | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """Each box's kind, and where its contents start and how long they are, depth first."""
    count = [0] if count is None else count
    while start + 8 <= end and count[0] < _MOST:
        count[0] += 1
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            long = file.read(8)
            if len(long) < 8:
                return
            (size,), head = struct.unpack(">Q", long), 16
        stop = end if size == 0 else start + size
        if (size and size < head) or stop > end:
            stop = end
        yield kind, start + head, stop - start - head
        if kind in _INSIDE:
            yield from walk(file, start + head + 4 * (kind == _VERSIONED), stop, count)
        start = stop


def _heed(found: Boxes, kind: bytes, data: bytes) -> None:
    if kind == b"av1C" and len(data) > 2 and data[2] & 0x40:
        found.bits = 12 if data[2] & 0x20 else 10
    elif kind == b"ihdr" and len(data) > 10:
        found.bits = (data[10] & 0x7F) + 1 if data[10] != 255 else 8
    elif kind == b"colr" and data[:4] == b"nclx" and len(data) >= 8:
        found.cicp = found.cicp or struct.unpack_from(">HH", data, 4)
    elif kind == b"colr" and data[:4] in (b"prof", b"rICC"):
        found.icc = found.icc or data[4:]
    elif kind == b"colr" and data[:1] in (b"\2", b"\3"):
        found.icc = found.icc or data[3:]
    elif kind == b"colr" and data[:1] == b"\1" and len(data) >= 7 and found.enumerated is None:
        (found.enumerated,) = struct.unpack_from(">I", data, 3)


def _heed_codestream(found: Boxes, file: BinaryIO, start: int) -> None:
    file.seek(start)
    data = file.read(43)
    if len(data) == 43 and data[:4] == _CODESTREAM:
        right, lower, left, upper = struct.unpack_from(">4I", data, 8)
        found.codestream = right - left, lower - upper
        found.bits = (data[42] & 0x7F) + 1
