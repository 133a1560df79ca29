"""Distances in an encoder's features: relative, so that layers and encoders can be averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optistyle.encoders.base import Encoder
from optistyle.layers import BLOCK_STARTS
from optistyle.losses.base import Reference
from optistyle.pictures import resize


@torch.no_grad()
def content_distance(
    output: Tensor, content: Tensor, encoder: Encoder, layer: str = "relu4_2"
) -> float:
    """|F - C|² / |C|² at a layer: the content loss, relative.

    Range [0, inf), usually below 2; lower keeps more of the content; 0 for the content itself.
    Sensitive to style as well: every stylisation moves it.

    Args:
        output, content: (1, 3, H, W) in [0, 1]; the content is resized to the output.
    """
    size = (output.shape[-2], output.shape[-1])
    ours, theirs = (encoder(x, (layer,))[layer] for x in (output, resize(content, size)))
    return float((ours - theirs).square().sum() / theirs.square().sum())


def gram_distance(
    output: Tensor, style: Tensor, encoder: Encoder, layers: Sequence[str] = BLOCK_STARTS
) -> float:
    """The mean over layers of |G - S|² / |S|²: the style loss, relative, Gram matrices over M.

    Range [0, inf), usually below 2; lower is nearer to the style; 0 for the style itself. Blind to
    where in the picture anything is.

    Args:
        output, style: (1, 3, H, W) in [0, 1], of any sizes.
    """
    found = gram_distances(output, style, encoder, layers)
    return sum(found.values()) / len(found)


@torch.no_grad()
def gram_distances(
    output: Tensor, style: Tensor, encoder: Encoder, layers: Sequence[str] = BLOCK_STARTS
) -> dict[str, float]:
    """Layer -> |G - S|² / |S|²: what `gram_distance` is the mean of."""
    ours, theirs = (Reference(encoder(x, layers)) for x in (output, style))
    found = {}
    for layer in layers:
        goal = theirs.moments(layer).second
        error = (ours.moments(layer).second - goal).square().sum()
        found[layer] = float(error / goal.square().sum())
    return found
