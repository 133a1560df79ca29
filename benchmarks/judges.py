"""Networks that judge pictures, and that nothing was optimised in.

Each gives two distances; lower is better. *style* is the mean over five layers of |G - S|² / |S|²,
Gram matrices of the picture and of the painting. *content* is |F - C|² / |C|² at one layer,
features of the picture and of the photograph.

- ``vgg19-16x``: VGG-19 compressed to a sixteenth by Wang et al. (collaborative distillation, CVPR
  2020), at relu1_1 … relu5_1 and relu4_1. The first stage of the encoder slim was distilled from
  it, so that its style distance is partial to slim.
- ``mobilenet``: the MobileNet-v2 of Magenta's style prediction (Ghiasi et al., BMVC 2017), after
  the blocks in front of each halving, and at a sixteenth of the size. A start from Magenta's
  picture takes a style vector from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import accumulate

import numpy as np
from torch import Tensor, nn

from benchmarks import encoders
from optistyle.baselines import magenta
from optistyle.encoders.procedural import calibration_images
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.metrics.distances import content_distance, gram_distance

#: Picture, photograph and painting, (1, 3, H, W) each, to style and content.
Judge = Callable[[Tensor, Tensor, Tensor], tuple[float, float]]


@cache
def _compressed() -> VGG:
    encoder = encoders.compressed(encoders.COMPRESSED / "encoder5.pth")
    return normalise(encoder, mean_activations(encoder, calibration_images()))


def compressed(picture: Tensor, photograph: Tensor, painting: Tensor) -> tuple[float, float]:
    judge = _compressed()
    style = gram_distance(picture, painting, judge)
    return style, content_distance(picture, photograph, judge)


def mobilenet(picture: Tensor, photograph: Tensor, painting: Tensor) -> tuple[float, float]:
    own, theirs, wanted = (_features(x) for x in (picture, photograph, painting))
    style = [_apart(_gram(x), _gram(s)) for x, s in zip(own, wanted, strict=True)]
    return float(np.mean(style)), _apart(own[-2], theirs[-2])


JUDGES: Mapping[str, Judge] = {"vgg19-16x": compressed, "mobilenet": mobilenet}


def _features(image: Tensor) -> list[Tensor]:
    """Of halves, quarters, … of the size: the last block of each, (C, M) in float64."""
    layers = _predictor()
    maps = list(accumulate(layers[:-3], lambda x, layer: layer(x), initial=image))[1:]
    last = {x.shape[-1]: x for x in maps}  # the last one of every size
    return [x[0].flatten(1).double() for x in last.values()]


@cache
def _predictor() -> nn.Sequential:
    return magenta.read().predict.requires_grad_(False)


def _gram(features: Tensor) -> Tensor:
    return features @ features.T / features.shape[1]


def _apart(own: Tensor, wanted: Tensor) -> float:
    return float((own - wanted).square().sum() / wanted.square().sum())
