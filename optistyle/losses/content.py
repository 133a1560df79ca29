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
    """Compare the picture's features with the photograph's, position by position.

    At a layer with N feature maps of M positions, where F holds the picture's features and C the
    photograph's, the loss is

        1 / (2 N M) * sum (F - C)²

    averaged over the layers by their weights (Gatys et al. 2016, equation 1). Departure: Gatys et
    al. use the half sum alone. Divided by N M, the same alpha has the same effect at every size and
    in every encoder.

    Args:
        layer_weights: layer -> relative weight, such as ``{"relu4_2": 1.0}``.

    >>> from optistyle import Content
    >>> sorted(Content({"relu4_2": 1.0, "relu3_2": 0.5}).layers)
    ['relu3_2', 'relu4_2']
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
