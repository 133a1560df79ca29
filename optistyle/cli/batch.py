"""``optistyle run`` over a folder or a pattern: every image, with one encoder."""

from __future__ import annotations

import contextlib
import glob
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from optistyle.cli.console import tell
from optistyle.cli.group import say
from optistyle.cli.painting import (
    Order,
    StoppedError,
    announcement,
    beside,
    check,
    introduction,
    paint,
    stroked,
)
from optistyle.errors import InputError
from optistyle.files import digest, fitted
from optistyle.machine import locks, torchrun
from optistyle.machine.signals import Interrupts, code_of

if TYPE_CHECKING:
    from optistyle.encoders.base import Encoder


def files_of(content: str) -> list[Path] | None:
    """The images of a folder or a pattern, sorted; None for the name of one file.

    An existing file comes before a pattern, as ``photo[1].jpg`` may be both. Names that start with
    a dot are skipped.

    Raises:
        InputError: there is none.
    """
    path = Path(content)
    if path.is_dir():
        from optistyle.pictures import FORMATS

        found = [x for x in path.iterdir() if x.suffix.lower() in FORMATS]
        nothing = f"{path} is a folder without images ({', '.join(FORMATS)}): choose another"
    elif not path.exists() and any(sign in content for sign in "*?["):
        found = [Path(name) for name in glob.glob(content, recursive=True)]
        nothing = f"no file matches {content!r}: check the pattern"
    else:
        return None
    files = sorted(x for x in found if x.is_file() and not x.name.startswith("."))
    if not files:
        raise InputError(nothing)
    return files


def outputs_of(contents: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Content -> ``STEM.png`` in the folder; with a part of its SHA-256 where stems collide.

    Names that differ in case only collide too, for some disks take them for the same.
    """
    stems = Counter(path.stem.casefold() for path in contents)
    outputs = {}
    for path in contents:
        ending = ".png"
        if stems[path.stem.casefold()] > 1:
            with contextlib.suppress(InputError):  # a file that cannot be read fails later
                ending = f"-{digest(path)[:8]}.png"
        outputs[path] = folder / fitted(path.stem, ending)
    return outputs


def paint_all(
    name: str, contents: Sequence[Path], output: str | None, order: Order, stroke: float | None
) -> None:
    """Paint every content into the output folder, skip finished ones, and exit with 1 on a failure.

    Args:
        name: of the folder or the pattern. contents: its files.
        output: the value of ``-o``.
        order: of every picture. stroke: the value of ``--stroke``.

    Raises:
        InputError: before the first picture, where a setting, a style or an output is at fault.
    """
    from optistyle import pictures
    from optistyle.run import load_encoder, resolved

    folder = _folder(name, contents, output)
    introduced = introduction(f"{len(contents)} images of {name}", order.styles, order.recipe)
    opening = [introduced, *announcement(order.recipe)]
    for style in order.styles:
        pictures.read(style)
    order = replace(order, sources=(*order.sources, *contents), recipe=resolved(order.recipe))
    with locks.held(folder):
        todo, finished = _sorted(outputs_of(contents, folder), order, stroke)
        encoder = load_encoder(order.recipe) if todo else None
        folder.mkdir(parents=True, exist_ok=True)
        if not order.quiet:
            for line in opening:
                say(line)
        painted, failed, code = _paint_each(todo, order, stroke, encoder)
    if code:
        done = len(finished) + painted
        say(f"interrupted: {done} of {len(contents)} are finished; the same command goes on")
        torchrun.end(code)
    if not order.quiet:
        say(f"{painted} painted, {len(finished)} finished before, {failed} failed")
    if failed:
        torchrun.end(1)


def _paint_each(
    todo: Sequence[tuple[Path, Path, bool]],
    order: Order,
    stroke: float | None,
    encoder: Encoder | None,
) -> tuple[int, int, int]:
    """How many were painted, how many failed, and the exit code of an interruption, or 0."""
    painted = failed = 0
    try:
        with Interrupts() as interrupts:
            for index, (content, target, resume) in enumerate(todo, 1):
                count = f"{index}/{len(todo)}: {content}"
                opening = None if painted or order.quiet else [count]
                if painted and not order.quiet:  # the first picture's plan stands for all
                    say(count)
                own = replace(order, resume=resume)
                line = _attempt(content, target, own, stroke, encoder, opening, interrupts)
                painted, failed = painted + (line is not None), failed + (line is None)
                if line is not None and not order.quiet:
                    tell(line)
                interrupts.release()
    except KeyboardInterrupt as error:
        return painted, failed, code_of(error)
    except StoppedError as stopped:
        return painted, failed, stopped.code
    return painted, failed, 0


def _attempt(
    content: Path,
    target: Path,
    order: Order,
    stroke: float | None,
    encoder: Encoder | None,
    opening: Sequence[str] | None,
    interrupts: Interrupts,
) -> str | None:
    """Paint one content; say why, and return None, where that fails."""
    try:
        order = replace(order, recipe=stroked(order.recipe, stroke, content))
        with locks.held(beside(target)[0], str(target)):
            check(target, order)
            done = paint(content, target, order, interrupts, encoder=encoder, opening=opening)
            return done.line
    except StoppedError:
        raise
    except Exception as error:  # whatever is wrong with one, the others are painted
        line = " ".join(str(error).split())
        if not isinstance(error, InputError):
            line = f"{type(error).__name__}: {line}"
        say(line if line.startswith(str(content)) else f"{content}: {line}")
        return None


def _folder(name: str, contents: Sequence[Path], output: str | None) -> Path:
    """The folder of the results."""
    if output is None:
        raise InputError(f"{name} stands for {len(contents)} images: name a folder with -o FOLDER/")
    folder = Path(output)
    is_folder = folder.is_dir() or output.endswith(("/", os.sep)) or not folder.suffix
    if output == "-" or not is_folder or folder.is_file():
        raise InputError(
            f"-o {output}: {name} stands for {len(contents)} images; name a folder, as in "
            "-o painted/"
        )
    if any(folder.resolve() == content.resolve().parent for content in contents):
        raise InputError(f"-o {output} is the folder of the images: choose another")
    return folder


def _sorted(
    outputs: Mapping[Path, Path], order: Order, stroke: float | None
) -> tuple[list[tuple[Path, Path, bool]], list[Path]]:
    """What is to be painted (content, output, whether to resume), and what is finished.

    Raises:
        InputError: there are outputs of other settings, and they are not to be overwritten.
    """
    from optistyle.run.manifest import Manifest

    styles = [digest(style) for style in order.styles]
    todo, finished, others = [], [], []
    for content, target in outputs.items():
        report, checkpoint = beside(target)
        earlier = None
        with contextlib.suppress(InputError):
            earlier = Manifest.read(report)
        if earlier is not None and target.exists() and not earlier.interrupted:
            with contextlib.suppress(InputError):  # an image that cannot be read fails later
                recipe = stroked(order.recipe, stroke, content)
                same = earlier.matches(
                    recipe, order.bits, digest(content), styles, order.extra, strip=order.strip
                )
                if same:
                    finished.append(target)
                    continue
        resume = checkpoint.exists() or (earlier is not None and earlier.interrupted)
        if not (order.force or resume) and (target.exists() or report.exists()):
            others.append(target)
        todo.append((content, target, resume and not order.force))
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InputError(
            f"{others[0]}{more}: of other settings or inputs; choose another folder with -o, or "
            "overwrite them with --force"
        )
    return todo, finished
