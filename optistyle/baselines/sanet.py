"""SANet: the style's features gathered to where the content resembles them, added to the content's.

D. Y. Park & K. H. Lee, "Arbitrary style transfer with style-attentional networks", CVPR 2019,
eqs. 2 to 11; report 001's "element-wise" product in its eq. 6 is a matrix product in both codes.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from optistyle.baselines.attention import (
    AttentionTransfer,
    Projections,
    inner,
    normalised,
    relative_distance,
)
from optistyle.baselines.codec import BLOCK_STARTS, Decoder, outside
from optistyle.baselines.initial import layer
from optistyle.encoders.base import Features
from optistyle.encoders.vgg import VGG

_PIXELS, _FEATURES = 50.0, 1.0


class _Level(Projections):
    """out_conv(A h(s)) + c."""

    def __init__(self, channels: int, inner: int, generator: torch.Generator | None = None) -> None:
        super().__init__(channels, channels, inner, generator)
        self.out_conv = layer(nn.Conv2d, channels, channels, 1, generator=generator, deviation=0.01)

    def transform(self, content: Tensor, style: Tensor) -> Tensor:
        (found,) = self(normalised(content), normalised(style), [self.h(style)])
        return self.out_conv(found) + content


class SANet(AttentionTransfer):
    """SANet at relu4_1 and relu5_1."""

    style_weight = 3.0

    def __init__(
        self, encoder: VGG, decoder: Decoder, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(encoder, decoder, generator)
        for level in self.levels:
            width = encoder.channels(level)
            self.add_module(f"sanet{level[4:]}", _Level(width, inner(encoder, width), generator))

    def transform(self, content: Features, style: Features) -> dict[str, Tensor]:
        return {
            level: cast(_Level, getattr(self, f"sanet{level[4:]}")).transform(
                content[level], style[level]
            )
            for level in self.levels
        }

    def losses(
        self, content: Tensor, style: Tensor | None, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Park & Lee, eqs. 5 to 9: content, style x 3, identity of pixels x 50 and features x 1.

        Not in the paper: the layers of style and identity are weighed by their size (see
        `relative_distance`).
        """
        assert style is not None
        with torch.no_grad():
            kept, look = (self.encoder(x, BLOCK_STARTS) for x in (content, style))
        output = self.paint(self.transform(kept, look))
        found = self.encoder(output, BLOCK_STARTS)
        contents = [
            (normalised(found[x]) - normalised(kept[x])).square().mean() for x in self.levels
        ]
        pixels, features = [], []
        for image, own in ((content, kept), (style, look)):
            again = self.paint(self.unstyled(own))
            pixels.append((again - image).square().mean())
            back = self.encoder(again, BLOCK_STARTS)
            features += [
                (back[x] - own[x]).square().mean() / own[x].square().mean() for x in BLOCK_STARTS
            ]
        return {
            "content": torch.stack(contents).sum(),
            "style": self.style_weight * relative_distance(found, look, BLOCK_STARTS),
            "identity": _PIXELS * torch.stack(pixels).sum(),
            "identity features": _FEATURES * torch.stack(features).sum(),
            "range": outside(output),
        }
