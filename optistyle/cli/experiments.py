"""``optistyle attention``, ``ablate`` and ``sweep``."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click

from optistyle.cli import options
from optistyle.cli.options import Command, Option
from optistyle.errors import InputError
from optistyle.machine.signals import Interrupts


@click.command()
@click.argument("content", type=click.Path(path_type=Path))
@click.argument("style", type=click.Path(path_type=Path))
@click.option(
    "--point", "points", multiple=True, metavar="X,Y", help="In pixels of CONTENT; repeatable."
)
@click.option("--layers", default="relu3_1,relu4_1,relu5_1", help="[relu3_1,relu4_1,relu5_1]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The heat maps: PNG, PDF or SVG."
)
@click.option(
    "--warp",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A second figure: STYLE warped to CONTENT by every position's best and expected match.",
)
@options.force
@click.option(
    "--size",
    type=int,
    help="Longer side in pixels.  [512, or the photograph's where that is smaller]",
)
@click.option("--encoder", default="auto", help="As in run.  [auto]")
@click.option("--weights", type=click.Path(path_type=Path), help="As in run.")
@click.option("--device", default="auto", help="As in run.  [auto]")
def attention(
    content: Path,
    style: Path,
    points: tuple[str, ...],
    layers: str,
    output: Path | None,
    warp: Path | None,
    force: bool,
    size: int | None,
    encoder: str,
    weights: Path | None,
    device: str,
) -> None:
    """Show what places of CONTENT attend to in STYLE, layer by layer.

    \b
    optistyle attention photo.jpg painting.jpg --point 200,120 -o attention.png
    """
    from optistyle import encoders
    from optistyle.experiments import attention as explore
    from optistyle.layers import parse
    from optistyle.machine.devices import resolve
    from optistyle.pictures import plots

    if not points and warp is None:
        raise InputError("nothing to show: give --point X,Y with -o FILE, or --warp FILE")
    if bool(points) != (output is not None):
        raise InputError("--point and -o belong together: give both, or --warp FILE alone")
    places = [_point(text) for text in points]
    wanted = [path for path in (output, warp) if path is not None]
    for path in wanted:
        plots.check_writable(path, [content, style])
    options.refuse_existing(wanted, force)
    network = encoders.load(encoder, file=weights, device=resolve(device))
    explorer = explore.Explorer(
        content, style, list(parse(layers)), encoder=network, size="auto" if size is None else size
    )
    if output is not None:
        plots.save(explore.figure(explorer, places), output)
        for row in explorer.maps(places):
            for found in row:
                click.echo(
                    f"{found.point[0]:g},{found.point[1]:g}  {found.layer}: best match "
                    f"{found.best[0]:.0f},{found.best[1]:.0f} with weight {found.top:.3g}, "
                    f"entropy {found.entropy:.3f} nats (uniform: "
                    f"{math.log(found.log_weights.numel()):.3f})"
                )
    if warp is not None:
        plots.save(explore.warps(explorer), warp)
    for path in wanted:
        click.echo(path)


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"the point {text!r} is not X,Y, as in --point 200,120") from None
    return x, y


@options.with_settings
@click.command(cls=Command)
@click.argument("name")
@click.argument(
    "files", metavar="CONTENT STYLE [CONTENT STYLE]...", type=click.Path(path_type=Path), nargs=-1
)
@click.option(
    "-o",
    "--output",
    cls=Option,
    type=click.Path(path_type=Path),
    common=True,
    help="The sweep's folder.",
)
@click.option(
    "--workers",
    cls=Option,
    type=int,
    common=True,
    help="Processes.  [one per processor; one with a GPU]",
)
@click.option(
    "-q", "--quiet", cls=Option, is_flag=True, common=True, help="Say nothing but errors."
)
def ablate(
    name: str,
    files: tuple[Path, ...],
    output: Path | None,
    workers: int | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Vary one setting, NAME, over pairs of images; draw the pictures side by side.

    \b
    optistyle ablate attention-layer photo.jpg painting.jpg -o out/layers --size 256
    optistyle ablate list
    """
    from optistyle.experiments import ablations, engines

    if name == "list":
        for key, entry in ablations.ABLATIONS.items():
            click.echo(f"{key}: {entry.question}\n    {', '.join(entry.columns)}")
            click.echo(f"    {entry.source}")
        return
    ablation, pairs = ablations.named(name), ablations.pairs_of(files)
    if output is None:
        raise InputError("no output is given: name the folder with -o")
    changes = {setting: value for setting, value in given.items() if value is not None}
    with Interrupts():
        found = ablations.ablate(
            ablation,
            pairs,
            output,
            changes,
            engine=engines.local(workers),
            stream=None if quiet else sys.stderr,
        )
    if not quiet:
        click.echo(ablations.markdown(found.table))
        for path in filter(None, (found.figure, found.curves, found.summary.page)):
            click.echo(path)
    if found.summary.failed:
        sys.exit(1)


@click.command()
@click.argument("grid", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The sweep's folder."
)
@click.option(
    "--engine",
    type=click.Choice(("local", "ray")),
    default="local",
    help="Processes of this machine, or a Ray cluster.  [local]",
)
@click.option("--workers", type=int, help="local: processes.  [one per processor; one with a GPU]")
@click.option("--threads", type=int, help="Of each run.  [local: processors over workers; ray: 1]")
@click.option(
    "--address", metavar="HOST:PORT", help="ray: the cluster, or auto.  [starts one here]"
)
@click.option("--gpus", type=float, help="ray: GPUs of each run.  [1 where there are any]")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def sweep(
    grid: Path,
    output: Path,
    engine: str,
    workers: int | None,
    threads: int | None,
    address: str | None,
    gpus: float | None,
    quiet: bool,
) -> None:
    """Run every combination of the TOML file GRID: contents x styles x settings.

    Killed and started again, it goes on: finished runs are not repeated. Ends with code 1 if a run
    failed; the others are done.

    \b
    contents = ["photos/*.jpg"]
    styles = ["wave.jpg", "ink.jpg"]
    [settings]
    size = 256
    [grid]
    gamma = [0, 6e6]
    """
    from optistyle.experiments import engines
    from optistyle.experiments import grid as grids
    from optistyle.experiments import sweep as sweeps

    for name, value, needed in (
        ("--workers", workers, "local"),
        ("--address", address, "ray"),
        ("--gpus", gpus, "ray"),
    ):
        if value is not None and engine != needed:
            raise InputError(f"{name} is for --engine {needed}; leave it out, or choose that")
    runner = (
        engines.local(workers, threads)
        if engine == "local"
        else engines.ray(address, threads=threads or 1, gpus=gpus)
    )
    jobs = grids.read(grid)
    with Interrupts():
        summary = sweeps.sweep(jobs, output, runner, stream=None if quiet else sys.stderr)
    if not quiet:
        click.echo(
            f"{summary.page}  ({summary.made} made, {summary.kept} there already, "
            f"{summary.failed} failed)"
        )
    if summary.failed:
        sys.exit(1)
