"""``optistyle evaluate`` and ``optistyle compare``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from optistyle.cli.group import say
from optistyle.errors import InputError
from optistyle.machine.signals import Interrupts


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@click.command()
@click.argument("outputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--content", type=click.Path(path_type=Path), required=True)
@click.option("--style", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", "wanted", metavar="NAME,NAME...", help="[all that need no extra files]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    outputs: tuple[Path, ...], content: Path, style: Path, wanted: str | None, as_json: bool
) -> None:
    """Measure how good stylised OUTPUTS of one CONTENT and one STYLE are.

    \b
    optistyle evaluate out.png other.png --content photo.jpg --style painting.jpg
    """
    from optistyle import metrics, pictures
    from optistyle.experiments import compare as comparing

    names = metrics.check(_names(wanted)) if wanted else metrics.at_hand()
    photograph, painting = pictures.read(content), pictures.read(style)
    found: dict[str, dict[str, float]] = {}
    for path in outputs:
        output = pictures.read(path)
        pixels = output.pixels, photograph.pixels, painting.pixels
        row: dict[str, float] = {}
        notes: dict[str, str] = {}
        for name in names:
            try:
                values, notes = comparing.judge(*pixels, [name])
            except InputError as error:
                if wanted:
                    raise
                say(f"{path}: without {name}: {error}")
                continue
            row |= values
        if "resized" in notes:
            say(f"{path} is {output.width}x{output.height}: {notes['resized']}")
        found[str(path)] = row
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    width = max(map(len, names))
    columns = [Path(path).name for path in found]
    wide = [max(10, len(name)) for name in columns]
    click.echo(
        " " * width + "  " + "  ".join(f"{n:>{w}}" for n, w in zip(columns, wide, strict=True))
    )
    for name in names:
        cells = "  ".join(
            f"{row[name]:>{w}.4g}" if name in row else " " * (w - 1) + "-"
            for row, w in zip(found.values(), wide, strict=True)
        )
        click.echo(f"{name:<{width}}  {cells}  ({metrics.METRICS[name].better} is better)")


@click.command()
@click.argument("contents", type=click.Path(path_type=Path))
@click.argument("styles", type=click.Path(path_type=Path))
@click.option(
    "--methods", default="", metavar="NAME,NAME...", help="gatys, attention, adain and others."
)
@click.option(
    "--outputs",
    multiple=True,
    metavar="NAME=DIR",
    help="A further method: pictures that are there already; repeatable.",
)
@click.option(
    "--pattern",
    default="{content}_{style}",
    help="How those pictures are named, without extension.  [{content}_{style}]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder.")
@click.option(
    "--metrics", "wanted", metavar="NAME,NAME...", help="[self_similarity,chi_square,ssim]"
)
@click.option("--size", type=int, default=512, help="Longer side of what is painted.  [512]")
@click.option("--sample", type=int, help="The number of pairs to draw with --seed.  [all]")
@click.option("--seed", type=int, default=0, help="[0]")
@click.option("--workers", type=int, help="Processes.  [one per processor]")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def compare(
    contents: Path,
    styles: Path,
    methods: str,
    outputs: tuple[str, ...],
    pattern: str,
    output: Path,
    wanted: str | None,
    size: int,
    sample: int | None,
    seed: int,
    workers: int | None,
    quiet: bool,
) -> None:
    """Paint every pair of CONTENTS and STYLES by every method, judge, and report with intervals.

    Methods are the presets gatys, attention and default; gram, the default without attention;
    local, the default with local attention; and adain, multiadain, sanet, adaattn and magenta.
    gatys and attention paint at a single scale in 500 iterations, and take longest.

    Killed and started again, it goes on. Ends with code 1 where a picture could not be judged.

    \b
    optistyle compare photos/ paintings/ --methods gram,default,adain -o report/
    optistyle compare photos/ paintings/ --methods adain --outputs theirs=folder/ -o report/
    """
    from optistyle.experiments import compare as comparing

    existing = {}
    for text in outputs:
        name, _, folder = text.partition("=")
        if not (name and folder and Path(folder).is_dir()):
            raise InputError(f"--outputs {text}: write NAME=DIR, the folder of its pictures")
        if name in existing:
            raise InputError(f"--outputs: {name} is given twice; every NAME is one method")
        existing[name] = Path(folder)
    todo = comparing.cases(
        comparing.pairs_of(contents, styles, sample, seed),
        _names(methods),
        existing,
        output,
        _names(wanted) if wanted else comparing.USUAL,
        size=size,
        pattern=pattern,
    )
    stream = None if quiet else sys.stderr
    with Interrupts():
        found = comparing.compare(todo, output, workers=workers, stream=stream)
    if not quiet:
        click.echo(comparing.markdown(found))
        click.echo(output / comparing.PAGE)
    for row in found.rows:
        if "error" in row:
            say(f"{row['method']}, {row['content']} x {row['style']}: {row['error']}")
    if found.failed:
        sys.exit(1)
