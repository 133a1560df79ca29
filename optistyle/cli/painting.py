"""One picture of ``optistyle run``: what is checked before, what is written after."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optistyle.cli.group import say
from optistyle.cli.options import refuse_existing
from optistyle.errors import InputError
from optistyle.files import fitted
from optistyle.machine import torchrun
from optistyle.machine.ranks import ALONE, LostError, Ranks
from optistyle.machine.signals import Interrupts, code_of
from optistyle.recipes import Recipe, with_stroke

if TYPE_CHECKING:
    from optistyle.encoders.base import Encoder
    from optistyle.optimise.objective import Terms
    from optistyle.pictures import Picture, Stored
    from optistyle.run import Result, Run
    from optistyle.run.manifest import Manifest

_CHECKPOINT = ".checkpoint"
#: Fractions with a larger denominator are written in percent; more styles than this are counted.
_LARGEST_DENOMINATOR, _MOST_NAMES = 12, 4


@dataclass(frozen=True)
class Order:
    """What one call of ``optistyle run`` asks of each of its pictures.

    Attributes:
        styles, recipe, bits: as given. strip: whether to leave out the photograph's notes.
        sources: files that no output may overwrite.
        resume: go on from a checkpoint. force: overwrite existing outputs.
        checkpoint_every: seconds. snapshot_every: iterations, or None.
        quiet: whether only errors are said.
        earlier: the manifest that ``--from`` names. plan: its tile, history and kernels, where all
            settings are the same; they are not recorded as asked for.
        losses: texts of loss terms beside the recipe's.
        ranks: who shares the picture.
    """

    styles: tuple[Path, ...]
    recipe: Recipe
    bits: int
    sources: tuple[Path, ...]
    resume: bool
    force: bool
    checkpoint_every: float
    snapshot_every: int | None
    quiet: bool
    earlier: Manifest | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    strip: bool = False
    ranks: Ranks = ALONE

    @property
    def extra(self) -> Terms:
        """The loss terms beside the recipe's: the earlier run's, and those named here."""
        from optistyle.losses import named

        terms = {} if self.earlier is None else {**self.earlier.extra}
        if "" not in sys.path:
            sys.path.insert(0, "")  # a term may be in a module of the working folder
        for text in self.losses:
            name, weight, term = named.parse(text)
            terms[name] = (weight, term)
        return terms

    @property
    def retunes(self) -> Sequence[Mapping[str, Any]]:
        """The changes of weights to repeat."""
        return () if self.earlier is None else self.earlier.retunes


@dataclass(frozen=True)
class Painted:
    """A picture that was written.

    Attributes:
        line: says what was written. content: the photograph.
    """

    line: str
    content: Stored


class StoppedError(Exception):
    """A picture was interrupted.

    Attributes:
        code: the exit code.
        kept: whether the picture so far was written.
    """

    def __init__(self, reason: str, code: int, kept: bool) -> None:
        super().__init__(reason)
        self.code, self.kept = code, kept


def introduction(content: str, styles: Sequence[Path], recipe: Recipe) -> str:
    """``painting a.jpg in the style of b.jpg (2/3) and c.jpg (1/3)``."""
    names = [str(path) for path in styles]
    recipe.shares(len(names))  # checks their number
    if len(names) > 1:
        shares = _spelled(recipe, len(names))
        names = [f"{name} ({share})" for name, share in zip(names, shares, strict=True)]
    if len(names) > _MOST_NAMES:
        names = [*names[:_MOST_NAMES], f"{len(names) - _MOST_NAMES} more images"]
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return f"painting {content} in the style of {listed}"


def announcement(recipe: Recipe) -> list[str]:
    """The line that says which encoder paints; none where the weights are a file of the user's."""
    from optistyle import encoders

    if recipe.weights is not None:
        return []
    return [encoders.announcement(recipe.encoder, encoders.choose(recipe.encoder))]


def _spelled(recipe: Recipe, count: int) -> list[str]:
    """Every style's share: as fractions where all are small ones, else in percent."""
    weights = [Fraction(str(weight)) for weight in recipe.style_weights or (1.0,) * count]
    shares = [weight / sum(weights) for weight in weights]
    if all(share.denominator <= _LARGEST_DENOMINATOR for share in shares):
        return [str(share) for share in shares]
    return [f"{float(100 * share):.3g} %" for share in shares]


def beside(output: Path) -> tuple[Path, Path]:
    """The .json and the checkpoint of an output."""
    names = fitted(output.stem, ".json"), fitted(output.name, _CHECKPOINT)
    return output.with_name(names[0]), output.with_name(names[1])


def check(output: Path | None, order: Order) -> None:
    """Raise `InputError` where an output cannot be written, or would overwrite something."""
    from optistyle import pictures

    if output is None:
        with tempfile.TemporaryDirectory() as folder, called(Path(folder, "stdout.png"), "stdout"):
            pictures.check_writable(Path(folder, "stdout.png"), bits=order.bits)
        return
    report, checkpoint = beside(output)
    pictures.check_writable(output, inputs=order.sources, bits=order.bits)
    for path in (report, checkpoint):
        if path.is_dir():
            raise InputError(
                f"{path} is a folder, and a file of that name is to be written: choose another -o"
            )
        if path.exists() and any(x.exists() and path.samefile(x) for x in order.sources):
            raise InputError(f"{path} would be overwritten, and is an input: choose another -o")
    if order.resume and (checkpoint.exists() or _unfinished(report)):
        return
    if checkpoint.exists() and not (order.force or output.exists() or report.exists()):
        raise InputError(
            f"{checkpoint} is of an unfinished run: go on with --resume, or start over with --force"
        )
    refuse_existing((output, report), order.force)


def _unfinished(report: Path) -> bool:
    from optistyle.run.manifest import Manifest

    with contextlib.suppress(InputError):
        return Manifest.read(report).interrupted
    return False


@contextlib.contextmanager
def called(path: Path, name: str) -> Iterator[None]:
    """Errors speak of a temporary file by this name."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(path), name)) from None


def from_stdin() -> Picture:
    """The image on stdin."""
    from optistyle import pictures

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stdin")
        path.write_bytes(sys.stdin.buffer.read())
        with called(path, "stdin"):
            return pictures.read(path)


def stroked(recipe: Recipe, px: float | None, content: Path | Picture) -> Recipe:
    """The recipe with strokes of that width, where ``--stroke`` was given."""
    if px is None:
        return recipe
    if isinstance(content, Path):
        from optistyle import pictures

        content = pictures.read(content)
    return with_stroke(recipe, px, content.height, content.width)


def paint(
    content: Path | Picture,
    output: Path | None,
    order: Order,
    interrupts: Interrupts,
    *,
    encoder: Encoder | None = None,
    opening: Sequence[str] | None = None,
) -> Painted:
    """Paint one picture and write it.

    Args:
        content: a file, or what stdin held.
        output: a file that `check` has passed, or None for stdout.
        order: the settings.
        interrupts: the signals that end the picture early.
        encoder: one that is loaded already.
        opening: the lines that are said first, before the plan; None says none of these. They
            wait until all input has been checked, so that an error is one line.

    Raises:
        InputError: anything that cannot be used.
        StoppedError: Ctrl-C or another signal, or a lost rank.
    """
    from optistyle.machine import heap
    from optistyle.run import Run

    job = Run(
        content,
        order.styles,
        replace(order.recipe, **order.plan),
        encoder=encoder,
        extra=order.extra,
        ranks=order.ranks,
        retunes=order.retunes,
    )
    if job.encoder.device.type == "cpu":
        heap.keep()
    observers = _observers(job, output, order, interrupts)
    _open(job, output, order, opening)
    loss: LostError | None = None
    code = 0
    try:
        if opening is not None:
            say(f"plan: {job.forecast()}")
        job.finish(observers)
        interrupts.hold()
        result = job.result()
        torchrun.leave()
    except (KeyboardInterrupt, LostError) as error:
        interrupts.hold()
        if isinstance(error, LostError):
            loss = error
        code = 1 if loss else code_of(error)
        torchrun.interrupt()
        if not job.checkpoint.trace or output is None:  # there is no picture, or no place for it
            raise StoppedError(str(loss or "interrupted"), code, False) from error
        result = job.result()
    if not torchrun.leads():
        torchrun.end(code if result.interrupted else 0)
    _write(job, result, output, order)
    if result.interrupted:
        raise StoppedError(str(loss or "interrupted"), code, True)
    size = f"{result.picture.width}x{result.picture.height}"
    name = "stdout" if output is None else output
    return Painted(f"{name}  ({size}, {sum(result.seconds):.0f} s)", job.inputs.content)


def _open(job: Run, output: Path | None, order: Order, opening: Sequence[str] | None) -> None:
    """Go on from a checkpoint where one is asked for, and say what is about to be done."""
    import torch

    from optistyle.run import versions

    checkpoint = None if output is None else beside(output)[1]
    fresh = order.resume and checkpoint is not None and not checkpoint.exists()
    if order.resume and checkpoint is not None and not fresh:
        # Sums in another order round differently.
        torch.set_num_threads(job.resume(checkpoint))
    if opening is None:
        return
    for line in opening:
        say(line)
    if fresh:
        say(f"no checkpoint {checkpoint}: starting from the beginning")
    if order.earlier is not None and order.earlier.versions != versions():
        path = order.earlier.path
        say(f"{path} is of other versions of optistyle or its libraries: not bit for bit")


def _observers(job: Run, output: Path | None, order: Order, interrupts: Interrupts) -> list[Any]:
    from optistyle.run.observers import Checkpoints, Observer, ProgressBar, Snapshots, Step

    class Watch(Observer):
        """Python drops an exception that is raised while an object is being deleted."""

        def stepped(self, step: Step) -> None:
            interrupts.release()

    observers: list[Observer] = [Watch()] if order.quiet else [Watch(), ProgressBar()]
    if output is not None and torchrun.leads():
        if order.snapshot_every is not None:
            overwrite = order.force or order.resume
            every, sources = order.snapshot_every, order.sources
            observers.append(
                Snapshots(output, every, sources, overwrite=overwrite, strip=order.strip)
            )
        observers.append(Checkpoints(beside(output)[1], job.identity, order.checkpoint_every))
    return observers


def _write(job: Run, result: Result, output: Path | None, order: Order) -> None:
    from optistyle import files, pictures
    from optistyle.run.checkpoint import Checkpoint

    picture = result.picture.stripped() if order.strip else result.picture
    if output is None:
        data = pictures.encode(picture, "PNG", bits=order.bits)
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise  # whoever reads has seen enough: click ends quietly
        except OSError as error:
            raise InputError(f"stdout cannot be written: {error.strerror}") from error
        return
    report, checkpoint = beside(output)
    pictures.write(output, picture, bits=order.bits)
    record = {
        "output": output.name,
        "bits": order.bits,
        "strip": order.strip,
        **result.manifest(),
    }
    record["recipe"] |= {name: getattr(order.recipe, name) for name in order.plan}
    try:
        files.write_whole(report.resolve(), json.dumps(record, indent=1).encode())
    except OSError as error:
        raise InputError(
            f"{report} cannot be written: {error.strerror}; the picture is there, and cannot be "
            "repeated by --from"
        ) from error
    if result.interrupted:
        job.checkpoint.save(checkpoint, job.identity)
    else:
        Checkpoint.discard(checkpoint)
