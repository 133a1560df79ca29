"""Every setting of a run, its default and its help, in one place.

`Recipe`'s fields are what `stylize` takes, what the command line offers as options, and what
the manifest records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields, replace
from typing import Any

from optistyle import layers
from optistyle.choices import (
    ATTENTION_FORMS,
    ATTENTIONS,
    CENTRES,
    COLOR_MODES,
    ENCODERS,
    INITS,
    KERNELS,
    MOST_KEYS,
    PADDINGS,
    POOLINGS,
    PRECISIONS,
    SOLVERS,
    STYLE_LOSSES,
    TV_FORMS,
    WARM_STARTS,
)
from optistyle.errors import InputError, unknown
from optistyle.settings import (
    Layers,
    Number,
    Setting,
    Several,
    Text,
    Whole,
    Word,
    setting,
    spell,
)
from optistyle.sizes import LARGEST, SMALLEST, fit_longer_side

#: Where coarse-to-fine starts: the strokes of the picture are laid at this longer side. At 256 px
#: faces and skylines dissolve, and the style is no nearer (docs/quality.md).
FIRST_SCALE = 362
#: A style scale above 1 lowers it: it is divided by this power of the style scale.
STYLE_POWER = 1.5
#: The least that a style scale above 1 lowers it to.
LEAST_FIRST_SCALE = 64
#: The longer side of the result, in pixels, unless another is asked for; a smaller photograph is
#: not enlarged.
USUAL_SIZE = 512
ORIGINAL, OFF = "original", "off"
#: How far a picture goes from the photograph, in words: factors of the default ``beta``.
STRENGTHS: Mapping[str, float] = {"soft": 0.1, "balanced": 1.0, "bold": 10.0}
#: How many of a painting's larger strokes, side by side, make its longer side: measured on eleven
#: paintings (docs/strokes.md).
STROKES = 32

_SIDE = Whole(SMALLEST, LARGEST, unit="px")


@dataclass(frozen=True)
class Recipe:
    """The settings of a run, checked when the recipe is made.

    Where a setting takes several numbers or layers, one number or a list of names is enough.
    ``dataclasses.replace`` makes a recipe with other settings. On the command line each setting is
    an option of the same name.

    Raises:
        InputError: a value that is not allowed, or settings that contradict each other.

    >>> import optistyle
    >>> recipe = optistyle.Recipe(size=768, iterations=100, attention_layers=["relu3_1"])
    >>> recipe.iterations
    (100,)
    >>> recipe.attention_layers
    {'relu3_1': 1.0}
    """

    alpha: float = setting(1.0, Number(least=0), "Loss", "Weight of the content loss.")
    beta: float = setting(1e7, Number(least=0), "Loss", "Weight of the style loss.")
    gamma: float = setting(
        6e6,
        Number(least=0),
        "Loss",
        "Weight of the attention loss, which copies local detail between places that resemble "
        "each other. 0 leaves it out, as in Gatys et al.",
        common=True,
    )
    tv: float = setting(
        0.0,
        Number(least=0),
        "Loss",
        "Weight of the total variation loss, which smooths.",
    )
    range: float = setting(
        1e5, Number(least=0), "Loss", "Weight of the out-of-range penalty. 0 turns it off."
    )
    content_layers: Mapping[str, float] = setting(
        {"relu4_2": 1.0}, Layers(), "Loss", "Layers of the content loss with their weights."
    )
    style_layers: Mapping[str, float] = setting(
        dict.fromkeys(layers.BLOCK_STARTS, 1.0),
        Layers(),
        "Loss",
        "Layers of the style loss with their weights.",
    )
    attention_layers: Mapping[str, float] = setting(
        {"relu4_1": 1.0}, Layers(), "Loss", "Layers of the attention loss with their weights."
    )
    style_loss: str = setting(
        "gram",
        Word(STYLE_LOSSES),
        "Loss",
        "What the style loss compares: Gram matrices, or means and covariances by their "
        "Wasserstein-2 distance.",
    )
    attention_form: str = setting(
        "gram",
        Word(ATTENTION_FORMS),
        "Loss",
        "What the attention loss compares with the attended style: Gram matrices, or every "
        "position (local).",
    )
    centre: str = setting(
        "both",
        Word(CENTRES),
        "Loss",
        "Which features the attention loss centres: both, none, or only the target's.",
    )
    attention: str = setting(
        "sampled",
        Word(ATTENTIONS),
        "Loss",
        f"How many style positions attention reads at a layer: at most {MOST_KEYS}, or all "
        "(exact).",
    )
    tv_form: str = setting(
        "squared", Word(TV_FORMS), "Loss", "Whether total variation adds squares or magnitudes."
    )

    style_weights: tuple[float, ...] = setting(
        (),
        Several(Number(least=0), empty="equal"),
        "Style",
        "Relative share of each STYLE, as in 2,1.",
        common=True,
    )
    style_scale: float = setting(
        1.0,
        Number(above=0),
        "Style",
        "Size of the style image relative to the picture, and so of the strokes. 0.5 makes finer "
        "strokes, 2 larger ones; above 1, --scales auto starts that many times lower.",
    )
    original_colors: str = setting(
        OFF,
        Word((OFF, *COLOR_MODES), {None: OFF}),
        "Style",
        "Keep the photograph's colours. luminance, the recommended method, gives the result the "
        "photograph's colour at every pixel. histogram and covariance recolour the painting "
        "before the run: strokes then have colours of the photograph, but not always in its "
        "places. covariance keeps the painting's harmony, histogram follows the photograph more "
        "closely.",
        common=True,
    )

    size: int | str = setting(
        "auto",
        Whole(SMALLEST, LARGEST, ("auto", ORIGINAL), unit="px"),
        "Optimisation",
        f"Longer side of the result in pixels. auto is the last of --scales, else {USUAL_SIZE}, or "
        "the photograph's where that is smaller. original is the photograph's.",
        common=True,
    )
    iterations: tuple[int, ...] = setting(
        (14,),
        Several(Whole()),
        "Optimisation",
        "Iterations of the last scale; the first gets 2.5 times as many, those between 1.25 times. "
        "Or one number for each scale. More take longer, and bring the picture further from the "
        "photograph.",
        common=True,
    )
    scales: tuple[int, ...] | str = setting(
        "auto",
        Several(_SIDE, words=("auto", "single")),
        "Optimisation",
        f"Longer sides from coarse to fine. auto starts at {FIRST_SCALE} px (lower for a style "
        "scale above 1) and grows by sqrt(2): the coarse first scale makes large strokes and "
        "dissolves forms. single paints at the final size only, which keeps faces and makes "
        "smaller strokes.",
    )
    optimizer: str = setting("lbfgs", Word(SOLVERS), "Optimisation", "L-BFGS or Adam.")
    lr: float | None = setting(
        None,
        Number(above=0, word="auto"),
        "Optimisation",
        "Step size. auto is 1 for L-BFGS and 0.02 for Adam.",
    )
    history: int | str = setting(
        "auto",
        Whole(1, words=("auto",)),
        "Optimisation",
        "The fewest steps that L-BFGS remembers. auto is 5, or fewer where memory is short.",
    )
    tile: int | str = setting(
        "auto",
        Whole(1, words=("auto", OFF), unit="px"),
        "Optimisation",
        "Compute in tiles of this longer side: the same result in less memory. auto uses tiles "
        "where the whole picture does not fit.",
    )
    init: str = setting(
        "content",
        Text("|".join((*INITS, "FILE"))),
        "Optimisation",
        f"Where to start. {', '.join(WARM_STARTS)} start from the picture of that model.",
    )
    seed: int = setting(
        0, Whole(0, 2**63 - 1), "Optimisation", "Seed of the noise that --init noise starts from."
    )

    encoder: str = setting(
        "auto",
        Word(ENCODERS),
        "Encoder",
        "The network whose features are compared. auto is the best one whose weights are here: "
        "vgg19, vgg19-torchvision, or slim, which is packaged, faster, and paints less well.",
        common=True,
    )
    weights: str | None = setting(
        None, Text("FILE", word="packaged"), "Encoder", "A file of VGG-19 weights to use instead."
    )
    pooling: str = setting("average", Word(POOLINGS), "Encoder", "Pooling between blocks.")
    padding: str = setting("reflect", Word(PADDINGS), "Encoder", "Padding at the borders.")
    precision: str = setting(
        "float32",
        Word(tuple(PRECISIONS), {"bf16": "bfloat16"}),
        "Encoder",
        "Precision of the convolutions. bfloat16, or bf16, and tf32 (NVIDIA GPUs) are faster "
        "where the hardware has them.",
    )
    kernels: str = setting(
        "auto",
        Word(KERNELS),
        "Encoder",
        "How a CPU computes convolutions: by torch, or by Winograd's algorithm, which differs by "
        "rounding. auto is the faster one.",
    )
    device: str = setting(
        "auto",
        Text("auto|cpu|cuda|cuda:N|mps"),
        "Encoder",
        "Where to compute. auto is a GPU where there is one.",
    )

    def __post_init__(self) -> None:
        for name, own in settings().items():
            object.__setattr__(self, name, own.kind.check(name, getattr(self, name)))
        if self.style_weights and sum(self.style_weights) == 0:
            raise InputError(f"style weights {spell(self.style_weights)}: not all of them can be 0")
        sides = () if isinstance(self.scales, str) else self.scales
        if list(sides) != sorted(set(sides)):
            raise InputError(f"scales {spell(sides)} must grow from one to the next")
        if sides and isinstance(self.size, int) and sides[-1] != self.size:
            raise InputError(
                f"the last scale is {sides[-1]} px, but the size is {self.size} px: leave one out, "
                "or make them equal"
            )

    def shares(self, styles: int) -> list[float]:
        """Return each painting's share of the style; they sum to 1."""
        weights = self.style_weights or (1.0,) * styles
        if len(weights) != styles:
            raise InputError(
                f"style weights: got {len(weights)} for {styles} style image{'s' * (styles != 1)}; "
                "give one for each"
            )
        return [weight / sum(weights) for weight in weights]

    def schedule(self, height: int, width: int) -> list[tuple[tuple[int, int], int]]:
        """Return (H, W) and iterations of every scale, coarse to fine, for a photograph's size."""
        sides = self.sides(height, width)
        if len(self.iterations) > 1 and len(self.iterations) != len(sides):
            raise InputError(
                f"iterations: got {len(self.iterations)} for {len(sides)} scales "
                f"({spell(tuple(sides))} px); give one, or one for each scale"
            )
        counts = list(self.iterations)
        if len(counts) == 1:
            # The coarsest scale lays the strokes, and is cheap: most of the work is done there.
            last = counts[0]
            middle = [round(1.25 * last)] * (len(sides) - 2)
            counts = [round(2.5 * last), *middle, last] if len(sides) > 1 else [last]
        sizes = [fit_longer_side(height, width, side) for side in sides]
        smallest = sizes[0]
        if min(smallest) < SMALLEST:
            raise InputError(
                f"at {sides[0]} px the picture is {smallest[1]}x{smallest[0]}; its shorter side "
                f"must be at least {SMALLEST} px: raise --size, or choose --scales"
            )
        return list(zip(sizes, counts, strict=True))

    def sides(self, height: int, width: int) -> list[int]:
        """The longer side at every scale."""
        if not isinstance(self.scales, str):
            if self.size == ORIGINAL and self.scales[-1] != max(height, width):
                raise InputError(
                    f"the last scale is {self.scales[-1]} px, but the photograph's longer side is "
                    f"{max(height, width)} px: leave out --size original, or change --scales"
                )
            return list(self.scales)
        own = max(height, width)
        longer = {"auto": min(USUAL_SIZE, own), ORIGINAL: own}.get(str(self.size), self.size)
        longer = int(_SIDE.check("size", longer))
        if self.scales == "single":
            return [longer]
        # Large strokes form only where the receptive fields of the deepest layers cover them.
        first = max(LEAST_FIRST_SCALE, FIRST_SCALE / max(1.0, self.style_scale) ** STYLE_POWER)
        doublings = max(0.0, math.log2(longer / first))
        count = round(2 * doublings)
        sides = [round(longer / math.sqrt(2) ** k) for k in range(count, -1, -1)]
        # A panorama starts at the first scale that leaves enough of its shorter side.
        wide = [s for s in sides if min(fit_longer_side(height, width, s)) >= SMALLEST]
        return wide or [longer]

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values; the inverse of `from_dict`."""
        plain = {name: getattr(self, name) for name in settings()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `as_dict` described.

        Raises:
            InputError: a name that is no setting, or a value that is not allowed.
        """
        if strange := sorted(set(values) - set(settings())):
            raise unknown("setting", strange[0], settings())
        return cls(**values)


def settings() -> dict[str, Setting]:
    """Every setting by name, in the recipe's order."""
    return {one.name: of(one) for one in fields(Recipe)}


def of(one: Field[Any]) -> Setting:
    """The setting that a field of `Recipe` carries."""
    carried: Setting = one.metadata["setting"]
    return carried


def changed(base: Recipe, given: Mapping[str, Any]) -> Recipe:
    """The base with other settings: typed values, or texts as the command line takes them.

    Raises:
        InputError: a setting that is not one, or a value that cannot be used.
    """
    known, changes = settings(), {}
    for name, value in given.items():
        if name not in known:
            raise unknown("setting", name, known)
        if isinstance(value, str):
            value = known[name].kind.parse(name, value)
        changes[name] = value
    return replace(base, **changes)


def style_weight(strength: str) -> float:
    """``beta`` for a strength: a word of `STRENGTHS`, or a factor of the default as text.

    >>> style_weight("bold") / style_weight("0.5")
    20.0
    """
    factor = STRENGTHS.get(strength)
    if factor is None:
        try:
            factor = float(strength)
        except ValueError:
            factor = 0.0
    if not 0 < factor < math.inf:
        words = ", ".join(STRENGTHS)
        raise InputError(f"strength is {strength!r}; give {words}, or a number above 0")
    return factor * Recipe().beta


def with_stroke(recipe: Recipe, px: float, height: int, width: int) -> Recipe:
    """The recipe whose larger strokes are about ``px`` wide in the result.

    At style scale 1 they are about L / `STROKES` wide in a result of longer side L (measured:
    docs/strokes.md). So the style scale is px x `STROKES` / L, and the scales are ``auto``, whose
    first one follows a style scale above 1.

    Args:
        recipe: its scales and its style scale are replaced.
        px: L / 256 to L / 8.
        height, width: of the photograph.

    Raises:
        InputError: a width outside these bounds.

    >>> with_stroke(Recipe(size=512), 32, 300, 400).style_scale
    2.0
    """
    longer = recipe.sides(height, width)[-1]
    least, most = longer / STROKES / 8, longer / STROKES * 4
    if not least <= px <= most:
        raise InputError(
            f"stroke is {px:g} px; give {least:g} to {most:g} px for a result of {longer} px"
        )
    size = recipe.size if isinstance(recipe.scales, str) else longer
    return replace(recipe, size=size, scales="auto", style_scale=px * STROKES / longer)
