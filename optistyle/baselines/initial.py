"""Layers that take their initial weights from a generator of their own.

torch.nn's layers draw from the global generator when they are made, which would change the random
numbers of the program around.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


@torch.no_grad()
def layer(
    kind: type[Layer],
    *sizes: int,
    generator: torch.Generator | None,
    deviation: float | None = None,
    **options: Any,
) -> Layer:
    """Make a layer.

    Args:
        kind: ``nn.Conv2d`` or ``nn.Linear``. sizes, options: its arguments.
        generator: draws the weights; None leaves all of them 0, for a layer to be loaded.
        deviation: of normal weights beside a bias of 0. By default weights and bias are uniform
            within 1 / sqrt(inputs of an output), as torch.nn's are.
    """
    made = nn.utils.skip_init(kind, *sizes, **options)
    for parameter in made.parameters():
        parameter.zero_()
    if generator is None:
        return made
    if deviation is not None:
        made.weight.normal_(0, deviation, generator=generator)
        return made
    bound = made.weight[0].numel() ** -0.5
    for parameter in made.parameters():
        parameter.uniform_(-bound, bound, generator=generator)
    return made
