"""``optistyle info`` and ``optistyle presets``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import click

from optistyle.files import cache
from optistyle.published import PRESETS
from optistyle.recipes import Recipe
from optistyle.settings import spell


@click.command()
def presets() -> None:
    """List the presets: what each is for, where it differs from the default, and its source.

    Times are for 512 px on two cores.
    """
    default = Recipe()
    for name, entry in PRESETS.items():
        click.echo(f"{name}: {entry.summary()}\n    {entry.source}")
        for setting in fields(Recipe):
            value = getattr(entry.recipe, setting.name)
            if value != getattr(default, setting.name):
                click.echo(f"    --{setting.name.replace('_', '-')} {spell(value)}")


@click.command()
def info() -> None:
    """Versions, devices, encoders and caches."""
    for line in _info():
        click.echo(line)


def _info() -> Iterator[str]:
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
    yield f"cache of mean activations: {cache() or 'none, for want of a home folder'}"
