"""LPIPS and DISTS: how alike do two pictures look? For users who bring the backbone's weights.

A backbone is a file of torchvision's weights, by default in torchvision's cache. Nothing is
downloaded. The linear weights on top of it are the published ones, which torchmetrics ships.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from optistyle.encoders.weights import load_tensors
from optistyle.errors import InputError, unknown
from optistyle.pictures import resize

_URLS = {
    "alexnet": models.AlexNet_Weights.IMAGENET1K_V1.url,
    "vgg16": models.VGG16_Weights.IMAGENET1K_V1.url,
}
#: The rectifiers in torchvision's ``features`` that are read, and the shortest side in px.
_READ = {"alexnet": (1, 4, 7, 9, 11), "vgg16": (3, 8, 15, 22, 29)}
_LEAST = {"alexnet": 31, "vgg16": 16}


@torch.no_grad()
def lpips(
    output: Tensor, content: Tensor, *, net: str = "alexnet", file: str | Path | None = None
) -> float:
    """Compute Σ over layers of the mean over positions of wᵀ (f - g)², f and g of length 1.

    Range [0, inf), usually below 1; lower looks more alike; 0 for the content itself; symmetric.
    Blind to what the backbone does not tell apart. Colour and texture count as well as content:
    every stylisation moves it.

    Source: Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep
    Features as a Perceptual Metric" (CVPR 2018), equation 1; linear weights of version 0.1.

    Args:
        output: (1, 3, H, W) in [0, 1].
        content: (1, 3, h, w) in [0, 1]; it is resized to the output.
        net: ``alexnet``, which papers report unless they say otherwise, or ``vgg16``.
        file: the backbone's weights; by default those in torchvision's cache.

    Raises:
        InputError: weights or torchmetrics are not installed, or the picture is too small.
    """
    if net not in _READ:
        raise unknown("backbone of LPIPS", net, _READ)
    a, b = _pair(output, content, net)
    layers = _backbone(net, file).to(output.device)
    heads = _shipped("lpips_models", {"alexnet": "alex.pth", "vgg16": "vgg.pth"}[net])
    # LPIPS's own constants: ImageNet's for values in [-1, 1], rounded.
    shift = output.new_tensor((-0.030, -0.088, -0.188)).view(1, 3, 1, 1)
    scale = output.new_tensor((0.458, 0.448, 0.450)).view(1, 3, 1, 1)
    a, b = ((2 * x - 1 - shift) / scale for x in (a, b))
    total = 0.0
    for index, layer in enumerate(layers):
        a, b = layer(a), layer(b)
        if index in _READ[net]:
            f, g = (x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt() for x in (a, b))
            weight = heads[f"lin{_READ[net].index(index)}.model.1.weight"].to(a)
            total += float(F.conv2d((f - g).square(), weight).mean())
    return total


@torch.no_grad()
def dists(output: Tensor, content: Tensor, *, file: str | Path | None = None) -> float:
    """Compute 1 - Σ (α l + β s) over channels of the picture itself and of five layers of VGG-16.

        l = (2 m n + c) / (m² + n² + c),  s = (2 cov + c) / (var_m + var_n + c),  c = 1e-6

    m and n are the two pictures' means over all positions of a channel; pooling is by a Hanning
    window's L2 norm. Range [0, 2], usually below 1; lower looks more alike; 0 for the content
    itself; symmetric. Forgives texture that is drawn anew; blind, in each term, to where in the
    picture two channels agree.

    Source: Ding, Ma, Wang and Simoncelli, "Image Quality Assessment: Unifying Structure and Texture
    Similarity" (IEEE TPAMI 2020), equations 4 to 6; the authors resize to a shorter side of 256 px
    first, which is left to the caller.

    Args:
        output: (1, 3, H, W) in [0, 1].
        content: (1, 3, h, w) in [0, 1]; it is resized to the output.
        file: VGG-16's weights; by default those in torchvision's cache.

    Raises:
        InputError: weights or torchmetrics are not installed, or the picture is too small.
    """
    a, b = _pair(output, content, "vgg16")
    layers = _backbone("vgg16", file).to(output.device)
    heads = _shipped("dists_models", "weights.pt")
    alpha, beta = (heads[name].flatten().to(a) for name in ("alpha", "beta"))
    features = [(a, b)]
    mean, std = (
        output.new_tensor(x).view(1, 3, 1, 1)
        for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    a, b = ((x - mean) / std for x in (a, b))
    for index, layer in enumerate(layers):
        change = _l2_pool if isinstance(layer, nn.MaxPool2d) else layer
        a, b = change(a), change(b)
        if index in _READ["vgg16"]:
            features.append((a, b))
    luminance, structure = [], []
    for pair in features:
        f, g = (x[0].flatten(1) for x in pair)
        m, n = f.mean(1), g.mean(1)
        covariance = (f * g).mean(1) - m * n
        spread = f.var(1, correction=0) + g.var(1, correction=0)
        luminance.append((2 * m * n + 1e-6) / (m**2 + n**2 + 1e-6))
        structure.append((2 * covariance + 1e-6) / (spread + 1e-6))
    likeness = (alpha * torch.cat(luminance) + beta * torch.cat(structure)).sum()
    return float(1 - likeness / (alpha.sum() + beta.sum()))


def _l2_pool(x: Tensor) -> Tensor:
    window = x.new_tensor((0.25, 0.5, 0.25))
    kernel = torch.outer(window, window).expand(x.shape[1], 1, 3, 3)
    pooled = F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1])
    return (pooled + 1e-12).sqrt()


def _pair(output: Tensor, content: Tensor, net: str) -> tuple[Tensor, Tensor]:
    height, width = output.shape[-2:]
    if min(height, width) < _LEAST[net]:
        raise InputError(
            f"a picture of {width}x{height} px is too small for {net}: its shorter side must be "
            f"at least {_LEAST[net]} px"
        )
    return output, resize(content, (height, width))


def _backbone(net: str, file: str | Path | None) -> nn.Sequential:
    """The layers of a backbone up to the last that is read."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = Path(file) if file else folder / _URLS[net].rsplit("/", 1)[1]
    if not path.is_file():
        ways = "give its path" if file else f"download {_URLS[net]} and put it into {folder}"
        raise InputError(f"the weights of {net} are not at {path}: {ways}")
    return _load(net, path)


@lru_cache(maxsize=2)
def _load(net: str, path: Path) -> nn.Sequential:
    # On the device meta nothing is drawn from the global generator, and nothing is allocated.
    with torch.device("meta"):
        layers = getattr(models, net)(weights=None).features[: _READ[net][-1] + 1]
    tensors, _ = load_tensors(path)
    wanted = {key: tensors.get(f"features.{key}") for key in layers.state_dict()}
    for key, shape in ((key, x.shape) for key, x in layers.state_dict().items()):
        found = wanted[key]
        if found is None or found.shape != shape:
            raise InputError(
                f"{path}: not torchvision's weights of {net} ('features.{key}' is missing or of "
                f"another shape); download {_URLS[net]}"
            )
    layers.load_state_dict(wanted, assign=True)
    return layers.eval().requires_grad_(False)


@lru_cache
def _shipped(folder: str, file: str) -> dict[str, Tensor]:
    """Weights that torchmetrics ships, next to its own LPIPS and DISTS."""
    try:
        path = Path(str(resources.files("torchmetrics.functional.image"))) / folder / file
    except ImportError:
        raise InputError(
            'LPIPS and DISTS need torchmetrics: pip install "optistyle[metrics]"'
        ) from None
    return load_tensors(path)[0]
