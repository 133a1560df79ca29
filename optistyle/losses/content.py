"""Content: the picture keeps the content image's features (Gatys et al. 2016, eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from optistyle.encoders.base import Features
from optistyle.losses.base import References, Statistic, Target, content_weights, weighted_total
from optistyle.statistics import weighted_sum


@dataclass(frozen=True)
class Content:
    """1 / (2 N M) * sum (F - C)², averaged over layers.

    A departure from Gatys et al., who take the plain half sum: divided by the number of features,
    the same alpha means the same at every size and in every encoder.

    Args:
        layer_weights: layer -> relative weight.
    """

    layer_weights: Mapping[str, float]

    @property
    def layers(self) -> frozenset[str]:
        return frozenset(self.layer_weights)

    def target(self, references: References) -> Target:
        maps = {layer: references.content.features[layer] for layer in self.layers}
        return Target(content_weights(references, self.layers), maps)

    def statistic(self, features: Features, target: Target) -> Statistic:
        return {
            layer: weighted_sum((features[layer] - goal).square(), target.weights[layer]).mean() / 2
            for layer, goal in target.maps.items()
        }

    def score(self, statistic: Statistic, target: Target) -> Tensor:
        return weighted_total(self.layer_weights, lambda layer: statistic[layer])
