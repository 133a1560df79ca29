"""VGG-19 and its slim likenesses: an image in, named features out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle import layers as names
from optistyle.choices import PADDINGS, PRECISIONS
from optistyle.encoders import winograd
from optistyle.errors import InputError, unknown
from optistyle.layers import DIFFERENCES, IMAGE, PARTS, PIXELS, POOL5
from optistyle.machine import devices
from optistyle.statistics import pointwise

# crowsonkb/style-transfer-pytorch multiplies pooled outputs (2 for average, 0.78 for L2) so that
# activations keep max pooling's size. Mean normalisation does the same exactly, filter by filter.
POOLINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "average": lambda x: F.avg_pool2d(x, 2),
    "max": lambda x: F.max_pool2d(x, 2),
    "l2": lambda x: F.lp_pool2d(x, 2.0, 2),
}

#: The lowest mean activation, relative to the layer's median, that normalisation divides by.
RAREST = 0.3

#: What computes 3x3 convolutions: torch, or `winograd` where that suits.
KERNELS = ("torch", "winograd")


class VGG(nn.Module):
    """A frozen VGG: blocks of 3x3 convolutions with rectifiers, the image halved between blocks.

    It may have any width, any depth and any number of convolutions in each block: VGG-16, VGG-19
    and the slim encoder are all of this class. It meets `base.Encoder`.

    Args:
        convolutions: ``"conv1_1.weight"`` -> (N_out, N_in, 3, 3), ``"conv1_1.bias"`` -> (N_out,),
            and so on: ``convB_I`` is the I-th convolution of block B, without gaps, in at most five
            blocks. The first takes RGB in [0, 1] minus ``mean``. A separable one has
            ``"conv2_2.depthwise"`` -> (N_in, 1, 3, 3), and a weight of (N_out, N_in, 1, 1).
        mean: (3,) RGB in [0, 1], subtracted before padding: zero padding pads with the mean.
        pooling: a key of `POOLINGS`, between blocks (Gatys et al. 2016 prefer average to max).
        padding: one of `PADDINGS`.
        precision: one of `devices.PRECISIONS`, for the convolutions. Features are float32 in all
            cases.
        kernels: one of `KERNELS`; only torch's run on a GPU and in bfloat16.
        name: what the manifest and messages call this encoder.

    Attributes:
        layers: the rectified convolutions in order, ``relu1_1`` first.
        blocks: the number of convolutions in each block, (2, 2, 4, 4, 4) for VGG-19.

    Raises:
        InputError: an unknown option, or convolutions with a gap.
    """

    mean: Tensor

    def __init__(
        self,
        convolutions: Mapping[str, Tensor],
        *,
        mean: Tensor,
        pooling: str = "average",
        padding: str = "reflect",
        precision: str = "float32",
        kernels: str = "torch",
        name: str = "vgg",
    ) -> None:
        super().__init__()
        for kind, given, allowed in (
            ("pooling", pooling, POOLINGS),
            ("padding", padding, PADDINGS),
            ("precision", precision, PRECISIONS),
            ("kernels", kernels, KERNELS),
        ):
            if given not in allowed:
                raise unknown(kind, given, allowed)
        self.name, self.pooling, self.padding, self.precision = name, pooling, padding, precision
        self.kernels = kernels
        self.transformed: dict[str, winograd.Convolution] = {}
        self.blocks = counts(convolutions, name)
        self.layers = names.relus(self.blocks)
        self.register_buffer("mean", mean.detach().float().reshape(1, 3, 1, 1).clone())
        for layer in self.layers:
            conv = f"conv{layer[4:]}"
            for part in PARTS:
                if part != "depthwise" or f"{conv}.{part}" in convolutions:
                    self.register_buffer(f"{conv}_{part}", _frozen(convolutions[f"{conv}.{part}"]))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def convolutions(self) -> dict[str, Tensor]:
        """The weights as the constructor takes them."""
        return {
            f"conv{layer[4:]}.{part}": self.get_buffer(f"conv{layer[4:]}_{part}")
            for layer in self.layers
            for part in PARTS
            if part != "depthwise" or self.is_separable(layer)
        }

    def is_separable(self, layer: str) -> bool:
        """Whether a layer's convolution is a depthwise one and a 1x1 one."""
        return f"conv{layer[4:]}_depthwise" in self._buffers

    def is_wide(self, layer: str) -> bool:
        """Whether `winograd` would suit a layer's convolution, as it is computed."""
        where = self.device.type == "cpu" and self.precision == "float32"
        return where and winograd.suits(self.get_buffer(f"conv{layer[4:]}_weight"))

    def is_transformed(self, layer: str) -> bool:
        """Whether a layer's convolution is Winograd's."""
        return self.kernels == "winograd" and self.is_wide(layer)

    def channels(self, layer: str) -> int:
        """The number of feature maps N at a layer of this encoder."""
        if layer in PIXELS:
            return PIXELS[layer]
        source = self.layers[-1] if layer == POOL5 else layer
        return self.get_buffer(f"conv{source[4:]}_bias").numel()

    @property
    def taps(self) -> tuple[str, ...]:
        """All that can be read: `layers`, and ``pool5`` where there are five blocks."""
        return (*self.layers, POOL5) if len(self.blocks) == 5 else self.layers

    def halvings(self, layer: str) -> int:
        """Return how often the image is halved before a layer."""
        return names.halvings(layer)

    def reach(self, layers: Iterable[str]) -> int:
        """Return how many pixels beyond itself a position of the deepest layer depends on."""
        return names.reach(layers, self.taps)

    def workspace(self, layers: Iterable[str]) -> tuple[int, float]:
        """Return the memory of `winograd`: bytes of any size of picture, floats per pixel."""
        deepest = max((self.taps.index(x) for x in {*layers} - {*PIXELS}), default=-1)
        fast = [x for x in self.layers[: deepest + 1] if self.is_transformed(x)]
        fixed, floats = winograd.TILES if fast else 0, 0.0
        for layer in fast:
            weight = self.get_buffer(f"conv{layer[4:]}_weight")
            if layer not in self.transformed:
                fixed += winograd.FILTERS * weight.numel() * weight.element_size()
            channels = sum(weight.shape[:2])
            floats = max(floats, winograd.WORKSPACE * channels / 4 ** self.halvings(layer))
        return fixed, floats

    def settings(self) -> dict[str, str]:
        """Return the choices that change the features: pooling, padding, precision, kernels."""
        chosen = ("pooling", "padding", "precision", "kernels")
        return {name: getattr(self, name) for name in chosen}

    def digest(self) -> str:
        """Return the SHA-256 of the weights and the mean, in hexadecimal."""
        sha = hashlib.sha256()
        for name, tensor in {**self.convolutions(), "mean": self.mean}.items():
            sha.update(f"{name}{tuple(tensor.shape)}".encode())
            sha.update(tensor.detach().float().cpu().contiguous().numpy().data)
        return sha.hexdigest()

    def arithmetic(self) -> AbstractContextManager[None]:
        """Compute as `precision` says; for derivatives too, which take place outside `forward`."""
        return devices.arithmetic(self.device, self.precision)

    def forward(self, image: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return the features at the given layers, in one pass that stops at the deepest of them.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], on the encoder's device; values outside [0, 1] are
                allowed.
            layers: names of `taps` or `layers.PIXELS`; a single name may stand alone.

        Returns:
            For ``reluB_I``: (B, N, H // 2**(B - 1), W // 2**(B - 1)), in the type of the image and
            the weights; float32 where only the convolutions are in bfloat16. ``pool5`` is the last
            layer of block 5 (relu5_4, or the last that the encoder has), halved once more.

        Raises:
            InputError: not such an image, a layer that this encoder lacks, or an image too small
                for the deepest layer.
        """
        _check_image(image)
        wanted = {layers} if isinstance(layers, str) else set(layers)
        if missing := sorted(wanted - {*PIXELS, *self.taps}):
            raise unknown(f"layer of encoder {self.name}", missing[0], self.taps)
        features = {}
        if IMAGE in wanted:
            features[IMAGE] = image
        if DIFFERENCES in wanted:
            features[DIFFERENCES] = forward_differences(image)
        pool, bfloat16 = POOLINGS[self.pooling], self.precision == "bfloat16"
        autocast = torch.autocast(self.device.type, torch.bfloat16) if bfloat16 else nullcontext()
        x, block = image - self.mean, 1
        with self.arithmetic(), autocast:
            for layer in self.taps:
                if len(features) == len(wanted):
                    break
                if layer == POOL5 or int(layer[4]) != block:
                    if min(x.shape[-2:]) < 2:
                        least = 2**block
                        height, width = image.shape[-2:]
                        raise InputError(
                            f"an image of {width}x{height} px is too small for {layer}: "
                            f"its shorter side must be at least {least} px"
                        )
                    x, block = pool(x), int(layer[4])
                if layer != POOL5:
                    x = self._rectified(x, layer)
                if layer in wanted:
                    features[layer] = x.float() if bfloat16 else x
        return features

    def _rectified(self, x: Tensor, layer: str) -> Tensor:
        """A layer: its convolution, padded, and its rectifier."""
        fast = x.dtype == torch.float32 and self.is_transformed(layer)
        # Winograd's reflect at the border themselves, for which a side needs two pixels.
        if fast and min(x.shape[-2:]) > 1:
            return self._transform(layer)(x)
        return F.relu(self.convolve(x, layer))

    def convolve(self, x: Tensor, layer: str) -> Tensor:
        """The convolution of a layer, padded, before its rectifier; by torch's kernels."""
        conv = f"conv{layer[4:]}"
        x = self._padded(x)
        weight, bias = self.get_buffer(f"{conv}_weight"), self.get_buffer(f"{conv}_bias")
        if self.is_separable(layer):
            x = F.conv2d(x, self.get_buffer(f"{conv}_depthwise"), groups=x.shape[1])
            if x.is_cpu:
                return pointwise(x, weight.flatten(1), bias)
        return F.conv2d(x, weight, bias)

    def _transform(self, layer: str) -> winograd.Convolution:
        """Made when first asked for, and again where torch has other threads since."""
        found = self.transformed.get(layer)
        if found is None or found.threads != torch.get_num_threads():
            weight, bias = (self.get_buffer(f"conv{layer[4:]}_{part}") for part in PARTS[1:])
            found = self.transformed[layer] = winograd.Convolution(weight, bias, self.padding)
        return found

    def _padded(self, x: Tensor) -> Tensor:
        if self.padding == "zeros":
            return F.pad(x, (1, 1, 1, 1))
        # A side of one pixel, as relu5_1 has of 16, holds nothing to reflect: it is repeated.
        if min(x.shape[-2:]) == 1:
            return F.pad(x, (1, 1, 1, 1), mode="replicate")
        return _Reflected.apply(x) if x.is_cuda else F.pad(x, (1, 1, 1, 1), mode="reflect")


class _Reflected(torch.autograd.Function):
    """(B, N, H, W) -> (B, N, H + 2, W + 2), by reflection, for GPUs: channels last, as the
    convolutions want them, and the derivative summed in one order. torch's own makes channels
    first, and sums in whatever order threads come."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        padded = torch.empty(
            (batch, channels, height + 2, width + 2),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        padded[..., 1:-1, 1:-1] = x
        for edge, inside in ((0, 2), (-1, -3)):
            padded[..., 1:-1, edge] = padded[..., 1:-1, inside]
        for edge, inside in ((0, 2), (-1, -3)):
            padded[..., edge, :] = padded[..., inside, :]
        return padded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone(memory_format=torch.channels_last)
        for edge, inside in ((0, 2), (-1, -3)):
            gradient[..., inside, :] += gradient[..., edge, :]
        for edge, inside in ((0, 2), (-1, -3)):
            gradient[..., 1:-1, inside] += gradient[..., 1:-1, edge]
        return gradient[..., 1:-1, 1:-1]


def forward_differences(image: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 2C, H, W): x[i + 1] - x[i] along rows, then columns; 0 at the end."""
    across = F.pad(image[..., 1:] - image[..., :-1], (0, 1, 0, 0))
    down = F.pad(image[..., 1:, :] - image[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([across, down], dim=1)


def _check_image(image: object) -> None:
    wants = "give a float tensor (B, 3, H, W) with RGB in [0, 1]"
    if not isinstance(image, Tensor):
        kind = type(image).__name__
        has_pixels = isinstance(getattr(image, "pixels", None), Tensor)
        raise InputError(
            f"image: got a {kind}; {wants}" + (f", such as this {kind}'s .pixels" * has_pixels)
        )
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise InputError(f"image: got {image.dtype} of shape {tuple(image.shape)}; {wants}")


def counts(convolutions: Iterable[str], name: str) -> tuple[int, ...]:
    """Return the number of convolutions in each block of a VGG.

    Args:
        convolutions: keys as `VGG` takes them. name: what messages call the encoder.

    Raises:
        InputError: a convolution is missing, or there are more than five blocks.
    """
    places = [re.fullmatch(r"conv([1-9])_([1-9]\d*)\.weight", key) for key in convolutions]
    found = {(int(place[1]), int(place[2])) for place in places if place}
    deepest = max((block for block, _ in found), default=0)
    blocks = [sum(block == b for block, _ in found) for b in range(1, deepest + 1)]
    expected = {(b, i) for b, count in enumerate(blocks, 1) for i in range(1, count + 1)}
    if not 0 < deepest <= len(names.BLOCKS) or not all(blocks) or found != expected:
        raise InputError(
            f"{name}: not the convolutions of a VGG: give conv1_1, conv1_2 and so on, in order "
            "from conv1_1 without gaps, in at most five blocks"
        )
    return tuple(blocks)


def _frozen(tensor: Tensor) -> Tensor:
    """A copy of our own, without gradient; weights channels-last, which convolves faster."""
    if tensor.ndim == 4:
        return tensor.detach().clone(memory_format=torch.channels_last)
    return tensor.detach().clone()


@torch.no_grad()
def mean_activations(encoder: VGG, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """The mean of every filter's activation over images and positions: layer -> (N,), float64."""
    sums: dict[str, Tensor] = {}
    positions: dict[str, int] = {}
    for image in images:
        for layer, feature in encoder(image.to(encoder.device), encoder.layers).items():
            total = feature.double().sum((0, 2, 3)).cpu()
            sums[layer] = sums.get(layer, torch.zeros_like(total)) + total
            positions[layer] = positions.get(layer, 0) + feature[:, 0].numel()
    return {layer: total / positions[layer] for layer, total in sums.items()}


def normalise(encoder: VGG, means: Mapping[str, Tensor]) -> VGG:
    """The same network, every filter's activation divided by its mean (Gatys et al. 2016, sec. 2).

    ReLU, depthwise convolutions, and average, max and L2 pooling all commute with a positive factor
    per channel, so scaling a filter's weights and bias by 1 / m and the next layer's input channels
    by m changes nothing but the scale at which features are read: exactly, up to rounding.

    Filters that rarely fire count as firing at `RAREST` times their layer's median. Their own mean
    rests on a few positions (between two halves of 24 photographs it differs by factors of up to
    8), and its inverse enters Gram matrices squared: one such filter can outweigh all others.
    """
    scaled = {k: x for k, x in encoder.convolutions().items() if k.endswith(".depthwise")}
    previous: Tensor | None = None
    convolutions = encoder.convolutions()
    for layer in encoder.layers:
        conv = f"conv{layer[4:]}"
        mean = means[layer].double()
        firing = mean[mean > 0]
        median = firing.median() if len(firing) else torch.ones_like(mean[0])
        mean = mean.clamp_min(RAREST * median)
        weight = convolutions[f"{conv}.weight"].cpu().double() / mean.view(-1, 1, 1, 1)
        if previous is not None:
            weight = weight * previous.view(1, -1, 1, 1)
        scaled[f"{conv}.weight"] = weight.float()
        scaled[f"{conv}.bias"] = (convolutions[f"{conv}.bias"].cpu().double() / mean).float()
        previous = mean
    return VGG(
        scaled,
        mean=encoder.mean,
        pooling=encoder.pooling,
        padding=encoder.padding,
        precision=encoder.precision,
        kernels=encoder.kernels,
        name=encoder.name,
    ).to(encoder.device)
