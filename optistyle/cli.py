"""The command line: parse, call one public function, write."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import click

from optistyle.choices import COLOR_MODES
from optistyle.errors import InputError, unknown
from optistyle.machine import ranks
from optistyle.recipes import PRESETS, Recipe, changed, preset, settings
from optistyle.settings import Setting, spell

_CHECKPOINT = ".checkpoint"


class _Group(click.Group):
    """Says what is wrong in one line on stderr and exits with 2; suggests the nearest command."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_, **__: _say(str(message))
                sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except ranks.LostError as error:
            _say(f"{error}; nothing was written")
            ranks.end(1)
        except (click.ClickException, InputError) as error:
            text = error.format_message() if isinstance(error, click.ClickException) else str(error)
            _say(" ".join(text.split()))
            ranks.end(2)
        except FloatingPointError as error:
            _say(str(error))
            ranks.end(1)
        except (click.Abort, KeyboardInterrupt) as error:
            kept = str(error.__cause__ or error)  # click has Abort in place of what we raised
            _say(f"interrupted: {kept}" if kept else "interrupted; nothing was written")
            ranks.end(130)
        except Exception:
            if ranks.leads():
                raise
            ranks.end(1)  # rank 0 has been told

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(context, args or ["--help"])

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown("command", args[0], self.commands)
        return super().resolve_command(context, args)


def _say(line: str) -> None:
    """One line on stderr; of several ranks, one says it."""
    if not ranks.leads():
        return
    print(f"optistyle: {line}", file=sys.stderr, flush=True)


class _GroupedHelp(click.Command):
    """Shows options under the headings of `Recipe`'s groups."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "group", "Run"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class _Setting(click.Option):
    """An option made from a setting of `Recipe`; its value is text, or None where not given."""

    def __init__(self, name: str, setting: Setting, default: Any) -> None:
        shown = "" if default in (None, ()) else f"  [{spell(default)}]"
        super().__init__(
            ["--" + name.replace("_", "-")],
            metavar=setting.kind.metavar,
            help=setting.help + shown,
        )
        self.group = setting.group


def _settings(command: click.Command) -> click.Command:
    """Give a command an option for every setting of `Recipe`."""
    default = Recipe()
    command.params += [
        _Setting(name, setting, getattr(default, name)) for name, setting in settings().items()
    ]
    return command


def _recipe(base: Recipe, given: dict[str, Any]) -> Recipe:
    """The base with the options that were given."""
    return changed(base, {name: value for name, value in given.items() if value is not None})


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="optistyle")
def main() -> None:
    """Style transfer by optimising the picture itself."""


@_settings
@main.command(cls=_GroupedHelp)
@click.argument("content", type=click.Path(path_type=Path), required=False)
@click.argument("styles", metavar="STYLE...", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="PNG, JPEG, WebP or TIFF; settings and trace go beside it as .json.  "
    "[out.png; with --from, NAME-again]",
)
@click.option("--bits", type=int, help="8, or 16 for PNG and TIFF.  [8]")
@click.option(
    "--preset",
    "preset_name",
    metavar="NAME",
    default=None,
    help="Published settings (see optistyle presets); other options change them.",
)
@click.option(
    "--from",
    "manifest",
    type=click.Path(path_type=Path),
    metavar="JSON",
    help="Repeat the run that wrote this .json; other options change it.",
)
@click.option(
    "--resume", is_flag=True, help="Go on from this output's checkpoint, if there is one."
)
@click.option(
    "--checkpoint-every",
    type=float,
    default=60.0,
    metavar="SECONDS",
    help="How often the state is saved for --resume.  [60]",
)
@click.option(
    "--snapshot-every",
    type=int,
    default=None,
    metavar="N",
    help="Write the picture every N iterations, as out-00050.png.",
)
@click.option(
    "--rank-timeout",
    type=float,
    default=60.0,
    metavar="SECONDS",
    help="Under torchrun: a process that gives no sign for so long is lost.  [60]",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def run(
    content: Path | None,
    styles: tuple[Path, ...],
    output: Path | None,
    bits: int | None,
    preset_name: str | None,
    manifest: Path | None,
    resume: bool,
    checkpoint_every: float,
    snapshot_every: int | None,
    rank_timeout: float,
    quiet: bool,
    **given: Any,
) -> None:
    """Paint CONTENT in the style of one or several STYLE images.

    \b
    optistyle run photo.jpg painting.jpg -o picture.png
    optistyle run photo.jpg painting.jpg --gamma 0 --size 768
    optistyle run photo.jpg one.jpg two.jpg --style-weights 2,1
    torchrun --nproc-per-node 2 -m optistyle run photo.jpg painting.jpg --size 8192
    """
    from optistyle import encoders, files, pictures
    from optistyle.run import Run, versions
    from optistyle.run.observers import Checkpoint, Checkpoints, Observer, ProgressBar, Snapshots

    leads = ranks.leads()
    quiet = quiet or not leads
    if quiet:
        warnings.simplefilter("ignore")
    recipe, sources = preset(preset_name or "default"), []
    if manifest is not None:
        if preset_name is not None:
            raise InputError("--preset and --from both give the settings; choose one")
        earlier = _Manifest.read(manifest)
        recipe, sources = earlier.recipe, [manifest]
        content = content or earlier.input("content")
        styles = styles or tuple(earlier.styles())
        for name in ("init", "weights"):
            if name in earlier.inputs and given[name] is None:
                given[name] = str(earlier.input(name))
        output = output or Path(f"{manifest.stem}-again{earlier.suffix}")
        bits = earlier.bits if bits is None else bits
    output, bits = output or Path("out.png"), 8 if bits is None else bits
    if content is None or not styles:
        raise InputError("give a CONTENT image and one or more STYLE images (or --from JSON)")
    recipe = _recipe(recipe, given)
    sources += [content, *styles, *_files(recipe)]
    report, checkpoint = output.with_suffix(".json"), output.with_name(output.name + _CHECKPOINT)

    with ranks.group(recipe.device, rank_timeout), _Interrupts() as interrupts:
        if leads:
            pictures.check_writable(output, inputs=sources, bits=bits)
            for beside in (report, checkpoint):
                _check_free(beside, sources)
        observers: list[Observer] = [] if quiet else [ProgressBar()]
        if leads and snapshot_every is not None:
            observers.append(Snapshots(output, snapshot_every, sources))
        if manifest is not None:
            earlier.restore_threads()
        job = Run(content, styles, recipe)
        if leads:
            observers.append(Checkpoints(checkpoint, job.identity, checkpoint_every))
        if resume and checkpoint.exists():
            job.resume(checkpoint)
        elif resume and not quiet:
            _say(f"no checkpoint {checkpoint}: starting from the beginning")
        if manifest is not None and earlier.versions != versions() and not quiet:
            _say(f"{manifest} is of other versions of optistyle or its libraries: not bit for bit")
        if recipe.weights is None and not quiet:
            _say(encoders.choose(recipe.encoder, job.device)[1])
        loss: ranks.LostError | None = None
        try:
            if not quiet:
                _say(f"plan: {job.forecast()}")
            job.finish(observers)
            interrupts.ignore()
            result = job.result()
            ranks.leave()
        except (KeyboardInterrupt, ranks.LostError) as error:
            interrupts.ignore()
            if isinstance(error, ranks.LostError):
                loss = error
            ranks.interrupt()
            result = job.result()
        if not ranks.leads():
            ranks.end(0 if not result.interrupted else 1 if loss else 130)
        result.save(output, bits=bits)
        record = {"output": output.name, "bits": bits, **result.manifest()}
        files.write_whole(report.resolve(), json.dumps(record, indent=1).encode())
        if result.interrupted:
            job.checkpoint.save(checkpoint, job.identity)
            why = str(loss or "interrupted")
            _say(f"{why}: {output} holds the picture so far; --resume goes on")
            ranks.end(1 if loss else 130)
        Checkpoint.discard(checkpoint)
    if not quiet:
        size = f"{result.picture.width}x{result.picture.height}"
        click.echo(f"{output}  ({size}, {sum(result.seconds):.0f} s)")


@_settings
@main.command(cls=_GroupedHelp)
@click.argument("content", type=click.Path(path_type=Path))
@click.argument(
    "styles", metavar="STYLE...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@click.option("--preset", "preset_name", metavar="NAME", default="default", help="As in run.")
def plan(content: Path, styles: tuple[Path, ...], preset_name: str, **given: Any) -> None:
    """Say what a run would take, with run's options: tiles, memory and time.

    \b
    optistyle plan photo.jpg painting.jpg --size 8192
    """
    from optistyle.run import Run

    click.echo(Run(content, styles, _recipe(preset(preset_name), given)).forecast())


class _Interrupts:
    """Ctrl-C raises `KeyboardInterrupt` once, and is ignored from then on: saving is not cut short.

    After an interruption it stays ignored, for the process is about to end. Does nothing where
    Ctrl-C is not for us: in a background job, or in another thread than the main one.
    """

    def __enter__(self) -> _Interrupts:
        self._before = signal.getsignal(signal.SIGINT)
        self._pressed = False
        self._ours = (
            threading.current_thread() is threading.main_thread()
            and self._before is not signal.SIG_IGN
        )
        self._handle(self._press)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._pressed:
            self._handle(self._before)

    def ignore(self) -> None:
        self._handle(signal.SIG_IGN)

    def _press(self, *_: object) -> None:
        self._pressed = True
        self.ignore()
        raise KeyboardInterrupt

    def _handle(self, handler: Any) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, handler)


def _check_free(path: Path, inputs: Sequence[Path]) -> None:
    """Raise `InputError` where a file beside the output cannot be written or is an input."""
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, and a file of that name is to be written: choose another -o"
        )
    if any(path.exists() and source.exists() and path.samefile(source) for source in inputs):
        raise InputError(f"{path} would be overwritten, and is an input: choose another -o")


def _files(recipe: Recipe) -> list[Path]:
    """The files that a recipe itself names."""
    return [Path(name) for name in (recipe.init, recipe.weights) if name and Path(name).is_file()]


@dataclass(frozen=True)
class _Manifest:
    """What ``--from`` takes from the .json of an earlier run."""

    path: Path
    recipe: Recipe
    inputs: dict[str, Any]
    threads: int
    bits: int
    suffix: str
    versions: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> _Manifest:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record.get("extra"):
                raise InputError(
                    f"it ran with loss terms of its own ({', '.join(record['extra'])}): "
                    "repeat it from Python"
                )
            return cls(
                path,
                Recipe.from_dict(record["recipe"]),
                {name: record["inputs"][name] for name in record["inputs"]},
                int(record["threads"]),
                int(record.get("bits", 8)),
                Path(record.get("output", "out.png")).suffix,
                record["versions"],
            )
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise InputError(f"{path}: {error}") from error
            raise InputError(f"{path} is not a .json that optistyle run has written") from error

    def input(self, name: str) -> Path:
        return self._unchanged(self.inputs[name])

    def styles(self) -> list[Path]:
        return [self._unchanged(entry) for entry in self.inputs["styles"]]

    def _unchanged(self, entry: dict[str, str]) -> Path:
        """The file of an input, checked to be what it was."""
        from optistyle.files import digest

        if "path" not in entry:
            raise InputError(f"{self.path} is of a run whose images were no files: give them")
        path = Path(entry["path"])
        if digest(path) != entry["sha256"]:
            raise InputError(
                f"{path} is not the file it was when {self.path} was written; to use it all the "
                "same, name it on the command line"
            )
        return path

    def restore_threads(self) -> None:
        """Compute with as many threads as then: sums in another order round otherwise."""
        import torch

        torch.set_num_threads(self.threads)


@main.command()
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
@click.option("--size", type=int, default=512, help="Longer side looked at, in pixels.  [512]")
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
    size: int,
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
    network = encoders.load(encoder, file=weights, device=resolve(device))
    explorer = explore.Explorer(content, style, list(parse(layers)), encoder=network, size=size)
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


@_settings
@main.command(cls=_GroupedHelp)
@click.argument("name")
@click.argument(
    "files", metavar="CONTENT STYLE [CONTENT STYLE]...", type=click.Path(path_type=Path), nargs=-1
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The sweep's folder.")
@click.option("--workers", type=int, help="Processes.  [one per processor; one with a GPU]")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
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


@main.command("sweep")
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
def sweep_command(
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
    failed; the others are done all the same.

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
    from optistyle.experiments.sweep import sweep

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
    summary = sweep(grids.read(grid), output, runner, stream=None if quiet else sys.stderr)
    if not quiet:
        click.echo(
            f"{summary.page}  ({summary.made} made, {summary.kept} there already, "
            f"{summary.failed} failed)"
        )
    if summary.failed:
        sys.exit(1)


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@main.command()
@click.argument("outputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--content", type=click.Path(path_type=Path), required=True)
@click.option("--style", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", "wanted", metavar="NAME,NAME…", help="[all that need no extra files]")
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
                _say(f"{path}: without {name}: {error}")
                continue
            row |= values
        if "resized" in notes:
            _say(f"{path} is {output.width}x{output.height}: {notes['resized']}")
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


@main.command()
@click.argument("contents", type=click.Path(path_type=Path))
@click.argument("styles", type=click.Path(path_type=Path))
@click.option("--methods", default="", metavar="NAME,NAME…", help="gatys, attention, adain, ….")
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
@click.option("--metrics", "wanted", metavar="NAME,NAME…", help="[self_similarity,chi_square,ssim]")
@click.option("--size", type=int, default=512, help="Longer side of what is painted.  [512]")
@click.option("--sample", type=int, help="Only so many pairs, drawn with --seed.  [all]")
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

    Killed and started again, it goes on. Ends with code 1 where a picture could not be judged.

    \b
    optistyle compare photos/ paintings/ --methods gatys,attention,adain -o report/
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
    try:
        found = comparing.compare(
            todo, output, workers=workers, stream=None if quiet else sys.stderr
        )
    except comparing.LostWorkerError as error:
        _say(str(error))
        sys.exit(1)
    if not quiet:
        click.echo(comparing.markdown(found))
        click.echo(output / comparing.PAGE)
    for row in found.rows:
        if "error" in row:
            _say(f"{row['method']}, {row['content']} x {row['style']}: {row['error']}")
    if found.failed:
        sys.exit(1)


@main.command()
def presets() -> None:
    """List the presets: their settings where they differ from the default, and their sources."""
    default = Recipe()
    for name, entry in PRESETS.items():
        click.echo(f"{name}\n    {entry.source}")
        for setting in fields(Recipe):
            value = getattr(entry.recipe, setting.name)
            if value != getattr(default, setting.name):
                click.echo(f"    --{setting.name.replace('_', '-')} {spell(value)}")


@main.group(cls=_Group)
def weights() -> None:
    """Where the encoders' weights are, and how to get them."""


@weights.command("list")
def weights_list() -> None:
    """Which weights are here, and their licences."""
    from optistyle.encoders.weights import SOURCES

    for source in SOURCES.values():
        path = source.find()
        here = path is not None and path.is_file()
        click.echo(f"{source.name}: {source.description}")
        click.echo(f"    {path if here else 'not here: ' + _remedy(source, path)}")
        click.echo(f"    licence: {source.licence}")


def _remedy(source: Any, path: Path | None) -> str:
    return str(source.remedy.format(url=source.url, folder=path.parent if path else ""))


@weights.command("fetch")
@click.argument("name")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def weights_fetch(name: str, quiet: bool) -> None:
    """Download the weights NAME, resuming if interrupted, and check them."""
    from optistyle.encoders.weights import fetch

    click.echo(fetch(name, progress=not quiet))


@weights.command("verify")
@click.argument("names", nargs=-1)
def weights_verify(names: tuple[str, ...]) -> None:
    """Check the SHA-256 of weights that are here (all of them, or NAMES)."""
    from optistyle.encoders.weights import SOURCES, locate, verify

    if not names:
        for name in SOURCES:
            with contextlib.suppress(InputError):
                locate(name)
                names = (*names, name)
    for name in names:
        path, digest = verify(name)
        click.echo(f"{name}: ok  {digest}  {path}")


@main.command("baseline")
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
@click.option("--alpha", type=float, default=1.0, help="Strength, 0 to 1.  [1]")
@click.option(
    "--level-alpha",
    metavar="LAYER:A,…",
    help="Strength by level: relu4_1:1,relu3_1:0.5; others have --alpha.",
)
@click.option(
    "--alpha-s", metavar="A,A,A", help="adjustable: strength at relu2_2, relu3_4 and relu4_4."
)
@click.option("--style-weights", metavar="W,W,…", help="Share of each STYLE, relative.  [equal]")
@click.option(
    "--original-colors",
    metavar="|".join(COLOR_MODES),
    help="Keep the content's colours, by this method.",
)
@click.option("--size", default="512", help="Longer side in pixels, or original.  [512]")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A file of optistyle train, or published files, or their folder; repeatable.",
)
@click.option("--device", default="auto", help="As in run.  [auto]")
def baseline_command(
    model: str,
    content: Path | None,
    styles: tuple[Path, ...],
    output: Path,
    alpha: float,
    level_alpha: str | None,
    alpha_s: str | None,
    weights: tuple[Path, ...],
    device: str,
    **given: Any,
) -> None:
    """Paint CONTENT in one pass of a feed-forward MODEL; or list the models.

    \b
    optistyle baseline adain photo.jpg painting.jpg --alpha 0.7
    optistyle baseline sanet photo.jpg one.jpg two.jpg --style-weights 2,1
    optistyle baseline johnson photo.jpg --weights rain_princess.pth
    optistyle baseline list
    """
    from optistyle import baselines, pictures
    from optistyle.baselines.codec import LEAST
    from optistyle.baselines.paint import paint
    from optistyle.machine.devices import resolve

    if model == "list":
        for line in _models():
            click.echo(line)
        return
    one_style = baselines.named(model).one_style
    if content is None or not (styles or one_style):
        raise InputError("give a CONTENT image and one or more STYLE images")
    recipe = _recipe(Recipe(scales="single"), given)
    pictures.check_writable(output, inputs=[content, *styles, *weights])
    picture, paintings = pictures.read(content), [pictures.read(style) for style in styles]
    for path, given_picture in zip((content, *styles), (picture, *paintings), strict=True):
        if min(given_picture.height, given_picture.width) < LEAST:
            side = f"{given_picture.width}x{given_picture.height} px"
            raise InputError(f"{path} is {side}; it must be {LEAST} px a side or more")
    network = baselines.load(model, files=weights, device=resolve(device))
    painted = paint(
        network,
        picture,
        paintings,
        recipe.schedule(picture.height, picture.width)[0][0],
        shares=recipe.shares(len(styles)) if styles else recipe.style_weights or None,
        alpha=_strength(alpha, level_alpha, alpha_s, network.levels),
        original_colors=recipe.original_colors,
    )
    pictures.write(output, painted)
    click.echo(output)


def _models() -> Iterator[str]:
    from optistyle import baselines

    for name, entry in baselines.MODELS.items():
        path = baselines.packaged(name)
        here = "no weights here: give published ones with --weights"
        if path.is_file():
            notes = ", ".join(f"{k} {x}" for k, x in baselines.facts(path).items() if k != "model")
            here = f"{path.stat().st_size / 1e6:.1f} MB  ({notes})"
        yield f"{name}: {entry.source}"
        yield f"    {here}"
        yield f"    licence of the weights: {entry.licence}"


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


class _Trainings(_Group):
    """Knows the trainable models when it is asked for one: importing torch takes seconds."""

    def list_commands(self, context: click.Context) -> list[str]:
        self._fill()
        return super().list_commands(context)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        self._fill()
        return super().resolve_command(context, args)

    def _fill(self) -> None:
        from optistyle.baselines import MODELS

        for name, entry in MODELS.items():
            if entry.make is not None:
                self.add_command(_train_model(name, entry.one_style, entry.schedule))


@main.group(cls=_Trainings)
def train() -> None:
    """Train networks of our own."""


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


@train.command("slim")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@_training("slim_vgg19.safetensors", "out/slim")
@click.option("--steps", type=int, default=None, help="Training steps.  [7500]")
@click.option("--seed", type=int, default=0, help="Of weights, crops and order.  [0]")
def train_slim(
    folders: tuple[Path, ...],
    output: Path,
    work: Path,
    held_out: tuple[Path, ...],
    steps: int | None,
    seed: int,
) -> None:
    """Distil the real VGG-19 into the slim encoder, on the images under FOLDERS."""
    import logging

    from optistyle import files
    from optistyle.encoders import load
    from optistyle.training.slim import Settings, distil, save

    files.check_place(output)
    settings = Settings(seed=seed)
    if steps is not None:
        if steps < 1:
            raise InputError(f"steps is {steps}; it must be 1 or more")
        settings = replace(settings, steps=steps)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    save(distil(load("vgg19"), folders, work, settings=settings, held_out=held_out), output)
    click.echo(output)


def _train_model(name: str, one_style: bool, schedule: Mapping[str, Any]) -> click.Command:
    """``optistyle train NAME`` for a feed-forward model."""
    from optistyle.training.feed_forward import Settings

    usual = Settings(**schedule)

    @_training(f"{name}.safetensors", f"out/{name}")
    @click.option(
        "--contents",
        multiple=True,
        required=True,
        type=click.Path(path_type=Path),
        help="A folder of photographs; repeatable.",
    )
    @click.option(
        "--styles",
        multiple=True,
        required=True,
        type=click.Path(path_type=Path),
        help="The painting to learn." if one_style else "A folder of paintings; repeatable.",
    )
    @click.option("--encoder", default="slim", help="slim or vgg19.  [slim]")
    @click.option(
        "--start",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Weights of another model, whose decoder to start from in place of the warm-up.",
    )
    @click.option(
        "--warm-up-steps", type=int, help=f"Of giving images back.  [{usual.warm_up_steps}]"
    )
    @click.option("--steps", type=int, help=f"Of stylisation.  [{usual.steps}]")
    @click.option("--batch", type=int, help=f"[{usual.batch}]")
    @click.option("--crop", type=int, help=f"In px.  [{usual.crop}]")
    @click.option(
        "--learning-rate", type=float, help=f"Of Adam, at first.  [{usual.learning_rate:g}]"
    )
    @click.option("--style-weight", type=float, help="Of style in the losses.  [the model's own]")
    @click.option("--seed", type=int, help="Of weights, crops and order.  [0]")
    @click.option("--device", default="auto", help="As in run.  [auto]")
    def command(
        contents: tuple[Path, ...],
        styles: tuple[Path, ...],
        held_out: tuple[Path, ...],
        output: Path,
        work: Path,
        encoder: str,
        start: Path | None,
        style_weight: float | None,
        device: str,
        **given: Any,
    ) -> None:
        import logging

        from optistyle import baselines, encoders, files, pictures
        from optistyle.machine.devices import computes, resolve
        from optistyle.training import feed_forward as training

        files.check_place(output)
        chosen = {key: value for key, value in given.items() if value is not None}
        if start is not None:
            chosen.setdefault("warm_up_steps", 0)
        settings = replace(usual, **chosen)
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        painting = None
        if one_style:
            if len(styles) != 1:
                raise InputError(f"{name} learns one painting: give one image with --styles")
            painting = pictures.read(styles[0]).pixels
        place = resolve(device)
        precision = "bfloat16" if computes(place, "bfloat16") else "float32"
        network = encoders.load(encoder, precision=precision, device=place)
        model = baselines.make(name, network, settings.seed, painting)
        if start is not None:
            log_line = f"starting from {len(baselines.start_from(model, start))} tensors of {start}"
            click.echo(log_line, err=True)
        if style_weight is not None:
            model.style_weight = style_weight
        sources = () if one_style else styles
        training.train(model, contents, sources, work, settings, held_out=held_out)
        notes = {
            "steps": settings.steps,
            "batch": settings.batch,
            "crop": settings.crop,
            **({"style": styles[0].name} if one_style else {}),
        }
        baselines.save(model, name, output, notes)
        click.echo(output)

    command.__doc__ = f"Train {name} on folders of photographs and paintings."
    return click.command(name)(command)


@main.command()
def info() -> None:
    """Versions, devices, encoders and caches."""
    for line in _info():
        click.echo(line)


def _info() -> Iterator[str]:
    import platformdirs
    import torch

    from optistyle.encoders.weights import SOURCES
    from optistyle.machine import devices
    from optistyle.run import versions

    for name, version in versions().items():
        yield f"{name}: {version}"
    yield f"devices: {', '.join(devices.available())} (auto: {devices.resolve()})"
    for index in range(torch.cuda.device_count()):
        yield f"cuda:{index}: {torch.cuda.get_device_name(index)}"
    yield f"threads: {torch.get_num_threads()}"
    for source in SOURCES.values():
        path = source.find()
        yield f"encoder {source.name}: {path if path and path.is_file() else 'not here'}"
    yield f"cache of mean activations: {platformdirs.user_cache_dir('optistyle')}"


if __name__ == "__main__":
    main()
