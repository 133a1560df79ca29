"""Pictures to image files: PNG, JPEG, WebP and TIFF."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from optistyle.errors import InputError, unknown
from optistyle.files import AnyPath, check_name, check_place, write_whole
from optistyle.pictures import notes
from optistyle.pictures.codecs import DEEP_EXTRA, FORMATS, SRGB_PROFILE, deep_codecs
from optistyle.pictures.picture import Picture, to_samples

_DEEP_FORMATS = ("PNG", "TIFF")
_LONGEST_SIDE = {"JPEG": 65_535, "WEBP": 16_383}


def check_writable(path: AnyPath, *, inputs: Iterable[AnyPath] = (), bits: int = 8) -> None:
    """Check, before the work starts, that `write(path, ..., bits=bits)` can succeed.

    Args:
        path: The file to be written.
        inputs: Files that must not be overwritten, by whatever name or link.
        bits: Of a sample: 8 or 16.

    Raises:
        InputError: The name is empty, a folder's or too long; the extension or the bits are not
            possible; the folder does not exist or may not be written to; or it is an input.
    """
    _format(check_name(path), bits)
    check_place(path, inputs)


def write(path: AnyPath, picture: Picture | Tensor, *, bits: int = 8, quality: int = 95) -> None:
    """Write a picture in the format that the file's extension names.

    The file appears whole or not at all: it is written under another name in its folder, then
    moved (to the target of a link). It holds an sRGB profile and the picture's notes (date, author,
    copyright) as EXIF, and the same picture gives the same bytes. JPEG has no alpha; the picture is
    put on white there.

    Args:
        path: a file that ends in .png, .jpg, .webp or .tif.
        picture: a `Picture`, or pixels (1, 3, H, W) in [0, 1]. Samples are clamped and rounded to
            the nearest step, halves up.
        bits: 8, or 16 for PNG and TIFF.
        quality: 1 to 100, of JPEG (4:4:4) and WebP.

    Raises:
        InputError: a name that cannot be written, another extension, bits or quality that the
            format does not have, a side longer than JPEG and WebP allow, or a disk that refuses.
        ValueError: NaN, a tensor of another shape, or notes of other names or another form of date.

    >>> import tempfile, torch
    >>> from optistyle import read, write
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(f"{folder}/out.png", torch.full((1, 3, 20, 30), 0.2))
    ...     read(f"{folder}/out.png").pixels.unique()
    tensor([0.2000])
    """
    path = check_name(path)
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
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be written: {reason}") from error


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
    notes.check(picture.notes)
    if bits == 16:
        return _encode_deep(samples, name, picture.notes)
    return _encode(samples, name, quality, picture.notes)


def _format(path: Path, bits: int) -> str:
    """The format to write, checked."""
    name = FORMATS.get(path.suffix.lower())
    if name is None:
        error = unknown("extension of the output", path.suffix, FORMATS)
        raise InputError(f"{error}: name a JPEG, PNG, TIFF or WebP file")
    if bits not in (8, 16):
        raise InputError(f"{bits} bits for {path} (allowed: 8, 16)")
    if bits == 16 and name not in _DEEP_FORMATS:
        raise InputError(f"16 bits for {path}: only PNG and TIFF hold them; choose one, or 8 bits")
    if bits == 16 and deep_codecs() is None:
        raise InputError(f"16 bits for {path} need tifffile and imagecodecs: {DEEP_EXTRA}")
    return name


def _encode(samples: np.ndarray, name: str, quality: int, said: Mapping[str, str]) -> bytes:
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": "4:4:4"},
        "PNG": {},
        "TIFF": {"compression": "tiff_adobe_deflate"},
        "WEBP": {"quality": quality, "exact": True},  # exact: colours under transparency too
    }
    if name != "TIFF" and (exif := notes.to_exif(said)):
        options[name]["exif"] = b"Exif\0\0" + exif
    file = io.BytesIO()
    Image.fromarray(samples).save(file, name, icc_profile=SRGB_PROFILE, **options[name])
    return notes.into_tiff(file.getvalue(), said) if name == "TIFF" else file.getvalue()


def _encode_deep(samples: np.ndarray, name: str, said: Mapping[str, str]) -> bytes:
    codecs = deep_codecs()
    assert codecs is not None
    imagecodecs, tifffile = codecs
    if name == "PNG":
        return _with_chunks(imagecodecs.png_encode(samples), notes.to_exif(said))
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
    return notes.into_tiff(file.getvalue(), said)


def _with_chunks(png: bytes, exif: bytes) -> bytes:
    """A PNG with the sRGB profile and, if any, EXIF, after the signature and IHDR of 33 bytes."""
    chunks = _chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(SRGB_PROFILE))
    if exif:
        chunks += _chunk(b"eXIf", exif)
    return png[:33] + chunks + png[33:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
