"""Feed-forward models: the figures of reports 000, 001, 002 and 004, into docs/baselines/.

python examples/feed_forward.py [--only NAME …] [--size 512]

Photographs are scikit-image's, paintings our own; weights are those that come with the package and
its extra magenta.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from sheets import PAIRS, photograph
from torch import Tensor
from torch.nn import functional as F

from optistyle import Recipe, baselines, load_encoder, read, sheet, stylize, write
from optistyle.baselines import magenta
from optistyle.baselines.adjustable import CONTENT, LEVELS
from optistyle.baselines.base import Alpha, Baseline
from optistyle.baselines.paint import paint
from optistyle.baselines.teacher import Teacher
from optistyle.choices import WARM_STARTS
from optistyle.files import write_whole
from optistyle.pictures import Picture, plots, resize
from optistyle.sizes import fit_longer_side

ROOT = Path(__file__).parents[1]
#: The painting that the packaged adjustable network has learned.
ADJUSTABLE_STYLE = "swirls"


def painting(name: str) -> Picture:
    """One of our own paintings."""
    return read(ROOT / "examples" / "styles" / f"{name}.jpg")


def painted(
    model: Baseline,
    content: Tensor,
    styles: Sequence[str],
    size: int,
    *,
    shares: Sequence[float] | None = None,
    alpha: Alpha = 1.0,
) -> Tensor:
    """A photograph, (1, 3, H, W), in paintings of ours, its longer side ``size``."""
    at = fit_longer_side(content.shape[-2], content.shape[-1], size)
    looks = [painting(style) for style in styles]
    return paint(model, Picture(content), looks, at, shares=shares, alpha=alpha).pixels


def scaled(content: Tensor, size: int) -> Tensor:
    return resize(content, fit_longer_side(content.shape[-2], content.shape[-1], size))


def alphas(size: int, folder: Path) -> None:
    """Report 001, figure 5: strength."""
    steps = (0.0, 0.25, 0.5, 0.75, 1.0)
    rows = []
    for content, style in (PAIRS[1], PAIRS[0]):
        image, model = photograph(content), baselines.load("adain")
        rows.append(
            [scaled(image, size), *(painted(model, image, [style], size, alpha=a) for a in steps)]
        )
    names = ["content", *(f"alpha {a:g}" for a in steps)]
    write(folder / "alpha.jpg", sheet(rows, names), quality=88)


def four_styles(size: int, folder: Path) -> None:
    """Report 001, figure 6: four styles in the corners, mixtures between."""
    corners, steps = ("swirls", "cubist", "woodcut", "ink"), np.linspace(0, 1, 5)
    image = photograph("chelsea")
    model = baselines.load("adain")
    rows = [
        [
            painted(
                model,
                image,
                corners,
                size,
                shares=[(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y],
            )
            for x in steps
        ]
        for y in steps
    ]
    write(folder / "four-styles.jpg", sheet(rows), quality=88)


def models(size: int, folder: Path) -> None:
    """Reports 001 and 000: single against multi-level against attention, details magnified."""
    networks = {name: baselines.load(name) for name in WARM_STARTS}
    rows = []
    for content, style in PAIRS[:4]:
        image = photograph(content)
        whole = [scaled(image, size)]
        whole += [painted(model, image, [style], size) for model in networks.values()]
        look = painting(style).pixels
        rows.append([whole[0], scaled(look, size), *whole[1:]])
        rows.append([_detail(x) for x in (whole[0], scaled(look, size), *whole[1:])])
    write(folder / "models.jpg", sheet(rows, ["content", "style", *networks]), quality=86)


def _detail(image: Tensor) -> Tensor:
    """The middle quarter of an image's width and height, twice as large."""
    height, width = image.shape[-2:]
    top, left = height // 4, 3 * width // 8
    part = image[..., top : top + height // 4, left : left + width // 4]
    return F.interpolate(part, scale_factor=2, mode="nearest")


def numbers(size: int, folder: Path) -> None:
    """The numbered styles of magenta26."""
    image, labels = photograph(PAIRS[1][0]), ["content", *map(str, range(magenta.COUNT))]
    pictures = [scaled(image, size)]
    for number in range(magenta.COUNT):
        model = baselines.load("magenta26", numbers=[number])
        pictures.append(painted(model, image, [], size))
    starts = range(0, len(pictures), 9)
    rows = [pictures[i : i + 9] for i in starts]
    write(folder / "numbers.jpg", sheet(rows, [labels[i : i + 9] for i in starts]), quality=88)


def levels(size: int, folder: Path) -> None:
    """Report 000, its third claim: what shallow and deep features carry in AdaAttN."""
    model, rows = baselines.load("adaattn"), []
    choices: dict[str, Alpha] = {
        "none": 0.0,
        **{
            f"{x} alone": {level: float(level == x) for level in model.levels}
            for x in sorted(model.levels)
        },
        "all": 1.0,
    }
    for content, style in (PAIRS[1], PAIRS[3]):
        image = photograph(content)
        rows.append(
            [painted(model, image, [style], size, alpha=alpha) for alpha in choices.values()]
        )
    write(folder / "levels.jpg", sheet(rows, list(choices)), quality=88)


def gatys(size: int, folder: Path) -> None:
    """Report 004: the optimiser beside AdaIN, and the time for five pictures."""
    model, encoder = baselines.load("adain"), load_encoder("slim")
    recipe = Recipe(size=size, iterations=80, gamma=0.0)
    ways: dict[str, Callable[[Tensor, str], Tensor]] = {
        "AdaIN": lambda image, style: painted(model, image, [style], size),
        "optimiser, gamma 0": lambda image, style: (
            stylize(image, painting(style), recipe, encoder=encoder, progress=False).image
        ),
    }
    rows, seconds = [], dict.fromkeys(ways, 0.0)
    for content, style in PAIRS[:5]:
        image = photograph(content)
        row = [scaled(image, size), scaled(painting(style).pixels, size)]
        for name, way in ways.items():
            started = time.perf_counter()
            row.append(way(image, style))
            seconds[name] += time.perf_counter() - started
        rows.append(row)
    write(folder / "gatys.jpg", sheet(rows, ["content", "style", *ways]), quality=86)
    _note(folder / "gatys.json", {"pictures": len(rows), "size": size, "seconds": seconds})


def adjustable(size: int, folder: Path) -> None:
    """Report 002: single and combined layers, no style at all, and spots of noise."""
    model, rows = baselines.load("adjustable"), []
    image = scaled(photograph("chelsea"), size)
    rows.append([image, *(painted(model, image, [], size, alpha=a) for a in (0.0, 0.5, 1.0))])
    names = [["content", *(f"all {a:g}" for a in (0, 0.5, 1))]]
    for layer in LEVELS:
        steps = (0.25, 0.5, 0.75, 1.0)
        alone = [{x: a * (x == layer) for x in LEVELS} for a in steps]
        rows.append([painted(model, image, [], size, alpha=alpha) for alpha in alone])
        names.append([f"{layer} {a:g}" for a in steps])
    pairs = [(a, b) for i, a in enumerate(LEVELS) for b in LEVELS[i + 1 :]]
    both = [{x: float(x in pair) for x in LEVELS} for pair in pairs]
    rows.append([painted(model, image, [], size, alpha=alpha) for alpha in both])
    names.append([" + ".join(pair) for pair in pairs])
    write(folder / "adjustable.jpg", sheet(rows, names), quality=88)

    spots = {"as it is": image, **spotted(image)}
    plain = painted(model, image, [], size)
    shown = [list(spots.values()), [painted(model, x, [], size) for x in spots.values()]]
    write(folder / "noise.jpg", sheet(shown, list(spots)), quality=88)
    changes = {
        name: float((painted(model, x, [], size) - plain).square().mean().sqrt())
        for name, x in spots.items()
    }
    _note(folder / "noise.json", {"rms change of the output": changes})


def spotted(image: Tensor) -> dict[str, Tensor]:
    """A few black points, the same blurred, and larger spots (report 002, section 3.3)."""
    generator = torch.Generator().manual_seed(0)
    height, width = image.shape[-2:]

    def mask(side: int) -> Tensor:
        field = torch.ones(1, 1, height, width)
        for _ in range(8):
            y, x = (int(torch.randint(n - side, (), generator=generator)) for n in (height, width))
            field[..., y : y + side, x : x + side] = 0
        return field

    points = mask(1)
    axis = torch.arange(-6.0, 7.0)
    bell = torch.exp(-axis.square() / 8)
    kernel = (bell[:, None] * bell) / bell.sum() ** 2
    blurred = F.conv2d(F.pad(points, (6,) * 4, value=1.0), kernel[None, None])
    return {
        "8 black points": image * points,
        "8 points, blurred": image * blurred,
        "8 black spots of 12 px": image * mask(12),
    }


def layer_losses(size: int, folder: Path) -> None:
    """Report 002, figure 3: the loss of each layer against its alpha, others at 0 and at 1."""
    model, encoder = baselines.load("adjustable"), load_encoder("slim")
    look = painting(ADJUSTABLE_STYLE).pixels
    teacher = Teacher.of(encoder, look, CONTENT, LEVELS)
    steps = np.linspace(0, 1, 11)
    names = ("astronaut", "chelsea", "coffee", "rocket")
    contents = [scaled(photograph(name), size) for name in names]
    figure, axes = plots.axes(1, 2, 4.5, 3.4)
    found: dict[str, dict[str, list[float]]] = {}
    for axis, others in zip(axes[0], (0.0, 1.0), strict=True):
        curves = found.setdefault(f"others {others:g}", {})
        for layer in LEVELS:
            curves[layer] = []
            for step in steps:
                alpha = {x: float(step) if x == layer else others for x in LEVELS}
                losses = [
                    float(teacher.losses(painted(model, c, [], size, alpha=alpha), c)[layer])
                    for c in contents
                ]
                curves[layer].append(float(np.mean(losses)))
            start = curves[layer][0]
            axis.plot(steps, [x / start for x in curves[layer]], label=layer, marker=".")
        axis.set_xlabel("alpha_s of the layer")
        axis.set_ylabel("its loss, over that at 0")
        axis.set_title(f"others at {others:g}")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.legend()
    plots.save(figure, folder / "layer-losses.png")
    _note(folder / "layer-losses.json", {"alpha": steps.tolist(), **found})


def johnson(size: int, folder: Path) -> None:
    """The packaged network, and the painting it has learned."""
    model = baselines.load("johnson")
    images = [photograph(name) for name in ("astronaut", "chelsea", "coffee")]
    row = [painted(model, image, [], size) for image in images]
    write(folder / "johnson.jpg", sheet([row]), quality=88)


def _note(path: Path, facts: Mapping[str, object]) -> None:
    write_whole(path, (json.dumps(facts, indent=1) + "\n").encode())


FIGURES: Mapping[str, Callable[[int, Path], None]] = {
    "alpha": alphas,
    "four-styles": four_styles,
    "models": models,
    "levels": levels,
    "gatys": gatys,
    "numbers": numbers,
    "adjustable": adjustable,
    "layer-losses": layer_losses,
    "johnson": johnson,
}
#: Longer sides in px; those of one picture among many are smaller.
SIZES = {
    "alpha": 320,
    "four-styles": 256,
    "models": 384,
    "levels": 320,
    "numbers": 256,
    "adjustable": 320,
    "layer-losses": 256,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(FIGURES), choices=list(FIGURES))
    parser.add_argument("--size", type=int, help="one longer side for all figures")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "baselines")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        FIGURES[name](options.size or SIZES.get(name, 512), options.output)
        print(options.output, name)


if __name__ == "__main__":
    main()
