"""``optistyle train``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optistyle.choices import TRAINABLE
from optistyle.cli.group import Group
from optistyle.cli.options import refuse_existing
from optistyle.errors import InputError
from optistyle.machine import locks
from optistyle.machine.signals import Interrupts

if TYPE_CHECKING:
    from optistyle.training.feed_forward import Settings


class _Trainings(Group):
    """Lists the trainable models without importing them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*super().list_commands(context), *TRAINABLE]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return _model(name) if name in TRAINABLE else super().get_command(context, name)

    def rows(self) -> list[tuple[str, str]]:
        return [
            *super().rows(),
            *(
                (name, f"Train {name} on photographs and {'one painting' if one else 'paintings'}.")
                for name, one in TRAINABLE.items()
            ),
        ]


@click.group(cls=_Trainings)
def train() -> None:
    """Train networks of your own."""


def _training(output: str, work: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that all trainings share.

    Args:
        output, work: their defaults.
    """
    options = (
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path),
            default=Path(output),
            help=f"The weights.  [{output}]",
        ),
        click.option("--force", is_flag=True, help="Overwrite existing weights."),
        click.option(
            "--work",
            type=click.Path(path_type=Path),
            default=Path(work),
            help="Checkpoint, log and samples; an interrupted training goes on from there.  "
            f"[{work}]",
        ),
        click.option(
            "--held-out",
            multiple=True,
            type=click.Path(path_type=Path),
            help="A folder whose images, and near-copies of them, are not trained on; repeatable.",
        ),
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@train.command("slim", short_help="Distil the real VGG-19 into the slim encoder.")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@_training("slim_vgg19.safetensors", "out/slim")
@click.option("--steps", type=int, default=None, help="Training steps.  [7500]")
@click.option("--seed", type=int, default=0, help="Of weights, crops and order.  [0]")
def slim(
    folders: tuple[Path, ...],
    output: Path,
    force: bool,
    work: Path,
    held_out: tuple[Path, ...],
    steps: int | None,
    seed: int,
) -> None:
    """Distil the real VGG-19 into the slim encoder, on the images under FOLDERS."""
    from optistyle import files
    from optistyle.encoders import load
    from optistyle.training.slim import Settings, distil, save

    files.check_place(output)
    refuse_existing([output], force)
    settings = Settings(seed=seed)
    if steps is not None:
        if steps < 1:
            raise InputError(f"steps is {steps}; it must be 1 or more")
        settings = replace(settings, steps=steps)
    _speak()
    with _training_in(work):
        save(distil(load("vgg19"), folders, work, settings=settings, held_out=held_out), output)
    click.echo(output)


@contextlib.contextmanager
def _training_in(work: Path) -> Iterator[None]:
    """Hold the training's folder, and say at a signal what is left of the training."""
    with locks.held(work), Interrupts():
        try:
            yield
        except KeyboardInterrupt as error:
            if (work / "checkpoint.pt").exists():
                error.args = (f"{work} holds the last checkpoint; the same command goes on",)
            raise


def _speak() -> None:
    """Write what trainings log to stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


def _model(name: str) -> click.Command:
    """``optistyle train NAME`` for a feed-forward model."""
    from optistyle.baselines import MODELS
    from optistyle.training.feed_forward import Settings

    entry = MODELS[name]
    usual = Settings(**entry.schedule)
    options = (
        click.option(
            "--contents",
            multiple=True,
            required=True,
            type=click.Path(path_type=Path),
            help="A folder of photographs; repeatable.",
        ),
        click.option(
            "--styles",
            multiple=True,
            required=True,
            type=click.Path(path_type=Path),
            help="The painting to learn."
            if entry.one_style
            else "A folder of paintings; repeatable.",
        ),
        click.option("--encoder", default="slim", help="slim or vgg19.  [slim]"),
        click.option(
            "--start",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Weights to start from in place of the warm-up: the model's own, to train them "
            "further, or another model's, whose decoder fits.",
        ),
        click.option(
            "--warm-up-steps",
            type=int,
            help="Steps of reconstruction training before the style losses start.  "
            f"[{usual.warm_up_steps}]",
        ),
        click.option("--steps", type=int, help=f"Steps with the style losses.  [{usual.steps}]"),
        click.option("--batch", type=int, help=f"Images of a step.  [{usual.batch}]"),
        click.option("--crop", type=int, help=f"Side of the crops in pixels.  [{usual.crop}]"),
        click.option(
            "--learning-rate",
            type=float,
            help=f"Adam's, at the start.  [{usual.learning_rate:g}]",
        ),
        click.option(
            "--style-weight", type=float, help="Weight of the style losses.  [the model's own]"
        ),
        click.option("--seed", type=int, help="Of weights, crops and order.  [0]"),
        click.option("--device", default="auto", help="As in run.  [auto]"),
    )

    def command(**given: Any) -> None:
        _train(name, usual, **given)

    for option in reversed(options):
        command = option(command)
    command = _training(f"{name}.safetensors", f"out/{name}")(command)
    command.__doc__ = f"Train {name} on photographs and paintings."
    return click.command(name)(command)


def _train(
    name: str,
    usual: Settings,
    *,
    contents: tuple[Path, ...],
    styles: tuple[Path, ...],
    held_out: tuple[Path, ...],
    output: Path,
    force: bool,
    work: Path,
    encoder: str,
    start: Path | None,
    style_weight: float | None,
    device: str,
    **given: Any,
) -> None:
    from optistyle import baselines, encoders, files, pictures
    from optistyle.machine.devices import computes, resolve
    from optistyle.training import feed_forward as training

    files.check_place(output)
    refuse_existing([output], force)
    chosen = {key: value for key, value in given.items() if value is not None}
    if start is not None:
        chosen.setdefault("warm_up_steps", 0)
    settings = replace(usual, **chosen)
    _speak()
    one_style, painting = TRAINABLE[name], None
    if one_style:
        if len(styles) != 1:
            raise InputError(f"{name} learns one painting: give one image with --styles")
        painting = pictures.read(styles[0]).pixels
    place = resolve(device)
    precision = "bfloat16" if computes(place, "bfloat16") else "float32"
    network = encoders.load(encoder, precision=precision, device=place)
    model = baselines.make(name, network, settings.seed, painting)
    origin = {}
    if start is not None:
        log_line = f"starting from {len(baselines.start_from(model, start))} tensors of {start}"
        click.echo(log_line, err=True)
        origin = {"start": f"{start.name} {files.digest(start)[:8]}"}
    if style_weight is not None:
        model.style_weight = style_weight
    sources = () if one_style else styles
    with _training_in(work):
        training.train(model, contents, sources, work, settings, held_out=held_out)
    notes = {
        "steps": settings.steps,
        "batch": settings.batch,
        "crop": settings.crop,
        **origin,
        **({"style": styles[0].name} if one_style else {}),
    }
    baselines.save(model, name, output, notes)
    click.echo(output)
