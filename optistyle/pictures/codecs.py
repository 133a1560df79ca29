"""What image files are read and written with, and the sRGB profile that every file of ours has."""

from __future__ import annotations

import importlib
import struct
from typing import Any

from PIL import ImageCms

#: The formats that are read and written, by extension.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
DEEP_EXTRA = 'pip install "optistyle[deep]"'
FORMATS_EXTRA = 'pip install "optistyle[formats]"'

_srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Bytes 24 to 35 of a profile say when it was made; this one has a fixed date in place of now.
SRGB_PROFILE = _srgb[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + _srgb[36:]


def deep_codecs() -> tuple[Any, Any] | None:
    """The modules imagecodecs and tifffile; None without the extra that brings them."""
    try:
        import imagecodecs
        import tifffile
    except ImportError:
        return None
    return imagecodecs, tifffile


def heif_reader() -> Any | None:
    """The module pi_heif, or else pillow_heif, which has the same functions and an encoder."""
    for name in ("pi_heif", "pillow_heif"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
