"""Pictures to image files: PNG, JPEG, WebP and TIFF."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from optistyle.errors import InputError, unknown
from optistyle.files import AnyPath, check_place, write_whole
from optistyle.pictures.codecs import DEEP_EXTRA, FORMATS, SRGB_PROFILE, deep_codecs
from optistyle.pictures.picture import Picture, to_samples

_DEEP_FORMATS = ("PNG", "TIFF")
_LONGEST_SIDE = {"JPEG": 65_535, "WEBP": 16_383}


def check_writable(path: AnyPath, *, inputs: Iterable[AnyPath] = (), bits: int = 8) -> None:
    """Raise InputError where `write(path, ..., bits=bits)` would fail or overwrite an input.

    For before the work starts: the extension and the bits, the folder, its permissions, and
    whether the path is, by whatever name or link, one of the `inputs`.
    """
    _format(Path(path), bits)
    check_place(Path(path), inputs)


def write(path: AnyPath, picture: Picture | Tensor, *, bits: int = 8, quality: int = 95) -> None:
    """Write a picture, or its pixels alone, in the format that the extension names.

    Samples are rounded to the nearest step, halves up, and clamped.  `bits` is 8, or 16 for PNG
    and TIFF; `quality`, 1 to 100, is for JPEG (4:4:4) and WebP.  Every file holds an sRGB profile
    and no EXIF, and the same picture gives the same bytes.  Alpha, of the size of the pixels, is
    written too; JPEG, which has none, gets the picture on white.  The file appears whole or not
    at all: it is written under another name in its folder, then moved (to the target of a link).

    Raises InputError as `check_writable` does, for a quality out of range, for a side longer than
    JPEG and WebP allow, and where the disk refuses; ValueError for NaN and for other shapes.
    """
    path = Path(path)
    name = _format(path, bits)
    if not 1 <= quality <= 100:
        raise InputError(f"quality {quality} is out of range (allowed: 1 to 100)")
    if isinstance(picture, Tensor):
        picture = Picture(picture)
    longest = _LONGEST_SIDE.get(name)
    if longest and max(picture.height, picture.width) > longest:
        raise InputError(
            f"{path} would be {picture.width} x {picture.height} pixels; {name} ends at {longest} "
            "a side: write a PNG or TIFF"
        )
    data = encode(picture, name, bits=bits, quality=quality)
    try:
        write_whole(path.resolve(), data)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def encode(
    picture: Picture | Tensor, name: str = "PNG", *, bits: int = 8, quality: int = 95
) -> bytes:
    """What `write` writes, as bytes, in one of the formats of `FORMATS`."""
    if isinstance(picture, Tensor):
        picture = Picture(picture)
    pixels, alpha = picture.pixels.detach().cpu().float(), picture.alpha
    if alpha is not None:
        alpha = alpha.detach().cpu().float()
        white = 1 + (pixels - 1) * alpha
        pixels = white if name == "JPEG" else torch.cat([pixels, alpha], 1)
    samples = to_samples(pixels, bits)
    return _encode_deep(samples, name) if bits == 16 else _encode(samples, name, quality)


def _format(path: Path, bits: int) -> str:
    """The format to write, checked."""
    name = FORMATS.get(path.suffix.lower())
    if name is None:
        raise unknown("extension of the output", path.suffix, FORMATS)
    if bits not in (8, 16):
        raise InputError(f"{bits} bits for {path} (allowed: 8, 16)")
    if bits == 16 and name not in _DEEP_FORMATS:
        raise InputError(f"16 bits for {path}: only PNG and TIFF hold them; choose one, or 8 bits")
    if bits == 16 and deep_codecs() is None:
        raise InputError(f"16 bits for {path} need tifffile and imagecodecs: {DEEP_EXTRA}")
    return name


def _encode(samples: np.ndarray, name: str, quality: int) -> bytes:
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": "4:4:4"},
        "PNG": {},
        "TIFF": {"compression": "tiff_adobe_deflate"},
        "WEBP": {"quality": quality, "exact": True},  # exact: colours under transparency too
    }
    file = io.BytesIO()
    Image.fromarray(samples).save(file, name, icc_profile=SRGB_PROFILE, **options[name])
    return file.getvalue()


def _encode_deep(samples: np.ndarray, name: str) -> bytes:
    codecs = deep_codecs()
    assert codecs is not None
    imagecodecs, tifffile = codecs
    if name == "PNG":
        return _with_profile(imagecodecs.png_encode(samples))
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        samples,
        photometric="rgb",
        extrasamples=["unassalpha"] if samples.shape[2] == 4 else None,
        compression="adobe_deflate",
        predictor=True,
        iccprofile=SRGB_PROFILE,
        metadata=None,
        software=False,
    )
    return file.getvalue()


def _with_profile(png: bytes) -> bytes:
    """A PNG with the sRGB profile in an iCCP chunk, after the signature and IHDR of 33 bytes."""
    chunk = b"iCCPsRGB\0\0" + zlib.compress(SRGB_PROFILE)
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + framed + png[33:]
