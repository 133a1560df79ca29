"""What to run: contents x styles x settings, from a TOML file or from Python.

.. code-block:: toml

    contents = ["photos/*.jpg"]                     # files or patterns, seen from this file
    styles = ["wave.jpg", ["wave.jpg", "ink.jpg"]]  # a list in the list: several styles at once
    metrics = ["self_similarity"]                   # optional, see optistyle.metrics
    preset = "gatys"                                # optional

    [settings]                                      # the same for all
    size = 256

    [grid]                                          # every combination of these …
    gamma = [0, 6e6]
    attention_layers = ["relu3_1", "relu4_1"]

    [[runs]]                                        # … with each of these, where there are any
    optimizer = "adam"
    lr = 0.01
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from optistyle import metrics
from optistyle.choices import INITS
from optistyle.errors import InputError, unknown
from optistyle.files import digest
from optistyle.recipes import Recipe, changed, preset
from optistyle.settings import spell

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = ("contents", "styles", "metrics", "preset", "settings", "grid", "runs")
#: Settings that name files.
FILES = ("init", "weights")


@dataclass(frozen=True)
class Job:
    """One run: what to paint, and how.

    Attributes:
        content: a file. styles: one or several.
        recipe: the settings. metrics: names of `metrics.METRICS` to measure of the result.
        digests: file -> SHA-256, of all files named.
    """

    content: Path
    styles: tuple[Path, ...]
    recipe: Recipe
    metrics: tuple[str, ...] = ()
    digests: Mapping[Path, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it reads."""
        named = [getattr(self.recipe, name) for name in FILES]
        return (self.content, *self.styles, *(Path(x) for x in named if x and x not in INITS))

    @cached_property
    def key(self) -> str:
        """Stands for the content of all inputs and the settings: the same key, the same picture."""
        settings = self.recipe.as_dict()
        for name in FILES:
            if settings[name] and settings[name] not in INITS:
                settings[name] = self.digests[Path(settings[name])]
        hashes = [self.digests[path] for path in (self.content, *self.styles)]
        return hashlib.sha256(json.dumps([settings, hashes]).encode()).hexdigest()

    @property
    def pair(self) -> str:
        """Content and styles, for people."""
        return f"{self.content.stem} x {' + '.join(style.stem for style in self.styles)}"

    @property
    def folder(self) -> str:
        """A folder name: who is in it, and the start of the key."""
        return f"{self.content.stem}-{'-'.join(s.stem for s in self.styles)}-{self.key[:10]}"


def jobs(
    contents: Sequence[str | Path],
    styles: Sequence[str | Path | Sequence[str | Path]],
    recipes: Sequence[Recipe],
    metrics_wanted: Sequence[str] = (),
) -> list[Job]:
    """Every content in every style (or list of styles) by every recipe, each different run once.

    Raises:
        InputError: a file that cannot be read, an unknown metric, or nothing to run.
    """
    if not (contents and styles and recipes):
        empty = [
            name
            for name, given in (("contents", contents), ("styles", styles), ("settings", recipes))
            if not given
        ]
        raise InputError(f"nothing to run: no {' and no '.join(empty)}")
    names = metrics.check(metrics_wanted)
    groups = [[s] if isinstance(s, str | Path) else list(s) for s in styles]
    known: dict[Path, str] = {}
    found: dict[str, Job] = {}
    for content, group, recipe in itertools.product(contents, groups, recipes):
        recipe.shares(len(group))
        job = Job(Path(content), tuple(Path(s) for s in group), recipe, names)
        known.update({path: digest(path) for path in job.files if path not in known})
        job = replace(job, digests={path: known[path] for path in job.files})
        found.setdefault(job.key, job)
    return list(found.values())


def read(path: Path) -> list[Job]:
    """The jobs of a TOML file (see the module).

    Raises:
        InputError: it cannot be read, or anything in it cannot be used.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
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
        if not isinstance(values, list) or not values:
            raise InputError(f"{name} in [grid] is {values!r}; give a list of one value or more")
        axes[name] = [_locate(name, value, folder) for value in values]
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
    """The files that settings name are seen from the grid's folder, as images are."""
    if name in FILES and isinstance(value, str) and value not in INITS:
        return str(folder / value)
    return value


def _matches(name: Any, folder: Path) -> list[Path]:
    if not isinstance(name, str):
        raise InputError(f"{name!r} is not the name of a file, or a pattern like photos/*.jpg")
    if not any(sign in name for sign in "*?["):
        return [folder / name]
    pattern = Path(name)
    root = Path(pattern.anchor) if pattern.is_absolute() else folder
    found = sorted(root.glob(str(pattern.relative_to(pattern.anchor))))
    if not found:
        raise InputError(f"no file matches {name!r} in {root}")
    return found


def varied(jobs: Sequence[Job]) -> list[str]:
    """The settings in which the jobs differ."""
    names = [setting.name for setting in fields(Recipe)]
    return [name for name in names if len({repr(getattr(job.recipe, name)) for job in jobs}) > 1]


def caption(recipe: Recipe, names: Sequence[str]) -> str:
    """The named settings of a recipe in one line."""
    return ", ".join(f"{name} {spell(getattr(recipe, name))}" for name in names) or "all the same"
