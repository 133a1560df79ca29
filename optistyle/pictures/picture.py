"""Pictures in memory: float32 tensors (1, 3, H, W) of sRGB values in [0, 1], and their opacity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional


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

    def _repr_png_(self) -> bytes:
        """A notebook shows the picture by itself."""
        from optistyle.pictures.writing import encode

        return encode(self)

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
        self.height, self.width = picture.height, picture.width
        self._pixels = _narrowed(picture.pixels)
        self._alpha = None if picture.alpha is None else _narrowed(picture.alpha)

    @property
    def alpha(self) -> Tensor | None:
        return None if self._alpha is None else _widened(self._alpha)

    @property
    def picture(self) -> Picture:
        """As it was, made anew."""
        return Picture(_widened(self._pixels), self.alpha)


def _narrowed(samples: Tensor) -> Tensor:
    narrow = (samples * 255).round_().clamp_(0, 255).to(torch.uint8)
    return narrow if torch.equal(_widened(narrow), samples) else samples


def _widened(samples: Tensor) -> Tensor:
    return samples.float().div_(255) if samples.dtype == torch.uint8 else samples


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w) in [0, 1] resized to (H, W), bicubic and antialiased; itself if so already."""
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    resized = functional.interpolate(pixels, size, mode="bicubic", antialias=True)
    return resized.clamp(0, 1)
