"""Samples as libraries decode them, in 8 to 16 bits, with or without alpha."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Samples:
    """An upright picture in its file's colours."""

    colour: np.ndarray  # (H, W, 1 or 3), uint8; uint16 over its full range where bits > 8
    alpha: np.ndarray  # (H, W, 0 or 1) of the same type
    bits: int
    icc: bytes | None = None
    exif: bytes = b""


def from_stored(stored: np.ndarray, bits: int, *, premultiplied: bool) -> Samples:
    """Split samples into colour and alpha, and scale them to 8 or 16 bits, white to white.

    Args:
        stored: (H, W) or (H, W, 1 to 4) from 0 to 2**bits - 1.
        bits: From 8 to 16.
        premultiplied: Whether the colours were multiplied by alpha; they are divided by it.
    """
    stored = np.atleast_3d(stored)
    full = 2**bits - 1
    colour, alpha = np.split(stored, [1 if stored.shape[2] < 3 else 3], axis=2)
    if premultiplied:
        divided = colour * (full / np.maximum(alpha, 1).astype(np.float32)) + 0.5
        colour = np.minimum(divided, full).astype(colour.dtype)
    if 8 < bits < 16:
        scale, half = np.float32(65535 / full), np.float32(0.5)
        colour, alpha = ((part * scale + half).astype(np.uint16) for part in (colour, alpha))
    return Samples(colour, alpha, bits)
