"""HEIC files, decoded by libheif through pi-heif or pillow-heif, without registering either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from optistyle.pictures import pngs, profiles
from optistyle.pictures.codecs import FORMATS_EXTRA, heif_reader
from optistyle.pictures.containers import refusal
from optistyle.pictures.sources import Job


@dataclass
class Heic:
    """The main picture of a HEIC file, upright."""

    colour: np.ndarray  # (H, W, 1 or 3), uint8; uint16 over its full range where bits > 8
    alpha: np.ndarray  # (H, W, 0 or 1) of the same type
    bits: int
    icc: bytes | None
    exif: bytes


def decode(job: Job) -> Heic:
    """Decode the main picture.

    libheif applies the rotation and mirroring that the file's boxes describe.  They replace the
    orientation in EXIF (ISO/IEC 23008-12), so that nothing is left to turn.

    Raises:
        InputError: No reader is installed; the size is not allowed; the picture is HDR.
        Exception: The file is damaged: errors of libheif, of many types.
    """
    reader = heif_reader()
    if reader is None:
        raise refusal(
            job.name,
            "a HEIC picture",
            f"{FORMATS_EXTRA} adds HEIC, or export it as JPEG first",
        )
    job.check_bytes()
    job.file.seek(0)
    file = reader.open_heif(job.file.read(), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    image = file[file.primary_index]
    job.check_size(*image.size)
    if len(file) > 1:
        job.notices.append(f"{job.name} has {len(file)} pictures; the main one is read")
    icc = _profile(image.info, job)
    samples = np.atleast_3d(np.array(image))  # copied: the memory goes with `image`
    bits = int(image.info["bit_depth"]) if samples.dtype == np.uint16 else 8
    colour, alpha = np.split(samples, [1 if samples.shape[2] < 3 else 3], axis=2)
    if image.premultiplied_alpha:
        colour = _divided(colour, alpha, 2**bits - 1)
    if bits > 8:
        colour, alpha = _full_range(colour, bits), _full_range(alpha, bits)
    return Heic(colour, alpha, bits, icc, image.info.get("exif") or b"")


def _profile(info: dict[str, Any], job: Job) -> bytes | None:
    """The ICC profile, or one for the code points (nclx)."""
    nclx = info.get("nclx_profile")
    if info.get("icc_profile") or not nclx:
        return info.get("icc_profile")
    curve = int(nclx["transfer_characteristics"])
    pngs.refuse_hdr(curve, job.name)
    icc = profiles.from_cicp(int(nclx["color_primaries"]), curve)
    if icc is None:
        job.taken_as_srgb("description of its colours (nclx)")
    return icc


def _divided(colour: np.ndarray, alpha: np.ndarray, full: int) -> np.ndarray:
    """Colours that were multiplied by alpha, without it."""
    divided = colour * (full / np.maximum(alpha, 1).astype(np.float32)) + 0.5
    return np.minimum(divided, full).astype(colour.dtype)


def _full_range(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples of so many bits scaled to 16, white to white."""
    return (samples * np.float32(65535 / (2**bits - 1)) + np.float32(0.5)).astype(np.uint16)
