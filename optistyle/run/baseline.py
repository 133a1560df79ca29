"""A picture by a feed-forward model, from pictures of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from optistyle import baselines
from optistyle.baselines.codec import LEAST
from optistyle.baselines.paint import paint
from optistyle.errors import InputError
from optistyle.machine import devices
from optistyle.pictures import Picture
from optistyle.recipes import Recipe
from optistyle.run.inputs import KINDS, ImageLike, as_picture


def baseline(
    name: str,
    content: ImageLike,
    styles: ImageLike | Sequence[ImageLike] = (),
    *,
    strength: float | Mapping[str, float] = 1.0,
    style_weights: Sequence[float] = (),
    size: int | str = "auto",
    original_colors: str = "off",
    weights: Sequence[str | Path] = (),
    device: str = "auto",
) -> Picture:
    """Paint a photograph in one pass of a feed-forward model.

    Args:
        name: a model, such as ``adain``; ``optistyle baseline list`` names them all.
        content: the photograph: a file or a picture in memory, as `stylize` takes it.
        styles: one painting or a list of them. Models that have learned one style take none.
        strength: how far from the photograph, in [0, 1]; or a mapping with one number for each
            level of the model.
        style_weights: relative share of each painting.
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
    one_style = baselines.named(name).one_style
    if isinstance(styles, KINDS):
        styles = [styles]
    if not styles and not one_style:
        raise InputError(f"no style image is given; {name} needs one or more")
    recipe = Recipe(
        scales="single",
        size=size,
        style_weights=tuple(style_weights),
        original_colors=original_colors,
    )
    shares = recipe.shares(len(styles)) if styles else None
    photograph, *paintings = (as_picture(image) for image in (content, *styles))
    for image in (photograph, *paintings):
        if min(image.height, image.width) < LEAST:
            raise InputError(
                f"an image is {image.width}x{image.height} px; {name} needs {LEAST} px a side or "
                "more"
            )
    model = baselines.load(
        name, files=[Path(file) for file in weights], device=devices.resolve(device)
    )
    return paint(
        model,
        photograph,
        paintings,
        recipe.schedule(photograph.height, photograph.width)[0][0],
        shares=shares,
        alpha=strength if isinstance(strength, int | float) else dict(strength),
        original_colors=recipe.original_colors,
    )
