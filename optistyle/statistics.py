"""Pure maths on features: weighted moments, normalisation, attention. Imports nothing of ours.

Every function takes **position weights**: a (1, 1, H, W) map that sums to 1 over the whole image,
or a 0-dim tensor 1 / M that stands for the uniform map. A sum over part of the image with the same
weights is that part's share of the whole, which is what makes statistics additive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.backends import cuda
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

#: Channels of a map that are levelled at a time.
_CHANNELS = 32
#: Positions in one matrix product of `moments`.
_BLOCK = 2**10
#: Attention weights held at a time where no fused kernel does without them: 64 MB, of which torch's
#: plain attention makes up to five.
_UNFUSED = 2**24


def positions(features: Tensor) -> Tensor:
    """(1, N, H, W) -> (N, M) with M = H W."""
    return features.flatten(2).squeeze(0)


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """The sum over positions of weight x value: (1, N, H, W) -> (N,)."""
    if weights.ndim == 0:
        return positions(values).sum(1) * weights
    return positions(values) @ weights.flatten()


@dataclass(frozen=True)
class Moments:
    """First moment (N,) and raw second moment (N, N) of features over positions.

    With uniform weights ``second`` is the Gram matrix F Fᵀ / M.
    """

    first: Tensor
    second: Tensor

    @property
    def covariance(self) -> Tensor:
        """(N, N), the second moment about the mean."""
        return self.second - torch.outer(self.first, self.first)


def moments(features: Tensor, weights: Tensor) -> Moments:
    """The moments of (1, N, H, W) features, or their share from part of the image.

    Accumulated in the features' own type, in parts: in float32 that is exact to about 1e-6
    relative, or a few of that, over 2**20 positions (tests/test_statistics.py holds it there).
    """
    flat = positions(features)
    first = flat.sum(1) * weights if weights.ndim == 0 else (flat * weights.flatten()).sum(1)
    return Moments(first, second_moment(features, weights))


def second_moment(features: Tensor, weights: Tensor) -> Tensor:
    """The raw second moment of `moments` alone, (N, N)."""
    found: Tensor = _SecondMoment.apply(features, weights)
    return found


class _SecondMoment(torch.autograd.Function):
    """F diag(w) Fᵀ for (1, N, H, W) features F, with position weights w: (N, N).

    Its derivative, (G + Gᵀ) F diag(w), is one product; autograd, which cannot know that both
    factors are the same, takes two, and copies.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(features, weights)
        if weights.ndim == 0:
            return _products(features, features) * weights
        return _products(features * weights, features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        features, weights = ctx.saved_tensors
        (gradient,) = gradients
        symmetric = gradient + gradient.T
        if weights.ndim == 0:
            return pointwise(features, symmetric * weights), None
        return pointwise(features, symmetric) * weights, None


def _products(a: Tensor, b: Tensor) -> Tensor:
    """The sum over positions of a bᵀ: (1, N, H, W) and (1, N, H, W) -> (N, N)."""
    if a.is_cpu and a.dtype == torch.float32:
        # As the gradient of `pointwise`'s matrix: the same kernels, the same gain.
        size = (a.shape[1], b.shape[1], 1, 1)
        return conv2d_weight(_rows(b), size, _rows(a)).flatten(1)
    # Matrix products of few rows are summed naively by some libraries: for 8 channels over 2**20
    # positions one product was wrong by 1e-3 relative, and blocks by 1e-5. Together, they also
    # keep a GPU busy, which one product of so many positions does not.
    x, y = positions(a), positions(b).T
    whole = len(y) - len(y) % _BLOCK
    blocks = x[:, :whole].unflatten(1, (-1, _BLOCK)).transpose(0, 1)
    products = blocks @ y[:whole].unflatten(0, (-1, _BLOCK))
    return products.sum(0) + x[:, whole:] @ y[whole:]


def pointwise(features: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """A matrix at every position: (B, N, H, W), (K, N) and (K,) or none -> (B, K, H, W).

    On a CPU as a 1x1 convolution over the image's rows as a batch, which oneDNN's kernels take: for
    a single image on a single thread torch would fall back on matrix products, which are slower.
    Elsewhere as a matrix product, which is in float32 whatever the convolutions are in.
    """
    if not features.is_cpu:
        return F.linear(features.movedim(1, 3), matrix, bias).movedim(3, 1)
    batch, _, height, _ = features.shape
    found = F.conv2d(_rows(features), matrix[..., None, None], bias)
    return found.permute(0, 2, 3, 1).unflatten(0, (batch, height)).squeeze(2).permute(0, 3, 1, 2)


def _rows(features: Tensor) -> Tensor:
    """(B, N, H, W) as (B H, N, 1, W), without a copy where channels are last."""
    return features.permute(0, 2, 3, 1).flatten(0, 1).unsqueeze(1).permute(0, 3, 1, 2)


def blend(parts: Sequence[Moments], shares: Sequence[float]) -> Moments:
    """The moments of a mixture: raw moments are linear in the shares, centred ones are not."""
    return Moments(
        sum((s * p.first for s, p in zip(shares, parts, strict=True)), start=torch.zeros(())),
        sum((s * p.second for s, p in zip(shares, parts, strict=True)), start=torch.zeros(())),
    )


def position_weights(alpha: Tensor | None, feature: Tensor) -> Tensor:
    """How much each position of a feature map weighs in the sums over it.

    Args:
        alpha: (1, 1, H, W) in [0, 1], the image's opacity; None where all of it is opaque.
        feature: (1, N, h, w), whose positions are to be weighed.

    Returns:
        0-dim 1 / (h w) without alpha, or where pooling leaves nothing opaque; else (1, 1, h, w),
        alpha halved as the encoder halves the image (2x2 averages, an odd last row or column left
        out) and divided by its sum.
    """
    size = feature.shape[-2:]
    if alpha is not None:
        pooled = alpha.to(feature)
        while pooled.shape[-2:] != size:
            pooled = F.avg_pool2d(pooled, 2)
        if (total := pooled.sum()) > 0:
            return pooled / total
    return torch.tensor(1 / size.numel(), dtype=feature.dtype, device=feature.device)


def mean_variance_normalise(features: Tensor, weights: Tensor, eps: float = 1e-5) -> Tensor:
    """Each channel of (1, N, H, W) less its mean, over its deviation (biased, eps in the root)."""
    mean, deviation = (x.view(1, -1, 1, 1) for x in _level(features, weights, eps))
    return (features - mean) / deviation


def _level(features: Tensor, weights: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Each channel's mean and deviation, (N, 1), as `mean_variance_normalise` takes them."""
    mean = weighted_sum(features, weights)
    # Some channels at a time: of a huge picture the map is large enough as it is.
    parts = zip(features.split(_CHANNELS, 1), mean.split(_CHANNELS), strict=True)
    squares = ((part - level.view(1, -1, 1, 1)).square() for part, level in parts)
    variance = torch.cat([weighted_sum(part, weights) for part in squares])
    return mean[:, None], (variance + eps).sqrt()[:, None]


@torch.no_grad()
def attend(
    content: Tensor,
    style: Tensor,
    content_weights: Tensor,
    style_weights: Tensor,
    *,
    sharpness: float = 1.0,
    chunk: int = 4096,
    most: int | None = None,
) -> Tensor:
    """Style features gathered to where the content looks like them: FA = A Wᵀ.

    W = softmax over style positions of sharpness * norm(C)ᵀ norm(A), norm being the channel-wise
    mean-variance normalisation (report: Chen, "Neural Style Transfer with Self-Attention Module",
    eqs. 4-6; Park & Lee, SANet, CVPR 2019). The M_c x M_s weights never exist as a whole: queries
    are made in chunks, for `gather`. What exists at once beside the features is the result, and as
    much again for keys and for values.

    Args:
        content: (1, N, H_c, W_c). style: (1, N, H_s, W_s).
        content_weights, style_weights: position weights of each; style positions of weight 0
            are never attended to.
        sharpness: factor on the inner products; the loss uses N_VGG / N.
        chunk: queries at a time, which bounds the memory.
        most: style positions to look at, where there are more: a `sample` of them, normalised with
            all positions' mean and deviation. None: all.

    Returns:
        (1, N, H_c, W_c).
    """
    keys = Keys.of(style, style_weights, most)
    return recall(content, content_weights, keys, sharpness=sharpness, chunk=chunk)


class Keys(NamedTuple):
    """What attention looks at in a style: a part of the size of its features, where it is a sample.

    Attributes:
        keys: (M, N). values: (M, N). bias: what position weights add to inner products: (M,), or
            None.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor | None

    @classmethod
    @torch.no_grad()
    def of(cls, style: Tensor, weights: Tensor, most: int | None = None) -> Keys:
        """Of (1, N, H, W); see `attend`."""
        mean, deviation = _level(style, weights)
        values, bias = positions(style), None
        if weights.ndim:
            bias = (weights * weights.numel()).flatten().log()
        if most is not None and values.shape[1] > most:
            index = torch.arange(values.shape[1], device=style.device)
            if bias is not None:
                index = index[bias.isfinite()]  # what is transparent is not looked at in any case
            index = index[sample(len(index), most, style.device)]
            values, bias = values[:, index], None if bias is None else bias[index]
        values = values.T.contiguous()
        return cls((values - mean.T).div_(deviation.T), values, bias)


@torch.no_grad()
def recall(
    content: Tensor,
    content_weights: Tensor,
    known: Keys,
    *,
    sharpness: float = 1.0,
    chunk: int = 4096,
) -> Tensor:
    """`attend`, where the style's keys are there already, and its features not any more."""
    mean, deviation = _level(content, content_weights)
    flat = positions(content)
    found = flat.new_empty(flat.shape[::-1])
    for start in range(0, len(found), chunk):
        queries = (flat[:, start : start + chunk] - mean) / deviation
        part = queries.T[None], known.keys[None], known.values[None]
        found[start : start + chunk] = gather(*part, sharpness, known.bias, chunk)[0]
    return found.unflatten(0, content.shape[-2:]).permute(2, 0, 1)[None]


def sample(count: int, most: int, device: torch.device | None = None) -> Tensor:
    """Indices of ``most`` of so many positions, in order; of all where these are no more.

    One from each of ``most`` equal stretches of the picture's rows, at the fractions k * 0.618… of
    it (the golden ratio's, which fill [0, 1] evenly): every region is there in proportion, no
    period of the picture's meets one of the sample's, and nothing is drawn at random, so that the
    same picture has the same sample in every run.
    """
    most = min(count, most)
    k = torch.arange(most, dtype=torch.float64)
    places = k if count == most else k + (k * (math.sqrt(5) - 1) / 2).frac()
    index = (places * (count / most)).long()
    return index.clamp_max(count - 1).to(device)


def gather(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    sharpness: float = 1.0,
    bias: Tensor | None = None,
    chunk: int = 4096,
) -> Tensor:
    """softmax(sharpness * Q Kᵀ + bias) V, queries in chunks, which bounds the memory.

    Args:
        queries: (B, M_c, D). keys: (B, M_s, D). values: (B, M_s, N). bias: (M_s,) or none.
        chunk: queries at a time through the fused attention; fewer where the device has none for
            these shapes.

    Returns:
        (B, M_c, N).
    """
    depth, width = keys.shape[2], values.shape[2]
    # The fused kernel wants values as wide as keys; zeros change neither products nor sums.
    if width > depth:
        queries, keys = (F.pad(x, (0, width - depth)) for x in (queries, keys))
    if depth > width:
        values = F.pad(values, (0, depth - width))
    # It reads biases by eights; what is beyond the last counts for nothing.
    if bias is not None and (spare := -len(bias) % 8):
        bias = F.pad(bias, (0, spare), value=-math.inf)
        keys, values = (F.pad(x, (0, 0, 0, spare)) for x in (keys, values))

    def inputs(part: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        mask = None if bias is None else bias.expand(1, 1, part.shape[1], -1)
        return part[:, None].contiguous(), keys[:, None], values[:, None], mask

    if not (queries.is_cpu or (queries.is_cuda and _fuses(*inputs(queries[:, :chunk])))):
        chunk = min(chunk, max(1, _UNFUSED // (len(keys) * keys.shape[1])))
    parts = [
        F.scaled_dot_product_attention(*inputs(part), scale=sharpness)
        for part in queries.split(chunk, dim=1)
    ]
    return torch.cat(parts, dim=2)[:, 0, :, :width]


def _fuses(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> bool:
    """Whether CUDA's attention makes no weights; of its kernels this one takes float32, any width
    by fours, and a mask repeated over queries as it is."""
    sizes = cuda.SDPAParams(queries, keys, values, mask, 0.0, False, False)
    return bool(cuda.can_use_efficient_attention(sizes))


def _matching(
    content: Tensor, style: Tensor, content_weights: Tensor, style_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Queries (M_c, N), keys (M_s, N), and what position weights add to the inner products."""
    queries = positions(mean_variance_normalise(content, content_weights)).T
    keys, _, bias = Keys.of(style, style_weights)
    return queries, keys, bias


@torch.no_grad()
def log_attention(
    content: Tensor,
    style: Tensor,
    content_weights: Tensor,
    style_weights: Tensor,
    places: Tensor,
    *,
    sharpness: float = 1.0,
) -> Tensor:
    """Logarithms of rows of `attend`'s W: what chosen content positions attend to.

    Args:
        content, style, content_weights, style_weights, sharpness: as in `attend`.
        places: (Q,), indices into the content's M_c = H_c W_c positions, row by row.

    Returns:
        (Q, H_s, W_s). Logarithms, because all but the best weights may be below the smallest
        float; their exponentials sum to 1.
    """
    queries, keys, bias = _matching(content, style, content_weights, style_weights)
    logits = sharpness * queries[places] @ keys.T
    logits = logits if bias is None else logits + bias
    return logits.log_softmax(1).unflatten(1, style.shape[-2:])


@dataclass(frozen=True)
class Correspondence:
    """Where in the style every content position looks, each (H_c, W_c) over content positions.

    Attributes:
        best: (2, H_c, W_c), row and column of the highest weight.
        expected: (2, H_c, W_c), the weighted mean of rows and columns.
        entropy: of the weights, in nats: 0 for one match, log M_s for none.
        top: the highest weight.
    """

    best: Tensor
    expected: Tensor
    entropy: Tensor
    top: Tensor


@torch.no_grad()
def correspond(
    content: Tensor,
    style: Tensor,
    content_weights: Tensor,
    style_weights: Tensor,
    *,
    sharpness: float = 1.0,
    budget: int = 2**24,
) -> Correspondence:
    """Summaries of every row of `attend`'s W, which never exists as a whole.

    Args:
        content, style, content_weights, style_weights, sharpness: as in `attend`.
        budget: weights held at a time.
    """
    queries, keys, bias = _matching(content, style, content_weights, style_weights)
    height, width = style.shape[-2:]
    places = torch.arange(height * width, device=style.device)
    grid = torch.stack([places // width, places % width], 1).to(keys)
    best, expected, entropy, top = [], [], [], []
    for part in queries.split(max(1, budget // len(keys))):
        logits = sharpness * part @ keys.T
        log_weights = (logits if bias is None else logits + bias).log_softmax(1)
        weights = log_weights.exp()
        highest, index = weights.max(1)
        best.append(grid[index])
        expected.append(weights @ grid)
        entropy.append(torch.special.entr(weights).sum(1))
        top.append(highest)
    size = content.shape[-2:]
    return Correspondence(
        torch.cat(best).T.unflatten(1, size),
        torch.cat(expected).T.unflatten(1, size),
        torch.cat(entropy).unflatten(0, size),
        torch.cat(top).unflatten(0, size),
    )
