"""Report 000, again: five methods on rc2021's 43 contents and 20 styles, into docs/report-000/.

python examples/report_000.py paint adain|sanet|adaattn|gram|default …
python examples/report_000.py page
python examples/report_000.py tables

``paint`` paints and judges, in one thread, so that two of them can run side by side; killed and
started again, it goes on. Feed-forward models paint all pairs, optimisers (slim encoder) a seeded
sample spread evenly over contents and styles. ``page`` makes docs/report-000/rows.csv and figures
of the methods that are done, and fills in the tables of docs/report-000.md; ``tables`` only those,
from rows.csv.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tables
import torch
from torch import Tensor

from optistyle.errors import InputError, unknown
from optistyle.experiments import compare
from optistyle.experiments.compare import OPTIMISERS, USUAL, Case
from optistyle.experiments.intervals import Interval, bootstrap, crossed
from optistyle.files import write_whole
from optistyle.metrics import METRICS
from optistyle.metrics.chi_square import chi_square
from optistyle.pictures import read, resize
from optistyle.sizes import fit_area

ROOT = Path(__file__).parents[1]
RC2021 = ROOT.parent / "shared" / "images" / "rc2021"
METHODS = ("adaattn", "adain", "sanet", "gram", "default")
#: Measured on the sampled pairs only: a second and a half a picture.
SAMPLED = "cams_slim"
COLUMNS = (*USUAL, SAMPLED)
#: The photograph as it is, beside the methods: how far are its colours from the style's?
UNTOUCHED = "content image"
#: Published means: metric -> method.
PUBLISHED = {
    "self_similarity": {"adaattn": "0.0689", "adain": "0.0898", "sanet": "0.0974"},
    "chi_square": {"adaattn": "0.2063", "adain": "0.0174 (stored: 0.1595)", "sanet": "0.1067"},
}
#: Not in the report's self-similarity.
LEFT_OUT = "style20.png"
LABELS = {
    "self_similarity": "self-similarity",
    "chi_square": "chi-square",
    "ssim": "SSIM",
    "cams_slim": "CAMS, slim",
}

#: Method, content and style as texts, metrics as numbers.
Row = Mapping[str, Any]


# --- painting ---


def cases(method: str, options: argparse.Namespace) -> list[Case]:
    """The sampled pairs, and for a feed-forward model all the others."""
    folders = options.data / "content", options.data / "style"
    if not all(folder.is_dir() for folder in folders):
        raise InputError(
            f"the rc2021 pictures are not at {options.data}: name the folder that holds their "
            "folders content and style with --data"
        )
    chosen = compare.pairs_of(*folders, options.sample, options.seed)
    given = functools.partial(
        compare.cases, methods=[method], existing={}, output=options.work, size=options.size
    )
    found = given(chosen, names=COLUMNS, encoder="slim")
    others = sorted(set(compare.pairs_of(*folders)) - set(chosen))
    if method not in OPTIMISERS and others:
        found += given(others, names=USUAL)
    return found


def paint(options: argparse.Namespace) -> None:
    """Paint and judge what is not done yet; compare's own report is beside it."""
    torch.set_num_threads(1)
    for method in options.methods:
        if method not in METHODS:
            raise unknown("method", method, METHODS)
    for method in options.methods or METHODS:
        found = compare.compare(cases(method, options), options.work / method, workers=1)
        print(compare.markdown(found), flush=True)
        for row in found.rows:
            if "error" in row:
                print(f"{method}, {row['content']} x {row['style']}: {row['error']}")
        if found.failed:
            sys.exit(1)


# --- what was found ---


def collect(options: argparse.Namespace) -> None:
    """Write rows.csv and the figures, of the methods that are done."""
    found: list[dict[str, Any]] = []
    todo: list[Case] = []
    for method in METHODS:
        every = cases(method, options)
        rows = [compare.done(case) for case in every]
        kept = [row for row in rows if row is not None]
        if len(kept) < len(rows):
            print(f"{method} is left out: {len(kept)} of {len(rows)} pairs are done")
            continue
        todo += every
        found += [
            {**row, "chi_square": distance(case.picture, case.style)}
            for case, row in zip(every, kept, strict=True)
        ]
    if not todo:
        raise InputError("no method is done: paint first")
    pairs = dict.fromkeys((case.content, case.style) for case in todo)
    untouched = [
        {
            "method": UNTOUCHED,
            "content": content.name,
            "style": style.name,
            "chi_square": distance(content, style),
        }
        for content, style in pairs
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("method", "content", "style")
    writer.writerow([*names, *COLUMNS])
    for row in [*found, *untouched]:
        values = [f"{row[x]:.6g}" if x in row else "" for x in COLUMNS]
        writer.writerow([*(row[x] for x in names), *values])
    folder = options.page.with_suffix("")
    (folder / "sampled").mkdir(parents=True, exist_ok=True)
    write_whole((folder / "rows.csv").resolve(), text.getvalue().encode())
    both = list(zip(found, todo, strict=True))
    draw([(r, c) for r, c in both if c.method not in OPTIMISERS], folder)
    draw([(r, c) for r, c in both if SAMPLED in c.names], folder / "sampled")


def draw(both: Sequence[tuple[dict[str, Any], Case]], folder: Path) -> None:
    """The figures of some rows, as `compare.draw` has them."""
    if both:
        rows, todo = zip(*both, strict=True)
        compare.draw(compare.findings(rows), todo, folder)


def distance(picture: Path, style: Path) -> float:
    """Chi-square with the report's bins."""
    pixels, look = _pixels(picture), _style(style)
    area = fit_area(look.shape[-2], look.shape[-1], pixels.shape[-2] * pixels.shape[-1])
    return chi_square(pixels, resize(look, area), "rc2021")


def _pixels(path: Path) -> Tensor:
    return read(path).pixels


_style = functools.lru_cache(maxsize=32)(_pixels)


@dataclass(frozen=True)
class Found:
    """Values by pair.

    Attributes:
        values: method -> metric -> (content, style) -> value.
    """

    values: Mapping[str, Mapping[str, Mapping[tuple[str, str], float]]]

    @classmethod
    def of(cls, path: Path) -> Found:
        """What a rows.csv holds."""
        values: dict[str, dict[str, dict[tuple[str, str], float]]] = {}
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                own = values.setdefault(row["method"], {name: {} for name in COLUMNS})
                for name in COLUMNS:
                    if row[name]:
                        own[name][row["content"], row["style"]] = float(row[name])
        return cls(values)

    @property
    def models(self) -> list[str]:
        """The feed-forward models among the methods."""
        return [m for m in METHODS if m in self.values and m not in OPTIMISERS]

    @property
    def methods(self) -> list[str]:
        return [m for m in METHODS if m in self.values]

    def grid(self, method: str, metric: str, without: str = "") -> np.ndarray:
        """(contents, styles), without one of the styles."""
        own = self.values[method][metric]
        contents, styles = (sorted({pair[at] for pair in own}, key=_number) for at in (0, 1))
        return np.array([[own[c, s] for s in styles if s != without] for c in contents])

    def sample(self, method: str, metric: str) -> np.ndarray:
        """The values of the sampled pairs."""
        sampled = next(iter(self.values.values()))[SAMPLED]
        return np.array([self.values[method][metric][pair] for pair in sampled])


def _number(name: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", name)
    return int(digits or 0), name


# --- tables ---


def without(metric: str) -> str:
    """The style that the report does not have for a metric."""
    return LEFT_OUT if metric == "self_similarity" else ""


def means(found: Found) -> str:
    """All pairs, beside the published means."""
    head, rows = [""], []
    for metric in USUAL:
        count = found.grid(found.models[0], metric, without(metric)).size
        head.append(f"{LABELS[metric]}, {count} pairs")
        if metric in PUBLISHED:
            head.append("published")
    for method in [*found.models, UNTOUCHED]:
        row = [method]
        for metric in USUAL:
            known = bool(found.values[method][metric])
            row.append(str(crossed(found.grid(method, metric, without(metric)))) if known else "")
            if metric in PUBLISHED:
                row.append(PUBLISHED[metric].get(method, ""))
        rows.append(row)
    return tables.markdown(head, rows)


def sampled(found: Found) -> str:
    """The sampled pairs, by all methods."""
    rows = [
        [method, *(str(bootstrap(found.sample(method, metric))) for metric in COLUMNS)]
        for method in found.methods
    ]
    untouched = str(bootstrap(found.sample(UNTOUCHED, "chi_square")))
    rows.append([UNTOUCHED, *(untouched if x == "chi_square" else "" for x in COLUMNS)])
    return tables.markdown(["", *(LABELS[x] for x in COLUMNS)], rows)


def differences(found: Found) -> str:
    """AdaAttN less the other models, over all pairs."""
    return _differences(
        found,
        [m for m in found.models if m != "adaattn"],
        USUAL,
        lambda method, metric: found.grid(method, metric, without(metric)),
        crossed,
    )


def sampled_differences(found: Found) -> str:
    """AdaAttN less every other method, over the sampled pairs."""
    others = [m for m in found.methods if m != "adaattn"]
    return _differences(found, others, COLUMNS, found.sample, bootstrap)


def _differences(
    found: Found,
    others: Sequence[str],
    names: Sequence[str],
    values: Callable[[str, str], np.ndarray],
    interval: Callable[[np.ndarray], Interval],
) -> str:
    rows = []
    for other in others if "adaattn" in found.values else ():
        row = [f"adaattn less {other}"]
        for metric in names:
            gaps = values("adaattn", metric) - values(other, metric)
            better = (gaps < 0) if METRICS[metric].better == "lower" else (gaps > 0)
            row += [str(interval(gaps)), f"{100 * better.mean():.0f} %"]
        rows.append(row)
    head = [x for metric in names for x in (LABELS[metric], "adaattn is better")]
    return tables.markdown(["", *head], rows)


def shares(grid: np.ndarray) -> tuple[float, float, float]:
    """The shares of (contents, styles) values' variance: of contents, of styles, of the rest."""
    gaps = grid - grid.mean()
    rows, columns = gaps.mean(1), gaps.mean(0)
    total = float(np.square(gaps).sum())
    if total == 0:
        return 0.0, 0.0, 0.0
    content = float(np.square(rows).sum()) * grid.shape[1] / total
    style = float(np.square(columns).sum()) * grid.shape[0] / total
    return content, style, 1 - content - style


def variance(found: Found) -> str:
    """What chi-square and self-similarity depend on."""
    rows, shape = [], (0, 0)
    for metric in ("chi_square", "self_similarity"):
        methods = [*found.models, UNTOUCHED] if metric == "chi_square" else found.models
        for method in methods:
            grid = found.grid(method, metric)
            shape = (grid.shape[0], grid.shape[1])
            rows.append([f"{LABELS[metric]}, {method}", *(_percent(x) for x in shares(grid))])
    chance = [(size - 1) / (math.prod(shape) - 1) for size in shape]
    rows.append(["by chance", *(_percent(x) for x in (*chance, 1 - sum(chance)))])
    return tables.markdown(["", "content", "style", "the two together"], rows)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def dependence(found: Found) -> str:
    """Correlation of an output's chi-square with that of the photograph it is painted from."""
    rows, before = [], found.grid(UNTOUCHED, "chi_square")
    for method in found.models:
        after = found.grid(method, "chi_square")
        within = correlation(before - before.mean(0), after - after.mean(0))
        rows.append([method, f"{correlation(before, after):.2f}", f"{within:.2f}"])
    return tables.markdown(["", "all pairs", "within a style"], rows)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    return float((a * b).sum() / max(1e-300, math.sqrt((a * a).sum() * (b * b).sum())))


TABLES: Mapping[str, Callable[[Found], str]] = {
    "means": means,
    "differences": differences,
    "sampled": sampled,
    "sampled-differences": sampled_differences,
    "variance": variance,
    "dependence": dependence,
}


def fill(page: Path) -> None:
    """Fill in the page's tables from the rows beside it."""
    rows = page.with_suffix("") / "rows.csv"
    if not rows.is_file():
        raise InputError(f"{rows} is not there: make it with report_000.py page")
    found = Found.of(rows)
    if not found.models:
        raise InputError("no feed-forward model is done: paint one first")
    tables.fill(page, lambda name: TABLES[name](found))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=["paint", "page", "tables"])
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--data", type=Path, default=RC2021, help="folder of content/ and style/")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "report-000")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "report-000.md")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--sample", type=int, default=60, help="pairs that optimisers paint")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        if options.do == "paint":
            paint(options)
        if options.do == "page":
            collect(options)
        if options.do in ("page", "tables"):
            fill(options.page)
    except InputError as error:
        sys.exit(f"report_000.py: {error}")
    except KeyboardInterrupt:
        sys.exit("report_000.py: interrupted; what is done is kept: start it again")


if __name__ == "__main__":
    main()
