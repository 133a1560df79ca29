"""L-BFGS and Adam as pure steps: image, gradient and state in, image and state out.

A solver is frozen settings; what it remembers is a `State` of tensors and numbers, which can be
saved, carried to another scale, or started afresh. A state that was handed out never changes. One
step uses one evaluation of the objective and its gradient.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from optistyle.errors import unknown
from optistyle.machine import devices

#: Pixels from which on what lies beside an image, L-BFGS's pairs and targets' maps, is kept in
#: bfloat16: 4096x4096.
COMPACT = 2**24
#: Numbers of an image in one pass of the arithmetic, which bounds what it takes beside them.
_BLOCK = 2**20
#: Octaves over which `_spread` tells coarse moves from fine ones: up to 32 pixels.
_OCTAVES = 5


def is_compact(pixels: int) -> bool:
    """Whether what lies beside an image of so many pixels is kept in bfloat16."""
    return pixels >= COMPACT


class State(dict[str, Any]):
    """What a solver remembers: tensors and numbers by name, as a file of a checkpoint holds them.

    Attributes:
        ring: the memory that L-BFGS's pairs lie in, which states of consecutive steps share.
    """

    ring: _Ring | None = None


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

    @property
    def shown(self) -> tuple[str, ...]:
        """The names in a state that `result` reads: all that a view of the picture has to keep."""
        ...

    def result(self, image: Tensor, state: Mapping[str, Any]) -> Tensor:
        """The picture to hand out after the last step."""
        ...

    def renew(self, image: Tensor, state: State) -> State:
        """The state to go on from ``image`` with after the objective has changed: no memory."""
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

    where R is the upper triangle of SᵀY, D its diagonal, and γ = ``stretch`` s·y / y·y of the
    newest pair: what the two-loop recursion gives, in two passes over the pairs. All is decided by
    tensors, so that a step never waits for the device.

    All this is in coordinates z in which coarse moves are shorter than in the picture x:
    dx = A dz by a pyramid A (`_spread`), and g = A dL/dx. In the picture's own coordinates H starts
    from γA² in place of γI: what is twice as coarse moves ``coarse``² times as far, before any pair
    says otherwise. Pixels without a gradient do not move.

    As `torch.optim.LBFGS` with one iteration a step where ``stretch`` and ``coarse`` are 1 and
    ``longest`` is infinite, but for three things. Pairs are judged by
    their angle, not by an absolute s·y > 1e-10, which stalls on small objectives; one that fails
    has no effect, but takes its place. A direction that does not descend clears the memory. The
    first step, along the plain gradient, moves the picture visibly, where torch's min(1, 1 / |g|_1)
    moves a pixel by 1e-6 and leaves the first curvature to rounding (it diverged on one of four
    pairs tried, and was behind on all).

    Args:
        lr: the step along the quasi-Newton direction; 1 is Newton's.
        first_move: mean absolute change of z in the first step, times ``lr``: of the pixels where
            ``coarse`` is 1, and somewhat more of them where it is above.
        longest: the same in any step, at most. What the first pairs suggest is at times ten times
            as long, and the objective a thousand times as high behind it.
        stretch: of γ. s·y / y·y is the shorter of the two lengths that a pair suggests, s·s / s·y
            the longer (Barzilai & Borwein 1988), and somewhat too short.
        coarse: the share of moves twice as coarse in A, for each octave up to 32 pixels.
        memory: bytes that the history may take, for 100 pairs at most. From `COMPACT` pixels on
            it is kept in bfloat16, as are gradients and steps: pairs are a model of the curvature,
            and rounding them to 1 in 256 changes it as little.
        least: pairs that it holds all the same.
    """

    lr: float = 1.0
    first_move: float = 0.01
    longest: float = 0.02
    stretch: float = 2.0
    coarse: float = 1.2
    memory: int = 250_000_000
    least: int = 5

    def capacity(self, size: int) -> int:
        """The pairs kept where one takes so many bytes."""
        return max(self.least, min(100, self.memory // size))

    def start(self, image: Tensor) -> State:
        kind = torch.bfloat16 if is_compact(image[0, 0].numel()) else image.dtype
        zero = image.new_zeros(1, dtype=kind)  # seen from every pixel, and taking no memory
        none = image.new_zeros(0, dtype=torch.float32 if image.is_mps else torch.float64)
        return State(
            {
                "lr": self.lr,
                "gradient": zero.expand_as(image),
                # The s and the y of the pairs, as rings in the order of writing. A new s comes
                # with a step, and its y with the next one: the first s is no move, so that its
                # pair fails. The ring of s has a row more than pairs are used, so that a step
                # leaves the state before it as it was.
                "moves": zero.expand(1, image.numel()),
                "changes": zero.expand(0, image.numel()),
                "moved": 1,
                # Of the pairs, the oldest first: which are in use; s·g and y·g; s·y and y·y of
                # any two.
                "valid": none.bool(),
                "slopes": none.view(0, 2),
                "products": none.view(0, 0, 2),
                "gamma": none.new_ones(()),
            }
        )

    def step(self, image: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        kind = state["moves"].dtype
        most = self.capacity(2 * image.numel() * kind.itemsize)
        memory, moved = _Ring.beside(state, most)
        moves, changes, changed = memory.moves, memory.changes, moved - 1
        newest, spare, new = (moved - 1) % (most + 1), moved % (most + 1), changed % most
        rings = (  # the oldest first
            (moves[spare + 1 : moved], moves[:spare]),
            (changes[new + 1 : changed + 1], changes[: new + 1]),
        )
        kept = min(moved, most) - 1

        x, last = image.flatten(), state["gradient"].flatten()
        spread = _spread(gradient, self.coarse, kind)
        g = spread.flatten()
        slopes = state["slopes"].new_zeros((2, kept + 1))
        latest, square, size = slopes.new_zeros((2, 2)), slopes.new_zeros(()), slopes.new_zeros(())
        for part in _parts(x):
            torch.sub(g[part], last[part], out=changes[new, part])
            own = g[part].to(x.dtype)
            for slope, ring in zip(slopes, rings, strict=True):
                slope += torch.cat([rows[:, part].to(x.dtype) @ own for rows in ring])
            pair = torch.stack((moves[newest, part], changes[new, part])).to(x.dtype)
            latest += pair @ pair.T
            square += own.dot(own)
            size += own.abs().sum()
        slopes = slopes.T

        # With the newest y as the difference of two gradients, whose products are there.
        old = slice(len(state["valid"]) - kept, None)
        column = torch.cat((slopes[:-1] - state["slopes"][old], latest[None, :, 1]))
        products = F.pad(state["products"][old, old], (0, 0, 0, 1, 0, 1))
        products[:, -1] = column
        products[-1, :, 1] = column[:, 1]
        (ss, sy), (_, yy) = latest
        curved = sy > 1e-8 * (ss * yy).sqrt()
        valid = torch.cat((state["valid"][old], curved[None]))
        gamma = torch.where(curved, self.stretch * sy / yy, state["gamma"])

        factors = _inverse(products, valid, gamma, slopes)
        descends = valid.any() & (gamma * square + (factors * slopes).sum() > 0)
        first = self.first_move * x.numel() / (size + 1e-30)
        along = (state["lr"] * torch.where(descends, gamma, first)).to(x.dtype)
        factors = (state["lr"] * torch.where(descends, factors, 0)).to(x.dtype)
        shares = [
            (rows, share)
            for ring, own in zip(rings, factors.T, strict=True)
            for rows, share in zip(ring, own.split([len(rows) for rows in ring]), strict=True)
        ]
        length = torch.zeros_like(square)
        for part in _parts(x):
            move = g[part].to(x.dtype) * -along
            for rows, share in shares:
                move -= share @ rows[:, part].to(x.dtype)
            length += move.abs().sum()
            moves[spare, part] = move
        longest = self.longest * state["lr"] * x.numel()
        moves[spare] *= (longest / (length + 1e-30)).clamp(max=1)
        step = _spread(moves[spare].view_as(image), self.coarse, image.dtype)
        for channel, slope in zip(step[0], gradient[0], strict=True):
            channel.masked_fill_(slope == 0, 0)  # what no loss looks at stays: transparent parts

        following = State(
            {
                "lr": state["lr"],
                "gradient": spread,
                "moves": moves[: moved + 1],
                "changes": changes[: changed + 1],
                "moved": moved + 1,
                "valid": valid & descends,
                "slopes": slopes,
                "products": products,
                "gamma": gamma,
            }
        )
        return step.add_(image), memory.lent(following)

    shown = ()

    def result(self, image: Tensor, state: Mapping[str, Any]) -> Tensor:
        return image

    def renew(self, image: Tensor, state: State) -> State:
        return State({**self.start(image), "lr": state["lr"]})

    def retreat(self, image: Tensor, state: State) -> State:
        return State({**self.start(image), "lr": state["lr"] / 2})

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


def _spread(image: Tensor, share: float, dtype: torch.dtype) -> Tensor:
    """A of `LBFGS`: an image (1, 3, H, W) with its coarse parts times ``share`` for each octave.

    A x = x + U (share A' - 1) D x, with A' of the same form one octave above; D shrinks by 2, by
    the binomial filter 1 3 3 1 with zeros around, and U = 4Dᵀ is bilinear interpolation with zeros
    around. A is symmetric and, for a share of 1 and more, positive definite; 1 makes it I.

    Computed in float32 or float64, and rounded to ``dtype``: small channels together, large ones in
    bands, so that little memory is taken beside the images.
    """
    exact = torch.promote_types(image.dtype, torch.float32)
    spread = torch.empty_like(image, dtype=dtype, memory_format=torch.contiguous_format)
    # Made on the device: a copy from the host would wait for it.
    row = (4 - (2 * torch.arange(4, dtype=exact, device=image.device) - 3).abs()) / 8
    kernel = (row[:, None] * row)[None, None]
    height, width = image.shape[-2:]
    count = max(1, _BLOCK // (height * width))
    # What a band needs of the rows beside it: one coarse row more, which D takes from three finer
    # ones, these from seven, ..., from 2^(octaves + 1) - 1.
    around = 2 * 2**_OCTAVES
    high = max(1, _BLOCK // (width * around)) * around
    channels = (x.transpose(0, 1).split(count) for x in (image, spread))
    with devices.arithmetic(image.device, "float32"):
        for given, found in zip(*channels, strict=True):
            for top in range(0, height, high):
                above = max(0, top - around)
                seen = given[..., above : top + high + around, :].to(exact)
                band = _pyramid(seen, share, kernel, _OCTAVES)[..., top - above :, :]
                found[..., top : top + high, :] = band[..., :high, :]
    return spread


def _pyramid(x: Tensor, share: float, kernel: Tensor, octaves: int) -> Tensor:
    height, width = x.shape[-2:]
    if octaves == 0 or min(height, width) < 4:
        return x
    coarse = F.conv2d(x, kernel, stride=2, padding=1)
    more = share * _pyramid(coarse, share, kernel, octaves - 1) - coarse
    grown = F.interpolate(F.pad(more, (1, 1, 1, 1)), scale_factor=2, mode="bilinear")
    return grown[..., 2 : 2 + height, 2 : 2 + width].add_(x)


class _Ring:
    """Memory of L-BFGS's pairs, whose rows are written in turn, and the states that read them.

    Attributes:
        moves: (pairs + 1, 3 H W), the s of the pairs. changes: (pairs, 3 H W), their y.
    """

    def __init__(self, moves: Tensor, changes: Tensor) -> None:
        self.moves, self.changes = moves, changes
        self._readers: list[weakref.ref[State]] = []

    @classmethod
    def beside(cls, state: State, pairs: int) -> tuple[_Ring, int]:
        """The ring to write a state's next pair to, and how many moves were written to it.

        That is the state's own ring, unless another state that is still in use reads the rows that
        are written next: then a copy of it. At the start, and after a file, which holds no empty
        rows, it is new memory with the latest rows.
        """
        ring = state.ring if isinstance(state, State) else None
        if ring is None or len(ring.changes) != pairs:
            moves, moved = _with_room(state["moves"], state["moved"], pairs + 1)
            changes, _ = _with_room(state["changes"], state["moved"] - 1, pairs)
            return cls(moves, changes), moved
        if ring._is_read(state, pairs):
            ring = cls(ring.moves.clone(), ring.changes.clone())
        return ring, state["moved"]

    def lent(self, state: State) -> State:
        """The state, known as a reader of this ring."""
        self._readers = [known for known in self._readers if known() is not None]
        self._readers.append(weakref.ref(state))
        state.ring = self
        return state

    def _is_read(self, state: State, pairs: int) -> bool:
        """Whether a state other than this one reads the rows that are written after it."""
        move, change = state["moved"] % (pairs + 1), (state["moved"] - 1) % pairs
        others = [x for known in self._readers if (x := known()) is not None and x is not state]
        return any(
            (move < other["moved"] and move != other["moved"] % (pairs + 1))
            or (change < other["moved"] - 1 and change != (other["moved"] - 1) % pairs)
            for other in others
        )


def _with_room(ring: Tensor, written: int, rows: int) -> tuple[Tensor, int]:
    """New memory with the latest rows of a ring and room for one more, and how many it holds."""
    memory, kept = ring.new_empty((rows, ring.shape[1])), min(len(ring), rows - 1)
    for k in range(kept):
        memory[k] = ring[(written - kept + k) % len(ring)]
    return memory, kept


def _parts(x: Tensor) -> Iterator[slice]:
    return (slice(a, a + _BLOCK) for a in range(0, len(x), _BLOCK))


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
        return State(first=zero, second=zero, moments=0, lr=self.lr, **self._no_average(zero))

    def _no_average(self, zero: Tensor) -> dict[str, Any]:
        return {"mean": zero, "averaged": 0}

    def step(self, image: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        (b1, b2), count = self.betas, state["moments"] + 1
        first = state["first"].lerp(gradient, 1 - b1)
        second = state["second"].lerp(gradient.square(), 1 - b2)
        size = (second / (1 - b2**count)).sqrt() + self.eps
        image = (image - state["lr"] * first / (1 - b1**count) / size).clamp(0, 1)
        return image, State(
            first=first,
            second=second,
            moments=count,
            lr=state["lr"],
            mean=state["mean"].lerp(image, 1 - self.average),
            averaged=state["averaged"] + 1,
        )

    shown = ("mean", "averaged")

    def result(self, image: Tensor, state: Mapping[str, Any]) -> Tensor:
        if not state["averaged"]:
            return image
        return (state["mean"] / (1 - self.average ** state["averaged"])).clamp(0, 1)

    def renew(self, image: Tensor, state: State) -> State:
        return State({**self.start(image), "lr": state["lr"]})

    def retreat(self, image: Tensor, state: State) -> State:
        return State({**self.start(image), "lr": state["lr"] / 2})

    def rescale(self, image: Tensor, state: State) -> State:
        size = image.shape[-2:]
        first = F.interpolate(state["first"], size, mode="bicubic", align_corners=False)
        second = F.interpolate(state["second"], size, mode="bilinear", align_corners=False)
        zero = torch.zeros_like(image)
        return State({**state, "first": first, "second": second, **self._no_average(zero)})


SOLVERS: Mapping[str, type[LBFGS] | type[Adam]] = {"lbfgs": LBFGS, "adam": Adam}


def make(name: str, lr: float | None, least: int | None = None) -> Solver:
    """The solver of that name, with its own step and history where these are None."""
    if name not in SOLVERS:
        raise unknown("optimizer", name, SOLVERS)
    solver = SOLVERS[name]() if lr is None else SOLVERS[name](lr=lr)
    if least is not None and isinstance(solver, LBFGS):
        solver = replace(solver, least=least)
    return solver
