"""What a network for one painting is trained by: the optimiser's own losses, in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optistyle.encoders.vgg import VGG
from optistyle.losses.gram import gram_distance
from optistyle.optimise.objective import digest
from optistyle.pictures import resize
from optistyle.sizes import fit_area

#: Pixels of the painting: strokes are to have the size that they have in a picture of 512 px.
AREA = 512 * 512


def gram(features: Tensor) -> Tensor:
    """(B, N, H, W) to (B, N, N): F Fᵀ / M of every image."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[2]


@dataclass(frozen=True)
class Teacher:
    """A painting's Gram matrices in a frozen encoder.

    Attributes:
        content: the layer at which the photograph is to be kept.
        goals: style layer -> (N, N).
        painting: its digest, by which a training knows its own.
    """

    encoder: VGG
    content: str
    goals: Mapping[str, Tensor]
    painting: str

    @classmethod
    @torch.no_grad()
    def of(cls, encoder: VGG, painting: Tensor, content: str, layers: Sequence[str]) -> Teacher:
        """Of a painting, (1, 3, H, W) in [0, 1]."""
        height, width = painting.shape[-2:]
        size = fit_area(height, width, AREA)
        features = encoder(resize(painting, size).to(encoder.device), layers)
        goals = {layer: gram(features[layer])[0] for layer in layers}
        return cls(encoder, content, goals, digest(painting))

    def losses(self, output: Tensor, content: Tensor) -> dict[str, Tensor]:
        """``content`` and one loss for every style layer, (B,) each, as the optimiser has them.

        Args:
            output, content: (B, 3, H, W) in [0, 1].
        """
        with torch.no_grad():
            kept = self.encoder(content, (self.content,))[self.content]
        found = self.encoder(output, (self.content, *self.goals))
        losses = {"content": (found[self.content] - kept).square().mean((1, 2, 3)) / 2}
        for layer, goal in self.goals.items():
            per_image = [gram_distance(matrix, goal, layer) for matrix in gram(found[layer])]
            losses[layer] = torch.stack(per_image)
        return losses
