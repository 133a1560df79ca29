"""HEIC files, decoded by libheif through pi-heif or pillow-heif, without registering either."""

from __future__ import annotations

from typing import Any

import numpy as np

from optistyle.pictures import pngs, profiles
from optistyle.pictures.codecs import FORMATS_EXTRA, heif_reader
from optistyle.pictures.containers import refusal
from optistyle.pictures.samples import Samples, from_stored
from optistyle.pictures.sources import Job


def decode(job: Job) -> Samples:
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
    stored = np.array(image)  # copied: the memory goes with `image`
    bits = int(image.info["bit_depth"]) if stored.dtype == np.uint16 else 8
    samples = from_stored(stored, bits, premultiplied=image.premultiplied_alpha)
    samples.icc, samples.exif = icc, image.info.get("exif") or b""
    return samples


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
