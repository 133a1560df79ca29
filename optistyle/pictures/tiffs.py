"""TIFF files: which page is the picture, what Pillow cannot read, and its pixels by tifffile."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import numpy as np

from optistyle.errors import InputError
from optistyle.pictures import ifds
from optistyle.pictures.codecs import DEEP_EXTRA, deep_codecs
from optistyle.pictures.containers import raw_refusal
from optistyle.pictures.ifds import Directory, Tiff

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
_CAMERA_RAW = (32803, 34892)  # colour filter array, linear raw
_NAMES = {4: "mask", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32844: "LogL", 32845: "LogLuv"}
_PLANES = 2
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MOST_SAMPLES = 16  # channels of a pixel, with alpha and others
_FLOAT, _WAY_OUT = 3, "save it as a TIFF or PNG of 8 or 16 bits first"


def main_page(tiff: Tiff, name: str, notices: list[str]) -> Directory:
    """Return the page that is the picture.

    It is the first one, unless that is a thumbnail: marked as one, or at most half as long as a
    later page or SubIFD of the same aspect.  Then it is the largest of those.

    Raises:
        InputError: The file is a camera raw file.
        ValueError: It has no page.
    """
    pages = tiff.pages()
    everything = [below for page in pages for below in (page, *tiff.below(page))]
    if any(
        page.integer(ifds.PHOTOMETRIC) in _CAMERA_RAW or ifds.DNG_VERSION in page.tags
        for page in everything
    ):
        raise raw_refusal(name)
    whole = [page for page in everything if not _is_reduced(page) and min(_size(page)) > 0]
    first = pages[0] if pages else None
    if first is None:
        raise ValueError("no page")
    if _is_reduced(first) and whole:
        return max(whole, key=_area)
    larger = [page for page in whole if _is_thumbnail_of(first, page)]
    if larger:
        page = max(larger, key=_area)
        notices.append(
            "the first page of {name} ({} x {}) looks like a thumbnail of a later one "
            "({} x {}), which is read".format(*_size(first), *_size(page), name=name)
        )
        return page
    further = sum(page in whole for page in pages[1:])
    if further:
        notices.append(f"{name} has {further + 1} pages; the first is read")
    return first


def with_page_first(tiff: Tiff, page: Directory) -> BinaryIO:
    """Return the file; for a later page, a copy in memory whose header points to that page."""
    if page.offset == tiff.first:
        return tiff.file
    tiff.file.seek(0)
    data = bytearray(tiff.file.read())
    struct.pack_into(
        tiff.order + ("Q" if tiff.big else "I"), data, 8 if tiff.big else 4, page.offset
    )
    return io.BytesIO(bytes(data))


def size(page: Directory) -> tuple[int, int]:
    """Return a page's width and height, as stored.

    Raises:
        ValueError: It has none.
    """
    if min(_size(page)) <= 0:
        raise ValueError("a page without a size")
    return _size(page)


def needs_tifffile(tiff: Tiff, page: Directory, name: str, notices: list[str]) -> bool:
    """Return whether the pixels are for tifffile rather than Pillow.

    Raises:
        InputError: Nothing reads such samples, or only the extra does, which is not installed.
    """
    bits, kind = (max(page.integers(tag), default=1) for tag in (ifds.BITS, ifds.SAMPLE_FORMAT))
    colours = page.integer(ifds.PHOTOMETRIC, -1)
    if kind != 1 or bits not in (1, 2, 4, 8, 16):
        word = {1: "unsigned", 2: "signed", _FLOAT: "float"}.get(kind, "unusual")
        raise InputError(
            f"{name} has {bits}-bit {word} samples (allowed: unsigned of up to 8, or 16 bits): "
            f"{_WAY_OUT}"
        )
    if colours not in (-1, WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR):
        raise InputError(
            f"{name} has colours of the kind {_NAMES.get(colours, colours)} "
            f"(allowed: grey, RGB, palette, CMYK, YCbCr): {_WAY_OUT}"
        )
    if page.integer(ifds.SAMPLES, 1) > _MOST_SAMPLES:
        raise InputError(
            f"{name} has {page.integer(ifds.SAMPLES)} channels (allowed: up to {_MOST_SAMPLES}): "
            f"{_WAY_OUT}"
        )
    tile = page.integer(ifds.TILE_WIDTH) * page.integer(ifds.TILE_HEIGHT)
    if tile > 4 * _area(page) + (1 << 22):
        raise InputError(f"{name} has tiles of {tile} pixels, larger than itself: {_WAY_OUT}")
    in_planes = page.integer(ifds.PLANAR, 1) == _PLANES
    deep = bits == 16 and colours in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
    # Pillow takes 16-bit planes of CMYK for 8-bit ones, and knows few of the planes beside colours
    rare_planes = in_planes and (
        (bits == 16 and colours == CMYK)
        or page.integer(ifds.SAMPLES, 1) > {CMYK: 4, RGB: 3, YCBCR: 3}.get(colours, 1)
    )
    reversed_big = tiff.big and tiff.order == ">"
    if not (deep or rare_planes or reversed_big):
        return False
    if deep_codecs() is not None:
        return True
    if reversed_big:
        raise InputError(f"{name} is a big-endian BigTIFF, which needs {DEEP_EXTRA}")
    if in_planes:  # which Pillow would take for 8 bits
        raise InputError(f"{name} has its {bits}-bit colours in planes, which needs {DEEP_EXTRA}")
    if colours == WHITE_IS_ZERO:  # which Pillow would take for black, or not open
        raise InputError(f"{name} has 16-bit grey with white at zero, which needs {DEEP_EXTRA}")
    notices.append(f"{name} has 16 bits, read as 8; for all of them {DEEP_EXTRA}")
    return False


def decode(file: BinaryIO, name: str) -> tuple[np.ndarray, np.ndarray, bytes | None]:
    """Decode the first page by tifffile.

    Returns:
        The colours (H, W, 1, 3 or, of CMYK, 4) and the alpha (H, W, 0 or 1), uint8 or uint16,
        not multiplied by alpha, with 0 for black (of CMYK, for no ink); and the ICC profile.
    """
    codecs = deep_codecs()
    assert codecs is not None
    file.seek(0)
    with codecs[1].TiffFile(file) as tiff:
        page = tiff.pages.first
        if page.photometric == YCBCR or page.dtype not in (np.uint8, np.uint16, np.bool_):
            raise InputError(f"{name} is a TIFF of an unusual kind: {_WAY_OUT}")
        samples = page.asarray()
        colour_map, icc = page.colormap, page.iccprofile
        photometric, axes, extrasamples = page.photometric, page.axes, page.extrasamples
    samples = np.moveaxis(samples, 0, 2) if axes == "SYX" else np.atleast_3d(samples)
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8) * 255
    count = {RGB: 3, CMYK: 4}.get(photometric, 1)
    colour, alpha = np.split(samples, [count], axis=2)
    if photometric == PALETTE:
        colour = eight_bit_map(colour_map.T)[colour[..., 0]]
    full = np.iinfo(colour.dtype).max
    if photometric == WHITE_IS_ZERO:
        colour = full - colour
    extra = extrasamples[0] if extrasamples else 0
    alpha = alpha[..., :1] if extra in (1, 2) else alpha[..., :0]
    if extra == 1:  # associated alpha: divide it out
        divided = colour * float(full) / np.maximum(alpha, 1) + 0.5
        colour = np.minimum(divided, full).astype(colour.dtype)
    return colour, alpha, icc


def eight_bit_map(values: np.ndarray) -> np.ndarray:
    """Return a colour map in 8 bits: those of TIFF have 16, but some programs write 8-bit ones."""
    return (values if values.max(initial=0) <= 255 else values >> 8).astype(np.uint8)


def _size(page: Directory) -> tuple[int, int]:
    return page.integer(ifds.WIDTH), page.integer(ifds.HEIGHT)


def _area(page: Directory) -> int:
    return page.integer(ifds.WIDTH) * page.integer(ifds.HEIGHT)


def _is_reduced(page: Directory) -> bool:
    return (
        bool(page.integer(ifds.NEW_SUBFILE) & (_REDUCED | _MASK)) or page.integer(ifds.SUBFILE) == 2
    )


def _is_thumbnail_of(small: Directory, large: Directory) -> bool:
    """Whether a page is at most half as long as another and, to a pixel or so, of its aspect."""
    (width, height), (larger_width, larger_height) = _size(small), _size(large)
    if 2 * max(width, height) > max(larger_width, larger_height):
        return False
    return abs(width * larger_height - height * larger_width) <= 1.5 * max(
        larger_width, larger_height
    )
