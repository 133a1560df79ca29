"""Sliced Wasserstein distance of colours: how far must colours move to be the style's?"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from optistyle.errors import InputError

#: Pixels compared of each picture, and directions they are projected on.
PIXELS, DIRECTIONS = 2**14, 64


@torch.no_grad()
def color_wasserstein(output: Tensor, style: Tensor) -> float:
    """Compute the root of the mean over directions θ of W₂²(θᵀ output, θᵀ style), of RGB pixels.

    Range [0, 1]: black against white is 1, to a thousandth. Lower is nearer to the style's colours;
    0 for the style itself; symmetric. Unlike a histogram's, the distance grows with how far colours
    are apart, and it compares the channels together. Blind to where colours are, and to how the eye
    sees them: RGB is not uniform. Of a picture with more than `PIXELS` pixels, that many are drawn,
    with a fixed seed: two large pictures of the same colours are a few thousandths apart.

    Source: Bonneel, Rabin, Peyré and Pfister, "Sliced and Radon Wasserstein Barycenters of
    Measures" (JMIV 2015), section 2; as POT computes it, with p = 2. Directions are spread evenly
    in place of at random: 64 random ones are off by up to a tenth.

    Args:
        output: (1, 3, H, W) in [0, 1].
        style: (1, 3, h, w) in [0, 1], of any size.

    Raises:
        InputError: POT is not installed.
    """
    try:
        from ot.sliced import sliced_wasserstein_distance
    except ImportError:
        raise InputError(
            'the Wasserstein distance of colours needs POT: pip install "optistyle[metrics]"'
        ) from None
    a, b = _pixels(output), _pixels(style)
    return float(sliced_wasserstein_distance(a, b, p=2, projections=_directions()))


def _directions() -> np.ndarray:
    """(3, DIRECTIONS), float64: unit vectors on a spiral from pole to pole."""
    index = np.arange(DIRECTIONS) + 0.5
    height = 2 * index / DIRECTIONS - 1
    radius, angle = np.sqrt(1 - height**2), math.pi * (3 - math.sqrt(5)) * index
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height])


def _pixels(image: Tensor) -> np.ndarray:
    """(N, 3), float64."""
    pixels = image[0].flatten(1).T.cpu().double()
    if len(pixels) > PIXELS:
        chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:PIXELS]
        pixels = pixels[chosen]
    return pixels.numpy()
