"""`with_stroke` and `style_weight`, by values computed by hand."""

from __future__ import annotations

import pytest

from optistyle.errors import InputError
from optistyle.recipes import Recipe, preset, style_weight, with_stroke


@pytest.mark.parametrize(
    ("size", "px", "scales", "style_scale"),
    [
        (512, 64, (256, 362, 512), 1.0),  # 32 x 512 / 64 = 256 px, the default
        (512, 32, (512,), 1.0),
        (512, 128, (128, 181, 256, 362, 512), 1.0),
        (512, 256, (128, 181, 256, 362, 512), 2.0),  # 64 px is below 128 px: twice the style
        (512, 16, (512,), 0.5),
        (1024, 32, (1024,), 1.0),
        (512, 35, (468, 512), 1.0),
        (100, 12.5, (100,), 0.390625),  # 256 px is above the size: 100 / 256
    ],
)
def test_stroke(size: int, px: float, scales: tuple[int, ...], style_scale: float) -> None:
    found = with_stroke(Recipe(size=size), px, 300, 400)
    assert found.scales == scales
    assert found.style_scale == style_scale
    assert found.schedule(300, 400)[-1][0][1] == size


def test_stroke_replaces_what_was_set() -> None:
    base = Recipe(scales=(100, 512), style_scale=3)
    assert with_stroke(base, 64, 300, 400) == with_stroke(Recipe(size="auto"), 64, 300, 400)
    assert with_stroke(preset("gatys"), 64, 300, 400).scales == (256, 362, 512)


def test_stroke_of_an_original_and_of_a_panorama() -> None:
    assert with_stroke(Recipe(size="original"), 50, 300, 400).scales == (256, 400)
    wide = with_stroke(Recipe(size=512), 128, 40, 512)
    assert wide.scales[0] == 205  # 16 px of its shorter side
    assert min(wide.schedule(40, 512)[0][0]) == 16


@pytest.mark.parametrize("px", [0, -1, float("nan"), float("inf")])
def test_strokes_that_cannot_be(px: float) -> None:
    with pytest.raises(InputError, match="give a number of pixels above 0"):
        with_stroke(Recipe(), px, 300, 400)


def test_strength() -> None:
    found = [style_weight(x) for x in ("soft", "balanced", "bold", "2.5")]
    assert found == [1e6, 1e7, 1e8, 2.5e7]
