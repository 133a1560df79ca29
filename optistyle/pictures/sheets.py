"""Contact sheets: pictures in rows and columns, with captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from optistyle.pictures import fonts


def sheet(
    rows: Sequence[Sequence[Tensor]],
    labels: Sequence[str] | Sequence[Sequence[str]] | None = None,
    gap: int = 8,
    row_labels: Sequence[str] | None = None,
) -> Tensor:
    """Arrange pictures in rows and columns on white.

    Columns are as wide and rows as high as their largest picture. A smaller picture is centred in
    its cell, and a caption too wide for its column is set smaller. Captions in
    Greek and Cyrillic need the extra ``experiments``, those in Chinese, Japanese and Korean the
    extra ``fonts``; characters that no installed font has are written as escapes (``\\u65e5``).

    Args:
        rows: pictures (1, 3, h, w) or masks (1, 1, h, w) in [0, 1]; rows may differ in length.
        labels: captions: one for each column, above the first row; or a list for each row, above
            its pictures.
        gap: pixels between pictures and around them.
        row_labels: captions left of the rows, which read upwards.

    Returns:
        The sheet, (1, 3, H, W) in [0, 1].

    >>> import torch
    >>> from optistyle import sheet
    >>> sheet([[torch.rand(1, 3, 40, 60), torch.rand(1, 3, 40, 40)]], gap=8).shape
    torch.Size([1, 3, 56, 124])
    """
    captions: list[list[str]] = [[] for _ in rows]
    for index, label in enumerate(labels or ()):
        if isinstance(label, str):
            captions[0].append(label)
        else:
            captions[index] = list(label)
    columns = range(max(map(len, rows)))
    widths = [max(row[c].shape[-1] for row in rows if c < len(row)) for c in columns]
    heights = [max(image.shape[-2] for image in row) for row in rows]
    line = min(40, max(16, max(widths) // 14))
    strips = [line if any(caption) else 0 for caption in captions]
    height = sum(heights) + sum(strips) + gap * (len(heights) + 1)
    margin = line + gap if row_labels else 0
    width = margin + sum(widths) + gap * (len(widths) + 1)
    canvas = torch.ones(1, 3, height, width)
    top = gap
    names = row_labels or [""] * len(rows)
    for row, name, caption, height, strip in zip(
        rows, names, captions, heights, strips, strict=True
    ):
        left = gap + margin
        if name:
            upright = _text(name, line, height).rot90()
            canvas[..., top + strip : top + strip + height, gap : gap + line] = upright
        for image, text, width in zip(row, caption + [""] * len(row), widths, strict=False):
            if text:
                canvas[..., top : top + strip, left : left + width] = _text(text, strip, width)
            y = top + strip + (height - image.shape[-2]) // 2
            x = left + (width - image.shape[-1]) // 2
            canvas[..., y : y + image.shape[-2], x : x + image.shape[-1]] = image.detach().cpu()
            left += width + gap
        top += strip + height + gap
    return canvas


def _text(text: str, height: int, width: int) -> Tensor:
    """Black on white, centred: (height, width)."""
    image = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(image)
    size = 0.7 * height
    text, data = fonts.choose(text)
    length = draw.textlength(text, fonts.load(data, size))
    font = fonts.load(data, max(1, min(size, size * width / max(length, 1))))
    draw.text((width / 2, height / 2), text, fill=0, font=font, anchor="mm")
    return torch.from_numpy(np.array(image)) / 255
