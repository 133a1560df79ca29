"""What a comparison finds: means, paired differences, and differences at equal content error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optistyle import metrics
from optistyle.experiments.intervals import Interval, bootstrap

#: Differences at equal content error need this many pairs.
_FEWEST = 8

#: Pair -> the row of a method.
_Rows = Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """The rows of a comparison, and what follows from them.

    Attributes:
        rows: of every case: method, content, style and metrics, or an ``error``.
        means: method -> metric -> interval over its pairs.
        differences: "A less B" -> metric -> interval of the paired differences.
        matched: "A less B" -> metric -> the same at equal content error.
    """

    rows: list[dict[str, Any]]
    means: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Interval]]
    matched: dict[str, dict[str, Interval]]

    @property
    def failed(self) -> int:
        """How many rows hold an error."""
        return sum("error" in row for row in self.rows)


def findings(rows: Sequence[dict[str, Any]]) -> Comparison:
    """Average every method's rows, and compare every two methods over the pairs that both have.

    Args:
        rows: method, content, style and metrics of every picture, or an ``error``. Pairs are told
            apart by the texts under ``content`` and ``style``. Means need 2 pairs, differences at
            equal content error 8 and a metric of content: ``content_distance``, or else
            ``self_similarity``.

    Returns:
        95 % bootstrap intervals over pairs, see `intervals.bootstrap`.
    """
    good = [row for row in rows if "error" not in row]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    names = [name for name in metrics.METRICS if any(name in row for row in good)]
    table: dict[str, dict[tuple[str, str], dict[str, Any]]] = {m: {} for m in methods}
    for row in good:
        table[row["method"]][row["content"], row["style"]] = row
    means = {
        method: {
            name: bootstrap([row[name] for row in pairs.values()])
            for name in names
            if len(pairs) > 1 and all(name in row for row in pairs.values())
        }
        for method, pairs in table.items()
    }
    differences: dict[str, dict[str, Interval]] = {}
    matched: dict[str, dict[str, Interval]] = {}
    for index, first in enumerate(methods):
        for second in methods[index + 1 :]:
            gaps = _gaps(table[first], table[second], names)
            if gaps is None:
                continue
            title = f"{first} less {second}"
            differences[title] = {name: bootstrap(gap) for name, gap in gaps.items()}
            equal = _at_equal_content(gaps, names)
            if equal is not None:
                matched[title] = equal
    return Comparison(list(rows), means, differences, matched)


def _gaps(first: _Rows, second: _Rows, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Metric -> (pairs,) differences over the pairs of both; None for fewer than 2 pairs."""
    common = [pair for pair in first if pair in second]
    if len(common) < 2:
        return None
    return {
        name: np.array([first[pair][name] - second[pair][name] for pair in common])
        for name in names
        if all(name in table[pair] for table in (first, second) for pair in common)
    }


def _at_equal_content(
    gaps: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, Interval] | None:
    """Intervals of the metrics of style at equal content error; None where that is not measured."""
    error = next((n for n in ("content_distance", "self_similarity") if n in names), None)
    if error is None or error not in gaps or len(gaps[error]) < _FEWEST:
        return None
    return {
        name: bootstrap(np.stack([gaps[error], gap], 1), statistic=at_no_gap)
        for name, gap in gaps.items()
        if metrics.METRICS[name].of == "style"
    }


def at_no_gap(points: np.ndarray) -> np.ndarray:
    """Estimate by how much a metric would differ at equal content error.

    The value at 0 of the least-squares line of the metric's differences on those of the content
    error; the mean of the metric's differences where the errors' do not vary.

    Args:
        points: (..., count, 2), of every pair the difference in content error and in the metric.

    Returns:
        (...).
    """
    x, y = points[..., 0], points[..., 1]
    mean_x, mean_y = x.mean(-1), y.mean(-1)
    spread = ((x - mean_x[..., None]) ** 2).sum(-1)
    along = ((x - mean_x[..., None]) * (y - mean_y[..., None])).sum(-1)
    some = spread > 1e-24 * (x**2).sum(-1)  # less is rounding
    slope = np.divide(along, spread, out=np.zeros_like(along), where=some)
    return mean_y - slope * mean_x
