"""Do the metrics see? Each of them on pictures whose quality is known, into docs/metrics/.

python examples/metrics_sanity.py [--size 384] [-o docs/metrics] [--tables]

For three pairs of scikit-image's photographs and our paintings: the content itself, the style
itself, half of each, either blurred, its colours swapped, its patches shuffled, and what the
optimiser paints at rising beta (slim encoder). What a metric is asked is whether it ranks such
pictures as they are known to rank, for every pair. CAMS in VGG-19 takes twenty seconds a picture,
and is asked of the first pair only. Tables are filled in on docs/metrics.md too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import tables
import torch
from sheets import PAIRS, photograph
from torch import Tensor
from torchvision.transforms import functional as T

from optistyle import Recipe, load_encoder, metrics, read, sheet, stylize, write
from optistyle.experiments.judging import judging_encoder
from optistyle.experiments.runs import write_json
from optistyle.metrics import VGG19
from optistyle.pictures import resize
from optistyle.sizes import fit_longer_side

ROOT = Path(__file__).parents[1]
BETAS = (1e5, 1e6, 1e7, 1e8)

_RISING = tuple(f"beta {beta:.0e}" for beta in BETAS)
_OF_CONTENT: Mapping[str, Sequence[str]] = {
    "content, half, style": ("content", "half", "style"),
    "blurred": ("content", "blurred"),
    "colours swapped": ("content", "swapped"),
    "patches shuffled": ("content", "shuffled"),
    "beta rises": _RISING,
    "painting, shuffled": ("beta 1e+07", "shuffled"),
}
#: Question -> pictures from the best to the worst: for metrics of content, of style, and of place
#: (whether what is seen is where the content asks for it).
QUESTIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "content": _OF_CONTENT,
    "style": {
        "style, half, content": ("style", "half", "content"),
        "blurred": ("style", "style, blurred"),
        "colours swapped": ("style", "style, swapped"),
        "patches shuffled": ("style", "style, shuffled"),
        "beta rises": _RISING[::-1],
        "painting, half": ("beta 1e+07", "half"),
    },
    "place": _OF_CONTENT,
}
PLACE = ("strays",)


def kind(name: str) -> str:
    """The questions that a metric is asked."""
    return "place" if name in PLACE else metrics.METRICS[name].of


def swapped(image: Tensor) -> Tensor:
    """Red, green and blue as blue, red and green."""
    return image[:, [2, 0, 1]]


def shuffled(image: Tensor, side: int = 32) -> Tensor:
    """Its patches of 32 px in another order; what is left over at the borders stays."""
    rows, columns = image.shape[-2] // side, image.shape[-1] // side
    whole = image[..., : rows * side, : columns * side]
    patches = whole.unfold(2, side, side).unfold(3, side, side).reshape(3, -1, side, side)
    patches = patches[
        :, torch.randperm(len(patches[0]), generator=torch.Generator().manual_seed(0))
    ]
    grid = patches.view(3, rows, columns, side, side).permute(0, 1, 3, 2, 4)
    result = image.clone()
    result[..., : rows * side, : columns * side] = grid.reshape(1, 3, *whole.shape[-2:])
    return result


def pictures(content: Tensor, style: Tensor) -> dict[str, Tensor]:
    """By name; those of the optimiser are made here."""
    encoder, size = load_encoder("slim"), max(content.shape[-2:])
    like = resize(style, (content.shape[-2], content.shape[-1]))
    found = {
        "content": content,
        "style": like,
        "half": (content + like) / 2,
        "blurred": T.gaussian_blur(content, [21, 21], [4.0, 4.0]),
        "swapped": swapped(content),
        "shuffled": shuffled(content),
        "style, blurred": T.gaussian_blur(like, [21, 21], [4.0, 4.0]),
        "style, swapped": swapped(like),
        "style, shuffled": shuffled(like),
    }
    for beta in BETAS:
        recipe = Recipe(size=size, beta=beta, gamma=0.0, iterations=(40,))
        found[f"beta {beta:.0e}"] = stylize(
            content, style, recipe, encoder=encoder, progress=False
        ).image
    return found


def answer(name: str, rows: Sequence[Mapping[str, float]], order: Sequence[str]) -> str:
    """``yes``, ``blind``, ``wrong way``, or for how many of the pairs it is yes.

    Yes where a metric gets worse from the first picture to the last, and at no step better, by
    more than 5 % of its median over all pictures; wrong way where it gets better to the last.
    """
    sign = 1 if metrics.METRICS[name].better == "lower" else -1
    least = 0.05 * median(abs(value) for row in rows for value in row.values())
    right = wrong = 0
    for row in rows:
        values = [sign * row[x] for x in order]
        steps = [b - a for a, b in pairwise(values)]
        right += values[-1] - values[0] > least and min(steps) >= -least
        wrong += values[-1] - values[0] < -least
    if right == len(rows):
        return "yes"
    if right:
        return f"{right} of {len(rows)}"
    if wrong:
        return "wrong way" if wrong == len(rows) else f"wrong way, {wrong} of {len(rows)}"
    within = any(abs(row[x] - row[order[0]]) > least for row in rows for x in order)
    return "not in order" if within else "blind"


def answers(of: str, values: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """The table of the metrics of ``content``, ``style`` or ``place``."""
    rows = []
    for name, found in values.items():
        if kind(name) == of:
            pairs = "" if len(found) > 1 else " (one pair)"
            cells = [answer(name, found, order) for order in QUESTIONS[of].values()]
            rows.append([f"`{name}`{pairs}", *cells])
    return tables.markdown(["metric", *QUESTIONS[of]], rows)


def means(values: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """The table of means over pairs: what an answer rests on."""
    pictures = list(next(iter(values.values()))[0])
    rows = [
        [name, *(f"{sum(row[x] for row in found) / len(found):.2g}" for x in pictures)]
        for name, found in values.items()
    ]
    return tables.markdown(["", *pictures], rows)


def made(values: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, str]:
    """The page's tables."""
    return {**{of: answers(of, values) for of in QUESTIONS}, "means": means(values)}


def measured(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Metric -> for each pair, picture -> value; and the sheet of the pictures."""
    judge, shown = judging_encoder(), []
    values: dict[str, list[dict[str, float]]] = {name: [] for name in options.metrics}
    for index, (content, style) in enumerate(PAIRS[: options.pairs]):
        image = photograph(content)
        image = resize(image, fit_longer_side(image.shape[-2], image.shape[-1], options.size))
        painting = read(ROOT / "examples" / "styles" / f"{style}.jpg").pixels
        shots = pictures(image, painting)
        names = [x for x in options.metrics if index == 0 or metrics.METRICS[x].needs != VGG19]
        for name in names:
            values[name].append({})
        for label, picture in shots.items():
            print(f"{content} x {style}: {label}", file=sys.stderr, flush=True)
            found = metrics.measure(names, picture, image, [(shots["style"], 1.0)], judge)
            for name, value in found.items():
                values[name][-1][label] = value
        shown.append(list(shots.values()))
    page = sheet([_small(x) for x in shown], list(shots))
    write(options.output / "pictures.jpg", page, quality=60)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--metrics", nargs="+", default=metrics.at_hand(), metavar="NAME")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "metrics")
    parser.add_argument("--tables", action="store_true", help="only tables, from kept values")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / "values.json"
    if not options.tables:
        write_json(kept.resolve(), measured(options))
    values = json.loads(kept.read_text(encoding="utf-8"))
    found = made(values)
    print("\n".join(found.values()))
    page = options.output.with_suffix(".md")
    if page.is_file():
        tables.fill(page, found.__getitem__)


def _small(row: Sequence[Tensor]) -> list[Tensor]:
    sizes = [fit_longer_side(x.shape[-2], x.shape[-1], 160) for x in row]
    return [resize(x, size) for x, size in zip(row, sizes, strict=True)]


if __name__ == "__main__":
    main()
