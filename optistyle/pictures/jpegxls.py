"""JPEG XL files, decoded by libjxl through imagecodecs.

imagecodecs does not report the size before it decodes, nor the colours, so that the header is read
here (ISO/IEC 18181-1, annex D).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from optistyle.pictures import boxes, profiles
from optistyle.pictures.codecs import FORMATS_EXTRA, deep_codecs
from optistyle.pictures.containers import refusal
from optistyle.pictures.samples import Samples, from_stored
from optistyle.pictures.sources import Job

_WAY_OUT = "convert it with `djxl in.jxl out.png` first"
_HEADER = 4096  # bytes of a codestream that are searched for its header
_RATIOS = (None, (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_ENUM = ((0, 0), (1, 0), (2, 4), (18, 6))
# Numbers of the header's enumerations; curves are those of ITU-T H.273
_RGB, _GREY, _D65, _SRGB_PRIMARIES = 0, 1, 1, 1
_LINEAR, _SRGB = 8, 13


@dataclass
class _Header:
    width: int
    height: int
    bits: int = 8
    is_float: bool = False
    animated: bool = False
    extra_channels: tuple[int, ...] = ()  # types; 0 is alpha
    premultiplied: bool = False
    curve: int | None = _SRGB  # None for colours that are not read


class _Bits:
    """The bits of a codestream, from the lowest of each byte on."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("its header is cut off")
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        self._left -= count
        return value

    def choice(self, *choices: tuple[int, int]) -> int:
        """A U32: two bits choose an offset and a count of bits to add to it."""
        offset, count = choices[self.take(2)]
        return offset + self.take(count)


def decode(job: Job) -> Samples | io.BytesIO:
    """Decode the first frame, upright, or return the JPEG file that a JPEG XL was made from.

    Raises:
        InputError: imagecodecs is missing; the size is not allowed; the colours are not sRGB; the
            samples are floats; there are channels beside the colours and alpha.
        Exception: The file is damaged: errors of libjxl.
    """
    codecs = deep_codecs()
    if codecs is None or not codecs[0].JPEGXL.available:
        raise refusal(job.name, "a JPEG XL picture", f"{FORMATS_EXTRA} adds JPEG XL, or {_WAY_OUT}")
    job.check_bytes()
    stream, exif, from_jpeg = _take_apart(job)
    header = _parsed(_Bits(stream))
    job.check_size(header.width, header.height)
    job.file.seek(0)
    data = job.file.read()
    if from_jpeg:
        return io.BytesIO(codecs[0].jpegxl_decode_jpeg(data))
    _check(header, job.name)
    if header.animated:
        job.notices.append(f"{job.name} is animated; its first frame is read")
    stored: Any = codecs[0].jpegxl_decode(data, index=0 if header.animated else None, numthreads=1)
    samples = from_stored(np.asarray(stored), header.bits, premultiplied=header.premultiplied)
    samples.icc, samples.exif = profiles.from_cicp(_SRGB_PRIMARIES, header.curve or _SRGB), exif
    return samples


def _check(header: _Header, name: str) -> None:
    def refuse(what: str) -> NoReturn:
        raise refusal(name, f"a JPEG XL picture with {what}", _WAY_OUT)

    if header.curve not in (_LINEAR, _SRGB):
        refuse("other colours than sRGB or linear sRGB")
    if header.is_float or not 8 <= header.bits <= 16:
        refuse(f"{header.bits}-bit {'float ' * header.is_float}samples")
    if header.extra_channels not in ((), (0,)):
        refuse("channels beside its colours and alpha")


def _take_apart(job: Job) -> tuple[bytes, bytes, bool]:
    """The codestream's beginning, EXIF, and whether a JPEG file can be restored."""
    end = job.file.seek(0, io.SEEK_END)
    job.file.seek(0)
    start = job.file.read(_HEADER)
    if start[:2] == b"\xff\x0a":
        return start[2:], b"", False
    stream, exif, from_jpeg = b"", b"", False
    for kind, at, size in boxes.walk(job.file, 0, end):
        job.file.seek(at)
        if kind in (b"jxlc", b"jxlp"):  # whole, or in parts behind their numbers
            part = job.file.read(min(size, _HEADER))
            stream += part[4 * (kind == b"jxlp") :]
        elif kind == b"Exif":
            exif = job.file.read(min(size, 1 << 20))[4:]
        from_jpeg = from_jpeg or kind == b"jbrd"
    return stream[2 : 2 + _HEADER], exif, from_jpeg


def _parsed(bits: _Bits) -> _Header:
    height, width = _size(bits)
    header = _Header(width, height)
    if bits.take(1):  # all by default: 8-bit sRGB
        return header
    if bits.take(1):
        bits.take(3)  # the orientation, which libjxl applies
        if bits.take(1):
            _size(bits)
        if bits.take(1):
            _skip_preview(bits)
        header.animated = bool(bits.take(1))
        if header.animated:
            bits.choice((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.choice((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.choice((0, 0), (0, 3), (0, 16), (0, 32))
            bits.take(1)
    header.bits, header.is_float = _depth(bits)
    bits.take(1)
    types = []
    for _ in range(bits.choice((0, 0), (1, 0), (2, 4), (1, 12))):
        kind, premultiplied = _extra_channel(bits)
        types.append(kind)
        header.premultiplied |= premultiplied
        if kind != 0:  # refused; what follows needs no reading
            break
    header.extra_channels = tuple(types)
    if set(types) <= {0}:
        bits.take(1)  # whether it is XYB inside
        header.curve = _curve(bits)
    return header


def _size(bits: _Bits) -> tuple[int, int]:
    """Height and width."""

    def side() -> int:
        if small:
            return 8 * (bits.take(5) + 1)
        return bits.choice((1, 9), (1, 13), (1, 18), (1, 30))

    small = bits.take(1)
    height = side()
    ratio = _RATIOS[bits.take(3)]
    return height, height * ratio[0] // ratio[1] if ratio else side()


def _skip_preview(bits: _Bits) -> None:
    if bits.take(1):
        sides = ((16, 0), (32, 0), (1, 5), (33, 9))
    else:
        sides = ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.choice(*sides)
    if not bits.take(3):
        bits.choice(*sides)


def _depth(bits: _Bits) -> tuple[int, bool]:
    if bits.take(1):
        depth = bits.choice((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
        return depth, True
    return bits.choice((8, 0), (10, 0), (12, 0), (1, 6)), False


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    """A channel's type, and whether it is alpha that the colours are multiplied by."""
    if bits.take(1):
        return 0, False
    kind = bits.choice(*_ENUM)
    _depth(bits)
    bits.choice((0, 0), (3, 0), (4, 0), (1, 3))
    bits.take(8 * bits.choice((0, 0), (0, 4), (16, 5), (48, 10)))
    return kind, kind == 0 and bool(bits.take(1))


def _curve(bits: _Bits) -> int | None:
    """The curve of grey, or of RGB with sRGB's primaries; None for a profile and other colours."""
    if bits.take(1):
        return _SRGB
    if bits.take(1):  # an ICC profile, compressed
        return None
    space = bits.choice(*_ENUM)
    if space not in (_RGB, _GREY) or bits.choice(*_ENUM) != _D65:
        return None
    if space == _RGB and bits.choice(*_ENUM) != _SRGB_PRIMARIES:
        return None
    return None if bits.take(1) else bits.choice(*_ENUM)  # None for a gamma
