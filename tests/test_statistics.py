"""Moments, position weights and attention, against sums by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from optistyle import statistics
from optistyle.encoders.vgg import POOLINGS, VGG

Picture = Callable[..., Tensor]

#: Three positions of two channels.
FEATURES = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]]).view(1, 2, 1, 3)


def uniform(features: Tensor) -> Tensor:
    return statistics.position_weights(None, features)


def some_weights(height: int, width: int, generator: torch.Generator) -> Tensor:
    weights = torch.rand(1, 1, height, width, generator=generator)
    return weights / weights.sum()


def test_uniform_moments_by_hand() -> None:
    moments = statistics.moments(FEATURES, torch.tensor(1 / 3))
    torch.testing.assert_close(moments.first, torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(moments.second, torch.tensor([[14.0, 10.0], [10.0, 17.0]]) / 3)


def test_weighted_moments_by_hand() -> None:
    weights = torch.tensor([0.5, 0.5, 0.0]).view(1, 1, 1, 3)
    moments = statistics.moments(FEATURES, weights)
    torch.testing.assert_close(moments.first, torch.tensor([1.5, -0.5]))
    torch.testing.assert_close(moments.second, torch.tensor([[2.5, -1.0], [-1.0, 0.5]]))
    torch.testing.assert_close(moments.covariance, torch.tensor([[0.25, -0.25], [-0.25, 0.25]]))


def test_covariance_is_numpys(generator: torch.Generator) -> None:
    features = torch.randn(1, 5, 7, 6, generator=generator, dtype=torch.float64) + 3
    covariance = statistics.moments(features, uniform(features)).covariance
    torch.testing.assert_close(covariance, torch.cov(statistics.positions(features), correction=0))


@pytest.mark.parametrize("weighted", [False, True])
def test_moments_add_over_windows(weighted: bool, generator: torch.Generator) -> None:
    features = torch.randn(1, 4, 9, 11, generator=generator, dtype=torch.float64)
    weights = some_weights(9, 11, generator).double() if weighted else uniform(features)
    whole = statistics.moments(features, weights)
    windows = [
        (..., rows, columns)
        for rows in (slice(4), slice(4, None))
        for columns in (slice(5), slice(5, None))
    ]
    parts = [statistics.moments(features[w], weights[w] if weighted else weights) for w in windows]
    torch.testing.assert_close(sum(part.first for part in parts), whole.first)
    torch.testing.assert_close(sum(part.second for part in parts), whole.second)


def test_blend_is_linear_in_raw_moments(generator: torch.Generator) -> None:
    """Blending is the mixture of the positions, not of the covariances."""
    a, b = torch.randn(2, 1, 3, 4, 5, generator=generator, dtype=torch.float64)
    parts = [statistics.moments(x, uniform(x)) for x in (a, b + 2)]
    blend = statistics.blend(parts, [0.25, 0.75])
    weights = torch.cat([torch.full((1, 1, 4, 5), share / 20) for share in (0.25, 0.75)], dim=2)
    mixture = statistics.moments(torch.cat([a, b + 2], dim=2), weights.double())
    torch.testing.assert_close(blend.first, mixture.first)
    torch.testing.assert_close(blend.covariance, mixture.covariance)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("channels", "bound"), [(3, 2e-5), (16, 5e-6)])
def test_float32_is_exact_enough(
    channels: int, bound: float, weighted: bool, generator: torch.Generator
) -> None:
    """Over 2**20 positions of positive features, where naive sums drift: measured 1e-5 and 1e-6."""
    features = 0.3 + 1.5 * torch.randn(1, channels, 1024, 1024, generator=generator).relu()
    weights = some_weights(1024, 1024, generator) if weighted else uniform(features)
    moments = statistics.moments(features, weights)
    exact = statistics.moments(features.double(), weights.double())
    for name in ("first", "second"):
        ours, theirs = getattr(moments, name), getattr(exact, name)
        assert float(((ours - theirs) / theirs).abs().max()) < bound


def test_moments_of_many_blocks_have_a_gradient(generator: torch.Generator) -> None:
    features = torch.randn(1, 2, 3, 3 * statistics._BLOCK // 7, generator=generator).double()
    features.requires_grad_()
    statistics.moments(features, uniform(features)).second[0, 1].backward()
    count = features.shape[2] * features.shape[3]
    assert features.grad is not None
    torch.testing.assert_close(features.grad[0, 0], features[0, 1].detach() / count)


def test_position_weights_without_alpha() -> None:
    weights = statistics.position_weights(None, torch.zeros(1, 3, 4, 6))
    assert weights.ndim == 0
    assert float(weights) == pytest.approx(1 / 24)


@pytest.mark.parametrize("size", [(64, 48), (67, 45), (45, 67), (33, 95), (63, 32)])
def test_position_weights_lie_on_the_features(
    size: tuple[int, int], tiny: VGG, picture: Picture
) -> None:
    """Odd sizes too: halved and rounded down once per pooling, not divided by 16 at once."""
    features = tiny(picture(*size), tiny.layers)
    alpha = picture(*size, seed=1)[:, :1]
    expected, block = alpha, 1
    for layer, feature in features.items():
        if int(layer[4]) != block:
            expected, block = POOLINGS["average"](expected), block + 1
        weights = statistics.position_weights(alpha, feature)
        assert weights.shape == (1, 1, *feature.shape[-2:])
        torch.testing.assert_close(weights, expected / expected.sum())


def test_position_weights_of_binary_alpha() -> None:
    alpha = torch.zeros(1, 1, 8, 8)
    alpha[..., :4] = 1
    weights = statistics.position_weights(alpha, torch.zeros(1, 1, 2, 2))
    assert weights.tolist() == [[[[0.5, 0.0], [0.5, 0.0]]]]


def test_position_weights_where_pooling_drops_all_that_is_opaque() -> None:
    alpha = torch.zeros(1, 1, 8, 9)
    alpha[..., 8] = 1
    assert float(statistics.position_weights(alpha, torch.zeros(1, 1, 4, 4))) == 1 / 16


def test_mean_variance_normalise(generator: torch.Generator) -> None:
    features = 5 + 3 * torch.randn(1, 4, 8, 8, generator=generator)
    normal = statistics.mean_variance_normalise(features, uniform(features))
    torch.testing.assert_close(normal, F.instance_norm(features), rtol=1e-4, atol=1e-5)


def test_mean_variance_normalise_a_flat_channel() -> None:
    features = torch.full((1, 2, 4, 4), 7.0)
    features[0, 1, 0, 0] = 8
    normal = statistics.mean_variance_normalise(features, uniform(features))
    assert normal.isfinite().all()
    assert normal[0, 0].abs().max() < 1e-3


def dense(
    content: Tensor, style: Tensor, sharpness: float, allowed: Tensor | None = None
) -> Tensor:
    """FA with the M_c x M_s matrix written out, in float64, uniform weights."""
    queries, keys = (F.instance_norm(x.double()).flatten(2)[0] for x in (content, style))
    logits = sharpness * queries.T @ keys
    if allowed is not None:
        logits[:, ~allowed.flatten()] = -torch.inf
    gathered = logits.softmax(dim=1) @ style.double().flatten(2)[0].T
    return gathered.T.reshape(content.shape)


@pytest.mark.parametrize("sharpness", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("chunk", [7, 4096])
def test_attend_equals_the_dense_softmax(
    sharpness: float, chunk: int, generator: torch.Generator
) -> None:
    content = torch.randn(1, 6, 5, 9, generator=generator)
    style = torch.randn(1, 6, 8, 4, generator=generator).exp()
    weights = uniform(content), uniform(style)
    gathered = statistics.attend(content, style, *weights, sharpness=sharpness, chunk=chunk)
    expected = dense(content, style, sharpness).float()
    torch.testing.assert_close(gathered, expected, rtol=1e-4, atol=1e-4)


def test_attend_is_sharper_with_sharpness(generator: torch.Generator) -> None:
    """From the mean of the style to its best match; of itself, to itself."""
    content = torch.randn(1, 16, 4, 4, generator=generator)
    flat, sharp = (
        statistics.attend(content, content, uniform(content), uniform(content), sharpness=s)
        for s in (0.0, 100.0)
    )
    mean = content.mean((2, 3), keepdim=True)
    torch.testing.assert_close(flat, mean.expand_as(content), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(sharp, content, atol=1e-5, rtol=1e-4)


def test_attend_weighs_style_positions(generator: torch.Generator) -> None:
    """A position of double weight counts as two of them."""
    content, style = torch.randn(2, 1, 3, 4, 4, generator=generator)
    weights = torch.ones(1, 1, 4, 4)
    weights[..., 0] = 2
    doubled = torch.cat([style, style[..., :1]], dim=3)
    gathered = statistics.attend(content, style, uniform(content), weights / weights.sum())
    expected = statistics.attend(content, doubled, uniform(content), uniform(doubled))
    torch.testing.assert_close(gathered, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opaque", [1, 5, 700])
def test_transparent_style_is_never_attended(opaque: int, generator: torch.Generator) -> None:
    content = torch.randn(1, 4, 6, 6, generator=generator)
    style = torch.randn(1, 4, 1, 1000, generator=generator)
    weights = torch.zeros(1, 1, 1, 1000)
    weights[..., -opaque:] = 1 / opaque
    gathered = statistics.attend(content, style, uniform(content), weights)
    style[..., :-opaque] = 1e6
    again = statistics.attend(content, style, uniform(content), weights)
    assert gathered.isfinite().all()
    torch.testing.assert_close(gathered, again)
    low, high = (style[..., -opaque:].amin(3, True), style[..., -opaque:].amax(3, True))
    assert (gathered >= low - 1e-5).all()
    assert (gathered <= high + 1e-5).all()


def test_constant_style_is_returned(generator: torch.Generator) -> None:
    content = torch.randn(1, 3, 4, 5, generator=generator)
    style = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 6, 6)
    gathered = statistics.attend(content, style, uniform(content), uniform(style))
    torch.testing.assert_close(gathered, style[..., :1, :1].expand_as(content))


@pytest.mark.parametrize("weighted", [False, True])
def test_attention_never_holds_the_matrix(weighted: bool, generator: torch.Generator) -> None:
    """16384 queries and keys: their matrix would take 1 GB."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (status.exists() and reset.exists()):
        pytest.skip("peak memory is measured in /proc")

    def kilobytes(field: str) -> int:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines[field].split()[0])

    content, style = torch.rand(2, 1, 16, 128, 128, generator=generator)
    weights = some_weights(128, 128, generator) if weighted else uniform(style)
    try:
        reset.write_text("5")  # the peak begins anew
    except OSError:
        pytest.skip("this system does not reset the peak memory")
    before = kilobytes("VmRSS")
    statistics.attend(content, style, uniform(content), weights)
    assert kilobytes("VmHWM") - before < 100_000


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_matrix_at_every_position(
    batch: int, layout: torch.memory_format, generator: torch.Generator
) -> None:
    features = torch.randn(batch, 5, 7, 9, generator=generator).contiguous(memory_format=layout)
    matrix, bias = torch.randn(4, 5, generator=generator), torch.randn(4, generator=generator)
    expected = torch.einsum("kn,bnhw->bkhw", matrix, features) + bias.view(1, 4, 1, 1)
    torch.testing.assert_close(statistics.pointwise(features, matrix, bias), expected)


def test_a_sample_is_even() -> None:
    """One position from every stretch, no period, and never one twice."""
    for count, most in ((1000, 100), (1000, 999), (65_537, 65_536), (513 * 511, 65_536)):
        index = statistics.sample(count, most)
        assert len(index) == most
        assert (index.diff() > 0).all() or count < 2 * most
        assert (index.diff() >= 0).all()
        assert 0 <= index.min() <= index.max() < count
        stretch = torch.arange(most) * count / most
        assert ((index >= stretch.long()) & (index <= stretch + count / most)).all()
    columns = statistics.sample(512 * 512, 2**16) % 512
    counts = torch.bincount(columns, minlength=512)
    assert counts.min() > 0.7 * counts.float().mean()
    assert torch.equal(statistics.sample(7, 100), torch.arange(7))


@pytest.mark.parametrize("weighted", [False, True])
def test_sampled_keys_are_near_all_keys(weighted: bool, generator: torch.Generator) -> None:
    content = torch.randn(1, 4, 6, 7, generator=generator)
    style = torch.randn(1, 4, 100, 90, generator=generator)
    weights = some_weights(100, 90, generator) if weighted else uniform(style)
    exact = statistics.attend(content, style, uniform(content), weights)
    sampled = statistics.attend(content, style, uniform(content), weights, most=3000)
    assert not torch.equal(sampled, exact)
    assert (sampled - exact).norm() < 0.25 * exact.norm()
    assert torch.equal(
        statistics.attend(content, style, uniform(content), weights, most=9000), exact
    )


def test_a_sample_leaves_out_what_is_transparent(generator: torch.Generator) -> None:
    """Also where hardly anything is opaque, and an even sample of all would miss it."""
    content, style = torch.randn(2, 1, 4, 64, 64, generator=generator)
    weights = torch.zeros(1, 1, 64, 64)
    weights[..., 10:12, 10:12] = 0.25
    exact = statistics.attend(content, style, uniform(content), weights)
    sampled = statistics.attend(content, style, uniform(content), weights, most=100)
    torch.testing.assert_close(sampled, exact)


@pytest.mark.parametrize("opaque", [13, 16])
def test_gathering_by_torchs_attention(opaque: int, generator: torch.Generator) -> None:
    """Biases of any number, and values wider than keys."""
    queries, keys, values = (
        torch.randn(2, count, width, generator=generator, dtype=torch.float64)
        for count, width in ((9, 4), (opaque, 4), (opaque, 6))
    )
    bias = torch.rand(opaque, generator=generator, dtype=torch.float64).log()
    bias[3] = -torch.inf
    gathered = statistics.gather(queries, keys, values, 0.7, bias, chunk=4)
    expected = (0.7 * queries @ keys.mT + bias).softmax(2) @ values
    torch.testing.assert_close(gathered, expected)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_on_a_gpu_holds_few_weights(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no kernel does without them they, and four copies, take less than 500 MB."""
    taken: list[tuple[int, int]] = []

    def attention(queries: Tensor, keys: Tensor, values: Tensor, *_: None, scale: float) -> Tensor:
        taken.append((queries.shape[2], keys.shape[2]))
        return values.new_empty(*queries.shape[:3], values.shape[3])

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    monkeypatch.setattr(statistics, "_fuses", lambda *_: fused)
    for keys in (2**12, 2**16, 2**20):
        with FakeTensorMode():
            query = torch.empty(1, 2**14, 512, device="cuda")
            key = torch.empty(1, keys, 512, device="cuda")
            statistics.gather(query, key, key)
        assert sum(queries for queries, _ in taken) == 2**14
        most = max(queries for queries, _ in taken)
        assert {count for _, count in taken} == {keys}
        assert most == 4096 if fused else 5 * 4 * most * keys < 500e6
        taken.clear()


def test_products_in_blocks_and_a_rest(generator: torch.Generator) -> None:
    for height in (1, 3, 512, 1025):
        a, b = (
            torch.randn(1, n, height, 5, generator=generator, dtype=torch.float64) for n in (3, 4)
        )
        expected = statistics.positions(a) @ statistics.positions(b).T
        torch.testing.assert_close(statistics._products(a, b), expected)
