"""AdaIN: give the content's features the style's mean and deviation, channel by channel.

X. Huang & S. Belongie, "Arbitrary style transfer in real-time with adaptive instance
normalization", ICCV 2017, eq. 8: AdaIN(c, s) = sigma(s) (c - mu(c)) / sigma(c) + mu(s).
(Report 004's eq. 1 divides by mu(c), a typo.) Several levels: report 001, at relu2_1, relu3_1 and
relu4_1, joined in the decoder by concatenation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from optistyle.baselines.codec import Transfer
from optistyle.encoders.vgg import Features


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
    mean, deviation = mean_deviation(content)
    wanted_mean, wanted_deviation = mean_deviation(style)
    return wanted_deviation * (content - mean) / deviation + wanted_mean


class AdaIN(Transfer):
    """AdaIN at relu4_1."""

    def transform(self, content: Features, style: Features) -> dict[str, Tensor]:
        return {layer: adain(content[layer], style[layer]) for layer in self.layers}


class MultiAdaIN(AdaIN):
    """AdaIN at relu2_1, relu3_1 and relu4_1."""

    layers = ("relu4_1", "relu3_1", "relu2_1")


def losses(
    model: Transfer, content: Tensor, style: Tensor, style_weight: float
) -> dict[str, Tensor]:
    """The training losses of a batch, (B, 3, H, W) each: Huang & Belongie, eqs. 11 to 14.

    Content: mean squared error of the output's features to the transformed ones, summed over the
    model's levels. Style: those of mean and deviation at relu1_1 to relu4_1.
    """
    read = tuple(f"relu{block}_1" for block in range(1, 5))
    with torch.no_grad():
        features, look = model.encoder(content, read), model.encoder(style, read)
        goal = model.transform(features, look)
    with torch.autocast(content.device.type, torch.bfloat16, enabled=content.device.type == "cpu"):
        output = model.decoder(goal).float()
    found = model.encoder(output, read)
    distance = torch.zeros(())
    for layer in read:
        for ours, theirs in zip(
            mean_deviation(found[layer]), mean_deviation(look[layer]), strict=True
        ):
            distance = distance + (ours - theirs).square().mean()
    kept = sum(((found[layer] - goal[layer]).square().mean() for layer in goal), torch.zeros(()))
    outside = (output - output.clamp(0, 1)).square().mean()
    # What is clamped later is lost: a term that the paper does not have keeps it small.
    return {"content": kept, "style": style_weight * distance, "range": 10 * outside}


def reconstruction(model: Transfer, image: Tensor) -> dict[str, Tensor]:
    """The losses of decoding an image's own features: a start for every decoder of this kind."""
    read = tuple(f"relu{block}_1" for block in range(1, 5))
    with torch.no_grad():
        features = model.encoder(image, read)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=image.device.type == "cpu"):
        output = model.decoder({layer: features[layer] for layer in model.layers}).float()
    found = model.encoder(output, read)
    kept = sum(((found[x] - features[x]).square().mean() for x in read), torch.zeros(()))
    return {"pixels": 10 * (output - image).square().mean(), "features": kept}
