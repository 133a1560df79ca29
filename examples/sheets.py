"""The pictures in docs/: eight pairs at 512 px, painted by presets; README's strip and demo.

python examples/sheets.py [--pairs N] [--size 512] [-o docs]

Photographs are scikit-image's, paintings our own. Pictures that are already in out/sheets are not
painted again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from skimage import data
from torch import Tensor

from optistyle import presets, read, sheet, stylize, write
from optistyle.machine import heap
from optistyle.pictures import resize
from optistyle.sizes import fit_longer_side

ROOT = Path(__file__).parents[1]
#: Photograph and painting. The photographer stands in front of a skyline.
PAIRS = (
    ("chelsea", "garden"),
    ("astronaut", "swirls"),
    ("coffee", "mosaic"),
    ("rocket", "woodcut"),
    ("astronaut", "cubist"),
    ("rocket", "ink"),
    ("camera", "garden"),
    ("camera", "woodcut"),
)
PRESETS = ("draft", "default", "portrait")
#: Pairs of the strip at README's top, and the longer side of a picture on the sheet.
STRIP, CELL = 6, 320


def photograph(name: str) -> Tensor:
    """One of scikit-image's photographs, (1, 3, H, W) in [0, 1]."""
    pixels = torch.from_numpy(getattr(data, name)().copy())
    color = pixels if pixels.ndim == 3 else pixels[..., None].expand(-1, -1, 3)
    return color.permute(2, 0, 1)[None].float() / 255


def picture(name: str, pair: tuple[str, str], size: int, cache: Path) -> Tensor:
    """A pair painted by a preset, from ``cache`` where it is there."""
    path = cache / f"{name}-{pair[0]}-{pair[1]}-{size}.png"
    if not path.exists():
        painting = read(ROOT / "examples" / "styles" / f"{pair[1]}.jpg")
        print(path.name, file=sys.stderr)
        stylize(photograph(pair[0]), painting, replace(presets[name], size=size)).save(path)
    return read(path).pixels


def strip(pictures: Sequence[Tensor], side: int = 280, columns: int = 3) -> Tensor:
    """The middle squares of pictures (1, 3, H, W), ``side`` pixels wide, in rows."""
    squares = []
    for pixels in pictures:
        height, width = pixels.shape[-2:]
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        square = pixels[..., top : top + edge, left : left + edge]
        squares.append(resize(square, (side, side)))
    return sheet([squares[k : k + columns] for k in range(0, len(squares), columns)], gap=4)


def small(row: Sequence[Tensor]) -> list[Tensor]:
    """The pictures of a row, for the sheet."""
    sizes = [fit_longer_side(*pixels.shape[-2:], CELL) for pixels in row]
    return [resize(pixels, size) for pixels, size in zip(row, sizes, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="only the first so many")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    heap.keep()  # as the command line does
    cache = ROOT / "out" / "sheets"
    cache.mkdir(parents=True, exist_ok=True)
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for pair in PAIRS[: options.pairs]:
        content = photograph(pair[0])
        style = read(ROOT / "examples" / "styles" / f"{pair[1]}.jpg").pixels
        made = [picture(name, pair, options.size, cache) for name in PRESETS]
        cell = fit_longer_side(*content.shape[-2:], options.size)
        beside = fit_longer_side(*style.shape[-2:], cell[0])
        rows.append([resize(content, cell), resize(style, beside), *made])
    usual = [row[2 + PRESETS.index("default")] for row in rows]
    pages = {
        "demo": sheet([[*rows[0][:2], usual[0]]]),
        "strip": strip(usual[:STRIP]),
        "sheet": sheet([small(row) for row in rows], ["photograph", "painting", *PRESETS]),
    }
    for name, page in pages.items():
        write(options.output / f"{name}.jpg", page, quality=85)
        print(options.output / f"{name}.jpg")


if __name__ == "__main__":
    main()
