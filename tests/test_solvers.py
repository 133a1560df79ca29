"""L-BFGS and Adam against torch's, on functions of an image."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from optistyle import solvers
from optistyle.errors import InputError
from optistyle.solvers import LBFGS, Adam, Solver, State

Function = Callable[[Tensor], Tensor]


def quadratic(x: Tensor) -> Tensor:
    """Curvatures from 1 to 100, lowest at 0.3."""
    curvature = torch.logspace(0, 2, x.numel(), dtype=x.dtype).view_as(x)
    return (curvature * (x - 0.3).square()).sum() / 2


def rosenbrock(x: Tensor) -> Tensor:
    """The valley of Rosenbrock 1960, in every two neighbours; lowest at 1."""
    a, b = x.flatten()[:-1], x.flatten()[1:]
    return (100 * (b - a.square()).square() + (1 - a).square()).sum()


def gradient(function: Function, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


def run(
    solver: Solver, function: Function, image: Tensor, steps: int
) -> tuple[list[Tensor], State]:
    """The iterates and the last state."""
    iterates, state = [], solver.start(image)
    for _ in range(steps):
        image, state = solver.step(image, gradient(function, image), state)
        iterates.append(image)
    return iterates, state


def run_torch(
    optimizer: type[torch.optim.Optimizer], function: Function, image: Tensor, steps: int, **options
) -> list[Tensor]:
    image = image.clone().requires_grad_()
    torch_solver, iterates = optimizer([image], **options), []

    def closure() -> Tensor:
        torch_solver.zero_grad()
        loss = function(image)
        loss.backward()
        return loss

    for _ in range(steps):
        torch_solver.step(closure)
        iterates.append(image.detach().clone())
    return iterates


@pytest.fixture
def image(generator: torch.Generator) -> Tensor:
    return torch.rand(1, 3, 4, 5, generator=generator, dtype=torch.float64)


def test_lbfgs_converges_on_a_quadratic(image: Tensor) -> None:
    iterates, _ = run(LBFGS(), quadratic, image, 60)
    assert float(quadratic(iterates[-1])) < 1e-12 * float(quadratic(image))


def test_lbfgs_converges_on_rosenbrock() -> None:
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64).view(1, 1, 1, 2)
    iterates, _ = run(LBFGS(), rosenbrock, start, 60)
    torch.testing.assert_close(iterates[-1], torch.ones_like(start), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "steps"), [(quadratic, 30), (rosenbrock, 30)], ids=["quadratic", "rosenbrock"]
)
def test_lbfgs_steps_as_torch_does(function: Function, steps: int) -> None:
    """With torch's length of the first step, 1 / |g|_1; its threshold on s·y is not met here."""
    start = torch.tensor([-1.2, 1.0, 0.4, 0.2], dtype=torch.float64).view(1, 1, 2, 2)
    options = {"lr": 1, "max_iter": 1, "tolerance_grad": 0, "tolerance_change": 0}
    expected = run_torch(torch.optim.LBFGS, function, start, steps, **options)
    iterates, _ = run(LBFGS(first_move=1 / start.numel()), function, start, steps)
    for ours, theirs in zip(iterates, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_lbfgs_does_not_see_the_scale_of_the_objective(image: Tensor) -> None:
    """Where torch's stops at once, for s·y is below its 1e-10."""
    plain, _ = run(LBFGS(), quadratic, image, 20)
    small, _ = run(LBFGS(), lambda x: 1e-8 * quadratic(x), image, 20)
    for a, b in zip(plain, small, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_lbfgs_does_not_see_the_scale_in_float32(image: Tensor) -> None:
    iterates, _ = run(LBFGS(), lambda x: 1e-8 * quadratic(x), image.float(), 60)
    assert float(quadratic(iterates[-1])) < 1e-6 * float(quadratic(image))


def test_lbfgs_first_move(image: Tensor) -> None:
    (first,), _ = run(LBFGS(lr=0.5, first_move=0.02), quadratic, image, 1)
    assert float((first - image).abs().mean()) == pytest.approx(0.01)


def test_lbfgs_rests_where_the_gradient_is_zero(image: Tensor) -> None:
    iterates, _ = run(LBFGS(), lambda x: 0 * x.sum(), image, 3)
    assert all(torch.equal(iterate, image) for iterate in iterates)


@pytest.mark.parametrize(("memory", "pairs"), [(0, 5), (2 * 60 * 8 * 7, 7), (700_000_000, 29)])
def test_lbfgs_history_is_bounded(memory: int, pairs: int, image: Tensor) -> None:
    _, state = run(LBFGS(memory=memory, lr=0.3), rosenbrock, image, 30)
    assert len(state["s"]) == len(state["y"]) == pairs


def test_lbfgs_drops_pairs_without_curvature(image: Tensor) -> None:
    """Of a concave function no pair has s·y > 0."""
    _, state = run(LBFGS(), lambda x: -quadratic(x), image, 5)
    assert state["s"] == []


def test_lbfgs_forgets_when_it_would_ascend(image: Tensor) -> None:
    """A pair with s·y < 0, which rounding can leave behind: the next step is the first one."""
    g = gradient(quadratic, image)
    ascent = {"s": [g], "y": [-g], "lr": 1.0}
    step, state = LBFGS().step(image, g, ascent)
    assert state["s"] == state["y"] == []
    assert torch.equal(step, LBFGS().step(image, g, LBFGS().start(image))[0])


def test_adam_steps_as_torch_does() -> None:
    start = torch.full((1, 3, 4, 5), 0.5, dtype=torch.float64)
    options = {"lr": 0.01, "betas": (0.9, 0.99)}
    expected = run_torch(torch.optim.Adam, quadratic, start, 40, **options)
    iterates, _ = run(Adam(lr=0.01), quadratic, start, 40)
    assert min(float(x.min()) for x in expected) > 0  # so that clamping has nothing to do
    for ours, theirs in zip(iterates, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_adam_stays_in_range(image: Tensor) -> None:
    iterates, state = run(Adam(lr=0.3), lambda x: (x - 2).square().sum(), image, 10)
    assert torch.equal(iterates[-1], torch.ones_like(image))
    assert Adam().result(iterates[-1], state).max() <= 1


def test_adam_hands_out_the_average(image: Tensor) -> None:
    """Corrected for its start: weights 0.9**k over their sum."""
    solver = Adam(average=0.9)
    iterates, state = run(solver, quadratic, image, 6)
    weights = [0.9**k for k in range(5, -1, -1)]
    expected = sum(w * x for w, x in zip(weights, iterates, strict=True)) / sum(weights)
    torch.testing.assert_close(solver.result(iterates[-1], state), expected)


def test_adam_without_average_hands_out_the_last(image: Tensor) -> None:
    solver = Adam(average=0)
    iterates, state = run(solver, quadratic, image, 6)
    torch.testing.assert_close(solver.result(iterates[-1], state), iterates[-1])
    assert torch.equal(solver.result(image, solver.start(image)), image)


@pytest.mark.parametrize("solver", [LBFGS(), Adam()], ids=lambda s: type(s).__name__)
class TestEverySolver:
    def test_changes_neither_argument(self, solver: Solver, image: Tensor) -> None:
        _, state = run(solver, quadratic, image, 3)
        before = torch.stack([x for x in state.values() if isinstance(x, Tensor)]).clone()
        keys, start = dict(state), image.clone()
        solver.step(image, gradient(quadratic, image), state)
        assert torch.equal(image, start)
        assert torch.equal(
            torch.stack([x for x in state.values() if isinstance(x, Tensor)]), before
        )
        assert all(state[key] is value for key, value in keys.items())
        assert len(state) == len(keys)

    def test_retreat_halves_the_step_and_forgets(self, solver: Solver, image: Tensor) -> None:
        _, state = run(solver, quadratic, image, 3)
        for half in (0.5, 0.25):
            state = solver.retreat(image, state)
            assert state["lr"] == half * solver.lr
            assert str({**state, "lr": solver.lr}) == str(solver.start(image))
        full, _ = solver.step(image, gradient(quadratic, image), solver.start(image))
        quarter, _ = solver.step(image, gradient(quadratic, image), state)
        torch.testing.assert_close(4 * (quarter - image), full - image)

    def test_rescale(self, solver: Solver, image: Tensor) -> None:
        iterates, state = run(solver, quadratic, image, 3)
        larger = torch.nn.functional.interpolate(iterates[-1], (8, 11)).float()
        state = solver.rescale(
            larger, {k: v.float() if isinstance(v, Tensor) else v for k, v in state.items()}
        )
        tensors = [value for value in state.values() if isinstance(value, Tensor)]
        assert all(tensor.shape == larger.shape for tensor in tensors)
        assert torch.equal(solver.result(larger, state), larger)
        nxt, state = solver.step(larger, gradient(quadratic, larger), state)
        assert nxt.isfinite().all()
        assert float(quadratic(nxt)) < float(quadratic(larger))

    def test_state_survives_a_file(self, solver: Solver, image: Tensor) -> None:
        iterates, state = run(solver, quadratic, image, 7)
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        g = gradient(quadratic, iterates[-1])
        expected, _ = solver.step(iterates[-1], g, state)
        resumed, _ = solver.step(iterates[-1], g, loaded)
        assert torch.equal(resumed, expected)


def test_adam_keeps_its_moments_across_scales(image: Tensor) -> None:
    solver = Adam()
    _, state = run(solver, quadratic, image, 3)
    larger = torch.zeros(1, 3, 8, 10, dtype=image.dtype)
    warm = solver.rescale(larger, state)
    assert warm["moments"] == 3
    assert warm["averaged"] == 0
    assert float(warm["first"].mean()) == pytest.approx(float(state["first"].mean()), rel=0.1)
    assert (warm["second"] >= 0).all()


def test_make() -> None:
    assert solvers.make("lbfgs", None) == LBFGS()
    assert solvers.make("adam", 0.01) == replace(Adam(), lr=0.01)
    with pytest.raises(InputError, match="unknown optimizer 'adm'; did you mean 'adam'"):
        solvers.make("adm", None)


def test_lbfgs_keeps_large_images_pairs_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    """Half the memory, and the same descent."""
    image = torch.randn(1, 3, 4, 5, generator=generator)
    scale = torch.linspace(0.2, 5, 60).view(1, 3, 4, 5)

    def bowl(x: Tensor) -> Tensor:
        return (scale * (x - 0.5).square()).sum()

    exact = run(LBFGS(memory=0, least=3), bowl, image, 25)[0][-1]
    monkeypatch.setattr("optistyle.solvers.COMPACT", 20)
    iterates, state = run(LBFGS(memory=0, least=3), bowl, image, 25)
    close = iterates[-1]
    assert close.dtype == state["gradient"].dtype == torch.float32
    assert len(state["s"]) == len(state["y"]) == 3
    assert {x.dtype for x in (*state["s"], *state["y"], state["move"])} == {torch.bfloat16}
    assert bowl(close) < 1e-4 * bowl(image)
    assert bowl(close) < 100 * bowl(exact) + 1e-6 * bowl(image)


def test_a_step_changes_neither_argument(generator: torch.Generator) -> None:
    image, gradient = torch.randn(2, 1, 3, 4, 5, generator=generator)
    state = LBFGS().start(image)
    for _ in range(3):
        before = image.clone(), gradient.clone()
        after, state = LBFGS().step(image, gradient, state)
        assert torch.equal(image, before[0])
        assert torch.equal(gradient, before[1])
        image, gradient = after, 0.9 * gradient + 0.01 * after
