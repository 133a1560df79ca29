"""AdaIN: give the content's features the style's mean and deviation, channel by channel.

X. Huang & S. Belongie, "Arbitrary style transfer in real-time with adaptive instance
normalization", ICCV 2017, eq. 8: AdaIN(c, s) = sigma(s) (c - mu(c)) / sigma(c) + mu(s).
(Report 004's eq. 1 divides by mu(c), a typo.) Several levels: report 001, at relu2_1, relu3_1 and
relu4_1, joined in the decoder by concatenation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from optistyle.baselines.codec import BLOCK_STARTS, Transfer, outside
from optistyle.encoders.base import Features


def mean_deviation(features: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """(B, N, 1, 1) each: mean and sqrt(variance + eps) over positions.

    The variance is unbiased, as in pytorch-AdaIN; of a single position it is 0.
    """
    flat = features.flatten(2)
    mean = flat.mean(2)
    error = (flat - mean[..., None]).square().sum(2)
    variance = error / max(1, flat.shape[2] - 1)
    return mean[..., None, None], (variance + eps).sqrt()[..., None, None]


def adain(content: Tensor, style: Tensor) -> Tensor:
    """(B, N, H, W) features of the content with the style's mean and deviation per channel."""
    return restyle(content, *mean_deviation(style))


def restyle(content: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """(B, N, H, W) features with a mean and a deviation, (B, N, 1, 1) each."""
    own_mean, own_deviation = mean_deviation(content)
    return deviation * (content - own_mean) / own_deviation + mean


def statistics_distance(found: Features, style: Features, layers: Sequence[str]) -> Tensor:
    """Mean squared errors of means and of deviations, summed over layers (AdaIN, eq. 13)."""
    distances = [
        (ours - theirs).square().mean()
        for layer in layers
        for ours, theirs in zip(
            mean_deviation(found[layer]), mean_deviation(style[layer]), strict=True
        )
    ]
    return torch.stack(distances).sum()


class AdaIN(Transfer):
    """AdaIN at relu4_1."""

    levels: tuple[str, ...] = ("relu4_1",)
    style_weight = 10.0

    def transform(self, content: Features, style: Features) -> dict[str, Tensor]:
        return {layer: adain(content[layer], style[layer]) for layer in self.levels}

    def losses(
        self, content: Tensor, style: Tensor | None, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Huang & Belongie, eqs. 11 to 14.

        Content: mean squared error of the output's features to the transformed ones, summed over
        the levels. Style: those of mean and deviation at relu1_1 to relu4_1.
        """
        assert style is not None
        read = BLOCK_STARTS[:4]
        with torch.no_grad():
            look = self.encoder(style, read)
            goal = self.transform(self.encoder(content, self.levels), look)
        output = self.paint(goal)
        found = self.encoder(output, read)
        kept = torch.stack([(found[x] - goal[x]).square().mean() for x in self.levels]).sum()
        distance = self.style_weight * statistics_distance(found, look, read)
        return {
            "content": kept,
            "style": distance,
            "identity": self.identity(content),
            "range": outside(output),
        }


class MultiAdaIN(AdaIN):
    """AdaIN at relu2_1, relu3_1 and relu4_1."""

    levels = ("relu4_1", "relu3_1", "relu2_1")
