"""What a setting is: its default, help and group, and the kind of value that it takes.

A `Setting` is the only place that knows a recipe field: `Recipe` checks values by it, the command
line makes options from it, sweeps and manifests read texts and lists by it.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from optistyle import layers
from optistyle.errors import InputError, unknown


class Kind(Protocol):
    """Values of one kind: read from text, checked, and written back as text."""

    @property
    def metavar(self) -> str:
        """What a value looks like, for help texts."""
        ...

    def parse(self, name: str, text: str) -> Any:
        """The value that a text on the command line stands for, unchecked."""
        ...

    def check(self, name: str, value: Any) -> Any:
        """The value as the recipe keeps it.

        Raises:
            InputError: a value that is not allowed, with the setting's name and what is.
        """
        ...


#: The largest number of float32, in which losses are computed.
_LARGEST = 3.4e38


@dataclass(frozen=True)
class Number:
    """A real number.

    Args:
        least: the smallest allowed value. above: every value is larger than this.
        word: what stands for None, where None is allowed.
    """

    least: float | None = None
    above: float | None = None
    word: str | None = None

    @property
    def metavar(self) -> str:
        return "X" if self.word is None else f"{self.word}|X"

    def parse(self, name: str, text: str) -> float | None:
        if self.word is not None and text == self.word:
            return None
        try:
            return float(text)
        except ValueError:
            raise InputError(f"{_spoken(name)} is {text!r}; give {self._allowed()}") from None

    def check(self, name: str, value: Any) -> float | None:
        if value is None and self.word is not None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, numbers.Real)
            or not math.isfinite(value)
            or (self.least is not None and value < self.least)
            or (self.above is not None and value <= self.above)
        ):
            shown = value if isinstance(value, numbers.Real) else repr(value)
            raise InputError(f"{_spoken(name)} is {shown}; give {self._allowed()}")
        if abs(float(value)) > _LARGEST:
            raise InputError(f"{_spoken(name)} is {value}; give a number up to {_LARGEST:.2g}")
        return float(value)

    def _allowed(self) -> str:
        bound = "" if self.least is None else f" of {self.least:g} or more"
        bound = bound if self.above is None else f" above {self.above:g}"
        return f"a number{bound}" + ("" if self.word is None else f", or {self.word}")


@dataclass(frozen=True)
class Whole:
    """A whole number, or one of some words."""

    least: int = 1
    most: int | None = None
    words: tuple[str, ...] = ()
    unit: str = ""

    @property
    def metavar(self) -> str:
        return "|".join((*self.words, self.unit.upper() or "N"))

    def parse(self, name: str, text: str) -> int | str:
        if text in self.words:
            return text
        try:
            return int(text)
        except ValueError:
            raise InputError(f"{_spoken(name)} is {text!r}; give {self._allowed()}") from None

    def check(self, name: str, value: Any) -> int | str:
        if isinstance(value, str) and value in self.words:
            return value
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if (
            not whole
            or int(value) < self.least
            or (self.most is not None and int(value) > self.most)
        ):
            raise InputError(f"{_spoken(name)} is {value!r}; give {self._allowed()}")
        return int(value)

    def _allowed(self) -> str:
        most = "or more" if self.most is None else f"to {self.most}"
        unit = f" {self.unit}" if self.unit else ""
        words = "".join(f", or {word}" for word in self.words)
        return f"a whole number, {self.least} {most}{unit}{words}"


@dataclass(frozen=True)
class Word:
    """One of some words; ``aliases`` maps other spellings to them."""

    words: tuple[str, ...]
    aliases: Mapping[Any, str] = field(default_factory=dict)

    @property
    def metavar(self) -> str:
        return "|".join(self.words)

    def parse(self, name: str, text: str) -> str:
        return text

    def check(self, name: str, value: Any) -> str:
        try:
            value = self.aliases.get(value, value)
        except TypeError:  # a list, which no word is
            value = str(value)
        if value not in self.words:
            raise unknown(_spoken(name), str(value), self.words)
        return str(value)


@dataclass(frozen=True)
class Several:
    """One value or more of a kind, kept as a tuple: ``400,200`` on the command line.

    Args:
        of: the kind of each. words: what may stand in place of numbers, as a text.
        empty: the word that stands for no value at all, where that is allowed.
    """

    of: Number | Whole
    words: tuple[str, ...] = ()
    empty: str | None = None

    @property
    def metavar(self) -> str:
        return "|".join((*self.words, f"{self.of.metavar}[,{self.of.metavar}...]"))

    def parse(self, name: str, text: str) -> Any:
        if text in self.words:
            return text
        if self.empty is not None and text == self.empty:
            return ()
        if text.isalpha() and self.words:
            raise unknown(_spoken(name), text, self.words)
        return tuple(self.of.parse(name, part) for part in text.split(","))

    def check(self, name: str, value: Any) -> Any:
        if isinstance(value, str):
            if value in self.words:
                return value
            raise unknown(_spoken(name), value, self.words)
        if not isinstance(value, list | tuple):
            value = (value,)
        if not value and self.empty is None:
            raise InputError(f"{_spoken(name)} is empty; give one value or more")
        return tuple(self.of.check(name, one) for one in value)


@dataclass(frozen=True)
class Layers:
    """Layers with relative weights: ``relu4_1:2,relu3_1``, a mapping, or a list of names."""

    @property
    def metavar(self) -> str:
        return "LAYER[:W],..."

    def parse(self, name: str, text: str) -> Mapping[str, float]:
        return layers.parse(text)

    def check(self, name: str, value: Any) -> Mapping[str, float]:
        if isinstance(value, str):
            return layers.parse(value)
        if isinstance(value, list | tuple):
            for one in value:
                layers.canonical(one)
            value = dict.fromkeys(value, 1.0)
        if not isinstance(value, Mapping):
            raise InputError(f"{_spoken(name)} is {value!r}; give names as in relu4_1:2,relu3_1")
        return layers.check(value)


@dataclass(frozen=True)
class Text:
    """Any text, such as a file's name; ``word`` stands for None, where that is allowed."""

    shown: str
    word: str | None = None

    @property
    def metavar(self) -> str:
        return self.shown if self.word is None else f"{self.word}|{self.shown}"

    def parse(self, name: str, text: str) -> str | None:
        return None if text == self.word else text

    def check(self, name: str, value: Any) -> str | None:
        if value is None and self.word is not None:
            return None
        if not isinstance(value, str):
            raise InputError(f"{_spoken(name)} is {value!r}; give {self.shown}")
        return value


@dataclass(frozen=True)
class Setting:
    """One field of a recipe.

    Attributes:
        kind: its values.
        group: the heading that help texts show it under.
        help: one or two sentences.
        common: whether the short help shows it.
    """

    kind: Kind
    group: str
    help: str
    common: bool = False


def setting(default: Any, kind: Kind, group: str, help: str, *, common: bool = False) -> Any:
    """A dataclass field that carries a `Setting`, for the body of a recipe."""
    carried = {"setting": Setting(kind, group, help, common)}
    if isinstance(default, dict):
        make: Callable[[], Any] = default.copy
        return field(default_factory=make, metadata=carried)
    return field(default=default, metadata=carried)


def spell(value: Any) -> str:
    """A setting's value as the command line takes it."""
    if isinstance(value, Mapping):
        return layers.spell(value)
    if isinstance(value, tuple):
        return ",".join(map(spell, value))
    if isinstance(value, float):
        return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:g}")  # 6e6 in place of 6e+06
    return str(value)


def _spoken(name: str) -> str:
    return name.replace("_", " ")
