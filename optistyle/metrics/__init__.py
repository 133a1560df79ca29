"""Metrics of stylised pictures: one module for each, of functions of images in [0, 1].

>>> check(["ssim", "chi_square"])
('ssim', 'chi_square')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from torch import Tensor

from optistyle import encoders
from optistyle.encoders import weights
from optistyle.encoders.base import Encoder
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError, unknown
from optistyle.metrics.cams import cams
from optistyle.metrics.chi_square import chi_square
from optistyle.metrics.color_transport import color_wasserstein
from optistyle.metrics.distances import content_distance, gram_distance
from optistyle.metrics.external import dists, lpips
from optistyle.metrics.gaussians import bures_distance, single_image_frechet
from optistyle.metrics.self_similarity import self_similarity
from optistyle.metrics.strays import strays
from optistyle.metrics.structural import ms_ssim, ssim
from optistyle.metrics.uv_histogram import uv_hellinger


@dataclass(frozen=True)
class Judged:
    """A picture to measure, and what it is compared with.

    Attributes:
        output: (1, 3, H, W) in [0, 1].
        content: (1, 3, h, w) in [0, 1], of any size.
        style: (1, 3, h, w) in [0, 1], of any size.
        encoder: for the metrics of features.
    """

    output: Tensor
    content: Tensor
    style: Tensor
    encoder: Encoder


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        of: ``content`` where it does not depend on the style, else ``style``.
        measure: computes the number.
        better: ``lower`` or ``higher``.
        needs: a package of the extra ``metrics``, `BACKBONE` (weights that the user brings),
            `VGG19` (those of the extra ``vgg19``), or nothing.
    """

    of: str
    measure: Callable[[Judged], float]
    better: str = "lower"
    needs: str = ""


BACKBONE = "backbone"
VGG19 = "vgg19"


def _vgg19(encoder: Encoder) -> VGG:
    if not (isinstance(encoder, VGG) and encoder.name.startswith("vgg19")):
        raise InputError(
            f"cams is defined on VGG-19, not on {encoder.name}: install the extra vgg19, or "
            "measure cams_slim"
        )
    return encoder


@cache
def _slim() -> VGG:
    return encoders.load("slim")


METRICS: Mapping[str, Metric] = {
    "self_similarity": Metric("content", lambda j: self_similarity(j.output, j.content)),
    "content_distance": Metric(
        "content", lambda j: content_distance(j.output, j.content, j.encoder)
    ),
    "gram_distance": Metric("style", lambda j: gram_distance(j.output, j.style, j.encoder)),
    "strays": Metric("style", lambda j: strays(j.output, j.content, j.style, j.encoder)),
    "chi_square": Metric("style", lambda j: chi_square(j.output, j.style)),
    "color_wasserstein": Metric(
        "style", lambda j: color_wasserstein(j.output, j.style), "lower", "ot"
    ),
    "uv_hellinger": Metric("style", lambda j: uv_hellinger(j.output, j.style)),
    "bures_distance": Metric("style", lambda j: bures_distance(j.output, j.style, j.encoder)),
    "single_image_frechet": Metric(
        "style", lambda j: single_image_frechet(j.output, j.style, j.encoder)
    ),
    "cams": Metric("style", lambda j: cams(j.output, j.style, _vgg19(j.encoder)), "lower", VGG19),
    "cams_slim": Metric("style", lambda j: cams(j.output, j.style, _slim())),
    "ssim": Metric("content", lambda j: ssim(j.output, j.content), "higher"),
    "ms_ssim": Metric("content", lambda j: ms_ssim(j.output, j.content), "higher", "torchmetrics"),
    "lpips": Metric("content", lambda j: lpips(j.output, j.content), "lower", BACKBONE),
    "dists": Metric("content", lambda j: dists(j.output, j.content), "lower", BACKBONE),
}


def at_hand() -> tuple[str, ...]:
    """Name the metrics whose packages and weights are installed."""

    def here(needs: str) -> bool:
        if needs == VGG19:
            try:
                weights.locate(needs)
            except InputError:
                return False
            return True
        return needs != BACKBONE and (not needs or find_spec(needs) is not None)

    return tuple(name for name, metric in METRICS.items() if here(metric.needs))


def check(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of metrics.

    Raises:
        InputError: a name that is not in `METRICS`, with the nearest one.
    """
    if isinstance(names, str):
        raise InputError(f"metrics are {names!r}; give a list of names, as in [{names!r}]")
    for name in names:
        if name not in METRICS:
            raise unknown("metric", str(name), METRICS)
    return tuple(names)


def measure(
    names: Sequence[str],
    output: Tensor,
    content: Tensor,
    styles: Sequence[tuple[Tensor, float]],
    encoder: Encoder,
) -> dict[str, float]:
    """Measure one picture; metrics of style are averaged over the styles by their shares.

    Args:
        names: of `METRICS`.
        output: (1, 3, H, W) in [0, 1].
        content: (1, 3, h, w) in [0, 1].
        styles: (1, 3, h, w) in [0, 1] with the style's share; the shares sum to 1.
        encoder: for the metrics of features.

    Returns:
        Metric -> value.

    Raises:
        InputError: an unknown name, or a metric that needs a package or weights that are not
            installed, or a larger picture.
    """
    judged = [Judged(output, content, style, encoder) for style, _ in styles]
    measured = {}
    for name in check(names):
        metric = METRICS[name]
        if metric.of == "content":
            values = [metric.measure(judged[0])] * len(judged)
        else:
            values = [metric.measure(one) for one in judged]
        measured[name] = sum(
            share * value for (_, share), value in zip(styles, values, strict=True)
        )
    return measured
