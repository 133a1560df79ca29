"""How good is a picture? One file a metric; pure functions of images (1, 3, H, W) in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from optistyle.encoders.vgg import VGG
from optistyle.errors import unknown
from optistyle.metrics.distances import content_distance, gram_distance
from optistyle.metrics.self_similarity import self_similarity
from optistyle.metrics.strays import strays


@dataclass(frozen=True)
class Judged:
    """What a metric may look at.

    Attributes:
        output, content, style: (1, 3, H, W) in [0, 1], of any sizes.
        encoder: for the metrics that measure in one.
    """

    output: Tensor
    content: Tensor
    style: Tensor
    encoder: VGG


@dataclass(frozen=True)
class Metric:
    """How a picture is judged.

    Attributes:
        of: what it is about: ``content`` (the style is not looked at) or ``style``.
        measure: the number. better: ``lower`` or ``higher``.
    """

    of: str
    measure: Callable[[Judged], float]
    better: str = "lower"


METRICS: Mapping[str, Metric] = {
    "self_similarity": Metric("content", lambda j: self_similarity(j.output, j.content)),
    "content_distance": Metric(
        "content", lambda j: content_distance(j.output, j.content, j.encoder)
    ),
    "gram_distance": Metric("style", lambda j: gram_distance(j.output, j.style, j.encoder)),
    "strays": Metric("style", lambda j: strays(j.output, j.content, j.style, j.encoder)),
}


def check(names: Sequence[str]) -> tuple[str, ...]:
    """The names, or an `InputError` with the nearest for one that is not in `METRICS`."""
    for name in names:
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    return tuple(names)


def measure(
    names: Sequence[str],
    output: Tensor,
    content: Tensor,
    styles: Sequence[tuple[Tensor, float]],
    encoder: VGG,
) -> dict[str, float]:
    """The metrics of one picture; those of style are averaged over styles by their shares."""
    judged = [Judged(output, content, style, encoder) for style, _ in styles]
    found = {}
    for name in check(names):
        metric = METRICS[name]
        if metric.of == "content":
            values = [metric.measure(judged[0])] * len(judged)
        else:
            values = [metric.measure(one) for one in judged]
        found[name] = sum(share * value for (_, share), value in zip(styles, values, strict=True))
    return found
