"""Steps that meet divergence, and go on from a saved state."""

from __future__ import annotations

import io
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.losses import Content, GramStyle
from optistyle.optimise.objective import Objective, Reading
from optistyle.optimise.scale import EXPLODED, RETREATS, Progress, outcome, steps
from optistyle.optimise.solvers import LBFGS, Adam, Solver

Picture = Callable[..., Tensor]
SOLVERS = pytest.mark.parametrize("solver", [LBFGS(), Adam()], ids=lambda s: type(s).__name__)


@dataclass
class Bowl:
    """An `Objective` without an encoder: mean (x - 0.3)², the k-th value spoilt by ``spoil``, and
    the gradient with it where that is not finite."""

    spoil: Callable[[int, float], float] = lambda count, value: value
    count: int = 0

    def evaluate(self, image: Tensor) -> dict[str, float]:
        return {"total": float((image - 0.3).square().mean())}

    def gradients(self) -> Callable[[Tensor], tuple[Reading, Tensor]]:
        return self.look

    def look(self, image: Tensor) -> tuple[Reading, Tensor]:
        self.count += 1
        total = self.spoil(self.count, self.evaluate(image)["total"])
        spoilt = 0 * total  # NaN where it is
        return lambda: {"total": total}, 2 * (image - 0.3) / image.numel() + spoilt


def begin(solver: Solver, image: Tensor) -> Progress:
    return Progress.start(image, solver.start(image))


@pytest.fixture
def objective(tiny: VGG, picture: Picture) -> Objective:
    terms = {
        "content": (1.0, Content({"relu3_1": 1.0})),
        "style": (1e4, GramStyle({"relu1_1": 1.0, "relu2_1": 1.0})),
    }
    content, style = (picture(24, 32), None), (picture(32, 32, seed=1), None)
    return Objective.build(tiny, terms, content, [style], [1.0])


@SOLVERS
def test_steps_lower_the_objective(solver: Solver, objective: Objective, picture: Picture) -> None:
    start = begin(solver, picture(24, 32))
    *_, (_, progress, _) = trace = list(steps(objective, solver, start, 20))
    assert [p.iteration for _, p, _ in trace] == list(range(1, 21))
    assert not any(warning for _, _, warning in trace)
    totals = [losses["total"] for losses, _, _ in trace]
    assert progress.best == min(totals)
    assert progress.best < 0.5 * totals[0]
    assert objective.evaluate(progress.best_image)["total"] == pytest.approx(progress.best)


def test_losses_are_of_the_image_before_the_step(objective: Objective, picture: Picture) -> None:
    progress = begin(LBFGS(), picture(24, 32))
    for losses, after, _ in steps(objective, LBFGS(), progress, 3):
        assert losses == pytest.approx(objective.evaluate(progress.image))
        progress = after


@SOLVERS
@pytest.mark.parametrize("bad", [math.nan, math.inf, 2 * EXPLODED])
def test_divergence_goes_back_to_the_best(solver: Solver, bad: float, picture: Picture) -> None:
    bowl = Bowl(lambda count, value: bad if count == 5 else value)
    trace = list(steps(bowl, solver, begin(solver, picture(4, 4)), 8))  # type: ignore[arg-type]
    _, before, _ = trace[3]
    losses, progress, warning = trace[4]
    assert losses["total"] is bad or losses["total"] == bad
    assert warning is not None
    assert "diverged at iteration 5" in warning
    assert "half the step" in warning
    assert progress.retreats == 1
    assert torch.equal(progress.image, before.best_image)
    assert progress.best == before.best
    assert progress.state["lr"] == solver.lr / 2
    assert all(warning is None for i, (_, _, warning) in enumerate(trace) if i != 4)
    assert trace[-1][1].iteration == 8
    assert trace[-1][1].best <= before.best


def test_a_bounded_rise_is_no_divergence(picture: Picture) -> None:
    """L-BFGS without a line search overshoots now and then, and recovers."""
    bowl = Bowl(lambda count, value: 0.9 * EXPLODED * best[0] if count == 4 else value)
    best = [math.inf]
    for _, progress, warning in steps(bowl, LBFGS(), begin(LBFGS(), picture(4, 4)), 3):
        best[0] = progress.best
        assert warning is None
    for losses, _, warning in steps(bowl, LBFGS(), progress, 4):
        assert losses["total"] > progress.best
        assert warning is None


def test_no_gradient_is_held_while_the_next_one_is_made(
    picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of large images, where the state keeps it in half the memory."""
    monkeypatch.setattr("optistyle.optimise.solvers.COMPACT", 16)
    made: list[weakref.ref[Tensor]] = []

    class Watched(Bowl):
        def look(self, image: Tensor) -> tuple[Reading, Tensor]:
            assert all(gradient() is None for gradient in made)
            read, gradient = super().look(image)
            made.append(weakref.ref(gradient))
            return read, gradient

    list(steps(Watched(), LBFGS(), begin(LBFGS(), picture(4, 4)), 4))  # type: ignore[arg-type]
    assert len(made) == 4


@SOLVERS
def test_a_divergent_run_gives_up(solver: Solver, picture: Picture) -> None:
    bowl = Bowl(lambda count, value: value if count == 1 else math.nan)
    start = picture(4, 4)
    trace = list(steps(bowl, solver, begin(solver, start), 100))  # type: ignore[arg-type]
    _, progress, warning = trace[-1]
    assert len(trace) == 1 + RETREATS + 1
    assert warning
    assert progress.state["lr"] == solver.lr / 2 ** (RETREATS + 1)
    assert torch.equal(progress.best_image, start)
    assert not list(steps(bowl, solver, progress, 100))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_objective_that_is_not_finite_is_refused(bad: float, picture: Picture) -> None:
    bowl = Bowl(lambda count, value: bad)
    with pytest.raises(InputError, match="not finite: lower its weight"):
        next(steps(bowl, LBFGS(), begin(LBFGS(), picture(4, 4)), 100))  # type: ignore[arg-type]


def test_a_real_divergence(objective: Objective, picture: Picture) -> None:
    """A step a thousand times too long: the picture is still better than the start."""
    solver, start = LBFGS(first_move=30.0, longest=math.inf, lr=8.0), picture(24, 32)
    trace = list(steps(objective, solver, begin(solver, start), 40))
    assert any(warning for _, _, warning in trace)
    image = outcome(objective, solver, trace[-1][1])
    assert objective.evaluate(image)["total"] <= trace[0][0]["total"]


@SOLVERS
def test_resumes_to_the_bit(solver: Solver, objective: Objective, picture: Picture) -> None:
    start = begin(solver, picture(24, 32))
    *_, (_, whole, _) = steps(objective, solver, start, 12)
    *_, (_, half, _) = steps(objective, solver, start, 5)
    file = io.BytesIO()
    torch.save({**vars(half), "state": dict(half.state)}, file)
    file.seek(0)
    loaded = Progress(**torch.load(file, weights_only=True))
    *_, (_, resumed, _) = steps(objective, solver, loaded, 12)
    assert resumed.iteration == whole.iteration == 12
    assert torch.equal(resumed.image, whole.image)
    assert torch.equal(resumed.best_image, whole.best_image)
    assert resumed.best == whole.best


def test_done_is_done(picture: Picture) -> None:
    progress = replace(begin(LBFGS(), picture(4, 4)), iteration=5)
    assert not list(steps(Bowl(), LBFGS(), progress, 5))  # type: ignore[arg-type]


def test_outcome_is_the_better(picture: Picture) -> None:
    good, bad = torch.full((1, 3, 4, 4), 0.4), torch.full((1, 3, 4, 4), 0.9)
    bowl, solver = Bowl(), LBFGS()
    for image, best_image in ((good, bad), (bad, good)):
        best = bowl.evaluate(best_image)["total"]
        progress = Progress(3, image, solver.start(image), best, best_image)
        assert torch.equal(outcome(bowl, solver, progress), good)  # type: ignore[arg-type]


def test_outcome_judges_adams_average(picture: Picture) -> None:
    """Not the last iterate, which may be as bad as it likes."""
    solver, bowl = Adam(), Bowl()
    average, last = torch.full((1, 3, 4, 4), 0.31), torch.ones(1, 3, 4, 4)
    state = {**solver.start(last), "mean": average * (1 - solver.average), "averaged": 1}
    progress = Progress(3, last, state, 1.0, last)
    torch.testing.assert_close(outcome(bowl, solver, progress), average)  # type: ignore[arg-type]
