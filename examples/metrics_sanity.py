"""Do the metrics see? Each of them on pictures whose quality is known, into docs/metrics/.

python examples/metrics_sanity.py [--size 512] [-o docs/metrics]

For three pairs of scikit-image's photographs and our paintings: the content itself, the style
itself, half of each, the content blurred, its colours swapped, its patches shuffled, and what the
optimiser paints at rising beta (slim encoder). A metric passes a question if it moves the right
way for every pair; else it is blind to that, and the table says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from sheets import PAIRS, photograph
from torch import Tensor
from torchvision.transforms import functional as T

from optistyle import Recipe, load_encoder, metrics, read, sheet, stylize, write
from optistyle.experiments.runs import write_json
from optistyle.experiments.work import judging_encoder
from optistyle.images import fit_longer_side, resize, write_whole

ROOT = Path(__file__).parents[1]
BETAS = (1e5, 1e6, 1e7, 1e8)

#: Question -> (better, worse) pictures for metrics of content, and for those of style.
QUESTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "content": {
        "the content is best": ("content", "half"),
        "half is better than the style": ("half", "style"),
        "blur": ("content", "blurred"),
        "colours swapped": ("content", "swapped"),
        "patches shuffled": ("content", "shuffled"),
        "more style keeps less": ("beta 1e+05", "beta 1e+08"),
    },
    "style": {
        "the style is best": ("style", "half"),
        "half is better than the content": ("half", "content"),
        "blur": ("style", "style, blurred"),
        "colours swapped": ("style", "style, swapped"),
        "patches shuffled": ("style", "style, shuffled"),
        "more style is nearer": ("beta 1e+08", "beta 1e+05"),
    },
}


def swapped(image: Tensor) -> Tensor:
    """Red, green and blue as blue, red and green."""
    return image[:, [2, 0, 1]]


def shuffled(image: Tensor, side: int = 32) -> Tensor:
    """Its patches of 32 px in another order; what is left over at the borders is cut off."""
    rows, columns = image.shape[-2] // side, image.shape[-1] // side
    whole = image[..., : rows * side, : columns * side]
    patches = whole.unfold(2, side, side).unfold(3, side, side).reshape(3, -1, side, side)
    patches = patches[
        :, torch.randperm(len(patches[0]), generator=torch.Generator().manual_seed(0))
    ]
    grid = patches.view(3, rows, columns, side, side).permute(0, 1, 3, 2, 4)
    return grid.reshape(1, 3, rows * side, columns * side)


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
        found[f"beta {beta:.0e}"] = stylize(content, style, recipe, encoder=encoder).image
    return found


def answers(rows: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, str]]:
    """Metric -> question -> ``yes``, ``blind``, or how many pairs it answers rightly."""
    table: dict[str, dict[str, str]] = {}
    for name in rows[0]:
        metric = metrics.METRICS[name]
        sign = 1 if metric.better == "lower" else -1
        table[name] = {}
        for question, (good, bad) in QUESTIONS[metric.of].items():
            gaps = [sign * (row[name][bad] - row[name][good]) for row in rows]
            scale = max(abs(row[name][x]) for row in rows for x in row[name])
            right = sum(gap > 1e-3 * scale for gap in gaps)
            table[name][question] = "yes" if right == len(rows) else f"{right} of {len(rows)}"
            if right == 0:
                table[name][question] = "blind"
    return table


def markdown(table: Mapping[str, Mapping[str, str]]) -> str:
    """A table for metrics of content, and one for those of style."""
    parts = []
    for kind, questions in QUESTIONS.items():
        names = [name for name in table if metrics.METRICS[name].of == kind]
        lines = [
            f"| metric of {kind} | {' | '.join(questions)} |",
            "|---" * (len(questions) + 1) + "|",
        ]
        lines += [f"| {n} | {' | '.join(table[n][q] for q in questions)} |" for n in names]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--metrics", nargs="+", default=metrics.at_hand())
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "metrics")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    judge, rows, shown = judging_encoder(), [], []
    for content, style in PAIRS[: options.pairs]:
        image = photograph(content)
        image = resize(image, fit_longer_side(image.shape[-2], image.shape[-1], options.size))
        painting = read(ROOT / "examples" / "styles" / f"{style}.jpg").pixels
        made = pictures(image, painting)
        print(content, style, file=sys.stderr)
        row: dict[str, dict[str, float]] = {name: {} for name in options.metrics}
        for label, picture in made.items():
            found = metrics.measure(options.metrics, picture, image, [(made["style"], 1.0)], judge)
            for name, value in found.items():
                row[name][label] = value
        rows.append(row)
        shown.append(list(made.values()))
    names = list(made)
    write(options.output / "pictures.jpg", sheet([_small(x) for x in shown], names), quality=85)
    write_json(options.output / "values.json", rows)
    write_whole(options.output.resolve() / "answers.md", markdown(answers(rows)).encode())
    print(markdown(answers(rows)))


def _small(row: Sequence[Tensor]) -> list[Tensor]:
    sizes = [fit_longer_side(x.shape[-2], x.shape[-1], 160) for x in row]
    return [resize(x, size) for x, size in zip(row, sizes, strict=True)]


if __name__ == "__main__":
    main()
