"""Original colours: a stylised picture that keeps the palette of its content.

Gatys, Bethge, Hertzmann and Shechtman, "Preserving Color in Neural Artistic Style Transfer" (2016,
arXiv:1606.05897), describe two ways:

* After the run, `keep_luminance` gives the result the colours of the content (section 4).
* Before the run, `match_covariance` or `match_histogram` gives the *style* picture the colours of
  the content (section 3). Both depart from the paper: they keep the style's lightness and match
  colours in OkLab. docs/colors.md shows why.

Pictures are float tensors (1, 3, H, W) of sRGB values in [0, 1], and so are all results.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from optistyle.pictures import Picture

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601, the Y of both YIQ and YCbCr
_GREY = 1.5 / 255  # Channels this far apart count as equal: one step of 8 bits, and rounding.

# Ottosson, "A perceptual color space for image processing" (2020): linear sRGB to cone responses,
# and their cube roots to OkLab.
_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_OPPONENTS = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
#: The most that `match_covariance` stretches colours along an axis; more would show the noise of
#: an almost grey painting, such as the artefacts of its JPEG file, as spots of colour.
MOST_GAIN = 3.0
_LEAST_VARIANCE = 1e-12  # of the colours along an axis, so that their covariance has an inverse
_ROTATIONS = 5  # pairs of axes along which `match_histogram` matches colours
_TIES = 1e-9  # Values this close are equal but for rounding.
_BISECTIONS = 14  # of the chroma of a colour outside sRGB: to 1/16384
_PIXELS = 2**18  # that are converted at a time, to bound memory


def keep_luminance(result: Tensor, content: Tensor) -> Tensor:
    """The luma of `result` with the chroma of `content`, both (1, 3, H, W) of the same size.

    In YIQ, as in any luma-chroma space, the picture sought is Y_result + (content - Y_content):
    moving red, green and blue by the same amount changes Y alone.  A colour that this puts outside
    [0, 1] is pulled towards its own grey just far enough, rather than clipped: it loses some
    saturation, but its luma stays exactly that of `result`, and its hue that of `content`.

    Raises ValueError where the sizes differ; resize the content first (`pictures.resize`).
    """
    _check(result, content)
    if result.shape != content.shape:
        raise ValueError(f"sizes differ: {tuple(result.shape)} and {tuple(content.shape)}")
    luma, chroma = _luma(result), content - _luma(content)
    room = torch.where(chroma > 0, 1 - luma, luma)  # how far each channel may go its way
    saturation = (room / chroma.abs().clamp_min(1e-12)).amin(1, keepdim=True).clamp(0, 1)
    return (luma + saturation * chroma).clamp(0, 1)  # clamps rounding errors only


def match_covariance(image: Tensor, reference: Tensor) -> Tensor:
    """Give `image` the colours of `reference` by an affine map, keeping its lightness.

    In OkLab, a pixel of lightness L and colour c = (a, b) becomes

        c' = mean_r + B_r z + M (c - mean_i - B_i z),  with z = (L - mean L) / std L of the image.

    B is the covariance of colour with z, each picture's own, so c - mean - B z is the part of the
    colour that does not depend on lightness. M is the symmetric map that takes the covariance of
    that part to the reference's: M = C_i^(-1/2) (C_i^(1/2) C_r C_i^(1/2))^(1/2) C_i^(-1/2), which
    moves colours least. The mean and covariance of c', and its covariance with z, are then exactly
    the reference's.

    Two bounds depart from that: M stretches no axis more than `MOST_GAIN` times, and a colour
    outside sRGB loses chroma until it is inside. A picture matched to itself is unchanged.

    Sources: Gatys et al., equations 3 to 6, who match the means and covariances of RGB, lightness
    included; M is from Pitie and Kokaram, "The linear Monge-Kantorovitch linear colour mapping for
    example-based colour transfer" (2007), in place of C_r^(1/2) C_i^(-1/2), which turns hues.

    Args:
        image: the picture to recolour, (1, 3, H, W) in [0, 1].
        reference: the picture whose colours it takes, (1, 3, h, w) in [0, 1].

    Returns:
        (1, 3, H, W) in [0, 1], computed in float64 on the CPU: the same everywhere.
    """
    _check(image, reference)
    lab = to_oklab(_pixels(image))
    return _recoloured(image, lab[:1], _affine(lab, to_oklab(_pixels(reference))))


def match_histogram(image: Tensor, reference: Tensor) -> Tensor:
    """Give `image` the distribution of the colours of `reference`, keeping its lightness.

    Starts from the colours that `match_covariance` finds and matches their histogram along five
    pairs of perpendicular axes of OkLab's (a, b) plane, 18 degrees apart; a and b themselves come
    last. Along an axis the map is the monotone one, by which equal values stay equal. So the
    histograms of a and b are the reference's, and those along other axes are close. A colour
    outside sRGB loses chroma until it is inside. A picture matched to itself is unchanged.

    Sources: Gatys et al., section 3, who match red, green and blue each by itself, which makes
    hues that neither picture holds; the rotations are from Pitie, Kokaram and Dahyot,
    "N-dimensional probability density function transfer and its application to colour transfer"
    (2005).

    Args:
        image: the picture to recolour, (1, 3, H, W) in [0, 1].
        reference: the picture whose colours it takes, (1, 3, h, w) in [0, 1].

    Returns:
        (1, 3, H, W) in [0, 1], computed in float64 on the CPU: the same everywhere.
    """
    _check(image, reference)
    lab, wanted = to_oklab(_pixels(image)), to_oklab(_pixels(reference))
    colours = _affine(lab, wanted)
    for step in reversed(range(_ROTATIONS)):
        angle = step * math.pi / 2 / _ROTATIONS
        cos, sin = math.cos(angle), math.sin(angle)
        axes = wanted.new_tensor([[cos, sin], [-sin, cos]])
        pairs = zip(axes @ colours, axes @ wanted[1:], strict=True)
        colours = axes.T @ torch.stack([_match_values(values, goal) for values, goal in pairs])
    return _recoloured(image, lab[:1], colours)


def is_grey(pixels: Tensor) -> bool:
    """Tell whether red, green and blue are equal at every pixel, to a step of 8 bits.

    Args:
        pixels: (1, 3, H, W) in [0, 1].
    """
    return bool(((pixels.amax(1) - pixels.amin(1)) <= _GREY).all())


def to_grey(pixels: Tensor) -> Tensor:
    """Replace every pixel by the grey of its luma (Rec. 601).

    Args:
        pixels: (1, 3, H, W) in [0, 1].

    Returns:
        (1, 3, H, W) in [0, 1], its three channels equal.
    """
    return _luma(pixels).clamp(0, 1).expand_as(pixels).contiguous()


def to_oklab(pixels: Tensor) -> Tensor:
    """Convert sRGB colours to OkLab: lightness, then green to red (a) and blue to yellow (b).

    Args:
        pixels: (3, N) in [0, 1].

    Returns:
        (3, N): L in [0, 1], a and b in [-0.4, 0.4] or so.
    """

    def convert(part: Tensor) -> Tensor:
        bright = ((part.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
        linear = torch.where(part <= 0.04045, part / 12.92, bright)
        cones = linear.new_tensor(_CONES) @ linear
        return part.new_tensor(_OPPONENTS) @ cones.clamp_min(0) ** (1 / 3)

    return _in_parts(convert, pixels)


def from_oklab(lab: Tensor) -> Tensor:
    """Convert OkLab colours (3, N) to sRGB: the inverse of `to_oklab`.

    Colours that sRGB does not hold come out outside [0, 1].
    """
    linear = torch.linalg.inv(lab.new_tensor(_CONES)) @ (
        torch.linalg.inv(lab.new_tensor(_OPPONENTS)) @ lab
    ).pow(3)
    bright = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, bright)


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
    """Map values (N,) monotonically onto the distribution of others (M,).

    This is optimal transport on a line: the occurrences of one value take up an interval of ranks,
    and become the mean of the other quantile function over it.
    """
    values = (values / _TIES).round()
    _, index, counts = values.unique(return_inverse=True, return_counts=True)
    wanted = wanted.sort().values
    total = torch.cat([wanted.new_zeros(1), wanted.cumsum(0)])  # M x the integral of the quantiles
    rank = torch.cat([counts.new_zeros(1), counts.cumsum(0)]) * len(wanted)
    whole = rank // len(values)  # rank x M / N, split without rounding
    part = (rank % len(values)).double() / len(values)
    integral = total[whole] + part * wanted[whole.clamp_max(len(wanted) - 1)]
    means = integral.diff() * len(values) / (counts * len(wanted))
    return means.clamp(wanted[0], wanted[-1])[index]


def _affine(lab: Tensor, wanted: Tensor) -> Tensor:
    """The colours (2, N) that `match_covariance` gives the pixels `lab` (3, N), before clipping."""
    z, _, _, rest = _split(lab)
    _, mean, slope, wanted_rest = _split(wanted)
    root, inverse = (_power(_covariance(rest), power) for power in (0.5, -0.5))
    inner = _power(root @ _covariance(wanted_rest) @ root, 0.5)
    gain = inverse @ inner @ inverse
    gains, axes = torch.linalg.eigh((gain + gain.T) / 2)
    gain = (axes * gains.clamp_max(MOST_GAIN)) @ axes.T
    return mean + slope * z + gain @ rest


def _split(lab: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split colours by how they depend on lightness.

    Returns:
        z (1, N), the lightness with mean 0 and variance 1; the mean colour (2, 1); the covariance
        of colour and z (2, 1); and the rest of the colour (2, N), which z does not explain.
    """
    lightness, colours = lab[:1], lab[1:]
    z = lightness - lightness.mean()
    z = z / z.square().mean().sqrt().clamp_min(1e-6)
    mean = colours.mean(1, keepdim=True)
    slope = ((colours - mean) * z).mean(1, keepdim=True)
    return z, mean, slope, colours - mean - slope * z


def _covariance(centred: Tensor) -> Tensor:
    return centred @ centred.T / centred.shape[1]


def _power(covariance: Tensor, power: float) -> Tensor:
    variance, axes = torch.linalg.eigh(covariance)
    return (axes * variance.clamp_min(_LEAST_VARIANCE) ** power) @ axes.T


def _recoloured(image: Tensor, lightness: Tensor, colours: Tensor) -> Tensor:
    """The picture of these lightnesses (1, N) and colours (2, N), of the shape of `image`."""
    pixels = _in_parts(_within_srgb, torch.cat([lightness, colours]))
    return pixels.reshape(image.shape).to(image)


def _within_srgb(lab: Tensor) -> Tensor:
    """OkLab (3, N) to sRGB in [0, 1], with as much of the chroma as there is room for."""
    pixels = from_oklab(lab)
    outside = ~_fits(pixels)
    if outside.any():
        beyond = lab[:, outside]
        least, most = torch.zeros_like(beyond[:1]), torch.ones_like(beyond[:1])
        for _ in range(_BISECTIONS):
            share = (least + most) / 2
            fits = _fits(from_oklab(torch.cat([beyond[:1], share * beyond[1:]])))
            least, most = torch.where(fits, share, least), torch.where(fits, most, share)
        pixels[:, outside] = from_oklab(torch.cat([beyond[:1], least * beyond[1:]]))
    return pixels.clamp(0, 1)


def _fits(pixels: Tensor) -> Tensor:
    """(N,), true where a colour (3, N) is in [0, 1] but for rounding."""
    return ((pixels - 0.5).abs() <= 0.5 + 1e-6).all(0)


def _in_parts(convert: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    return torch.cat([convert(part) for part in pixels.split(_PIXELS, 1)], 1)


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
