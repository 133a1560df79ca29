"""Means with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean, and the percentile interval of its bootstrap distribution.

    Attributes:
        mean: of the values.
        low: lower end of the interval.
        high: upper end.
        count: how many values.

    >>> str(Interval(1.23456, 1.0, 2.0, 9))
    '1.23 [1, 2]'
    """

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
    """Compute a mean with its percentile bootstrap interval.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

    Args:
        values: (count, ...), a number or several for each independent unit, such as a pair of
            images.
        statistic: a function of (..., count) or (..., count, several), instead of the mean.
        level: of confidence, in (0, 1).
        draws: how many resamples.
        seed: of the resampling.

    >>> bootstrap([2.0, 2.0, 2.0])
    Interval(mean=2.0, low=2.0, high=2.0, count=3)
    """
    sample = np.asarray(values, dtype=float)
    picks = np.random.default_rng(seed).integers(len(sample), size=(draws, len(sample)))
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(statistic(sample[picks]), [tail, 100 - tail])
    return Interval(float(statistic(sample)), float(low), float(high), len(sample))


def crossed(
    grid: np.ndarray, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Compute the mean of a table with an interval for other rows and other columns.

    The pairs of every content with every style are not independent: they share contents and
    styles. Rows and columns are resampled separately (the pigeonhole bootstrap).

    Source: A. B. Owen, "The pigeonhole bootstrap" (Annals of Applied Statistics 2007).

    Args:
        grid: (rows, columns), a value for each pair.
        level: as in `bootstrap`.
        draws: likewise.
        seed: likewise.
    """
    table = np.asarray(grid, dtype=float)
    source = np.random.default_rng(seed)
    rows, columns = (
        source.multinomial(size, np.full(size, 1 / size), draws) / size for size in table.shape
    )
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(((rows @ table) * columns).sum(1), [tail, 100 - tail])
    return Interval(float(table.mean()), float(low), float(high), table.size)
