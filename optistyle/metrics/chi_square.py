"""Chi-square distance of colour histograms: does the picture have the style's colours?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from optistyle.errors import unknown

#: Preset -> for each of the values 0 to 255 its bin, or -1 where it is not counted.
PRESETS: Mapping[str, Tensor] = {
    "default": torch.arange(256),
    # The report's numpy.histogram(values, arange(0, 255)): 254 bins, the last of which is closed
    # and so holds 253 and 254; values of 255 fall outside.
    "rc2021": torch.cat([torch.arange(254), torch.tensor([253, -1])]),
}


@torch.no_grad()
def chi_square(output: Tensor, style: Tensor, preset: str = "default") -> float:
    """Average 1/2 Σ (a - b)² / (a + b + 1e-20) over R, G and B, of histograms of 8 bits.

    a and b are densities: shares of the counted pixels, bins being one value wide. Range [0, 1];
    lower is nearer to the style's colours; 0 for any rearrangement of its pixels, 1 where no value
    is shared. Blind to where colours are, to which red goes with which green and blue, and to how
    far apart two values are: a shift by one step can cost as much as one by a hundred.

    Source: report 000 (the reproduction of AdaAttN), whose numbers preset ``rc2021`` gives; half
    the symmetric chi-square of Puzicha, Hofmann and Buhmann (CVPR 1997), apart from a factor.

    Args:
        output: (1, 3, H, W) in [0, 1]; rounded to 8 bits.
        style: (1, 3, h, w) in [0, 1], of any size; rounded to 8 bits.
        preset: a key of `PRESETS`.

    Raises:
        InputError: an unknown preset.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    a, b = (_densities(image, PRESETS[preset]) for image in (output, style))
    return float(((a - b).square() / (a + b + 1e-20)).sum(1).mean() / 2)


def _densities(image: Tensor, bins: Tensor) -> Tensor:
    """(3, bins), float64: every channel's histogram, of sum 1 (0 where no pixel is counted)."""
    values = (255 * image.clamp(0, 1) + 0.5).floor().long()[0].flatten(1)
    at = bins.to(image.device)[values]
    counts = torch.stack([x[x >= 0].bincount(minlength=int(bins.max()) + 1) for x in at]).double()
    return counts / counts.sum(1, keepdim=True).clamp_min(1)
