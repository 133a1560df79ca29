"""One scale of an optimisation: a generator of steps that watches for divergence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from optistyle.errors import InputError
from optistyle.optimise.objective import Objective
from optistyle.optimise.solvers import Solver, State

#: An objective this many times its best so far is a divergence; L-BFGS without a line search
#: overshoots by factors of ten now and then, and recovers.
EXPLODED = 100.0
#: Divergences after which a scale ends with the best image it had.
RETREATS = 10


@dataclass(frozen=True)
class Progress:
    """All that one scale needs to go on: the state between two steps.

    Attributes:
        iteration: evaluations of the objective done.
        image: (1, 3, H, W), where the next evaluation takes place; may leave [0, 1].
        state: the solver's.
        best: the lowest total so far, and ``best_image``, where it was.
        retreats: how often divergence was met.
    """

    iteration: int
    image: Tensor
    state: State
    best: float
    best_image: Tensor
    retreats: int = 0

    @classmethod
    def start(cls, image: Tensor, state: State) -> Progress:
        return cls(0, image, state, math.inf, image)


def steps(
    objective: Objective, solver: Solver, progress: Progress, iterations: int
) -> Iterator[tuple[dict[str, float], Progress, str | None]]:
    """Step until ``iterations`` evaluations are done, yielding after every one.

    Yields:
        The weighted losses by name, with ``total``, of the image *before* the step (the image that
        was evaluated); the progress after it; and a line about a divergence, or None.

    Raises:
        InputError: the objective is not finite at the very first image: there is no better one to
            go back to.
    """
    look = objective.gradients()
    while progress.iteration < iterations and progress.retreats <= RETREATS:
        read, gradient = look(progress.image)
        # Before the losses are read: a GPU then has work while we look at them.
        image, state = solver.step(progress.image, gradient, progress.state)
        del gradient  # an image's memory; the state has what it needs of it
        losses = read()
        total, warning = losses["total"], None
        if not math.isfinite(total) and progress.best == math.inf:
            raise _not_finite(losses)
        progress = replace(progress, iteration=progress.iteration + 1)
        if math.isfinite(total) and total <= EXPLODED * progress.best:
            if total < progress.best:
                progress = replace(progress, best=total, best_image=progress.image)
            progress = replace(progress, image=image, state=state)
        else:
            warning = (
                f"diverged at iteration {progress.iteration} (objective {total:.4g}, best "
                f"{progress.best:.4g}): back to the best picture, with half the step"
            )
            state = solver.retreat(progress.best_image, progress.state)
            progress = replace(
                progress,
                image=progress.best_image,
                state=state,
                retreats=progress.retreats + 1,
            )
        yield losses, progress, warning


def _not_finite(losses: dict[str, float]) -> InputError:
    names = [name for name, x in losses.items() if name != "total" and not math.isfinite(x)]
    which = f"the loss {' and '.join(names)} is" if names else "the sum of the losses is"
    return InputError(f"{which} not finite: lower its weight")


def outcome(objective: Objective, solver: Solver, progress: Progress) -> Tensor:
    """The picture that a scale hands on: the solver's result, or the best image met.

    The best image where it is lower by more than a tenth: Adam's average is smoother than any
    iterate, and the last step of L-BFGS, which nobody has evaluated yet, mostly goes down.
    """
    result = solver.result(progress.image, progress.state)
    total = objective.evaluate(result)["total"]
    return result if total <= 1.1 * progress.best else progress.best_image
