"""What a run leaves: the picture, and how it came about."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from optistyle import pictures
from optistyle.pictures import Picture
from optistyle.recipes import Recipe
from optistyle.run.checkpoint import TraceRow


@dataclass(frozen=True)
class Result:
    """A picture and the record of the run that painted it.

    A notebook shows the picture. `stylize` and `Run.result` make results.

    Attributes:
        picture: pixels (1, 3, H, W) in [0, 1], and the photograph's alpha if it had one.
        trace: one entry for each evaluation: scale, iteration and the weighted losses by name, of
            the image before clipping.
        first: the weighted losses of the starting picture at the last scale that was reached,
            clipped to [0, 1]; empty where the run ended before its first step.
        final: the same of the final picture, before original colours are put back.
        recipe: the settings.
        extra: the loss terms beside the recipe's.
        plan: tile, history and kernels, which decide the rounding.
        inputs: paths and SHA-256 of the pictures.
        encoder: the encoder's name.
        device: the device that computed.
        seconds: computing time by scale, in seconds, over all resumptions.
        warnings: one line for each divergence.
        interrupted: whether the run ended early: Ctrl-C, a break, or a lost rank.
        retunes: the changes of weights during the run; see `Run.retune`.

    >>> import torch
    >>> from optistyle import Recipe, stylize
    >>> recipe = Recipe(size=32, iterations=2, encoder="slim", device="cpu")
    >>> photograph, painting = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 32, 32)
    >>> result = stylize(photograph, painting, recipe, progress=False)
    >>> result.numpy().shape, result.pil().size
    ((21, 32, 3), (32, 21))
    >>> len(result.trace), result.final["total"] < result.first["total"]
    (2, True)
    """

    picture: Picture
    trace: list[TraceRow]
    first: dict[str, float]
    final: dict[str, float]
    recipe: Recipe
    extra: Mapping[str, Any]
    plan: Mapping[str, Any]
    inputs: dict[str, Any]
    encoder: str
    device: str
    seconds: list[float]
    warnings: list[str]
    interrupted: bool
    retunes: Sequence[Mapping[str, Any]] = field(default=())

    @property
    def image(self) -> Tensor:
        """The pixels, (1, 3, H, W) in [0, 1]."""
        return self.picture.pixels

    def pil(self) -> Image.Image:
        """Return the picture as a PIL image, RGB or RGBA."""
        return Image.fromarray(self.numpy())

    def numpy(self) -> np.ndarray:
        """Return the picture as an array (H, W, 3) of uint8, or (H, W, 4) where it has an alpha."""
        parts = [x for x in (self.picture.pixels, self.picture.alpha) if x is not None]
        return pictures.to_uint8(torch.cat(parts, 1))

    def save(self, path: str | Path, *, bits: int = 8) -> None:
        """Write the picture in the format that the extension names; see `write`."""
        pictures.write(path, self.picture, bits=bits)

    def manifest(self) -> dict[str, Any]:
        """Return everything but the pixels, as JSON values."""
        return {
            "recipe": self.recipe.as_dict(),
            "extra": {**self.extra},
            "plan": {**self.plan},
            "inputs": self.inputs,
            "encoder": self.encoder,
            "device": self.device,
            "threads": torch.get_num_threads(),
            "width": self.picture.width,
            "height": self.picture.height,
            "first": _plain(self.first),
            "final": _plain(self.final),
            "seconds": [round(s, 3) for s in self.seconds],
            "warnings": self.warnings,
            "retunes": [{**retune} for retune in self.retunes],
            "interrupted": self.interrupted,
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "trace": [_plain(row) for row in self.trace],
        }

    def _repr_png_(self) -> bytes:
        """A notebook shows the picture by itself."""
        return self.picture._repr_png_()


def _plain(losses: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity."""
    return {name: x if math.isfinite(x) else None for name, x in losses.items()}


def versions() -> dict[str, str]:
    """The versions of everything that can change a pixel."""
    names = ("optistyle", "torch", "torchvision", "numpy", "pillow", "ncnn")
    known = {"python": platform.python_version()}
    for name in names:
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            known[name] = "not installed"
    return known
