"""``python -m benchmarks [NAME]``: speed and encoders without one; see --help."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch

from benchmarks import (
    baselines,
    beside,
    calibration,
    encoders,
    gpu,
    gradients,
    metrics,
    parts,
    race,
    schedules,
    sizes,
    speed,
    steps,
    weave,
)
from optistyle.errors import InputError
from optistyle.machine import heap


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Speed against a plain PyTorch loop, and quality of the encoders."""
    heap.keep()  # as the command line does
    if context.invoked_subcommand is None:
        context.invoke(speed_command)
        context.invoke(gradients_command)
        context.invoke(encoders_command)


@main.command("speed")
@click.option(
    "--size", "sizes", type=int, multiple=True, default=(256, 512, 1024), show_default=True
)
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--vgg/--no-vgg", default=True, help="Also time a whole run with VGG-19 (minutes).")
def speed_command(sizes: tuple[int, ...], rounds: int, vgg: bool) -> None:
    """Seconds and memory per iteration, and the default run."""
    speed.main(sizes, rounds, vgg)


@main.command("gpu")
def gpu_command() -> None:
    """Whole optimisations on a GPU, and how much of the chip they use (ten minutes or so)."""
    if not torch.cuda.is_available():
        raise click.ClickException("no CUDA GPU is here to measure")
    gpu.main()


@main.command("gradients")
@click.option("--encoder", "names", multiple=True, default=("vgg19", "slim"), show_default=True)
@click.option("--size", type=int, default=256, show_default=True)
def gradients_command(names: tuple[str, ...], size: int) -> None:
    """How far gradients are from float64's, by the convolutions' kernels."""
    gradients.main(names, size)


@main.command("parts")
@click.option("--encoder", "names", multiple=True, default=("slim",), show_default=True)
def parts_command(names: tuple[str, ...]) -> None:
    """Seconds and memory of the solver, of attention by layer, and of tiles."""
    parts.main(names)


@main.command("race")
@click.option("--encoder", "names", multiple=True, default=("slim",), show_default=True)
@click.option("--size", type=int, default=512, show_default=True)
@click.option("--iterations", type=int, default=500, show_default=True)
@click.option("--pairs", "count", type=int, default=3, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("out/race"))
@click.option("--own-pairs", is_flag=True, help="Our own pictures in place of the held-out set.")
def race_command(
    names: tuple[str, ...], size: int, iterations: int, count: int, work: Path, own_pairs: bool
) -> None:
    """How much sooner the plain loop's objective is reached; pairs found in --work are kept."""
    race.main(names, size, iterations, count, work, own_pairs)


@main.command("schedules")
@click.argument("names", nargs=-1, type=click.Choice(list(schedules.CONTENDERS)))
@click.option("--seconds", "budgets", type=float, multiple=True, default=(45.0,), show_default=True)
@click.option("--pair", "chosen", multiple=True, help="Only this pair.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("out/schedules"))
def schedules_command(
    names: tuple[str, ...], budgets: tuple[float, ...], chosen: tuple[str, ...], work: Path
) -> None:
    """Schedules in the same seconds, judged by two networks that none was optimised in."""
    schedules.main(names, budgets, work, chosen)


@main.command("steps")
@click.option("--encoder", "names", multiple=True, default=("slim",), show_default=True)
@click.option("--size", type=int, default=256, show_default=True)
@click.option("--iterations", type=int, default=80, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("out/steps"))
@click.option("--own-pairs", is_flag=True, help="Our own pictures in place of the held-out set.")
def steps_command(
    names: tuple[str, ...], size: int, iterations: int, work: Path, own_pairs: bool
) -> None:
    """What the parts of L-BFGS's steps save; pairs found in --work are kept."""
    steps.main(names, size, iterations, work, own_pairs)


@main.command("sizes")
@click.argument("configurations", metavar="[ENCODER:PX:TILE]...", nargs=-1)
def sizes_command(configurations: tuple[str, ...]) -> None:
    """Memory and seconds of whole runs, up to 8192x8192 px, beside their plans'.

    Each is recorded as soon as it has ended; the largest take half an hour or more.
    """
    sizes.main(configurations or sizes.USUAL)


@main.command("beside")
@click.option("--encoder", "names", multiple=True, default=("vgg19",), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def beside_command(names: tuple[str, ...], rounds: int) -> None:
    """How much longer a run takes beside a busy process, by how its threads wait."""
    beside.main(names, rounds)


@main.command("encoders")
@click.argument("names", nargs=-1)
@click.option("--work", type=click.Path(path_type=Path), default=Path("out/encoders"))
@click.option("--own-pairs", is_flag=True, help="Our own pictures in place of the held-out set.")
def encoders_command(names: tuple[str, ...], work: Path, own_pairs: bool) -> None:
    """Pictures optimised in each encoder, judged in the real VGG-19.

    NAMES: vgg19, slim, random, photograph or weights files.
    """
    encoders.main(list(names or ("photograph", "vgg19", "slim", "random")), work, own_pairs)


@main.command("calibration")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
def calibration_command(folder: Path | None) -> None:
    """The calibration pictures against the photographs in FOLDER (scikit-image's without it)."""
    calibration.main(folder)


@main.command("baselines")
@click.argument("names", nargs=-1)
@click.option("--work", type=click.Path(path_type=Path), default=Path("out/baselines"))
@click.option("--own-pairs", is_flag=True, help="Our own pictures in place of the held-out set.")
def baselines_command(names: tuple[str, ...], work: Path, own_pairs: bool) -> None:
    """What feed-forward models and the optimiser paint, judged in the real VGG-19."""
    baselines.main(work, own_pairs, names)


@main.command("weave")
@click.argument("names", nargs=-1)
@click.option("--work", type=click.Path(path_type=Path), default=Path("out/weave"))
def weave_command(names: tuple[str, ...], work: Path) -> None:
    """Weave on flat places of what models and the optimiser paint; pairs in --work are kept."""
    weave.main(work, names)


@main.command("metrics")
@click.option("--pairs", "count", type=click.IntRange(2), default=860, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True)
def metrics_command(count: int, rounds: int) -> None:
    """Seconds of self-similarity, and of judging report 000's 860 outputs (or so many of them)."""
    metrics.main(count, rounds)


@main.command("warm-starts")
@click.argument("names", nargs=-1)
@click.option("--work", type=click.Path(path_type=Path), default=Path("out/warm-starts"))
@click.option("--pairs", "count", type=int, default=10, show_default=True)
def warm_command(names: tuple[str, ...], work: Path, count: int) -> None:
    """How many iterations starting from a model's picture saves (an hour or two on two cores)."""
    baselines.warm_main(work, names or ("adain",), count)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"benchmarks: {error}")
