"""Hellinger distance of RGB-uv histograms: does the picture have the style's hues?"""

from __future__ import annotations

import torch
from torch import Tensor

#: Bins along u and v, their range, and the width of the kernel.
BINS, LIMIT, SIGMA = 64, 3.0, 0.02
#: Keeps logarithms of black finite, as in the authors' program.
EPS = 1e-6
#: Pixels at a time, which bounds the memory.
CHUNK = 2**16


@torch.no_grad()
def uv_hellinger(output: Tensor, style: Tensor) -> float:
    """Compute |√H - √H_s| / √2 of log-chroma histograms H of sum 1.

    For each channel, u and v are the logarithms of its ratios to the other two, for red
    log(R / G) and log(R / B). A pixel adds its intensity √(R² + G² + B²) times the kernel
    1 / (1 + (distance / 0.02)²), in u and in v, to every one of 64 x 64 bins over [-3, 3]².

    Range [0, 1]; lower is nearer to the style's colours; 0 for the style itself; symmetric. Blind
    to where colours are and, but for the intensity as weight, to how light they are: a picture
    half as bright is the same. It compares bin by bin, and is blind to how far hues are apart.

    Source: Afifi, Brubaker and Brown, "HistoGAN" (CVPR 2021), equations 1 to 4, and the Hellinger
    distance of its colour matching loss. Histograms here are of all pixels, where the authors'
    program first resizes to 150 px.

    Args:
        output: (1, 3, H, W) in [0, 1].
        style: (1, 3, h, w) in [0, 1], of any size.
    """
    a, b = (_histogram(image).sqrt() for image in (output, style))
    return float((a - b).square().sum().div(2).sqrt())


def _histogram(image: Tensor) -> Tensor:
    """(3, BINS, BINS), float64: a channel's u along rows, its v along columns; of sum 1."""
    centres = torch.linspace(-LIMIT, LIMIT, BINS, device=image.device)
    total = torch.zeros(3, BINS, BINS, dtype=torch.float64, device=image.device)
    for pixels in image[0].flatten(1).float().clamp(0, 1).split(CHUNK, dim=1):
        logs = (pixels + EPS).log()
        intensity = (pixels.square().sum(0) + EPS).sqrt()
        for channel, (first, second) in enumerate(((1, 2), (0, 2), (0, 1))):
            u, v = (
                1 / (1 + ((logs[channel] - logs[other] - centres[:, None]) / SIGMA).square())
                for other in (first, second)
            )
            total[channel] += ((intensity * u) @ v.T).double()
    return total / total.sum()
