"""Adjustable real-time style transfer: how much style, and of which layers, is an input.

M. Babaeizadeh & G. Ghiasi, "Adjustable real-time style transfer", arXiv:1811.08560 (2018): a
Johnson network whose instance normalisations take their scales and shifts from a second network,
the conditioner, that sees the style weights alpha_s of three layers of VGG-19.

Departures: the conditioner has 4 dense layers of 64 (the appendix: 11, of 1000), the network half
the width; normalisation comes before the rectifier as in `johnson`, not behind it; the content is
read at the last layer of block 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.baselines.base import Alpha, Baseline, by_level, fill, no_style
from optistyle.baselines.initial import layer
from optistyle.baselines.johnson import Layout, Norm, Residual, initial_tensors
from optistyle.baselines.teacher import Teacher
from optistyle.encoders.vgg import VGG

#: "The last features of conv2, conv3 and conv4".
LEVELS = ("relu2_2", "relu3_4", "relu4_4")
CONTENT = "relu3_4"
_DECAY = 0.99
_HIDDEN = 64


class _Sigmoid(Layout):
    """pytorch/examples' layers, with an output that stays in 0..255."""

    def finish(self, x: Tensor, norm: Norm) -> Tensor:
        return 255 * torch.sigmoid(x)


class Adjustable(Baseline):
    """A network for one style with a strength for each of `LEVELS`.

    Args:
        tensors: of the residual network, as in `johnson.Residual`; its normalisations' shapes tell
            how many scales and shifts the conditioner gives.
        teacher: what it is to learn; None for one that is only used.
        generator: draws the conditioner's initial weights; None leaves them 0, to be loaded.
    """

    levels = LEVELS
    scaffold = frozenset(("usual",))
    style_weight = 1.0
    #: Of content, then of the levels: running means of the losses, which they are divided by.
    usual: Tensor

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        teacher: Teacher | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        names = [k.removesuffix(".weight") for k in tensors if _is_norm(k)]
        self._sizes = {name: tensors[f"{name}.weight"].numel() for name in names}
        convolutions = {k: x for k, x in tensors.items() if ".conv2d." in k}
        self.network = Residual(convolutions, _Sigmoid())
        widths = (len(LEVELS), *[_HIDDEN] * 3)
        layers: list[nn.Module] = []
        for source, wide in pairwise(widths):
            layers += [layer(nn.Linear, source, wide, generator=generator), nn.ReLU()]
        outputs = 2 * sum(self._sizes.values())
        last = layer(nn.Linear, _HIDDEN, outputs, generator=generator, deviation=0.01)
        self.conditioner = nn.Sequential(*layers, last)
        self.register_buffer("usual", torch.zeros(1 + len(LEVELS)))
        self.teacher = teacher
        self.requires_grad_(teacher is not None)

    def forward(self, image: Tensor, strength: Tensor) -> Tensor:
        """Paint a batch.

        Args:
            image: (B, 3, H, W) in [0, 1]. strength: (B, 3), alpha_s of `LEVELS`.

        Returns:
            (B, 3, H, W) in [0, 1].
        """
        both = self.conditioner(strength).split([2 * n for n in self._sizes.values()], dim=1)
        affine = dict(zip(self._sizes, both, strict=True))

        def norm(x: Tensor, name: str) -> Tensor:
            scale, shift = affine[name][..., None, None].chunk(2, dim=1)
            whitened = F.instance_norm(x.float(), eps=self.network.layout.eps)
            return (1 + scale) * whitened + shift

        return self.network(image, norm)

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        styles: Sequence[Tensor] = (),
        *,
        shares: Sequence[float] | None = None,
        alpha: Alpha = 1.0,
    ) -> Tensor:
        """Paint in one pass; alpha is alpha_s, 0 at all layers giving about the content back."""
        no_style(styles, shares, "adjustable")
        strength = by_level(alpha, LEVELS)
        row = torch.tensor([[strength[level] for level in LEVELS]], device=content.device)
        return self(content, row).clamp(0, 1)

    def warm_up(self, image: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the pixels, without style."""
        nothing = torch.zeros(len(image), len(LEVELS), device=image.device)
        return {"pixels": 10 * (self(image, nothing) - image).square().mean()}

    def losses(
        self, content: Tensor, style: Tensor | None, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """The paper's eq. 5: content + sum alpha_s L_s, each over a running mean of itself.

        Half of the batches draw alpha_s in [0, 1], half one layer alone or, which is not in the
        paper, none: without it, alpha_s of 0 gives a full style.
        """
        assert self.teacher is not None
        count = len(content)
        drawn = rng.random((count, len(LEVELS)))
        if rng.random() < 0.5:
            corners = np.vstack([np.eye(len(LEVELS)), np.zeros(len(LEVELS))])
            drawn = corners[rng.integers(len(corners), size=count)]
        strength = torch.from_numpy(drawn).to(content)
        output = self(content, strength)
        parts = self.teacher.losses(output, content)
        found = torch.stack([parts["content"], *(parts[level] for level in LEVELS)], 1)
        now = found.detach().mean(0)
        begun = bool(self.usual.any())
        self.usual.copy_(_DECAY * self.usual + (1 - _DECAY) * now if begun else now)
        shares = found / self.usual
        losses = {"content": shares[:, 0].mean()}
        for i, level in enumerate(LEVELS):
            losses[level] = self.style_weight * (strength[:, i] * shares[:, 1 + i]).mean()
        return losses


def _is_norm(key: str) -> bool:
    return key.endswith(".weight") and ".conv2d." not in key


def untrained(encoder: VGG, generator: torch.Generator, painting: Tensor) -> Adjustable:
    """A network to train for a painting, (1, 3, H, W) in [0, 1]."""
    tensors = initial_tensors(16, generator)
    tensors["deconv3.conv2d.bias"] = torch.zeros(3)
    tensors["deconv3.conv2d.weight"] /= 32  # the sigmoid's input is about 1, not 255
    teacher = Teacher.of(encoder, painting, CONTENT, LEVELS)
    return Adjustable(tensors, teacher, generator)


def from_tensors(tensors: Mapping[str, Tensor], file: str) -> Adjustable:
    """What `Adjustable.learned` gave."""
    model = Adjustable(initial_tensors(16, None))
    fill(model, tensors, file)
    return model
