"""Means with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
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


def bootstrap(
    values: Sequence[float], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """The mean with its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Args:
        values: one per independent unit, such as a pair of images.
        level: of confidence. draws: resamples. seed: of the resampling.
    """
    given = np.asarray(values, dtype=float)
    picks = np.random.default_rng(seed).integers(len(given), size=(draws, len(given)))
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(given[picks].mean(1), [tail, 100 - tail])
    return Interval(float(given.mean()), float(low), float(high), len(given))
