"""Show attention: which places of the style each place of the content attends to, by layer.

The weights are those of the attention loss (`statistics.attend`): softmax over style positions of
norm(C)ᵀ norm(A) N_VGG / N. Chen, "Neural Style Transfer with Self-Attention Module", section 3.4
and figure 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from optistyle import layers as names
from optistyle import pictures, sizes
from optistyle.encoders import load
from optistyle.encoders.base import Encoder
from optistyle.errors import InputError, unknown
from optistyle.losses.attention import pairing
from optistyle.losses.base import Reference
from optistyle.pictures import Picture, plots
from optistyle.recipes import USUAL_SIZE
from optistyle.run import ImageLike, as_picture
from optistyle.settings import Layers, Whole
from optistyle.sizes import LARGEST, SMALLEST
from optistyle.statistics import Correspondence, correspond, log_attention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYERS = ("relu3_1", "relu4_1", "relu5_1")
Point = tuple[float, float]


@dataclass(frozen=True)
class AttentionMap:
    """What one point of the content attends to, at one layer.

    Attributes:
        layer: its name.
        point: (x, y) in pixels of the content in its original size.
        log_weights: (H_s, W_s), logarithms of the weights of the layer's positions in the style.
        best: (x, y) of the highest weight, in pixels of the style in its original size.
        top: the highest weight.
        entropy: of the weights, in nats, 0 to log(H_s W_s).
    """

    layer: str
    point: Point
    log_weights: Tensor
    best: Point
    top: float
    entropy: float

    @property
    def weights(self) -> Tensor:
        """(H_s, W_s), of sum 1."""
        return self.log_weights.exp()


@dataclass(frozen=True)
class Field:
    """What every position of the content attends to, at one layer.

    Attributes:
        layer: its name.
        best: (2, H_c, W_c), y and x in [0, 1] across the style, of the highest weight.
        expected: (2, H_c, W_c), likewise, of the weights' mean position.
        entropy: (H_c, W_c), as in `AttentionMap`.
        top: (H_c, W_c), likewise.
        cell: (height, width) of a style position, in the units of ``best``.
    """

    layer: str
    best: Tensor
    expected: Tensor
    entropy: Tensor
    top: Tensor
    cell: tuple[float, float]


class Explorer:
    """The features of a content and a style, computed once for any number of questions.

    Args:
        content: a picture, pixels (1, 3, H, W) in [0, 1], or a file.
        style: likewise.
        layers: names of layers, or one text as in ``relu3_1,relu4_1``.
        encoder: as `encoders.load` returns it; by default the best one that is here.
        size: longer side in px to which the content is resized; ``auto`` is 512, or the content's
            where that is smaller. The style gets as many pixels.

    Raises:
        InputError: an unknown layer, a size out of range, an encoder or an image of another type,
            or a picture that cannot be read.
    """

    def __init__(
        self,
        content: ImageLike,
        style: ImageLike,
        layers: Sequence[str] | str = LAYERS,
        *,
        encoder: Encoder | None = None,
        size: int | str = "auto",
    ) -> None:
        self.layers = tuple(Layers().check("layers", layers))
        size = Whole(SMALLEST, LARGEST, ("auto",), unit="px").check("size", size)
        if encoder is not None and not callable(encoder):
            raise InputError(
                f"the encoder is {encoder!r}; give what encoders.load returns, or none"
            )
        self.content, self.style = as_picture(content), as_picture(style)
        encoder = encoder or load("auto")
        if isinstance(size, str):
            size = min(USUAL_SIZE, max(self.content.height, self.content.width))
        small = sizes.fit_longer_side(self.content.height, self.content.width, size)
        area = sizes.fit_area(self.style.height, self.style.width, math.prod(small))
        with torch.no_grad():
            self._content, self._style = (
                _measure(picture, at, encoder, self.layers)
                for picture, at in ((self.content, small), (self.style, area))
            )

    def maps(self, points: Sequence[Point]) -> list[list[AttentionMap]]:
        """Compute what points of the content attend to.

        Args:
            points: (x, y) in pixels of the content in its original size.

        Returns:
            A list for each point, of a map for each layer.

        Raises:
            InputError: a point outside the content, or one that is not two numbers.
        """
        width, height = self.content.width, self.content.height
        for point in points:
            try:
                x, y = map(float, point)
            except (TypeError, ValueError):
                raise InputError(
                    f"the point {point!r} is not (x, y), two numbers in pixels of the content"
                ) from None
            if not (0 <= x < width and 0 <= y < height):
                raise InputError(
                    f"the point {x:g},{y:g} is outside the content: x is from 0 to {width - 1}, "
                    f"y from 0 to {height - 1}"
                )
        by_layer = [self._maps(layer, points) for layer in self.layers]
        return [list(row) for row in zip(*by_layer, strict=True)]

    def _maps(self, layer: str, points: Sequence[Point]) -> list[AttentionMap]:
        rows, columns = self._content.features[layer].shape[-2:]
        places = [
            int(y / self.content.height * rows) * columns + int(x / self.content.width * columns)
            for x, y in points
        ]
        rows_of_weights = log_attention(
            **pairing(self._content, self._style, layer), places=torch.tensor(places)
        )
        result = []
        for point, logs in zip(points, rows_of_weights.cpu(), strict=True):
            top, index = logs.flatten().max(0)
            row, column = divmod(int(index), logs.shape[1])
            best = (
                (column + 0.5) / logs.shape[1] * self.style.width,
                (row + 0.5) / logs.shape[0] * self.style.height,
            )
            entropy = float(torch.special.entr(logs.exp()).sum())
            result.append(AttentionMap(layer, point, logs, best, float(top.exp()), entropy))
        return result

    def field(self, layer: str) -> Field:
        """Compute what every position of the content attends to, at one of the layers.

        Raises:
            InputError: a layer that the explorer was made without.
        """
        if layer not in self.layers:
            raise unknown("layer of this explorer", str(layer), self.layers)
        match: Correspondence = correspond(**pairing(self._content, self._style, layer))
        size = torch.tensor(self._style.features[layer].shape[-2:]).view(2, 1, 1)
        return Field(
            layer,
            (match.best.cpu() + 0.5) / size,
            (match.expected.cpu() + 0.5) / size,
            match.entropy.cpu(),
            match.top.cpu(),
            (1 / float(size[0]), 1 / float(size[1])),
        )

    def warp(self, field: Field, *, expected: bool = False) -> Tensor:
        """Rearrange the style picture: each place shows what the content's place attends to.

        Args:
            field: of this explorer.
            expected: whether a position shows the cell of the style about its expected match,
                instead of that of its best match.

        Returns:
            (1, 3, H, W) in [0, 1], of the content's size as the explorer resized it.
        """
        size = sizes.fit_longer_side(
            self.content.height, self.content.width, max(self._size(self._content))
        )
        ys = (torch.arange(size[0]) + 0.5) / size[0]
        xs = (torch.arange(size[1]) + 0.5) / size[1]
        target = field.expected if expected else field.best
        rows, columns = target.shape[-2:]
        row, column = (ys * rows).long(), (xs * columns).long()
        within = torch.stack(  # its cell, from -0.5 to 0.5
            torch.meshgrid(ys * rows - row - 0.5, xs * columns - column - 0.5, indexing="ij")
        )
        source = target[:, row][:, :, column] + within * torch.tensor(field.cell).view(2, 1, 1)
        grid = (2 * source.flip(0).permute(1, 2, 0) - 1)[None]
        style = pictures.resize(self.style.pixels, self._size(self._style))
        return F.grid_sample(
            style, grid.to(style), mode="bilinear", padding_mode="border", align_corners=False
        ).clamp(0, 1)

    @staticmethod
    def _size(reference: Reference) -> tuple[int, int]:
        height, width = reference.features[names.IMAGE].shape[-2:]
        return height, width


def _measure(
    picture: Picture, size: tuple[int, int], encoder: Encoder, layers: Sequence[str]
) -> Reference:
    pixels = pictures.resize(picture.pixels, size).to(encoder.device)
    alpha = picture.alpha
    if alpha is not None:
        alpha = pictures.resize(alpha, size).to(encoder.device)
    return Reference(encoder(pixels, {names.IMAGE, *layers}), alpha)


def figure(explorer: Explorer, points: Sequence[Point]) -> Figure:
    """Draw heat maps: a row for each point, with the content, then the style for each layer.

    Colours are logarithms of weights, from the median (dark) to the best match (bright, marked).

    Args:
        explorer: of the content and the style.
        points: (x, y) in pixels of the content in its original size.

    Raises:
        InputError: no point, one outside the content, or matplotlib is not installed.
    """
    if not points:
        raise InputError("no point is named; give one or more as X,Y in pixels of the content")
    rows = explorer.maps(points)
    content, style = explorer.content, explorer.style
    figure, axes = plots.axes(len(rows), 1 + len(explorer.layers))
    _hide_ticks(axes)
    for (left, *rest), row in zip(axes, rows, strict=True):
        left.imshow(pictures.to_uint8(content.pixels))
        left.plot(*row[0].point, "o", color="red", markeredgecolor="white", markersize=7)
        left.set_title(f"content at {row[0].point[0]:g},{row[0].point[1]:g}", fontsize=9)
        for axis, attended in zip(rest, row, strict=True):
            grey = pictures.to_uint8(style.pixels).mean(2)
            axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
            # Logarithms, from the median up: the weights themselves are often one bright dot.
            logs = attended.log_weights
            axis.imshow(
                logs.clamp_min(logs.median()).numpy(),
                cmap="inferno",
                alpha=0.7,
                extent=(0, style.width, style.height, 0),
                interpolation="nearest",
            )
            axis.plot(*attended.best, "o", color="cyan", markeredgecolor="black", markersize=7)
            axis.set_xlim(0, style.width)
            axis.set_ylim(style.height, 0)
            axis.set_title(
                f"{attended.layer}: top {attended.top:.2g}, entropy {attended.entropy:.2f} of "
                f"{math.log(attended.log_weights.numel()):.2f}",
                fontsize=9,
            )
    return figure


def warps(explorer: Explorer) -> Figure:
    """Draw the style warped to the content: a row for the best match, one for the expected match.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure, axes = plots.axes(2, 1 + len(explorer.layers))
    _hide_ticks(axes)
    axes[0][0].imshow(pictures.to_uint8(explorer.content.pixels))
    axes[0][0].set_title("content", fontsize=9)
    axes[1][0].imshow(pictures.to_uint8(explorer.style.pixels))
    axes[1][0].set_title("style", fontsize=9)
    for column, layer in enumerate(explorer.layers, start=1):
        field = explorer.field(layer)
        for row, expected in enumerate((False, True)):
            axes[row][column].imshow(pictures.to_uint8(explorer.warp(field, expected=expected)))
            how = "expected match" if expected else "best match"
            axes[row][column].set_title(f"{layer}: {how}", fontsize=9)
    return figure


def _hide_ticks(axes: Any) -> None:
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
