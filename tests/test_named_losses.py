"""Loss terms of a user's own module, by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.losses import Content, GramStyle, Range, TotalVariation
from optistyle.losses.named import describe, parse, restore
from optistyle.recipes import Recipe
from optistyle.run import Run, stylize

OWN = """
from dataclasses import dataclass
from optistyle.losses import TotalVariation

@dataclass(frozen=True)
class Smooth(TotalVariation):
    strength: int = 1
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with a term ``Smooth``."""
    (tmp_path / "my_losses_of_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "my_losses_of_test"


def test_parse(own: str) -> None:
    name, weight, term = parse(f"{own}:Smooth weight=0.5 strength=3 form=l1")
    assert (name, weight, repr(term)) == ("smooth", 0.5, "Smooth(form='l1', strength=3)")
    name, _, term = parse("optistyle.losses:Content weight=2 name=deep layer_weights=conv5_1:2")
    assert (name, term) == ("deep", Content({"relu5_1": 2.0}))


@pytest.mark.parametrize(
    "term", [TotalVariation("l1"), Range(), GramStyle({"relu1_1": 1.0, "relu2_1": 0.5})]
)
def test_described_terms_are_restored(term: object) -> None:
    record = json.loads(json.dumps({"weight": 3.0, **describe(term)}))
    assert restore(record) == (3.0, term)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("optistyle.losses:Range", "is not of the form"),
        ("optistyle.losses:Range weight=much", "is not of the form"),
        ("optistyle.losses:Range weight=-1", "the weight is -1; give a number above 0"),
        ("optistyle.losses weight=1", "is not of the form"),
        ("no_such_module:Term weight=1", "'no_such_module' .* cannot be imported"),
        ("optistyle.losses:Rang weight=1", "has no 'Rang'; did you mean 'Range'"),
        ("optistyle.recipes:Recipe weight=1", "is no loss term"),
        ("optistyle.losses:TotalVariation weight=1 form=l3", "unknown form of total variation"),
        ("optistyle.losses:Range weight=1 size=3", "refuses its settings"),
    ],
)
def test_what_is_no_term_is_refused(text: str, line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_a_term_without_a_module_is_named_but_not_repeated() -> None:
    class Local(TotalVariation):
        pass

    record = {"weight": 1.0, **describe(Local())}
    assert "term" not in record
    with pytest.raises(InputError, match="no module holds"):
        restore(record)


def test_a_run_records_and_repeats_it(tiny: VGG, picture: Callable[..., Tensor], own: str) -> None:
    recipe = Recipe(size=32, iterations=3)
    name, weight, term = parse(f"{own}:Smooth weight=5")
    pair = picture(32, 32), picture(32, 32, 1)
    result = stylize(*pair, recipe, encoder=tiny, extra={name: (weight, term)}, progress=False)
    assert result.trace[0]["smooth"] > 0
    manifest = json.loads(json.dumps(result.manifest()))
    extra = {name: restore(record) for name, record in manifest["extra"].items()}
    again = stylize(*pair, recipe, encoder=tiny, extra=extra, progress=False)
    assert torch.equal(again.image, result.image)


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        ({"mine": TotalVariation()}, "give a weight and a term"),
        ({"mine": (1.0, TotalVariation)}, "a class, not a term made of it"),
        ({"mine": (1.0, object())}, "has no layers; a term has layers, target"),
        ({"mine": (-1.0, TotalVariation())}, "the weight of mine is -1.0"),
        ({"mine": ("1", TotalVariation())}, "the weight of mine is '1'"),
        ({"style": (1.0, TotalVariation())}, "'style' is the name of a term of the recipe"),
    ],
)
def test_extra_terms_are_checked(
    tiny: VGG, picture: Callable[..., Tensor], extra: object, line: str
) -> None:
    with pytest.raises(InputError, match=line):
        Run(picture(32, 32), picture(32, 32), Recipe(size=32), encoder=tiny, extra=extra)
