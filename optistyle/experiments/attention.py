"""Look at attention: what each place of the content sees in the style, layer by layer.

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
from optistyle.errors import InputError
from optistyle.losses.attention import pairing
from optistyle.losses.base import Reference
from optistyle.pictures import Picture, plots
from optistyle.recipes import Recipe
from optistyle.run import ImageLike, as_picture
from optistyle.statistics import Correspondence, correspond, log_attention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYERS = ("relu3_1", "relu4_1", "relu5_1")
Point = tuple[float, float]


@dataclass(frozen=True)
class AttentionMap:
    """What one point of the content attends to, at one layer.

    Attributes:
        layer: which. point: (x, y) in pixels of the content as it was given.
        log_weights: (H_s, W_s), logarithms of the weights of the layer's positions in the style.
        best: (x, y) of the highest weight, in pixels of the style as it was given.
        top: that weight. entropy: in nats, 0 to log(H_s W_s).
    """

    layer: str
    point: Point
    log_weights: Tensor
    best: Point
    top: float
    entropy: float

    @property
    def weights(self) -> Tensor:
        """(H_s, W_s); sum 1."""
        return self.log_weights.exp()


@dataclass(frozen=True)
class Field:
    """Where every position of the content looks, at one layer.

    Attributes:
        layer: which.
        best, expected: (2, H_c, W_c), y and x in [0, 1] across the style, of the highest weight and
            of the weights' mean.
        entropy, top: (H_c, W_c), as in `AttentionMap`.
        cell: (height, width) of a style position in the same units.
    """

    layer: str
    best: Tensor
    expected: Tensor
    entropy: Tensor
    top: Tensor
    cell: tuple[float, float]


class Explorer:
    """A content and a style, measured once for any number of questions.

    Args:
        content, style: pictures, pixels (1, 3, H, W) in [0, 1], or files.
        layers: names of the encoder's layers.
        encoder: the slim one by default.
        size: the longer side at which the content is looked at; the style gets as many pixels.

    Raises:
        InputError: a layer that there is not, or a picture that cannot be read.
    """

    def __init__(
        self,
        content: ImageLike,
        style: ImageLike,
        layers: Sequence[str] = LAYERS,
        *,
        encoder: Encoder | None = None,
        size: int = 512,
    ) -> None:
        self.layers = tuple(names.check(dict.fromkeys(layers, 1.0)))
        self.content, self.style = as_picture(content), as_picture(style)
        Recipe(size=size)  # in range?
        encoder = encoder or load("slim")
        small = sizes.fit_longer_side(self.content.height, self.content.width, size)
        area = sizes.fit_area(self.style.height, self.style.width, math.prod(small))
        with torch.no_grad():
            self._content, self._style = (
                _measure(picture, at, encoder, self.layers)
                for picture, at in ((self.content, small), (self.style, area))
            )

    def maps(self, points: Sequence[Point]) -> list[list[AttentionMap]]:
        """One list per point, in it one map per layer.

        Args:
            points: (x, y) in pixels of the content as it was given.

        Raises:
            InputError: a point outside the content.
        """
        width, height = self.content.width, self.content.height
        for x, y in points:
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
        found = log_attention(
            **pairing(self._content, self._style, layer), places=torch.tensor(places)
        )
        result = []
        for point, logs in zip(points, found.cpu(), strict=True):
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
        """Where every position of the content looks, at one of the layers."""
        found: Correspondence = correspond(**pairing(self._content, self._style, layer))
        size = torch.tensor(self._style.features[layer].shape[-2:]).view(2, 1, 1)
        return Field(
            layer,
            (found.best.cpu() + 0.5) / size,
            (found.expected.cpu() + 0.5) / size,
            found.entropy.cpu(),
            found.top.cpu(),
            (1 / float(size[0]), 1 / float(size[1])),
        )

    def warp(self, field: Field, *, expected: bool = False) -> Tensor:
        """The style picture, each place taken from where the content's looks: (1, 3, H, W).

        Every position brings its whole cell of the style: that of its best match, or the one about
        its expected match.
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
    """A row per point: the content with the point, then a heat map over the style per layer.

    Colours are logarithms of weights, from the median (dark) to the best match (bright, marked).

    Raises:
        InputError: no point, or one outside the content.
    """
    if not points:
        raise InputError("no point is given; give one or more as X,Y in pixels of the content")
    rows = explorer.maps(points)
    content, style = explorer.content, explorer.style
    figure, axes = plots.axes(len(rows), 1 + len(explorer.layers))
    _hide_ticks(axes)
    for (left, *rest), row in zip(axes, rows, strict=True):
        left.imshow(pictures.to_uint8(content.pixels))
        left.plot(*row[0].point, "o", color="red", markeredgecolor="white", markersize=7)
        left.set_title(f"content at {row[0].point[0]:g},{row[0].point[1]:g}", fontsize=9)
        for axis, found in zip(rest, row, strict=True):
            grey = pictures.to_uint8(style.pixels).mean(2)
            axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
            # Logarithms, from the median up: the weights themselves are often one bright dot.
            logs = found.log_weights
            axis.imshow(
                logs.clamp_min(logs.median()).numpy(),
                cmap="inferno",
                alpha=0.7,
                extent=(0, style.width, style.height, 0),
                interpolation="nearest",
            )
            axis.plot(*found.best, "o", color="cyan", markeredgecolor="black", markersize=7)
            axis.set_xlim(0, style.width)
            axis.set_ylim(style.height, 0)
            axis.set_title(
                f"{found.layer}: top {found.top:.2g}, entropy {found.entropy:.2f} of "
                f"{math.log(found.log_weights.numel()):.2f}",
                fontsize=9,
            )
    return figure


def warps(explorer: Explorer) -> Figure:
    """The style warped to the content: a row for the best match, one for the expected one."""
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
