"""Every setting of a run, its default and its help, in one place; and published settings by name.

`Recipe`'s fields are what `stylize` takes, what the command line offers as options, and what
the manifest records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from optistyle.devices import PRECISIONS
from optistyle.encoders import ENCODERS, layers
from optistyle.encoders.kernels import CHOICES as KERNELS
from optistyle.encoders.vgg import PADDINGS, POOLINGS
from optistyle.errors import InputError, unknown
from optistyle.images import fit_longer_side
from optistyle.losses.attention import CENTRES
from optistyle.losses.pixels import TV_FORMS
from optistyle.solvers import SOLVERS
from optistyle.statistics import MOST_KEYS

SMALLEST, LARGEST = 16, 32_768  # pixels of the longer side
#: Where coarse-to-fine starts: the strokes of the picture are laid at this longer side.
FIRST_SCALE = 256
COLOR_MODES = ("luminance", "histogram", "covariance")
#: Feed-forward models of any style, whose picture a run can start from.
WARM_STARTS = ("adain", "multiadain", "sanet", "adaattn")
INITS = ("content", "style", "noise", "grey", *WARM_STARTS)
STYLE_LOSSES = ("gram", "wasserstein")
ATTENTION_FORMS = ("gram", "local")
ATTENTIONS = ("sampled", "exact")
ORIGINAL = "original"
#: Settings that are a whole number or one of some words.
CHOSEN: Mapping[str, tuple[str, ...]] = {"history": ("auto",), "tile": ("auto", "off")}


def _setting(
    default: Any, group: str, help: str, *, choices: tuple[str, ...] = (), metavar: str = ""
) -> Any:
    notes = {"group": group, "help": help, "choices": choices, "metavar": metavar}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=notes)
    return field(default=default, metadata=notes)


@dataclass(frozen=True)
class Recipe:
    """The settings of a run. Wrong ones raise `InputError`, here and not half an hour later."""

    alpha: float = _setting(1.0, "Loss", "Weight of the content loss.")
    beta: float = _setting(1e7, "Loss", "Weight of the style loss.")
    gamma: float = _setting(
        6e6, "Loss", "Weight of the attention loss: local detail from matching places; 0 is Gatys."
    )
    tv: float = _setting(0.0, "Loss", "Weight of total variation: smoothness.")
    range: float = _setting(1e5, "Loss", "Weight on pixels outside [0, 1]; 0 lets L-BFGS leave it.")
    content_layers: Mapping[str, float] = _setting(
        {"relu4_2": 1.0}, "Loss", "Layers of the content loss, weighted: relu4_2:2,relu3_1."
    )
    style_layers: Mapping[str, float] = _setting(
        dict.fromkeys(layers.BLOCK_STARTS, 1.0), "Loss", "Layers of the style loss, weighted."
    )
    attention_layers: Mapping[str, float] = _setting(
        {"relu4_1": 1.0}, "Loss", "Layers of the attention loss, weighted."
    )
    style_loss: str = _setting(
        "gram",
        "Loss",
        "Gram matrices, or Wasserstein-2 of mean and covariance.",
        choices=STYLE_LOSSES,
    )
    attention_form: str = _setting(
        "gram", "Loss", "Attended style as Gram matrix, or place by place.", choices=ATTENTION_FORMS
    )
    centre: str = _setting(
        "both", "Loss", "What the attention loss takes about its mean.", choices=CENTRES
    )
    attention: str = _setting(
        "sampled",
        "Loss",
        f"Style positions looked at: {MOST_KEYS} of a layer at most, or exactly all.",
        choices=ATTENTIONS,
    )
    tv_form: str = _setting("squared", "Loss", "Form of total variation.", choices=TV_FORMS)

    style_weights: tuple[float, ...] = _setting(
        (), "Style", "Share of each STYLE, relative: 2,1. Equal unless given.", metavar="W,W,…"
    )
    style_scale: float = _setting(
        1.0, "Style", "Size of the style image relative to the picture: 0.5 makes finer strokes."
    )
    original_colors: str | None = _setting(
        None, "Style", "Keep the content's colours, by this method.", choices=COLOR_MODES
    )

    size: int | str = _setting(
        512, "Optimisation", "Longer side of the picture in pixels, or 'original'.", metavar="PX"
    )
    iterations: tuple[int, ...] = _setting(
        (80,),
        "Optimisation",
        "Iterations: the last scale's, or one number per scale.",
        metavar="N[,N…]",
    )
    scales: tuple[int, ...] | str = _setting(
        "auto",
        "Optimisation",
        f"Longer sides from coarse to fine; auto: from {FIRST_SCALE} px by sqrt(2); or single.",
        metavar="auto|single|PX,PX…",
    )
    optimizer: str = _setting(
        "lbfgs", "Optimisation", "How the picture is optimised.", choices=tuple(SOLVERS)
    )
    lr: float | None = _setting(
        None, "Optimisation", "Step size. L-BFGS takes 1, Adam 0.02 unless given."
    )
    history: int | str = _setting(
        "auto",
        "Optimisation",
        "Steps that L-BFGS remembers at the least: auto is 5, or fewer where memory is short.",
        metavar="auto|N",
    )
    tile: int | str = _setting(
        "auto",
        "Optimisation",
        "Longer side of the tiles the picture is worked in, the same as whole but for memory: "
        "auto where it needs them, or off.",
        metavar="auto|off|PX",
    )
    init: str = _setting(
        "content",
        "Optimisation",
        f"Where to start; {', '.join(WARM_STARTS)}: from what that model paints.",
        metavar="|".join((*INITS, "FILE")),
    )
    seed: int = _setting(0, "Optimisation", "Seed of --init noise.")

    encoder: str = _setting(
        "auto", "Encoder", "auto is vgg19 on a GPU and slim on a CPU.", choices=ENCODERS
    )
    weights: str | None = _setting(
        None, "Encoder", "A VGG-19 weights file in place of the encoder's own.", metavar="FILE"
    )
    pooling: str = _setting("average", "Encoder", "How blocks shrink.", choices=tuple(POOLINGS))
    padding: str = _setting("reflect", "Encoder", "At the borders.", choices=PADDINGS)
    precision: str = _setting(
        "float32",
        "Encoder",
        "Of the convolutions: tf32 (NVIDIA GPUs) and bfloat16, or bf16, are faster where the "
        "hardware has them.",
        choices=tuple(PRECISIONS),
    )
    kernels: str = _setting(
        "auto",
        "Encoder",
        "Of convolutions on a CPU: torch's, or Winograd's, the same but for rounding; auto: what "
        "is faster here.",
        choices=KERNELS,
    )
    device: str = _setting("auto", "Encoder", "auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE")

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma", "tv", "range"):
            number = getattr(self, name)
            if not (math.isfinite(number) and number >= 0):
                raise InputError(f"{name} is {number}; it must be a number of 0 or more")
        for name in ("content_layers", "style_layers", "attention_layers"):
            object.__setattr__(self, name, layers.check(getattr(self, name)))
        if self.precision == "bf16":
            object.__setattr__(self, "precision", "bfloat16")
        for setting in fields(self):
            choices, given = setting.metadata["choices"], getattr(self, setting.name)
            if choices and given is not None and given not in choices:
                raise unknown(setting.name.replace("_", " "), str(given), choices)
        for name in ("style_scale", "lr"):
            number = getattr(self, name)
            if number is not None and not (math.isfinite(number) and number > 0):
                raise InputError(f"{name} is {number}; it must be a number above 0")
        if any(not (math.isfinite(w) and w >= 0) for w in self.style_weights) or (
            self.style_weights and sum(self.style_weights) == 0
        ):
            raise InputError(
                f"style weights {self.style_weights}: each must be a number of 0 or more, not all 0"
            )
        if self.size != ORIGINAL:
            _check_side("size", self.size)
        if not self.iterations or any(n < 1 for n in self.iterations):
            raise InputError(f"iterations {self.iterations}: each must be 1 or more")
        if isinstance(self.scales, str):
            if self.scales not in ("auto", "single"):
                raise unknown("scales", self.scales, ("auto", "single", "256,362,512"))
        elif not self.scales:
            raise InputError("no scale is given; write auto, single or for example 256,362,512")
        else:
            for side in self.scales:
                _check_side("scale", side)
            if list(self.scales) != sorted(set(self.scales)):
                raise InputError(f"scales {self.scales} must grow from one to the next")
        for name, words in CHOSEN.items():
            value = getattr(self, name)
            if value not in words and not (isinstance(value, int) and value >= 1):
                raise InputError(
                    f"{name} is {value}; it must be {', '.join(words)} or a whole number above 0"
                )
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}; it must be from 0 to 2**63 - 1")

    def shares(self, styles: int) -> list[float]:
        """Each style's share of the style, sum 1."""
        weights = self.style_weights or (1.0,) * styles
        if len(weights) != styles:
            raise InputError(
                f"{len(weights)} style weights for {styles} style image{'s' * (styles != 1)}; "
                "give one for each"
            )
        return [weight / sum(weights) for weight in weights]

    def schedule(self, height: int, width: int) -> list[tuple[tuple[int, int], int]]:
        """(H, W) and iterations of every scale, coarse to fine, for a content of that size."""
        longer = max(height, width) if self.size == ORIGINAL else int(self.size)
        _check_side("size", longer)
        if self.scales == "single":
            sides = [longer]
        elif self.scales == "auto":
            doublings = max(0.0, math.log2(longer / FIRST_SCALE))
            count = round(2 * doublings)
            sides = [round(longer / math.sqrt(2) ** k) for k in range(count, -1, -1)]
            # A panorama starts at the first scale that leaves enough of its shorter side.
            wide = [s for s in sides if min(fit_longer_side(height, width, s)) >= SMALLEST]
            sides = wide or [longer]
        else:
            sides = [int(side) for side in self.scales]
            if sides[-1] != longer and self.size != Recipe.size:
                raise InputError(f"the last scale is {sides[-1]} px, but --size is {longer} px")
        if len(self.iterations) > 1 and len(self.iterations) != len(sides):
            raise InputError(
                f"{len(self.iterations)} iteration counts for {len(sides)} scales "
                f"({', '.join(map(str, sides))} px); give one, or one for each scale"
            )
        counts = list(self.iterations)
        if len(counts) == 1:
            # The coarsest scale lays the strokes, and is cheap: most of the work is done there.
            last = counts[0]
            middle = [round(1.25 * last)] * (len(sides) - 2)
            counts = [round(2.5 * last), *middle, last] if len(sides) > 1 else [last]
        sizes = [fit_longer_side(height, width, side) for side in sides]
        for h, w in sizes[:1]:
            if min(h, w) < SMALLEST:
                raise InputError(
                    f"at {sides[0]} px the picture is {w}x{h}; its shorter side must be at least "
                    f"{SMALLEST} px: raise --size, or choose --scales"
                )
        return list(zip(sizes, counts, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; the inverse of `from_dict`."""
        plain = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        known = {setting.name for setting in fields(cls)}
        if strange := sorted(set(values) - known):
            raise unknown("setting", strange[0], known)
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**settings)


def _check_side(what: str, side: int | str) -> None:
    if not isinstance(side, int) or not SMALLEST <= side <= LARGEST:
        raise InputError(f"{what} {side}: allowed are {SMALLEST} to {LARGEST} px, or 'original'")


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


def preset(name: str) -> Recipe:
    """The recipe of that name."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name].recipe


def changed(base: Recipe, given: Mapping[str, Any]) -> Recipe:
    """The base with other settings: typed values, or texts as the command line takes them.

    Raises:
        InputError: a setting that is not one, or a value that cannot be used.
    """
    known = {setting.name: setting for setting in fields(Recipe)}
    changes = {}
    for name, value in given.items():
        if name not in known:
            raise unknown("setting", name, known)
        if isinstance(value, str) and name in PARSERS:
            value = PARSERS[name](value)
        elif isinstance(value, list):
            value = tuple(value)
        number = isinstance(known[name].default, float) or name == "lr"
        if number and not (value is None and name == "lr"):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(f"{name} is {value!r}; it must be a number")
            value = float(value)
        changes[name] = value
    try:
        return replace(base, **changes)
    except (TypeError, AttributeError) as error:
        shown = ", ".join(f"{name} = {value!r}" for name, value in given.items())
        raise InputError(f"the settings {shown} cannot be used: {error}") from error


def spell(value: Any) -> str:
    """A setting's value as the command line takes it."""
    if isinstance(value, Mapping):
        return layers.spell(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(kind: type[int] | type[float]) -> Callable[[str], tuple[Any, ...]]:
    def read(text: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in text.split(","))
        except ValueError:
            raise InputError(f"{text!r} is not numbers with commas between them") from None

    return read


def _whole(*words: str) -> Callable[[str], int | str]:
    def read(text: str) -> int | str:
        try:
            return text if text in words else int(text)
        except ValueError:
            raise InputError(
                f"{text!r} is not a whole number, nor {', '.join(map(repr, words))}"
            ) from None

    return read


#: Setting -> how to read its text on the command line, where it is not a plain number or word.
PARSERS: Mapping[str, Callable[[str], Any]] = {
    "content_layers": layers.parse,
    "style_layers": layers.parse,
    "attention_layers": layers.parse,
    "style_weights": _numbers(float),
    "iterations": _numbers(int),
    "size": _whole(ORIGINAL),
    **{name: _whole(*words) for name, words in CHOSEN.items()},
    "scales": lambda text: text if text.isalpha() else _numbers(int)(text),
}
