"""SSIM and MS-SSIM: does the picture keep the content's local structure? By torchmetrics.

Both compare grey pictures (Rec. 601 luma), as their papers do: colour, which a style is meant to
change, does not count. Higher is better.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from optistyle.errors import InputError
from optistyle.images import resize

#: Side of the Gaussian window of sigma 1.5, in px.
WINDOW = 11
#: MS-SSIM halves the picture four times, and the window must still fit.
LEAST_SIDE = WINDOW * 2**4


@torch.no_grad()
def ssim(output: Tensor, content: Tensor) -> float:
    """The mean over windows of (2 m n + c₁)(2 cov + c₂) / ((m² + n² + c₁)(var_m + var_n + c₂)).

    m and n are the two pictures' means in a Gaussian window of 11 px, sigma 1.5; c₁ = 0.01² and
    c₂ = 0.03². Windows lie wholly inside the picture. Range [-1, 1]; higher keeps more of the
    content; 1 for the content itself. Symmetric. Blind to colour at equal luma, and to anything
    larger than a window; strict with shifts of a pixel and with strokes that replace texture.

    Source: Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to
    Structural Similarity" (IEEE TIP 2004), equation 13; without the downsampling to 256 px that
    the authors' later program does.

    Args:
        output, content: (1, 3, H, W) in [0, 1]; the content is resized to the output.
    """
    a, b = _pair(output, content, WINDOW)
    compare = _function("structural_similarity_index_measure")
    _, each = compare(a, b, data_range=1.0, return_full_image=True)
    edge = WINDOW // 2  # where windows reach over the picture's edge
    return float(each[..., edge:-edge, edge:-edge].mean())


@torch.no_grad()
def ms_ssim(output: Tensor, content: Tensor) -> float:
    """The product over five scales of SSIM's contrast and structure, and of luminance at the last.

    Each to the power of the paper's weights 0.0448, 0.2856, 0.3001, 0.2363 and 0.1333; negative
    factors count as 0. Range [0, 1]; higher keeps more of the content; 1 for the content itself.
    Symmetric. Blind to colour at equal luma; forgives fine strokes more than SSIM does.

    Source: Wang, Simoncelli and Bovik, "Multi-scale Structural Similarity for Image Quality
    Assessment" (Asilomar 2003), equation 7; as torchmetrics computes it, luminance with windows
    over a mirrored edge too.

    Args:
        output, content: (1, 3, H, W) in [0, 1]; the content is resized to the output.

    Raises:
        InputError: a side shorter than `LEAST_SIDE`.
    """
    a, b = _pair(output, content, LEAST_SIDE)
    compare = _function("multiscale_structural_similarity_index_measure")
    return float(compare(a, b, data_range=1.0))


def _pair(output: Tensor, content: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Both pictures, grey and of one size."""
    height, width = output.shape[-2:]
    if min(height, width) < least:
        raise InputError(
            f"a picture of {width}x{height} px is too small: for this metric its shorter side must "
            f"be at least {least} px"
        )
    return _grey(output), _grey(resize(content, (height, width)))


def _function(name: str) -> Callable[..., Any]:
    try:
        from torchmetrics.functional import image
    except ImportError:
        raise InputError(
            'SSIM and MS-SSIM need torchmetrics: pip install "optistyle[metrics]"'
        ) from None
    return partial(getattr(image, name), sigma=1.5, kernel_size=WINDOW)


def _grey(image: Tensor) -> Tensor:
    """(1, 1, H, W), float64."""
    weights = image.new_tensor((0.299, 0.587, 0.114), dtype=torch.float64).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)
