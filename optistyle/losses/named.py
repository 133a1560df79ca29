"""Loss terms by name: those of a user's own module, on the command line and in manifests."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
import math
import shlex
from collections.abc import Mapping
from typing import Any

from optistyle import layers
from optistyle.errors import InputError
from optistyle.losses.base import LossTerm

#: What a text of a term looks like, for messages.
_FORM = '"package.module:Term weight=0.1 setting=value"'
#: What a term has.
PARTS = ("layers", "target", "statistic", "score")


def parse(text: str) -> tuple[str, float, LossTerm]:
    """A term's name, weight and the term, from a text of the command line.

    The text is ``package.module:Term weight=W setting=value ...``; ``name=`` renames it. A value is
    JSON, or layers as in ``relu3_1:2,relu4_1``, or a plain word.

    Raises:
        InputError: a text of another form, a module or a term that is not there, or settings that
            the term does not take.

    >>> name, weight, term = parse("optistyle.losses:TotalVariation weight=2 form=l1")
    >>> name, weight, term
    ('totalvariation', 2.0, TotalVariation(form='l1'))
    """
    try:
        place, *pairs = shlex.split(text)
        settings = dict(pair.split("=", 1) for pair in pairs)
        weight = float(settings.pop("weight"))
    except (ValueError, KeyError):
        raise InputError(f"--loss {text!r} is not of the form {_FORM}") from None
    if not (math.isfinite(weight) and weight > 0):
        raise InputError(f"--loss {text!r}: the weight is {weight:g}; give a number above 0")
    kind = find(place)
    name = settings.pop("name", kind.__name__.lower())
    return name, weight, make(kind, {key: _value(value) for key, value in settings.items()})


def restore(record: Mapping[str, Any]) -> tuple[float, LossTerm]:
    """The weight and the term that `describe` and a weight recorded.

    Raises:
        InputError: a term that was not importable, or is no more.
    """
    if "term" not in record:
        raise InputError(
            f"it ran with a loss term that no module holds ({record.get('text')}): repeat it from "
            "Python"
        )
    return float(record["weight"]), make(find(record["term"]), record["settings"])


def describe(term: LossTerm) -> dict[str, Any]:
    """A term for the manifest: its text and, where a module holds its class, how to make it again.

    >>> from optistyle.losses import TotalVariation
    >>> describe(TotalVariation())["term"]
    'optistyle.losses.pixels:TotalVariation'
    """
    kind, text = type(term), repr(term)
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        return {"text": text}
    settings: dict[str, Any] = {}
    if dataclasses.is_dataclass(term):
        settings = {x.name: getattr(term, x.name) for x in dataclasses.fields(term) if x.init}
    try:
        settings = json.loads(json.dumps(settings, default=dict))
    except (TypeError, ValueError):
        return {"text": text}
    return {"text": text, "term": f"{kind.__module__}:{kind.__qualname__}", "settings": settings}


def described(terms: Mapping[str, tuple[float, LossTerm]]) -> dict[str, Any]:
    """Weighted terms by name, as a manifest records them."""
    return {name: {"weight": weight, **describe(term)} for name, (weight, term) in terms.items()}


def find(place: str) -> type:
    """The class at ``package.module:Term``.

    Raises:
        InputError: there is no such module or class.
    """
    module, _, name = place.partition(":")
    if not (module and name):
        raise InputError(f"the loss term {place!r} is not of the form {_FORM}")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"the module {module!r} of the loss term {place!r} cannot be imported ({error}): "
            "install it, or start in its folder"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"the module {module!r} has no {name!r}{hint}")
        found = getattr(found, part)
    if not isinstance(found, type) or not all(hasattr(found, part) for part in PARTS):
        raise InputError(
            f"{place!r} is no loss term: a term is a class with {', '.join(PARTS)} "
            "(losses.LossTerm)"
        )
    return found


def make(kind: type, settings: Mapping[str, Any]) -> LossTerm:
    """A term of these settings; `InputError` where it does not take them."""
    try:
        term: LossTerm = kind(**settings)
    except InputError:
        raise
    except Exception as error:  # a user's own constructor may raise anything
        raise InputError(f"the loss term {kind.__name__} refuses its settings: {error}") from error
    return term


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return layers.parse(text)
    except InputError:
        return text
