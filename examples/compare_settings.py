"""The sheets in docs/colors.md and docs/strokes.md: the same pairs with different settings.

python examples/compare_settings.py colors|strokes [--encoder slim] [-o docs]

Photographs are scikit-image's, paintings our own. Pictures that are already in out/settings are not
made again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sheets import ROOT, photograph
from torch import Tensor

from optistyle import Recipe, load_encoder, read, sheet, stylize, write
from optistyle.pictures import resize
from optistyle.sizes import fit_longer_side


@dataclass(frozen=True)
class Comparison:
    """Pairs of photograph and painting, and recipes by caption."""

    pairs: tuple[tuple[str, str], ...]
    recipes: Mapping[str, Recipe]


COMPARISONS = {
    "colors": Comparison(
        (("astronaut", "mosaic"), ("chelsea", "swirls"), ("coffee", "garden")),
        {
            mode: Recipe(size=256, iterations=80, original_colors=mode)
            for mode in ("off", "luminance", "histogram", "covariance")
        },
    ),
    "strokes": Comparison(
        (("chelsea", "swirls"),),
        {
            "first scale 226": Recipe(scales=(226, 320), iterations=80),
            "first scale 113": Recipe(scales=(113, 160, 226, 320), iterations=80),
            "style scale 2": Recipe(size=320, iterations=80, style_scale=2.0),
        },
    ),
}


def picture(name: str, pair: tuple[str, str], recipe: Recipe, cache: Path) -> Tensor:
    """One stylised picture, from ``cache`` where it is there."""
    path = cache / f"{recipe.encoder}-{'-'.join(pair)}-{name.replace(' ', '-')}.png"
    if not path.exists():
        print(path.name, file=sys.stderr)
        painting = read(ROOT / "examples" / "styles" / f"{pair[1]}.jpg")
        network = load_encoder(recipe.encoder)
        content = photograph(pair[0])
        stylize(content, painting, recipe, encoder=network).save(path)
    return read(path).pixels


def main() -> None:
    """Make the pictures and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(COMPARISONS))
    parser.add_argument("--encoder", default="slim")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    cache = ROOT / "out" / "settings"
    cache.mkdir(parents=True, exist_ok=True)
    comparison = COMPARISONS[options.name]
    rows = []
    for pair in comparison.pairs:
        made = [
            picture(f"{options.name}-{name}", pair, replace(recipe, encoder=options.encoder), cache)
            for name, recipe in comparison.recipes.items()
        ]
        height, width = made[0].shape[-2:]
        painting = read(ROOT / "examples" / "styles" / f"{pair[1]}.jpg").pixels
        longer = round(height * min(1, max(painting.shape[-2:]) / painting.shape[-2]))
        small = resize(painting, fit_longer_side(*painting.shape[-2:], min(width, longer)))
        rows.append([resize(photograph(pair[0]), (height, width)), small, *made])
    path = options.output / f"{options.name}.jpg"
    write(path, sheet(rows, ["photograph", "painting", *comparison.recipes]), quality=76)
    print(path)


if __name__ == "__main__":
    main()
