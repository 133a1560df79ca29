"""Which schedule paints the best picture in the same time?

Every contender has our loss weights, so that only schedule and solver differ, and as many
iterations as make its work the default's: each counts by its pixels, so that a machine's other
work does not decide. crowsonkb's schedule and solver are those of style-transfer-pytorch: from
128 px by sqrt(2), twice as many iterations at first, Adam at 0.02 and the average of its iterates.

Pictures are judged in an encoder that they were not optimised in: those of slim in VGG-19, those of
VGG-19 in `encoders.COMPRESSED`. There, and lower is better: *style*, the mean over relu1_1 …
relu5_1 of |G - S|² / |S|²; *content*, |F - C|² / |C|² at relu4_2; and *self-similarity* to the
content (report 000's preset). What counts is the ratio to the default's picture of the same pair:
geometric means, with a bootstrap interval over pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks import encoders, pairs, record
from benchmarks.baselines import JUDGED
from optistyle import metrics
from optistyle.encoders import load
from optistyle.encoders.procedural import calibration_images
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.pictures import read, sheet, write
from optistyle.published import preset
from optistyle.recipes import Recipe
from optistyle.run import Run

#: Longer side that the contenders' scales are given for.
SIZE = 512
_PUBLISHED = preset("fine")
CONTENDERS: Mapping[str, Recipe] = {
    "default": Recipe(),
    "single scale": Recipe(scales="single"),
    "crowsonkb": Recipe(
        scales=_PUBLISHED.scales, iterations=_PUBLISHED.iterations, optimizer="adam"
    ),
    "from 181 px": Recipe(scales=(181, 256, 362, 512)),
    "from 362 px": Recipe(scales=(362, 512)),
    "256 and 512 px": Recipe(scales=(256, 512)),
    "more while coarse": Recipe(iterations=(400, 80, 40)),
}


def steps(recipe: Recipe) -> list[tuple[int, int]]:
    """Side in px and iterations of every scale of a square picture."""
    return [(side, count) for (side, _), count in recipe.schedule(SIZE, SIZE)]


def work(scales: Sequence[tuple[int, int]]) -> float:
    """As iterations at full size."""
    full, _ = scales[-1]
    return sum(count * (side / full) ** 2 for side, count in scales)


def fitted(recipe: Recipe, size: int) -> Recipe:
    """The same up to another size, every scale in proportion, in as much work as the default's."""
    budget, own = work(steps(CONTENDERS["default"])), steps(recipe)
    sides = [round(side * size / SIZE) for side, _ in own]
    counts = [max(1, round(count * budget / work(own))) for _, count in own]
    # The last scale makes up for rounding.
    counts[-1] += round(budget - work(list(zip(sides, counts, strict=True))))
    return replace(recipe, size=size, scales=tuple(sides), iterations=tuple(counts))


def judge(optimised: str) -> VGG:
    """The encoder that pictures optimised in another one are judged in."""
    if optimised == "slim":
        return load("vgg19")
    encoder = encoders.compressed(encoders.COMPRESSED / "encoder5.pth")
    return normalise(encoder, mean_activations(encoder, calibration_images()))


def measure(
    encoder: str, images: Mapping[str, tuple[Tensor, Tensor]], size: int, folder: Path
) -> list[dict[str, Any]]:
    """One row per pair and contender, and a sheet per pair; what ``folder`` holds is kept."""
    judging, rows = judge(encoder), []
    for pair, (content, style) in images.items():
        cells = {"photograph": content, "painting": style}
        for name, contender in CONTENDERS.items():
            recipe = replace(fitted(contender, size), encoder=encoder)
            scales = steps(recipe)
            iterations = ", ".join(f"{count} at {side}" for side, count in scales)
            facts = {
                "encoder": encoder,
                "px": size,
                "schedule": name,
                "pair": pair,
                "iterations": iterations,
                "work": work(scales),
            }
            path = record.place(folder, encoder, name, iterations, pair)
            picture = path.with_suffix(".png")
            painted = partial(_painted, content, style, recipe, judging, picture)
            rows.append(record.kept(path, facts, painted))
            cells[name] = read(picture).pixels
        names = list(cells)
        threes = [names[first : first + 3] for first in range(0, len(names), 3)]
        page = sheet([[cells[name] for name in three] for three in threes], threes)
        write(folder / f"{encoder} {size} {pair} sheet.png".replace(" ", "_"), page)
    return rows


def _painted(
    content: Tensor, style: Tensor, recipe: Recipe, judging: VGG, picture: Path
) -> dict[str, float]:
    run = Run(content, style, recipe)
    run.finish()
    result = run.result()
    result.save(picture)
    return {
        "seconds": sum(result.seconds),
        **metrics.measure(JUDGED, result.image, content, [(style, 1.0)], judging),
    }


def means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per encoder, size and contender: work, and ratios to the default's."""
    found, table = record.compared(rows, "schedule"), []
    for (encoder, size, name), own in found.items():
        usual, first = found[encoder, size, "default"], next(iter(own.values()))
        ratios = {
            key: record.mean_ratio([row[key] / usual[pair][key] for pair, row in own.items()])
            for key in JUDGED
        }
        table.append(
            {
                "encoder": encoder,
                "px": size,
                "schedule": name,
                "iterations": first["iterations"],
                "work": first["work"],
                "style": ratios["gram_distance"],
                "content": ratios["content_distance"],
                "self-similarity": ratios["self_similarity"],
            }
        )
    return table


def main(names: Sequence[str], size: int, folder: Path, own_pairs: bool) -> None:
    images = pairs.own(size) if own_pairs else pairs.held_out(size)
    for name in names:
        rows = measure(name, images, size, folder)
        table = means(rows)
        print(record.listed(table))
        print(record.save(f"schedules-{name}-{size}", rows))
