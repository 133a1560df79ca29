"""The loss terms of a run: those of its recipe, and others beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optistyle.choices import MOST_KEYS
from optistyle.errors import InputError
from optistyle.losses import (
    AttentionGram,
    AttentionLocal,
    Content,
    GramStyle,
    Range,
    TotalVariation,
    WassersteinStyle,
)
from optistyle.losses.base import LossTerm
from optistyle.losses.named import PARTS
from optistyle.optimise.objective import Terms
from optistyle.recipes import Recipe

#: The settings that weigh a term of the recipe, by the term's name.
WEIGHTS: Mapping[str, str] = {
    "content": "alpha",
    "style": "beta",
    "attention": "gamma",
    "tv": "tv",
    "range": "range",
}


def terms(recipe: Recipe) -> Terms:
    """The loss terms of a recipe, by name, with their weights.

    >>> sorted(terms(Recipe()))
    ['attention', 'content', 'range', 'style', 'tv']
    """
    style = GramStyle if recipe.style_loss == "gram" else WassersteinStyle
    attention = AttentionGram if recipe.attention_form == "gram" else AttentionLocal
    most = None if recipe.attention == "exact" else MOST_KEYS
    made: dict[str, LossTerm] = {
        "content": Content(recipe.content_layers),
        "style": style(recipe.style_layers),
        "attention": attention(recipe.attention_layers, recipe.centre, most),
        "tv": TotalVariation(recipe.tv_form),
        "range": Range(),
    }
    return {name: (getattr(recipe, WEIGHTS[name]), term) for name, term in made.items()}


def all_terms(recipe: Recipe, extra: Mapping[str, Any] | None = None) -> Terms:
    """The recipe's terms and the extra ones, of weights above 0.

    Raises:
        InputError: an extra one that is no pair of a weight and a term, or has a name of the
            recipe's; or all weights are 0.
    """
    known, extra = terms(recipe), extra or {}
    for name, pair in extra.items():
        if name in known:
            raise InputError(f"{name!r} is the name of a term of the recipe; choose another")
        _check_pair(name, pair)
    weighted = {name: pair for name, pair in {**known, **extra}.items() if pair[0] > 0}
    if not weighted:
        raise InputError("all weights are 0; there is nothing to optimise")
    return weighted


def layers_of(weighted: Terms) -> frozenset[str]:
    """All layers that the terms read."""
    return frozenset[str]().union(*(term.layers for _, term in weighted.values()))


def _check_pair(name: str, pair: Any) -> None:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(
            f"extra term {name!r} is {pair!r}; give a weight and a term, as in (0.1, MyTerm())"
        )
    weight, term = pair
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not (math.isfinite(weight) and weight >= 0):
        raise InputError(f"the weight of {name} is {weight!r}; give a number of 0 or more")
    if isinstance(term, type) or (missing := [x for x in PARTS if not hasattr(term, x)]):
        what = "a class, not a term made of it" if isinstance(term, type) else f"no {missing[0]}"
        raise InputError(
            f"extra term {name!r} has {what}; a term has {', '.join(PARTS)} (losses.LossTerm)"
        )
