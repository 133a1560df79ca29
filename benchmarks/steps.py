"""What each part of L-BFGS's steps saves: bounded, longer, and by a pyramid (`solvers.LBFGS`).

The default losses at a single scale from the content image, where the moves to be made are large.
Every contender has one part more than the one before it; the first steps as torch.optim.LBFGS does,
but for the three things that `solvers.LBFGS` names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks import pairs, record
from optistyle.encoders import load
from optistyle.encoders.vgg import VGG
from optistyle.optimise import scale as optimise
from optistyle.optimise.objective import Objective
from optistyle.optimise.scale import Progress
from optistyle.optimise.solvers import LBFGS
from optistyle.recipes import Recipe
from optistyle.run import terms

_ALL = LBFGS()
CONTENDERS: Mapping[str, LBFGS] = {
    "torch's": LBFGS(longest=math.inf, stretch=1.0, coarse=1.0),
    "bounded": replace(_ALL, stretch=1.0, coarse=1.0),
    "and longer": replace(_ALL, coarse=1.0),
    "and coarse first": _ALL,
}


def descend(
    encoder: VGG, content: Tensor, style: Tensor, solver: LBFGS, iterations: int
) -> dict[str, Any]:
    """The objective at every iteration, and how often it diverged."""
    objective = Objective.build(encoder, terms(Recipe()), (content, None), [(style, None)], [1.0])
    start = Progress.start(content, solver.start(content))
    trace = list(optimise.steps(objective, solver, start, iterations))
    return {
        "objective": [losses["total"] for losses, *_ in trace],
        "divergences": trace[-1][1].retreats,
    }


def measure(
    name: str, images: Mapping[str, tuple[Tensor, Tensor]], size: int, iterations: int, folder: Path
) -> list[dict[str, Any]]:
    """One row per pair and contender; what ``folder`` holds is kept."""
    encoder, rows = load(name), []
    for pair, (content, style) in images.items():
        for steps, solver in CONTENDERS.items():
            facts = {"encoder": name, "px": size, "steps": steps, "pair": pair}
            path = record.place(folder, name, size, iterations, steps, pair)
            work = partial(descend, encoder, content, style, solver, iterations)
            rows.append(record.kept(path, facts, work))
    return rows


def means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per encoder, size and contender, beside the first: the lowest objective as a ratio,
    its geometric mean over pairs with a 95 % interval; after which iteration it was as low as the
    first ever came, median; and divergences of all pairs."""
    found, table = record.compared(rows, "steps"), []
    for (encoder, size, steps), own in found.items():
        lowest = {p: min(r["objective"]) for p, r in found[encoder, size, "torch's"].items()}
        ratios = [min(row["objective"]) / lowest[pair] for pair, row in own.items()]
        reached = [_reached(row["objective"], lowest[pair]) for pair, row in own.items()]
        table.append(
            {
                "encoder": encoder,
                "px": size,
                "steps": steps,
                "pairs": len(own),
                "objective": record.mean_ratio(ratios),
                "as low after": float(np.median(reached)),
                "divergences": sum(row["divergences"] for row in own.values()),
            }
        )
    return table


def _reached(objective: Sequence[float], goal: float) -> float:
    return next((n for n, value in enumerate(objective, 1) if value <= goal), math.inf)


def main(names: tuple[str, ...], size: int, iterations: int, folder: Path, own_pairs: bool) -> None:
    found = pairs.own(size) if own_pairs else pairs.held_out(size)
    for name in names:
        rows = measure(name, found, size, iterations, folder)
        print(record.listed(means(rows)))
        print(record.save(f"steps-{name}-{size}", rows))
