"""The pictures in docs/: six pairs at 512 px, slim and VGG-19, gamma 0 and gamma 6e6; the strip.

python examples/sheets.py [--encoder slim|vgg19 …] [--size 512] [-o docs]

Photographs are scikit-image's, paintings our own. Runs that are already in out/sheets are not made
again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from skimage import data
from torch import Tensor

from optistyle import Recipe, load_encoder, read, sheet, stylize, write
from optistyle.machine import heap
from optistyle.pictures import resize
from optistyle.sizes import fit_longer_side

ROOT = Path(__file__).parents[1]
PAIRS = (
    ("chelsea", "garden"),
    ("astronaut", "swirls"),
    ("coffee", "mosaic"),
    ("rocket", "woodcut"),
    ("astronaut", "cubist"),
    ("rocket", "ink"),
)
GAMMAS = (0.0, 6e6)


def photograph(name: str) -> Tensor:
    """One of scikit-image's photographs, (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1)[None].float() / 255


def picture(encoder: str, pair: tuple[str, str], gamma: float, size: int, cache: Path) -> Tensor:
    """One stylised picture, from ``cache`` where it is there."""
    path = cache / f"{encoder}-{pair[0]}-{pair[1]}-{gamma:g}-{size}.png"
    if not path.exists():
        recipe = Recipe(gamma=gamma, size=size, iterations=80, encoder=encoder)
        network = load_encoder(encoder)
        painting = read(ROOT / "examples" / "styles" / f"{pair[1]}.jpg")
        print(path.name, file=sys.stderr)
        result = stylize(photograph(pair[0]), painting, recipe, encoder=network)
        result.save(path)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", nargs="+", default=["slim", "vgg19"])
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="only the first so many")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    heap.keep()  # as the command line does
    cache = ROOT / "out" / "sheets"
    cache.mkdir(parents=True, exist_ok=True)
    options.output.mkdir(parents=True, exist_ok=True)
    for encoder in options.encoder:
        rows = []
        for pair in PAIRS[: options.pairs]:
            content = photograph(pair[0])
            style = read(ROOT / "examples" / "styles" / f"{pair[1]}.jpg").pixels
            made = [picture(encoder, pair, gamma, options.size, cache) for gamma in GAMMAS]
            cell = fit_longer_side(*content.shape[-2:], options.size)
            small = fit_longer_side(*style.shape[-2:], cell[0])
            rows.append([resize(content, cell), resize(style, small), *made])
        if encoder == "slim":
            demo = sheet([[rows[0][0], rows[0][1], rows[0][3]]])
            write(options.output / "demo.jpg", demo, quality=88)
        if encoder == "vgg19":
            write(options.output / "strip.jpg", strip([row[3] for row in rows]), quality=80)
        page = sheet(rows, ["photograph", "painting", "gamma 0", "gamma 6e6"])
        path = options.output / f"sheet-{encoder}.jpg"
        write(path, page, quality=85)
        print(path)


if __name__ == "__main__":
    main()
