"""Stored pictures: the same seed and settings give what they gave before a change of code.

Processors round differently, so that pictures are compared to a fraction of a step of 255 and
objectives to one in a thousand. A change that is meant to alter pictures stores them anew, and its
commit says so:

    PYTHONPATH=.:tests python tests/test_reference.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import STYLES, make_picture

from optistyle import pictures
from optistyle.encoders import load
from optistyle.recipes import Recipe
from optistyle.run import Result, Run

FOLDER = Path(__file__).with_name("reference")
TOTALS = FOLDER / "totals.json"

#: Settings, at sizes of a few hundred milliseconds each.
CASES: dict[str, dict[str, Any]] = {
    "default": {"size": 64, "iterations": 5},
    "scales": {"scales": (48, 64), "iterations": (5, 4)},
    "adam": {"scales": (48, 64), "iterations": (4, 4), "optimizer": "adam"},
    "wasserstein": {"size": 48, "iterations": 4, "style_loss": "wasserstein", "tv": 2.0},
    "local": {"size": 64, "iterations": 4, "attention_form": "local", "gamma": 3.0},
    "noise": {"size": 48, "iterations": 5, "init": "noise", "seed": 3},
    "luminance": {"size": 48, "iterations": 3, "original_colors": "luminance"},
    "strokes": {"size": 64, "iterations": 3, "style_scale": 2.0, "scales": (48, 64)},
}


def painted(name: str) -> Result:
    recipe = Recipe(encoder="slim", device="cpu", kernels="torch", **CASES[name])
    painting = pictures.read(STYLES / "swirls.jpg").pixels[..., :160, :200].contiguous()
    run = Run(make_picture(60, 80, 1), painting, recipe, encoder=load("slim", kernels="torch"))
    run.finish()
    return run.result()


@pytest.mark.parametrize("name", CASES)
def test_pictures_are_what_they_were(name: str) -> None:
    result, stored = painted(name), pictures.read(FOLDER / f"{name}.png").pixels
    totals = [row["total"] for row in result.trace]
    assert totals == pytest.approx(json.loads(TOTALS.read_text())[name], rel=1e-3)
    assert result.image.shape == stored.shape
    assert float((result.image - stored).abs().mean()) < 0.5 / 255  # rounding alone is 0.25


if __name__ == "__main__":
    totals = {}
    for case in CASES:
        result = painted(case)
        data = pictures.encode(result.picture)
        pictures.write(FOLDER / f"{case}.png", result.picture)
        totals[case] = [row["total"] for row in result.trace]
        print(case, hashlib.sha256(data).hexdigest()[:16])
    TOTALS.write_text(json.dumps(totals, indent=1) + "\n")
