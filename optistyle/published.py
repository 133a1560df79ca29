"""Published settings by name, with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optistyle.errors import unknown
from optistyle.recipes import Recipe


@dataclass(frozen=True)
class Preset:
    """Published settings: the recipe, and where each number comes from."""

    recipe: Recipe
    source: str


PRESETS: Mapping[str, Preset] = {
    "default": Preset(
        Recipe(),
        "ours: the weights of 'attention', coarse to fine from 256 px in place of a single scale",
    ),
    "attention": Preset(
        Recipe(scales="single", iterations=(500,)),
        "Chen, Neural Style Transfer with Self-Attention Module, figure 1: alpha 1, beta 1e7, "
        "gamma 6e6 at conv4_1, 500 L-BFGS iterations from the content at 512 px",
    ),
    "gatys": Preset(
        Recipe(scales="single", iterations=(500,), gamma=0.0),
        "Gatys, Ecker & Bethge, CVPR 2016, with the weights of Chen's figure 1 at gamma 0: "
        "conv4_2 and conv1_1 to conv5_1, average pooling, L-BFGS",
    ),
    "fine": Preset(
        Recipe(
            gamma=0.0,
            style_loss="wasserstein",
            style_layers={f"relu{b}_1": 4.0 ** (5 - b) for b in range(1, 6)},
            tv=2.0,
            optimizer="adam",
            scales=(128, 181, 256, 362, 512),
            iterations=(1000, 500, 500, 500, 500),
        ),
        "crowsonkb/style-transfer-pytorch: scales from 128 px by sqrt(2), 1000 then 500 Adam "
        "iterations at 0.02, style weights 256:64:16:4:1, Wasserstein-2, average of iterates",
    ),
}


class _Presets(dict[str, Recipe]):
    """The published settings by name: a mapping to recipes.

    ``optistyle presets`` prints them with their sources.

    Raises:
        InputError: on an unknown name; the message suggests the nearest one.

    >>> import optistyle
    >>> sorted(optistyle.presets)
    ['attention', 'default', 'fine', 'gatys']
    >>> optistyle.presets["gatys"].gamma
    0.0
    """

    def __missing__(self, name: str) -> Recipe:
        raise unknown("preset", name, self)


presets: Mapping[str, Recipe] = _Presets({name: one.recipe for name, one in PRESETS.items()})


def preset(name: str) -> Recipe:
    """Return the recipe of that name, or raise `InputError` with the nearest name."""
    return presets[name]
