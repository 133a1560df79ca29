"""Which schedule paints the best picture in so many seconds?

A *contender* is a start and a list of *legs*: so many iterations in one encoder at one size. Its
counts are scaled until its seconds, by costs measured on this machine beforehand, are the budget's.
So pictures can be painted beside other work: only costs are measured on a quiet machine.

Pictures are judged by two networks that no contender optimises in (`judges`) and, without a
network, by *self-similarity* to the photograph (report 000's preset); lower is better. The result
is the front of style against content, not one number.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks import pairs, record, speed
from benchmarks.judges import JUDGES
from optistyle import baselines
from optistyle.baselines.paint import paint
from optistyle.choices import WARM_STARTS
from optistyle.encoders import load
from optistyle.encoders.vgg import VGG
from optistyle.experiments.intervals import bootstrap
from optistyle.files import write_whole
from optistyle.metrics import self_similarity
from optistyle.pictures import Picture, Stored, plots, read, sheet, write
from optistyle.recipes import Recipe, changed
from optistyle.run import Run, read_inputs

#: Longer side of the pictures.
SIZE = 512
SIDES = (181, 256, 362, SIZE)


@dataclass(frozen=True)
class Leg:
    """Iterations in one encoder at one size, as a share of all."""

    encoder: str
    side: int
    share: float


@dataclass(frozen=True)
class Contender:
    """What is painted with: settings beside the schedule are ``changes`` of the recipe's."""

    legs: Sequence[Leg]
    init: str = "content"
    changes: Mapping[str, Any] = field(default_factory=dict)


def _legs(encoder: str, shares: Mapping[int, float]) -> list[Leg]:
    return [Leg(encoder, side, share) for side, share in shares.items()]


#: Shares of the iterations by the law of `Recipe.schedule`.
USUAL = {256: 2.5, 362: 1.25, 512: 1.0}
_VGG = Contender(_legs("vgg19", USUAL))
_FINE = {362: 1.25, 512: 1.0}
CONTENDERS: Mapping[str, Contender] = {
    "vgg19": _VGG,
    "slim": Contender(_legs("slim", USUAL)),
    "slim, then vgg19": Contender([*_legs("slim", {256: 5.0}), *_legs("vgg19", _FINE)]),
    "vgg19, then slim": Contender(
        [*_legs("vgg19", {256: 2.5, 362: 1.25}), *_legs("slim", {512: 1.0})]
    ),
    "more while coarse": Contender(_legs("vgg19", {256: 5.0, 362: 2.0, 512: 1.0})),
    "from 181 px": Contender(_legs("vgg19", {181: 2.5, 256: 1.25, **_FINE})),
    "from 362 px": Contender(_legs("vgg19", {362: 2.5, 512: 1.0})),
    "256 and 512 px": Contender(_legs("vgg19", {256: 2.5, 512: 1.0})),
    "single": Contender(_legs("vgg19", {512: 1.0})),
    "single, slim": Contender(_legs("slim", {512: 1.0})),
    "from magenta": replace(_VGG, init="magenta"),
    "from magenta, slim": Contender(_legs("slim", USUAL), init="magenta"),
    "from magenta, 362 px": Contender(_legs("vgg19", {362: 2.5, 512: 1.0}), init="magenta"),
    "from adain": replace(_VGG, init="adain"),
    "magenta": Contender([], init="magenta"),
    "slim, beta 3e6": Contender(_legs("slim", USUAL), changes={"beta": 3e6}),
    "slim, beta 1e6": Contender(_legs("slim", USUAL), changes={"beta": 1e6}),
    "beta 3e6": replace(_VGG, changes={"beta": 3e6}),
    "beta 1e6": replace(_VGG, changes={"beta": 1e6}),
    "single, beta 3e6": Contender(_legs("vgg19", {512: 1.0}), changes={"beta": 3e6}),
    "from 362 px, beta 3e6": Contender(_legs("vgg19", {362: 2.5, 512: 1.0}), changes={"beta": 3e6}),
    "from 362 px, beta 1e6": Contender(_legs("vgg19", {362: 2.5, 512: 1.0}), changes={"beta": 1e6}),
}


@dataclass(frozen=True)
class Costs:
    """Seconds on a quiet machine.

    Attributes:
        start: of the command line around the iterations: imports, reading, planning, saving.
        first: of the first iteration at a size, by encoder and side; it measures the targets.
        each: of every other.
        model: of a model's picture, by name.
    """

    start: float
    first: Mapping[str, Mapping[int, float]]
    each: Mapping[str, Mapping[int, float]]
    model: Mapping[str, float]

    def seconds(self, contender: Contender, counts: Sequence[int]) -> float:
        total = self.start + self.model.get(contender.init, 0.0)
        for leg, count in zip(contender.legs, counts, strict=True):
            total += self.first[leg.encoder][leg.side]
            total += (count - 1) * self.each[leg.encoder][leg.side]
        return total


def fitted(contender: Contender, seconds: float, costs: Costs) -> list[int] | None:
    """Iterations of every leg so that all take ``seconds``; None where they cannot.

    A contender without legs has nothing to scale: it takes the time that it takes.
    """
    legs = contender.legs
    fixed = costs.seconds(contender, [0] * len(legs))
    if not legs:
        return [] if fixed <= seconds else None
    share = sum(leg.share * costs.each[leg.encoder][leg.side] for leg in legs)
    counts = [max(1, round((seconds - fixed) / share * leg.share)) for leg in legs]
    # The last leg makes up for rounding.
    last = costs.each[legs[-1].encoder][legs[-1].side]
    counts[-1] += int((seconds - costs.seconds(contender, counts)) // last)
    return counts if counts[-1] > 0 else None


def measured_costs(folder: Path) -> Costs:
    """From ``folder``; measured now where they are not there, for which nothing else may run."""
    path = folder / "costs.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(_measure_costs(), indent=1).encode())
    found = json.loads(path.read_text())
    by_side = {
        key: {name: {int(side): x for side, x in own.items()} for name, own in found[key].items()}
        for key in ("first", "each")
    }
    return Costs(found["start"], by_side["first"], by_side["each"], found["model"])


def _measure_costs(rounds: int = 3) -> dict[str, Any]:
    content, style = pairs.own(SIZE)["astronaut x swirls"]
    first: dict[str, dict[int, float]] = {"vgg19": {}, "slim": {}}
    each: dict[str, dict[int, float]] = {"vgg19": {}, "slim": {}}
    for name, side in product(first, SIDES):
        spent = [_spent(name, side, content, style) for _ in range(rounds)]
        # Only the first round loads the encoder and makes its filters.
        first[name][side] = min(one[0] for one in spent[1:])
        each[name][side] = float(np.median([x for one in spent[1:] for x in one[1:]]))
    model = {}
    for name in WARM_STARTS:
        started = time.perf_counter()
        _from_model(name, content, style)
        model[name] = time.perf_counter() - started
    # The whole command at the least size, less its one iteration.
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("content.png", "style.png", "picture.png")]
        for path, pixels in zip(files, (content, style), strict=False):
            write(path, pixels)
        options = ["-o", str(files[2]), "--encoder", "vgg19", "--size", "64", "--iterations", "1"]
        start, _ = speed.start(["run", *map(str, files[:2]), *options])
    return {"start": start, "first": first, "each": each, "model": model}


def _spent(name: str, side: int, content: Tensor, style: Tensor) -> Sequence[float]:
    """Seconds of each of five iterations."""
    times = [time.perf_counter()]
    for _ in Run(content, style, _recipe(name, [side], [5]), encoder=_encoder(name)):
        times.append(time.perf_counter())
    return np.diff(times).tolist()


def _recipe(encoder: str, sides: Sequence[int], counts: Sequence[int]) -> Recipe:
    return Recipe(encoder=encoder, scales=tuple(sides), iterations=tuple(counts))


def _from_model(name: str, content: Tensor, style: Tensor) -> Tensor:
    size = content.shape[-2], content.shape[-1]
    return paint(baselines.load(name), Picture(content), [Picture(style)], size).pixels


@cache
def _encoder(name: str) -> VGG:
    return load(name)


def picture(contender: Contender, counts: Sequence[int], content: Tensor, style: Tensor) -> Tensor:
    """What a contender paints: (1, 3, H, W)."""
    image = content if contender.init == "content" else _from_model(contender.init, content, style)
    for name in dict.fromkeys(leg.encoder for leg in contender.legs):
        own = [
            (x.side, n) for x, n in zip(contender.legs, counts, strict=True) if x.encoder == name
        ]
        recipe = changed(_recipe(name, *zip(*own, strict=True)), contender.changes)
        inputs = replace(read_inputs(content, style, recipe), init=Stored(Picture(image)))
        run = Run(inputs, recipe=recipe, encoder=_encoder(name))
        run.finish()
        image = run.result().image
    return image


def measure(
    names: Iterable[str],
    budgets: Sequence[float],
    images: Mapping[str, tuple[Tensor, Tensor]],
    folder: Path,
) -> list[dict[str, Any]]:
    """One row per pair, budget and contender that fits in; what ``folder`` holds is kept."""
    costs, rows = measured_costs(folder), []
    for pair, (content, style) in images.items():
        for seconds in budgets:
            for name in names:
                counts = fitted(CONTENDERS[name], seconds, costs)
                if counts is None:
                    continue
                legs = zip(CONTENDERS[name].legs, counts, strict=True)
                facts = {
                    "contender": name,
                    "budget": seconds,
                    "pair": pair,
                    "iterations": ", ".join(f"{n} at {x.side} ({x.encoder})" for x, n in legs),
                }
                path = record.place(folder, f"{seconds:g}s", name, pair)
                job = partial(_judged, name, counts, content, style, path.with_suffix(".png"))
                rows.append(record.kept(path, facts, job))
    return rows


def _judged(
    name: str, counts: Sequence[int], content: Tensor, style: Tensor, path: Path
) -> dict[str, Any]:
    """What the judges say of the picture, which is painted where ``path`` is not there."""
    if not path.exists():
        write(path, picture(CONTENDERS[name], counts, content, style))
    image, row = read(path).pixels, {}
    for by, judge in JUDGES.items():
        row[f"{by}, style"], row[f"{by}, content"] = judge(image, content, style)
    return {**row, "self-similarity": self_similarity(image, content)}


def sheets(rows: Sequence[Mapping[str, Any]], images: Any, folder: Path, columns: int = 4) -> None:
    """One sheet per pair and budget: photograph, painting and every contender's picture."""
    for pair, budget in dict.fromkeys((row["pair"], row["budget"]) for row in rows):
        cells = dict(zip(("photograph", "painting"), images[pair], strict=True))
        for row in rows:
            if (row["pair"], row["budget"]) == (pair, budget):
                name = row["contender"]
                path = record.place(folder, f"{budget:g}s", name, pair).with_suffix(".png")
                cells[name] = read(path).pixels
        names = list(cells)
        lines = [names[first : first + columns] for first in range(0, len(names), columns)]
        page = sheet([[cells[name] for name in line] for line in lines], lines)
        write(folder / f"sheet {budget:g}s {pair}.png".replace(" ", "_"), page)


#: Title of a column -> what is averaged in it, as geometric means of ratios.
COLUMNS: Mapping[str, Sequence[str]] = {
    "style": [f"{by}, style" for by in JUDGES],
    "content": [f"{by}, content" for by in JUDGES],
    "self-similarity": ["self-similarity"],
}
#: What the ratios are to: contender and seconds.
REFERENCE = "vgg19", 45.0


def _ratios(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[float, str], dict[str, np.ndarray]]:
    """By budget and contender: logarithms of ratios to the reference, (pairs,), by column."""
    usual = {row["pair"]: row for row in rows if (row["contender"], row["budget"]) == REFERENCE}
    found: dict[tuple[float, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["pair"] in usual:
            found.setdefault((row["budget"], row["contender"]), []).append(row)

    def log(row: Mapping[str, Any], keys: Sequence[str]) -> float:
        return float(np.mean([np.log(row[key] / usual[row["pair"]][key]) for key in keys]))

    return {
        place: {title: np.array([log(row, keys) for row in own]) for title, keys in COLUMNS.items()}
        for place, own in sorted(found.items())
    }


def means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per budget and contender: geometric means, with bootstrap intervals over pairs."""
    counts = {(row["budget"], row["contender"]): row["iterations"] for row in rows}
    table = []
    for (budget, name), own in _ratios(rows).items():
        line: dict[str, Any] = {"s": budget, "contender": name, "pairs": len(own["style"])}
        for title, logs in own.items():
            line[title] = str(bootstrap(logs, lambda x: np.exp(x.mean(-1))))
        table.append({**line, "iterations": counts[budget, name]})
    return table


def front(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot style against content, as ratios to the reference; a colour for every budget."""
    figure, axes = plots.axes(1, 1, width=8.0, height=6.0)
    axis, places = axes[0, 0], _ratios(rows)
    for budget in sorted({budget for budget, _ in places}):
        own = {name: x for (seconds, name), x in places.items() if seconds == budget}
        content, style = (
            [float(np.exp(x[key].mean())) for x in own.values()] for key in ("content", "style")
        )
        axis.scatter(content, style, label=f"{budget:g} s", s=22)
        for name, x, y in zip(own, content, style, strict=True):
            axis.annotate(name, (x, y), fontsize=6, xytext=(3, 2), textcoords="offset points")
    axis.set(
        xlabel="content: distance to the photograph, as a ratio",
        ylabel="style: distance to the painting, as a ratio",
        yscale="log",
    )
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.legend(frameon=False)
    plots.save(figure, path)


def main(
    names: Sequence[str], budgets: Sequence[float], folder: Path, chosen: Sequence[str]
) -> None:
    images = pairs.varied(SIZE)
    images = {pair: images[pair] for pair in chosen or images}
    rows = measure(names or CONTENDERS, budgets, images, folder)
    sheets(rows, images, folder)
    print(record.listed(means(rows)))
    found = {"costs": asdict(measured_costs(folder)), "painted": rows}
    print(record.save(f"schedules-{SIZE}", found))
