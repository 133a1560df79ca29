"""PNG chunks: what they say of the colours, and the file without those that only Pillow trips over.

Pillow refuses a file whose profile or text is longer than a limit that is one for the whole
process.  So chunks are read here, each within a bound, and Pillow gets the pixels alone.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from optistyle.errors import InputError
from optistyle.pictures import profiles

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: The longest profile, EXIF block and text, in bytes after decompression; the largest CMYK
#: profiles of printers have 4 MB.
LONGEST_CHUNK = 32 << 20

_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_HEEDED = (b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"acTL")
_XMP, _RAW_EXIF = "XML:com.adobe.xmp", "Raw profile type exif"
_GREY, _RGB = 0, 2  # colour types whose tRNS chunk is one transparent colour


@dataclass
class Chunks:
    """A PNG, taken apart."""

    width: int = 0
    height: int = 0
    depth: int = 0
    colour_type: int = 0
    frames: int = 1
    key: np.ndarray | None = None  # the one transparent colour, in the file's own range
    info: dict[str, bytes | str] = field(default_factory=dict)  # profile, EXIF, XMP
    damaged: list[str] = field(default_factory=list)  # kinds of chunks that could not be used
    pixels: bytes = b""  # the PNG without all that is above
    _heeded: dict[bytes, bytes] = field(default_factory=dict)

    def exif(self) -> bytes:
        """Return the EXIF block, of the eXIf chunk or of a text that ImageMagick wrote."""
        block, raw = self.info.get("exif", b""), self.info.get(_RAW_EXIF, "")
        if isinstance(raw, str) and raw and not block:
            with contextlib.suppress(ValueError):
                block = bytes.fromhex("".join(raw.split("\n")[3:]))
        return block if isinstance(block, bytes) else b""

    def xmp(self) -> str:
        """Return the XMP packet."""
        return str(self.info.get(_XMP, ""))

    def profile(self, name: str) -> bytes | None:
        """Return the ICC profile of the pixels; none for sRGB.

        An embedded profile counts first, then cICP, sRGB, and gAMA with cHRM.

        Args:
            name: The picture's name for an error.

        Raises:
            InputError: The picture is HDR, by its cICP chunk.
        """
        if icc := self.info.get("icc_profile"):
            return icc if isinstance(icc, bytes) else None
        if cicp := self._heeded.get(b"cICP"):
            if len(cicp) == 4 and cicp[2] == 0 and cicp[3] == 1:
                refuse_hdr(cicp[1], name)
                made = profiles.from_cicp(cicp[0], cicp[1])
            else:
                made = None
            if made is None:
                self.damaged.append("cICP")
            return made
        if b"sRGB" in self._heeded:
            return None
        return self._from_gamma()

    def _from_gamma(self) -> bytes | None:
        gamma, points = self._heeded.get(b"gAMA"), self._heeded.get(b"cHRM")
        exponent = primaries = None
        try:
            if gamma:
                exponent = struct.unpack(">I", gamma)[0] / 100_000
            if points and self.colour_type != _GREY:
                values = [value / 100_000 for value in struct.unpack(">8I", points)]
                white, red, green, blue = zip(values[::2], values[1::2], strict=True)
                primaries = (white, red, green, blue)
            made = profiles.from_gamma(exponent, primaries)
        except (struct.error, ZeroDivisionError):
            made = None
        if made is None:
            self.damaged.append("gAMA or cHRM")
        return made


def refuse_hdr(curve: int, name: str) -> None:
    """Raise InputError where a transfer curve of ITU-T H.273 is one of HDR."""
    if curve in profiles.HDR_CURVES:
        raise InputError(
            f"{name} is an HDR picture ({profiles.HDR_CURVES[curve]}), which has no fixed "
            "brightness on a usual screen: save it as SDR (sRGB or Display P3) first"
        )


def take_apart(file: BinaryIO) -> Chunks:
    """Read a PNG's chunks.

    Raises:
        ValueError: The header is damaged.
    """
    file.seek(len(SIGNATURE))
    found, kept = Chunks(), io.BytesIO()
    kept.write(SIGNATURE)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind not in _KEPT and (kind not in _HEEDED or length > LONGEST_CHUNK):
            if kind in _HEEDED:
                found.damaged.append(kind.decode())
            file.seek(length + 4, io.SEEK_CUR)
            continue
        data, check = file.read(length), file.read(4)
        if kind == b"IHDR" and len(data) >= 13:
            found.width, found.height, found.depth, found.colour_type = struct.unpack_from(
                ">IIBB", data
            )
        if kind == b"tRNS" and found.colour_type in (_GREY, _RGB):
            found.key = _key(data, found.depth)
        elif kind in _KEPT:
            kept.write(head + data + check)
        elif check != struct.pack(">I", zlib.crc32(kind + data)):
            found.damaged.append(kind.decode())
        else:
            _heed(found, kind, data)
        if kind == b"IEND":
            break
    if not found.width:
        raise ValueError("no IHDR chunk")
    found.pixels = kept.getvalue()
    return found


def _key(data: bytes, depth: int) -> np.ndarray | None:
    """The transparent colour: of each 16-bit number, only the lowest bits of the depth count."""
    values = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype(int)
    return values & ((1 << depth) - 1) if len(values) in (1, 3) else None


def _heed(found: Chunks, kind: bytes, data: bytes) -> None:
    if kind in found._heeded:  # only the first counts
        return
    try:
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            found._heeded[kind] = data
        if kind == b"iCCP":
            _, _, packed = data.partition(b"\0")
            found.info["icc_profile"] = _inflated(packed[1:])
        elif kind == b"eXIf":
            found.info["exif"] = data
        elif kind == b"acTL":
            found.frames = struct.unpack_from(">I", data)[0]
        elif kind not in found._heeded:
            _heed_text(found, kind, data)
    except (struct.error, zlib.error, ValueError, IndexError):
        found.damaged.append(kind.decode())


def _heed_text(found: Chunks, kind: bytes, data: bytes) -> None:
    """Texts that can turn a picture: XMP, and EXIF as ImageMagick wrote it before eXIf."""
    word, _, rest = data.partition(b"\0")
    keyword = word.decode("latin-1")
    if keyword not in (_XMP, _RAW_EXIF):
        return
    if kind == b"zTXt":
        rest = _inflated(rest[1:])
    elif kind == b"iTXt":
        packed = rest[0]
        rest = rest[2:].split(b"\0", 2)[2]
        rest = _inflated(rest) if packed else rest
    found.info.setdefault(keyword, rest.decode("utf-8", "replace"))


def _inflated(packed: bytes) -> bytes:
    """Decompressed data, up to the bound: what is longer is never held."""
    inflate = zlib.decompressobj()
    data = inflate.decompress(packed, LONGEST_CHUNK)
    if not inflate.eof:
        raise ValueError("longer than the bound, or cut off")
    return data
