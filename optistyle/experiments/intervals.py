"""Means with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean over ``count`` values, and the percentile interval of its bootstrap distribution."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(-1)


def bootstrap(
    values: Sequence[float] | np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] = _mean,
    *,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The mean with its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Args:
        values: (count, ...), a number or several per independent unit, such as a pair of images.
        statistic: in place of the mean, of (..., count) or (..., count, several).
        level: of confidence. draws: resamples. seed: of the resampling.
    """
    given = np.asarray(values, dtype=float)
    picks = np.random.default_rng(seed).integers(len(given), size=(draws, len(given)))
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(statistic(given[picks]), [tail, 100 - tail])
    return Interval(float(statistic(given)), float(low), float(high), len(given))


def crossed(
    grid: np.ndarray, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of (rows, columns) with an interval for other rows and other columns.

    Every content in every style makes no independent pairs: contents and styles are resampled, each
    on their own (the pigeonhole bootstrap: A. B. Owen, Annals of Applied Statistics 2007).

    Args:
        grid: a value for each pair. level, draws, seed: as in `bootstrap`.
    """
    given = np.asarray(grid, dtype=float)
    source = np.random.default_rng(seed)
    rows, columns = (
        source.multinomial(size, np.full(size, 1 / size), draws) / size for size in given.shape
    )
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(((rows @ given) * columns).sum(1), [tail, 100 - tail])
    return Interval(float(given.mean()), float(low), float(high), given.size)
