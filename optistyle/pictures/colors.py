"""Original colours: a stylised picture that keeps the palette of its content.

The two ways of Gatys, Bethge, Hertzmann and Shechtman, "Preserving Color in Neural Artistic Style
Transfer" (2016, arXiv:1606.05897):

* after the run, `keep_luminance` gives the result the colours of the content (section 4);
* before the run, `match_covariance` (section 3, equations 3 to 6) or `match_histogram` gives the
  *style* picture the colours of the content.

Pictures are float tensors (1, 3, H, W) of sRGB values in [0, 1], and so are all results.
"""

from __future__ import annotations

import torch
from torch import Tensor

from optistyle.pictures import Picture

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601, the Y of both YIQ and YCbCr
_ROUNDING = 1 / (12 * 255**2)  # the variance that rounding to 8 bits alone gives a channel


def keep_luminance(result: Tensor, content: Tensor) -> Tensor:
    """The luma of `result` with the chroma of `content`, both (1, 3, H, W) of the same size.

    In YIQ, as in any luma-chroma space, the picture sought is Y_result + (content - Y_content):
    moving red, green and blue by the same amount changes Y alone.  A colour that this puts outside
    [0, 1] is pulled towards its own grey just far enough, rather than clipped: it loses some
    saturation, but its luma stays exactly that of `result`, and its hue that of `content`.

    Raises ValueError where the sizes differ; resize the content first (`images.resize`).
    """
    _check(result, content)
    if result.shape != content.shape:
        raise ValueError(f"sizes differ: {tuple(result.shape)} and {tuple(content.shape)}")
    luma, chroma = _luma(result), content - _luma(content)
    room = torch.where(chroma > 0, 1 - luma, luma)  # how far each channel may go its way
    saturation = (room / chroma.abs().clamp_min(1e-12)).amin(1, keepdim=True).clamp(0, 1)
    return (luma + saturation * chroma).clamp(0, 1)  # clamps rounding errors only


def match_histogram(image: Tensor, reference: Tensor) -> Tensor:
    """`image` (1, 3, H, W) with, channel by channel, the histogram of `reference` (1, 3, h, w).

    The monotone map between two distributions (the optimal transport on a line): the pixels of one
    value v take up the interval [a, b] of the ranks of their channel, scaled to [0, 1], and become
    the mean of the reference's quantile function over [a, b].  So equal values stay equal, order
    stays order, each channel's mean is exactly the reference's, its sorted values too where sizes
    agree and the image's values are distinct, and a picture matched to itself is unchanged.
    Computed in float64 on the CPU: the same everywhere.
    """
    _check(image, reference)
    channels = [
        _match_values(values, wanted)
        for values, wanted in zip(_pixels(image), _pixels(reference), strict=True)
    ]
    return torch.stack(channels).reshape(image.shape).to(image)


def match_covariance(image: Tensor, reference: Tensor) -> Tensor:
    """`image` (1, 3, H, W) with the mean and covariance of the colours of `reference` (1, 3, h, w).

    The affine map x -> A (x - mean_image) + mean_reference with A C_image A^T = C_reference, in the
    form that the paper takes from Image Analogies: A = C_reference^(1/2) C_image^(-1/2), the roots
    being symmetric, by eigendecomposition.  A variance of `image` below that of rounding to 8 bits
    counts as that much, so a grey picture has no noise blown up into colours; where it has no
    variance at all it gets none (a grey or flat picture cannot reach a full covariance).  The
    result is clamped to [0, 1]; without values outside, mean and covariance are matched exactly.
    Computed in float64 on the CPU: the same everywhere.
    """
    _check(image, reference)
    source, target = _pixels(image), _pixels(reference)
    mean, wanted_mean = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    root, wanted_root = (
        _covariance_power(pixels, power) for pixels, power in ((source, -0.5), (target, 0.5))
    )
    matched = wanted_root @ root @ (source - mean) + wanted_mean
    return matched.clamp(0, 1).reshape(image.shape).to(image)


def _check(*images: Tensor) -> None:
    for image in images:
        if image.dim() != 4 or image.shape[:2] != (1, 3) or not image.numel():
            raise ValueError(f"expected a picture of shape (1, 3, H, W), got {tuple(image.shape)}")


def _luma(image: Tensor) -> Tensor:
    return (image * image.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _pixels(image: Tensor) -> Tensor:
    """(1, 3, H, W) -> (3, H W), float64 on the CPU."""
    return image.detach().cpu().double().flatten(2)[0]


def _match_values(values: Tensor, wanted: Tensor) -> Tensor:
    """One channel (N,) mapped monotonically onto the distribution of another (M,)."""
    _, index, counts = values.unique(return_inverse=True, return_counts=True)
    wanted = wanted.sort().values
    total = torch.cat([wanted.new_zeros(1), wanted.cumsum(0)])  # M x the integral of the quantiles
    rank = torch.cat([counts.new_zeros(1), counts.cumsum(0)]) * len(wanted)
    whole = rank // len(values)  # rank x M / N, split without rounding
    part = (rank % len(values)).double() / len(values)
    integral = total[whole] + part * wanted[whole.clamp_max(len(wanted) - 1)]
    means = integral.diff() * len(values) / (counts * len(wanted))
    return means.clamp(wanted[0], wanted[-1])[index]


def _covariance_power(pixels: Tensor, power: float) -> Tensor:
    """The covariance of the columns of `pixels` (3, N), to a symmetric power of +-1/2: (3, 3)."""
    centred = pixels - pixels.mean(1, keepdim=True)
    variance, axes = torch.linalg.eigh(centred @ centred.T / pixels.shape[1])
    variance = variance.clamp_min(0 if power > 0 else _ROUNDING)
    return (axes * variance**power) @ axes.T


def recolour(style: Picture, content: Picture, mode: str | None) -> Picture:
    """The style in the content's colours, where the mode is one that acts before the run.

    Pixels that are wholly transparent count in neither.
    """
    change = {"histogram": match_histogram, "covariance": match_covariance}.get(mode or "")
    if change is None:
        return style
    ours, theirs = _visible(style), _visible(content)
    pixels = style.pixels.clone()
    pixels[..., ours] = change(
        pixels[..., ours][..., None], content.pixels[..., theirs][..., None]
    )[..., 0]
    return Picture(pixels, style.alpha)


def _visible(picture: Picture) -> Tensor:
    """(H, W), true where a pixel is not wholly transparent."""
    if picture.alpha is None:
        return torch.ones(picture.height, picture.width, dtype=torch.bool)
    return picture.alpha[0, 0] > 0
