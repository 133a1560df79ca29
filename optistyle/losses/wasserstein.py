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
    """Compare means and covariances of the features by their Wasserstein-2 distance.

    At each layer the features are summarised by a Gaussian: mean m and covariance C of the
    picture's, m_s and C_s of the painting's. The distance between the two is

        W2² = |m - m_s|² + tr(C + C_s - 2 (C_s^½ C C_s^½)^½)

    (Olkin & Pukelsheim 1982), and the loss is W2² / (4 n N²), averaged over the layers by their
    weights, where n is the encoder's number of feature maps and N is VGG-19's. Source:
    crowsonkb/style-transfer-pytorch. Departures: the trace of the root comes from eigenvalues in
    float64 instead of a Newton-Schulz iteration, and the factor 1 / (4 n N²) gives beta about the
    effect that it has on `GramStyle`.

    Args:
        layer_weights: layer -> relative weight.
        eps: a number added to the diagonals of the covariances. Without it they are singular where
            a layer has fewer positions than feature maps, and the derivative of the root is
            infinite.

    >>> from optistyle import WassersteinStyle
    >>> WassersteinStyle({"relu1_1": 1.0}).eps
    0.0001
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
