"""The names of VGG-19's layers, and how users write them.

``reluB_I`` is the output of the rectifier behind the I-th convolution of block B. Papers that write
``convB_I`` mean the same tensor, because Caffe's ReLU works in place (Gatys et al. 2016, sec. 2);
the alias is accepted wherever a user names a layer.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from optistyle.errors import InputError, unknown

#: Convolutions and VGG-19's own channels, block by block (Simonyan & Zisserman 2015, table 1 E).
BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))


def relus(counts: Iterable[int]) -> tuple[str, ...]:
    """Name the rectified convolutions of a VGG in order.

    Args:
        counts: the number of convolutions in each block.
    """
    return tuple(
        f"relu{block}_{index}"
        for block, count in enumerate(counts, start=1)
        for index in range(1, count + 1)
    )


#: VGG-19's rectified convolutions, in the order of the network.
RELUS = relus(count for count, _ in BLOCKS)
#: The first of every block: the layers of the style loss (Gatys et al. 2016).
BLOCK_STARTS = tuple(f"relu{block}_1" for block in range(1, len(BLOCKS) + 1))
#: The sixth level: block 5's output, halved once more. (16x16 positions of 512x512 px.)
POOL5 = "pool5"
#: VGG-19's channel count N at every layer.
#: The loss formulas use these whatever the width of the encoder at hand (see `losses.gram`).
CHANNELS: Mapping[str, int] = MappingProxyType(
    {layer: BLOCKS[int(layer[4]) - 1][1] for layer in (*RELUS, POOL5)}
)

#: Features without a network: the image, and its differences between neighbours; their channels.
IMAGE, DIFFERENCES = "image", "differences"
PIXELS: Mapping[str, int] = MappingProxyType({IMAGE: 3, DIFFERENCES: 6})

#: What a convolution is made of: a separable one has a depthwise 3x3 part, and weights of 1x1.
PARTS = ("depthwise", "weight", "bias")

LayerWeights = Mapping[str, float]


def halvings(layer: str) -> int:
    """Return how often a VGG halves the image before a layer: a position is 2**halvings px wide."""
    if layer in PIXELS:
        return 0
    return len(BLOCKS) if layer == POOL5 else int(layer[4]) - 1


def reach(layers: Iterable[str], taps: Sequence[str]) -> int:
    """Return how many pixels beyond itself a position of a VGG's deepest layer depends on.

    Every 3x3 convolution adds one position on each side; pooling, aligned, adds none.

    Args:
        layers: the names to be read.
        taps: the encoder's layers in order (see `encoders.base.Encoder.taps`).
    """
    wanted = {*layers}
    deepest = max((taps.index(layer) for layer in wanted - {*PIXELS}), default=-1)
    convolved = (layer for layer in taps[: deepest + 1] if layer != POOL5)
    return max(int(DIFFERENCES in wanted), sum(2 ** halvings(layer) for layer in convolved))


def canonical(name: str) -> str:
    """``relu4_1`` for ``relu4_1`` and ``conv4_1``; else an `InputError` with the nearest name."""
    if not isinstance(name, str):
        raise InputError(f"a layer is given as {name!r}; give its name, such as relu4_1")
    layer = re.sub(r"^conv(?=\d)", "relu", name.strip().lower())
    if layer not in CHANNELS:
        raise unknown("layer", name, CHANNELS)
    return layer


def parse(text: str) -> dict[str, float]:
    """``"relu4_1:2,relu3_1"`` as ``{"relu4_1": 2.0, "relu3_1": 1.0}``.

    Weights are relative: each loss term divides them by their sum.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = part.partition(":")
        try:
            weight = float(number) if number else 1.0
        except ValueError:
            raise InputError(f"layer weight in {part!r} is not a number; write relu4_1:2") from None
        layer = canonical(name)
        if layer in weights:
            raise InputError(f"layer {layer!r} is named twice in {text!r}")
        weights[layer] = weight
    return check(weights)


def check(weights: LayerWeights) -> dict[str, float]:
    """The weights under canonical names, or an `InputError` naming what is wrong with them."""
    if not weights:
        raise InputError("no layer is named; write for example relu3_1,relu4_1")
    for layer, weight in weights.items():
        if not (isinstance(weight, numbers.Real) and math.isfinite(weight) and weight > 0):
            raise InputError(f"weight {weight!r} of layer {layer!r} is not a positive number")
    checked = {canonical(layer): float(weight) for layer, weight in weights.items()}
    if len(checked) < len(weights):
        raise InputError(f"a layer is named twice in {', '.join(weights)}; conv4_1 is relu4_1")
    return checked


def normalised(weights: LayerWeights) -> dict[str, float]:
    """The same weights, divided by their sum: a term means the same for any number of layers."""
    total = sum(weights.values())
    return {layer: weight / total for layer, weight in weights.items()}


def spell(weights: LayerWeights) -> str:
    """The inverse of `parse`, weights of one left out."""
    return ",".join(
        layer if weight == 1 else f"{layer}:{weight!r}".removesuffix(".0")
        for layer, weight in weights.items()
    )
