"""Weights that change between two steps: without starting over, and to be repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.optimise.objective import Objective
from optistyle.optimise.solvers import SOLVERS
from optistyle.recipes import Recipe
from optistyle.run import Run, stylize

Make = Callable[..., Tensor]
SMALL = Recipe(scales=(32, 48), iterations=(6, 5))


@pytest.fixture
def begin(tiny: VGG, picture: Make) -> Callable[..., Run]:
    """``begin(recipe, **options)``: a run of a photograph and two paintings."""

    def start(recipe: Recipe = SMALL, **options: Any) -> Run:
        styles = [picture(50, 44, 2), picture(40, 44, 3)]
        return Run(picture(40, 60, 1), styles, recipe, encoder=tiny, **options)

    return start


def test_the_objective_is_the_one_of_the_new_weights(begin: Callable[..., Run]) -> None:
    run, changed = begin(), {"beta": 1e6, "tv": 3.0, "style_weights": (3.0, 1.0)}
    next(run)
    image = run.checkpoint.progress.image
    run.retune(**changed)
    step = next(run)
    other = begin(Recipe(**{**SMALL.as_dict(), **changed}))
    next(other)
    objective = other._standing[0]
    assert isinstance(objective, Objective)
    assert step.losses == pytest.approx(objective.evaluate(image), rel=1e-5)
    assert step.iteration == 2  # it has gone on, not started over


def test_only_what_changed_is_made_anew(
    begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, build, built = begin(), Objective.build, []
    monkeypatch.setattr(Objective, "build", lambda *args: built.append(args) or build(*args))
    next(run)
    run.retune(alpha=3.0, gamma=1e5)
    next(run)
    assert len(built) == 1  # the targets are the same
    run.retune(gamma=0.0)
    next(run)
    assert len(built) == 2
    assert "attention" not in run.checkpoint.trace[-1]


@pytest.mark.parametrize("optimizer", SOLVERS)
def test_the_solver_goes_down_after_a_change(begin: Callable[..., Run], optimizer: str) -> None:
    run = begin(Recipe(size=48, scales="single", iterations=40, optimizer=optimizer))
    for step in run:
        if step.iteration == 15:
            run.retune(beta=1e5, gamma=0.0)
    rows = run.result().trace
    assert rows[-1]["total"] < 0.8 * rows[15]["total"]
    assert not run.result().warnings


def test_a_retuned_run_is_recorded_and_repeated(begin: Callable[..., Run], tmp_path: Path) -> None:
    run = begin()
    changes = {0: {"beta": 2e7}, 4: {"gamma": 0.0}, 6: {"style_weights": (1.0, 3.0)}, 8: {"tv": 1}}
    run.retune(**changes[0])
    for step in run:
        if step.count in changes:
            run.retune(**changes[step.count])  # 6 is the end of a scale
    result = run.result()
    manifest = json.loads(json.dumps(result.manifest()))
    assert Recipe.from_dict(manifest["recipe"]) == SMALL
    assert [(x["scale"], x["iteration"]) for x in manifest["retunes"]] == [
        (0, 0),
        (0, 4),
        (0, 6),
        (1, 2),
    ]
    assert [row["retunes"] for row in manifest["trace"]] == [1] * 4 + [2] * 2 + [3] * 2 + [4] * 3
    again = begin(Recipe.from_dict(manifest["recipe"]), retunes=manifest["retunes"])
    again.finish()
    assert torch.equal(again.result().image, result.image)
    assert again.result().trace == result.trace
    assert again.result().retunes == tuple(manifest["retunes"])
    # And the same after an interruption.
    part = begin(retunes=manifest["retunes"])
    for step in part:
        if step.count == 7:
            break
    part.checkpoint.save(tmp_path / "c", part.identity)
    rest = begin(retunes=manifest["retunes"])
    rest.resume(tmp_path / "c")
    rest.finish()
    assert torch.equal(rest.result().image, result.image)


def test_resuming_keeps_the_weights(begin: Callable[..., Run], tmp_path: Path) -> None:
    run = begin()
    next(run)
    run.retune(beta=1e5)
    next(run)
    run.checkpoint.save(tmp_path / "c", run.identity)
    other = begin()
    other.resume(tmp_path / "c")
    assert other.recipe.beta == 1e5
    run.finish()
    other.finish()
    assert torch.equal(run.result().image, other.result().image)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"gama": 1}, "unknown weight 'gama'; did you mean 'gamma'"),
        ({"size": 96}, "unknown weight 'size'"),
        ({"beta": -1}, "beta is -1; give a number of 0 or more"),
        ({"style_weights": (1, 2, 3)}, "style weights: got 3 for 2 style images"),
    ],
)
def test_what_cannot_be_retuned_changes_nothing(
    begin: Callable[..., Run], changes: dict[str, Any], line: str
) -> None:
    run = begin()
    next(run)
    before = run.recipe, run.checkpoint
    with pytest.raises(InputError, match=line):
        run.retune(**changes)
    assert (run.recipe, run.checkpoint) == before
    run.finish()
    assert torch.equal(run.result().image, _whole(begin))


def _whole(begin: Callable[..., Run]) -> Tensor:
    run = begin()
    run.finish()
    return run.result().image


def test_all_weights_of_zero_are_refused(begin: Callable[..., Run]) -> None:
    run = begin(Recipe(**{**SMALL.as_dict(), "range": 0.0}))
    with pytest.raises(InputError, match="all weights are 0"):
        run.retune(alpha=0, beta=0, gamma=0)


def test_stylize_is_a_run_without_changes(tiny: VGG, picture: Make) -> None:
    result = stylize(picture(40, 60), picture(40, 40), SMALL, encoder=tiny, progress=False)
    assert result.retunes == ()
    assert "retunes" not in result.trace[0]
