"""How long a run takes: a forecast, from timing the encoder on a tiny picture on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from optistyle.choices import MOST_KEYS
from optistyle.optimise.objective import Objective, Terms
from optistyle.optimise.solvers import LBFGS
from optistyle.optimise.tiles import tiling
from optistyle.run.demand import Demand, Fit
from optistyle.statistics import gather

#: Sides of the tiny pictures: two, to tell what grows with the picture from what does not.
_SMALL, _LARGE = 64, 160
#: Queries and keys of the tiny attention.
_QUERIES, _KEYS = 512, 4096
#: Passes over a float32 image in a step of Adam, and of L-BFGS per pair and beside them.
_ADAM, _PAIR, _REST = 20, 3, 10


def seconds(
    demand: Demand, terms: Terms, schedule: Sequence[tuple[tuple[int, int], int]], fit: Fit
) -> float:
    """Of a whole run; within a factor of two where the machine stays as busy as it is.

    Args:
        demand: of the run. terms: of its objective. schedule: (H, W) and iterations of every scale.
        fit: the tiles and the history.
    """
    encoder, device = demand.encoder, demand.encoder.device

    def took(work: Callable[[], object]) -> float:
        times = []
        for _ in range(2):
            begun = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - begun)
        return min(times)

    def timed(side: int) -> tuple[float, float]:
        """Seconds of one evaluation without gradient, and of one with."""
        image = torch.linspace(0, 1, 3 * side * side, device=device).view(1, 3, side, side)
        built = Objective.build(encoder, terms, (image, None), [(image, None)], [1.0])
        return took(lambda: built.evaluate(image)), took(lambda: built.gradient(image))

    small, large = timed(_SMALL), timed(_LARGE)
    area = _LARGE**2 - _SMALL**2
    forward, gradient = (max(b - a, 0.5 * b) / area for a, b in zip(small, large, strict=True))
    fixed = max(0.0, small[1] - gradient * _SMALL**2)

    block = torch.zeros(2**20, device=device)
    passing = took(lambda: block.add_(block, alpha=0.5)) / len(block)

    total = 0.0
    for (height, width), iterations in schedule:
        pixels = height * width
        tiles = demand.ranks.share(tiling(encoder, demand.layers, (height, width), fit.tile))
        looked_at = sum(
            (rows.stop - rows.start) * (columns.stop - columns.start)
            for rows, columns in (tile.crop for tile in tiles)
        )
        step = fixed + looked_at * (gradient + (forward if len(tiles) > 1 else 0))
        passes = float(_ADAM)
        if isinstance(demand.solver, LBFGS):
            passes = _REST + _PAIR * min(iterations / 2, demand.pairs(pixels, fit.history))
        step += passes * 3 * pixels * passing
        total += iterations * step + (1 + sum(demand.styles)) * pixels * forward
        for layer in demand.needs.matched:
            total += _matching(demand, layer, pixels, took)
    return total


def _matching(
    demand: Demand, layer: str, pixels: int, took: Callable[[Callable[[], object]], float]
) -> float:
    """Seconds of attention at a layer of a picture of so many pixels."""
    channels, positions = demand.encoder.channels(layer), demand.positions(layer, pixels)
    device = demand.encoder.device
    # A generator of its own: the global one belongs to the caller.
    generator = torch.Generator(device).manual_seed(0)
    shape = 1, min(_KEYS, 64 + int(positions)), channels
    keys = torch.rand(shape, device=device, generator=generator)
    queries = keys[:, :_QUERIES].contiguous()
    rate = took(lambda: gather(queries, keys, keys)) / (queries.shape[1] * keys.shape[1])
    looked_at = [positions * style for style in demand.styles]
    if not demand.exact:
        looked_at = [min(MOST_KEYS, count) for count in looked_at]
    return rate * positions * sum(looked_at)


def spell(duration: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if duration < 90:
        return f"{duration:.0f} s"
    return f"{duration / 60:.0f} min" if duration < 5400 else f"{duration / 3600:.1f} h"
