"""Losses on the pixels themselves: total variation, and staying in range."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from optistyle.choices import TV_FORMS
from optistyle.encoders.base import Features
from optistyle.errors import unknown
from optistyle.layers import DIFFERENCES, IMAGE
from optistyle.losses.base import References, Statistic, Target, content_weights
from optistyle.statistics import weighted_sum


@dataclass(frozen=True)
class TotalVariation:
    """Penalise differences between neighbouring pixels, along rows and along columns.

    With dx and dy the differences to the next pixel, the loss is the mean over pixels and channels
    of

        dx² + dy², times (longer side / 512)²    for ``squared``
        |dx| + |dy|, times longer side / 512     for ``l1``

    ``l1`` is the anisotropic form of Rudin, Osher & Fatemi (1992). The factor gives one weight the
    same effect at every size, because differences shrink as pixels do.

    Args:
        form: ``squared`` or ``l1``.

    Raises:
        InputError: another form.

    >>> from optistyle import TotalVariation
    >>> TotalVariation("l1").form
    'l1'
    """

    form: str = "squared"

    def __post_init__(self) -> None:
        if self.form not in TV_FORMS:
            raise unknown("form of total variation", self.form, TV_FORMS)

    @property
    def layers(self) -> frozenset[str]:
        return frozenset({DIFFERENCES})

    def target(self, references: References) -> Target:
        longer = max(references.content.size(DIFFERENCES))
        weights = content_weights(references, self.layers)
        factor = (longer / 512) ** (2 if self.form == "squared" else 1)
        return Target(weights, values={"scale": weights[DIFFERENCES].new_tensor(factor)})

    def statistic(self, features: Features, target: Target) -> Statistic:
        differences = features[DIFFERENCES]
        size = differences.square() if self.form == "squared" else differences.abs()
        # Two directions of the same channels: the mean over channels, the sum over directions.
        return {DIFFERENCES: 2 * weighted_sum(size, target.weights[DIFFERENCES]).mean()}

    def score(self, statistic: Statistic, target: Target) -> Tensor:
        return statistic[DIFFERENCES] * target.values["scale"]


@dataclass(frozen=True)
class Range:
    """Penalise pixels outside [0, 1].

    The loss is the mean over pixels and channels of (x - clip(x, 0, 1))². Saving a picture clips
    it to [0, 1]. Without this loss L-BFGS leaves several percent of the pixels outside, and
    clipping them undoes part of the style.

    >>> import torch
    >>> from optistyle import Range
    >>> from optistyle.losses import Target
    >>> image, weights = torch.full((1, 3, 4, 4), 1.5), torch.tensor(1 / 16)
    >>> Range().statistic({"image": image}, Target({"image": weights}))
    {'image': tensor(0.2500)}
    """

    @property
    def layers(self) -> frozenset[str]:
        return frozenset({IMAGE})

    def target(self, references: References) -> Target:
        return Target(content_weights(references, self.layers))

    def statistic(self, features: Features, target: Target) -> Statistic:
        image = features[IMAGE]
        outside = image - image.clamp(0, 1)
        return {IMAGE: weighted_sum(outside.square(), target.weights[IMAGE]).mean()}

    def score(self, statistic: Statistic, target: Target) -> Tensor:
        return statistic[IMAGE]
