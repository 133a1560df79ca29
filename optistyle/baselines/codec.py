"""Encoder, transform, mirror decoder: the one design behind AdaIN and its relatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.encoders.vgg import VGG, Features
from optistyle.errors import InputError

#: The decoder's widths at the resolutions of blocks 1 to 4; VGG-19's own in the published ones.
WIDTHS = {"slim": (32, 64, 128, 256), "vgg19": (64, 128, 256, 512)}
#: Pixels of the coarsest grid: images are padded to a multiple of it.
GRID = 16


class Decoder(nn.Module):
    """relu4_1 back to an image: VGG-19's convolutions from conv4_1 to conv1_1 in reverse order.

    Reflection-padded 3x3 convolutions, ReLU after all but the last, nearest-neighbour upsampling
    where the encoder pools (Huang & Belongie, AdaIN, ICCV 2017, section 6). The output is linear.

    Args:
        widths: channels at the resolutions of blocks 1 to 4.
        joins: channels of further features, by layer (relu3_1, relu2_1), concatenated where the
            decoder reaches their resolution.
    """

    def __init__(self, widths: Sequence[int], joins: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.widths, self.joins = tuple(widths), dict(joins or {})
        one, two, three, four = widths
        wide3, wide2 = (self.joins.get(f"relu{block}_1", 0) for block in (3, 2))
        shapes = {
            "conv4_1": (four, three),
            "conv3_4": (three + wide3, three),
            "conv3_3": (three, three),
            "conv3_2": (three, three),
            "conv3_1": (three, two),
            "conv2_2": (two + wide2, two),
            "conv2_1": (two, one),
            "conv1_2": (one, one),
            "conv1_1": (one, 3),
        }
        for name, (source, width) in shapes.items():
            conv = nn.Conv2d(source, width, 3, padding=1, padding_mode="reflect")
            self.add_module(name, conv.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        self.names = tuple(shapes)

    def forward(self, features: Features) -> Tensor:
        """relu4_1 (B, N, H, W), and the layers of ``joins``, to (B, 3, 8 H, 8 W)."""
        x, block = features["relu4_1"], "4"
        for name in self.names:
            if name[4] != block:
                block = name[4]
                x = F.interpolate(x, scale_factor=2, mode="nearest")
                if (layer := f"relu{block}_1") in self.joins:
                    x = torch.cat([x, features[layer]], 1)
            x = self.get_submodule(name)(x)
            if name != "conv1_1":
                x = F.relu(x)
        return x


class Transfer(nn.Module):
    """A feed-forward model: features of content and styles in, transformed features decoded.

    Args:
        encoder: frozen. decoder: with the joins that `layers` names.
    """

    #: What the transform reads, and the decoder is given.
    layers: tuple[str, ...] = ("relu4_1",)

    def __init__(self, encoder: VGG, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def transform(self, content: Features, style: Features) -> dict[str, Tensor]:
        """The content's features in the style, at `layers`."""
        raise NotImplementedError

    def mixture(
        self,
        content: Features,
        styles: Sequence[Features],
        shares: Sequence[float],
        alpha: Mapping[str, float],
    ) -> dict[str, Tensor]:
        """Transformed features, blended over styles by shares, then with the content's by alpha."""
        parts = [self.transform(content, style) for style in styles]
        return {
            layer: alpha[layer]
            * sum((s * part[layer] for s, part in zip(shares, parts, strict=True)), torch.zeros(()))
            + (1 - alpha[layer]) * content[layer]
            for layer in self.layers
        }

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        styles: Sequence[Tensor],
        *,
        shares: Sequence[float] | None = None,
        alpha: float | Mapping[str, float] = 1.0,
    ) -> Tensor:
        """Paint in one pass.

        Args:
            content: (1, 3, H, W) in [0, 1], of any size from 32 px up.
            styles: the same, of any sizes. shares: of each, sum 1; equal by default.
            alpha: strength in [0, 1], one for all levels or by layer; 0 decodes the content itself.

        Returns:
            (1, 3, H, W) in [0, 1].
        """
        shares = shares or [1 / len(styles)] * len(styles)
        by_level = {
            layer: alpha if isinstance(alpha, int | float) else alpha.get(layer, 1.0)
            for layer in self.layers
        }
        for layer, value in by_level.items():
            if not 0 <= value <= 1:
                raise InputError(f"alpha is {value} at {layer}; it must be from 0 to 1")
        height, width = content.shape[-2:]
        features = self.encoder(padded(content), self.layers)
        looks = [self.encoder(padded(style), self.layers) for style in styles]
        return self.decoder(self.mixture(features, looks, shares, by_level))[
            ..., :height, :width
        ].clamp(0, 1)


def padded(image: Tensor) -> Tensor:
    """(B, 3, H, W) with its right and lower borders mirrored up to a multiple of `GRID`."""
    height, width = image.shape[-2:]
    if min(height, width) < 2 * GRID:
        raise InputError(f"an image of {width}x{height} px is too small; 32 px a side or more")
    return F.pad(image, (0, -width % GRID, 0, -height % GRID), mode="reflect")
