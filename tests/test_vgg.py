"""The encoder against torchvision's VGG-19, its options, and mean normalisation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from conftest import make_picture, make_tiny, random_convolutions
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from optistyle.encoders import formats
from optistyle.encoders.vgg import (
    POOLINGS,
    RAREST,
    VGG,
    _Reflected,
    forward_differences,
    mean_activations,
    normalise,
)
from optistyle.errors import InputError
from optistyle.layers import DIFFERENCES, IMAGE, RELUS
from optistyle.statistics import pointwise

Picture = Callable[..., Tensor]


@pytest.fixture(scope="module")
def theirs() -> nn.Sequential:
    """torchvision's VGG-19 ``features`` with random weights and biases."""
    generator = torch.Generator().manual_seed(0)
    convolutions = torchvision.models.vgg19(weights=None, init_weights=False).features.eval()
    for module in convolutions:
        if isinstance(module, nn.Conv2d):
            size = (2 / (9 * module.in_channels)) ** 0.5
            module.weight.data.normal_(0, size, generator=generator)
            module.bias.data.uniform_(-0.1, 0.1, generator=generator)
    return convolutions


@torch.no_grad()
def rectified(network: nn.Sequential, x: Tensor) -> dict[str, Tensor]:
    """The output of every ReLU, by name; cloned, because the next may work in place."""
    taps: list[Tensor] = []
    for module in network:
        x = module(x)
        if isinstance(module, nn.ReLU):
            taps.append(x.clone())
    return dict(zip(RELUS, taps, strict=True))


def test_every_layer_equals_torchvision(theirs: nn.Sequential, picture: Picture) -> None:
    state = {f"features.{key}": value for key, value in theirs.state_dict().items()}
    found = formats.recognise(state, {}, "vgg19.pth")
    ours = VGG(found.convolutions, mean=found.mean, pooling="max", padding="zeros")
    image = picture(64, 48)
    standardised = torchvision.transforms.functional.normalize(
        image, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    expected = rectified(theirs, standardised)
    features = ours(image, RELUS)
    assert set(features) == set(RELUS)
    for layer, feature in features.items():
        assert feature.dtype == torch.float32
        scale = float(expected[layer].abs().max())
        torch.testing.assert_close(feature, expected[layer], rtol=1e-4, atol=1e-5 * scale)


def test_stops_at_the_deepest_layer(
    tiny: VGG, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    convolve = VGG.convolve
    monkeypatch.setattr(
        VGG, "convolve", lambda self, x, name: (done.append(name), convolve(self, x, name))[1]
    )
    features = tiny(picture(32, 32), ["relu2_1", "relu1_2"])
    assert set(features) == {"relu1_2", "relu2_1"}
    assert done == ["relu1_1", "relu1_2", "relu2_1"]
    done.clear()
    assert set(tiny(picture(32, 32), [IMAGE, DIFFERENCES])) == {IMAGE, DIFFERENCES}
    assert done == []


def test_later_layers_do_not_change_earlier_ones(tiny: VGG, picture: Picture) -> None:
    image = picture(32, 32)
    alone = tiny(image, ["relu1_1"])["relu1_1"]
    assert torch.equal(tiny(image, tiny.layers)["relu1_1"], alone)


def test_frozen(tiny: VGG, picture: Picture) -> None:
    assert not list(tiny.parameters())
    assert not any(buffer.requires_grad for buffer in tiny.buffers())
    image = picture(32, 32).requires_grad_()
    tiny(image, ["relu5_1"])["relu5_1"].sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


def test_its_weights_are_its_own() -> None:
    convolutions = random_convolutions()
    encoder = VGG(convolutions, mean=torch.zeros(3))
    convolutions["conv1_1.weight"].zero_()
    assert encoder.convolutions()["conv1_1.weight"].abs().sum() > 0


def test_names_shapes_and_channels(tiny: VGG, picture: Picture) -> None:
    assert tiny.layers == RELUS[:13]
    features = tiny(picture(67, 45), {*tiny.layers, IMAGE, DIFFERENCES})
    shapes = {layer: tuple(feature.shape) for layer, feature in features.items()}
    assert shapes[IMAGE] == (1, 3, 67, 45)
    assert shapes[DIFFERENCES] == (1, 6, 67, 45)
    assert shapes["relu1_1"] == (1, 6, 67, 45)
    assert shapes["relu2_2"] == (1, 8, 33, 22)
    assert shapes["relu5_1"] == (1, 16, 4, 2)
    assert all(tiny.channels(layer) == shape[1] for layer, shape in shapes.items())


def test_bfloat16_is_close(tiny: VGG, picture: Picture) -> None:
    coarse = VGG(tiny.convolutions(), mean=tiny.mean, precision="bfloat16")
    image = picture(64, 64)
    features = coarse(image, tiny.layers)
    for layer, exact in tiny(image, tiny.layers).items():
        assert features[layer].dtype == torch.float32
        error = float((features[layer] - exact).norm() / exact.norm())
        assert 1e-5 < error < 0.03, layer


def test_float64_stays_float64(tiny: VGG, picture: Picture) -> None:
    image = picture(32, 32)
    features = tiny(image, tiny.layers)
    for layer, exact in tiny.double()(image.double(), tiny.layers).items():
        assert exact.dtype == torch.float64
        torch.testing.assert_close(features[layer].double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("pooling", "expected"), [("average", 2.5), ("max", 4.0), ("l2", 30**0.5)])
def test_pooling(pooling: str, expected: float) -> None:
    x = torch.tensor([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]]).view(1, 1, 2, 3)
    pooled = POOLINGS[pooling](x)
    assert pooled.shape == (1, 1, 1, 1)  # the odd last column is left out
    assert float(pooled) == pytest.approx(expected)


def test_gradient_through_l2_pooling_of_zeros() -> None:
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    POOLINGS["l2"](x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_lies_between_blocks(pooling: str, picture: Picture) -> None:
    encoder, image = make_tiny(pooling=pooling), picture(16, 16)
    weights, features = encoder.convolutions(), encoder(image, ["relu1_2", "relu2_1"])
    x = F.pad(POOLINGS[pooling](features["relu1_2"]), (1, 1, 1, 1), mode="reflect")
    expected = F.relu(F.conv2d(x, weights["conv2_1.weight"], weights["conv2_1.bias"]))
    torch.testing.assert_close(features["relu2_1"], expected)


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (5, 3), (8, 7)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_reflection_for_gpus(
    size: tuple[int, int], layout: torch.memory_format, generator: torch.Generator
) -> None:
    """As torch's, and channels last both ways."""
    image = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    image = image.contiguous(memory_format=layout).requires_grad_()
    expected = F.pad(image, (1, 1, 1, 1), mode="reflect")
    slope = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    padded = _Reflected.apply(image)
    assert torch.equal(padded, expected)
    assert padded.is_contiguous(memory_format=torch.channels_last)
    ours, theirs = (torch.autograd.grad(x, image, slope)[0] for x in (padded, expected))
    torch.testing.assert_close(ours, theirs)
    assert ours.stride(1) == 1


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_a_gpus_convolutions_meet_channels_last(
    padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second on: the first takes three channels. By torch's rules of shapes and strides,
    which need no GPU."""
    met: list[bool] = []
    convolve = F.conv2d

    def conv2d(x: Tensor, *rest: Tensor) -> Tensor:
        assert x.is_cuda
        met.append(x.is_contiguous(memory_format=torch.channels_last))
        return convolve(x, *rest)

    monkeypatch.setattr("optistyle.encoders.vgg.F.conv2d", conv2d)
    with FakeTensorMode():
        convolutions = {
            name: torch.empty(x.shape, device="cuda") for name, x in random_convolutions().items()
        }
        encoder = VGG(convolutions, mean=torch.zeros(3, device="cuda"), padding=padding)
        features = encoder(torch.empty(1, 3, 64, 48, device="cuda"), encoder.layers)
        for feature in features.values():
            assert feature.is_contiguous(memory_format=torch.channels_last)
            slopes = pointwise(feature, feature.new_empty(2 * [feature.shape[1]]))
            assert slopes.is_contiguous(memory_format=torch.channels_last)
    assert len(met) == len(encoder.layers)
    assert all(met[1:])


def test_zero_padding_pads_with_the_mean() -> None:
    encoder = make_tiny(padding="zeros")
    flat = encoder.mean.expand(1, 3, 8, 8).clone()
    feature = encoder(flat, ["relu1_1"])["relu1_1"]
    torch.testing.assert_close(feature, feature[..., 4:5, 4:5].expand_as(feature))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"pooling": "averge"}, "unknown pooling 'averge'; did you mean 'average'"),
        ({"padding": "zero"}, "unknown padding 'zero'; did you mean 'zeros'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
    ],
)
def test_unknown_options(options: dict[str, str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        make_tiny(**options)


def test_layers_must_be_in_order() -> None:
    convolutions = random_convolutions()
    del convolutions["conv2_1.weight"]
    with pytest.raises(InputError, match="in order from conv1_1"):
        VGG(convolutions, mean=torch.zeros(3))


def test_unknown_layer(tiny: VGG, picture: Picture) -> None:
    with pytest.raises(InputError, match=r"unknown layer of encoder tiny 'relu5_4'"):
        tiny(picture(32, 32), ["relu1_1", "relu5_4"])


@pytest.mark.parametrize(("layer", "least"), [("relu2_1", 2), ("relu3_1", 4), ("relu5_1", 16)])
def test_too_small_image(tiny: VGG, picture: Picture, layer: str, least: int) -> None:
    assert tiny(picture(least, least + 7), [layer])[layer].isfinite().all()
    with pytest.raises(InputError, match=f"too small for {layer}.*at least {least} px"):
        tiny(picture(least - 1, least + 7), [layer])


def test_forward_differences() -> None:
    image = torch.tensor([[1.0, 2.0, 4.0], [0.0, 5.0, 5.0]]).view(1, 1, 2, 3)
    across, down = forward_differences(image)[0]
    assert across.tolist() == [[1, 2, 0], [5, 0, 0]]
    assert down.tolist() == [[-1, 3, 1], [0, 0, 0]]


def test_mean_activations_over_images_and_positions() -> None:
    encoder = make_tiny()
    images = [make_picture(32, 32), make_picture(48, 32, 1)]
    features = [encoder(image, ["relu3_2"])["relu3_2"].double().flatten(2) for image in images]
    expected = torch.cat(features, dim=2).mean((0, 2))
    torch.testing.assert_close(mean_activations(encoder, images)["relu3_2"], expected)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_normalised_means_are_one(pooling: str) -> None:
    images = [make_picture(64, 64, seed) for seed in range(4)]
    encoder = make_tiny(pooling=pooling)
    means = mean_activations(encoder, images)
    for layer, mean in mean_activations(normalise(encoder, means), images).items():
        often = means[layer] >= RAREST * means[layer].median()
        torch.testing.assert_close(mean[often], torch.ones_like(mean[often]), rtol=1e-4, atol=0)
        assert (mean[~often] < 1).all()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_normalisation_only_scales_channels(pooling: str, padding: str, picture: Picture) -> None:
    encoder = make_tiny(pooling=pooling, padding=padding)
    means = mean_activations(encoder, [picture(64, 64, seed) for seed in range(4)])
    image = picture(64, 48, seed=9)  # not the one that was measured
    features = normalise(encoder, means)(image, encoder.layers)
    for layer, raw in encoder(image, encoder.layers).items():
        factor = means[layer].clamp_min(RAREST * means[layer].median())
        expected = raw / factor.float().view(1, -1, 1, 1)
        torch.testing.assert_close(features[layer], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dead", [2, 5])
def test_rare_filters_are_held_to_the_median(dead: int, picture: Picture) -> None:
    """Of the filters that fire: dead ones may be the majority of a layer's six."""
    encoder = make_tiny()
    means = mean_activations(encoder, [picture(64, 64)])
    means["relu1_2"][:dead] = torch.tensor([0.0, 1e-9, 0.0, 0.0, 0.0])[:dead].double()
    normalised = normalise(encoder, means)
    given, scaled = (e.convolutions()["conv1_2.bias"] for e in (encoder, normalised))
    firing = means["relu1_2"][means["relu1_2"] > 0]
    expected = means["relu1_2"].clamp_min(RAREST * firing.median())
    torch.testing.assert_close(given / scaled, expected.float())
    assert all(x.isfinite().all() for x in normalised.convolutions().values())


def test_a_layer_that_never_fires(picture: Picture) -> None:
    encoder = make_tiny()
    means = mean_activations(encoder, [picture(64, 64)])
    means["relu1_1"].zero_()
    weights = normalise(encoder, means).convolutions()
    assert all(weight.isfinite().all() for weight in weights.values())


def test_pool5_is_the_last_layer_of_block_5_halved(tiny: VGG, picture: Picture) -> None:
    image = picture(64, 96)
    features = tiny(image, {"relu5_1", "pool5"})
    torch.testing.assert_close(features["pool5"], F.avg_pool2d(features["relu5_1"], 2))
    assert features["pool5"].shape[-2:] == (2, 3)
    assert tiny.channels("pool5") == tiny.channels("relu5_1")
    shallow = VGG(random_convolutions(deepest="relu4_4"), mean=tiny.mean)
    with pytest.raises(InputError, match="pool5"):
        shallow(image, {"pool5"})
    with pytest.raises(InputError, match="at least 32 px"):
        tiny(picture(16, 64), {"pool5"})


def test_a_separable_convolution_is_its_product(picture: Picture) -> None:
    """A depthwise 3x3 and a 1x1 convolution are a 3x3 one of rank 1 per pair of channels."""
    plain = random_convolutions(deepest="relu2_2")
    narrow = {k: x for k, x in plain.items() if k != "conv2_2.weight"}
    generator = torch.Generator().manual_seed(1)
    width, source = plain["conv2_2.weight"].shape[:2]
    narrow["conv2_2.depthwise"] = torch.randn(source, 1, 3, 3, generator=generator)
    narrow["conv2_2.weight"] = torch.randn(width, source, 1, 1, generator=generator)
    plain["conv2_2.weight"] = narrow["conv2_2.weight"] * narrow["conv2_2.depthwise"].squeeze(1)
    image = picture(24, 32)
    for padding in ("reflect", "zeros"):
        ours, theirs = (VGG(x, mean=torch.zeros(3), padding=padding) for x in (narrow, plain))
        layer = "relu2_2"
        torch.testing.assert_close(ours(image, {layer})[layer], theirs(image, {layer})[layer])
    means = mean_activations(ours, [image])
    again = mean_activations(normalise(ours, means), [image])
    assert again["relu2_2"].amax() == pytest.approx(1, abs=1e-4)
    assert set(ours.convolutions()) == set(narrow)
