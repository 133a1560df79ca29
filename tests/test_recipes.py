"""Settings: what is allowed, what is not, and what the schedule makes of a size."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from optistyle.errors import InputError
from optistyle.recipes import PARSERS, PRESETS, Recipe, preset


def sides(recipe: Recipe, height: int, width: int) -> list[int]:
    return [max(size) for size, _ in recipe.schedule(height, width)]


def test_default_schedule_grows_by_sqrt_2_and_works_most_at_the_first_scale() -> None:
    assert Recipe().schedule(1000, 1500) == [
        ((171, 256), 200),
        ((241, 362), 100),
        ((341, 512), 80),
    ]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (16, [16]),
        (256, [256]),
        (300, [300]),
        (512, [256, 362, 512]),
        (2048, [256, 362, 512, 724, 1024, 1448, 2048]),
    ],
)
def test_auto_scales(size: int, expected: list[int]) -> None:
    assert sides(Recipe(size=size), 600, 600) == expected


def test_schedule_of_a_panorama_starts_where_its_shorter_side_is_long_enough() -> None:
    assert Recipe(size=1024).schedule(100, 2000) == [
        ((18, 362), 200),
        ((26, 512), 100),
        ((36, 724), 100),
        ((51, 1024), 80),
    ]


def test_schedule_of_a_picture_that_ends_too_narrow() -> None:
    with pytest.raises(InputError, match=r"512x13; its shorter side must be at least 16 px"):
        Recipe().schedule(100, 4000)


def test_original_size_and_single_scale() -> None:
    recipe = Recipe(size="original", scales="single", iterations=(7,))
    assert recipe.schedule(37, 53) == [((37, 53), 7)]


def test_explicit_scales() -> None:
    recipe = Recipe(scales=(128, 512), iterations=(30, 20))
    assert recipe.schedule(64, 64) == [((128, 128), 30), ((512, 512), 20)]
    # The default size gives way to the last scale, another does not.
    assert sides(Recipe(scales=(64, 96)), 50, 50) == [64, 96]
    with pytest.raises(InputError, match="last scale is 96 px, but --size is 128"):
        Recipe(scales=(64, 96), size=128).schedule(50, 50)


def test_iterations_must_match_the_scales() -> None:
    with pytest.raises(InputError, match=r"2 iteration counts for 3 scales \(256, 362, 512 px\)"):
        Recipe(iterations=(10, 5)).schedule(600, 600)


def test_original_size_beyond_the_largest() -> None:
    with pytest.raises(InputError, match="size 40000: allowed are 16 to 32768"):
        Recipe(size="original").schedule(16, 40_000)


def test_a_precisions_short_name_is_recorded_in_full() -> None:
    assert Recipe(precision="bf16") == Recipe(precision="bfloat16")
    assert replace(Recipe(), precision="bf16").as_dict()["precision"] == "bfloat16"


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"beta": NAN}, "beta is nan"),
        ({"gamma": INFINITY}, "gamma is inf"),
        ({"tv": -0.1}, "tv is"),
        ({"range": NAN}, "range is nan"),
        ({"lr": 0.0}, "lr is 0.0; it must be a number above 0"),
        ({"style_scale": NAN}, "style_scale is nan"),
        ({"style_weights": (1.0, -1.0)}, "style weights"),
        ({"style_weights": (NAN,)}, "style weights"),
        ({"style_weights": (0.0, 0.0)}, "not all 0"),
        ({"size": 15}, "size 15: allowed are 16 to 32768 px"),
        ({"size": 32_769}, "size 32769"),
        ({"size": "huge"}, "size huge"),
        ({"iterations": ()}, "iterations"),
        ({"iterations": (5, 0)}, "each must be 1 or more"),
        ({"scales": "several"}, "unknown scales 'several'"),
        ({"scales": ()}, "no scale is given"),
        ({"scales": (8, 16)}, "scale 8"),
        ({"scales": (64, 32)}, "must grow"),
        ({"scales": (64, 64)}, "must grow"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is"),
        ({"style_layers": {"relu9_1": 1.0}}, "unknown layer 'relu9_1'"),
        ({"style_layers": {}}, "no layer is named"),
        ({"content_layers": {"relu4_2": NAN}}, "not a positive number"),
        ({"attention_layers": {"relu4_1": -1.0}}, "not a positive number"),
        ({"optimizer": "lbgfs"}, "did you mean 'lbfgs'"),
        ({"encoder": "vgg16"}, "unknown encoder 'vgg16'"),
        ({"style_loss": "grams"}, "did you mean 'gram'"),
        ({"original_colors": "lumi"}, "unknown original colors"),
        ({"precision": "float16"}, "unknown precision"),
        ({"pooling": "mean"}, "unknown pooling"),
        ({"padding": "same"}, "unknown padding"),
        ({"centre": "bath"}, "did you mean 'both'"),
        ({"tv_form": "l2"}, "unknown tv form"),
        ({"attention_form": "globl"}, "did you mean 'local'"),
    ],
)
def test_what_is_wrong_is_said(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Recipe(**settings)
    assert "\n" not in str(caught.value)


def test_conv_is_an_alias_of_relu() -> None:
    assert Recipe(style_layers={"conv1_1": 2.0}).style_layers == {"relu1_1": 2.0}


def test_shares() -> None:
    assert Recipe().shares(4) == [0.25] * 4
    assert Recipe(style_weights=(3.0, 1.0)).shares(2) == [0.75, 0.25]
    with pytest.raises(InputError, match="2 style weights for 1 style image;"):
        Recipe(style_weights=(3.0, 1.0)).shares(1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_at_their_size_and_survive_json(name: str) -> None:
    recipe = preset(name)
    schedule = recipe.schedule(768, 1024)
    assert schedule[-1][0] == (384, 512)
    assert PRESETS[name].source
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match="did you mean 'gatys'"):
        preset("gaty")


def test_round_trip_of_every_setting() -> None:
    recipe = Recipe(
        alpha=0.5,
        style_layers={"relu2_1": 3.0},
        style_weights=(1.0, 2.0),
        original_colors="histogram",
        size="original",
        iterations=(3, 4),
        scales=(32, 64),
        optimizer="adam",
        lr=0.1,
        init="noise",
        seed=7,
        weights="file.pth",
    )
    values = recipe.as_dict()
    assert set(values) == {setting.name for setting in fields(Recipe)}
    assert Recipe.from_dict(json.loads(json.dumps(values))) == recipe


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(InputError, match="unknown setting 'gama'; did you mean 'gamma'"):
        Recipe.from_dict({"gama": 1.0})


def test_a_recipe_does_not_change() -> None:
    recipe = Recipe()
    with pytest.raises(AttributeError):
        recipe.alpha = 2.0  # type: ignore[misc]
    assert replace(recipe, alpha=2.0).alpha == 2.0
    assert Recipe().style_layers is not recipe.style_layers


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("style_layers", "relu4_1:2, conv3_1", {"relu4_1": 2.0, "relu3_1": 1.0}),
        ("style_weights", "2,0.5", (2.0, 0.5)),
        ("iterations", "100,50", (100, 50)),
        ("size", "640", 640),
        ("size", "original", "original"),
        ("scales", "single", "single"),
        ("scales", "256,512", (256, 512)),
    ],
)
def test_parsers(name: str, text: str, value: object) -> None:
    assert PARSERS[name](text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("iterations", "ten"), ("iterations", "1,,2"), ("size", "12px"), ("scales", "1;2")],
)
def test_parsers_refuse(name: str, text: str) -> None:
    with pytest.raises(InputError, match="is not"):
        PARSERS[name](text)
