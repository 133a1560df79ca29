"""The run itself: it iterates, can be interrupted, retuned and resumed, and gives a result."""

from __future__ import annotations

import contextlib
import logging
import math
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from optistyle import pictures
from optistyle.encoders.base import Encoder
from optistyle.errors import unknown
from optistyle.machine.ranks import ALONE, Ranks, match
from optistyle.optimise.objective import Measured, Objective, Terms, digest
from optistyle.optimise.scale import Progress, outcome, steps
from optistyle.optimise.solvers import Solver
from optistyle.pictures import Picture
from optistyle.recipes import Recipe, changed
from optistyle.run import stages
from optistyle.run.checkpoint import Checkpoint
from optistyle.run.inputs import ImageLike, Inputs, read_inputs
from optistyle.run.observers import Observer, ProgressBar, Step
from optistyle.run.plan import Plan, make_plan
from optistyle.run.result import Result
from optistyle.run.terms import WEIGHTS, all_terms

log = logging.getLogger(__name__)

#: The settings that `Run.retune` changes.
TUNABLE = ("alpha", "beta", "gamma", "tv", "style_weights")


def stylize(
    content: ImageLike,
    styles: ImageLike | Sequence[ImageLike],
    recipe: Recipe | None = None,
    *,
    encoder: Encoder | None = None,
    extra: Terms | None = None,
    observers: Sequence[Observer] = (),
    progress: bool = True,
) -> Result:
    """Paint a photograph in the style of one or several paintings.

    Args:
        content: the photograph: a file, a PIL image, an array (H, W, 3) of uint8 in 0...255 or
            floats in 0...1, a tensor (1, 3, H, W) of the same, or a `Picture`. Transparency is a
            mask: transparent places are left out of the losses, and the result is transparent
            there.
        styles: one painting or a list of them, of the same kinds. The recipe's ``style_weights``
            are their relative shares.
        recipe: the settings; `Recipe()` by default.
        encoder: an encoder to use in place of the recipe's, such as one that `load_encoder`
            returned, so that several runs load it once.
        extra: loss terms beside the recipe's, as ``{"name": (weight, term)}``; see `LossTerm`.
        observers: objects that are told of every step; see `Observer`.
        progress: whether to show a progress bar.

    Returns:
        The result. Ctrl-C ends the run early and returns the picture as it is.

    Raises:
        InputError: an input that cannot be used, before the work starts wherever possible.

    >>> import torch, optistyle
    >>> recipe = optistyle.Recipe(size=32, iterations=2, encoder="slim", device="cpu")
    >>> photograph, painting = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 32, 32)
    >>> result = optistyle.stylize(photograph, painting, recipe, progress=False)
    >>> result.image.shape
    torch.Size([1, 3, 21, 32])
    """
    run = Run(content, styles, recipe, encoder=encoder, extra=extra)
    with contextlib.suppress(KeyboardInterrupt):
        run.finish([*([ProgressBar()] if progress else []), *observers])
    return run.result()


class Run:
    """Iterate over the steps of a run; stop, look, change weights and go on at any time.

    A second loop continues after the last step, also after an error or Ctrl-C in the middle of
    one. ``result()`` returns the picture as it is at any moment.

    Args:
        content: as in `stylize`, or `Inputs` that were read before; then leave out ``styles``.
        styles: as in `stylize`.
        recipe: as in `stylize`.
        plan: a plan for these inputs that was made before; its settings replace ``recipe``.
        encoder: as in `stylize`.
        extra: as in `stylize`.
        measured: measurements of the paintings that several runs share.
        ranks: the processes that share the tiles; see `optistyle.machine.ranks`.
        retunes: changes of weights to repeat, as a manifest records them.

    Attributes:
        inputs: the pictures.
        plan: encoder, scales, tiles and memory; its ``recipe`` has ``auto`` resolved.
        identity: a hash of inputs, settings, encoder and version; a checkpoint fits only a run with
            the same one.

    Raises:
        InputError: an input that cannot be used.

    >>> import torch
    >>> from optistyle import Recipe, Run
    >>> recipe = Recipe(size=32, iterations=3, encoder="slim", device="cpu")
    >>> run = Run(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), recipe)
    >>> for step in run:
    ...     if step.iteration == 2:
    ...         run.retune(beta=1e6)
    >>> len(run.result().trace)
    3
    """

    def __init__(
        self,
        content: ImageLike | Inputs,
        styles: ImageLike | Sequence[ImageLike] = (),
        recipe: Recipe | None = None,
        *,
        plan: Plan | None = None,
        encoder: Encoder | None = None,
        extra: Terms | None = None,
        measured: Measured | None = None,
        ranks: Ranks = ALONE,
        retunes: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        if not isinstance(content, Inputs):
            content = read_inputs(content, styles, recipe)
        self.inputs = content
        self.plan = plan or make_plan(content, recipe, encoder=encoder, extra=extra, ranks=ranks)
        self._asked, self._measured = self.plan.recipe, measured
        self._starting = stages.starting_picture(self.inputs, self.plan)
        if self.plan.ranks.count > 1:
            match(self.plan.ranks, {"the start": digest(self._starting.picture.pixels)})
        self._scheduled = list(retunes)
        self.identity = stages.identify(self.inputs, self.plan, self._starting, retunes)
        start = self._start(0)
        #: Replaced as one, so that an interruption at any moment finds the two in agreement.
        self._standing: tuple[Objective | None, Checkpoint] = (
            None,
            Checkpoint(0, Progress.start(start, self._solver.start(start))),
        )
        self._stepping = self._steps()
        self._ended = False

    @property
    def recipe(self) -> Recipe:
        """The settings, with the weights as they are now."""
        return self.plan.recipe

    @property
    def encoder(self) -> Encoder:
        """The encoder in use."""
        return self.plan.encoder

    @property
    def schedule(self) -> Sequence[tuple[tuple[int, int], int]]:
        """(H, W) and iterations of every scale."""
        return self.plan.schedule

    @property
    def checkpoint(self) -> Checkpoint:
        """The state of the run after its last step."""
        return self._standing[1]

    def forecast(self) -> str:
        """Return one line with the sizes, the memory and the time that the run needs."""
        return self.plan.describe()

    def resume(self, path: Path) -> int:
        """Continue from a checkpoint file of a run with the same ``identity``.

        Args:
            path: a file that `optistyle.run.observers.Checkpoints` wrote.

        Returns:
            The number of threads that computed the checkpoint. With as many
            (`torch.set_num_threads`) the run ends in the same bytes as without an interruption.

        Raises:
            InputError: a file that cannot be read, or a checkpoint of another run.
        """
        at = Checkpoint.load(path, self.identity, self.encoder.device)
        if at.retunes:
            self._reweigh(at.retunes[-1])
        self._scheduled = self._scheduled[len(at.retunes) :]
        self._standing = (None, at)
        self._stepping, self._ended = self._steps(), False
        return at.threads

    def retune(self, weights: Recipe | None = None, **changes: Any) -> None:
        """Change weights between two steps and continue from the picture as it is.

        The solver forgets what it learned of the old objective. The trace and the manifest record
        the change, so that the run can be repeated.

        Args:
            weights: a recipe whose weights replace the present ones.
            changes: ``alpha``, ``beta``, ``gamma``, ``tv`` or ``style_weights``.

        Raises:
            InputError: another setting, a value that is not allowed, or only weights of 0.
        """
        if strange := sorted(set(changes) - set(TUNABLE)):
            raise unknown("weight", strange[0], TUNABLE)
        named = {} if weights is None else {name: getattr(weights, name) for name in TUNABLE}
        recipe = changed(self.recipe, {**named, **changes})
        at = self.checkpoint
        retune = {
            "scale": at.scale,
            "iteration": at.progress.iteration,
            **{name: _plain(getattr(recipe, name)) for name in TUNABLE},
        }
        self._retune(retune)

    def finish(self, observers: Sequence[Observer] = ()) -> None:
        """Step to the end, and tell the observers of every step."""
        if self.plan.ranks.count > 1:
            at = self.checkpoint
            place = [at.scale, at.progress.iteration, digest(at.progress.image)]
            match(self.plan.ranks, {"where they go on from (--resume)": place})
        try:
            for observer in observers:
                observer.started(self.schedule)
            for step in self:
                for observer in observers:
                    observer.stepped(step)
        finally:
            for observer in observers:
                observer.ended()

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        self._repeat_retunes()
        try:
            with self.plan.demand.guard(*self.plan.size, self.plan.fit):
                return next(self._stepping)
        except StopIteration:
            raise
        except BaseException:
            self._stepping = self._steps()  # the next call goes on from the last whole step
            raise

    def result(self) -> Result:
        """Return the picture as it is, at the size of the recipe, with the record of the run."""
        objective, at = self._standing
        lost = self.plan.ranks.lost
        # Ranks that have not ended together do not measure together.
        apart = lost or not self._ended
        first: dict[str, float] = {}
        final: dict[str, float] = {}
        if objective is None or (objective.shared and apart):
            image = self._view(at.progress)()
        else:
            first = objective.evaluate(self._start(at.scale).clamp(0, 1))
            image = outcome(objective, self._solver, at.progress).clamp(0, 1)
            final = objective.evaluate(image)
        return Result(
            picture=stages.finished(image, self.inputs, self.plan, self.plan.size),
            trace=list(at.trace),
            first=first,
            final=final,
            recipe=self._asked,
            extra=self.plan.extra,
            plan=self.plan.how(),
            inputs=self.inputs.record,
            encoder=self.encoder.name,
            device=str(self.encoder.device),
            seconds=list(at.seconds),
            warnings=list(at.warnings),
            interrupted=not self._ended or lost,
            retunes=at.retunes,
        )

    # --- stepping ---

    @property
    def _solver(self) -> Solver:
        return self.plan.solver

    def _steps(self) -> Iterator[Step]:
        objective, at = self._standing
        begun = time.monotonic() - at.seconds[-1]
        if objective is None:
            objective = self._build(at.scale)
        while True:
            self._standing = (objective, at)
            _, iterations = self.schedule[at.scale]
            for losses, progress, warning in steps(
                objective, self._solver, at.progress, iterations
            ):
                at = self._after(at, losses, progress, warning, time.monotonic() - begun)
                self._standing = (objective, at)
                yield self._seen(at, losses, warning)
                begun = time.monotonic() - at.seconds[-1]  # time between steps is not ours
            if at.scale == len(self.schedule) - 1:
                break
            begun = time.monotonic()
            image = outcome(objective, self._solver, at.progress)
            start = pictures.resize(image, self.schedule[at.scale + 1][0])
            state = self._solver.rescale(start, at.progress.state)
            objective = self._build(at.scale + 1)
            at = replace(
                at,
                scale=at.scale + 1,
                progress=Progress.start(start, state),
                seconds=(*at.seconds, 0.0),
            )
        self._ended = True

    def _after(
        self,
        at: Checkpoint,
        losses: dict[str, float],
        progress: Progress,
        warning: str | None,
        seconds: float,
    ) -> Checkpoint:
        """Where the run stands after a step."""
        if warning:
            log.warning("scale %d: %s", at.scale + 1, warning)
        row = {"scale": at.scale, "iteration": progress.iteration, **losses}
        if at.retunes:
            row["retunes"] = len(at.retunes)
        return replace(
            at,
            progress=progress,
            trace=(*at.trace, row),
            seconds=(*at.seconds[:-1], seconds),
            warnings=(*at.warnings, warning) if warning else at.warnings,
        )

    def _seen(self, at: Checkpoint, losses: dict[str, float], warning: str | None) -> Step:
        """A step as observers see it, which holds nothing of the solver's memory."""
        size, iterations = self.schedule[at.scale]
        look = self._view(at.progress)
        return Step(
            scale=at.scale,
            scales=len(self.schedule),
            iteration=at.progress.iteration,
            iterations=iterations,
            count=len(at.trace),
            size=size,
            losses=losses,
            look=look,
            picture=partial(self._shown, look, size),
            standing=weakref.ref(at),
            warning=warning,
        )

    def _view(self, progress: Progress) -> Callable[[], Tensor]:
        """Makes the picture of a moment, (1, 3, H, W) in [0, 1]."""
        kept = {name: progress.state[name] for name in self._solver.shown}
        image, solver = progress.image, self._solver
        return lambda: solver.result(image, kept).clamp(0, 1)

    def _shown(self, look: Callable[[], Tensor], size: tuple[int, int]) -> Picture:
        return stages.finished(look(), self.inputs, self.plan, size)

    def _start(self, scale: int) -> Tensor:
        return stages.start(self._starting, self.plan, self.schedule[scale][0])

    def _build(self, scale: int) -> Objective:
        size, iterations = self.schedule[scale]
        log.info("scale %d: %dx%d px, %d iterations", scale + 1, size[1], size[0], iterations)
        return stages.build(self.inputs, self.plan, size, self._measured)

    # --- other weights on the way ---

    def _repeat_retunes(self) -> None:
        """Apply the recorded changes of weights whose moment has come."""
        at = self.checkpoint
        while self._scheduled:
            retune = self._scheduled[0]
            if (retune["scale"], retune["iteration"]) > (at.scale, at.progress.iteration):
                return
            self._retune(self._scheduled.pop(0))

    def _retune(self, retune: Mapping[str, Any]) -> None:
        """Change the weights, here and now; nothing has changed where that fails."""
        objective, at = self._standing
        before = self.plan, self.inputs
        self._reweigh(retune)
        same = set(self.plan.terms) == set(before[0].terms)
        if objective is not None and same and self.inputs is before[1]:
            weights = {name: weight for name, (weight, _) in self.plan.terms.items()}
            objective = objective.reweighted(weights)
        else:
            objective = None  # built anew with the next step
        image = at.progress.image
        progress = replace(
            at.progress,
            state=self._solver.renew(image, at.progress.state),
            best=math.inf,
            best_image=image,
        )
        at = replace(at, progress=progress, retunes=(*at.retunes, retune))
        self._standing = (objective, at)
        self._stepping = self._steps()
        log.info("retuned at scale %d, iteration %d", at.scale + 1, progress.iteration)

    def _reweigh(self, retune: Mapping[str, Any]) -> None:
        """Give plan and inputs the weights of a retune."""
        recipe = changed(self.recipe, {name: retune[name] for name in TUNABLE})
        shares = recipe.shares(len(self.inputs.styles))
        others = {name: pair for name, pair in self.plan.terms.items() if name not in WEIGHTS}
        terms = all_terms(recipe, others)
        if shares != list(self.inputs.shares):
            self.inputs = replace(self.inputs, shares=shares)
        self.plan = replace(self.plan, recipe=recipe, terms=terms)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
