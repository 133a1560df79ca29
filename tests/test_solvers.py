"""L-BFGS and Adam against torch's, on functions of an image."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from optistyle.errors import InputError
from optistyle.optimise import solvers
from optistyle.optimise.solvers import LBFGS, Adam, Solver, State, _spread

Function = Callable[[Tensor], Tensor]

#: In the picture's own coordinates, as torch's.
PLAIN = LBFGS(longest=math.inf, stretch=1.0, coarse=1.0)


def quadratic(x: Tensor) -> Tensor:
    """Curvatures from 1 to 100, lowest at 0.3."""
    curvature = torch.logspace(0, 2, x.numel(), dtype=x.dtype).view_as(x)
    return (curvature * (x - 0.3).square()).sum() / 2


def rosenbrock(x: Tensor) -> Tensor:
    """The valley of Rosenbrock 1960, in every two neighbours; lowest at 1."""
    a, b = x.flatten()[:-1], x.flatten()[1:]
    return (100 * (b - a.square()).square() + (1 - a).square()).sum()


def quartic(x: Tensor) -> Tensor:
    """Convex, curvatures from 1 to 10 000 and more away from 0.3."""
    curvature = torch.logspace(0, 4, x.numel(), dtype=x.dtype).view_as(x)
    return (curvature * (x - 0.3).square()).sum() / 2 + 10 * (x - 0.3).pow(4).sum()


def waves(x: Tensor) -> Tensor:
    """Hills and valleys in a bowl: pairs without curvature, and steps that would ascend."""
    curvature = torch.linspace(1, 30, x.numel(), dtype=x.dtype).view_as(x)
    return 0.2 * (7 * x).cos().sum() + (curvature * (x - 0.3).square()).sum() / 2


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


def two_loops(
    function: Function, image: Tensor, steps: int, most: int, stretch: float
) -> tuple[list[Tensor], list[list[bool]]]:
    """What `LBFGS` documents, from lists: the iterates, and which of the pairs each step used."""
    iterates, used, last, gamma = [], [], None, 1.0
    pairs: list[tuple[Tensor, Tensor, bool]] = []
    for _ in range(steps):
        g = gradient(function, image)
        if last is not None:
            s, y = image - last[0], g - last[1]
            curved = bool((s * y).sum() > 1e-8 * s.norm() * y.norm())
            pairs = [*pairs, (s, y, curved)][-most:]
            gamma = stretch * float((s * y).sum() / (y * y).sum()) if curved else gamma
        good = [(s, y, (s * y).sum()) for s, y, curved in pairs if curved]
        q, factors = g.clone(), []
        for s, y, sy in reversed(good):
            factors.append((s * q).sum() / sy)
            q -= factors[-1] * y
        q *= gamma
        for s, y, sy in good:
            q += (factors.pop() - (y * q).sum() / sy) * s
        if not (good and (q * g).sum() > 0):
            pairs = [(s, y, False) for s, y, _ in pairs]
            q = 0.01 * g / g.abs().mean()
        last, image = (image, g), image - q
        iterates.append(image)
        used.append([curved for *_, curved in pairs])
    return iterates, used


@pytest.fixture
def image(generator: torch.Generator) -> Tensor:
    return torch.rand(1, 3, 4, 5, generator=generator, dtype=torch.float64)


def test_lbfgs_converges_on_a_quadratic(image: Tensor) -> None:
    iterates, _ = run(LBFGS(), quadratic, image, 60)
    assert float(quadratic(iterates[-1])) < 1e-12 * float(quadratic(image))


def test_lbfgs_converges_on_rosenbrock() -> None:
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64).view(1, 1, 1, 2)
    iterates, _ = run(PLAIN, rosenbrock, start, 60)
    torch.testing.assert_close(iterates[-1], torch.ones_like(start), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "steps"), [(quadratic, 30), (rosenbrock, 30)], ids=["quadratic", "rosenbrock"]
)
def test_lbfgs_steps_as_torch_does(function: Function, steps: int) -> None:
    """With torch's length of the first step, 1 / |g|_1; its threshold on s·y is not met here."""
    start = torch.tensor([-1.2, 1.0, 0.4, 0.2], dtype=torch.float64).view(1, 1, 2, 2)
    options = {"lr": 1, "max_iter": 1, "tolerance_grad": 0, "tolerance_change": 0}
    expected = run_torch(torch.optim.LBFGS, function, start, steps, **options)
    iterates, _ = run(replace(PLAIN, first_move=1 / start.numel()), function, start, steps)
    for ours, theirs in zip(iterates, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_lbfgs_steps_as_torch_does_when_the_history_is_full(image: Tensor) -> None:
    """Fifty steps with ten pairs."""
    options = {"lr": 1, "max_iter": 1, "tolerance_grad": 0, "tolerance_change": 0}
    expected = run_torch(torch.optim.LBFGS, quartic, image, 50, history_size=10, **options)
    solver = replace(PLAIN, first_move=1 / image.numel(), memory=0, least=10)
    iterates, _ = run(solver, quartic, image, 50)
    assert float(quartic(expected[-1])) > 1e-3  # it has not arrived yet
    for ours, theirs in zip(iterates, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_lbfgs_leaves_pairs_without_curvature_out(image: Tensor) -> None:
    """As two loops over those that have it."""
    expected, used = two_loops(waves, image, 40, most=6, stretch=1.2)
    assert any(any(pairs) and not all(pairs) for pairs in used)
    assert not all(any(pairs) for pairs in used[1:])
    solver = replace(PLAIN, memory=0, least=6, stretch=1.2)
    state = solver.start(image)
    for theirs, pairs in zip(expected, used, strict=True):
        image, state = solver.step(image, gradient(waves, image), state)
        torch.testing.assert_close(image, theirs, rtol=1e-6, atol=1e-9)
        assert state["valid"].tolist() == [False, *pairs][-6:]  # the first pair has no step


def test_lbfgs_decides_nothing_on_the_host() -> None:
    """Tensors without values pass through a step: it never asks for one."""
    image = torch.empty(1, 3, 4, 5, device="meta")
    solver = LBFGS(memory=0, least=3)
    state = solver.start(image)
    for _ in range(6):
        image, state = solver.step(image, torch.empty_like(image), state)
    assert image.shape == (1, 3, 4, 5)


@pytest.mark.parametrize("least", [3, 5, 9])
@pytest.mark.parametrize("before", [4, 13])
def test_lbfgs_goes_on_with_another_history(before: int, least: int, image: Tensor) -> None:
    """With those of the latest pairs that it has room for: as where older ones never were."""
    iterates, state = run(replace(PLAIN, memory=0, least=5), quartic, image, before)
    images, taken = [image, *iterates], min(least, 1 + min(5, before - 1))
    other = replace(PLAIN, memory=0, least=least)
    found, after = other.step(images[-1], gradient(quartic, images[-1]), state)
    fresh = other.start(images[-1 - taken])
    for x, following in itertools.pairwise(images[-1 - taken :]):
        _, fresh = other.step(x, gradient(quartic, x), fresh)
        fresh["moves"][-1] = (following - x).flatten()  # not its own move
    expected, fresh = other.step(images[-1], gradient(quartic, images[-1]), fresh)
    assert int(after["valid"].sum()) == int(fresh["valid"].sum())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert len(other.step(found, gradient(quartic, found), after)[1]["moves"]) <= least + 1


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
    (first,), _ = run(replace(PLAIN, lr=0.5, first_move=0.02), quadratic, image, 1)
    assert float((first - image).abs().mean()) == pytest.approx(0.01)


def test_lbfgs_steps_are_bounded(image: Tensor) -> None:
    """As long as they may be where they would be longer, and in the same direction."""
    (_, far), _ = run(replace(PLAIN, first_move=0.001), quadratic, image, 2)
    (first, near), _ = run(replace(PLAIN, first_move=0.001, longest=0.002), quadratic, image, 2)
    assert float((far - first).abs().mean()) > 0.004
    assert float((near - first).abs().mean()) == pytest.approx(0.002)
    torch.testing.assert_close((near - first) / 0.002, (far - first) / (far - first).abs().mean())


def test_lbfgs_steps_in_the_pyramids_coordinates(generator: torch.Generator) -> None:
    """x = start + A z: as without a pyramid on the function of z."""
    start = torch.rand(1, 3, 9, 13, generator=generator, dtype=torch.float64)
    solver = replace(PLAIN, coarse=1.3)
    found, _ = run(solver, quartic, start, 25)

    matrix = spread_matrix(start, 1.3)

    def place(z: Tensor) -> Tensor:
        return start + (matrix @ z.flatten()).view_as(z)

    expected, _ = run(PLAIN, lambda z: quartic(place(z)), torch.zeros_like(start), 25)
    for ours, z in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, place(z), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("block", [50, 240])  # channels one by one, and two at once
def test_lbfgs_in_many_passes_is_the_same(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator, block: int
) -> None:
    start = torch.rand(1, 3, 9, 13, generator=generator, dtype=torch.float64)
    whole, _ = run(LBFGS(), quartic, start, 25)
    monkeypatch.setattr("optistyle.optimise.solvers._BLOCK", block)
    parts, _ = run(LBFGS(), quartic, start, 25)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("height", [129, 194, 255])
def test_spread_in_bands_is_the_same(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator, height: int
) -> None:
    """Bands of 64 rows, the last of one row, of two, and of one less than a whole band."""
    image = torch.rand(1, 3, height, 65, generator=generator, dtype=torch.float64)
    whole = _spread(image, 1.2, image.dtype)
    monkeypatch.setattr("optistyle.optimise.solvers._BLOCK", 1)
    torch.testing.assert_close(_spread(image, 1.2, image.dtype), whole, rtol=1e-13, atol=0)


def spread_matrix(image: Tensor, share: float) -> Tensor:
    units = torch.eye(image.numel(), dtype=image.dtype).view(-1, *image.shape[1:])
    return torch.stack([_spread(x[None], share, x.dtype).flatten() for x in units], 1)


def test_lbfgs_leaves_pixels_without_gradient(generator: torch.Generator) -> None:
    start = torch.rand(1, 3, 16, 24, generator=generator, dtype=torch.float64)

    def left(x: Tensor) -> Tensor:
        return quadratic(x[..., :12])

    iterates, _ = run(LBFGS(), left, start, 200)
    assert torch.equal(iterates[-1][..., 12:], start[..., 12:])
    assert float(left(iterates[-1])) < 1e-6 * float(left(start))


@pytest.mark.parametrize("size", [(4, 5), (9, 13), (16, 8)])
def test_spread_is_symmetric_and_positive(size: tuple[int, int]) -> None:
    matrix = spread_matrix(torch.zeros(1, 1, *size, dtype=torch.float64), 1.2)
    torch.testing.assert_close(matrix, matrix.T)
    assert float(torch.linalg.eigvalsh(matrix)[0]) > 0.999


def test_spread_counts_octaves(generator: torch.Generator) -> None:
    """Noise pixel by pixel hardly grows; what is even over hundreds of pixels, five octaves."""
    even = _spread(torch.ones(1, 3, 400, 401), 1.2, torch.float32)
    assert float(even[0, 1, 200, 200]) == pytest.approx(1.2**5)
    checked = torch.ones(1, 1, 64, 64)
    checked[..., ::2, 1::2] = checked[..., 1::2, ::2] = -1
    middle = (_spread(checked, 1.2, torch.float32) / checked)[..., 20:44, 20:44]
    torch.testing.assert_close(middle, torch.ones_like(middle))
    image = torch.rand(1, 3, 9, 13, generator=generator)
    assert torch.equal(_spread(image, 1.0, image.dtype), image)
    rounded = _spread(image, 1.2, torch.bfloat16)
    assert torch.equal(rounded, _spread(image, 1.2, image.dtype).bfloat16())


def test_lbfgs_rests_where_the_gradient_is_zero(image: Tensor) -> None:
    iterates, _ = run(LBFGS(), lambda x: 0 * x.sum(), image, 3)
    assert all(torch.equal(iterate, image) for iterate in iterates)


@pytest.mark.parametrize(
    ("memory", "pairs", "kept"), [(0, 5, 5), (2 * 60 * 8 * 7, 7, 7), (700_000_000, 29, 30)]
)
def test_lbfgs_history_is_bounded(memory: int, pairs: int, kept: int, image: Tensor) -> None:
    """Of 30 pairs, the first of which fails; one more move than changes is known."""
    _, state = run(LBFGS(memory=memory, lr=0.3), rosenbrock, image, 30)
    assert int(state["valid"].sum()) == pairs
    assert (len(state["moves"]), len(state["changes"])) == (kept + 1, kept)


def test_lbfgs_drops_pairs_without_curvature(image: Tensor) -> None:
    """Of a concave function no pair has s·y > 0."""
    _, state = run(LBFGS(), lambda x: -quadratic(x), image, 5)
    assert not state["valid"].any()


def test_lbfgs_forgets_when_it_would_ascend(image: Tensor) -> None:
    """With s·y < 0, which rounding can leave behind: the next step is the first one."""
    _, state = run(PLAIN, quadratic, image, 3)
    g = state["gradient"]  # a pair without change, which fails
    signs = torch.tensor([-1.0, 1.0])
    ascent = {**state, "gamma": -state["gamma"], "products": signs * state["products"]}
    step, after = PLAIN.step(image, g, ascent)
    assert state["valid"].any()
    assert not after["valid"].any()
    assert torch.equal(step, PLAIN.step(image, g, PLAIN.start(image))[0])


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
    @pytest.mark.parametrize("steps", [0, 3, 9])
    def test_changes_neither_argument(self, solver: Solver, steps: int, image: Tensor) -> None:
        """The same step again, after a next one and one that broke off, gives the same bytes."""
        if isinstance(solver, LBFGS):
            solver = replace(solver, memory=0, least=4)
        iterates, state = run(solver, quadratic, image, steps)
        image = [image, *iterates][-1]
        keys, start, g = dict(state), image.clone(), gradient(quadratic, image)
        first, after = solver.step(image, g, state)
        solver.step(image, g * math.nan, state)
        again, after_again = solver.step(image, g, state)
        assert torch.equal(image, start)
        assert torch.equal(g, gradient(quadratic, image))
        assert torch.equal(again, first)
        assert all(state[key] is value for key, value in keys.items())
        assert len(state) == len(keys)
        g = gradient(quadratic, first)
        assert torch.equal(solver.step(first, g, after_again)[0], solver.step(again, g, after)[0])

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
        images = [x for x in state.values() if isinstance(x, Tensor) and x.dim() == 4]
        assert all(x.shape == larger.shape for x in images)
        assert torch.equal(solver.result(larger, state), larger)
        nxt, state = solver.step(larger, gradient(quadratic, larger), state)
        assert nxt.isfinite().all()
        assert float(quadratic(nxt)) < float(quadratic(larger))

    def test_state_survives_a_file(self, solver: Solver, image: Tensor) -> None:
        iterates, state = run(solver, quadratic, image, 7)
        file = io.BytesIO()
        torch.save(dict(state), file)
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

    exact = run(replace(PLAIN, memory=0, least=3), bowl, image, 25)[0][-1]
    monkeypatch.setattr("optistyle.optimise.solvers.COMPACT", 20)
    iterates, state = run(replace(PLAIN, memory=0, least=3), bowl, image, 25)
    close = iterates[-1]
    assert close.dtype == torch.float32
    assert int(state["valid"].sum()) == 3
    assert {state[x].dtype for x in ("gradient", "moves", "changes")} == {torch.bfloat16}
    assert bowl(close) < 1e-4 * bowl(image)
    assert bowl(close) < 100 * bowl(exact) + 1e-6 * bowl(image)


def test_states_that_were_handed_out_never_change() -> None:
    """L-BFGS's rings wrap after four steps; every state is stepped from again at the end."""
    solver, image = LBFGS(memory=0, least=3), _random(1, 3, 6, 5)
    images, states = [image], [solver.start(image)]
    for _ in range(12):
        image, state = solver.step(images[-1], gradient(quadratic, images[-1]), states[-1])
        images.append(image)
        states.append(state)
    for start in (*range(12), *reversed(range(12))):
        image, state = images[start], states[start]
        for k in range(start, min(12, start + 6)):
            image, state = solver.step(image, gradient(quadratic, image), state)
            assert torch.equal(image, images[k + 1])


def test_the_ring_is_copied_only_for_a_state_that_is_kept() -> None:
    solver, image = LBFGS(memory=0, least=3), _random(1, 3, 6, 5)

    def memory(kept: bool) -> set[int]:
        """Where the pairs of the last steps lie."""
        x, state, found, keep = image, solver.start(image), [], []
        for _ in range(12):
            x, state = solver.step(x, gradient(quadratic, x), state)
            found.append(state["moves"].untyped_storage().data_ptr())
            if kept:
                keep.append(state)
        return {*found[4:]}

    assert len(memory(kept=False)) == 1
    assert len(memory(kept=True)) > 1


def _random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))
