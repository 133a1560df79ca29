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

#: L-BFGS keeps its pairs in bfloat16 for images of so many pixels or more: 4096x4096.
COMPACT = 2**24
#: Numbers in one pass of the arithmetic on images, which bounds what it takes beside them.
_BLOCK = 2**22


class Solver(Protocol):
    """Settings of a method; see `LBFGS` and `Adam`."""

    def start(self, image: Tensor) -> State:
        """The state before the first step from an image (1, 3, H, W)."""
        ...

    def step(self, image: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        """The next image and state; neither argument is changed."""
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
    """Limited-memory BFGS with fixed steps (Nocedal & Wright 2006, alg. 7.4; no line search).

    As `torch.optim.LBFGS` with one iteration a step, but for three things: curvature pairs are
    judged by their angle, not by an absolute s·y > 1e-10, which stalls on small objectives; a
    direction that does not descend clears the memory; and the first step, along the plain gradient,
    moves the picture visibly, where torch's min(1, 1 / |g|_1) moves a pixel by 1e-6 and leaves the
    first curvature to rounding (it diverged on one of four pairs tried, and was behind on all).

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
        return {"s": [], "y": [], "lr": self.lr}

    def step(self, image: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        s, y, lr = list(state["s"]), list(state["y"]), state["lr"]
        if "move" in state:
            move, change = state["move"], gradient - state["gradient"]
            if _dot(move, change) > 1e-8 * float(move.norm()) * float(change.norm()):
                keep = self.capacity(2 * move.numel() * move.element_size())
                s, y = [*s, move][-keep:], [*y, change.to(move.dtype)][-keep:]
            del move, change
        direction = _quasi_newton(gradient, s, y)
        if s and _dot(direction, gradient) >= 0:
            s, y = [], []
            direction = (-gradient).contiguous()
        # In place from here on: an image of 8192x8192 px takes 0.8 GB.
        length = lr if s else lr * self.first_move / (float(gradient.abs().mean()) + 1e-30)
        move = direction.mul_(length)
        image = image + move
        if image[0, 0].numel() >= COMPACT:
            move = move.bfloat16()
        return image, {"s": s, "y": y, "lr": lr, "move": move, "gradient": gradient}

    def result(self, image: Tensor, state: State) -> Tensor:
        return image

    def retreat(self, image: Tensor, state: State) -> State:
        return {**self.start(image), "lr": state["lr"] / 2}

    def rescale(self, image: Tensor, state: State) -> State:
        # Curvature in pixels says nothing about pixels of another size: start anew.
        return self.start(image)


def _quasi_newton(gradient: Tensor, s: list[Tensor], y: list[Tensor]) -> Tensor:
    """The two-loop recursion: -H g, with H built from steps s and gradient changes y."""
    q = (-gradient).contiguous()
    inverse = [1 / _dot(a, b) for a, b in zip(s, y, strict=True)]
    factors = []
    for a, b, rho in zip(reversed(s), reversed(y), reversed(inverse), strict=True):
        factor = rho * _dot(a, q)
        _add(q, b, -factor)
        factors.append(factor)
    if s:
        q *= _dot(s[-1], y[-1]) / _dot(y[-1], y[-1])
    for a, b, rho, factor in zip(s, y, inverse, reversed(factors), strict=True):
        _add(q, a, factor - rho * _dot(b, q))
    return q


def _blocks(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Two images, part by part, the second in the first's type."""
    parts = zip(a.flatten().split(_BLOCK), b.flatten().split(_BLOCK), strict=True)
    return ((x, y.to(x.dtype)) for x, y in parts)


def _dot(a: Tensor, b: Tensor) -> float:
    if a.dtype == torch.bfloat16:
        a, b = b, a
    if a.dtype == torch.bfloat16:
        return math.fsum(float(torch.dot(x.float(), y.float())) for x, y in _blocks(a, b))
    return math.fsum(float(torch.dot(x, y)) for x, y in _blocks(a, b))


def _add(a: Tensor, b: Tensor, factor: float) -> None:
    """a += factor * b, for an a without gaps."""
    for x, y in _blocks(a, b):
        x.add_(y, alpha=factor)


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
