"""MicroAST: small encoders of its own, the style given to the decoder as statistics and as filters.

Z. Wang, L. Zhao, Z. Zuo, A. Li, H. Chen, W. Xing & D. Lu, "MicroAST: Towards super-fast
ultra-resolution arbitrary style transfer", AAAI 2023. Only the published files are read: the four
of EndyWon/MicroAST (MIT), whose keys the modules below have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.baselines.adain import mean_deviation, restyle
from optistyle.baselines.base import Alpha, Baseline, check_sides, equal_shares, mirrored, whole
from optistyle.baselines.initial import layer

_WIDTHS = (16, 32, 64)
_LEAST = 16  # px a side


class _Conv(nn.Module):
    """A convolution with reflected borders."""

    def __init__(self, source: int, width: int, side: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv_layer = layer(
            nn.Conv2d,
            *(source, width, side, stride, side // 2),
            generator=None,
            groups=groups,
            padding_mode="reflect",
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_layer(x)


class _Block(nn.Module):
    """A residual block whose convolutions a style can weigh against their own input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (_Conv(_WIDTHS[2], _WIDTHS[2], 3) for _ in range(2))

    def forward(
        self, x: Tensor, weight: Tensor | float = 1.0, bias: Tensor | float = 0.0
    ) -> Tensor:
        inner = F.relu(weight * self.conv1(x) + bias * x)
        return x + weight * self.conv2(inner) + bias * inner


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        one, two, three = _WIDTHS
        convolutions = (
            _Conv(3, one, 9),
            _Conv(one, two, 3, 2, groups=one),
            _Conv(two, two, 1),
            _Conv(two, three, 3, 2, groups=two),
            _Conv(three, three, 1),
        )
        layers = [part for conv in convolutions for part in (conv, nn.ReLU())]
        self.enc1, self.enc2 = nn.Sequential(*layers, _Block()), nn.Sequential(_Block())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        shallow = self.enc1(image)
        return shallow, self.enc2(shallow)


class _Modulator(nn.Module):
    """Filter weights and biases at two levels, (1, N, 1, 1) each."""

    def __init__(self) -> None:
        super().__init__()
        width = _WIDTHS[2]
        for name in ("weight1", "bias1", "weight2", "bias2"):
            self.add_module(name, nn.Sequential(_Conv(width, width, 3, groups=width)))

    def forward(self, level: int, features: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = (
            self.get_submodule(f"{kind}{level}")(features).mean((2, 3), keepdim=True)
            for kind in ("weight", "bias")
        )
        return weight, bias


class _Signal(NamedTuple):
    """What the decoder is told of a style at a level, (1, N, 1, 1) each."""

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        one, two, three = _WIDTHS
        self.dec1, self.dec2 = _Block(), _Block()
        self.dec3 = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            _Conv(three, two, 3, groups=two),
            nn.ReLU(),
            _Conv(two, two, 1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            _Conv(two, one, 3, groups=one),
            nn.ReLU(),
            _Conv(one, one, 1),
            nn.ReLU(),
            _Conv(one, 3, 9),
        )

    def forward(self, deep: Tensor, signals: Sequence[_Signal], alpha: float) -> Tensor:
        x = deep
        for block, signal in zip((self.dec1, self.dec2), reversed(signals), strict=True):
            x = x.lerp(restyle(x, signal.mean, signal.deviation), alpha)
            x = block(x, signal.weight, signal.bias)
        return self.dec3(x)


class MicroAST(Baseline):
    """The four published networks; their weights are 0 until they are loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.content_encoder, self.style_encoder = _Encoder(), _Encoder()
        self.modulator, self.decoder = _Modulator(), _Decoder()
        self.requires_grad_(False)

    def _signals(self, style: Tensor) -> list[_Signal]:
        return [
            _Signal(*mean_deviation(features), *self.modulator(level, features))
            for level, features in enumerate(self.style_encoder(style), start=1)
        ]

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        styles: Sequence[Tensor],
        *,
        shares: Sequence[float] | None = None,
        alpha: Alpha = 1.0,
    ) -> Tensor:
        """Paint in one pass, images of 16 px a side or more.

        Several styles: their statistics and filters are blended by shares. As published, alpha
        leaves the filters alone: 0 is not the content.
        """
        shares, strength = equal_shares(shares, len(styles)), whole(alpha)
        height, width = content.shape[-2:]
        whole_content = mirrored(content, 4, _LEAST)
        for style in styles:
            check_sides(style, _LEAST)
        by_style = [self._signals(style) for style in styles]
        signals = [
            _Signal(
                *(
                    torch.stack([s * x for s, x in zip(shares, values, strict=True)]).sum(0)
                    for values in zip(*level, strict=True)
                )
            )
            for level in zip(*by_style, strict=True)
        ]
        deep = self.content_encoder(whole_content)[1]
        return self.decoder(deep, signals, strength)[..., :height, :width].clamp(0, 1)
