"""Colours of files to sRGB, by ICC profiles; gAMA, cHRM and cICP are made into such profiles."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from optistyle.pictures.codecs import SRGB_PROFILE, deep_codecs

_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
# Unless told not to, lcms puts coarse tables in place of grey curves and of all in
# 16 bits: wrong by up to 19 steps of 255, as measured.
_CMS_FLAGS: Any = 0x2000 | 0x0100  # BLACKPOINTCOMPENSATION, NOOPTIMIZE (no enum before Pillow 10.3)

Point = tuple[float, float]  # a chromaticity: CIE x and y
Primaries = tuple[Point, Point, Point, Point]  # white, red, green, blue

_D65, _DCI = (0.3127, 0.3290), (0.314, 0.351)
SRGB_PRIMARIES: Primaries = (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
# ITU-T H.273, table 2
_PRIMARIES: dict[int, Primaries] = {
    1: SRGB_PRIMARIES,
    5: (_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: (_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    7: (_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: (_DCI, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    12: (_D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}
# Parameters of ICC's parametric curve: (gamma,), or (g, a, b, c, d) of
# (a x + b) ** g from d on, c x below.
Curve = tuple[float, ...]
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BT709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
# ITU-T H.273, table 3
_CURVES: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 14, 15), _BT709_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
    13: _SRGB_CURVE,
}
HDR_CURVES = {16: "PQ", 18: "HLG"}
_UNSPECIFIED = 2
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])  # the white of every ICC profile


def from_cicp(primaries: int, curve: int) -> bytes | None:
    """Return a profile for code points of ITU-T H.273.

    Returns:
        The profile; no bytes for sRGB and for unspecified colours; None for unknown codes.
    """
    known = {**_PRIMARIES, _UNSPECIFIED: SRGB_PRIMARIES}.get(primaries)
    shape = {**_CURVES, _UNSPECIFIED: _SRGB_CURVE}.get(curve)
    return None if known is None or shape is None else _made(known, shape)


def from_gamma(gamma: float | None, primaries: Primaries | None) -> bytes | None:
    """Return a profile for a PNG's gAMA (the encoding exponent) and cHRM; None for senseless ones.

    A gamma of 1/2.2 stands for sRGB, as writers of sRGB pictures mean it (PNG, third edition,
    11.3.2.5).  No bytes mean sRGB.
    """
    if gamma is not None and not 0.1 <= gamma <= 10:
        return None
    is_srgb = gamma is None or abs(gamma - 0.45455) < 0.005
    curve = _SRGB_CURVE if is_srgb or gamma is None else (1 / gamma,)
    primaries = primaries or SRGB_PRIMARIES
    near = np.abs(np.subtract(primaries, SRGB_PRIMARIES)).max() < 0.002
    try:
        return _made(SRGB_PRIMARIES if near else primaries, curve)
    except (np.linalg.LinAlgError, FloatingPointError, struct.error):
        return None


def _made(primaries: Primaries, curve: Curve) -> bytes:
    if primaries == SRGB_PRIMARIES and curve == _SRGB_CURVE:
        return b""
    white, *rgb = ([x / y, 1.0, (1 - x - y) / y] for x, y in primaries)
    with np.errstate(all="raise"):
        columns = np.array(rgb).T
        columns = columns * np.linalg.solve(columns, white)  # RGB to XYZ under the file's white
        cones = _BRADFORD @ _D50 / (_BRADFORD @ white)
        columns = np.linalg.solve(_BRADFORD, cones[:, None] * (_BRADFORD @ columns))
    tags = {b"wtpt": _xyz(_D50)}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True):
        tags[name] = _xyz(column)
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        kind = 0 if len(curve) == 1 else 3
        tags[name] = b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(*curve)
    return _profile(tags)


def _profile(tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile (version 4.3, a display's) of these tags."""
    table, data = struct.pack(">I", len(tags)), b""
    behind = 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", behind + len(data), len(tag))
        data += tag
    header = struct.pack(
        ">I4sI4s4s4s6H4s28x3i48x",
        *(behind + len(data), b"\0\0\0\0", 0x04300000, b"mntr", b"RGB ", b"XYZ "),
        *(2000, 1, 1, 0, 0, 0, b"acsp"),
        *(round(part * 65536) for part in _D50),
    )
    return header + table + data


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def mode_of(icc: bytes | None, own: str) -> str | None:
    """Return the mode ("L", "RGB" or "CMYK") in which pixels of mode `own` are the profile's.

    None where there is nothing to convert: no profile, sRGB, or a profile for other pixels.
    """
    if not icc or icc == SRGB_PROFILE:
        return None
    mode = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}.get(icc[16:20])
    return mode if mode == own or (mode, own) == ("RGB", "L") else None


def convert_8_bit(image: Image.Image, icc: bytes, mode: str) -> Image.Image:
    """Convert an image through a profile to sRGB.

    Args:
        image: Of any mode that Pillow converts to `mode`.
        icc: The profile.
        mode: What `mode_of` returned for it.

    Raises:
        ImageCms.PyCMSError, OSError: The profile is damaged.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    srgb = ImageCms.ImageCmsProfile(io.BytesIO(SRGB_PROFILE))
    transform = ImageCms.buildTransform(source, srgb, mode, "RGB", _INTENT, _CMS_FLAGS)
    return transform.apply(image.convert(mode))


def convert_16_bit(colour: np.ndarray, icc: bytes, mode: str) -> np.ndarray:
    """Convert samples (H, W, 1 or 3), uint16, through a profile to sRGB (H, W, 3).

    Raises:
        RuntimeError: The profile is damaged.
    """
    codecs = deep_codecs()
    assert codecs is not None
    return codecs[0].cms_transform(
        np.ascontiguousarray(colour[..., 0] if mode == "L" else colour),
        icc,
        SRGB_PROFILE,
        colorspace="gray" if mode == "L" else "rgb",
        outcolorspace="rgb",
        intent=int(_INTENT),
        flags=_CMS_FLAGS,
    )
