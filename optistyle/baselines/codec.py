"""Encoder, transform, mirror decoder: the one design behind AdaIN and its relatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.baselines.base import Alpha, Baseline, by_level, equal_shares, mirrored
from optistyle.baselines.initial import layer
from optistyle.encoders.base import Features
from optistyle.encoders.vgg import VGG
from optistyle.layers import BLOCK_STARTS

#: Pixels of the coarsest grid: images are padded to a multiple of it.
GRID = 16
#: The shortest side in px.
LEAST = 2 * GRID


#: The decoder's convolutions in order: those of VGG-19's blocks 4 to 1 backwards.
CONVOLUTIONS = (
    "conv4_1",
    *(f"conv3_{i}" for i in (4, 3, 2, 1)),
    *("conv2_2", "conv2_1", "conv1_2", "conv1_1"),
)


class Decoder(nn.Module):
    """relu4_1 back to an image: VGG-19's convolutions from conv4_1 to conv1_1 in reverse order.

    Reflection-padded 3x3 convolutions, ReLU after all but the last, upsampling where the encoder
    pools (Huang & Belongie, AdaIN, ICCV 2017, section 6). The output is linear.

    Args:
        widths: channels at the resolutions of blocks 1 to 4.
        joins: channels of further features, by layer (relu3_1, relu2_1), concatenated where the
            decoder reaches their resolution.
        generator: draws the initial weights; None leaves them 0, to be loaded.

    Attributes:
        upsampling: ``nearest``, as published, or ``bilinear``. Nearest neighbours turn every slope
            into stairs of 2, 4 and 8 px, which show as a weave on flat areas.
    """

    upsampling: str = "nearest"

    def __init__(
        self,
        widths: Sequence[int],
        joins: Mapping[str, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.widths, self.joins = tuple(widths), dict(joins or {})
        one, two, three, four = widths
        wide3, wide2 = (self.joins.get(f"relu{block}_1", 0) for block in (3, 2))
        outputs = (three, three, three, three, two, two, one, one, 3)
        inputs = (four, three + wide3, three, three, three, two + wide2, two, one, one)
        for name, source, width in zip(CONVOLUTIONS, inputs, outputs, strict=True):
            conv = layer(
                nn.Conv2d,
                *(source, width, 3),
                generator=generator,
                padding=1,
                padding_mode="reflect",
            )
            self.add_module(name, conv.to(memory_format=torch.channels_last))  # type: ignore[call-overload]

    def forward(self, features: Features) -> Tensor:
        """relu4_1 (B, N, H, W), and the layers of ``joins``, to (B, 3, 8 H, 8 W)."""
        x, block = features["relu4_1"], "4"
        for name in CONVOLUTIONS:
            if name[4] != block:
                block = name[4]
                x = F.interpolate(x, scale_factor=2, mode=self.upsampling)
                if (joined := f"relu{block}_1") in self.joins:
                    x = torch.cat([x, features[joined]], 1)
            x = self.get_submodule(name)(x)
            if name != "conv1_1":
                x = F.relu(x)
        return x


class Transfer(Baseline):
    """A feed-forward model: features of content and styles in, transformed features decoded.

    Args:
        encoder: frozen. decoder: of the layers that `merge` gives.
    """

    #: What the encoder is asked for; by default the levels.
    reads: tuple[str, ...] = ()

    def __init__(self, encoder: VGG, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """What the transform reads of an image, (B, 3, H, W), H and W multiples of `GRID`."""
        return self.encoder(image, self.reads or self.levels)

    def transform(self, content: Features, style: Features) -> dict[str, Tensor]:
        """The content's features in the style, at `levels`, (B, N, H, W) each."""
        raise NotImplementedError

    def unstyled(self, content: Features) -> dict[str, Tensor]:
        """What stands for the content itself at `levels`: alpha 0."""
        return {layer: content[layer] for layer in self.levels}

    def merge(self, levels: Features) -> dict[str, Tensor]:
        """The decoder's input from the levels."""
        return dict(levels)

    def paint(self, levels: Features) -> Tensor:
        """(B, 3, H, W) from transformed features; its convolutions in bfloat16 in training."""
        image = levels["relu4_1"]
        precision = self.encoder.precision == "bfloat16"
        with torch.autocast(image.device.type, torch.bfloat16, enabled=precision):
            return self.decoder(self.merge(levels)).float()

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        styles: Sequence[Tensor],
        *,
        shares: Sequence[float] | None = None,
        alpha: Alpha = 1.0,
    ) -> Tensor:
        """Paint in one pass, images of 32 px a side or more.

        Transformed features are blended over styles by their shares, then with the content's own
        (`unstyled`) by alpha, at every level.
        """
        shares, strength = equal_shares(shares, len(styles)), by_level(alpha, self.levels)
        height, width = content.shape[-2:]
        features = self.features(padded(content))
        mixture = {layer: torch.zeros(()) for layer in self.levels}
        for share, style in zip(shares, styles, strict=True):
            part = self.transform(features, self.features(padded(style)))
            mixture = {layer: mixture[layer] + share * part[layer] for layer in self.levels}
        if min(strength.values()) < 1:
            plain = self.unstyled(features)
            mixture = {x: plain[x].lerp(mixture[x], strength[x]) for x in self.levels}
        return self.paint(mixture)[..., :height, :width].clamp(0, 1)

    def identity(self, content: Tensor) -> Tensor:
        """The sum of `warm_up`'s losses, of a quarter of a batch.

        In no paper of those that use it here, but in SANet's: without it a decoder that is trained
        for thousands of steps, not 160 000, forgets how to give a photograph back.
        """
        part = content[: len(content) // 4 + 1]
        return torch.stack(list(self.warm_up(part).values())).sum()

    def warm_up(self, image: Tensor) -> dict[str, Tensor]:
        """Of decoding an image's own features: pixels, and features at relu1_1 to relu4_1."""
        read = BLOCK_STARTS[:4]
        with torch.no_grad():
            wanted = self.encoder(image, {*read, *self.levels, *self.reads})
        output = self.paint(self.unstyled(wanted))
        found = self.encoder(output, read)
        kept = [(found[x] - wanted[x]).square().mean() for x in read]
        return {
            "pixels": 10 * (output - image).square().mean(),
            "features": torch.stack(kept).sum(),
        }


def outside(output: Tensor) -> Tensor:
    """10 x the mean square of what [0, 1] cuts off: no paper has it, but what is cut is lost."""
    return 10 * (output - output.clamp(0, 1)).square().mean()


def padded(image: Tensor) -> Tensor:
    """(B, 3, H, W) with its right and lower borders mirrored up to a multiple of `GRID`."""
    return mirrored(image, GRID, LEAST)
