"""The .json beside a picture: what ``--from`` repeats, and what shows a picture to be finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optistyle.choices import ENCODERS
from optistyle.errors import InputError
from optistyle.files import digest
from optistyle.losses.named import described, restore
from optistyle.optimise.objective import Terms
from optistyle.recipes import Recipe

#: Settings that decide how a picture is computed, and not which picture it is: the plan chooses
#: them where they are ``auto``.
PLANNED = ("tile", "history", "kernels")


@dataclass(frozen=True)
class Manifest:
    """What the .json of an earlier run records.

    Attributes:
        path: the .json.
        recipe: the settings that were asked for.
        plan: tile, history and kernels as they were chosen; by them alone it repeats to the bit.
        inputs: path and SHA-256 of the content, the styles, and the files that settings name.
        threads: the number it computed with.
        bits, suffix: of the picture's file. strip: whether it is without the photograph's notes.
        versions: of optistyle and its libraries.
        interrupted: whether the picture is unfinished.
        losses: the loss terms beside the recipe's, as they are recorded.
        retunes: the changes of weights on the way.
    """

    path: Path
    recipe: Recipe
    plan: Mapping[str, Any]
    inputs: Mapping[str, Any]
    threads: int
    bits: int
    suffix: str
    versions: Mapping[str, str]
    interrupted: bool
    losses: Mapping[str, Any]
    retunes: Sequence[Mapping[str, Any]]
    strip: bool

    @property
    def extra(self) -> Terms:
        """The loss terms beside the recipe's, made anew.

        Raises:
            InputError: a term that no module holds.
        """
        terms = {}
        for name, known in self.losses.items():
            try:
                terms[name] = restore(known)
            except InputError as error:
                raise InputError(f"{self.path}: {error}") from error
        return terms

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read the .json of a run.

        Raises:
            InputError: no file, a file of something else, or of a run that only Python can repeat.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            recipe = _as_painted(Recipe.from_dict(record["recipe"]), record.get("encoder"))
            # Older files record the plan's choices in place of what was asked for.
            plan = record.get("plan") or {name: getattr(recipe, name) for name in PLANNED}
            if "plan" not in record:
                recipe = _unplanned(recipe)
            return cls(
                path,
                recipe,
                {name: plan[name] for name in PLANNED},
                dict(record["inputs"]),
                int(record["threads"]),
                int(record.get("bits", 8)),
                Path(record.get("output", "out.png")).suffix,
                dict(record["versions"]),
                bool(record.get("interrupted", False)),
                dict(record.get("extra") or {}),
                list(record.get("retunes", ())),
                bool(record.get("strip", False)),
            )
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise InputError(f"{path}: {error}") from error
            raise InputError(f"{path} is not a .json that optistyle run has written") from error

    def plan_for(self, recipe: Recipe) -> Mapping[str, Any]:
        """The plan to repeat; empty where a setting differs from the earlier run's.

        With other settings, such as a larger size, that plan may not fit into memory.
        """
        return self.plan if recipe == self.recipe else {}

    def located(self, recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
        """The recipe with the files that its settings name as they were recorded, and checked.

        Args:
            given: settings that were given anew, by name, or None.
        """
        files: dict[str, Any] = {
            name: str(self.input(name))
            for name in ("init", "weights")
            if name in self.inputs and given.get(name) is None
        }
        return replace(recipe, **files)

    def matches(
        self,
        recipe: Recipe,
        bits: int,
        content: str,
        styles: Sequence[str],
        extra: Terms,
        *,
        strip: bool = False,
    ) -> bool:
        """Whether a run with these settings would give the picture that this one gave.

        Args:
            recipe: encoder and device resolved. Tile, history and kernels are not compared: by
                them a picture differs by rounding only.
            bits: of the file. strip: whether it is without the photograph's notes.
            content, styles: SHA-256.
            extra: loss terms beside the recipe's.
        """
        from optistyle.run import versions

        hashes: dict[str, Any] = {"content": content, "styles": list(styles)}
        for name in ("init", "weights"):
            file = getattr(recipe, name)
            if file is not None and Path(file).is_file():
                hashes[name] = digest(file)
        recorded = {
            name: [one["sha256"] for one in entry] if name == "styles" else entry["sha256"]
            for name, entry in self.inputs.items()
        }
        return (
            _unplanned(self.recipe) == _unplanned(recipe)
            and recorded == hashes
            and (bits, strip) == (self.bits, self.strip)
            and self.losses == described(extra)
            and not self.retunes
            and self.versions.get("optistyle") == versions()["optistyle"]
        )

    def input(self, name: str) -> Path:
        """The file of an input, checked to be what it was."""
        return self._unchanged(self.inputs[name])

    def styles(self) -> list[Path]:
        """The files of the styles, checked to be what they were."""
        return [self._unchanged(entry) for entry in self.inputs["styles"]]

    def _unchanged(self, entry: Mapping[str, str]) -> Path:
        if "path" not in entry:
            raise InputError(f"{self.path} is of a run whose images were no files: give them")
        path = Path(entry["path"])
        if digest(path) != entry["sha256"]:
            raise InputError(
                f"{path} is not the file it was when {self.path} was written; to use it all the "
                "same, name it on the command line"
            )
        return path


def _unplanned(recipe: Recipe) -> Recipe:
    """The recipe with everything left to the plan that the plan can choose."""
    return replace(recipe, tile="auto", history="auto", kernels="auto")


def _as_painted(recipe: Recipe, encoder: Any) -> Recipe:
    """The recipe with the encoder that painted, which older files name beside the recipe only."""
    if recipe.weights is None and encoder in ENCODERS:
        return replace(recipe, encoder=encoder)
    return recipe
