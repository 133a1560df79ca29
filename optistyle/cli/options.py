"""Options: made from the settings of `Recipe`, and shown in a short help and a full one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from optistyle.errors import InputError
from optistyle.files import check_new
from optistyle.published import described
from optistyle.recipes import STRENGTHS, Recipe, changed, settings, style_weight
from optistyle.settings import Setting, spell

#: What ``optistyle`` alone and ``optistyle run`` without arguments print.
EXAMPLES = """\
optistyle paints a photograph in the style of a painting. Three examples:

  optistyle run photo.jpg painting.jpg
  optistyle run photo.jpg painting.jpg --strength bold --size 1024 -o bold.png
  optistyle run photos/ painting.jpg -o painted/

Read more: optistyle run --help (its options), optistyle --help (all commands)."""


class Option(click.Option):
    """An option of a `Command`.

    Args:
        group: the heading that the full help shows it under.
        common: whether the short help shows it.
    """

    def __init__(self, *args: Any, group: str = "Run", common: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group, self.common = group, common


class Command(click.Command):
    """A command whose ``--help`` shows the options that people use, ``--help-all`` all of them.

    Args:
        examples: what to write to stderr, with exit code 2, where no argument is given.
    """

    def __init__(self, *args: Any, examples: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._examples = examples
        self.params.append(
            Option(
                ["--help-all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=self._show_all,
                group="Help",
                common=True,
                help="Show all options.",
            )
        )

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if not args and self._examples is not None:
            click.echo(self._examples, err=True)
            context.exit(2)
        return super().parse_args(context, args)

    @staticmethod
    def _show_all(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
        if wanted:
            context.meta[__name__] = True
            click.echo(context.get_help())
            context.exit()

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        everything = context.meta.get(__name__, False)
        sections: dict[str, list[tuple[str, str]]] = {"Run": []}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record is None or not isinstance(parameter, click.Option):
                continue
            group = getattr(parameter, "group", "Help")
            if everything:
                sections.setdefault(group, []).append(record)
            elif getattr(parameter, "common", True):
                sections.setdefault("Help" if group == "Help" else "Run", []).append(record)
        ends = sections.pop("Help")
        for heading, records in sections.items():
            with formatter.section(heading if everything else "Options"):
                formatter.write_dl(records)
        with formatter.section("Help"):
            formatter.write_dl(ends)


def _option(name: str, setting: Setting, default: Any) -> Option:
    """An option for a setting; its value is text, or None where it is not given."""
    shown = "" if default in (None, ()) else f"  [{spell(default)}]"
    return Option(
        ["--" + name.replace("_", "-")],
        metavar=setting.kind.metavar,
        help=setting.help + shown,
        group=setting.group,
        common=setting.common,
    )


def with_settings(command: click.Command) -> click.Command:
    """Give a command an option for every setting of `Recipe`."""
    default = Recipe()
    command.params += [
        _option(name, setting, getattr(default, name)) for name, setting in settings().items()
    ]
    return command


def recipe(base: Recipe, given: Mapping[str, Any], strength: str | None = None) -> Recipe:
    """The base recipe with the options that were given.

    Args:
        base: the settings of a preset or of an earlier run.
        given: values as text by the setting's name; None where an option was not given.
        strength: the value of ``--strength``.

    Raises:
        InputError: a value that cannot be used, or two options that contradict each other.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    if strength is not None:
        refuse_both("--strength", {"--beta": changes.get("beta")})
        changes["beta"] = style_weight(strength)
    return changed(base, changes)


def refuse_both(option: str, others: Mapping[str, Any]) -> None:
    """Raise `InputError` where one of the other options was given beside this one."""
    for other, value in others.items():
        if value is not None:
            raise InputError(f"{option} sets {other} as well: give one of them")


def refuse_existing(paths: Iterable[Path], force: bool) -> None:
    """Raise `InputError` where a file would be overwritten, unless ``--force`` was given."""
    for path in paths:
        if not force:
            check_new(path)


force = click.option(
    "--force", cls=Option, is_flag=True, common=True, help="Overwrite an existing output."
)
strip = click.option(
    "--strip/--keep",
    cls=Option,
    default=None,
    help="Whether to leave out the photograph's date, author and copyright. Its place is never "
    "written.  [keep]",
)
strength = click.option(
    "--strength",
    cls=Option,
    metavar="|".join((*STRENGTHS, "X")),
    group="Style",
    common=True,
    help="How far from the photograph: a factor of --beta's default. "
    + ", ".join(f"{word} is {factor:g}" for word, factor in STRENGTHS.items())
    + ".  [balanced]",
)
stroke = click.option(
    "--stroke",
    cls=Option,
    type=float,
    metavar="PX",
    group="Style",
    common=True,
    help="Width of the larger strokes in pixels of the result, roughly: sets --style-scale to "
    "32 x PX / size, and the first scale with it.  [size / 32]",
)
preset = click.option(
    "--preset",
    "preset_name",
    cls=Option,
    metavar="NAME",
    common=True,
    help=f"Settings by name, which other options change: {described()}. Times are for 512 px on "
    "two cores; optistyle presets lists the settings.  [default]",
)
