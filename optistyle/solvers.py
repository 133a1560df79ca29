"""L-BFGS and Adam as pure steps: image, gradient and state in, image and state out.

A solver is frozen settings; what it remembers is a `State` of tensors and numbers, which can be
saved, carried to another scale, or started afresh with a smaller step. One step uses one
evaluation of the objective and its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from optistyle.errors import unknown

#: Tensors, lists of tensors and numbers: what `torch.load(weights_only=True)` gives back.
State = dict[str, Any]

#: Pixels from which on what lies beside an image, L-BFGS's pairs and targets' maps, is kept in
#: bfloat16: 4096x4096.
COMPACT = 2**24
#: Numbers of an image in one pass of the arithmetic, which bounds what it takes beside them.
_BLOCK = 2**18


class Solver(Protocol):
    """Settings of a method; see `LBFGS` and `Adam`."""

    def start(self, image: Tensor) -> State:
        """The state before the first step from an image (1, 3, H, W)."""
        ...

    def step(self, image: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        """The next image and state; no argument is changed.

        Args:
            image: (1, 3, H, W), what the last step returned, or the state was started with.
            gradient: the objective's there.
        """
        ...

    def result(self, image: Tensor, state: State) -> Tensor:
        """The picture to hand out after the last step."""
        ...

    def retreat(self, image: Tensor, state: State) -> State:
        """The state to go on from ``image`` with after a divergence: no memory, half the step."""
        ...

    def rescale(self, image: Tensor, state: State) -> State:
        """The state to go on with at the scale of ``image``, the last result resized."""
        ...


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS with fixed steps, in compact form (Byrd, Nocedal & Schnabel 1994, 3.1).

    A step is -H g; for the pairs' steps S and gradient changes Y, the oldest first,

        H = γI + [S γY] [[R⁻ᵀ (D + γYᵀY) R⁻¹, -R⁻ᵀ], [-R⁻¹, 0]] [S γY]ᵀ,

    where R is the upper triangle of SᵀY, D its diagonal, and γ = s·y / y·y of the newest pair: what
    the two-loop recursion gives, in two passes over the pairs. All is decided by tensors, so that a
    step never waits for the device.

    As `torch.optim.LBFGS` with one iteration a step, but for three things. Pairs are judged by
    their angle, not by an absolute s·y > 1e-10, which stalls on small objectives; one that fails
    has no effect, but takes its place. A direction that does not descend clears the memory. The
    first step, along the plain gradient, moves the picture visibly, where torch's min(1, 1 / |g|_1)
    moves a pixel by 1e-6 and leaves the first curvature to rounding (it diverged on one of four
    pairs tried, and was behind on all).

    Args:
        lr: the step along the quasi-Newton direction; 1 is Newton's.
        first_move: mean absolute change of the pixels in the first step, times ``lr``.
        memory: bytes that the history may take, for 100 pairs at most. From `COMPACT` pixels on
            it is kept in bfloat16: pairs are a model of the curvature, and rounding them to 1 in
            256 changes it as little.
        least: pairs that it holds all the same.
    """

    lr: float = 1.0
    first_move: float = 0.01
    memory: int = 250_000_000
    least: int = 5

    def capacity(self, size: int) -> int:
        """The pairs kept where one takes so many bytes."""
        return max(self.least, min(100, self.memory // size))

    def start(self, image: Tensor) -> State:
        kind = torch.bfloat16 if image[0, 0].numel() >= COMPACT else image.dtype
        none = image.new_zeros(0, dtype=torch.float32 if image.is_mps else torch.float64)
        return {
            "lr": self.lr,
            "gradient": torch.zeros_like(image),
            # s and y in the order of writing, as a ring with one row more than pairs in use. Of the
            # newest pair s is known, here that of no step: the first pair fails. The next step adds
            # its y, and writes its own s where it needs nothing: this state stays good.
            "pairs": image.new_zeros((1, 2, image.numel()), dtype=kind),
            "written": 1,
            # Of the pairs, the oldest first: which are in use; s·g and y·g; s·y and y·y of any two.
            "valid": none.bool(),
            "slopes": none.view(0, 2),
            "products": none.view(0, 0, 2),
            "gamma": none.new_ones(()),
        }

    def step(self, image: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        most = self.capacity(2 * image.numel() * state["pairs"].element_size())
        pairs, written = _with_room(state["pairs"], state["written"], most + 1)
        newest, spare = (written - 1) % (most + 1), written % (most + 1)
        used = pairs[spare + 1 : written], pairs[:spare]  # the oldest first
        kept = min(written, most) - 1

        x, g, last = image.flatten(), gradient.flatten(), state["gradient"].flatten()
        slopes = state["slopes"].new_zeros((kept + 1, 2))
        latest, square, size = slopes.new_zeros((2, 2)), slopes.new_zeros(()), slopes.new_zeros(())
        for part in _parts(x):
            torch.sub(g[part], last[part], out=pairs[newest, 1, part])
            found = [_matrix(some, part, x.dtype) @ g[part] for some in used]
            slopes += torch.cat(found).view(-1, 2)
            pair = pairs[newest, :, part].to(x.dtype)
            latest += pair @ pair.T
            square += g[part].dot(g[part])
            size += g[part].abs().sum()

        # With the newest y as the difference of two gradients, whose products are there.
        old = slice(len(state["valid"]) - kept, None)
        column = torch.cat((slopes[:-1] - state["slopes"][old], latest[None, :, 1]))
        products = F.pad(state["products"][old, old], (0, 0, 0, 1, 0, 1))
        products[:, -1] = column
        products[-1, :, 1] = column[:, 1]
        (ss, sy), (_, yy) = latest
        curved = sy > 1e-8 * (ss * yy).sqrt()
        valid = torch.cat((state["valid"][old], curved[None]))
        gamma = torch.where(curved, sy / yy, state["gamma"])

        factors = _inverse(products, valid, gamma, slopes)
        descends = valid.any() & (gamma * square + (factors * slopes).sum() > 0)
        first = self.first_move * x.numel() / (size + 1e-30)
        along = (state["lr"] * torch.where(descends, gamma, first)).to(x.dtype)
        factors = (state["lr"] * torch.where(descends, factors, 0)).to(x.dtype)
        shares = [f.flatten() for f in factors.split([len(some) for some in used])]
        moved = torch.empty_like(x)
        for part in _parts(x):
            change = g[part] * along
            for share, some in zip(shares, used, strict=True):
                change += share @ _matrix(some, part, x.dtype)
            torch.sub(x[part], change, out=moved[part])
            torch.sub(moved[part], x[part], out=pairs[spare, 0, part])
            pairs[spare, 1, part] = 0  # a file holds it

        return moved.view_as(image), {
            "lr": state["lr"],
            "gradient": gradient,
            "pairs": pairs[: written + 1],
            "written": written + 1,
            "valid": valid & descends,
            "slopes": slopes,
            "products": products,
            "gamma": gamma,
        }

    def result(self, image: Tensor, state: State) -> Tensor:
        return image

    def retreat(self, image: Tensor, state: State) -> State:
        return {**self.start(image), "lr": state["lr"] / 2}

    def rescale(self, image: Tensor, state: State) -> State:
        # Curvature in pixels says nothing about pixels of another size: start anew.
        return self.start(image)


def _inverse(products: Tensor, valid: Tensor, gamma: Tensor, slopes: Tensor) -> Tensor:
    """Factors of s and y, pair by pair, in H g - γ g."""
    eye = torch.eye(len(valid), dtype=slopes.dtype, device=slopes.device)
    upper = torch.where(valid & valid[:, None], products[..., 0], eye)
    valid = valid[:, None]
    along, change = torch.where(valid, slopes, 0).split(1, 1)
    u = torch.linalg.solve_triangular(upper, along, upper=True)
    inner = upper.diagonal()[:, None] * u + gamma * (products[..., 1] @ u - change)
    inner = torch.where(valid, inner, 0)
    return torch.cat(
        (torch.linalg.solve_triangular(upper.mT, inner, upper=False), -gamma * u), dim=1
    )


def _with_room(pairs: Tensor, written: int, rows: int) -> tuple[Tensor, int]:
    """The memory that the pairs are the beginning of, and how many were written to it.

    New memory with the latest of them where there is none or it has another size: at the start, and
    after a file, which holds no empty rows.
    """
    shape = (rows, *pairs.shape[1:])
    if pairs.untyped_storage().nbytes() == math.prod(shape) * pairs.element_size():
        return pairs.as_strided(shape, (2 * shape[2], shape[2], 1)), written
    memory, kept = pairs.new_empty(shape), min(len(pairs), rows - 1)
    for k in range(kept):
        memory[k] = pairs[(written - kept + k) % len(pairs)]
    return memory, kept


def _parts(x: Tensor) -> Iterator[slice]:
    return (slice(a, a + _BLOCK) for a in range(0, len(x), _BLOCK))


def _matrix(pairs: Tensor, part: slice, kind: torch.dtype) -> Tensor:
    """A part of all pairs, a row for every s and y."""
    return pairs[..., part].flatten(0, 1).to(kind)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) on an image clamped to [0, 1], handing out its iterates' average.

    Averages and warm moments across scales follow crowsonkb/style-transfer-pytorch.

    Args:
        lr: step in units of the pixel range. betas: decay of the two moments.
        average: decay of the average of iterates, corrected for its start; 0 hands out the last.
    """

    lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    average: float = 0.99
    eps: float = 1e-8

    def start(self, image: Tensor) -> State:
        zero = torch.zeros_like(image)
        return {
            "first": zero,
            "second": zero,
            "moments": 0,
            "lr": self.lr,
            **self._no_average(zero),
        }

    def _no_average(self, zero: Tensor) -> State:
        return {"mean": zero, "averaged": 0}

    def step(self, image: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        (b1, b2), count = self.betas, state["moments"] + 1
        first = state["first"].lerp(gradient, 1 - b1)
        second = state["second"].lerp(gradient.square(), 1 - b2)
        size = (second / (1 - b2**count)).sqrt() + self.eps
        image = (image - state["lr"] * first / (1 - b1**count) / size).clamp(0, 1)
        return image, {
            "first": first,
            "second": second,
            "moments": count,
            "lr": state["lr"],
            "mean": state["mean"].lerp(image, 1 - self.average),
            "averaged": state["averaged"] + 1,
        }

    def result(self, image: Tensor, state: State) -> Tensor:
        if not state["averaged"]:
            return image
        return (state["mean"] / (1 - self.average ** state["averaged"])).clamp(0, 1)

    def retreat(self, image: Tensor, state: State) -> State:
        return {**self.start(image), "lr": state["lr"] / 2}

    def rescale(self, image: Tensor, state: State) -> State:
        size = image.shape[-2:]
        first = F.interpolate(state["first"], size, mode="bicubic", align_corners=False)
        second = F.interpolate(state["second"], size, mode="bilinear", align_corners=False)
        zero = torch.zeros_like(image)
        return {**state, "first": first, "second": second, **self._no_average(zero)}


SOLVERS: Mapping[str, type[LBFGS] | type[Adam]] = {"lbfgs": LBFGS, "adam": Adam}


def make(name: str, lr: float | None, least: int | None = None) -> Solver:
    """The solver of that name, with its own step and history where these are None."""
    if name not in SOLVERS:
        raise unknown("optimizer", name, SOLVERS)
    solver = SOLVERS[name]() if lr is None else SOLVERS[name](lr=lr)
    if least is not None and isinstance(solver, LBFGS):
        solver = replace(solver, least=least)
    return solver
