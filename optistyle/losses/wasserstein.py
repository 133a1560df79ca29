"""Wasserstein-2 style: the distance between Gaussians with the features' means and covariances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from optistyle.encoders.base import Features
from optistyle.layers import CHANNELS
from optistyle.losses.base import References, Statistic, Target, content_weights, weighted_total
from optistyle.statistics import Moments, moments


def matrix_root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a symmetric, non-negative (n, n) matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


@dataclass(frozen=True)
class WassersteinStyle:
    """W2² / (4 n N²), averaged over layers, with N VGG-19's channels and n the encoder's.

        W2² = |m - m_s|² + tr(C + C_s - 2 (C_s^½ C C_s^½)^½)

    (Olkin & Pukelsheim 1982; crowsonkb/style-transfer-pytorch uses it as style loss.) A departure:
    the root's trace comes from eigenvalues in float64 in place of a Newton-Schulz iteration,
    and the factor is the Gram loss's, so that beta has about the same strength.

    Args:
        layer_weights: layer -> relative weight.
        eps: added to the covariances' diagonals; with fewer positions than channels they are
            singular, and the root's derivative would be infinite.
    """

    layer_weights: Mapping[str, float]
    eps: float = 1e-4

    @property
    def layers(self) -> frozenset[str]:
        return frozenset(self.layer_weights)

    def target(self, references: References) -> Target:
        values = {}
        for layer in self.layers:
            mixture = references.style_moments(layer)
            covariance = self._regular(mixture.covariance.double())
            values[f"{layer}/mean"] = mixture.first.double()
            values[f"{layer}/trace"] = covariance.trace()
            values[f"{layer}/root"] = matrix_root(covariance)
        return Target(content_weights(references, self.layers), values=values)

    def statistic(self, features: Features, target: Target) -> Statistic:
        statistic = {}
        for layer in self.layers:
            part = moments(features[layer], target.weights[layer])
            statistic[f"{layer}/first"], statistic[f"{layer}/second"] = part.first, part.second
        return statistic

    def score(self, statistic: Statistic, target: Target) -> Tensor:
        def distance(layer: str) -> Tensor:
            first, second = statistic[f"{layer}/first"], statistic[f"{layer}/second"]
            covariance = self._regular(Moments(first.double(), second.double()).covariance)
            root = target.values[f"{layer}/root"]
            product = root @ covariance @ root
            overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(self.eps**2).sqrt()
            shift = (first.double() - target.values[f"{layer}/mean"]).square().sum()
            spread = covariance.trace() + target.values[f"{layer}/trace"] - 2 * overlap.sum()
            return ((shift + spread) / (4 * len(first) * CHANNELS[layer] ** 2)).to(first.dtype)

        return weighted_total(self.layer_weights, distance)

    def _regular(self, covariance: Tensor) -> Tensor:
        size = len(covariance)
        diagonal = torch.eye(size, dtype=covariance.dtype, device=covariance.device)
        return covariance + self.eps * diagonal
