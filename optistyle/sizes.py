"""Sizes of pictures: which are allowed, and how one size follows from another."""

from __future__ import annotations

import math

#: Pixels of a picture's shorter side at the least (VGG-19 halves a picture four times up to its
#: last layer in use), and of its longer side at the most.
SMALLEST, LARGEST = 16, 32_768


def fit_longer_side(height: int, width: int, longer: int) -> tuple[int, int]:
    """The size (H, W) of the same aspect with a longer side of `longer`, each side at least 1."""
    return _scaled(height, width, longer / max(height, width))


def fit_area(height: int, width: int, area: int, least: int = 0) -> tuple[int, int]:
    """The size (H, W) of the same aspect with `area` pixels or so, no side below `least`, or 1."""
    area = max(area, math.ceil(least**2 * max(height, width) / min(height, width)))
    return _scaled(height, width, math.sqrt(area / (height * width)))


def _scaled(height: int, width: int, factor: float) -> tuple[int, int]:
    return max(1, math.floor(height * factor + 0.5)), max(1, math.floor(width * factor + 0.5))
