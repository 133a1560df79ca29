"""Style pictures painted by program, for the demo and the tests.

Every painting is a function of a size and a random generator, so a name, a size and a seed
always give the same picture.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image

from .cubist import cubist
from .garden import garden
from .ink import ink
from .mosaic import mosaic
from .swirls import swirls
from .woodcut import woodcut

PAINTINGS: dict[str, Callable[[int, Generator], Image.Image]] = {
    "swirls": swirls,
    "mosaic": mosaic,
    "ink": ink,
    "woodcut": woodcut,
    "cubist": cubist,
    "garden": garden,
}


# Pictures are painted this much larger, then reduced: brush marks and outlines come out smooth.
OVERSAMPLE = 1.5


def paint(name: str, size: int = 1280, seed: int = 0) -> Image.Image:
    """Paint one picture of :data:`PAINTINGS` whose longer side is ``size`` pixels."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    large = PAINTINGS[name](round(size * OVERSAMPLE), rng)
    ratio = size / max(large.size)
    width, height = (round(side * ratio) for side in large.size)
    return large.resize((width, height), Image.Resampling.LANCZOS)


__all__ = ["PAINTINGS", "paint"]
