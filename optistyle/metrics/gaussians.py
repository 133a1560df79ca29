"""Features as Gaussians: the Wasserstein-2 distance between their means and covariances."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optistyle.encoders.base import Encoder
from optistyle.layers import BLOCK_STARTS
from optistyle.losses.base import Reference
from optistyle.losses.wasserstein import matrix_root
from optistyle.statistics import Moments


@torch.no_grad()
def bures_distance(
    output: Tensor, style: Tensor, encoder: Encoder, layers: Sequence[str] = BLOCK_STARTS
) -> float:
    """Average W₂²(N(m, C), N(m_s, C_s)) / (|m_s|² + tr C_s) over layers.

        W₂² = |m - m_s|² + tr(C + C_s - 2 (C_s^½ C C_s^½)^½)

    Relative, to the trace of the style's second moment, so that layers and encoders can be
    averaged: features of 0 would score 1. Hence not symmetric. Range [0, inf), usually below 1;
    lower is nearer to the style; 0 for the style itself, up to rounding (1e-7). Blind to where
    in the picture anything is, and to all of the features' distribution beyond its second moments.

    Source: Olkin and Pukelsheim, "The distance between two random vectors with given dispersion
    matrices" (1982); the division is ours.

    Args:
        output: (1, 3, H, W) in [0, 1].
        style: (1, 3, h, w) in [0, 1], of any size.
        encoder: whose features are compared.
        layers: their names.
    """
    ours, theirs = (Reference(encoder(x, layers)) for x in (output, style))
    total = 0.0
    for layer in layers:
        a, b = ours.moments(layer), theirs.moments(layer)
        total += _wasserstein(a, b) / float(b.second.diagonal().double().sum())
    return total / len(layers)


@torch.no_grad()
def single_image_frechet(
    output: Tensor, style: Tensor, encoder: Encoder, layer: str = "relu2_2"
) -> float:
    """Compute W₂²(N(m, C), N(m_s, C_s)) at one layer, every position of which is a sample.

    After the single image Fréchet inception distance, but **not comparable with published SIFID**:
    those are features of Inception, these of VGG-19 or the slim encoder, at the corresponding
    layer, the last before the second pooling. Numbers of two encoders cannot be compared either.

    Range [0, inf); lower is nearer to the style; 0 for the style itself, up to rounding; symmetric.
    Blind to where in the picture anything is, and to forms larger than the layer sees (14 px).

    Source: Rott Shaham, Dekel and Michaeli, "SinGAN" (ICCV 2019), section 4.1; the formula is that
    of Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (NeurIPS 2017), equation 6.

    Args:
        output: (1, 3, H, W) in [0, 1].
        style: (1, 3, h, w) in [0, 1], of any size.
        encoder: whose features are compared.
        layer: its name.
    """
    a, b = (Reference(encoder(x, (layer,))).moments(layer) for x in (output, style))
    return _wasserstein(a, b)


def _wasserstein(a: Moments, b: Moments) -> float:
    """W₂², in float64.

    tr (B^½ A B^½)^½ is the sum of the singular values of A^½ B^½: no root of a rounding error.
    """
    ours, theirs = (Moments(x.first.double(), x.second.double()) for x in (a, b))
    overlap = torch.linalg.svdvals(matrix_root(ours.covariance) @ matrix_root(theirs.covariance))
    shift = (ours.first - theirs.first).square().sum()
    spread = ours.covariance.trace() + theirs.covariance.trace() - 2 * overlap.sum()
    return max(0.0, float(shift + spread))
