"""How far gradients of the default objective are from float64's, by the convolutions' kernels.

|g - g'| / |g|, g in float64. With VGG-19 in float32 it is a matter of luck on a single picture:
of millions of units one to three lie so near to zero that rounding decides whether their ReLU
opens, and the error lies where these see (docs/speed.md). So it is measured on several pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from torch import Tensor

from benchmarks import pairs, record
from optistyle.encoders import load, winograd
from optistyle.encoders.vgg import VGG
from optistyle.optimise.objective import Objective
from optistyle.recipes import Recipe
from optistyle.run import stylize, terms


def errors(
    name: str, size: int, pictures: Sequence[tuple[Tensor, Tensor]], iterations: int = 60
) -> list[dict[str, Any]]:
    """A row for each kind of convolutions: medians over pairs, the least and the most in brackets.

    Each pair is looked at twice: at its content, and at the picture after so many iterations.
    """
    recipe = Recipe(scales="single", iterations=(iterations,), size=size)
    exact, own = load(name, kernels="torch").double(), load(name)
    ways = {"float32": load(name, kernels="torch")}
    if winograd.available():
        ways["float32, Winograd"] = load(name, kernels="winograd")
    ways["bfloat16"] = load(name, precision="bfloat16")
    at = ("at the start", f"after {iterations}")
    found: dict[str, dict[str, list[float]]] = {way: {look: [] for look in at} for way in ways}
    for content, style in pictures:
        late = stylize(content, style, recipe, encoder=own, progress=False).image
        looks = dict(zip(at, (content, late), strict=True))
        goals = _gradients(exact, looks, content, style)
        for way, encoder in ways.items():
            for look, slope in _gradients(encoder, looks, content, style).items():
                error = (slope - goals[look]).norm() / goals[look].norm()
                found[way][look].append(float(error))
    return [
        {
            "encoder": name,
            "px": size,
            "pairs": len(pictures),
            "convolutions": way,
            **{look: _spread(values) for look, values in lists.items()},
        }
        for way, lists in found.items()
    ]


def _gradients(
    encoder: VGG, looks: Mapping[str, Tensor], content: Tensor, style: Tensor
) -> dict[str, Tensor]:
    """The default objective's, at several images, in the encoder's own type."""
    inputs = [(x.to(encoder.mean), None) for x in (content, style)]
    objective = Objective.build(encoder, terms(Recipe()), inputs[0], [inputs[1]], [1.0])
    return {
        label: objective.gradient(image.to(encoder.mean))[1].double()
        for label, image in looks.items()
    }


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2g} [{min(values):.2g}, {max(values):.2g}]"


def main(names: Sequence[str], size: int) -> None:
    pictures = list(pairs.own(size).values())
    rows = [row for name in names for row in errors(name, size, pictures)]
    print(record.listed(rows), end="\n\n")
    print(record.save("gradients", rows))
