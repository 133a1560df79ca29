"""The cases of `test_formats_matrix` for formats that the extra `formats` adds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec

import imagecodecs
import numpy as np

from optistyle.pictures import SRGB_PROFILE
from tests.picture_files import (
    ALPHA,
    BLOCKS,
    GREY,
    JPEG,
    RGB,
    Array,
    Case,
    H,
    W,
    decoded,
    deep,
    exif,
    power,
    profile,
    saved,
    seen,
    srgb_decoded,
    srgb_encoded,
    three,
    upright,
)

HAS_HEIC = find_spec("pillow_heif") is not None  # which encodes, too
LOSSLESS = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}


def heic(*arrays: Array, mode: str | None = None, **options) -> bytes:
    """Lossless HEIC: 8 bits, or 10 for arrays of uint16.

    Args:
        arrays: The pictures (H, W) or (H, W, 3 or 4) of the file; the first is the main one.
        mode: pillow-heif's name of the samples, where it does not follow from the array.
        options: Of pillow-heif's `save`.
    """
    import pillow_heif

    file = pillow_heif.HeifFile()
    for array in arrays:
        channels = {2: "L", 3: "RGB", 4: "RGBA"}[2 if array.ndim == 2 else array.shape[2]]
        name = mode or channels + (";16" if array.dtype == np.uint16 else "")
        file.add_frombytes(name, array.shape[1::-1], array.tobytes())
    if icc := options.pop("icc_profile", None):
        file[0].info.update(icc_profile=icc, icc_profile_type="prof")
    made = io.BytesIO()
    file.save(made, primary_index=0, **{**LOSSLESS, **options})
    return made.getvalue()


def codes(primaries: int, curve: int) -> dict[str, int]:
    return {"color_primaries": primaries, "transfer_characteristics": curve}


def heics() -> Iterator[Case]:
    if not HAS_HEIC:
        return
    rgba = np.dstack([RGB, ALPHA])
    half = np.dstack([(RGB * (ALPHA / 255)[..., None] + 0.5).astype(np.uint8), ALPHA])
    a = ALPHA[..., None].astype(float)
    divided = (half[..., :3] * 255.0 / np.maximum(a, 1)).clip(0, 255)
    for kind, detail, make, colour, alpha in (
        ("RGB", "8 bits", lambda: heic(RGB), RGB, None),
        ("RGBA", "8 bits", lambda: heic(rgba), RGB, ALPHA),
        ("RGBA, premultiplied", "8 bits", lambda: heic(half, mode="RGBa"), divided, ALPHA),
        ("grey", "8 bits", lambda: heic(GREY), three(GREY), None),
        ("RGB", "10 bits", lambda: heic(deep(RGB)), RGB, None),
        ("RGBA", "10 bits", lambda: heic(deep(rgba)), RGB, ALPHA),
        ("grey", "10 bits", lambda: heic(deep(GREY)), three(GREY), None),
    ):
        yield Case("HEIC", kind, detail, make, colour, alpha=alpha)
    for name, array in (("8 bits", RGB), ("10 bits", deep(RGB))):
        for detail, options, colour, said in (
            ("sRGB", {"icc_profile": SRGB_PROFILE}, RGB, ""),
            (
                "Display P3",
                {"icc_profile": profile("p3", 2.2)},
                seen("p3", power(2.2)),
                "",
            ),
            (
                "broken",
                {"icc_profile": SRGB_PROFILE[:128] + b"\xff" * 200},
                RGB,
                "damaged colour profile",
            ),
        ):
            yield Case(
                "HEIC",
                "ICC profile",
                f"{detail}, {name}",
                lambda s=array, o=options: heic(s, **o),
                colour,
                said=said,
            )
        yield Case(
            "HEIC",
            "cICP",
            f"Display P3, {name}",
            lambda s=array: heic(s, **codes(12, 13)),
            seen("p3", srgb_decoded),
        )
        yield Case(
            "HEIC", "HDR", f"PQ, {name}", lambda s=array: heic(s, **codes(9, 16)), refused="HDR.*PQ"
        )
    for orientation in range(1, 9):
        yield Case(
            "HEIC",
            "orientation",
            f"{orientation}",
            lambda o=orientation: heic(RGB, exif=exif(o)),
            upright(RGB, orientation),
        )
    yield Case(
        "HEIC",
        "several pictures",
        "2",
        lambda: heic(RGB, 255 - RGB),
        RGB,
        said="2 pictures; the main one",
    )
    yield Case("HEIC", "cut off", "", lambda: heic(RGB)[: -H * W // 4], refused="damaged")


def jpeg_xls() -> Iterator[Case]:
    """JPEG XL; libjxl marks samples of more than 8 bits as linear."""

    def lossless(array: Array, **options) -> bytes:
        return imagecodecs.jpegxl_encode(array, lossless=True, **options)

    rgba, linear = np.dstack([RGB, ALPHA]), seen("srgb", power(1.0))
    ten = (RGB.astype(np.uint16) * (1023 / 255) + 0.5).astype(np.uint16)
    linear_grey = three(srgb_encoded(GREY / 255))
    for kind, detail, make, colour, alpha in (
        ("RGB", "8 bits", lambda: lossless(RGB), RGB, None),
        ("RGB", "8 bits, in boxes", lambda: lossless(RGB, usecontainer=True), RGB, None),
        ("RGBA", "8 bits", lambda: lossless(rgba), RGB, ALPHA),
        ("grey", "8 bits", lambda: lossless(GREY), three(GREY), None),
        ("RGB, linear", "10 bits", lambda: lossless(ten, bitspersample=10), linear, None),
        ("RGB, linear", "16 bits", lambda: lossless(deep(RGB)), linear, None),
        (
            "RGB, linear",
            "16 bits, lossy",
            lambda: imagecodecs.jpegxl_encode(deep(RGB), distance=0.05),
            linear,
            None,
        ),
        ("RGBA, linear", "16 bits", lambda: lossless(deep(rgba)), linear, ALPHA),
        ("grey, linear", "16 bits", lambda: lossless(deep(GREY)), linear_grey, None),
    ):
        yield Case("JPEG XL", kind, detail, make, colour, alpha=alpha)
    for orientation in range(1, 9):
        jpeg = saved(
            BLOCKS,
            "JPEG",
            exif=b"Exif\0\0" + exif(orientation),
            icc_profile=profile("p3", 2.2),
            **JPEG,
        )
        yield Case(
            "JPEG XL",
            "of a JPEG with orientation and profile",
            f"{orientation}",
            lambda j=jpeg: imagecodecs.jpegxl_encode_jpeg(j, usecontainer=True),
            upright(seen("p3", power(2.2), decoded(jpeg)), orientation),
        )
    yield Case(
        "JPEG XL",
        "animated",
        "two frames",
        lambda: lossless(np.stack([RGB, 255 - RGB]), photometric="rgb"),
        RGB,
        said="animated; its first frame",
    )
    yield Case(
        "JPEG XL",
        "32-bit float samples",
        "",
        lambda: lossless(RGB.astype(np.float32) / 255),
        refused="float samples.*djxl",
    )
    yield Case(
        "JPEG XL",
        "cut off",
        "",
        lambda: imagecodecs.jpegxl_encode(RGB)[:-H],
        refused="damaged",
    )
