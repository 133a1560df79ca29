"""JPEG files that end early: whether all pixels, or all but the last blocks, are there."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import JpegImagePlugin

_END = b"\xff\xd9"
# What could follow the end: bytes of no meaning, each a legal one of entropy-coded data.
_FILLER = np.random.default_rng(0).integers(0, 255, 1 << 16, dtype=np.uint8).tobytes()


def mended(file: BinaryIO) -> JpegImagePlugin.JpegImageFile | None:
    """Decode a JPEG that ends without its end marker.

    Where data are missing, the decoder's result depends on what it is given in their place.  So
    the file is decoded twice, with the marker and with noise behind it; rows that are equal come
    from the file.  Each coefficient must have come to its last bit, too (`_all_scans_began`).

    Returns:
        The image, loaded; None where more is missing than the last row of blocks.
    """
    file.seek(0)
    data = file.read()
    if not _all_scans_began(data):
        return None
    try:
        image, other = (_loaded(data + tail) for tail in (_END, _FILLER + _END))
    except (OSError, SyntaxError):
        return None
    differs = (np.asarray(image) != np.asarray(other)).reshape(image.height, -1).any(1)
    first = int(differs.argmax()) if differs.any() else image.height
    block = 8 * max(layer[2] for layer in image.layer)
    last_row = (image.height - 1) // block * block
    return image if first >= last_row - 2 else None  # chroma is interpolated from beside, too


def _loaded(data: bytes) -> JpegImagePlugin.JpegImageFile:
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    image.load()
    return image


def _all_scans_began(data: bytes) -> bool:
    """Whether each coefficient of each component is in a scan that holds its lowest bit.

    Files of one scan have all of them there; progressive ones, and those of one scan for each
    component, could end between two scans, and no row would show it.
    """
    components, lowest = 0, set()
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF or data[position + 1] in (0x00, 0xFF, *range(0xD0, 0xD9)):
            step = data.find(b"\xff", position + 1)  # entropy-coded data
            if step < 0:
                break
            position = step
            continue
        marker = data[position + 1]
        (length,) = struct.unpack_from(">H", data, position + 2)
        body = data[position + 4 : position + 2 + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) > 5:
            components = body[5]
        elif marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            names = body[1 : 1 + 2 * body[0] : 2]
            start, stop, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            if bits & 15 == 0:
                lowest |= {(name, k) for name in names for k in range(start, min(stop, 63) + 1)}
        position += 2 + length
    return len(lowest) == 64 * components
