"""Layer names and weights, as users write them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from optistyle import layers
from optistyle.errors import InputError
from optistyle.recipes import Recipe


def test_vgg19_has_sixteen_layers() -> None:
    assert len(layers.RELUS) == 16
    assert layers.RELUS[:3] == ("relu1_1", "relu1_2", "relu2_1")
    assert layers.RELUS[-1] == "relu5_4"
    assert tuple(layers.CHANNELS) == (*layers.RELUS, "pool5")
    assert layers.CHANNELS["relu3_4"] == 256


@pytest.mark.parametrize("name", ["relu4_1", "conv4_1", " Conv4_1 ", "RELU4_1"])
def test_aliases(name: str) -> None:
    assert layers.canonical(name) == "relu4_1"


@pytest.mark.parametrize(
    ("name", "nearest"), [("relu41", "relu4_1"), ("rleu2_2", "relu2_2"), ("relu3-4", "relu3_4")]
)
def test_unknown_layer_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"did you mean '{nearest}'"):
        layers.canonical(name)


@pytest.mark.parametrize("name", ["relu2_3", "relu6_1", "convolution4_1", "4", ""])
def test_layers_that_vgg19_lacks(name: str) -> None:
    with pytest.raises(InputError, match="unknown layer"):
        layers.canonical(name)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("relu4_1", {"relu4_1": 1.0}),
        ("relu4_1:2,relu3_1", {"relu4_1": 2.0, "relu3_1": 1.0}),
        (" conv1_1 : .5 , ,conv2_1:1e-3,", {"relu1_1": 0.5, "relu2_1": 1e-3}),
    ],
)
def test_parse(text: str, weights: dict[str, float]) -> None:
    assert layers.parse(text) == weights


@pytest.mark.parametrize(
    "weights",
    [
        {"relu4_1": 1.0},
        {"relu1_1": 256.0, "relu5_1": 1.0},
        {"relu4_1": 0.123456789, "relu3_1": 1 / 3, "relu2_1": 1e-7, "relu1_1": 1e21},
    ],
)
def test_spell_is_the_inverse_of_parse(weights: dict[str, float]) -> None:
    assert layers.parse(layers.spell(weights)) == weights


def test_spell_is_short() -> None:
    assert layers.spell({"relu4_1": 2.0, "relu3_1": 1.0, "relu2_1": 0.5}) == (
        "relu4_1:2,relu3_1,relu2_1:0.5"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no layer is named"),
        (" , ", "no layer is named"),
        ("relu4_1:nan", "not a positive number"),
        ("relu4_1:inf", "not a positive number"),
        ("relu4_1:-1", "not a positive number"),
        ("relu4_1:0", "not a positive number"),
        ("relu4_1:two", "not a number"),
        ("relu4_1:1:2", "not a number"),
        ("relu4_1,conv4_1:2", "named twice"),
    ],
)
def test_bad_weights(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        layers.parse(text)


@pytest.mark.parametrize(
    "weights", [{}, {"relu4_1": math.nan}, {"relu4_1": 0.0}, {"relu4_1": 1.0, "conv4_1": 2.0}]
)
def test_bad_mappings(weights: dict[str, float]) -> None:
    with pytest.raises(InputError):
        layers.check(weights)


def test_check_takes_aliases() -> None:
    assert layers.check({"conv4_1": 2}) == {"relu4_1": 2.0}


def test_normalised_weights_sum_to_one() -> None:
    assert layers.normalised({"relu1_1": 1.0, "relu2_1": 3.0}) == {"relu1_1": 0.25, "relu2_1": 0.75}


@pytest.mark.parametrize(
    "given", [[1], {1: 1.0}, [["relu4_1"]], {"relu4_1": "2"}, {"relu4_1": None}], ids=str
)
def test_layers_of_other_types_are_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"a layer is given as|is not a positive number"):
        Recipe(style_layers=given)


def test_a_name_is_a_text() -> None:
    with pytest.raises(InputError, match="a layer is given as 1; give its name, such as relu4_1"):
        layers.canonical(1)  # type: ignore[arg-type]
