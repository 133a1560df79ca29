"""From pictures of any kind to a painted one: sizes, colours, transparency."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from optistyle import pictures, sizes
from optistyle.baselines.base import Alpha, Baseline
from optistyle.baselines.codec import LEAST
from optistyle.pictures import Picture, colors


def paint(
    model: Baseline,
    content: Picture,
    styles: Sequence[Picture],
    size: tuple[int, int],
    *,
    shares: Sequence[float] | None = None,
    alpha: Alpha = 1.0,
    original_colors: str | None = None,
) -> Picture:
    """Paint a picture in one pass.

    Args:
        model: on its device.
        content: keeps its transparency. styles: brought to as many pixels as the result has.
        size: (H, W) of the result.
        shares, alpha: as in `Baseline.stylize`.
        original_colors: one of `recipes.COLOR_MODES`, or none.
    """
    device = next(model.parameters(), torch.empty(0)).device
    looks = []
    for style in styles:
        look = colors.recolour(style, content, original_colors)
        area = sizes.fit_area(style.height, style.width, math.prod(size), LEAST)
        looks.append(pictures.resize(look.pixels, area).to(device))
    small = pictures.resize(content.pixels, size)
    painted = model.stylize(small.to(device), looks, shares=shares, alpha=alpha).cpu()
    if original_colors == "luminance":
        painted = colors.keep_luminance(painted, small)
    see_through = None if content.alpha is None else pictures.resize(content.alpha, size)
    return Picture(painted, see_through, content.notes)
