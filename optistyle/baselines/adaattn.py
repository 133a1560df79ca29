"""AdaAttN: every position takes the mean and deviation of the style where it attends.

S. Liu et al., "AdaAttN: Revisit attention mechanism in arbitrary neural style transfer", ICCV 2021,
eqs. 3 to 11. M = A h(s), S = sqrt(A h(s)² - M²), output S norm(c) + M. Report 000: the radicand is
clamped at 0, "SV + M" in its text means S norm(c) + M, and only softmax makes A h² - M² a variance.

Several styles: the output is linear in S and M, so that blending outputs by shares is blending the
styles' mean and deviation maps, which report 000 describes and could not verify.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from optistyle.baselines.attention import (
    AttentionTransfer,
    Projections,
    flat,
    inner,
    normalised,
    relative_distance,
)
from optistyle.baselines.codec import BLOCK_STARTS, Decoder, outside
from optistyle.encoders.base import Features
from optistyle.encoders.vgg import VGG
from optistyle.statistics import gather

#: Style positions that are looked at. The published code draws 64 x 64 of them at random; an even
#: grid covers the painting better, and gives the same picture twice.
MOST = 64 * 64
_LOCAL = 3.0
#: Under the root, whose derivative at 0 is infinite, as under that of `mean_deviation`. Report 000
#: adds 1e-8: where attention picks one position, gradients of 5000 then drown all others.
_EPS = 1e-5


def keys(features: Features, layer: str) -> Tensor:
    """Normalised features of relu1_1 to a layer, at its size: (B, K, H, W); eq. 4."""
    depth = BLOCK_STARTS.index(layer) + 1
    size = features[layer].shape[-2:]
    # Resized as published: nearest neighbours, then normalised.
    return torch.cat(
        [normalised(F.interpolate(features[x], size)) for x in BLOCK_STARTS[:depth]], 1
    )


def adapt(content: Tensor, mean: Tensor, second: Tensor) -> Tensor:
    """S norm(c) + M from A h and A h²."""
    deviation = ((second - mean.square()).relu() + _EPS).sqrt()
    return deviation * normalised(content) + mean


def fixed(content: Features, style: Features, layer: str) -> Tensor:
    """AdaAttN without parameters at a layer, the goal of the local loss (eq. 10)."""
    look = style[layer]
    found = gather(
        flat(keys(content, layer)),
        flat(keys(style, layer)),
        flat(torch.cat([look, look.square()], 1)),
    )
    mean, second = found.mT.unflatten(2, content[layer].shape[-2:]).chunk(2, dim=1)
    return adapt(content[layer], mean, second)


class AdaAttN(AttentionTransfer):
    """AdaAttN at relu3_1, which the decoder takes as a join, and at relu4_1 and relu5_1, merged."""

    levels = ("relu4_1", "relu5_1", "relu3_1")
    reads = BLOCK_STARTS
    style_weight = 10.0

    def __init__(
        self, encoder: VGG, decoder: Decoder, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(encoder, decoder, generator)
        for layer in self.levels:
            depth = BLOCK_STARTS.index(layer) + 1
            width = sum(encoder.channels(x) for x in BLOCK_STARTS[:depth])
            part = Projections(encoder.channels(layer), width, inner(encoder, width), generator)
            self.add_module(f"adaattn{layer[4:]}", part)

    def transform(self, content: Features, style: Features) -> dict[str, Tensor]:
        levels = {}
        for layer in self.levels:
            part = cast(Projections, getattr(self, f"adaattn{layer[4:]}"))
            value = part.h(style[layer])
            mean, second = part(
                keys(content, layer), keys(style, layer), [value, value.square()], MOST
            )
            levels[layer] = adapt(content[layer], mean, second)
        return levels

    def losses(
        self, content: Tensor, style: Tensor | None, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Eqs. 8 to 11: statistics at relu2_1 to relu5_1 x 10, local features x 3.

        Not in the paper: each layer's errors are divided by the mean square of what they are
        errors of (see `relative_distance`); and `identity`.
        """
        assert style is not None
        with torch.no_grad():
            kept, look = (self.encoder(x, BLOCK_STARTS) for x in (content, style))
            goals = {layer: fixed(kept, look, layer) for layer in self.levels}
        output = self.paint(self.transform(kept, look))
        found = self.encoder(output, BLOCK_STARTS)
        local = [
            (found[layer] - goal).square().mean() / goal.square().mean()
            for layer, goal in goals.items()
        ]
        return {
            "style": self.style_weight * relative_distance(found, look, BLOCK_STARTS[1:]),
            "local": _LOCAL * torch.stack(local).sum(),
            "identity": self.identity(content),
            "range": outside(output),
        }
