"""A poster: a large picture from a small photograph, worked in tiles, and a look at their borders.

python examples/poster.py [--size 6000] [--tile auto] [--iterations 30] [-o out/poster]

Writes poster.png and its manifest, poster.json; overview.jpg, the whole at 1200 px; and crops at
full size across corners where four tiles meet, in which no border should be seen.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from skimage import data

from optistyle import Run, read, write
from optistyle.layers import IMAGE
from optistyle.optimise.tiles import tiling
from optistyle.pictures import resize
from optistyle.recipes import Recipe, changed
from optistyle.run import terms
from optistyle.run.observers import ProgressBar
from optistyle.sizes import fit_longer_side

ROOT = Path(__file__).parents[1]
#: Sides in pixels of the overview and of the crops; how many crops there are at most.
OVERVIEW, CROP, CROPS = 1200, 512, 4


def corners(run: Run) -> list[tuple[int, int]]:
    """Row and column of the pixels at which four tiles meet, the middle of the picture first."""
    size, _ = run.schedule[-1]
    layers = {x for weight, term in terms(run.recipe).values() if weight for x in term.layers}
    layers.add(IMAGE)
    starts = [
        (rows.start, columns.start)
        for tile in tiling(run.encoder, layers, size, run.plan.fit.tile)
        for rows, columns in (tile.window[IMAGE],)
        if rows.start and columns.start
    ]
    return sorted(starts, key=lambda at: abs(at[0] - size[0] / 2) + abs(at[1] - size[1] / 2))


def main(recipe: Recipe, out: Path, style: str = "swirls") -> list[Path]:
    """Paint the poster, and return the files written."""
    out.mkdir(parents=True, exist_ok=True)
    photograph = torch.from_numpy(data.coffee().copy()).permute(2, 0, 1)[None].float() / 255
    run = Run(photograph, read(ROOT / "examples" / "styles" / f"{style}.jpg"), recipe)
    print(f"plan: {run.forecast()}", file=sys.stderr)
    run.finish([ProgressBar()])
    result = run.result()
    poster = result.image
    result.save(out / "poster.png")
    (out / "poster.json").write_text(json.dumps(result.manifest(), indent=1))
    height, width = poster.shape[-2:]
    overview = resize(poster, fit_longer_side(height, width, min(OVERVIEW, max(height, width))))
    write(out / "overview.jpg", overview, quality=90)
    files = [out / "poster.png", out / "poster.json", out / "overview.jpg"]
    for row, column in corners(run)[:CROPS]:
        top, left = (max(0, at - CROP // 2) for at in (row, column))
        files.append(out / f"corner-{row}-{column}.jpg")
        write(files[-1], poster[..., top : top + CROP, left : left + CROP], quality=95)
    return files


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="6000", help="of the longer side in pixels")
    parser.add_argument("--tile", default="auto", help="auto, off or pixels")
    parser.add_argument("--iterations", default="30", help="of the last scale, or N,N… of all")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "out" / "poster")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("size", "tile", "iterations")}
    for path in main(changed(Recipe(encoder="slim"), settings), options.output):
        print(path)
