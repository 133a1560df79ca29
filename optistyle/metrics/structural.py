"""SSIM and MS-SSIM: does the picture keep the content's local structure?

Both compare grey pictures (Rec. 601 luma), as their papers do: colour, which a style is meant to
change, does not count. Higher is better.
"""

from __future__ import annotations

import torch
from torch import Tensor

from optistyle.errors import InputError
from optistyle.pictures import resize

#: Side of the Gaussian window, in px, and its sigma.
WINDOW, SIGMA = 11, 1.5
#: MS-SSIM halves the picture four times, and the window must still fit.
LEAST_SIDE = WINDOW * 2**4


@torch.no_grad()
def ssim(output: Tensor, content: Tensor) -> float:
    """Average (2 m n + c₁)(2 cov + c₂) / ((m² + n² + c₁)(var_m + var_n + c₂)) over windows.

    m and n are the two pictures' means in a Gaussian window of 11 px, sigma 1.5; c₁ = 0.01² and
    c₂ = 0.03². Windows lie wholly inside the picture. Range [-1, 1]; higher keeps more of the
    content; 1 for the content itself. Symmetric. Blind to colour at equal luma, and to anything
    larger than a window; strict with shifts of a pixel and with strokes that replace texture.

    Source: Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to
    Structural Similarity" (IEEE TIP 2004), equation 13; without the downsampling to 256 px that
    the authors' later program does.

    Args:
        output: (1, 3, H, W) in [0, 1].
        content: (1, 3, h, w) in [0, 1]; it is resized to the output.

    Raises:
        InputError: a side shorter than `WINDOW`.
    """
    a, b = _pair(output, content, WINDOW)
    m, n, squares, others, products = _window_means(torch.cat([a, b, a * a, b * b, a * b]))
    variances = (squares - m * m).clamp_min(0) + (others - n * n).clamp_min(0)
    luminance = (2 * m * n + 0.01**2) / (m * m + n * n + 0.01**2)
    structure = (2 * (products - m * n) + 0.03**2) / (variances + 0.03**2)
    return float((luminance * structure).mean())


def _window_means(maps: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, H - 10, W - 10): the means in all windows, along one side and the other.

    Sums of shifted maps: in float64, convolutions take several times as long.
    """
    offsets = torch.arange(WINDOW, dtype=maps.dtype, device=maps.device) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    maps = maps[:, 0]
    for side in (1, 2):
        size = maps.shape[side] - WINDOW + 1
        parts = [w * maps.narrow(side, i, size) for i, w in enumerate(weights / weights.sum())]
        maps = torch.stack(parts).sum(0)
    return maps


@torch.no_grad()
def ms_ssim(output: Tensor, content: Tensor) -> float:
    """Multiply SSIM's contrast and structure at five scales, and its luminance at the last one.

    Each is raised to the power of the paper's weights 0.0448, 0.2856, 0.3001, 0.2363 and 0.1333;
    negative factors count as 0. Range [0, 1]; higher keeps more of the content; 1 for the content
    itself. Symmetric. Blind to colour at equal luma; forgives fine strokes more than SSIM does.

    Source: Wang, Simoncelli and Bovik, "Multi-scale Structural Similarity for Image Quality
    Assessment" (Asilomar 2003), equation 7; as torchmetrics computes it, luminance with windows
    over a mirrored edge too.

    Args:
        output: (1, 3, H, W) in [0, 1].
        content: (1, 3, h, w) in [0, 1]; it is resized to the output.

    Raises:
        InputError: a side shorter than `LEAST_SIDE`, or torchmetrics is not installed.
    """
    a, b = _pair(output, content, LEAST_SIDE)
    try:
        from torchmetrics.functional import image
    except ImportError:
        raise InputError('MS-SSIM needs torchmetrics: pip install "optistyle[metrics]"') from None
    compare = image.multiscale_structural_similarity_index_measure
    return float(compare(a, b, data_range=1.0, sigma=SIGMA, kernel_size=WINDOW))


def _pair(output: Tensor, content: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Both pictures, grey and of one size."""
    height, width = output.shape[-2:]
    if min(height, width) < least:
        raise InputError(
            f"a picture of {width}x{height} px is too small: for this metric its shorter side must "
            f"be at least {least} px"
        )
    return _grey(output), _grey(resize(content, (height, width)))


def _grey(image: Tensor) -> Tensor:
    """(1, 1, H, W), float64."""
    weights = image.new_tensor((0.299, 0.587, 0.114), dtype=torch.float64).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)
