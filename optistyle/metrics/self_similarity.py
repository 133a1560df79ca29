"""Local self-similarity: does the picture keep the content's structure, whatever its colours?

At points of a grid, a small patch is compared with those around it. The descriptor of a point says
in which directions, and how far away, the image resembles the patch (Shechtman & Irani, "Matching
local self-similarities across images and videos", CVPR 2007).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optistyle.errors import unknown
from optistyle.pictures import resize


@dataclass(frozen=True)
class Settings:
    """Published settings.

    Attributes:
        size: both images are resized to size x size px.
        patch: side of a patch in px, odd; also the distance between two points.
        radius: of the neighbourhood that a patch is compared with, in px.
        margin: of the first point from the edge, in px.
        rings: bins of the neighbourhood by distance, logarithmic.
        sectors: bins by direction.
        variance: noise that is not counted as difference, in squared grey levels of 255 summed over
            a patch and its channels.
        auto_variance: whether the largest difference to the four direct neighbours raises it.
    """

    size: int
    patch: int
    radius: int
    margin: int
    rings: int
    sectors: int
    variance: float
    auto_variance: bool


PRESETS = {
    # The reproduction of AdaAttN (report 000): reference values in tests/test_metrics.py.
    "rc2021": Settings(512, 5, 10, 12, 2, 4, 25 * 3 * 36.0, True),
    # K. Chatfield, J. Philbin & A. Zisserman, "Efficient retrieval of deformable shape classes
    # using local self-similarities", NORDIA 2009: their published program's defaults.
    "chatfield": Settings(512, 5, 40, 42, 3, 12, 300_000.0, True),
}


#: Descriptors of the latest contents: outputs are many, their contents few. 40 MB of `rc2021`'s.
_KEPT: dict[tuple[object, ...], Tensor] = {}
_MOST = 64


@torch.no_grad()
def self_similarity(output: Tensor, content: Tensor, preset: str = "rc2021") -> float:
    """Compute the mean squared difference between the two images' `descriptors`.

    Range [0, 1]; lower keeps more of the content; 0 for the content itself. Blind to colour, and to
    anything that changes all patches of a neighbourhood alike.

    Args:
        output: (1, 3, H, W) in [0, 1].
        content: (1, 3, h, w) in [0, 1], of any size.
        preset: a key of `PRESETS`.

    Raises:
        InputError: an unknown preset.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    settings = PRESETS[preset]
    pixels = content.detach().cpu().contiguous().numpy()
    key = (hashlib.sha256(pixels.tobytes()).digest(), pixels.dtype.str, content.shape, settings)
    theirs = _KEPT.get(key)
    if theirs is None:
        theirs = _KEPT[key] = descriptors(content, settings)
        if len(_KEPT) > _MOST:
            del _KEPT[next(iter(_KEPT))]
    ours = descriptors(output, settings)
    return float((ours - theirs.to(ours)).square().mean())


@torch.no_grad()
def descriptors(image: Tensor, settings: Settings) -> Tensor:
    """Describe every point of the grid: per bin the best likeness, divided by the point's best.

    The likeness of a patch p to a patch q in its neighbourhood is exp(-SSD / max(variance, noise)):
    SSD sums squared differences over pixels and channels, and noise is the largest SSD to one of
    the four direct neighbours.

    Args:
        image: (1, 3, H, W) in [0, 1].
        settings: such as those of `PRESETS`.

    Returns:
        (bins, points, points), float64.
    """
    size, patch, radius = settings.size, settings.patch, settings.radius
    pixels = 255 * resize(image, (size, size))[0].double()
    start = settings.margin - patch // 2
    points = (size - 2 * settings.margin) // patch + 1
    side = points * patch
    whole = pixels[:, start : start + side, start : start + side].contiguous()
    error = torch.empty_like(whole)
    bins: dict[int, Tensor] = {}
    noise = pixels.new_zeros(points, points)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            distance = math.hypot(dx, dy)
            if not 0 < distance <= radius:
                continue
            top, left = start + dy, start + dx
            # Patches tile the grid: sums over them are sums over blocks.
            torch.sub(whole, pixels[:, top : top + side, left : left + side], out=error)
            ssd = error.square_().sum(0).reshape(points, patch, points, patch).sum((1, 3))
            index = _bin(dx, dy, settings)
            bins[index] = torch.minimum(bins[index], ssd) if index in bins else ssd
            if abs(dx) + abs(dy) == 1:
                noise = torch.maximum(noise, ssd)
    scale = torch.full_like(noise, settings.variance)
    if settings.auto_variance:
        scale = torch.maximum(scale, noise)
    # exp(-x) decreases: the smallest SSD gives the best likeness.
    least = torch.stack([bins[index] for index in sorted(bins)])
    likeness = torch.exp(-least / scale)
    return likeness / likeness.amax(0)


def _bin(dx: int, dy: int, settings: Settings) -> int:
    """Ring r holds distances up to exp(r ln(radius + 1) / rings) - 1; sectors (begin, end]."""
    growth = math.log(settings.radius + 1) / settings.rings
    ring = math.ceil(math.log(math.hypot(dx, dy) + 1) / growth - 1e-9) - 1
    turn = math.atan2(dy, dx) / (2 * math.pi) % 1
    sector = math.ceil(turn * settings.sectors - 1e-9) - 1
    return ring * settings.sectors + sector % settings.sectors
