"""Measure pictures: by which encoder, at which size, and with which notes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from torch import Tensor

from optistyle import encoders, metrics, pictures, sizes
from optistyle.encoders import weights
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.run import ImageLike, as_picture


@cache
def judge_name() -> str:
    """The encoder that metrics measure in: ``vgg19`` where it is installed, else ``slim``.

    It does not depend on what a picture was optimised in. Numbers of different judges cannot be
    compared, so rows record its name.
    """
    try:
        weights.locate("vgg19")
    except InputError:
        return "slim"
    return "vgg19"


@cache
def judging_encoder() -> VGG:
    """The encoder of `judge_name`, loaded once in a process."""
    return encoders.load(judge_name())


def measured(
    names: Sequence[str],
    output: Tensor,
    content: Tensor,
    styles: Sequence[tuple[Tensor, float]],
) -> dict[str, float]:
    """Measure the metrics of a picture in the judge.

    The content is resized to the output, and each style to as many pixels as the output has.

    Args:
        names: of `metrics.METRICS`.
        output: (1, 3, H, W) in [0, 1].
        content: (1, 3, h, w) in [0, 1].
        styles: (1, 3, h, w) in [0, 1] with the style's share; the shares sum to 1.

    Raises:
        InputError: a metric that needs a package or a file that is not installed, or a larger
            picture.
    """
    height, width = output.shape[-2:]
    looks = []
    for style, share in styles:
        area = sizes.fit_area(style.shape[-2], style.shape[-1], height * width)
        looks.append((pictures.resize(style, area), share))
    content = pictures.resize(content, (height, width))
    return metrics.measure(names, output, content, looks, judging_encoder())


def judge(
    output: Tensor, content: Tensor, style: Tensor, names: Sequence[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Measure an output of one style, and note what had to be resized for it.

    Args:
        output, content, style: (1, 3, H, W) in [0, 1], of any sizes; see `measured`.
        names: of `metrics.METRICS`.

    Returns:
        Metric -> value; and ``{"resized": …}`` where the content had another size, else nothing.

    Raises:
        InputError: as `measured`.
    """
    notes = {}
    if content.shape[-2:] != output.shape[-2:]:
        notes["resized"] = f"content from {content.shape[-1]}x{content.shape[-2]}"
    return measured(names, output, content, [(style, 1.0)]), notes


def evaluate(
    output: ImageLike,
    content: ImageLike,
    style: ImageLike,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Measure how good a stylised picture is.

    Args:
        output: the stylised picture: a file or a picture in memory, as `stylize` takes it.
        content: the photograph.
        style: the painting.
        names: names of metrics; by default all that need no further package or file.

    Returns:
        Metric -> value. docs/metrics.md says for each what it measures and which way is better.

    Raises:
        InputError: an unknown metric, or one that needs a package or a file that is not installed.

    >>> import torch
    >>> from optistyle import evaluate
    >>> picture = torch.rand(1, 3, 64, 64)
    >>> evaluate(picture, picture, picture, ["ssim", "chi_square"])
    {'ssim': 1.0, 'chi_square': 0.0}
    """
    chosen = metrics.at_hand() if names is None else metrics.check(names)
    picture, photograph, painting = (as_picture(x).pixels for x in (output, content, style))
    return judge(picture, photograph, painting, chosen)[0]
