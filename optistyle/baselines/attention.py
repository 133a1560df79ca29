"""What SANet and AdaAttN share: 1x1 projections, one attention, two levels merged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.baselines.adain import mean_deviation, statistics_distance
from optistyle.baselines.codec import Decoder, Transfer
from optistyle.baselines.initial import layer
from optistyle.encoders.base import Features
from optistyle.encoders.vgg import VGG
from optistyle.statistics import gather


def normalised(features: Tensor) -> Tensor:
    """(B, N, H, W) with every channel's mean 0 and deviation 1 (unbiased, as published)."""
    mean, deviation = mean_deviation(features)
    return (features - mean) / deviation


def relative_distance(found: Features, style: Features, layers: Sequence[str]) -> Tensor:
    """`statistics_distance`, every layer's divided by the style's mean square there, summed.

    In no paper: relu5_1 of the slim encoder outweighs the other layers where they are not.
    """
    parts = [statistics_distance(found, style, [x]) / style[x].square().mean() for x in layers]
    return torch.stack(parts).sum()


def flat(features: Tensor) -> Tensor:
    """(B, N, H, W) to (B, M, N), positions row by row."""
    return features.flatten(2).mT


class Projections(nn.Module):
    """The 1x1 convolutions of an attention: f of queries, g of keys, h of values.

    f and g begin as one random projection, so that attention begins as a comparison of features.

    Args:
        values: channels of h's input. keys: of f's and g's. inner: that f and g compare.
        generator: draws the initial weights; None leaves them 0, to be loaded.
    """

    def __init__(
        self, values: int, keys: int, inner: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.f, self.g = (layer(nn.Conv2d, keys, inner, 1, generator=None) for _ in range(2))
        self.h = layer(nn.Conv2d, values, values, 1, generator=None)
        if generator is None:
            return
        projection = nn.init.orthogonal_(torch.empty(inner, keys), generator=generator)
        for conv in (self.f, self.g):
            conv.weight.data.copy_(projection[..., None, None] / 2)
        nn.init.dirac_(self.h.weight)

    def forward(
        self, queries: Tensor, keys: Tensor, values: Sequence[Tensor], most: int | None = None
    ) -> list[Tensor]:
        """Values gathered to the queries' positions.

        Args:
            queries: (B, K, H_c, W_c). keys: (B, K, H_s, W_s).
            values: (B, N, H_s, W_s) each, already through h.
            most: positions of the style that are looked at; where there are more, an even grid
                of them is.

        Returns:
            (B, N, H_c, W_c) for each of the values.
        """
        f, g, looks = flat(self.f(queries)), flat(self.g(keys)), flat(torch.cat(list(values), 1))
        if most is not None and g.shape[1] > most:
            chosen = torch.linspace(0, g.shape[1] - 1, most, device=g.device).round().long()
            g, looks = g[:, chosen], looks[:, chosen]
        found = gather(f, g, looks)
        return list(found.mT.unflatten(2, queries.shape[-2:]).chunk(len(values), dim=1))


class AttentionTransfer(Transfer):
    """relu4_1 and relu5_1 transformed by attention, merged by a convolution, decoded.

    Args:
        encoder: frozen. decoder: of relu4_1's channels, and of what a subclass joins.
        generator: draws the initial weights; None leaves them 0, to be loaded.

    Attributes:
        narrow: relu5_1 to relu4_1's channels, where they differ: not in VGG-19.
        merge_conv: of the sum. In the slim models it has four groups, for the weights' size.
    """

    levels: tuple[str, ...] = ("relu4_1", "relu5_1")

    def __init__(
        self, encoder: VGG, decoder: Decoder, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(encoder, decoder)
        four, five = (encoder.channels(x) for x in ("relu4_1", "relu5_1"))
        self.narrow: nn.Module = nn.Identity()
        if five != four:
            self.narrow = layer(nn.Conv2d, five, four, 1, generator=generator, deviation=0.001)
        groups = 1 if five == four else 4
        self.merge_conv = layer(
            nn.Conv2d,
            *(four, four, 3),
            generator=None,
            padding=1,
            padding_mode="reflect",
            groups=groups,
        )
        if generator is not None:
            nn.init.dirac_(self.merge_conv.weight, groups)

    def merge(self, levels: Features) -> dict[str, Tensor]:
        """merge_conv(relu4_1 + up(relu5_1)), and the other levels as they are."""
        four, five = levels["relu4_1"], self.narrow(levels["relu5_1"])
        merged = self.merge_conv(four + F.interpolate(five, scale_factor=2, mode="nearest"))
        return {**levels, "relu4_1": merged}

    def unstyled(self, content: Features) -> dict[str, Tensor]:
        """The content attending to itself."""
        return self.transform(content, content)


def inner(encoder: VGG, keys: int) -> int:
    """Channels that f and g compare: all, as published; 64 behind the slim encoder."""
    return 64 if encoder.name == "slim" else keys
