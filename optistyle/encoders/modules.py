"""Read a user's own network: torchvision's VGGs, and modules that are built like them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from torch import Tensor, nn

from optistyle.encoders.formats import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NETWORKS,
    Weights,
    standardised,
)
from optistyle.encoders.vgg import counts
from optistyle.errors import InputError
from optistyle.layers import BLOCKS

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d)
#: Where the part that looks at places ends and a classifier begins.
_ENDS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Linear)
#: What changes no feature of a frozen network, or what the encoder does in its own way.
_IGNORED = (nn.Identity, nn.Dropout, nn.ReflectionPad2d, nn.ZeroPad2d)
_NAME = re.compile(r"conv([1-9])_([1-9]\d*)")


def read(
    module: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Weights:
    """Bring the convolutions of a module to the form that `vgg.VGG` takes.

    Three kinds of module are read:

    - a ``torch.nn.Sequential`` of 3x3 convolutions, rectifiers and 2x2 poolings: a pooling ends a
      block, and the I-th convolution of block B becomes ``convB_I``;
    - a module with such a Sequential as ``features``, as torchvision's ``vgg16()`` and ``vgg19()``;
    - a module whose convolutions are called ``conv1_1``, ``conv1_2``, … themselves.

    Reading ends where a classifier begins, or after five blocks. The module is not changed; its
    own pooling and padding are not taken over.

    Args:
        module: the network.
        mean, std: (3,) each: the network was trained on (x - mean) / std, x being RGB in [0, 1].
            ImageNet's by default, as for torchvision's networks.

    Raises:
        InputError: the module is not built like that, or ``mean`` and ``std`` are no three numbers.
    """
    mean, std = _three("mean", mean, IMAGENET_MEAN), _three("std", std, IMAGENET_STD)
    if min(std) <= 0:
        raise InputError(f"std: got {tuple(std)}; give three numbers above 0")
    convolutions = _by_name(module) or _by_position(module)
    blocks = counts((f"{name}.weight" for name in convolutions), f"encoder {type(module).__name__}")
    known = next((name for name, usual in NETWORKS.items() if usual == blocks), "vgg")
    tensors: dict[str, Tensor] = {}
    source = 3
    for name, conv in convolutions.items():
        if conv.in_channels != source:
            raise InputError(
                f"encoder: {name} takes {conv.in_channels} channels and is given {source}; "
                "give a network that takes RGB, its layers one after the other"
            )
        source = conv.out_channels
        bias = conv.weight.new_zeros(source) if conv.bias is None else conv.bias
        tensors[f"{name}.weight"] = conv.weight.detach().cpu().float()
        tensors[f"{name}.bias"] = bias.detach().cpu().float()
    return standardised(tensors, mean, std, f"{known}-module")


def _three(name: str, given: Sequence[float] | None, usual: Sequence[float]) -> list[float]:
    try:
        numbers = [float(x) for x in (usual if given is None else given)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise InputError(f"{name}: got {given!r}; give three numbers, for red, green and blue")
    return numbers


def _by_name(module: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions whose own names say where they belong, in order."""
    found = {}
    for path, part in module.named_modules():
        place = _NAME.fullmatch(path.rpartition(".")[2])
        if place and isinstance(part, nn.Conv2d):
            _check(part, path)
            found[int(place[1]), int(place[2])] = part
    return {f"conv{block}_{index}": found[block, index] for block, index in sorted(found)}


def _by_position(module: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions of a Sequential, named by the poolings between them."""
    sequence = getattr(module, "features", module)
    if not isinstance(sequence, nn.Sequential):
        raise InputError(
            f"encoder: the order of layers in a {type(module).__name__} is not known; give its "
            "torch.nn.Sequential of convolutions, or call them conv1_1, conv1_2, conv2_1 …"
        )
    found: dict[str, nn.Conv2d] = {}
    block, index, linear = 1, 0, ""
    for path, part in sequence.named_modules(remove_duplicate=False):
        if isinstance(part, nn.Sequential):
            continue
        if isinstance(part, _ENDS):
            break
        if linear and isinstance(part, (*_POOLS, nn.Conv2d)):
            raise InputError(f"encoder: no ReLU follows layer {linear!r}; a VGG has one there")
        if isinstance(part, _POOLS):
            _check_pool(part, path)
            block, index = block + 1, 0
            if block > len(BLOCKS):
                break
        elif isinstance(part, nn.Conv2d):
            _check(part, path)
            index += 1
            found[f"conv{block}_{index}"], linear = part, path
        elif isinstance(part, nn.ReLU):
            linear = ""
        elif not isinstance(part, _IGNORED):
            raise InputError(
                f"encoder: layer {path!r} is a {type(part).__name__}; allowed: 3x3 convolutions, "
                "ReLU and 2x2 pooling (fold batch normalisation into the convolutions first)"
            )
    if not found:
        raise InputError(
            f"encoder: a {type(module).__name__} without 3x3 convolutions; give a VGG, such as "
            "torchvision's vgg16 or vgg19"
        )
    return found


def _check(conv: nn.Conv2d, path: str) -> None:
    """Raise `InputError` where a convolution is not one of a VGG."""
    wanted = {"kernel_size": (3, 3), "stride": (1, 1), "dilation": (1, 1), "groups": 1}
    for name, value in wanted.items():
        if getattr(conv, name) != value:
            raise InputError(
                f"encoder: layer {path!r} has {name} {getattr(conv, name)}; a VGG's 3x3 "
                f"convolutions have {value}"
            )


def _check_pool(pool: nn.Module, path: str) -> None:
    sizes = [getattr(pool, "kernel_size", None), getattr(pool, "stride", None)]
    if any(size not in (2, (2, 2)) for size in sizes):
        raise InputError(
            f"encoder: layer {path!r} pools {sizes[0]} px in steps of {sizes[1]}; "
            "a VGG pools 2 px in steps of 2"
        )
