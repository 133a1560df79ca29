"""The cases of `test_formats_matrix` for formats that the extra `formats` adds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np

from optistyle.pictures import SRGB_PROFILE
from tests.picture_files import (
    ALPHA,
    GREY,
    RGB,
    Array,
    Case,
    H,
    W,
    deep,
    exif,
    power,
    profile,
    seen,
    srgb_decoded,
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
