"""The command line: parse, call one public function, write."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from optistyle.errors import InputError
from optistyle.recipes import PARSERS, PRESETS, Recipe, preset

_CHECKPOINT = ".checkpoint"


class _Group(click.Group):
    """Turns `InputError` into one line on stderr and exit code 2; suggests the nearest command."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except InputError as error:
            print(f"optistyle: {error}", file=sys.stderr)
            sys.exit(2)


class _GroupedHelp(click.Command):
    """Shows options under the headings of `Recipe`'s groups."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None:
                sections.setdefault(getattr(parameter, "group", "Run"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class _Setting(click.Option):
    """An option made from a field of `Recipe`; its value is text, or None where it is not given."""

    def __init__(self, setting: Any) -> None:
        notes, default = setting.metadata, getattr(Recipe(), setting.name)
        flag = "--" + setting.name.replace("_", "-")
        choices = notes["choices"]
        kind: Any = click.STRING
        if setting.name not in PARSERS and isinstance(default, int | float):
            kind = click.INT if isinstance(default, int) else click.FLOAT
        if setting.name == "lr":
            kind = click.FLOAT
        metavar = "|".join(choices) if choices else notes["metavar"] or None
        shown = "" if default in (None, ()) else f"  [{_spell(default)}]"
        super().__init__([flag], type=kind, metavar=metavar, help=notes["help"] + shown)
        self.group = notes["group"]


def _spell(value: Any) -> str:
    if isinstance(value, dict):
        from optistyle.encoders.layers import spell

        return spell(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _settings(command: click.Command) -> click.Command:
    """Give a command an option for every field of `Recipe`."""
    command.params = [
        *[p for p in command.params if isinstance(p, click.Argument)],
        *[_Setting(setting) for setting in fields(Recipe)],
        *[p for p in command.params if not isinstance(p, click.Argument)],
    ]
    return command


def _recipe(base: Recipe, given: dict[str, Any]) -> Recipe:
    """The base with the options that were given."""
    changes = {}
    for name, value in given.items():
        if value is not None:
            changes[name] = PARSERS[name](value) if name in PARSERS else value
    return replace(base, **changes)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="optistyle")
def main() -> None:
    """Style transfer by optimising the picture itself."""


@_settings
@main.command(cls=_GroupedHelp)
@click.argument("content", type=click.Path(path_type=Path), required=False)
@click.argument("styles", metavar="STYLE...", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("out.png"),
    help="PNG, JPEG, WebP or TIFF; settings and trace go beside it as .json.  [out.png]",
)
@click.option("--bits", type=int, default=8, help="8, or 16 for PNG and TIFF.  [8]")
@click.option("--preset", "preset_name", metavar="NAME", default=None,
              help="Published settings (see optistyle presets); other options change them.")
@click.option("--from", "manifest", type=click.Path(path_type=Path), metavar="JSON",
              help="Repeat the run that wrote this .json; other options change it.")
@click.option("--resume", is_flag=True, help="Go on from this output's checkpoint, if there is one.")
@click.option("--checkpoint-every", type=float, default=60.0, metavar="SECONDS",
              help="How often the state is saved for --resume.  [60]")
@click.option("--snapshot-every", type=int, default=None, metavar="N",
              help="Write the picture every N iterations, as out-00050.png.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def run(
    content: Path | None,
    styles: tuple[Path, ...],
    output: Path,
    bits: int,
    preset_name: str | None,
    manifest: Path | None,
    resume: bool,
    checkpoint_every: float,
    snapshot_every: int | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Paint CONTENT in the style of one or several STYLE images.

    \b
    optistyle run photo.jpg painting.jpg -o picture.png
    optistyle run photo.jpg painting.jpg --gamma 0 --size 768
    optistyle run photo.jpg one.jpg two.jpg --style-weights 2,1
    """
    from optistyle import devices, encoders, images
    from optistyle.observers import Checkpoints, Observer, ProgressBar, Snapshots
    from optistyle.stylize import Run, load_encoder, stylize

    base, threads = preset(preset_name or "default"), None
    if manifest is not None:
        if preset_name is not None:
            raise InputError("--preset and --from both give the settings; choose one")
        base, recorded, threads = _read_manifest(manifest)
        if content is None:
            content, *rest = _unchanged(recorded, manifest)
            styles = tuple(rest)
    if content is None or not styles:
        raise InputError("give a CONTENT image and one or more STYLE images (or --from JSON)")
    recipe = _recipe(base, given)
    inputs = [content, *styles, *_files(recipe)]
    report, checkpoint = output.with_suffix(".json"), output.with_name(output.name + _CHECKPOINT)
    written_from = [manifest] if manifest is not None else []
    images.check_writable(output, inputs=inputs, bits=bits)
    for source in (*inputs, *written_from):
        if report.exists() and source.exists() and report.samefile(source):
            raise InputError(f"{report} would be overwritten, and is an input: choose another -o")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)

    device = devices.resolve(recipe.device)
    if recipe.weights is None and not quiet:
        print(encoders.choose(recipe.encoder, device)[1], file=sys.stderr)
    encoder = load_encoder(recipe, device)
    going_on = resume and checkpoint.exists()
    if resume and not going_on and not quiet:
        print(f"no checkpoint {checkpoint}: starting from the beginning", file=sys.stderr)
    planned = Run(content, styles, recipe, encoder=encoder)
    checkpoints = Checkpoints(checkpoint, planned.identity, checkpoint_every)
    observers: list[Observer] = [checkpoints]
    if not quiet:
        observers.append(ProgressBar())
    if snapshot_every is not None:
        observers.append(Snapshots(output, snapshot_every))
    result = stylize(
        content,
        styles,
        recipe,
        encoder=encoder,
        observers=observers,
        resume=checkpoint if going_on else None,
    )
    result.save(output, bits=bits)
    record = {"inputs": [_identified(path) for path in inputs], "styles": len(styles)}
    text = json.dumps({**record, **result.manifest()}, indent=1)
    images.write_whole(report.resolve(), text.encode())
    if result.interrupted:
        checkpoints.save()
        print(f"interrupted: {output} holds the picture so far; --resume goes on", file=sys.stderr)
        sys.exit(130)
    checkpoint.unlink(missing_ok=True)
    if not quiet:
        print(f"{output}  ({result.picture.width}x{result.picture.height}, {result.seconds:.0f} s)")


def _files(recipe: Recipe) -> list[Path]:
    """The files that a recipe itself names."""
    return [Path(name) for name in (recipe.init, recipe.weights) if name and Path(name).is_file()]


def _identified(path: Path) -> dict[str, str]:
    from optistyle.images import digest

    return {"path": str(path.resolve()), "sha256": digest(path)}


def _read_manifest(path: Path) -> tuple[Recipe, dict[str, Any], int]:
    try:
        record = json.loads(path.read_text())
        return Recipe.from_dict(record["recipe"]), record, int(record["threads"])
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a .json that optistyle run has written") from error


def _unchanged(record: dict[str, Any], manifest: Path) -> list[Path]:
    """The content and style files of a manifest, checked to be what they were."""
    from optistyle.images import digest

    paths = []
    for entry in record["inputs"]:
        path = Path(entry["path"])
        if digest(path) != entry["sha256"]:
            raise InputError(
                f"{path} is not the file it was when {manifest} was written; to use it all the "
                "same, give CONTENT and STYLE"
            )
        paths.append(path)
    return paths[: 1 + record["styles"]]


@main.command()
def presets() -> None:
    """List the presets: their settings where they differ from the default, and their sources."""
    default = Recipe()
    for name, entry in PRESETS.items():
        click.echo(f"{name}\n    {entry.source}")
        for setting in fields(Recipe):
            value = getattr(entry.recipe, setting.name)
            if value != getattr(default, setting.name):
                click.echo(f"    --{setting.name.replace('_', '-')} {_spell(value)}")


@main.group()
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


@main.command()
def info() -> None:
    """Versions, devices, encoders and caches."""
    for line in _info():
        click.echo(line)


def _info() -> Iterator[str]:
    import platformdirs
    import torch

    from optistyle import devices
    from optistyle.encoders.weights import SOURCES
    from optistyle.stylize import versions

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
