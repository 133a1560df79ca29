"""Image files made by hand or by other libraries, and the colours that are right for them."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from collections.abc import Callable

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

H, W = 19, 26
Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Case:
    """One file, and what is right for it: its upright sRGB values, or words of its refusal."""

    container: str
    kind: str  # the row of the table
    detail: str
    make: Callable[[], bytes]
    colour: Array | None = None  # (H, W, 3) of 0 to 255
    alpha: Array | None = None  # (H, W) of 0 to 255
    refused: str = ""
    said: str = ""  # words of the one warning
    suffix: str = ""

    def __str__(self) -> str:
        return f"{self.container}-{self.kind}-{self.detail}".replace(" ", "_")


# --- pictures ---


def picture() -> Array:
    """A smooth gradient (H, W, 3) uint8 that no flip or turn leaves as it is."""
    y, x = np.mgrid[:H, :W]
    planes = (200 * x / W + 30, 220 * y / H + 10, 120 * (x + y) / (H + W) + 60)
    return np.stack(planes, 2).astype(np.uint8)


RGB = picture()
GREY = RGB[..., 0]
CMYK = np.dstack([RGB, RGB[..., 1] // 3])
ALPHA = RGB[..., 1]
# Flat where JPEG has blocks, so that quality 100 gives it back.
BLOCKS = np.random.default_rng(3).integers(0, 256, (3, 4, 3)).repeat(8, 0).repeat(8, 1)
BLOCKS = BLOCKS[:H, :W].astype(np.uint8)
INKS = np.dstack([BLOCKS, BLOCKS[..., 1] // 3])


def three(grey: Array) -> Array:
    return np.repeat(np.asarray(grey)[..., None], 3, 2)


def ink(cmyk: Array) -> Array:
    """CMYK without a profile: each ink takes its part of the light."""
    cmyk = cmyk.astype(float)
    return (255 - cmyk[..., :3]) * (255 - cmyk[..., 3:]) / 255


def in_planes(array: Array) -> Array:
    return np.moveaxis(array, 2, 0)


def deep(array: Array) -> Array:
    return array.astype(np.uint16) * 257


def upright(stored: Array, orientation: int) -> Array:
    return {
        1: stored,
        2: stored[:, ::-1],
        3: np.rot90(stored, 2),
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).swapaxes(0, 1),
        8: np.rot90(stored, 1),
    }[orientation]


# --- colours, by their published formulas ---

PRIMARIES = {
    "srgb": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "p3": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    "adobe": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
}


def to_xyz(name: str) -> Array:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in PRIMARIES[name]]).T
    x, y = 0.3127, 0.3290
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])


def srgb_encoded(linear: Array) -> Array:
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_decoded(values: Array) -> Array:
    values = values / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def bt709_decoded(values: Array) -> Array:
    values = values / 255
    return np.where(values < 0.081, values / 4.5, ((values + 0.099) / 1.099) ** (1 / 0.45))


def power(gamma: float) -> Callable[[Array], Array]:
    return lambda values: (values / 255) ** gamma


def seen(name: str, decode: Callable[[Array], Array], stored: Array = RGB) -> Array:
    """Values of other primaries and another curve, in sRGB."""
    matrix = np.linalg.solve(to_xyz("srgb"), to_xyz(name))
    return srgb_encoded(decode(stored.astype(float)) @ matrix.T)


def profile(name: str, gamma: float) -> bytes:
    """A matrix profile, made by lcms rather than by the code under test."""
    primaries = [part for point in PRIMARIES[name] for part in (*point, 1.0)]
    return imagecodecs.cms_profile(
        "rgb", whitepoint=[0.3127, 0.3290, 1.0], primaries=primaries, gamma=gamma
    )


# --- bytes by hand ---


def exif(orientation: int, kind: int = 3, order: str = "<") -> bytes:
    """An EXIF block of the orientation alone, as an integer of a TIFF type."""
    letter = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i"}[kind]
    value = struct.pack(order + letter, orientation).ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + struct.pack(order + "HHHI4sI", 1, 274, kind, 1, value, 0)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    samples: Array, depth: int, colour_type: int, *chunks: bytes, interlace: bool = False
) -> bytes:
    """A PNG of (H, W, C) samples in the file's own range, with chunks before its pixels."""
    height, width, _ = samples.shape

    def rows(part: Array) -> bytes:
        if not part.size:
            return b""
        if depth == 16:
            packed = part.astype(">u2").reshape(len(part), -1).view(np.uint8)
        else:
            bits = np.unpackbits(part.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
            packed = np.packbits(bits.reshape(len(part), -1), axis=1)
        return b"".join(b"\0" + row.tobytes() for row in packed)

    if interlace:
        starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2))
        passes = (*starts, (0, 1, 2, 2), (1, 0, 2, 1))
        data = b"".join(rows(samples[y::dy, x::dx]) for y, x, dy, dx in passes)
    else:
        data = rows(samples)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunks)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def iccp(icc: bytes) -> bytes:
    return chunk(b"iCCP", b"profile\0\0" + zlib.compress(icc))


def bmp(
    header: int, bits: int, compression: int, body: bytes, height: int = H, icc: bytes = b""
) -> bytes:
    """A BMP with a header of 40 or 124 bytes."""
    fields = struct.pack("<IiiHHIIiiII", header, W, height, 1, bits, compression, *([0] * 5))
    if compression == 3 and bits == 16:
        fields += struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    elif compression == 3:
        fields += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    if header == 124:
        fields = fields.ljust(56, b"\0") + (b"DEBM" if icc else b"BGRs")
        fields = fields.ljust(112, b"\0") + struct.pack("<III", 124 + len(body), len(icc), 0)
    start = 14 + len(fields)
    total = start + len(body) + len(icc)
    return b"BM" + struct.pack("<IHHI", total, 0, 0, start) + fields + body + icc


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + kind + data


def with_colours(jp2: bytes, colr: bytes) -> bytes:
    """A JP2 with another box of colours: the lengths of that box and of its parent change."""
    at = jp2.index(b"colr") - 4
    parent = jp2.index(b"jp2h") - 4
    (old,) = struct.unpack_from(">I", jp2, at)
    (length,) = struct.unpack_from(">I", jp2, parent)
    new = box(b"colr", colr)
    head = jp2[:parent] + struct.pack(">I", length + len(new) - old) + jp2[parent + 4 : at]
    return head + new + jp2[at + old :]


def with_nclx(avif: bytes, primaries: int, curve: int) -> bytes:
    """An AVIF whose box of colours has other code points, of the same length."""
    at = avif.index(b"nclx")
    return avif[: at + 4] + struct.pack(">HH", primaries, curve) + avif[at + 8 :]


def saved(array: Array | Image.Image, format: str, mode: str | None = None, **options) -> bytes:
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, format, **options)
    return file.getvalue()


def tiff(array: Array, *more: Array, **options) -> bytes:
    file = io.BytesIO()
    big, order = options.pop("bigtiff", False), options.pop("byteorder", "<")
    with tifffile.TiffWriter(file, bigtiff=big, byteorder=order) as writer:
        for page, extra in ((array, options), *((page, {}) for page in more)):
            writer.write(page, **{"metadata": None, "photometric": "rgb", **extra})
    return file.getvalue()


def decoded(data: bytes) -> Array:
    """The stored values of a lossy file, by Pillow alone."""
    return np.asarray(Image.open(io.BytesIO(data)))


def cmyk_image(cmyk: Array) -> Image.Image:
    return Image.frombytes("CMYK", (W, H), cmyk.tobytes())


def palette_image() -> tuple[Image.Image, Array]:
    image = Image.fromarray(RGB).quantize(16, dither=Image.Dither.NONE)
    return image, np.asarray(image.convert("RGB"))


JPEG = {"quality": 100, "subsampling": 0}
AVIF = {"quality": 100, "subsampling": "4:4:4"}
