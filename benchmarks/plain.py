"""The opponent: a Gatys loop as tutorials write it, on the same weights and the same losses.

One nn.Sequential over all of VGG-19's layers up to conv5_4, features picked up on the way,
torch.optim.LBFGS over the image with a closure. Nothing is done for speed, and nothing against it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.encoders.vgg import VGG
from optistyle.layers import CHANNELS

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def sequential(encoder: VGG) -> tuple[nn.Sequential, dict[str, int]]:
    """The encoder as an nn.Sequential with zero padding, and where each layer's ReLU stands."""
    weights, layers, places, block = encoder.convolutions(), nn.Sequential(), {}, "1"
    for layer in encoder.layers:
        if layer[4] != block:
            layers.append(nn.AvgPool2d(2))
            block = layer[4]
        conv = f"conv{layer[4:]}"
        for name, bias in ((f"{conv}.depthwise", None), (f"{conv}.weight", f"{conv}.bias")):
            if name in weights:
                layers.append(_convolution(weights[name], None if bias is None else weights[bias]))
        layers.append(nn.ReLU())
        places[layer] = len(layers) - 1
    return layers, places


def _convolution(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    outputs, inputs, side, _ = weight.shape
    groups = outputs if inputs == 1 else 1
    conv = nn.Conv2d(
        groups * inputs, outputs, side, padding=side // 2, groups=groups, bias=bias is not None
    )
    conv.weight.data = weight.contiguous().clone()
    if bias is not None:
        assert conv.bias is not None
        conv.bias.data = bias.clone()
    return conv.requires_grad_(False)


def gram(features: Tensor) -> Tensor:
    _, n, h, w = features.shape
    flat = features.view(n, h * w)
    return torch.mm(flat, flat.t()) / (h * w)


def gatys(
    encoder: VGG, content: Tensor, style: Tensor, beta: float = 1e7
) -> Callable[[Tensor], Tensor]:
    """The loss as a function of the image: content at relu4_2, Gram style at relu1_1 … relu5_1."""
    model, places = sequential(encoder)
    wanted = {places[layer]: layer for layer in (*STYLE, "relu4_2")}

    def features(image: Tensor) -> dict[str, Tensor]:
        x, found = image - encoder.mean, {}
        for index, module in enumerate(model):
            x = module(x)
            if index in wanted:
                found[wanted[index]] = x
        return found

    with torch.no_grad():
        goal = features(content)["relu4_2"]
        grams = {layer: gram(x) for layer, x in features(style).items() if layer in STYLE}

    def loss(image: Tensor) -> Tensor:
        found = features(image)
        total = F.mse_loss(found["relu4_2"], goal) / 2
        for layer in STYLE:
            error = (gram(found[layer]) - grams[layer]) / CHANNELS[layer]
            total = total + beta / 5 * error.square().mean() / 4
        return total

    return loss


def optimise(
    encoder: VGG, content: Tensor, style: Tensor, iterations: int, stay: float = 0.0
) -> tuple[Tensor, float]:
    """The picture after that many evaluations, and the seconds per evaluation.

    Args:
        encoder, content, style: all on one device.
        stay: weight of the mean of (x - clip(x, 0, 1))², which keeps the picture in range.
    """
    loss = gatys(encoder, content, style)
    image = content.clone(memory_format=torch.contiguous_format).requires_grad_()
    optimizer = torch.optim.LBFGS([image], max_iter=1, history_size=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(image)
        if stay:
            value = value + stay * (image - image.clamp(0, 1)).square().mean()
        value.backward()
        return value

    optimizer.step(closure)  # warm-up, not timed
    started = now(image.device)
    for _ in range(iterations - 1):
        optimizer.step(closure)
    seconds = (now(image.device) - started) / max(1, iterations - 1)
    return image.detach(), seconds


def now(device: torch.device) -> float:
    """The time, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
