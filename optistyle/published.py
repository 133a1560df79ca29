"""Settings by name: ours, each for a purpose, and published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optistyle.errors import unknown
from optistyle.recipes import Recipe


@dataclass(frozen=True)
class Preset:
    """Settings with a name.

    Attributes:
        recipe: the settings.
        purpose: what they are for, in a few words.
        source: where the numbers come from.
        seconds: how long 512 px take on two cores, start-up included, measured or added up from
            measured iterations; None where neither was done.
    """

    recipe: Recipe
    purpose: str
    source: str
    seconds: float | None = None

    def summary(self) -> str:
        """The purpose, with the time where it was measured.

        >>> Preset(Recipe(), "a first look", "ours", seconds=9.6).summary()
        'a first look, about 10 s'
        """
        return self.purpose + ("" if self.seconds is None else f", about {_spell(self.seconds)}")


def _spell(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes"


PRESETS: Mapping[str, Preset] = {
    "default": Preset(
        Recipe(),
        "for most pictures",
        "ours: the loss weights of 'attention', coarse to fine from 362 px in place of a single "
        "scale: the best picture of 45 s on two cores (docs/quality.md)",
        seconds=43,
    ),
    "draft": Preset(
        Recipe(encoder="slim", scales="single", iterations=(18,)),
        "a first look",
        "ours: the best picture of 10 s on two cores (docs/quality.md)",
        seconds=10,
    ),
    "best": Preset(
        Recipe(iterations=(120,)),
        "the finest picture",
        "ours: the default with as many iterations as 5 minutes allow on two cores",
        seconds=300,
    ),
    "portrait": Preset(
        Recipe(scales="single", iterations=(35,)),
        "keeps faces",
        "ours: the default's time at the final size alone, where no coarse scale dissolves forms "
        "(docs/quality.md)",
        seconds=44,
    ),
    # Published settings name the encoder of their source, so that they mean the same everywhere.
    "attention": Preset(
        Recipe(encoder="vgg19", scales="single", iterations=(500,)),
        "as published",
        "Chen, Neural Style Transfer with Self-Attention Module, figure 1: alpha 1, beta 1e7, "
        "gamma 6e6 at conv4_1, 500 L-BFGS iterations from the content at 512 px, in VGG-19",
    ),
    "gatys": Preset(
        Recipe(encoder="vgg19", scales="single", iterations=(500,), gamma=0.0),
        "as published",
        "Gatys, Ecker & Bethge, CVPR 2016, with the weights of Chen's figure 1 at gamma 0: "
        "conv4_2 and conv1_1 to conv5_1 of VGG-19, average pooling, L-BFGS",
    ),
    "fine": Preset(
        Recipe(
            encoder="vgg19",
            gamma=0.0,
            style_loss="wasserstein",
            style_layers={f"relu{b}_1": 4.0 ** (5 - b) for b in range(1, 6)},
            tv=2.0,
            optimizer="adam",
            scales=(128, 181, 256, 362, 512),
            iterations=(1000, 500, 500, 500, 500),
        ),
        "as published",
        "crowsonkb/style-transfer-pytorch: VGG-19, scales from 128 px by sqrt(2), 1000 then 500 "
        "Adam iterations at 0.02, style weights 256:64:16:4:1, Wasserstein-2, average of iterates",
    ),
}


def described() -> str:
    """Name every preset with what it is for, for help texts.

    Presets of one purpose stand together.
    """
    names: dict[str, list[str]] = {}
    for name, one in PRESETS.items():
        names.setdefault(one.summary(), []).append(name)
    return "; ".join(f"{', '.join(several)} ({what})" for what, several in names.items())


class _Presets(dict[str, Recipe]):
    """The presets by name: a mapping to recipes.

    ``optistyle presets`` prints what each is for, and where its numbers come from.

    Raises:
        InputError: on an unknown name; the message suggests the nearest one.

    >>> import optistyle
    >>> sorted(optistyle.presets)
    ['attention', 'best', 'default', 'draft', 'fine', 'gatys', 'portrait']
    >>> optistyle.presets["gatys"].gamma
    0.0
    """

    def __missing__(self, name: str) -> Recipe:
        raise unknown("preset", name, self)


presets: Mapping[str, Recipe] = _Presets({name: one.recipe for name, one in PRESETS.items()})


def preset(name: str) -> Recipe:
    """Return the recipe of that name, or raise `InputError` with the nearest name."""
    return presets[name]
