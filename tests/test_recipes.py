"""Settings: what is allowed, what is not, and what the schedule makes of a size."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from optistyle import choices
from optistyle.baselines import MODELS
from optistyle.encoders.kernels import KERNELS
from optistyle.encoders.vgg import POOLINGS
from optistyle.encoders.weights import SOURCES
from optistyle.errors import InputError
from optistyle.optimise.solvers import SOLVERS
from optistyle.published import PRESETS, preset
from optistyle.recipes import Recipe, changed, settings
from optistyle.settings import spell


def sides(recipe: Recipe, height: int, width: int) -> list[int]:
    return [max(size) for size, _ in recipe.schedule(height, width)]


def test_default_schedule_grows_by_sqrt_2_and_works_most_at_the_first_scale() -> None:
    assert Recipe().schedule(1000, 1500) == [
        ((241, 362), 35),
        ((341, 512), 14),
    ]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (16, [16]),
        (256, [256]),
        (300, [300]),
        (400, [400]),
        (512, [362, 512]),
        (2048, [362, 512, 724, 1024, 1448, 2048]),
    ],
)
def test_auto_scales(size: int, expected: list[int]) -> None:
    assert sides(Recipe(size=size), 600, 600) == expected


@pytest.mark.parametrize(
    ("style_scale", "first"), [(0.5, 362), (1, 362), (1.3, 256), (2, 128), (4, 64), (100, 64)]
)
def test_large_strokes_are_laid_at_a_lower_scale(style_scale: float, first: int) -> None:
    recipe = Recipe(style_scale=style_scale)
    assert max(recipe.schedule(500, 512)[0][0]) == first
    assert sides(replace(recipe, scales="single"), 500, 512) == [512]


def test_schedule_of_a_panorama_starts_where_its_shorter_side_is_long_enough() -> None:
    assert Recipe(size=1024).schedule(100, 2000) == [
        ((18, 362), 35),
        ((26, 512), 18),
        ((36, 724), 18),
        ((51, 1024), 14),
    ]


def test_schedule_of_a_picture_that_ends_too_narrow() -> None:
    with pytest.raises(InputError, match=r"512x13; its shorter side must be at least 16 px"):
        Recipe().schedule(100, 4000)


def test_original_size_and_single_scale() -> None:
    recipe = Recipe(size="original", scales="single", iterations=(7,))
    assert recipe.schedule(37, 53) == [((37, 53), 7)]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (37, 53, [53]),
        (420, 300, [420]),
        (512, 512, [362, 512]),
        (900, 600, [362, 512]),
    ],
)
def test_a_photograph_is_enlarged_only_by_a_size_that_is_given(
    height: int, width: int, expected: list[int]
) -> None:
    assert sides(Recipe(), height, width) == expected
    assert sides(Recipe(size=512), height, width) == [362, 512]


def test_explicit_scales() -> None:
    recipe = Recipe(scales=(128, 512), iterations=(30, 20))
    assert recipe.schedule(64, 64) == [((128, 128), 30), ((512, 512), 20)]
    assert sides(Recipe(scales=(64, 96)), 50, 50) == [64, 96]
    assert sides(Recipe(scales=(64, 96), size=96), 50, 50) == [64, 96]


@pytest.mark.parametrize("size", [128, 512])
def test_a_size_that_contradicts_the_scales_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"last scale is 96 px, but the size is {size} px"):
        Recipe(scales=(64, 96), size=size)
    with pytest.raises(InputError, match="last scale is 96 px, but the photograph's longer side"):
        Recipe(scales=(64, 96), size="original").schedule(50, size)


def test_one_value_is_a_list_of_one() -> None:
    assert Recipe(iterations=100) == Recipe(iterations=[100]) == Recipe(iterations=(100,))
    assert Recipe(scales=256) == Recipe(scales=(256,))
    assert Recipe(style_weights=2) == Recipe(style_weights=(2.0,))
    assert Recipe(attention_layers=["conv3_1"]).attention_layers == {"relu3_1": 1.0}
    assert Recipe(attention_layers="relu3_1:2").attention_layers == {"relu3_1": 2.0}


def test_every_setting_can_be_set_back_to_its_default_by_text() -> None:
    default = Recipe()
    words = {"lr": "auto", "style_weights": "equal", "weights": "packaged"}
    for name in settings():
        text = words.get(name, spell(getattr(default, name)))
        assert changed(default, {name: text}) == default, name
    kept = Recipe(original_colors="luminance")
    assert changed(kept, {"original_colors": "off"}) == default


def test_every_choice_is_implemented() -> None:
    assert tuple(POOLINGS) == choices.POOLINGS
    assert tuple(SOLVERS) == choices.SOLVERS
    assert ("auto", *KERNELS) == choices.KERNELS
    assert ("auto", *SOURCES) == choices.ENCODERS
    assert set(choices.WARM_STARTS) <= set(MODELS)


def test_iterations_must_match_the_scales() -> None:
    with pytest.raises(InputError, match=r"iterations: got 3 for 2 scales \(362,512 px\)"):
        Recipe(iterations=(10, 5, 5)).schedule(600, 600)


def test_original_size_beyond_the_largest() -> None:
    with pytest.raises(InputError, match="size is 40000; give a whole number, 16 to 32768 px"):
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
        ({"lr": 0.0}, "lr is 0.0; give a number above 0, or auto"),
        ({"style_scale": NAN}, "style scale is nan"),
        ({"style_weights": (1.0, -1.0)}, "style weights"),
        ({"style_weights": (NAN,)}, "style weights"),
        ({"style_weights": (0.0, 0.0)}, "not all of them can be 0"),
        ({"size": 15}, "size is 15; give a whole number, 16 to 32768 px, or auto, or original"),
        ({"size": 32_769}, "size is 32769"),
        ({"size": "huge"}, "size is 'huge'"),
        ({"iterations": ()}, "iterations"),
        ({"iterations": (5, 0)}, "iterations is 0; give a whole number, 1 or more"),
        ({"scales": "several"}, "unknown scales 'several'"),
        ({"scales": ()}, "scales is empty"),
        ({"scales": (8, 16)}, "scales is 8"),
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
    with pytest.raises(InputError, match="style weights: got 2 for 1 style image;"):
        Recipe(style_weights=(3.0, 1.0)).shares(1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_at_their_size_and_survive_json(name: str) -> None:
    recipe = preset(name)
    schedule = recipe.schedule(768, 1024)
    assert schedule[-1][0] == (384, 512)
    assert PRESETS[name].source
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


def test_published_presets_name_the_encoder_of_their_source() -> None:
    assert {preset(name).encoder for name in ("attention", "gatys", "fine")} == {"vgg19"}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "keeps faces"), (9.63, "keeps faces, about 10 s"), (52.3, "keeps faces, about 52 s")],
)
def test_a_presets_summary(seconds: float | None, expected: str) -> None:
    assert replace(PRESETS["portrait"], seconds=seconds).summary() == expected


def test_a_presets_summary_in_minutes() -> None:
    one = replace(PRESETS["best"], seconds=239.0)
    assert one.summary() == f"{one.purpose}, about 4 minutes"


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
    assert getattr(changed(Recipe(size="auto"), {name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("iterations", "ten"), ("iterations", "1,,2"), ("size", "12px"), ("scales", "1;2")],
)
def test_parsers_refuse(name: str, text: str) -> None:
    with pytest.raises(InputError, match=f"{name} is .*; give a whole number"):
        changed(Recipe(), {name: text})
