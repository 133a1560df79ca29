"""Strays: does a detail of the style appear where attention puts it? Gram matrices cannot tell."""

from __future__ import annotations

import torch
from torch import Tensor

from optistyle.encoders.base import Encoder
from optistyle.losses.attention import pairing
from optistyle.losses.base import Reference
from optistyle.pictures import resize
from optistyle.statistics import correspond


@torch.no_grad()
def strays(
    output: Tensor,
    content: Tensor,
    style: Tensor,
    encoder: Encoder,
    *,
    layer: str = "relu4_1",
    reach: int = 3,
) -> float:
    """Compute the share of places that resemble a part of the style which belongs elsewhere.

    Attention gives every content position its best match in the style, and so it does for every
    position of the output. An output position is a stray if the content positions with the same
    best match (matches a position apart count as the same) are all more than ``reach`` positions
    away, in rows or columns. It is not counted if there is no such content position.

    Range [0, 1]; lower is better; 0 for the content itself. Blind to what the details look like.
    The measure is ours.

    Args:
        output: (1, 3, H, W) in [0, 1].
        content: (1, 3, h, w) in [0, 1]; it is resized to the output.
        style: (1, 3, h, w) in [0, 1], of any size.
        encoder: whose features are matched.
        layer: whose positions; 8 px apart at relu4_1.
        reach: how many positions away a detail may appear.
    """
    size = (output.shape[-2], output.shape[-1])
    ours, theirs, look = (
        Reference(encoder(x, (layer,))) for x in (output, resize(content, size), style)
    )
    at, asked = (correspond(**pairing(x, look, layer)).best.flatten(1).T for x in (ours, theirs))
    rows, columns = ours.features[layer].shape[-2:]
    index = torch.arange(rows * columns, device=at.device)
    places = torch.stack([index // columns, index % columns], 1).float()
    stray, counted = 0, 0
    for place, match in zip(places.split(1024), at.split(1024), strict=True):
        home = torch.cdist(match, asked, p=torch.inf) <= 1  # (chunk, content positions)
        distance = torch.cdist(place, places, p=torch.inf).masked_fill(~home, torch.inf)
        nearest = distance.amin(1)
        counted += int(nearest.isfinite().sum())
        stray += int((nearest.isfinite() & (nearest > reach)).sum())
    return stray / counted if counted else 0.0
