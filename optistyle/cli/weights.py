"""``optistyle weights``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from optistyle.cli.group import Group
from optistyle.errors import InputError


@click.group(cls=Group)
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
