"""`with_stroke` and `style_weight`, by values computed by hand."""

from __future__ import annotations

import pytest

from optistyle.errors import InputError
from optistyle.published import preset
from optistyle.recipes import Recipe, style_weight, with_stroke


@pytest.mark.parametrize(
    ("size", "px", "scales", "style_scale"),
    [
        (512, 16, [362, 512], 1.0),  # 512 / 32, the default
        (512, 32, [128, 181, 256, 362, 512], 2.0),
        (512, 64, [64, 91, 128, 181, 256, 362, 512], 4.0),
        (512, 4, [362, 512], 0.25),
        (1024, 32, [362, 512, 724, 1024], 1.0),
        (100, 12.5, [71, 100], 4.0),
    ],
)
def test_stroke(size: int, px: float, scales: list[int], style_scale: float) -> None:
    stroked = with_stroke(Recipe(size=size), px, 300, 400)
    assert stroked.style_scale == style_scale
    assert [max(s) for s, _ in stroked.schedule(300, 400)] == scales


def test_stroke_replaces_what_was_set() -> None:
    base = Recipe(scales=(100, 512), style_scale=3)
    assert with_stroke(base, 16, 300, 400) == Recipe(size=512)
    assert with_stroke(preset("gatys"), 16, 300, 400).scales == "auto"
    assert with_stroke(Recipe(size="original"), 12.5, 300, 400) == Recipe(size="original")


@pytest.mark.parametrize("px", [0, -1, 1.9, 64.1, float("nan"), float("inf")])
def test_strokes_that_cannot_be(px: float) -> None:
    with pytest.raises(InputError, match="give 2 to 64 px for a result of 512 px"):
        with_stroke(Recipe(), px, 600, 800)


def test_strength() -> None:
    found = [style_weight(x) for x in ("soft", "balanced", "bold", "2.5")]
    assert found == [1e6, 1e7, 1e8, 2.5e7]
