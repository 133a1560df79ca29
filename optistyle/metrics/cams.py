"""CAMS loss: does every colour of the style keep the style's texture?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from optistyle.encoders.vgg import POOLINGS, VGG

#: Both pictures are squashed to this side, in px.
SIZE = 384
#: The first five convolutions, read before their rectifiers.
LAYERS = ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1")
#: Colours of a palette, bins a side of its histogram, pixels it is taken of, and the distance in
#: Lab within which a chosen colour keeps others out.
COLORS, BINS, PIXELS, REACH = 16, 16, 1000, 70.0
#: Masks: width of the kernel over chroma, and the Gaussian that blurs them, in px.
WIDTH, BLUR, BLUR_SIGMA = 0.25, 15, 5.0

_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)


@torch.no_grad()
def cams(output: Tensor, style: Tensor, encoder: VGG) -> float:
    """Compute the colour-aware multi-style loss: Σ over layers of the mean of (G - G_s)².

    A palette of up to 16 colours is taken from each picture, and for each of the K colours of both
    a mask: exp(-(d / 0.25)²) with d the distance in chroma RGB / (R + G + B), blurred, and
    stretched to [0, 1] at every layer. G_k = (F m_k)(F m_k)ᵀ / (K Σ m_k), F being the convolution's
    output before the rectifier; the mean is over the K masks and all entries of their Gram
    matrices.

    Range [0, inf); lower is nearer to the style, colour by colour; 0 for the style itself, and
    symmetric. Blind to where anything is, to lightness in the choice of masks (black, grey and
    white share one), and to forms larger than the fifth convolution sees (24 px).

    The scale is that of features to the fourth power. The published numbers need torchvision's
    VGG-19 as it is, neither mean-normalised nor with other padding and pooling: ``VGG`` of
    `formats.recognise`'s convolutions, ``padding="zeros", pooling="max"``. Values of
    `encoders.load`'s encoders compare among themselves only. ``cams`` among `METRICS` is on
    VGG-19's weights, ``cams_slim`` on the slim encoder.

    Source: Afifi, Abuolaim, Hussien, Brubaker and Brown, "CAMS: Color-Aware Multi-Style Transfer"
    (2021, arXiv:2106.13920), section 3; steps and settings are those of the authors' program
    (mahmoudnafifi/color-aware-style-transfer), its palette that of tody411/PaletteSelection. With
    one palette the two agree to 3e-6. The palettes differ in a few colours, and the values by a
    few hundredths: OpenCV reads Lab from a table that is off by up to 0.5.

    Args:
        output: (1, 3, H, W) in [0, 1].
        style: (1, 3, h, w) in [0, 1], of any size.
        encoder: with the first five convolutions of VGG-19.
    """
    palette = torch.cat([_palette(output), _palette(style)]).unique(dim=0).to(output)
    ours, theirs = (_squash(x) for x in (output, style))
    masks, goals = _masks(ours, palette), _masks(theirs, palette)
    convolved, wanted = _convolved(encoder, ours), _convolved(encoder, theirs)
    total = 0.0
    for layer in LAYERS:
        pairs = ((convolved[layer], masks), (wanted[layer], goals))
        grams = [_grams(features, mask) for features, mask in pairs]
        total += float((grams[0] - grams[1]).square().mean())
    return total


def _squash(image: Tensor) -> Tensor:
    size = (SIZE, SIZE)
    return F.interpolate(image, size, mode="bilinear", antialias=True).clamp(0, 1)


# --- palette ---


def _palette(image: Tensor) -> Tensor:
    """(up to COLORS, 3): frequent RGB colours of a picture that are far apart in Lab.

    The darkest and the lightest colour keep others away, and are not chosen themselves.
    """
    pixels = image[0].flatten(1).T.cpu().double().numpy()
    pixels = pixels[:: max(1, len(pixels) // PIXELS)]
    lab = _lab(pixels)
    low, high = lab.min(0), lab.max(0)
    step = np.maximum(high - low, 1e-12) / (BINS - 1)
    bins, at, counts = np.unique(
        ((lab - low) / step).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    colors = np.zeros((len(bins), 3))
    np.add.at(colors, at.reshape(-1), pixels)
    colors /= counts[:, None]
    places = low + bins * step
    lightness = np.linalg.norm(colors, axis=1)
    weights = counts / counts.max()

    def keep_away(chosen: np.intp) -> np.ndarray:
        squares = np.square(places - places[chosen]).sum(1)
        return 1 - np.exp(-squares / REACH**2)

    weights = weights * keep_away(lightness.argmin()) * keep_away(lightness.argmax())
    palette = []
    for _ in range(COLORS):
        chosen = weights.argmax()
        palette.append(colors[chosen])
        weights = weights * keep_away(chosen)
    return torch.from_numpy(np.unique(palette, axis=0))


def _lab(pixels: np.ndarray) -> np.ndarray:
    """(N, 3) sRGB in [0, 1] -> CIE L*a*b* for D65: L in [0, 100]."""
    linear = np.where(pixels > 0.04045, ((pixels + 0.055) / 1.055) ** 2.4, pixels / 12.92)
    xyz = linear @ _TO_XYZ.T / _TO_XYZ.sum(1)
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


# --- masked Gram matrices ---


def _masks(image: Tensor, palette: Tensor) -> Tensor:
    """(K, 1, H, W): how near every pixel's chroma is to each colour's, blurred."""
    chroma = image / (image.sum(1, keepdim=True) + 1e-6)
    wanted = (palette / (palette.sum(1, keepdim=True) + 1e-6))[..., None, None]
    nearness = torch.exp(-(chroma - wanted).square().sum(1, keepdim=True) / WIDTH**2)
    offsets = torch.arange(BLUR, device=image.device, dtype=image.dtype) - BLUR // 2
    kernel = torch.exp(-offsets.square() / (2 * BLUR_SIGMA**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    nearness = F.conv2d(nearness, kernel, padding=(BLUR // 2, 0))
    return F.conv2d(nearness, kernel.mT, padding=(0, BLUR // 2))


def _convolved(encoder: VGG, image: Tensor) -> Mapping[str, Tensor]:
    """The outputs of the first five convolutions, before the rectifiers."""
    features = {}
    x, block = image - encoder.mean, "1"
    for layer in LAYERS:
        if layer[4] != block:
            x, block = POOLINGS[encoder.pooling](x), layer[4]
        features[layer] = encoder.convolve(x, layer)
        x = F.relu(features[layer])
    return features


def _grams(features: Tensor, masks: Tensor) -> Tensor:
    """(K, N, N)."""
    size = features.shape[-2:]
    masks = F.interpolate(masks, size, mode="bilinear").flatten(1)
    low, high = masks.amin(1, keepdim=True), masks.amax(1, keepdim=True)
    masks = (masks - low) / (high - low).clamp_min(1e-12)
    flat = features[0].flatten(1)
    grams = []
    for mask in masks:
        masked = flat * mask
        grams.append(masked @ masked.T / (len(masks) * mask.sum().clamp_min(1e-12)))
    return torch.stack(grams)
