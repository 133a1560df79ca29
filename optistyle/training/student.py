"""The slim encoder in training, and the teacher whose features it learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.baselines.initial import layer as make_layer
from optistyle.encoders.vgg import VGG

#: Channels at every layer.
WIDTHS = {
    "relu1_1": 16,
    "relu1_2": 16,
    "relu2_1": 64,
    "relu2_2": 64,
    "relu3_1": 128,
    "relu3_2": 128,
    "relu3_3": 128,
    "relu3_4": 128,
    "relu4_1": 256,
    "relu4_2": 256,
    "relu4_3": 256,
    "relu4_4": 256,
    "relu5_1": 512,
}
#: The layers whose convolutions are separable.
SEPARABLE = frozenset(("relu2_2", "relu3_2", "relu3_3", "relu3_4", "relu4_2", "relu4_3", "relu4_4"))
TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1")
#: Positions kept along each axis, one in so many: the first layers have more than training needs.
STRIDES = {"relu1_1": 8, "relu2_1": 4, "relu3_1": 2}
MEAN = 0.45


_NEAR: dict[str, Any] = {"padding": 1, "padding_mode": "reflect", "bias": False}


def _convolutions(
    source: int, width: int, separable: bool, generator: torch.Generator
) -> list[nn.Conv2d]:
    """A 3x3 convolution, or a depthwise one and a 1x1 one."""
    kind: type[nn.Conv2d] = nn.Conv2d
    if not separable:
        return [make_layer(kind, source, width, 3, generator=generator, **_NEAR)]
    return [
        make_layer(kind, source, source, 3, generator=generator, groups=source, **_NEAR),
        make_layer(kind, source, width, 1, generator=generator, bias=False),
    ]


class Student(nn.Module):
    """The slim VGG-19 in training: batch normalisation after every convolution.

    Args:
        widths: layer -> channels. generator: draws the initial weights.
    """

    def __init__(self, widths: Mapping[str, int], generator: torch.Generator) -> None:
        super().__init__()
        self.widths = dict(widths)
        sources = [3, *self.widths.values()]
        self.convs: dict[str, list[nn.Conv2d]] = {}
        self.norms: dict[str, nn.BatchNorm2d] = {}
        for (layer, width), source in zip(self.widths.items(), sources, strict=False):
            self.convs[layer] = _convolutions(source, width, layer in SEPARABLE, generator)
            for conv in self.convs[layer]:
                conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.norms[layer] = nn.BatchNorm2d(width)
            self.add_module(f"convs_{layer}", nn.Sequential(*self.convs[layer]))
            self.add_module(f"norms_{layer}", self.norms[layer])
            # Running mean of the rectified output: what mean normalisation will divide by.
            self.register_buffer(f"{layer}_level", torch.full((width,), 0.4))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Rectified features at `TAPS`, not yet mean-normalised."""
        x, block, features = image - MEAN, "1", {}
        with torch.autocast("cpu", torch.bfloat16, enabled=image.device.type == "cpu"):
            for layer in self.widths:
                if layer[4] != block:
                    x, block = F.avg_pool2d(x, 2), layer[4]
                for conv in self.convs[layer]:
                    x = conv(x)
                x = F.relu(self.norms[layer](x))
                if layer in TAPS:
                    features[layer] = x.float()
                    if self.training:
                        with torch.no_grad():
                            level = self.get_buffer(f"{layer}_level")
                            level.lerp_(features[layer].mean((0, 2, 3)), 0.02)
        return features

    def mean_normalised(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features over their running mean (below a twentieth of the typical level: over that)."""
        return {
            layer: f / self.get_buffer(f"{layer}_level").clamp_min(0.02).view(1, -1, 1, 1)
            for layer, f in features.items()
        }

    def folded(self, name: str) -> VGG:
        """Batch normalisation folded into the convolutions, as an ordinary `VGG`."""
        convolutions: dict[str, Tensor] = {}
        for layer in self.widths:
            (*depthwise, last), norm = self.convs[layer], self.norms[layer]
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight = last.weight * scale.view(-1, 1, 1, 1)
            convolutions[f"conv{layer[4:]}.weight"] = weight.detach().contiguous()
            convolutions[f"conv{layer[4:]}.bias"] = (norm.bias - norm.running_mean * scale).detach()
            for part in depthwise:
                convolutions[f"conv{layer[4:]}.depthwise"] = part.weight.detach().contiguous()
        return VGG(convolutions, mean=torch.full((3,), MEAN), name=name)


class Heads:
    """The best linear map from student to teacher at every layer, by least squares.

    Second moments fade exponentially as the student changes. Solved anew at every step, the maps
    are never behind the features, as maps learned by gradient are for thousands of steps; the
    gradient through a solved map is that through the whole solution (envelope theorem).
    """

    def __init__(self, decay: float = 0.97, ridge: float = 1e-3) -> None:
        self._decay, self._ridge = decay, ridge
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: str, features: Tensor, goal: Tensor) -> Tensor:
        """(B, n, H, W) -> (B, N, H, W), the prediction of ``goal``."""
        with torch.no_grad():
            flat = features.transpose(0, 1).flatten(1)
            flat_goal = goal.transpose(0, 1).flatten(1)
            own, cross = flat @ flat.T / flat.shape[1], flat @ flat_goal.T / flat.shape[1]
            if layer in self.moments:
                own = self.moments[layer][0].lerp(own, 1 - self._decay)
                cross = self.moments[layer][1].lerp(cross, 1 - self._decay)
            self.moments[layer] = own, cross
            ridge = self._ridge * own.diagonal().mean() * torch.eye(len(own))
            weight = torch.linalg.solve(own + ridge, cross).T
        return F.conv2d(features, weight[:, :, None, None])


class Teacher:
    """Features of the mean-normalised VGG-19 at `TAPS`, in bfloat16, channels last."""

    def __init__(self, vgg: VGG) -> None:
        self._layers = vgg.layers[: vgg.layers.index("relu5_1") + 1]
        kind, form = torch.bfloat16, torch.channels_last
        weights = vgg.convolutions()
        self._convs = {
            layer: (
                weights[f"conv{layer[4:]}.weight"].to(kind).contiguous(memory_format=form),
                weights[f"conv{layer[4:]}.bias"].to(kind),
            )
            for layer in self._layers
        }
        self._mean = vgg.mean

    @torch.no_grad()
    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        x = (image - self._mean).bfloat16().contiguous(memory_format=torch.channels_last)
        block, features = "1", {}
        for layer in self._layers:
            if layer[4] != block:
                x, block = F.avg_pool2d(x, 2), layer[4]
            x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), *self._convs[layer]))
            if layer in TAPS:
                features[layer] = thinned(layer, x)
        return features


def gram(features: Tensor) -> Tensor:
    """(B, N, H, W) -> (B, N, N), F Fᵀ / M."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def thinned(layer: str, features: Tensor) -> Tensor:
    """Every so many positions of (B, N, H, W), as `STRIDES` says."""
    stride = STRIDES.get(layer, 1)
    return features[..., stride // 2 :: stride, stride // 2 :: stride]
