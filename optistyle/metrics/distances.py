"""Relative distances of features, which can be averaged over layers."""

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
    """Compute |F - C|² / |C|² at a layer: the content loss, relative.

    Range [0, inf), usually below 2; lower keeps more of the content; 0 for the content itself.
    Sensitive to style as well: every stylisation moves it.

    Source: the content loss of Gatys, Ecker and Bethge (CVPR 2016), equation 1; the division is
    ours.

    Args:
        output: (1, 3, H, W) in [0, 1].
        content: (1, 3, h, w) in [0, 1]; it is resized to the output.
        encoder: whose features are compared.
        layer: its name.
    """
    size = (output.shape[-2], output.shape[-1])
    ours, theirs = (encoder(x, (layer,))[layer] for x in (output, resize(content, size)))
    return float((ours - theirs).square().sum() / theirs.square().sum())


def gram_distance(
    output: Tensor, style: Tensor, encoder: Encoder, layers: Sequence[str] = BLOCK_STARTS
) -> float:
    """Average |G - S|² / |S|² over layers: the style loss, relative, of Gram matrices over M.

    Range [0, inf), usually below 2; lower is nearer to the style; 0 for the style itself. Blind to
    where in the picture anything is.

    Source: the style loss of Gatys, Ecker and Bethge (CVPR 2016), equations 3 to 5, with Gram
    matrices divided by the number of positions M; the division by |S|² is ours.

    Args:
        output: (1, 3, H, W) in [0, 1].
        style: (1, 3, h, w) in [0, 1], of any size.
        encoder: whose features are compared.
        layers: their names.
    """
    distances = gram_distances(output, style, encoder, layers)
    return sum(distances.values()) / len(distances)


@torch.no_grad()
def gram_distances(
    output: Tensor, style: Tensor, encoder: Encoder, layers: Sequence[str] = BLOCK_STARTS
) -> dict[str, float]:
    """Compute |G - S|² / |S|² for each layer; `gram_distance` is the mean.

    Args:
        output: (1, 3, H, W) in [0, 1].
        style: (1, 3, h, w) in [0, 1], of any size.
        encoder: whose features are compared.
        layers: their names.

    Returns:
        Layer -> distance.
    """
    ours, theirs = (Reference(encoder(x, layers)) for x in (output, style))
    distances = {}
    for layer in layers:
        goal = theirs.moments(layer).second
        error = (ours.moments(layer).second - goal).square().sum()
        distances[layer] = float(error / goal.square().sum())
    return distances
