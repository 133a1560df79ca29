"""Which method is better? The same pairs by every method, judged alike, with intervals.

.. code-block:: text

    report/
        pictures/METHOD-0a1b2c3d4e/CONTENT__STYLE-0a1b2c3d.png    what was painted here
        rows/METHOD-0a1b2c3d4e/CONTENT__STYLE-0a1b2c3d.json       its metrics: a pair is done
        results.parquet (or .csv), means.md, findings.json
        METRIC.png, structure.png, histograms.png, report.html

The digits stand for what a method is and for what is in the files of a pair. Killed and started
again, it does what is missing.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import html
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from optistyle import baselines, files, metrics, pictures, sizes
from optistyle.baselines.paint import paint
from optistyle.choices import WARM_STARTS
from optistyle.encoders.base import Encoder
from optistyle.errors import InputError, unknown
from optistyle.experiments import report
from optistyle.experiments.intervals import Interval, bootstrap
from optistyle.experiments.work import judge_name, judging_encoder
from optistyle.machine import devices
from optistyle.pictures import Picture, plots
from optistyle.recipes import Recipe
from optistyle.run import load_encoder, resolved, stylize
from optistyle.sizes import LARGEST, SMALLEST

PAGE = "report.html"
#: Measured unless others are asked for.
USUAL = ("self_similarity", "chi_square", "ssim")

#: Methods by name: recipes of the optimiser, and feed-forward models.
OPTIMISERS: Mapping[str, Recipe] = {
    "gatys": Recipe(gamma=0.0),
    "attention": Recipe(),
    "local": Recipe(gamma=3.0, attention_form="local"),
}
METHODS = (*OPTIMISERS, *WARM_STARTS)

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
_Table = Mapping[str, Mapping[str, Interval]]
_ROWS = 1500  # on the page; more are the best and the worst


class LostWorkerError(InputError):
    """A worker process was killed; what was done until then is kept."""


@dataclass(frozen=True)
class Case:
    """One picture: by whom, of what, where it is or goes, and where its row goes.

    Attributes:
        size: longer side in px of a picture that is to be painted; None for one that is there.
        encoder: that the optimiser paints in.
    """

    method: str
    content: Path
    style: Path
    picture: Path
    row: Path
    size: int | None
    names: tuple[str, ...]
    encoder: str = "auto"


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        rows: of every case: method, content, style, metrics, or an ``error``.
        means: method -> metric -> interval over pairs.
        differences: "A less B" -> metric -> interval of paired differences.
        matched: "A less B" -> metric -> the same at equal content error.
    """

    rows: list[dict[str, Any]]
    means: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Interval]]
    matched: dict[str, dict[str, Interval]]

    @property
    def failed(self) -> int:
        return sum("error" in row for row in self.rows)


def pictures_of(path: Path) -> list[Path]:
    """The images of a folder by name, or the image itself."""
    found = [path]
    if path.is_dir():
        inside = (p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
        found = sorted(p for p in inside if p.is_file())
    if not found or not found[0].is_file():
        raise InputError(f"no images at {path} (allowed: {', '.join(_SUFFIXES)})")
    return found


def pairs_of(
    contents: Path, styles: Path, sample: int | None = None, seed: int = 0
) -> list[tuple[Path, Path]]:
    """Every content in every style, or a seeded sample of so many.

    A sample is spread evenly: each content is in as many pairs as any other, or in one more, and
    so is each style.
    """
    every_content, every_style = pictures_of(contents), pictures_of(styles)
    pairs = [(c, s) for c in every_content for s in every_style]
    if sample is None or sample >= len(pairs):
        return pairs
    if sample < 2:
        raise InputError(f"sample is {sample}; it must be 2 or more")
    source = random.Random(seed)
    source.shuffle(every_content)
    source.shuffle(every_style)
    rows, columns = len(every_content), len(every_style)
    # Along the diagonals: the k-th goes on one style further, so that no pair comes twice.
    once = math.lcm(rows, columns)
    return sorted(
        (every_content[i % rows], every_style[(i + i // once) % columns]) for i in range(sample)
    )


def cases(
    pairs: Sequence[tuple[Path, Path]],
    methods: Sequence[str],
    existing: Mapping[str, Path],
    output: Path,
    names: Sequence[str],
    *,
    size: int = 512,
    pattern: str = "{content}_{style}",
    encoder: str = "auto",
) -> list[Case]:
    """What is to be painted and judged.

    Args:
        pairs: content and style. methods: of `METHODS`.
        existing: method -> folder of pictures made elsewhere, named by ``pattern``.
        output: the report's folder. names: of metrics.
        encoder: that optimisers paint in.

    Raises:
        InputError: an unknown name, the same method twice, a size or a pattern that will not do,
            or an output among the inputs.
    """
    names = metrics.check(names)
    if not names:
        raise InputError("no metrics are given; name some with --metrics, or leave it out")
    for method in methods:
        if method not in METHODS:
            raise unknown("method", method, METHODS)
    everyone = [*methods, *existing]
    doubled = [m for m in everyone if everyone.count(m) > 1]
    if doubled or not everyone:
        what = f"{doubled[0]} is given twice" if doubled else "no methods are given"
        raise InputError(f"{what}; name --methods, or --outputs NAME=DIR")
    for name in existing:
        if Path(name).name != name:
            raise InputError(f"the name {name!r} of outputs is to name a folder: leave out the /")
    if methods and not SMALLEST <= size <= LARGEST:
        raise InputError(f"size {size}: allowed are {SMALLEST} to {LARGEST} px")
    inputs = {file.resolve().parent for pair in pairs for file in pair}
    if output.resolve() in inputs | {folder.resolve() for folder in existing.values()}:
        raise InputError(f"{output} is a folder of inputs: choose another -o")
    _check_pattern(pattern, pairs if existing else ())
    digests = {file: files.digest(file) for file in dict.fromkeys(x for p in pairs for x in p)}
    found = []
    for method in everyone:
        folder, key = existing.get(method), _key(method, size, existing, encoder)
        for content, style in pairs:
            made_of = [content.name, style.name, digests[content], digests[style]]
            stem = f"{content.stem}__{style.stem}-{_short(made_of, 8)}"
            if folder is None:
                picture = output / "pictures" / key / f"{stem}.png"
            else:
                name = pattern.format(content=content.stem, style=style.stem)
                picture = _partner(folder, name)
            row = output / "rows" / key / f"{stem}.json"
            at = size if folder is None else None
            found.append(Case(method, content, style, picture, row, at, names, encoder))
    return found


def _check_pattern(pattern: str, pairs: Sequence[tuple[Path, Path]]) -> None:
    """Raise `InputError` for a pattern that is none, or that tells some of the pairs not apart."""
    try:
        pattern.format(content="a", style="b")
        names = [pattern.format(content=c.stem, style=s.stem) for c, s in pairs]
    except (LookupError, ValueError, AttributeError, TypeError):
        raise InputError(f"pattern {pattern!r}: it may hold {{content}} and {{style}}") from None
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"pattern {pattern!r}: several pairs would have the one picture {doubled}")


def _key(method: str, size: int, existing: Mapping[str, Path], encoder: str) -> str:
    """A folder name: the method, and what makes its pictures what they are."""
    if method in existing:
        made: object = str(existing[method].resolve())
    elif method in OPTIMISERS:
        recipe = resolved(replace(OPTIMISERS[method], encoder=encoder))
        made = [{**recipe.as_dict(), "device": "auto"}, size]
    elif baselines.packaged(method).is_file():
        made = [files.digest(baselines.packaged(method)), size]
    else:
        raise InputError(
            f"no weights of {method} are here; make them with optistyle train {method}"
        )
    return f"{method}-{_short(made, 10)}"


def _short(made: object, digits: int) -> str:
    return hashlib.sha256(json.dumps(made).encode()).hexdigest()[:digits]


def _partner(folder: Path, name: str) -> Path:
    """The picture of that name, with whatever extension; one that is missing is found out later."""
    for suffix in (*_SUFFIXES, *map(str.upper, _SUFFIXES)):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    return folder / f"{name}.png"


def compare(
    todo: Sequence[Case],
    output: Path,
    *,
    workers: int | None = None,
    stream: TextIO | None = sys.stderr,
) -> Comparison:
    """Paint and judge what is not done yet, and write the report.

    Args:
        todo: see `cases`. output: the folder. workers: processes; by default one per processor,
            but one where optimisers paint on a GPU.
        stream: where progress goes; None for nowhere.

    Raises:
        InputError: the folder cannot be written, or a metric needs what is not here.
        LostWorkerError: a worker was killed.
        KeyboardInterrupt: Ctrl-C, with what is done until then.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; it must be 1 or more")
    rows: dict[Case, dict[str, Any]] = {}
    for case in todo:
        row = done(case)
        if row is not None:
            rows[case] = row
    left = [case for case in todo if case not in rows]
    _check_needs({name for case in left for name in case.names})
    try:
        output.mkdir(parents=True, exist_ok=True)
        files.check_place(output / PAGE)
        with tqdm(
            total=len(todo), initial=len(rows), unit="picture", file=stream, disable=stream is None
        ) as bar:
            for case, row in _judged(left, workers):
                rows[case] = row
                if "error" not in row:
                    case.row.parent.mkdir(parents=True, exist_ok=True)
                    files.write_whole(case.row.resolve(), json.dumps(row).encode())
                bar.update()
        if len(rows) < len(todo):
            finished = sum("error" not in row for row in rows.values())
            raise LostWorkerError(
                "a worker process was killed (out of memory, perhaps: try fewer --workers); "
                f"{finished} of {len(todo)} pictures are done and kept: start it again"
            )
        found = findings([rows[case] for case in todo])
        _write(found, todo, output)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}") from error
    except KeyboardInterrupt:
        kept = sum(done(case) is not None for case in todo)
        raise KeyboardInterrupt(
            f"{kept} of {len(todo)} pictures are done and kept: start it again"
        ) from None
    return found


def _check_needs(names: Iterable[str]) -> None:
    """Raise `InputError` where a metric needs a package or a file that is not here."""
    needy = [metrics.METRICS[name] for name in names if metrics.METRICS[name].needs]
    if needy:
        grey = torch.full((1, 3, 192, 192), 0.5)
        judged = metrics.Judged(grey, grey, grey, judging_encoder())
        for metric in needy:
            metric.measure(judged)


def done(case: Case) -> dict[str, Any] | None:
    """The row of a case that is done with these metrics, of this very picture, by this judge."""
    try:
        row: dict[str, Any] = json.loads(case.row.read_text(encoding="utf-8"))
        same = row["picture sha256"] == files.digest(case.picture) and row["judge"] == judge_name()
        if not same or not set(case.names) <= set(row):
            return None
        return {k: x for k, x in row.items() if k not in metrics.METRICS or k in case.names}
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None


def _judged(left: Sequence[Case], workers: int | None) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Rows as they come, from processes of this machine; not all of them if one is killed."""
    if not left:
        return
    processors = torch.get_num_threads()
    count = min(len(left), workers or (1 if _on_gpu(left) else processors))
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        count, context, _begin, (max(1, processors // count),)
    ) as pool:
        others = set(multiprocessing.active_children())
        try:
            futures = {pool.submit(perform, case): case for case in left}
            for future in concurrent.futures.as_completed(futures):
                if not isinstance(future.exception(), BrokenProcessPool):
                    yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


def _on_gpu(left: Iterable[Case]) -> bool:
    """Whether pictures are optimised on a GPU, whose memory processes would have to share."""
    paints = any(case.size is not None and case.method in OPTIMISERS for case in left)
    return paints and devices.resolve().type == "cuda"


def _begin(threads: int) -> None:
    """Of a worker: it ends with the process that started it, and leaves Ctrl-C to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def perform(case: Case) -> dict[str, Any]:
    """Paint a case where that is asked for, and judge it; what goes wrong is its ``error``."""
    row: dict[str, Any] = {
        "method": case.method,
        "content": case.content.name,
        "style": case.style.name,
    }
    try:
        content, style = pictures.read(case.content), pictures.read(case.style)
        if case.size is not None and not case.picture.is_file():
            case.picture.parent.mkdir(parents=True, exist_ok=True)
            pictures.write(case.picture, _paint(case, content, style))
        output = pictures.read(case.picture)
        found, notes = judge(output.pixels, content.pixels, style.pixels, case.names)
        sha = files.digest(case.picture)
        return {**row, **found, **notes, "judge": judge_name(), "picture sha256": sha}
    except InputError as error:
        return {**row, "error": str(error)}
    except Exception as error:  # one bad picture among hundreds ends nothing
        return {**row, "error": f"{type(error).__name__}: {error}"}


def judge(
    output: Tensor, content: Tensor, style: Tensor, names: Sequence[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """The metrics of an output, (1, 3, H, W) each, and a note where sizes had to be changed.

    The content is brought to the output's size, the style to its number of pixels; where there is
    the real VGG-19, features are its, else the slim encoder's.
    """
    height, width = output.shape[-2:]
    notes = {}
    if content.shape[-2:] != output.shape[-2:]:
        notes["resized"] = f"content from {content.shape[-1]}x{content.shape[-2]}"
        content = pictures.resize(content, (height, width))
    if style.shape[-2] * style.shape[-1] != height * width:
        area = sizes.fit_area(style.shape[-2], style.shape[-1], height * width)
        style = pictures.resize(style, area)
    return metrics.measure(names, output, content, [(style, 1.0)], judging_encoder()), notes


def _paint(case: Case, content: Picture, style: Picture) -> Picture:
    assert case.size is not None
    if case.method in OPTIMISERS:
        recipe, network = _optimiser(case.method, case.encoder)
        return stylize(content, style, replace(recipe, size=case.size), encoder=network).picture
    at = sizes.fit_longer_side(content.height, content.width, case.size)
    return paint(_model(case.method), content, [style], at)


@functools.cache
def _model(name: str) -> baselines.Baseline:
    return baselines.load(name)


@functools.cache
def _optimiser(name: str, encoder: str) -> tuple[Recipe, Encoder]:
    recipe = resolved(replace(OPTIMISERS[name], encoder=encoder))
    return recipe, load_encoder(recipe)


def findings(rows: Sequence[dict[str, Any]]) -> Comparison:
    """Means over a method's pairs, paired differences over the pairs of both; with intervals."""
    good = [row for row in rows if "error" not in row]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    names = [name for name in metrics.METRICS if any(name in row for row in good)]
    table: dict[str, dict[tuple[str, str], dict[str, Any]]] = {m: {} for m in methods}
    for row in good:
        table[row["method"]][row["content"], row["style"]] = row
    means = {
        method: {
            name: bootstrap([row[name] for row in own.values()])
            for name in names
            if len(own) > 1 and all(name in row for row in own.values())
        }
        for method, own in table.items()
    }
    differences: dict[str, dict[str, Interval]] = {}
    matched: dict[str, dict[str, Interval]] = {}
    error = next((n for n in ("content_distance", "self_similarity") if n in names), None)
    for index, first in enumerate(methods):
        for second in methods[index + 1 :]:
            common = [pair for pair in table[first] if pair in table[second]]
            if len(common) < 2:
                continue
            title = f"{first} less {second}"
            both = [table[method][pair] for method in (first, second) for pair in common]
            gaps = {
                name: np.array([table[first][p][name] - table[second][p][name] for p in common])
                for name in names
                if all(name in row for row in both)
            }
            differences[title] = {name: bootstrap(gap) for name, gap in gaps.items()}
            if error in gaps and len(common) >= 8:
                matched[title] = {
                    name: bootstrap(np.stack([gaps[error], gap], 1), statistic=_at_no_gap)
                    for name, gap in gaps.items()
                    if metrics.METRICS[name].of == "style"
                }
    return Comparison(list(rows), means, differences, matched)


def _at_no_gap(points: np.ndarray) -> np.ndarray:
    """(..., count, 2) gaps in content error and in a metric: the line's value where the first is 0.

    Least squares of the second on the first: what the metric would differ by at equal content
    error, as far as pairs whose errors differ less tell.
    """
    x, y = points[..., 0], points[..., 1]
    mean_x, mean_y = x.mean(-1), y.mean(-1)
    spread = ((x - mean_x[..., None]) ** 2).sum(-1)
    along = ((x - mean_x[..., None]) * (y - mean_y[..., None])).sum(-1)
    some = spread > 1e-24 * (x**2).sum(-1)  # less is rounding
    slope = np.divide(along, spread, out=np.zeros_like(along), where=some)
    return mean_y - slope * mean_x


def _write(found: Comparison, todo: Sequence[Case], output: Path) -> None:
    """Tables, figures (where matplotlib is installed) and the page."""
    report.table([_flat(row) for row in found.rows], output)
    files.write_whole((output / "means.md").resolve(), markdown(found).encode())
    facts = {
        "means": found.means,
        "differences": found.differences,
        "at equal content error": found.matched,
        "failed": [row for row in found.rows if "error" in row],
    }
    text = json.dumps(facts, indent=1, default=vars)
    files.write_whole((output / "findings.json").resolve(), text.encode())
    with contextlib.suppress(InputError):  # matplotlib is an extra
        draw(found, todo, output)
    files.write_whole((output / PAGE).resolve(), page(found, todo).encode())


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "picture sha256"}


def markdown(found: Comparison) -> str:
    """Means, paired differences and those at equal content error, with intervals."""
    parts = []
    for title, rows in _findings(found):
        names = _columns(rows)
        better = [f"{name} ({metrics.METRICS[name].better})" for name in names]
        lines = [f"## {title}", "", f"| | {' | '.join(better)} |", "|---" * (len(names) + 1) + "|"]
        lines += [
            f"| {label} | {' | '.join(str(row.get(name, '')) for name in names)} |"
            for label, row in rows.items()
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts or ["No means and intervals: no method has 2 pairs or more."]) + "\n"


def _table(title: str, rows: _Table) -> str:
    """The same as HTML."""
    names = _columns(rows)
    head = "".join(f"<th>{x} ({metrics.METRICS[x].better} is better)</th>" for x in names)
    body = "".join(
        f"<tr><td>{html.escape(label)}</td>"
        + "".join(f"<td>{row.get(name, '')}</td>" for name in names)
        + "</tr>"
        for label, row in rows.items()
    )
    return f"<h2>{title}</h2><table><tr><th></th>{head}</tr>{body}</table>"


def _findings(found: Comparison) -> Iterator[tuple[str, _Table]]:
    """The tables that hold anything, with titles."""
    for title, rows in (
        ("Means", found.means),
        ("Paired differences", found.differences),
        ("Paired differences at equal content error", found.matched),
    ):
        counts = {interval.count for row in rows.values() for interval in row.values()}
        if counts:
            low, high = min(counts), max(counts)
            pairs = str(low) if low == high else f"{low} to {high}"
            yield f"{title}, {pairs} pairs, 95 % intervals", rows


def _columns(rows: _Table) -> list[str]:
    return list(dict.fromkeys(name for row in rows.values() for name in row))


def draw(found: Comparison, todo: Sequence[Case], output: Path) -> None:
    """Means with intervals, the polar plot of report 000's figure 5, histograms as in its 6a."""
    names = list(dict.fromkeys(name for row in found.means.values() for name in row))
    for name in names:
        methods = [m for m in found.means if name in found.means[m]]
        figure, ((axis,),) = plots.axes(1, 1, 1.2 + 0.9 * len(methods), 3.2)
        values = [[r[name] for r in found.rows if r["method"] == m and name in r] for m in methods]
        axis.violinplot(values, showextrema=False)
        for at, method in enumerate(methods, start=1):
            interval = found.means[method][name]
            axis.errorbar(
                at,
                interval.mean,
                [[max(0, interval.mean - interval.low)], [max(0, interval.high - interval.mean)]],
                fmt="o",
                color="black",
            )
        axis.set_xticks(range(1, len(methods) + 1), methods)
        axis.set_ylabel(f"{name} ({metrics.METRICS[name].better} is better)")
        plots.save(figure, output / f"{name}.png")
    if "self_similarity" in names:
        _polar(found, output / "structure.png")
    if "chi_square" in names:
        _histograms(found, todo, output / "histograms.png")


def _polar(found: Comparison, path: Path) -> None:
    """Contents along the radius, styles around, the colour their self-similarity error."""
    good = [row for row in found.rows if "self_similarity" in row]
    contents = {name: i for i, name in enumerate(dict.fromkeys(r["content"] for r in good), 1)}
    styles = {name: i for i, name in enumerate(dict.fromkeys(r["style"] for r in good))}
    methods = list(dict.fromkeys(row["method"] for row in good))
    figure, (axes,) = plots.axes(1, len(methods), 3.4, 3.4, projection="polar")
    most = float(np.percentile([row["self_similarity"] for row in good], 98))
    for axis, method in zip(axes, methods, strict=True):
        own = [row for row in good if row["method"] == method]
        shown = axis.scatter(
            [2 * math.pi * styles[row["style"]] / len(styles) for row in own],
            [contents[row["content"]] for row in own],
            c=[row["self_similarity"] for row in own],
            vmin=0,
            vmax=most,
            s=9,
        )
        axis.set_title(method)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(shown, ax=list(axes), label="self-similarity error", shrink=0.8)
    plots.save(figure, path)


def _histograms(found: Comparison, todo: Sequence[Case], path: Path) -> None:
    """Of every method, the pair nearest to its median distance: style filled, output as a line."""
    methods = list(dict.fromkeys(r["method"] for r in found.rows if "chi_square" in r))
    figure, axes = plots.axes(len(methods), 3, 2.6, 1.6)
    for line, method in zip(axes, methods, strict=True):
        own = [
            (row["chi_square"], case)
            for row, case in zip(found.rows, todo, strict=True)
            if row["method"] == method and "chi_square" in row
        ]
        distance, case = sorted(own, key=lambda pair: pair[0])[len(own) // 2]
        for index, (axis, name) in enumerate(zip(line, ("red", "green", "blue"), strict=True)):
            for file, filled in ((case.style, True), (case.picture, False)):
                values = 255 * pictures.read(file).pixels[0, index].flatten().numpy()
                style = {"alpha": 0.4, "color": name} if filled else {"color": "black"}
                kind = "stepfilled" if filled else "step"
                axis.hist(values, 64, range=(0, 255), density=True, histtype=kind, **style)
            axis.set_yticks([])
        line[0].set_ylabel(f"{method}\n{distance:.3f}", fontsize=8)
    plots.save(figure, path)


def page(found: Comparison, todo: Sequence[Case]) -> str:
    """One HTML file: tables, then every picture with its metrics, worst first by the first one."""
    names = [name for name in todo[0].names if any(name in row for row in found.rows)]
    shown = [(row, case) for row, case in zip(found.rows, todo, strict=True)]
    if names:
        sign = 1 if metrics.METRICS[names[0]].better == "lower" else -1
        shown.sort(key=lambda pair: -sign * pair[0].get(names[0], sign * math.inf))
    note = "worst first"
    if len(shown) > _ROWS:
        note = f"the {_ROWS // 2} worst and best of {len(shown)}"
        shown = shown[: _ROWS // 2] + shown[-_ROWS // 2 :]
    files = dict.fromkeys(file for _, case in shown for file in (case.content, case.style))
    classes = {file: f"p{index}" for index, file in enumerate(files)}
    style = [
        "i { display: block; width: 120px; height: 120px; background: center/contain no-repeat }"
    ]
    for file, name in classes.items():
        with contextlib.suppress(InputError):  # what cannot be read is said in its rows
            style.append(f".{name} {{ background-image: url({report.thumbnail_data(file)}) }}")
    body = []
    for row, case in shown:
        picture = report.thumbnail(case.picture) if "error" not in row else ""
        pair = "".join(f'<td><i class="{classes[x]}"></i></td>' for x in (case.content, case.style))
        cells = "".join(
            report.cell(row.get(name))
            for name in ("method", "content", "style", *names, "resized", "error")
        )
        body.append(f"<tr><td>{picture}</td>{pair}{cells}</tr>")
    head = ["output", "content", "style", "method", "content", "style", *names, "resized", "error"]
    tables = "\n".join(_table(title, rows) for title, rows in _findings(found))
    return report.sortable(
        f"{len(found.rows)} pictures, {found.failed} failed",
        note,
        head,
        body,
        "\n".join(style),
        tables,
    )
