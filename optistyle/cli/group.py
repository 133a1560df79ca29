"""Groups of commands: loaded when called, errors in one line, the nearest name suggested."""

from __future__ import annotations

import contextlib
import getpass
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from optistyle.cli.console import console
from optistyle.errors import InputError, unknown
from optistyle.machine import torchrun
from optistyle.machine.ranks import LostError
from optistyle.machine.signals import code_of


def say(line: str) -> None:
    """Write one line to stderr; of several ranks, only the leading one does.

    The work does not depend on a reader: a closed pipe or terminal is no error.
    """
    if torchrun.leads():
        with contextlib.suppress(OSError):
            print(f"optistyle: {line}", file=sys.stderr, flush=True)


def _without_a_name() -> None:
    """Name the cache of torch's compiler, whose import fails for a user without a name."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ.setdefault(
            "TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), "torchinductor")
        )


@dataclass(frozen=True)
class Lazy:
    """A command that is imported when it is called.

    Attributes:
        place: ``module:attribute``.
        help: one line for the group's help, which imports no command.
    """

    place: str
    help: str

    def load(self) -> click.Command:
        module, _, attribute = self.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


class Group(click.Group):
    """A group that reports an error in one line on stderr and exits with 2.

    Args:
        lazy: commands by name, imported when called.
        alone: what the group prints when it is called without arguments; its help by default.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, Lazy] | None = None,
        alone: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy, self._alone = lazy or {}, alone

    def main(self, *args: Any, **kwargs: Any) -> Any:
        _without_a_name()
        with console():
            self._main(*args, **kwargs)

    def _main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_, **__: say(str(message))
                sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except LostError as error:
            say(f"{error}; nothing was written")
            torchrun.end(1)
        except (click.ClickException, InputError) as error:
            text = error.format_message() if isinstance(error, click.ClickException) else str(error)
            say(" ".join(text.split()))
            torchrun.end(2)
        except FloatingPointError as error:
            say(str(error))
            torchrun.end(1)
        except OSError as error:  # of a disk or a device, rather than of this program
            say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            torchrun.end(1)
        except (click.Abort, KeyboardInterrupt) as error:
            cause = error.__cause__ or error  # click raises Abort from what was raised here
            say(f"interrupted: {cause}" if str(cause) else "interrupted; nothing was written")
            torchrun.end(code_of(cause))
        except Exception:
            if torchrun.leads():
                raise
            torchrun.end(1)  # rank 0 has been told

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if not args and self._alone is not None:
            click.echo(self._alone)
            context.exit()
        return super().parse_args(context, args or ["--help"])

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self._lazy, *super().list_commands(context)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return self._lazy[name].load() if name in self._lazy else super().get_command(context, name)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(context)
        if args[0] not in names and not args[0].startswith("-"):
            raise unknown("command", args[0], names)
        return super().resolve_command(context, args)

    def rows(self) -> list[tuple[str, str]]:
        """Name and short help of every command, for the group's help."""
        rows = [(name, lazy.help) for name, lazy in self._lazy.items()]
        return rows + [(name, x.get_short_help_str()) for name, x in self.commands.items()]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(self.rows())
