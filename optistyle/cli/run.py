"""``optistyle run`` and ``optistyle plan``."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optistyle.cli import options
from optistyle.cli.batch import files_of, paint_all
from optistyle.cli.console import is_closed, tell
from optistyle.cli.group import say
from optistyle.cli.options import Command, Option
from optistyle.cli.painting import (
    Order,
    Painted,
    StoppedError,
    announcement,
    beside,
    check,
    from_stdin,
    introduction,
    paint,
    stroked,
)
from optistyle.errors import InputError
from optistyle.files import check_name, fitted
from optistyle.machine import locks, torchrun
from optistyle.machine.signals import Interrupts
from optistyle.published import preset
from optistyle.recipes import Recipe

if TYPE_CHECKING:
    from optistyle.run.manifest import Manifest

#: CONTENT for stdin, -o for stdout.
_STREAM = "-"


@options.with_settings
@click.command(cls=Command, examples=options.EXAMPLES)
@click.argument("content", required=False)
@click.argument("styles", metavar="STYLE...", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "-o",
    "--output",
    cls=Option,
    metavar="FILE",
    common=True,
    help="PNG, JPEG, WebP or TIFF; settings and trace go beside it as .json. A folder where "
    "CONTENT is one; - writes a PNG to stdout.  [out.png; with --from, NAME-again]",
)
@options.force
@options.preset
@options.strength
@options.stroke
@click.option(
    "--from",
    "manifest",
    cls=Option,
    type=click.Path(path_type=Path),
    metavar="JSON",
    common=True,
    help="Repeat the run that wrote this .json; other options change it.",
)
@click.option(
    "--resume",
    cls=Option,
    is_flag=True,
    common=True,
    help="Go on from this output's checkpoint, if there is one.",
)
@click.option("--bits", cls=Option, type=int, help="8, or 16 for PNG and TIFF.  [8]")
@options.strip
@click.option(
    "--loss",
    "losses",
    cls=Option,
    multiple=True,
    metavar="TEXT",
    help="A loss term of your own: 'package.module:Term weight=0.1 setting=value'; repeatable.",
)
@click.option(
    "--checkpoint-every",
    cls=Option,
    type=float,
    default=60.0,
    metavar="SECONDS",
    help="How often the state is saved for --resume.  [60]",
)
@click.option(
    "--snapshot-every",
    cls=Option,
    type=int,
    default=None,
    metavar="N",
    help="Write the picture every N iterations, as out-00050.png.",
)
@click.option(
    "--rank-timeout",
    cls=Option,
    type=float,
    default=60.0,
    metavar="SECONDS",
    help="Under torchrun: seconds without a heartbeat after which a process counts as lost.  [60]",
)
@click.option(
    "-q", "--quiet", cls=Option, is_flag=True, common=True, help="Say nothing but errors."
)
def run(
    content: str | None,
    styles: tuple[Path, ...],
    output: str | None,
    force: bool,
    preset_name: str | None,
    strength: str | None,
    stroke: float | None,
    manifest: Path | None,
    resume: bool,
    bits: int | None,
    strip: bool | None,
    losses: tuple[str, ...],
    checkpoint_every: float,
    snapshot_every: int | None,
    rank_timeout: float,
    quiet: bool,
    **given: Any,
) -> None:
    """Paint CONTENT in the style of one or several STYLE images.

    CONTENT is an image, a folder of images, a quoted pattern such as 'photos/*.jpg', or - for
    stdin. Transparency is a mask: transparent places of CONTENT, and of a STYLE, are left out of
    the losses.

    \b
    optistyle run photo.jpg painting.jpg -o picture.png
    optistyle run photo.jpg one.jpg two.jpg --style-weights 2,1
    optistyle run photos/ painting.jpg -o painted/
    optistyle run --from picture.json --size 1024 -o large.png
    torchrun --nproc-per-node 2 -m optistyle run photo.jpg painting.jpg --size 8192
    """
    quiet = quiet or not torchrun.leads()
    if quiet:
        warnings.simplefilter("ignore")
    earlier = None if manifest is None else _earlier(manifest)
    if earlier is not None and preset_name is not None:
        raise InputError("--preset and --from both give the settings; choose one")
    base = preset(preset_name or "default") if earlier is None else earlier.recipe
    if stroke is not None:
        base = _without_scales(base, given)
    recipe = options.recipe(base, given, strength)
    plan: Mapping[str, Any] = {}
    if earlier is not None:
        if content is None and not styles and stroke is None:
            plan = earlier.plan_for(recipe)
        recipe = earlier.located(recipe, given)
        content = content or str(earlier.input("content"))
        styles = styles or tuple(earlier.styles())
        output = output or fitted(earlier.path.stem, f"-again{earlier.suffix}")
        bits = earlier.bits if bits is None else bits
        strip = earlier.strip if strip is None else strip
    if content is None or not styles:
        raise InputError("give a CONTENT image and one or more STYLE images (or --from JSON)")
    order = Order(
        styles=styles,
        recipe=recipe,
        bits=8 if bits is None else bits,
        strip=bool(strip),
        sources=(*styles, *_files(recipe), *([] if manifest is None else [manifest])),
        resume=resume,
        force=force,
        checkpoint_every=checkpoint_every,
        snapshot_every=snapshot_every,
        quiet=quiet,
        earlier=earlier,
        plan=plan,
        losses=losses,
    )
    if earlier is not None:
        import torch

        torch.set_num_threads(earlier.threads)  # sums in another order round otherwise
    contents = None if content == _STREAM else files_of(content)
    if contents is not None:
        if torchrun.several():
            raise InputError("under torchrun, CONTENT is one image: start it once for each")
        paint_all(content, contents, output, order, stroke)
        return
    _run_one(content, output or "out.png", order, stroke, rank_timeout)


def _run_one(
    content: str, output: str, order: Order, stroke: float | None, rank_timeout: float
) -> None:
    """Paint one image, as one of the ranks where there are several."""
    target = None if output == _STREAM else Path(output)
    if _STREAM in (content, output) and torchrun.several():
        raise InputError("under torchrun there is no stdin and no stdout: name files")
    if target is None:
        _check_stdout(order)
    if content != _STREAM:
        order = replace(order, sources=(*order.sources, Path(content)))
    stopped: StoppedError | None = None
    with (
        torchrun.group(order.recipe.device, rank_timeout) as ranks,
        Interrupts() as interrupts,
        _lock(target),
    ):
        if torchrun.leads():
            check(target, order)
        picture = from_stdin() if content == _STREAM else Path(content)
        order = replace(order, recipe=stroked(order.recipe, stroke, picture), ranks=ranks)
        name = "stdin" if content == _STREAM else content
        opening = None
        if not order.quiet:
            opening = [introduction(name, order.styles, order.recipe), *announcement(order.recipe)]
        try:
            painted = paint(picture, target, order, interrupts, opening=opening)
        except StoppedError as error:
            stopped = error
    if stopped is not None:
        kept = f": {target} holds the picture so far; --resume goes on"
        say(f"{stopped}{kept if stopped.kept else '; nothing was written'}")
        torchrun.end(stopped.code)
    if order.quiet:
        return
    if target is None:
        click.echo(painted.line, err=True)
    else:
        tell(painted.line)
    if _dissolves_forms(order.recipe) and _has_face(painted):
        say("a face was found: --preset portrait keeps faces nearer to the photograph")


def _dissolves_forms(recipe: Recipe) -> bool:
    """Whether scales and beta are the default's: nobody asked for how far forms dissolve."""
    default = Recipe()
    return (recipe.scales, recipe.beta) == (default.scales, default.beta)


def _has_face(painted: Painted) -> bool:
    from optistyle.pictures import faces

    with contextlib.suppress(Exception):  # the picture is written: a remark must not fail the run
        return faces.has_face(painted.content.picture.pixels)
    return False


def _lock(target: Path | None) -> AbstractContextManager[None]:
    """The lock of an output; its .json, which pictures of other formats share, stands for it."""
    if target is None or not torchrun.leads():
        return nullcontext()
    return locks.held(beside(check_name(target))[0], str(target))


def _check_stdout(order: Order) -> None:
    if order.resume or order.snapshot_every is not None:
        raise InputError("-o - writes the finished PNG only: leave out --resume, --snapshot-every")
    if is_closed(sys.stdout):
        raise InputError("-o - writes a PNG to stdout, which is closed: name a file")
    if sys.stdout.isatty():
        raise InputError("-o - writes a PNG to stdout, which is a terminal: send it to a file")


def _earlier(path: Path) -> Manifest:
    from optistyle.run.manifest import Manifest

    return Manifest.read(path)


def _without_scales(base: Recipe, given: dict[str, Any]) -> Recipe:
    """The base as ``--stroke`` needs it: with a size in place of scales."""
    names = ("scales", "style_scale")
    options.refuse_both("--stroke", {"--" + x.replace("_", "-"): given[x] for x in names})
    if isinstance(base.scales, str):
        return base
    size = base.scales[-1] if given["size"] is None else base.size
    return replace(base, scales="auto", size=size)


def _files(recipe: Recipe) -> list[Path]:
    """The files that a recipe itself names."""
    return [Path(name) for name in (recipe.init, recipe.weights) if name and Path(name).is_file()]


@options.with_settings
@click.command(cls=Command)
@click.argument("content", type=click.Path(path_type=Path))
@click.argument(
    "styles", metavar="STYLE...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@options.preset
@options.strength
@options.stroke
def plan(
    content: Path,
    styles: tuple[Path, ...],
    preset_name: str | None,
    strength: str | None,
    stroke: float | None,
    **given: Any,
) -> None:
    """Say what a run would take, with run's options: tiles, memory and time.

    \b
    optistyle plan photo.jpg painting.jpg --size 8192
    """
    from optistyle.run import Run

    base = preset(preset_name or "default")
    if stroke is not None:
        base = _without_scales(base, given)
    recipe = options.recipe(base, given, strength)
    click.echo(Run(content, styles, stroked(recipe, stroke, content)).forecast())
