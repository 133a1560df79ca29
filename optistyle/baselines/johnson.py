"""Johnson networks: one style each, learned whole; the picture is one pass of a residual network.

J. Johnson, A. Alahi & L. Fei-Fei, "Perceptual losses for real-time style transfer and
super-resolution", ECCV 2016, with instance normalisation (Ulyanov et al. 2016). Two published
layouts are read unchanged:

- **pytorch/examples** ``fast_neural_style``: keys ``conv1.conv2d.weight``, ``in1.weight``,
  ``res1`` …, ``deconv1`` …; reflection padding, nearest-neighbour upsampling, linear output.
- **lengstrom/fast-style-transfer**: variables in creation order weight, shift, scale; zero padding
  as TensorFlow's SAME, transposed convolutions, instance normalisation behind the last layer too,
  150 tanh + 127.5. Here as the folder of raw float32 files with a ``manifest.json`` of its
  deeplearn.js port.

Both take and give RGB in 0..255. Our own, of half the width, has the layout of pytorch/examples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.baselines.base import Alpha, Baseline, mirrored, no_style, same, whole
from optistyle.baselines.teacher import Teacher
from optistyle.encoders.formats import missing
from optistyle.encoders.vgg import VGG
from optistyle.encoders.weights import load_tensors
from optistyle.errors import InputError


class Layout:
    """How a network convolves, upsamples and ends: this one is that of pytorch/examples."""

    eps = 1e-5

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        reach = weight.shape[-1] // 2
        return F.conv2d(F.pad(x, (reach,) * 4, mode="reflect"), weight, bias, stride)

    def upsample(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.convolve(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias, 1)

    def finish(self, x: Tensor, norm: Norm) -> Tensor:
        return x


class _Same(Layout):
    """lengstrom/fast-style-transfer."""

    eps = 1e-3

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        return F.conv2d(same(x, weight.shape[-1], stride), weight, bias, stride)

    def upsample(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        height, width = x.shape[-2:]
        whole = F.conv_transpose2d(x, weight, bias, stride=2)
        return whole[..., : 2 * height, : 2 * width]

    def finish(self, x: Tensor, norm: Norm) -> Tensor:
        return 150 * torch.tanh(norm(x, "in6")) + 127.5


#: Normalises the output of a convolution, and scales and shifts it: features, name -> features.
Norm = Callable[[Tensor, str], Tensor]

#: The layers in order; those of residual blocks between.
_DOWN = (("conv1", "in1", 1), ("conv2", "in2", 2), ("conv3", "in3", 2))
_UP = (("deconv1", "in4"), ("deconv2", "in5"))
_BLOCKS = 5


class Residual(nn.Module):
    """Two halvings, residual blocks, two doublings; its parameters have published keys.

    Args:
        tensors: ``conv1.conv2d.weight`` -> (32, 3, 9, 9), ``in1.weight`` -> (32,), and so on for
            the names that `convolutions` lists; biases of convolutions where there are any.
        layout: how it computes.
    """

    def __init__(self, tensors: Mapping[str, Tensor], layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        for key, tensor in tensors.items():
            *path, leaf = key.split(".")
            node: nn.Module = self
            for name in path:
                if name not in node._modules:
                    node.add_module(name, nn.Module())
                node = node.get_submodule(name)
            node.register_parameter(leaf, nn.Parameter(tensor.float()))
        self.blocks = [name for name in self._modules if name.startswith("res")]

    def _parts(self, name: str) -> tuple[Tensor, Tensor | None]:
        parts = self.get_submodule(name)._parameters
        weight = parts["weight"]
        assert weight is not None
        return weight, parts.get("bias")

    def _conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        return self.layout.convolve(x, *self._parts(f"{name}.conv2d"), stride)

    def own_norm(self, x: Tensor, name: str) -> Tensor:
        """Instance normalisation with the scale and shift of the network's own parameters."""
        weight, bias = self._parts(name)
        return F.instance_norm(x.float(), weight=weight, bias=bias, eps=self.layout.eps)

    def forward(self, image: Tensor, norm: Norm) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the same; values outside where the layout ends linearly."""
        height, width = image.shape[-2:]
        x = mirrored(255 * image, 4, 16)
        for conv, name, stride in _DOWN:
            x = F.relu(norm(self._conv(x, conv, stride), name))
        for block in self.blocks:
            inner = F.relu(norm(self._conv(x, f"{block}.conv1"), f"{block}.in1"))
            x = x + norm(self._conv(inner, f"{block}.conv2"), f"{block}.in2")
        for conv, name in _UP:
            x = self.layout.upsample(x, *self._parts(f"{conv}.conv2d"))
            x = F.relu(norm(x, name))
        x = self.layout.finish(self._conv(x, "deconv3"), norm)
        return x.float()[..., :height, :width] / 255


class Johnson(Baseline):
    """A network for one style.

    Args:
        network: with its own normalisation.
        teacher: what it is to learn; None for one that is only used.
    """

    style_weight = 2e6

    def __init__(self, network: Residual, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.network, self.teacher = network, teacher
        self.requires_grad_(teacher is not None)

    def learned(self) -> dict[str, Tensor]:
        """Under the keys of pytorch/examples."""
        return self.network.state_dict()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.network.load_state_dict(tensors, strict=False)

    def _paint(self, content: Tensor) -> Tensor:
        return self.network(content, self.network.own_norm)

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        styles: Sequence[Tensor] = (),
        *,
        shares: Sequence[float] | None = None,
        alpha: Alpha = 1.0,
    ) -> Tensor:
        """Paint in one pass; alpha mixes the painted picture with the content (16 px or more)."""
        no_style(styles, shares, "johnson")
        strength = whole(alpha)
        return content.lerp(self._paint(content).clamp(0, 1), strength)

    def warm_up(self, image: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the pixels."""
        return {"pixels": 10 * (self._paint(image) - image).square().mean()}

    def losses(
        self, content: Tensor, style: Tensor | None, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """The paper's eqs. 2 and 4 with the optimiser's scales, and the range term."""
        assert self.teacher is not None
        output = self._paint(content)
        found = {name: loss.mean() for name, loss in self.teacher.losses(output, content).items()}
        kept = found.pop("content")
        distance = torch.stack(list(found.values())).mean()
        outside = (output - output.clamp(0, 1)).square().mean()
        return {"content": kept, "style": self.style_weight * distance, "range": 10 * outside}


#: The paper's layers, of VGG-16 there.
CONTENT = "relu3_3"
STYLE = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")


def untrained(encoder: VGG, generator: torch.Generator, painting: Tensor) -> Johnson:
    """A network to train for a painting, (1, 3, H, W) in [0, 1].

    Half as wide as the paper's, a quarter of the arithmetic: a CPU can train it.
    """
    network = Residual(initial_tensors(16, generator), Layout())
    return Johnson(network, Teacher.of(encoder, painting, CONTENT, STYLE))


def initial_tensors(width: int, generator: torch.Generator | None) -> dict[str, Tensor]:
    """Make initial weights; the output begins about mid-grey.

    Args:
        width: channels at full resolution; twice and four times as many at half and a quarter.
        generator: draws them; None leaves convolutions 0, to be loaded.
    """
    one, two, four = width, 2 * width, 4 * width
    shapes = {"conv1": (one, 3, 9), "conv2": (two, one, 3), "conv3": (four, two, 3)}
    shapes |= {conv: (four, four, 3) for conv, _ in convolutions() if conv.startswith("res")}
    shapes |= {"deconv1": (two, four, 3), "deconv2": (one, two, 3), "deconv3": (3, one, 9)}
    tensors = {}
    for (conv, norm), (wide, source, side) in zip(convolutions(), shapes.values(), strict=True):
        deviation = math.sqrt(2 / (source * side * side))
        last = conv == "deconv3"
        # The network works in 0..255: where nothing is normalised behind it, weights are as large.
        weight = torch.zeros(wide, source, side, side)
        if generator is not None:
            weight.normal_(0, deviation * (32 if last else 1), generator=generator)
        tensors[f"{conv}.conv2d.weight"] = weight
        tensors[f"{conv}.conv2d.bias"] = torch.full((wide,), 127.5 if last else 0.0)
        if not last:
            tensors[f"{norm}.weight"], tensors[f"{norm}.bias"] = torch.ones(wide), torch.zeros(wide)
    return tensors


def convolutions(blocks: int = _BLOCKS) -> list[tuple[str, str]]:
    """Convolutions and the normalisations after them, in order, for a number of residual blocks."""
    residual = [(f"res{b + 1}.conv{i}", f"res{b + 1}.in{i}") for b in range(blocks) for i in (1, 2)]
    return [(c, n) for c, n, _ in _DOWN] + residual + [*_UP, ("deconv3", "in6")]


def read(path: Path) -> Johnson:
    """A published network: a folder of variables, or a state dict, recognised by what is in it."""
    if path.is_dir():
        return from_variables(path)
    tensors, _ = load_tensors(path)
    return from_examples(tensors, str(path))


def from_examples(tensors: Mapping[str, Tensor], file: str) -> Johnson:
    """A state dict of pytorch/examples; its running statistics, of old versions, are not used."""
    found = {}
    for conv, norm in convolutions():
        owners = (f"{conv}.conv2d", norm) if norm != "in6" else (f"{conv}.conv2d",)
        for key in (f"{owner}.{part}" for owner in owners for part in ("weight", "bias")):
            if key not in tensors:
                raise missing(key, tensors, file)
            found[key] = tensors[key]
    with torch.device("meta"):  # shapes alone
        width = max(1, found["conv1.conv2d.weight"].numel() // (3 * 9 * 9))
        wanted = initial_tensors(width, None)
    for key, tensor in found.items():
        if tensor.shape != wanted[key].shape:
            raise InputError(
                f"{file}: {key!r} has shape {tuple(tensor.shape)}; "
                f"a network of its width needs {tuple(wanted[key].shape)}"
            )
    return Johnson(Residual(found, Layout()))


def from_variables(folder: Path) -> Johnson:
    """A folder of lengstrom's variables as raw float32, with their shapes in ``manifest.json``."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no manifest.json that can be read") from error
    found = {}
    for index, (conv, norm) in enumerate(convolutions()):
        weight = _variable(folder, manifest, 3 * index)
        # Stored [kh, kw, in, out]; those of transposed convolutions [kh, kw, out, in], which
        # is what torch's transposed convolution wants in the end as well: (in, out, kh, kw).
        found[f"{conv}.conv2d.weight"] = weight.permute(3, 2, 0, 1)
        found[f"{norm}.bias"] = _variable(folder, manifest, 3 * index + 1)
        found[f"{norm}.weight"] = _variable(folder, manifest, 3 * index + 2)
    return Johnson(Residual(found, _Same()))


def _variable(folder: Path, manifest: Mapping[str, Mapping[str, object]], index: int) -> Tensor:
    name = f"Variable_{index}" if index else "Variable"
    try:
        entry = manifest[name]
        shape = [int(n) for n in entry["shape"]]  # type: ignore[attr-defined]
        values = np.fromfile(folder / Path(str(entry["filename"])).name, dtype="<f4")
        return torch.from_numpy(values.reshape(shape))
    except (KeyError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: {name!r} is missing or damaged") from error
