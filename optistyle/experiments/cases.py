"""Which pictures a comparison is of: every pair by every method, and where each of them goes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optistyle import baselines, files, metrics
from optistyle.choices import WARM_STARTS
from optistyle.errors import InputError, unknown
from optistyle.experiments.grid import version
from optistyle.experiments.naming import folder_name, printable
from optistyle.pictures import FORMATS
from optistyle.published import preset
from optistyle.recipes import Recipe
from optistyle.run import resolved
from optistyle.sizes import LARGEST, SMALLEST

#: Measured unless other metrics are named.
USUAL = ("self_similarity", "chi_square", "ssim")

#: Methods that optimise. Those with the name of a preset are that preset.
OPTIMISERS: Mapping[str, Recipe] = {
    "gatys": preset("gatys"),
    "attention": preset("attention"),
    "default": preset("default"),
    "gram": replace(preset("default"), gamma=0.0),
    "local": replace(preset("default"), gamma=3.0, attention_form="local"),
}
#: All methods by name: optimisers and feed-forward models.
METHODS = (*OPTIMISERS, *WARM_STARTS)

#: Extensions of image files; where a picture is there in several formats, the first one counts.
_SUFFIXES = (".png", *(suffix for suffix in FORMATS if suffix != ".png"))


@dataclass(frozen=True)
class Case:
    """One picture of a comparison.

    Attributes:
        method: of `METHODS`, or the name of a folder of existing pictures.
        content: an image file.
        style: an image file.
        picture: the file that is to be painted, or exists.
        row: the file that records the picture's metrics.
        size: longer side in px of a picture that is to be painted; None for an existing one.
        names: of the metrics.
        encoder: in which optimisers paint.
    """

    method: str
    content: Path
    style: Path
    picture: Path
    row: Path
    size: int | None
    names: tuple[str, ...]
    encoder: str = "auto"


def pictures_of(path: Path) -> list[Path]:
    """List the images of a folder by name, or the one image that the path names.

    Names that start with a dot are left out: macOS leaves ``._NAME.jpg`` beside ``NAME.jpg`` on
    foreign disks.

    Raises:
        InputError: no image is there.
    """
    images = [path] if os.path.isfile(path) else []
    if os.path.isdir(path):
        inside = (p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
        images = sorted(p for p in inside if p.is_file() and not p.name.startswith("."))
    if not images:
        raise InputError(f"no images at {path} (allowed: {', '.join(_SUFFIXES)})")
    return images


def pairs_of(
    contents: Path, styles: Path, sample: int | None = None, seed: int = 0
) -> list[tuple[Path, Path]]:
    """Pair every content with every style, or draw a sample of these pairs.

    Args:
        contents: a folder of images, or one image.
        styles: likewise.
        sample: how many pairs, 2 or more; None, and more than there are, for all. A sample is
            spread evenly: the numbers of pairs that two contents are in differ by one at most, and
            so do those of two styles.
        seed: of the sample.

    Raises:
        InputError: no images, or a sample below 2.
    """
    every_content, every_style = pictures_of(contents), pictures_of(styles)
    pairs = [(c, s) for c in every_content for s in every_style]
    if sample is None or sample >= len(pairs):
        return pairs
    if sample < 2:
        raise InputError(f"sample is {sample}; give 2 or more")
    source = random.Random(seed)
    source.shuffle(every_content)
    source.shuffle(every_style)
    rows, columns = len(every_content), len(every_style)
    # Along the diagonals of the table, each shifted by one style, so that no pair comes twice.
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
    """List the pictures to paint and to judge: every pair by every method.

    Args:
        pairs: content and style files.
        methods: of `METHODS`; their pictures are painted.
        existing: method -> folder of pictures made elsewhere, named by ``pattern``.
        output: the report's folder.
        names: of `metrics.METRICS`.
        size: longer side in px of the pictures to paint.
        pattern: how existing pictures are named, without extension.
        encoder: in which optimisers paint, see `Recipe`.

    Raises:
        InputError: an unknown name, a method named twice, a size out of range, a pattern that does
            not tell the pairs apart, or an output among the inputs.
    """
    names = _checked(methods, existing, names)
    if methods and not SMALLEST <= size <= LARGEST:
        raise InputError(f"size is {size}; give {SMALLEST} to {LARGEST} px")
    inputs = {file.resolve().parent for pair in pairs for file in pair}
    if output.resolve() in inputs | {folder.resolve() for folder in existing.values()}:
        raise InputError(f"{output} is a folder of inputs: choose another -o")
    _check_pattern(pattern, pairs if existing else ())
    digests = {file: files.digest(file) for file in dict.fromkeys(x for p in pairs for x in p)}
    todo = []
    for method in (*methods, *existing):
        folder, key = existing.get(method), _key(method, size, existing, encoder)
        for content, style in pairs:
            inside = [content.name, style.name, digests[content], digests[style]]
            stem = folder_name(f"{content.stem}__{style.stem}", _short(inside, 8), suffix=".json")
            if folder is None:
                picture = output / "pictures" / key / f"{stem}.png"
            else:
                name = pattern.format(content=content.stem, style=style.stem)
                picture = _partner(folder, name)
            row = output / "rows" / key / f"{stem}.json"
            side = size if folder is None else None
            todo.append(Case(method, content, style, picture, row, side, names, encoder))
    return todo


def _checked(
    methods: Sequence[str], existing: Mapping[str, Path], names: Sequence[str]
) -> tuple[str, ...]:
    """The names of metrics; `InputError` where one of them, or a method, is not allowed."""
    checked = metrics.check(names)
    if not checked:
        raise InputError("no metrics are named; name some with --metrics, or leave it out")
    for method in methods:
        if method not in METHODS:
            raise unknown("method", method, METHODS)
    everyone = [*methods, *existing]
    doubled = [m for m in everyone if everyone.count(m) > 1]
    if doubled or not everyone:
        what = f"{doubled[0]} is given twice" if doubled else "no methods are given"
        raise InputError(f"{what}; name --methods, or --outputs NAME=DIR")
    for name in existing:
        if Path(name).name != name or printable(name) != name:
            raise InputError(
                f"the name {printable(name)!r} of outputs must be able to name a folder: leave out "
                "the /, and characters that are not UTF-8"
            )
    return checked


def _check_pattern(pattern: str, pairs: Sequence[tuple[Path, Path]]) -> None:
    """Raise `InputError` for a pattern that cannot be filled in, or gives two pairs one name."""
    try:
        pattern.format(content="a", style="b")
        names = Counter(pattern.format(content=c.stem, style=s.stem) for c, s in pairs)
    except (LookupError, ValueError, AttributeError, TypeError):
        raise InputError(
            f"pattern {pattern!r} cannot be filled in; it may hold {{content}} and {{style}}"
        ) from None
    doubled = next((name for name, count in names.items() if count > 1), None)
    if doubled is not None:
        raise InputError(f"pattern {pattern!r}: several pairs would have the one picture {doubled}")


def _key(method: str, size: int, existing: Mapping[str, Path], encoder: str) -> str:
    """A folder's name: the method, and a digest of all that its pictures depend on."""
    if method in existing:
        made: object = str(existing[method].resolve())
    elif method in OPTIMISERS:
        recipe = resolved(replace(OPTIMISERS[method], encoder=encoder))
        made = [version(), {**recipe.as_dict(), "device": "auto"}, size]
    elif baselines.packaged(method).is_file():
        made = [version(), files.digest(baselines.packaged(method)), size]
    else:
        raise InputError(f"no weights of {method} are here; {baselines.remedy(method)}")
    return folder_name(method, _short(made, 10))


def _short(value: object, digits: int) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:digits]


def _partner(folder: Path, name: str) -> Path:
    """The existing picture of that name; where none is there, a path that will fail to be read."""
    for suffix in (*_SUFFIXES, *map(str.upper, _SUFFIXES)):
        if os.path.isfile(folder / f"{name}{suffix}"):
            return folder / f"{name}{suffix}"
    return folder / f"{name}.png"
