"""``optistyle baseline``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from optistyle.choices import COLOR_MODES
from optistyle.cli import options
from optistyle.errors import InputError, unknown
from optistyle.recipes import Recipe


@click.command()
@click.argument("model")
@click.argument("content", type=click.Path(path_type=Path), required=False)
@click.argument("styles", metavar="STYLE...", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("out.png"),
    help="PNG, JPEG, WebP or TIFF.  [out.png]",
)
@options.force
@options.strip
@click.option("--alpha", type=float, default=1.0, help="Strength, 0 to 1.  [1]")
@click.option(
    "--level-alpha",
    metavar="LAYER:A,...",
    help="Strength by level: relu4_1:1,relu3_1:0.5; others have --alpha.",
)
@click.option(
    "--alpha-s", metavar="A,A,A", help="adjustable: strength at relu2_2, relu3_4 and relu4_4."
)
@click.option(
    "--style-number", metavar="N,...", help="magenta26: the style, 0 to 25, or several to blend."
)
@click.option("--style-weights", metavar="W,W,...", help="Share of each style, relative.  [equal]")
@click.option(
    "--original-colors",
    metavar="|".join(COLOR_MODES),
    help="Keep the content's colours, by this method.",
)
@click.option(
    "--size",
    default="auto",
    help="Longer side in pixels, or original.  [512, or the photograph's where that is smaller]",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A file of optistyle train, or published files, or their folder; repeatable.",
)
@click.option("--device", default="auto", help="As in run.  [auto]")
def baseline(
    model: str,
    content: Path | None,
    styles: tuple[Path, ...],
    output: Path,
    force: bool,
    strip: bool | None,
    alpha: float,
    level_alpha: str | None,
    alpha_s: str | None,
    style_number: str | None,
    weights: tuple[Path, ...],
    device: str,
    **given: Any,
) -> None:
    """Paint CONTENT in one pass of a feed-forward MODEL; or list the models.

    \b
    optistyle baseline adain photo.jpg painting.jpg --alpha 0.7
    optistyle baseline sanet photo.jpg one.jpg two.jpg --style-weights 2,1
    optistyle baseline johnson photo.jpg --weights rain_princess.pth
    optistyle baseline magenta26 photo.jpg --style-number 7
    optistyle baseline list
    """
    from optistyle import baselines, pictures
    from optistyle.machine.devices import resolve
    from optistyle.run.baseline import baseline as paint

    if model == "list":
        for line in _models():
            click.echo(line)
        return
    if content is None or (baselines.named(model).takes_paintings and not styles):
        raise InputError("give a CONTENT image and one or more STYLE images")
    recipe = options.recipe(Recipe(scales="single"), given)
    pictures.check_writable(output, inputs=[content, *styles, *weights])
    options.refuse_existing([output], force)
    numbers = _numbers(style_number)
    network = baselines.load(model, files=weights, numbers=numbers, device=resolve(device))
    painted = paint(
        network,
        content,
        styles,
        strength=_strength(alpha, level_alpha, alpha_s, network.levels),
        style_weights=recipe.style_weights,
        size=recipe.size,
        original_colors=recipe.original_colors,
    )
    pictures.write(output, painted.stripped() if strip else painted)
    click.echo(output)


def _models() -> Iterator[str]:
    from optistyle import baselines

    for name, entry in baselines.MODELS.items():
        path = baselines.packaged(name)
        here = f"no weights here: {baselines.remedy(name)}"
        if path.is_file() and entry.read is not None:
            here = f"installed: {path.parent}"
        elif path.is_file():
            notes = ", ".join(f"{k} {x}" for k, x in baselines.facts(path).items() if k != "model")
            here = f"{path.stat().st_size / 1e6:.1f} MB  ({notes})"
        yield f"{name}: {entry.source}"
        yield f"    {here}"
        yield f"    licence of the weights: {entry.licence}"


def _numbers(text: str | None) -> list[int]:
    """The numbers of ``--style-number``."""
    try:
        return [] if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--style-number {text}: give whole numbers, as in 3 or 3,12") from None


def _strength(
    alpha: float, by_level: str | None, alpha_s: str | None, levels: Sequence[str]
) -> float | dict[str, float]:
    """One number, or one by level, from ``--alpha``, ``--level-alpha`` and ``--alpha-s``."""
    if by_level is None and alpha_s is None:
        return alpha
    if alpha_s is not None:
        numbers = alpha_s.split(",")
        if by_level is not None or len(numbers) != len(levels):
            raise InputError(
                f"--alpha-s {alpha_s}: give {len(levels)} numbers ({', '.join(levels) or 'none'}), "
                "and no --level-alpha"
            )
        by_level = ",".join(map(":".join, zip(levels, numbers, strict=True)))
    from optistyle.layers import canonical

    found = dict.fromkeys(levels, alpha)
    for part in str(by_level).split(","):
        name, _, number = part.partition(":")
        layer = canonical(name)
        if layer not in levels:
            raise unknown("level of this model", name, levels)
        try:
            found[layer] = float(number)
        except ValueError:
            raise InputError(f"{part!r} is not LAYER:A, as in relu4_1:0.5") from None
    return found
