"""Feed-forward models: what they compute, their controls, their files, the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import make_picture
from safetensors import torch as safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle import baselines, cli, load_encoder
from optistyle.baselines import adaattn, adain, johnson
from optistyle.baselines.adaattn import AdaAttN
from optistyle.baselines.adjustable import LEVELS, Adjustable
from optistyle.baselines.attention import Projections, normalised
from optistyle.baselines.base import fill
from optistyle.baselines.codec import BLOCK_STARTS, CONVOLUTIONS, Decoder, Transfer, padded
from optistyle.baselines.paint import paint
from optistyle.baselines.sanet import SANet
from optistyle.baselines.teacher import Teacher
from optistyle.choices import WARM_STARTS
from optistyle.encoders.vgg import VGG
from optistyle.encoders.weights import load_tensors
from optistyle.errors import InputError
from optistyle.losses import Content, GramStyle, Reference, References
from optistyle.pictures import Picture, colors, read, write
from optistyle.statistics import attend, gather

Make = Callable[..., Tensor]
TRANSFERS = ("adain", "multiadain", "sanet", "adaattn")


def made(name: str, encoder: VGG) -> Transfer:
    """An untrained model, its output about grey, its style strong enough to be seen."""
    model = baselines.make(name, encoder)
    assert isinstance(model, Transfer)
    with torch.no_grad():
        model.decoder.get_submodule("conv1_1").bias.fill_(0.5)
        for key, parameter in model.named_parameters():
            if "out_conv" in key:
                nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(params=TRANSFERS)
def model(request: pytest.FixtureRequest, tiny: VGG) -> Transfer:
    return made(request.param, tiny)


@pytest.fixture
def attentive(tiny: VGG) -> AdaAttN:
    model = made("adaattn", tiny)
    assert isinstance(model, AdaAttN)
    return model


# --- sizes, strength, shares ---


@pytest.mark.parametrize(
    ("size", "style"), [((32, 32), (45, 61)), ((33, 47), (32, 90)), ((50, 129), (71, 33))]
)
def test_any_size_comes_back(
    model: Transfer, picture: Make, size: tuple[int, int], style: tuple[int, int]
) -> None:
    painted = model.stylize(picture(*size), [picture(*style, 1)])
    assert painted.shape == (1, 3, *size)
    assert 0 <= float(painted.min()) <= float(painted.max()) <= 1


def test_at_alpha_0_the_style_counts_for_nothing(model: Transfer, picture: Make) -> None:
    content, one, two = picture(48, 64), picture(64, 64, 1), picture(40, 80, 2)
    plain = model.stylize(content, [one], alpha=0.0)
    assert torch.equal(plain, model.stylize(content, [two], alpha=0.0))
    by_level = dict.fromkeys(model.levels, 0.0)
    assert torch.equal(plain, model.stylize(content, [one], alpha=by_level))
    own = model.paint(model.unstyled(model.features(content))).clamp(0, 1)
    torch.testing.assert_close(plain, own)
    assert not torch.allclose(plain, model.stylize(content, [one]), atol=1e-4)


def test_features_are_blended_by_alpha_and_shares(model: Transfer, picture: Make) -> None:
    content, *styles = picture(48, 64), picture(64, 64, 1), picture(48, 80, 2)
    features = model.features(content)
    one, two = (model.transform(features, model.features(style)) for style in styles)
    alpha = {layer: 0.5 / (1 + i) for i, layer in enumerate(model.levels)}
    blended = {
        layer: (1 - alpha[layer]) * model.unstyled(features)[layer]
        + alpha[layer] * (0.25 * one[layer] + 0.75 * two[layer])
        for layer in model.levels
    }
    painted = model.stylize(content, styles, shares=[0.25, 0.75], alpha=alpha)
    torch.testing.assert_close(painted, model.paint(blended).clamp(0, 1), atol=1e-5, rtol=0)


def test_a_level_that_is_not_named_has_its_whole_style(model: Transfer, picture: Make) -> None:
    content, style = picture(48, 48), picture(48, 48, 1)
    first, *others = model.levels
    partly = model.stylize(content, [style], alpha={first: 0.0})
    named = {first: 0.0, **dict.fromkeys(others, 1.0)}
    assert torch.equal(partly, model.stylize(content, [style], alpha=named))
    plain, whole = (model.stylize(content, [style], alpha=alpha) for alpha in (0.0, 1.0))
    assert not torch.allclose(partly, whole, atol=1e-5)
    assert torch.allclose(partly, plain, atol=1e-5) == (not others)


def test_a_style_alone_by_its_share_or_twice(model: Transfer, picture: Make) -> None:
    content, one, two = picture(48, 64), picture(64, 64, 1), picture(40, 80, 2)
    whole = model.stylize(content, [one])
    torch.testing.assert_close(whole, model.stylize(content, [one, two], shares=[1.0, 0.0]))
    torch.testing.assert_close(whole, model.stylize(content, [one, one]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan"), {"relu4_1": 2.0}])
def test_alpha_out_of_range(
    model: Transfer, picture: Make, alpha: float | dict[str, float]
) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        model.stylize(picture(48, 64), [picture(64, 64, 1)], alpha=alpha)


def test_bad_controls(model: Transfer, picture: Make) -> None:
    content, style = picture(32, 32), picture(32, 32, 1)
    with pytest.raises(InputError, match="unknown level of this model 'relu4_2'"):
        model.stylize(content, [style], alpha={"relu4_2": 1.0})
    with pytest.raises(InputError, match="style weights: got 2 for 1 style image; give one"):
        model.stylize(content, [style], shares=[0.5, 0.5])
    with pytest.raises(InputError, match="one or more STYLE"):
        model.stylize(content, [])
    for pair in ((picture(31, 64), style), (content, picture(64, 31))):
        with pytest.raises(InputError, match="32 px a side"):
            model.stylize(pair[0], [pair[1]])


def test_borders_are_mirrored_to_whole_grids() -> None:
    row = torch.arange(34.0).expand(1, 3, 33, 34)
    assert padded(row).shape == (1, 3, 48, 48)
    assert padded(row)[0, 0, 0, 32:].tolist() == [32, 33, *range(32, 18, -1)]


# --- AdaIN ---


def test_mean_and_deviation_by_hand() -> None:
    features = torch.tensor([1.0, 2.0, 3.0, 6.0]).view(1, 1, 2, 2)
    mean, deviation = adain.mean_deviation(features, eps=0)
    assert float(mean) == 3
    assert float(deviation) == pytest.approx((14 / 3) ** 0.5)  # unbiased: over M - 1
    flat, none = adain.mean_deviation(torch.full((1, 2, 4, 4), 5.0))
    assert flat.flatten().tolist() == [5, 5]
    assert none.square().flatten().tolist() == pytest.approx([1e-5, 1e-5])
    assert adain.mean_deviation(torch.ones(1, 1, 1, 1))[1].isfinite().all()


@pytest.mark.parametrize("name", ["adain", "multiadain"])
def test_statistics_are_the_styles_before_the_decoder(name: str, tiny: VGG, picture: Make) -> None:
    model = made(name, tiny)
    content, style = (tiny(picture(64, 96, i), model.levels) for i in range(2))
    found = model.transform(content, style)
    assert set(found) == set(model.levels)
    for layer in model.levels:
        for ours, theirs in zip(
            adain.mean_deviation(found[layer]), adain.mean_deviation(style[layer]), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=3e-3)  # eps in the roots


# --- attention ---


def dense(queries: Tensor, keys: Tensor, values: Tensor, scale: float, bias: Tensor) -> Tensor:
    return (scale * queries @ keys.mT + bias).softmax(2) @ values


@pytest.mark.parametrize(("depth", "width"), [(8, 8), (3, 7), (9, 4)])
@pytest.mark.parametrize("biased", [False, True])
def test_gathering_in_chunks_is_dense_attention(
    depth: int, width: int, biased: bool, generator: torch.Generator
) -> None:
    queries, keys, values = (
        torch.randn(2, rows, columns, generator=generator, dtype=torch.float64)
        for rows, columns in ((5, depth), (6, depth), (6, width))
    )
    bias = torch.randn(6, generator=generator, dtype=torch.float64) if biased else None
    expected = dense(queries, keys, values, 0.7, torch.zeros(6) if bias is None else bias)
    for chunk in (2, 5, 4096):
        torch.testing.assert_close(gather(queries, keys, values, 0.7, bias, chunk), expected)


def test_gathering_has_the_right_gradient(generator: torch.Generator) -> None:
    queries, keys, values = (
        torch.randn(2, *size, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in ((3, 2), (4, 2), (4, 3))
    )
    bias = torch.randn(4, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda q, k, v: gather(q, k, v, 0.7, bias, chunk=2), (queries, keys, values)
    )


def test_attend_is_dense_attention(generator: torch.Generator) -> None:
    content, style = (torch.randn(1, 3, 4, n, generator=generator).double() for n in (5, 6))
    opacity = torch.rand(1, 1, 4, 6, generator=generator).double()
    uniform, weights = torch.tensor(1 / 20, dtype=torch.float64), opacity / opacity.sum()

    def flat(x: Tensor, weight: Tensor) -> Tensor:
        """(1, M, N), normalised with weights."""
        mean = (weight * x).sum((2, 3), keepdim=True)
        variance = (weight * (x - mean).square()).sum((2, 3), keepdim=True)
        return ((x - mean) / (variance + 1e-5).sqrt()).flatten(2).mT

    expected = dense(
        flat(content, uniform),
        flat(style, weights),
        style.flatten(2).mT,
        1.5,
        (24 * weights).flatten().log(),
    )
    found = attend(content, style, uniform, weights, sharpness=1.5, chunk=7)
    torch.testing.assert_close(found.flatten(2).mT, expected)


def test_normalised_by_hand() -> None:
    found = normalised(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2))
    assert found.flatten().tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-5)


def test_an_even_grid_of_many_style_positions() -> None:
    part = Projections(values=1, keys=3, inner=3)
    nn.init.zeros_(part.f.weight)  # attends everywhere alike
    values = torch.arange(10.0).square().view(1, 1, 5, 2)
    queries, keys = torch.rand(1, 3, 2, 2), torch.rand(1, 3, 5, 2)
    (whole,) = part(queries, keys, [values], most=10)
    torch.testing.assert_close(whole, torch.full((1, 1, 2, 2), 28.5))
    (some,) = part(queries, keys, [values], most=4)  # positions 0, 3, 6 and 9
    torch.testing.assert_close(some, torch.full((1, 1, 2, 2), (0 + 9 + 36 + 81) / 4))


def test_relu5_1_is_added_to_relu4_1(tiny: VGG, picture: Make) -> None:
    """Before training merge_conv changes nothing."""
    for name in ("sanet", "adaattn"):
        model = made(name, tiny)
        levels = tiny(picture(32, 48), model.levels)
        up = levels["relu5_1"].repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(model.merge(levels)["relu4_1"], levels["relu4_1"] + up)


# --- SANet ---


def test_sanet_without_out_conv_is_the_content(tiny: VGG, picture: Make) -> None:
    model = made("sanet", tiny)
    for part in (model.sanet4_1, model.sanet5_1):
        nn.init.zeros_(part.out_conv.weight)
        nn.init.zeros_(part.out_conv.bias)
    content, style = (model.features(picture(32, 48, seed)) for seed in range(2))
    found = model.transform(content, style)
    assert all(torch.equal(found[layer], content[layer]) for layer in model.levels)


def test_sanet_is_the_papers_formula(tiny: VGG, picture: Make) -> None:
    """softmax(f(norm c)ᵀ g(norm s)), values h(s), out_conv, plus c (Park & Lee, eqs. 2 to 4)."""
    model = made("sanet", tiny).requires_grad_(False)
    assert isinstance(model, SANet)
    for parameter in model.sanet4_1.parameters():
        nn.init.normal_(parameter, std=0.3)
    c, s = (tiny(picture(*size, 1), ("relu4_1",))["relu4_1"] for size in ((48, 64), (40, 80)))

    def norm(x: Tensor) -> Tensor:
        flat = x.flatten(2)
        deviation = (flat.var(2) + 1e-5).sqrt()
        return (x - flat.mean(2)[..., None, None]) / deviation[..., None, None]

    def project(x: Tensor, part: str) -> Tensor:
        conv = model.sanet4_1.get_submodule(part)
        return torch.einsum("oi,bihw->bohw", conv.weight[..., 0, 0], x) + conv.bias.view(-1, 1, 1)

    f, g, h = project(norm(c), "f"), project(norm(s), "g"), project(s, "h")
    weights = (f.flatten(2).mT @ g.flatten(2)).softmax(2)  # (1, M_c, M_s)
    gathered = (h.flatten(2) @ weights.mT).view_as(c)
    expected = project(gathered, "out_conv") + c
    torch.testing.assert_close(model.sanet4_1.transform(c, s), expected, rtol=1e-3, atol=1e-4)


# --- AdaAttN ---


def test_adapt_by_hand() -> None:
    content = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)  # normalised: -+ sqrt(1/2)
    one = torch.ones(1, 1, 1, 2)
    found = adaattn.adapt(content, one, 5 * one)  # deviation sqrt(5 - 1) = 2
    assert found.flatten().tolist() == pytest.approx([1 - 2**0.5, 1 + 2**0.5], abs=1e-4)
    below = adaattn.adapt(content, 2 * one, 3.9 * one)  # rounding can do that: no deviation
    assert below.flatten().tolist() == pytest.approx([2, 2], abs=5e-3)


def test_keys_are_all_layers_up_to_their_own(tiny: VGG, picture: Make) -> None:
    features = tiny(picture(32, 48), BLOCK_STARTS)
    found = adaattn.keys(features, "relu3_1")
    assert found.shape == (1, 6 + 8 + 12, 8, 12)
    torch.testing.assert_close(found[:, :6], normalised(features["relu1_1"][..., ::4, ::4]))
    torch.testing.assert_close(found[:, 14:], normalised(features["relu3_1"]))


def test_constant_features_give_no_nan(attentive: AdaAttN) -> None:
    content, style = (torch.full((2, 3, 32, 32), value) for value in (0.3, 0.9))
    parts = attentive.losses(content, style, None)
    torch.stack(list(parts.values())).sum().backward()
    assert all(x.isfinite() for x in parts.values())
    found = {k: x.grad for k, x in attentive.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in found.values())


def test_attention_to_all_alike_gives_mean_and_biased_deviation(
    attentive: AdaAttN, picture: Make
) -> None:
    content, style = (attentive.features(picture(*s)) for s in ((32, 48), (48, 32)))
    for layer in attentive.levels:
        nn.init.zeros_(attentive.get_submodule(f"adaattn{layer[4:]}").f.weight)
    found = attentive.transform(content, style)  # h is the identity before training
    for layer in attentive.levels:
        look = style[layer].flatten(2)
        mean, deviation = look.mean(2), look.std(2, correction=0)
        expected = deviation[..., None, None] * normalised(content[layer]) + mean[..., None, None]
        torch.testing.assert_close(found[layer], expected, rtol=1e-3, atol=1e-2)  # eps


def test_blended_outputs_are_blended_means_and_deviations(
    attentive: AdaAttN, picture: Make
) -> None:
    content, one, two = (attentive.features(picture(32, 48, seed)) for seed in range(3))
    outputs = [attentive.transform(content, style) for style in (one, two)]
    for layer in attentive.levels:
        part, maps = attentive.get_submodule(f"adaattn{layer[4:]}"), []
        for style in (one, two):
            value = part.h(style[layer])
            asked, given = (adaattn.keys(x, layer) for x in (content, style))
            mean, second = part(asked, given, [value, value.square()])
            maps.append((mean, ((second - mean.square()).relu() + 1e-5).sqrt()))
        mean, deviation = (0.25 * a + 0.75 * b for a, b in zip(*maps, strict=True))
        blended = 0.25 * outputs[0][layer] + 0.75 * outputs[1][layer]
        expected = deviation * normalised(content[layer]) + mean
        torch.testing.assert_close(blended, expected, rtol=1e-4, atol=1e-4)


def test_a_large_style_gives_the_same_picture_twice(attentive: AdaAttN, picture: Make) -> None:
    """Of 72 x 64 positions at relu3_1, 64 x 64 are looked at."""
    content, style = picture(32, 32), picture(288, 256, 1)
    first = attentive.stylize(content, [style])
    assert torch.equal(first, attentive.stylize(content, [style]))
    part, features = attentive.adaattn3_1, attentive.features(style)
    asked, given = (adaattn.keys(x, "relu3_1") for x in (attentive.features(content), features))
    some, every = (part(asked, given, [features["relu3_1"]], m)[0] for m in (adaattn.MOST, None))
    assert not torch.equal(some, every)
    assert (some - every).abs().mean() < 0.1 * every.std()


# --- decoder ---


def test_decoder_mirrors_vgg19() -> None:
    """512>256, up, 256 x3, >128, up, 128, >64, up, 64, >3 (pytorch-AdaIN)."""
    shapes = [tuple(c.weight.shape[:2]) for c in Decoder((64, 128, 256, 512)).children()]
    assert shapes == [
        (256, 512), (256, 256), (256, 256), (256, 256), (128, 256),
        (128, 128), (64, 128), (64, 64), (3, 64),
    ]  # fmt: skip


def test_bilinear_upsampling_keeps_a_slope_straight() -> None:
    """With convolutions that copy their input, nearest neighbours make stairs of 8 px."""
    decoder = Decoder((3, 3, 3, 3))
    for conv in decoder.children():
        nn.init.dirac_(conv.weight)
    slope = torch.arange(8.0).expand(1, 3, 8, 8)
    steps = {}
    for upsampling in ("nearest", "bilinear"):
        decoder.upsampling = upsampling
        steps[upsampling] = decoder({"relu4_1": slope})[0, 0, 32].diff()[16:-16]
    assert sorted({*steps["nearest"].tolist()}) == [0, 1]
    torch.testing.assert_close(steps["bilinear"], torch.full((31,), 1 / 8))


def test_further_features_join_where_their_resolution_is_reached(
    generator: torch.Generator,
) -> None:
    decoder = Decoder((2, 3, 4, 5), {"relu3_1": 6, "relu2_1": 7}, generator)
    features = {
        layer: torch.randn(2, n, side, side + 2, generator=generator)
        for layer, n, side in (("relu4_1", 5, 4), ("relu3_1", 6, 8), ("relu2_1", 7, 16))
    }
    features["relu3_1"] = features["relu3_1"].repeat(1, 1, 1, 2)[..., :12]
    features["relu2_1"] = features["relu2_1"].repeat(1, 1, 1, 2)[..., :24]
    x = features["relu4_1"]
    joined = {"conv3_4": "relu3_1", "conv2_2": "relu2_1"}
    with torch.no_grad():
        for name in CONVOLUTIONS:
            if name in ("conv3_4", "conv2_2", "conv1_2"):
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            if name in joined:
                x = torch.cat([x, features[joined[name]]], 1)
            conv = decoder.get_submodule(name)
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), conv.weight, conv.bias)
            x = x if name == "conv1_1" else x.relu()
        assert x.shape == (2, 3, 32, 48)
        torch.testing.assert_close(decoder(features), x)


# --- one style: teacher, Johnson, adjustable ---


def test_the_teachers_losses_are_the_optimisers_own(tiny: VGG, picture: Make) -> None:
    layers = ("relu1_1", "relu3_1")
    painting, output = picture(512, 512, 1), torch.cat([picture(32, 48, i) for i in (2, 3)])
    content = torch.cat([picture(32, 48, i) for i in (4, 5)])
    teacher = Teacher.of(tiny, painting, "relu2_2", layers)
    found = teacher.losses(output, content)
    assert set(found) == {"content", *layers}
    read_layers = ("relu2_2", *layers)
    style = Reference(tiny(painting, layers))
    for index in range(2):
        image, photo = (tiny(x[index : index + 1], read_layers) for x in (output, content))
        references = References(Reference(photo), [style], [1.0])
        terms = {"content": Content({"relu2_2": 1.0})}
        terms |= {layer: GramStyle({layer: 1.0}) for layer in layers}
        for name, term in terms.items():
            target = term.target(references)
            expected = term.score(term.statistic(image, target), target)
            torch.testing.assert_close(found[name][index], expected, rtol=1e-4, atol=0.0)


def test_one_style_models_take_no_style(tiny: VGG, picture: Make) -> None:
    for name in ("johnson", "adjustable"):
        model = baselines.make(name, tiny, painting=picture(40, 40))
        assert model.stylize(picture(33, 50), []).shape == (1, 3, 33, 50)
        with pytest.raises(InputError, match="one style, its own"):
            model.stylize(picture(32, 32), [picture(32, 32)])
        with pytest.raises(InputError, match="16 px a side"):
            model.stylize(picture(15, 32), [])
        with pytest.raises(InputError, match="from 0 to 1"):
            model.stylize(picture(32, 32), [], alpha=1.1)


def test_johnson_has_no_levels(tiny: VGG, picture: Make) -> None:
    model = baselines.make("johnson", tiny, painting=picture(40, 40))
    with pytest.raises(InputError, match="no levels"):
        model.stylize(picture(32, 32), [], alpha={"relu3_3": 1.0})


@pytest.fixture
def adjustable(tiny: VGG, picture: Make) -> Adjustable:
    """With a conditioner that says something."""
    model = baselines.make("adjustable", tiny, painting=picture(48, 40, 7))
    assert isinstance(model, Adjustable)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nn.init.normal_(model.conditioner[-1].weight, std=0.3)
    return model


def test_every_alpha_s_reaches_the_picture(adjustable: Adjustable, picture: Make) -> None:
    content = picture(32, 32)
    nothing = adjustable.stylize(content, alpha=0.0)
    assert torch.equal(nothing, adjustable.stylize(content, alpha=dict.fromkeys(LEVELS, 0.0)))
    pictures = [nothing, adjustable.stylize(content)]
    for layer in LEVELS:
        alone = {x: float(x == layer) for x in LEVELS}
        pictures.append(adjustable.stylize(content, alpha=alone))
    for i, one in enumerate(pictures):
        assert all((one - other).abs().max() > 1e-3 for other in pictures[:i])
    with pytest.raises(InputError, match="level of this model"):
        adjustable.stylize(content, alpha={"relu4_1": 1.0})


def test_a_batch_may_have_a_strength_for_each(adjustable: Adjustable, picture: Make) -> None:
    batch, strength = torch.cat([picture(32, 32), picture(32, 32, 1)]), torch.eye(3)[:2]
    both = adjustable(batch, strength)
    for index in range(2):
        alone = adjustable(batch[index : index + 1], strength[index : index + 1])
        torch.testing.assert_close(both[index : index + 1], alone, rtol=1e-4, atol=1e-4)


def test_losses_are_shares_of_their_usual_size(adjustable: Adjustable, picture: Make) -> None:
    photos = torch.cat([picture(32, 32, 1), picture(32, 32, 2)])
    assert not adjustable.usual.any()
    losses = adjustable.losses(photos, None, np.random.default_rng(0))
    assert float(losses["content"].detach()) == pytest.approx(1)
    first = adjustable.usual.clone()
    assert (first > 0).all()
    adjustable.usual.mul_(2)
    losses = adjustable.losses(photos, None, np.random.default_rng(0))
    torch.testing.assert_close(adjustable.usual, (0.99 * 2 + 0.01) * first)
    assert float(losses["content"].detach()) == pytest.approx(1 / 1.99)
    torch.testing.assert_close(adjustable.learned()["usual"], adjustable.usual)


def test_an_adjustable_network_comes_back(
    adjustable: Adjustable, picture: Make, tmp_path: Path
) -> None:
    file = tmp_path / "a.safetensors"
    baselines.save(adjustable, "adjustable", file)
    again = baselines.load("adjustable", files=[file])
    alpha = {"relu2_2": 0.3, "relu3_4": 0.0}
    ours, theirs = (m.stylize(picture(32, 40), [], alpha=alpha) for m in (adjustable, again))
    torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=0)
    with pytest.raises(InputError, match="holds adjustable, not johnson"):
        baselines.load("johnson", files=[file])


# --- made, saved, started from ---


def test_what_cannot_be_made(tiny: VGG, picture: Make) -> None:
    with pytest.raises(InputError, match="microast cannot be trained here"):
        baselines.make("microast", tiny)
    with pytest.raises(InputError, match="johnson learns one painting"):
        baselines.make("johnson", tiny)
    with pytest.raises(InputError, match="adain learns no single painting"):
        baselines.make("adain", tiny, painting=picture(32, 32))


def test_the_seed_decides_the_initial_weights(tiny: VGG) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (baselines.make("sanet", tiny, seed).learned() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)  # the global generator is as it was
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["decoder.conv4_1.weight"], other["decoder.conv4_1.weight"])


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of untrained weights on the slim encoder, NAME.safetensors."""
    folder, encoder = tmp_path_factory.mktemp("weights"), load_encoder("slim")
    for name, entry in baselines.MODELS.items():
        if entry.make is not None:
            painting = make_picture(48, 48) if entry.one_style else None
            model = baselines.make(name, encoder, 3, painting)
            baselines.save(model, name, folder / f"{name}.safetensors", {"steps": 0})
    return folder


@pytest.mark.parametrize("name", [*TRANSFERS, "johnson", "adjustable"])
def test_saved_weights_load(name: str, weights: Path, picture: Make) -> None:
    file = weights / f"{name}.safetensors"
    one_style = baselines.MODELS[name].one_style
    painting = make_picture(48, 48) if one_style else None
    model = baselines.make(name, load_encoder("slim"), 3, painting)
    again = baselines.load(name, files=[file])
    wanted, found = model.learned(), again.learned()
    assert set(wanted) == set(found)
    for key in wanted:  # float16 in the file
        torch.testing.assert_close(found[key], wanted[key], atol=1e-5, rtol=1e-3)
    assert not any(x.requires_grad for x in again.parameters())
    styles = [] if one_style else [picture(40, 40, 1)]
    assert again.stylize(picture(32, 33), styles).shape == (1, 3, 32, 33)


def test_what_is_noted_of_weights(weights: Path, tiny: VGG, tmp_path: Path) -> None:
    known = baselines.facts(weights / "sanet.safetensors")
    assert known == {"model": "sanet", "encoder": "slim", "steps": 0, "upsampling": "bilinear"}
    assert "encoder" not in baselines.facts(weights / "johnson.safetensors")
    model, notes = baselines.make("adain", tiny), {"a": 1, "b": 2}
    for name in "xy":
        baselines.save(model, "adain", tmp_path / name, notes)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_weights_that_do_not_name_their_upsampling_have_nearest_neighbours(
    weights: Path, tmp_path: Path
) -> None:
    for upsampling in ("nearest", "bilinear"):
        model = baselines.load("adain", files=[weights / "adain.safetensors"])
        assert isinstance(model, Transfer)
        model.decoder.upsampling = upsampling
        baselines.save(model, "adain", tmp_path / "again.safetensors")
        again = baselines.load("adain", files=[tmp_path / "again.safetensors"])
        assert isinstance(again, Transfer)
        assert again.decoder.upsampling == upsampling
    tensors, _ = load_tensors(tmp_path / "again.safetensors")
    safetensors.save_file(
        dict(tensors),
        tmp_path / "old.safetensors",
        {"optistyle-baseline": '{"model": "adain", "encoder": "slim"}'},
    )
    old = baselines.load("adain", files=[tmp_path / "old.safetensors"])
    assert isinstance(old, Transfer)
    assert old.decoder.upsampling == "nearest"


def test_what_cannot_be_loaded(weights: Path, tmp_path: Path) -> None:
    file = weights / "adain.safetensors"
    with pytest.raises(InputError, match="holds adain, not multiadain"):
        baselines.load("multiadain", files=[file])
    with pytest.raises(InputError, match="holds adain, not sanet"):
        baselines.load("sanet", files=[file])
    with pytest.raises(InputError, match="did you mean 'adain'"):
        baselines.load("adian")
    with pytest.raises(InputError, match="no file at"):
        baselines.load("adain", files=[tmp_path / "none.safetensors"])
    with pytest.raises(InputError, match="name its published files"):
        baselines.load("microast")


def test_a_wrong_key_of_our_own_weights_is_named(tiny: VGG) -> None:
    model = baselines.make("adain", tiny)
    tensors = dict(model.learned())
    key = "decoder.conv4_1.weight"
    with pytest.raises(InputError, match=f"w.pth: '{key}' has shape"):
        fill(model, {**tensors, key: torch.zeros(1)}, "w.pth")
    with pytest.raises(InputError, match=r"unknown key in w.pth 'decoder.conv4_1.weigth'; did"):
        fill(model, {**tensors, "decoder.conv4_1.weigth": torch.zeros(1)}, "w.pth")
    weight = tensors.pop(key)
    with pytest.raises(InputError, match=f"w.pth: '{key}' is missing .nearest: '{key[:-1]}'"):
        fill(model, {**tensors, key[:-1]: weight}, "w.pth")


@pytest.mark.parametrize("name", ["multiadain", "sanet", "adaattn"])
def test_started_from_adain_a_decoder_paints_like_it(
    name: str, tiny: VGG, picture: Make, tmp_path: Path
) -> None:
    file = tmp_path / "adain.safetensors"
    baselines.save(made("adain", tiny), "adain", file)
    one = fill(baselines.make("adain", tiny), load_tensors(file)[0], str(file))
    model = baselines.make(name, tiny, seed=9)
    before = {k: x.clone() for k, x in model.learned().items()}
    found = baselines.start_from(model, file)
    assert set(found) == set(one.learned())
    features = tiny(picture(32, 48), BLOCK_STARTS)
    # What is joined to relu4_1 counts for nothing yet.
    torch.testing.assert_close(model.decoder(features), one.decoder(features))
    assert all(torch.equal(before[k], x) for k, x in model.learned().items() if k not in found)


def test_a_johnson_network_starts_from_another(tiny: VGG, picture: Make, tmp_path: Path) -> None:
    one, two = (baselines.make("johnson", tiny, s, picture(32, 32)) for s in (1, 2))
    baselines.save(one, "johnson", tmp_path / "one.safetensors")
    found = baselines.start_from(two, tmp_path / "one.safetensors")
    assert set(found) == set(one.learned())
    for key, tensor in one.learned().items():
        torch.testing.assert_close(two.learned()[key], tensor, rtol=1e-3, atol=1e-3)


def test_weights_that_nothing_could_start_from(tiny: VGG, weights: Path) -> None:
    with pytest.raises(InputError, match="holds nothing that a AdaIN could start from"):
        baselines.start_from(baselines.make("adain", tiny), weights / "johnson.safetensors")


# --- paint ---


def test_transparency_is_kept(tiny: VGG, picture: Make) -> None:
    alpha = torch.zeros(1, 1, 64, 96)
    alpha[..., :48] = 1
    content = Picture(picture(64, 96), alpha)
    painted = paint(made("adain", tiny), content, [Picture(picture(50, 40, 1))], (32, 48))
    assert painted.pixels.shape == (1, 3, 32, 48)
    assert painted.alpha is not None
    assert painted.alpha[0, 0, 16].tolist() == pytest.approx([1] * 24 + [0] * 24, abs=0.3)
    opaque = paint(made("adain", tiny), Picture(picture(64, 96)), [content], (32, 48))
    assert opaque.alpha is None


def test_styles_have_as_many_pixels_as_the_result(tiny: VGG, picture: Make) -> None:
    model, asked = made("adain", tiny), []
    features = model.features
    model.features = lambda image: (asked.append(tuple(image.shape[-2:])), features(image))[1]
    paint(model, Picture(picture(64, 96)), [Picture(picture(50, 200, 1))], (64, 64))
    assert asked == [(64, 64), (32, 128)]


def test_luminance_keeps_the_contents_chroma(tiny: VGG, picture: Make) -> None:
    model, content, style = (
        made("adain", tiny),
        Picture(picture(48, 64)),
        Picture(picture(48, 48, 1)),
    )

    def luma(x: Tensor) -> Tensor:
        return 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]

    plain, kept = (
        paint(model, content, [style], (48, 64), original_colors=mode).pixels
        for mode in (None, "luminance")
    )
    torch.testing.assert_close(luma(kept), luma(plain), atol=1e-5, rtol=0)
    ours, theirs = (x - luma(x)[:, None] for x in (kept, content.pixels))
    # The content's chroma, or less of it where that would leave [0, 1].
    torch.testing.assert_close(F.cosine_similarity(ours, theirs), torch.ones(1, 48, 64))
    assert (ours.norm(dim=1) <= theirs.norm(dim=1) + 1e-5).all()


@pytest.mark.parametrize("mode", ["histogram", "covariance"])
def test_a_style_in_the_contents_colours(mode: str, tiny: VGG, picture: Make) -> None:
    model, content, style = (
        made("adain", tiny),
        Picture(picture(48, 64)),
        Picture(picture(48, 48, 1)),
    )
    found = paint(model, content, [style], (48, 64), original_colors=mode)
    expected = paint(model, content, [colors.recolour(style, content, mode)], (48, 64))
    torch.testing.assert_close(found.pixels, expected.pixels)


# --- the command ---


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for seed, name in enumerate(("content", "style")):
        write(tmp_path / f"{name}.png", make_picture(64, 96, seed))
    return tmp_path / "content.png", tmp_path / "style.png"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adain", ["--alpha", "0.5", "--original-colors", "luminance"]),
        ("multiadain", ["--level-alpha", "conv2_1:0,relu3_1:0.5"]),
        ("sanet", ["--style-weights", "2"]),
        ("johnson", ["--alpha", "0.5"]),
        ("adjustable", ["--alpha-s", "0,1,0.5"]),
    ],
)
def test_the_command_paints(
    name: str, options: list[str], files: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.png"
    given = files[:1] if baselines.MODELS[name].one_style else files
    arguments = ["baseline", name, *map(str, given), "-o", str(output), "--size", "64", *options]
    file = weights / f"{name}.safetensors"
    ran = CliRunner().invoke(cli.main, [*arguments, "--weights", str(file)])
    assert ran.exit_code == 0, ran.output
    assert (read(output).width, read(output).height) == (64, 43)


def test_weights_that_are_not_there(files: tuple[Path, Path], tmp_path: Path) -> None:
    absent = [name for name in TRANSFERS if not baselines.packaged(name).is_file()]
    if not absent:
        pytest.skip("weights of all transfer models are packaged")
    output = tmp_path / "out.png"
    arguments = ["baseline", absent[0], *map(str, files), "-o", str(output)]
    ran = CliRunner().invoke(cli.main, arguments)
    assert ran.exit_code == 2
    assert f"optistyle train {absent[0]}" in ran.output
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["adian"], "did you mean 'adain'"),
        (["adain", "--alpha", "2"], "from 0 to 1"),
        (["adain", "--alpha", "nan"], "from 0 to 1"),
        (["adain", "--level-alpha", "relu3_1:1"], "level of this model"),
        (["adain", "--level-alpha", "relu4_1"], "is not LAYER:A"),
        (["adain", "--level-alpha", "relu4_1:-1"], "from 0 to 1"),
        (["adain", "--alpha-s", "1,0,1"], "give 1 numbers (relu4_1)"),
        (
            ["adain", "--style-weights", "1,2"],
            "style weights: got 2 for 1 style image; give one for each",
        ),
        (["adain", "--original-colors", "hue"], "hue"),
        (["adain", "--size", "8"], "16 to"),
        (["adain", "--size", "24"], "32 px a side"),
        (["adain", "--weights", "none.pth"], "none.pth"),
        (["adjustable", "--alpha-s", "1,1"], "give 3 numbers (relu2_2, relu3_4, relu4_4)"),
        (["adjustable", "--alpha-s", "1,1,1", "--level-alpha", "relu2_2:1"], "no --level-alpha"),
        (["adjustable", "--alpha-s", "1,1,x"], "'relu4_4:x' is not LAYER:A"),
        (["johnson", "--alpha-s", "1"], "give 0 numbers (none)"),
        (["johnson", "--level-alpha", "relu4_1:1"], "level of this model"),
        (["microast"], "name its published files"),
    ],
)
def test_bad_input_is_one_line(
    files: tuple[Path, Path], weights: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    output = tmp_path / "out.png"
    name, *rest = options
    file = weights / f"{name}.safetensors"
    if file.is_file() and "--weights" not in rest:
        rest += ["--weights", str(file)]
    given = files[:1] if name in ("johnson", "adjustable") else files
    arguments = ["baseline", name, *map(str, given), "-o", str(output), *rest]
    refused(arguments, message, output)


def refused(arguments: list[str], message: str, output: Path) -> None:
    ran = CliRunner().invoke(cli.main, arguments)
    assert ran.exit_code == 2, ran.output
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not ran.stdout
    assert not output.exists()


def test_pictures_and_weights_that_do_not_go_together(
    files: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    content, style = map(str, files)
    output = tmp_path / "out.png"
    write(tmp_path / "small.png", make_picture(20, 96))
    small = str(tmp_path / "small.png")

    def refuse(name: str, images: list[str], file: Path | None, message: str) -> None:
        chosen = [] if file is None else ["--weights", str(file)]
        refused(["baseline", name, *images, "-o", str(output), *chosen], message, output)

    adain_file, johnson_file = (weights / f"{x}.safetensors" for x in ("adain", "johnson"))
    refuse("adain", [content], adain_file, "one or more STYLE")
    refuse("adain", [], adain_file, "one or more STYLE")
    refuse("johnson", [content, style], johnson_file, "one style, its own")
    refuse("multiadain", [content, style], adain_file, "holds adain, not multiadain")
    refuse("adain", [content, style], johnson_file, "holds johnson, not adain")
    refuse("adjustable", [content], johnson_file, "holds johnson, not adjustable")
    refuse("adain", [content, str(tmp_path / "none.png")], adain_file, "none.png")
    refuse("adain", [content, style], tmp_path / "content.png", "not a file of weights")
    arguments = ["baseline", "adain", content, small, "-o", str(output), "--size", "48"]
    refused([*arguments, "--weights", str(adain_file)], "32 px a side", output)
    source = files[0].read_bytes()
    arguments = ["baseline", "adain", content, style, "-o", content, "--weights", str(adain_file)]
    assert CliRunner().invoke(cli.main, arguments).exit_code == 2
    assert files[0].read_bytes() == source


def test_models_are_listed() -> None:
    ran = CliRunner().invoke(cli.main, ["baseline", "list"])
    assert ran.exit_code == 0
    for name, entry in baselines.MODELS.items():
        assert f"{name}: {entry.source}" in ran.output


# --- warm starts ---


def test_warm_starts_are_models() -> None:
    assert set(WARM_STARTS) <= set(baselines.MODELS)
    assert not any(baselines.MODELS[name].one_style for name in WARM_STARTS)


@pytest.mark.parametrize("name", WARM_STARTS)
def test_a_run_starts_from_a_painted_picture(
    name: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    if not baselines.packaged(name).is_file():
        pytest.skip(f"no weights of {name} are packaged")
    outputs = []
    for init in (name, "content"):
        output = tmp_path / f"from-{init}.png"
        arguments = ["run", *map(str, files), "-o", str(output), "--init", init, "--size", "64"]
        arguments += ["--encoder", "slim", "--iterations", "1", "--device", "cpu"]
        ran = CliRunner().invoke(cli.main, arguments)
        assert ran.exit_code == 0, ran.output
        outputs.append(read(output).pixels)
    assert (outputs[0] - outputs[1]).abs().mean() > 0.01


def test_johnsons_keys_are_those_of_its_network(tiny: VGG, picture: Make) -> None:
    model = baselines.make("johnson", tiny, painting=picture(32, 32))
    assert set(model.learned()) == set(johnson.initial_tensors(16, None))
