"""What a run starts from: the photograph, the paintings, and what to start the picture from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from optistyle import files, pictures
from optistyle.choices import INITS
from optistyle.errors import InputError
from optistyle.optimise.objective import digest
from optistyle.pictures import Picture, Stored, colors
from optistyle.recipes import Recipe
from optistyle.sizes import SMALLEST

#: A file, or a picture in memory: see `as_picture`.
ImageLike: TypeAlias = "Picture | Tensor | np.ndarray | Image.Image | str | os.PathLike[str]"
KINDS = (Picture, Tensor, np.ndarray, Image.Image, str, os.PathLike)


@dataclass(frozen=True)
class Inputs:
    """The pictures of a run, read once.

    Attributes:
        content: the photograph, with its opacity. styles: the paintings, recoloured where the
            recipe asks for that.
        shares: each style's share of the style, sum 1.
        grey: whether the content and all styles are grey, so that the result is to be grey too.
        init: the picture that the optimisation starts from, where the recipe names a file.
        record: for the manifest: path (of files) and SHA-256 of each, by role.
    """

    content: Stored
    styles: Sequence[Stored]
    shares: Sequence[float]
    grey: bool
    init: Stored | None
    record: dict[str, Any]


def read_inputs(
    content: ImageLike, styles: ImageLike | Sequence[ImageLike], recipe: Recipe | None = None
) -> Inputs:
    """Read and check the pictures of a run.

    Args:
        content, styles: files or pictures in memory, see `as_picture`; one style or several.
        recipe: of its settings, the style weights, the original colours and the files count.

    Raises:
        InputError: a picture that cannot be used, or style weights of another number.

    >>> import torch
    >>> inputs = read_inputs(torch.rand(1, 3, 32, 48), torch.rand(1, 3, 32, 32))
    >>> inputs.content.width, inputs.shares
    (48, [1.0])
    """
    recipe = recipe or Recipe()
    if isinstance(styles, KINDS):
        styles = [styles]
    if not styles:
        raise InputError("no style image is given; give one or more")
    shares = recipe.shares(len(styles))
    picture = as_picture(content)
    named = {"init": recipe.init, "weights": recipe.weights}
    used = {name: file for name, file in named.items() if file and file not in INITS}
    if "init" in used and not Path(used["init"]).exists():
        raise InputError(f"init {recipe.init!r} is neither a file nor one of {', '.join(INITS)}")
    grey, stored = colors.is_grey(picture.pixels), []
    for style in styles:  # one at a time: of large paintings several in float32 are much
        painting = as_picture(style)
        grey = grey and colors.is_grey(painting.pixels)
        stored.append(Stored(colors.recolour(painting, picture, recipe.original_colors)))
        del painting
    return Inputs(
        content=Stored(picture),
        styles=stored,
        shares=shares,
        grey=grey,
        init=Stored(pictures.read(used["init"])) if "init" in used else None,
        record={
            "content": _identified(content),
            "styles": [_identified(style) for style in styles],
            **{name: _identified(file) for name, file in used.items()},
        },
    )


def as_picture(image: ImageLike) -> Picture:
    """The image as a picture that a run can use.

    Args:
        image: a file; a PIL image of any mode; an array (H, W, 3), (H, W, 4) or (H, W), uint8 in
            0...255 or float in 0...1; a tensor (1, 3, H, W) or (3, H, W), uint8 in 0...255 or
            float in 0...1; or a `Picture`.

    Raises:
        InputError: anything else, values out of range, or a picture that is too small.

    >>> import numpy
    >>> as_picture(numpy.zeros((20, 30, 3), numpy.uint8)).width
    30
    """
    name = "an image"
    if isinstance(image, str | os.PathLike):
        name = os.fspath(image)
        try:
            picture = pictures.read(image)
        except MemoryError as error:
            raise InputError(f"{name} does not fit into memory: make it smaller first") from error
    elif isinstance(image, Picture):
        picture = image
    elif isinstance(image, Image.Image):
        picture = _of_array(_samples(image))
    elif isinstance(image, np.ndarray):
        picture = _of_array(image)
    elif isinstance(image, Tensor):
        picture = Picture(_of_tensor(image))
    else:
        raise InputError(
            f"an image is given as {type(image).__name__}; give a file, a PIL image, an array "
            "(H, W, 3), a tensor (1, 3, H, W) or a Picture"
        )
    if min(picture.height, picture.width) < SMALLEST:
        raise InputError(
            f"{name} is {picture.width}x{picture.height} px; "
            f"its shorter side must be {SMALLEST} px or more"
        )
    for values in (picture.pixels, picture.alpha):
        if values is not None and not values.isfinite().all():
            raise InputError(f"{name} holds NaN or infinite values")
    if picture.alpha is not None and not float(picture.alpha.sum()) > 0:
        raise InputError(f"{name} is transparent all over; there is nothing to see in it")
    return picture


def _samples(image: Image.Image) -> np.ndarray:
    """A PIL image's samples, (H, W, 3) or (H, W, 4) of uint8."""
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _of_array(array: np.ndarray) -> Picture:
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise InputError(f"an array is of shape {array.shape}; give (H, W, 3), (H, W, 4) or (H, W)")
    samples = _scaled(torch.from_numpy(np.array(array, order="C")), "an array")
    samples = samples.permute(2, 0, 1)[None].contiguous()
    alpha = samples[:, 3:].contiguous() if array.shape[2] == 4 else None
    return Picture(samples[:, :3].contiguous(), alpha)


def _of_tensor(tensor: Tensor) -> Tensor:
    if tensor.ndim == 3:
        tensor = tensor[None]
    if tensor.ndim != 4 or tensor.shape[:2] != (1, 3):
        raise InputError(
            f"a tensor is of shape {tuple(tensor.shape)}; give (1, 3, H, W) or (3, H, W)"
        )
    return _scaled(tensor.detach().cpu(), "a tensor")


def _scaled(values: Tensor, what: str) -> Tensor:
    """Samples as float32 in [0, 1]."""
    if values.dtype == torch.uint8:
        return values.float() / 255
    if not values.is_floating_point():
        kind = str(values.dtype).removeprefix("torch.")
        raise InputError(f"{what} holds {kind}; give uint8 in 0...255 or floats in 0...1")
    values = values.float()
    lowest, highest = (float(x) for x in values.aminmax()) if values.numel() else (0.0, 0.0)
    if lowest < -_SLACK or highest > 1 + _SLACK:
        raise InputError(
            f"{what} holds floats from {lowest:.3g} to {highest:.3g}; give floats in 0...1, or "
            "uint8 in 0...255"
        )
    return values


#: By how much floats may leave [0, 1]: resampling overshoots a little.
_SLACK = 0.25


def _identified(image: ImageLike) -> dict[str, str]:
    """An input as the manifest names it: its SHA-256, and its path if it is a file."""
    if isinstance(image, str | os.PathLike):
        return {"path": str(Path(image).resolve()), "sha256": files.digest(image)}
    if isinstance(image, Tensor) and image.is_floating_point():
        return {"sha256": digest(image)}
    picture = as_picture(image)
    return {"sha256": digest(picture.pixels, picture.alpha)}
