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

Both take and give RGB in 0..255.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.encoders.weights import load_tensors
from optistyle.errors import InputError


class _Layout(Protocol):
    """How a published network convolves, normalises and ends."""

    eps: float

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor: ...

    def upsample(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor: ...

    def finish(self, x: Tensor, normalise: Mapping[str, Tensor]) -> Tensor: ...


class _Reflecting:
    """pytorch/examples."""

    eps = 1e-5

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        reach = weight.shape[-1] // 2
        return F.conv2d(F.pad(x, (reach,) * 4, mode="reflect"), weight, bias, stride)

    def upsample(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.convolve(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias, 1)

    def finish(self, x: Tensor, normalise: Mapping[str, Tensor]) -> Tensor:
        return x


class _Same:
    """lengstrom/fast-style-transfer."""

    eps = 1e-3

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        # TensorFlow's SAME: what padding is odd goes to the right and below.
        spare = []
        for side in (x.shape[-1], x.shape[-2]):
            total = max(0, (-(-side // stride) - 1) * stride + weight.shape[-1] - side)
            spare += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, spare), weight, bias, stride)

    def upsample(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        height, width = x.shape[-2:]
        whole = F.conv_transpose2d(x, weight, bias, stride=2)
        return whole[..., : 2 * height, : 2 * width]

    def finish(self, x: Tensor, normalise: Mapping[str, Tensor]) -> Tensor:
        return 150 * torch.tanh(_normalised(x, normalise, self.eps)) + 127.5


def _normalised(x: Tensor, affine: Mapping[str, Tensor], eps: float) -> Tensor:
    return F.instance_norm(x, weight=affine["weight"], bias=affine["bias"], eps=eps)


#: The layers in order; those of residual blocks between.
_DOWN = (("conv1", "in1", 1), ("conv2", "in2", 2), ("conv3", "in3", 2))
_UP = (("deconv1", "in4"), ("deconv2", "in5"))
_BLOCKS = tuple(f"res{index}" for index in range(1, 6))


class Johnson(nn.Module):
    """A network read from a published file, frozen.

    Args:
        tensors: ``conv1.weight`` -> (32, 3, 9, 9), ``in1.weight`` -> (32,), and so on, named as in
            pytorch/examples less ``conv2d.``; biases of convolutions where there are any.
        layout: how it computes.
    """

    def __init__(self, tensors: Mapping[str, Tensor], layout: _Layout) -> None:
        super().__init__()
        self._layout = layout
        for key, tensor in tensors.items():
            self.register_buffer(key.replace(".", "_"), tensor.float())

    def _get(self, name: str) -> dict[str, Tensor]:
        return {
            part: self.get_buffer(f"{name}_{part}")
            for part in ("weight", "bias")
            if f"{name}_{part}" in self._buffers
        }

    def _conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        parts = self._get(name)
        return self._layout.convolve(x, parts["weight"], parts.get("bias"), stride)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return _normalised(x, self._get(name), self._layout.eps)

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        styles: Sequence[Tensor] = (),
        *,
        shares: Sequence[float] | None = None,
        alpha: float | Mapping[str, float] = 1.0,
    ) -> Tensor:
        """Paint in one pass; the style is the network's own.

        Args:
            content: (1, 3, H, W) in [0, 1], of any size from 16 px up.
            styles, shares: none. alpha: in [0, 1], of the painted picture over the content.

        Returns:
            (1, 3, H, W) in [0, 1].
        """
        if styles or shares:
            raise InputError("a johnson network has one style, its own: give no STYLE image")
        if not isinstance(alpha, int | float) or not 0 <= alpha <= 1:
            raise InputError(f"alpha is {alpha}; it must be one number from 0 to 1")
        height, width = content.shape[-2:]
        if min(height, width) < 16:
            raise InputError(f"an image of {width}x{height} px is too small; 16 px a side or more")
        x = F.pad(255 * content, (0, -width % 4, 0, -height % 4), mode="reflect")
        for conv, norm, stride in _DOWN:
            x = F.relu(self._norm(self._conv(x, conv, stride), norm))
        for block in _BLOCKS:
            inner = F.relu(self._norm(self._conv(x, f"{block}_conv1"), f"{block}_in1"))
            x = x + self._norm(self._conv(inner, f"{block}_conv2"), f"{block}_in2")
        for conv, norm in _UP:
            parts = self._get(conv)
            x = self._layout.upsample(x, parts["weight"], parts.get("bias"))
            x = F.relu(self._norm(x, norm))
        x = self._layout.finish(self._conv(x, "deconv3"), self._get("in6"))
        painted = (x / 255).clamp(0, 1)[..., :height, :width]
        return content.lerp(painted, float(alpha))


def _names() -> list[tuple[str, str]]:
    """Convolutions and their normalisations in the order of lengstrom's program."""
    blocks = [(f"{b}.conv{i}", f"{b}.in{i}") for b in _BLOCKS for i in (1, 2)]
    return [(c, n) for c, n, _ in _DOWN] + blocks + [*_UP, ("deconv3", "in6")]


def read(path: Path) -> Johnson:
    """A published network: a folder of variables, or a state dict, recognised by what is in it."""
    if path.is_dir():
        return from_variables(path)
    tensors, _ = load_tensors(path)
    return from_examples(tensors, str(path))


def from_examples(tensors: Mapping[str, Tensor], file: str) -> Johnson:
    """A state dict of pytorch/examples; its running statistics, of old versions, are not used."""
    found = {}
    for conv, norm in _names():
        keys = [(f"{conv}.{part}", f"{conv}.conv2d.{part}") for part in ("weight", "bias")]
        if norm != "in6":
            keys += [(f"{norm}.{part}", f"{norm}.{part}") for part in ("weight", "bias")]
        for ours, theirs in keys:
            if theirs not in tensors:
                raise InputError(f"{file}: {theirs!r} is missing")
            found[ours] = tensors[theirs]
    return Johnson(found, _Reflecting())


def from_variables(folder: Path) -> Johnson:
    """A folder of lengstrom's variables as raw float32, with their shapes in ``manifest.json``."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no manifest.json that can be read") from error
    found = {}
    for index, (conv, norm) in enumerate(_names()):
        weight = _variable(folder, manifest, 3 * index)
        # Stored [kh, kw, in, out]; those of transposed convolutions [kh, kw, out, in], which
        # is what torch's transposed convolution wants in the end as well: (in, out, kh, kw).
        found[f"{conv}.weight"] = weight.permute(3, 2, 0, 1)
        found[f"{norm}.bias"] = _variable(folder, manifest, 3 * index + 1)
        found[f"{norm}.weight"] = _variable(folder, manifest, 3 * index + 2)
    return Johnson(found, _Same())


def _variable(folder: Path, manifest: Mapping[str, Mapping[str, object]], index: int) -> Tensor:
    name = f"Variable_{index}" if index else "Variable"
    try:
        entry = manifest[name]
        shape = [int(n) for n in entry["shape"]]  # type: ignore[attr-defined]
        values = np.fromfile(folder / Path(str(entry["filename"])).name, dtype="<f4")
        return torch.from_numpy(values.reshape(shape))
    except (KeyError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: {name!r} is missing or damaged") from error
