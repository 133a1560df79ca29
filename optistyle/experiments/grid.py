"""What to run: contents x styles x settings, from a TOML file or from Python.

.. code-block:: toml

    contents = ["photos/*.jpg"]                     # files or patterns, relative to this file
    styles = ["wave.jpg", ["wave.jpg", "ink.jpg"]]  # an inner list is several styles of one run
    metrics = ["self_similarity"]                   # optional, see optistyle.metrics
    preset = "gatys"                                # optional

    [settings]                                      # of every run
    size = 256

    [grid]                                          # a list for each setting to vary:
    gamma = [0, 6e6]                                # every combination is run,
    iterations = [20, [40, 16]]

    [[runs]]                                        # with each of these tables, if there are any
    optimizer = "adam"
    lr = 0.01
"""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from optistyle import encoders, metrics
from optistyle.choices import INITS
from optistyle.errors import InputError, unknown
from optistyle.experiments.naming import folder_name, labels
from optistyle.files import digest
from optistyle.published import preset
from optistyle.recipes import Recipe, changed
from optistyle.settings import spell

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = ("contents", "styles", "metrics", "preset", "settings", "grid", "runs")
#: Settings that name files.
FILES = ("init", "weights")


#: A content and the styles of a run.
Pair = tuple[Path, tuple[Path, ...]]


@cache
def version() -> str:
    """The version of optistyle, on which pictures depend as they do on settings."""
    return metadata.version("optistyle")


@dataclass(frozen=True)
class Job:
    """One run: the images, the settings and the metrics.

    Attributes:
        content: a file.
        styles: one file or several.
        recipe: the settings.
        metrics: names of `metrics.METRICS` to measure of the result.
        digests: file -> SHA-256, of all `files`.
    """

    content: Path
    styles: tuple[Path, ...]
    recipe: Recipe
    metrics: tuple[str, ...] = ()
    digests: Mapping[Path, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the run reads."""
        named = [getattr(self.recipe, name) for name in FILES]
        return (self.content, *self.styles, *(Path(x) for x in named if x and x not in INITS))

    @property
    def pair(self) -> Pair:
        return self.content, self.styles

    @cached_property
    def request(self) -> str:
        """A digest of the bytes of all inputs and of the settings."""
        settings = self.recipe.as_dict()
        for name in FILES:
            if settings[name] and settings[name] not in INITS:
                settings[name] = self.digests[Path(settings[name])]
        settings["encoder"] = encoders.choose(self.recipe.encoder)
        return _digest([settings, [self.digests[path] for path in (self.content, *self.styles)]])

    @cached_property
    def key(self) -> str:
        """A digest of the request and optistyle's version: equal keys, equal pictures."""
        return _digest([version(), self.request])

    @property
    def folder(self) -> str:
        """The name of the run's folder: content, styles and the start of the key."""
        stems = "-".join(path.stem for path in (self.content, *self.styles))
        return folder_name(stems, self.key[:10])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def pair_labels(jobs: Sequence[Job]) -> dict[Pair, tuple[str, str]]:
    """A name for the content and one for the styles of each pair; unique among these jobs."""
    contents = labels(job.content for job in jobs)
    styles = labels(style for job in jobs for style in job.styles)
    return {
        job.pair: (contents[job.content], " + ".join(styles[style] for style in job.styles))
        for job in jobs
    }


def jobs(
    contents: Sequence[str | Path],
    styles: Sequence[str | Path | Sequence[str | Path]],
    recipes: Sequence[Recipe],
    metrics_wanted: Sequence[str] = (),
) -> list[Job]:
    """Combine every content with every style and every recipe; equal runs become one.

    Args:
        contents: image files.
        styles: image files, or lists of files that are the styles of one run.
        recipes: the settings.
        metrics_wanted: names of `metrics.METRICS` to measure of every result.

    Raises:
        InputError: a file that cannot be read, an unknown metric, or nothing to run.
    """
    if not (contents and styles and recipes):
        empty = [
            name
            for name, values in (("contents", contents), ("styles", styles), ("settings", recipes))
            if not values
        ]
        raise InputError(f"nothing to run: no {' and no '.join(empty)}")
    names = metrics.check(metrics_wanted)
    groups = [[s] if isinstance(s, str | Path) else list(s) for s in styles]
    known: dict[Path, str] = {}
    by_key: dict[str, Job] = {}
    for content, group, recipe in itertools.product(contents, groups, recipes):
        recipe.shares(len(group))
        job = Job(Path(content), tuple(Path(s) for s in group), recipe, names)
        known.update({path: digest(path) for path in job.files if path not in known})
        job = replace(job, digests={path: known[path] for path in job.files})
        by_key.setdefault(job.key, job)
    return list(by_key.values())


def read(path: Path) -> list[Job]:
    """Read the jobs of a TOML file, whose keys the module's docstring shows.

    Args:
        path: the file, in UTF-8 with or without a byte order mark. The files that it names are
            relative to its folder.

    Raises:
        InputError: the file cannot be read, or a value in it is not allowed.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    try:
        return _jobs(table, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _jobs(table: Mapping[str, Any], folder: Path) -> list[Job]:
    for key in table:
        if key not in _KEYS:
            raise unknown("key", key, _KEYS)
    for key, kind, form in (
        ("contents", list, 'contents = ["photo.jpg"]'),
        ("styles", list, 'styles = ["painting.jpg"]'),
        ("metrics", list, 'metrics = ["self_similarity"]'),
        ("preset", str, 'preset = "gatys"'),
        ("settings", dict, "[settings]"),
        ("grid", dict, "[grid]"),
        ("runs", list, "[[runs]]"),
    ):
        if not isinstance(table.get(key, kind()), kind):
            raise InputError(f"{key} is {table[key]!r}; write {form}")
    base = changed(preset(table.get("preset", "default")), _located(table, "settings", folder))
    axes = {}
    for name, values in table.get("grid", {}).items():
        if values == []:
            raise InputError(f"{name} in [grid] is an empty list; give one value or more")
        several = values if isinstance(values, list) else [values]
        axes[name] = [_locate(name, value, folder) for value in several]
    combinations = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    if any(not isinstance(run, dict) for run in table.get("runs", [])):
        raise InputError(f"runs is {table['runs']!r}; write [[runs]]")
    listed = [
        {name: _locate(name, value, folder) for name, value in run.items()}
        for run in table.get("runs", [{}])
    ]
    recipes = [changed(base, {**axis, **run}) for run in listed for axis in combinations]
    contents = [path for name in table.get("contents", []) for path in _matches(name, folder)]
    styles: list[Path | list[Path]] = []
    for entry in table.get("styles", []):
        if isinstance(entry, list):
            styles.append([path for name in entry for path in _matches(name, folder)])
        else:
            styles += _matches(entry, folder)
    return jobs(contents, styles, recipes, table.get("metrics", ()))


def _located(table: Mapping[str, Any], key: str, folder: Path) -> dict[str, Any]:
    return {name: _locate(name, value, folder) for name, value in table.get(key, {}).items()}


def _locate(name: str, value: Any, folder: Path) -> Any:
    """The value of a setting; the file that it may name is relative to the grid's folder."""
    if name in FILES and isinstance(value, str) and value not in INITS:
        return str(folder / value)
    return value


def _matches(name: Any, folder: Path) -> list[Path]:
    """The file of that name, or else the files that match it as a pattern."""
    if not isinstance(name, str):
        raise InputError(f"{name!r} is not a file; give a name, or a pattern like photos/*.jpg")
    if os.path.isfile(folder / name) or not any(sign in name for sign in "*?["):
        return [folder / name]
    pattern = Path(name)
    root = Path(pattern.anchor) if pattern.is_absolute() else folder
    try:
        every = sorted(root.glob(str(pattern.relative_to(pattern.anchor))))
    except (ValueError, OSError) as error:
        raise InputError(f"{name!r} is not a pattern like photos/*.jpg: {error}") from error
    files = [path for path in every if path.is_file() and not _hidden(path, pattern, root)]
    if not files:
        raise InputError(f"no file matches {name!r} in {root}")
    return files


def _hidden(path: Path, pattern: Path, root: Path) -> bool:
    """Whether a name on the way to a file starts with a dot that the pattern does not ask for.

    As in a shell; macOS leaves ``._NAME.jpg`` beside ``NAME.jpg`` on foreign disks.
    """
    dotted = [part for part in pattern.parts if part.startswith(".")]
    return any(
        part.startswith(".") and not any(fnmatch.fnmatch(part, wanted) for wanted in dotted)
        for part in path.relative_to(root).parts
    )


def varied(jobs: Sequence[Job]) -> list[str]:
    """Name the settings in which the jobs differ, in the recipe's order."""
    names = [setting.name for setting in fields(Recipe)]
    return [name for name in names if len({repr(getattr(job.recipe, name)) for job in jobs}) > 1]


def caption(recipe: Recipe, names: Sequence[str]) -> str:
    """Spell the named settings of a recipe in one line."""
    return ", ".join(f"{name} {spell(getattr(recipe, name))}" for name in names) or "all the same"
