"""A picture by a feed-forward model, from pictures of any kind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from optistyle import baselines
from optistyle.baselines.base import Baseline
from optistyle.baselines.codec import LEAST
from optistyle.baselines.paint import paint
from optistyle.errors import InputError
from optistyle.machine import devices
from optistyle.pictures import Picture
from optistyle.recipes import Recipe
from optistyle.run.inputs import KINDS, ImageLike, as_picture


def baseline(
    model: str | Baseline,
    content: ImageLike,
    styles: ImageLike | Sequence[ImageLike] = (),
    *,
    strength: float | Mapping[str, float] = 1.0,
    style_weights: Sequence[float] = (),
    style_numbers: Sequence[int] = (),
    size: int | str = "auto",
    original_colors: str = "off",
    weights: Sequence[str | Path] = (),
    device: str = "auto",
) -> Picture:
    """Paint a photograph in one pass of a feed-forward model.

    Args:
        model: a name, such as ``adain`` (``optistyle baseline list`` has them all), or a model that
            `baselines.load` returned.
        content: the photograph: a file or a picture in memory, as `stylize` takes it.
        styles: one painting or a list of them. Models that have learned one style take none.
        strength: how far from the photograph, in [0, 1]; or a mapping with one number for each
            level of the model.
        style_weights: relative share of each painting, or of each of `style_numbers`.
        style_numbers: the styles, 0 to 25, that ``magenta26`` is to paint in. A model that
            `baselines.load` returned was given them there.
        size: longer side of the result in pixels; ``auto`` is 512, or the photograph's where
            that is smaller; ``original`` is the photograph's.
        original_colors: as in `Recipe`.
        weights: published files to use in place of the packaged weights.
        device: as in `Recipe`.

    Returns:
        The picture.

    Raises:
        InputError: a model, weights, pictures or settings that cannot be used.

    >>> import torch
    >>> from optistyle import baseline
    >>> picture = baseline("adain", torch.rand(1, 3, 48, 64), torch.rand(1, 3, 48, 48), size=64)
    >>> picture.width, picture.height
    (64, 48)
    """
    if isinstance(styles, KINDS):
        styles = [styles]
    if isinstance(model, str):
        if not styles and baselines.named(model).takes_paintings:
            raise InputError(f"no style image is given; {model} needs one or more")
        model = baselines.load(
            model,
            files=[Path(file) for file in weights],
            numbers=style_numbers,
            device=devices.resolve(device),
        )
    recipe = Recipe(
        scales="single",
        size=size,
        style_weights=tuple(style_weights),
        original_colors=original_colors,
    )
    count = len(styles or model.numbers)
    shares = recipe.shares(count) if count else recipe.style_weights or None
    photograph, *paintings = (_large_enough(image) for image in (content, *styles))
    return paint(
        model,
        photograph,
        paintings,
        recipe.schedule(photograph.height, photograph.width)[0][0],
        shares=shares,
        alpha=strength if isinstance(strength, int | float) else dict(strength),
        original_colors=recipe.original_colors,
    )


def _large_enough(image: ImageLike) -> Picture:
    picture = as_picture(image)
    if min(picture.height, picture.width) < LEAST:
        name = os.fspath(image) if isinstance(image, str | os.PathLike) else "an image"
        raise InputError(
            f"{name} is {picture.width}x{picture.height} px; it must be {LEAST} px a side or more"
        )
    return picture
