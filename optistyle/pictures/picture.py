"""Pictures in memory: float32 tensors (1, 3, H, W) of sRGB values in [0, 1], and their opacity."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from optistyle.pictures.codecs import SRGB_PROFILE

_ROWS = 512  # of a picture that are rounded at a time


@dataclass(frozen=True)
class Picture:
    """A picture in memory, upright and in sRGB. A notebook shows it.

    Attributes:
        pixels: (1, 3, H, W) float32 in [0, 1], not multiplied by alpha.
        alpha: opacity, (1, 1, H, W) float32 in [0, 1], or None where all is opaque. Transparent
            places are left out of the losses.
        notes: the photograph's date, author and copyright, where the file had them.

    Raises:
        ValueError: tensors of other shapes.

    >>> import torch
    >>> from optistyle import Picture
    >>> left_half = torch.zeros(1, 1, 40, 60)
    >>> left_half[..., :30] = 1
    >>> picture = Picture(torch.rand(1, 3, 40, 60), alpha=left_half)
    >>> picture.width, picture.height
    (60, 40)
    """

    pixels: Tensor
    alpha: Tensor | None = None
    notes: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        size = tuple(self.pixels.shape[-2:])
        for part, channels in ((self.pixels, 3), (self.alpha, 1)):
            if part is not None and tuple(part.shape) != (1, channels, *size):
                expected, got = (1, channels, *size), tuple(part.shape)
                raise ValueError(f"expected a tensor of shape {expected}, got {got}")

    def stripped(self) -> Picture:
        """Return the picture without its notes."""
        return replace(self, notes={})

    def _repr_png_(self) -> bytes:
        """Return the picture as the PNG that a notebook shows."""
        pixels = self.pixels if self.alpha is None else torch.cat([self.pixels, self.alpha], 1)
        file = io.BytesIO()
        Image.fromarray(to_uint8(pixels)).save(file, "PNG", icc_profile=SRGB_PROFILE)
        return file.getvalue()

    @property
    def height(self) -> int:
        """The height in pixels."""
        return self.pixels.shape[-2]

    @property
    def width(self) -> int:
        """The width in pixels."""
        return self.pixels.shape[-1]


class Stored:
    """A picture in a quarter of the memory: in 8 bits a sample, where those give it exactly."""

    def __init__(self, picture: Picture) -> None:
        self.height, self.width, self.notes = picture.height, picture.width, picture.notes
        self._pixels = _narrowed(picture.pixels)
        self._alpha = None if picture.alpha is None else _narrowed(picture.alpha)

    @property
    def alpha(self) -> Tensor | None:
        return None if self._alpha is None else _widened(self._alpha)

    @property
    def picture(self) -> Picture:
        """As it was, made anew."""
        return Picture(_widened(self._pixels), self.alpha, self.notes)


def _narrowed(samples: Tensor) -> Tensor:
    narrow = (samples * 255).round_().clamp_(0, 255).to(torch.uint8)
    return narrow if torch.equal(_widened(narrow), samples) else samples


def _widened(samples: Tensor) -> Tensor:
    return samples.float().div_(255) if samples.dtype == torch.uint8 else samples


def to_uint8(pixels: Tensor) -> np.ndarray:
    """Round (1, C, H, W) in [0, 1] to (H, W, C) uint8: to nearest, halves up, and clamped."""
    return to_samples(pixels, 8)


def to_samples(pixels: Tensor, bits: int) -> np.ndarray:
    """Round (1, C, H, W) in [0, 1] to (H, W, C) of 8 or 16 bits, as `to_uint8` does."""
    if pixels.dim() != 4 or pixels.shape[0] != 1:
        raise ValueError(f"expected one picture (1, C, H, W), got {tuple(pixels.shape)}")
    if pixels.isnan().any():
        raise ValueError("the picture holds NaN")
    limit, kind = 2**bits - 1, np.uint8 if bits == 8 else np.uint16

    def rounded(rows: Tensor) -> np.ndarray:
        samples = rows.cpu().float().permute(1, 2, 0).mul(limit).add_(0.5).floor_()
        return samples.clamp_(0, limit).numpy().astype(kind, order="C")

    # A few rows at a time: a second copy of a huge picture in float32 takes much memory.
    return np.concatenate([rounded(rows) for rows in pixels.detach()[0].split(_ROWS, 1)])


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w) in [0, 1] resized to (H, W), bicubic and antialiased; itself if so already."""
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    resized = functional.interpolate(pixels, size, mode="bicubic", antialias=True)
    return resized.clamp(0, 1)
