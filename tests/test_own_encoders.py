"""Encoders of the user's own: modules, files of VGG-16, and what is refused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from conftest import make_picture, make_tiny
from torch import Tensor, nn

import optistyle
from optistyle import Picture, Recipe, encoders, files
from optistyle.encoders import formats, modules, procedural, weights
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.layers import CHANNELS, RELUS, relus
from optistyle.losses import Content, GramStyle
from optistyle.optimise.objective import Objective

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random weights and biases; half of the filters fire."""
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            size = (2 / (9 * part.in_channels)) ** 0.5
            part.weight.data.normal_(0, size, generator=generator)
            if part.bias is not None:
                part.bias.data.uniform_(-0.1, 0.1, generator=generator)
    return network.eval()


def theirs(name: str) -> nn.Module:
    """torchvision's network without its classifier, which is most of its weights."""
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None, init_weights=False)
    network.classifier = nn.Identity()
    return seeded(network.to_empty(device="cpu"))


def narrow(*widths: int) -> nn.Sequential:
    """A block of two convolutions for each width."""
    parts: list[nn.Module] = []
    source = 3
    for width in widths:
        for _ in range(2):
            parts += [nn.Conv2d(source, width, 3, padding=1), nn.ReLU(inplace=True)]
            source = width
        parts.append(nn.MaxPool2d(2))
    return seeded(nn.Sequential(*parts))


@torch.no_grad()
def rectified(network: nn.Sequential, x: Tensor) -> dict[str, Tensor]:
    """The output of every ReLU, named by its place between the poolings."""
    found, block, index = {}, 1, 0
    for part in network:
        x = part(x)
        if isinstance(part, nn.ReLU):
            index += 1
            found[f"relu{block}_{index}"] = x.clone()
        elif isinstance(part, nn.MaxPool2d):
            block, index = block + 1, 0
    return found


def plain(found: formats.Weights) -> VGG:
    """As the network was trained, not normalised."""
    return VGG(found.convolutions, mean=found.mean, pooling="max", padding="zeros")


def equal(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(ours) == set(expected)
    for layer, feature in expected.items():
        scale = float(feature.abs().max())
        torch.testing.assert_close(ours[layer], feature, rtol=1e-4, atol=1e-5 * scale)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, and few, small pictures to calibrate on."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(files.platformdirs, "user_cache_dir", lambda *_: str(folder))
    few = [make_picture(32, 32, seed) for seed in range(2)]
    monkeypatch.setattr(encoders, "calibration_images", lambda: few)
    return folder


# --- torchvision's networks ---


@pytest.mark.parametrize("name", BLOCKS)
def test_modules_have_torchvisions_features(name: str) -> None:
    network, image = theirs(name), make_picture(64, 48)
    found = modules.read(network)
    assert found.name == f"{name}-module"
    encoder = plain(found)
    assert (encoder.blocks, encoder.layers) == (BLOCKS[name], relus(BLOCKS[name]))
    standardised = torchvision.transforms.functional.normalize(image, MEAN, STD)
    equal(encoder(image, encoder.layers), rectified(network.features, standardised))
    assert all(encoder.channels(layer) == CHANNELS[layer] for layer in encoder.taps)


def test_the_deepest_layer_of_vgg16() -> None:
    encoder = plain(modules.read(theirs("vgg16")))
    assert encoder.layers[-1] == "relu5_3"
    assert encoder.taps[-1] == "pool5"
    with pytest.raises(InputError, match="unknown layer of encoder vgg 'relu3_4'"):
        encoder(make_picture(32, 32), ["relu3_4"])


@pytest.mark.parametrize("prefix", ["features.", ""])
@pytest.mark.parametrize("name", BLOCKS)
def test_files_are_told_apart_by_their_shapes(name: str, prefix: str, tmp_path: Path) -> None:
    network, image = theirs(name), make_picture(32, 32)
    state = {f"{prefix}{key}": x for key, x in network.features.state_dict().items()}
    torch.save(state, tmp_path / "weights.pth")
    found = formats.recognise(*weights.load_tensors(tmp_path / "weights.pth"), "weights.pth")
    assert found.name == f"{name}-torchvision"
    by_module = plain(modules.read(network))
    equal(plain(found)(image, by_module.layers), by_module(image, by_module.layers))


def test_a_file_of_vgg16_is_loaded(tmp_path: Path) -> None:
    torch.save(theirs("vgg16").state_dict(), tmp_path / "vgg16.pth")
    encoder = optistyle.load_encoder(file=tmp_path / "vgg16.pth", kernels="torch")
    assert (encoder.name, encoder.layers[-1]) == ("vgg16-torchvision", "relu5_3")


def test_a_hole_in_vgg16_is_named() -> None:
    state = {f"features.{k}": x for k, x in theirs("vgg16").features.state_dict().items()}
    del state["features.12.weight"]
    with pytest.raises(InputError, match=r"'features\.12\.weight' is missing"):
        formats.recognise(state, {}, "vgg16.pth")


# --- the user's own ---


def test_any_sequential_of_blocks_is_read() -> None:
    network, image = narrow(6, 8, 10), make_picture(40, 32)
    found = modules.read(network, mean=(0, 0, 0), std=(1, 1, 1))
    encoder = plain(found)
    assert found.name == "vgg-module"
    assert encoder.layers == ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2")
    assert encoder.taps == encoder.layers
    equal(encoder(image, encoder.layers), rectified(network, image))


def test_mean_and_deviation_are_the_modules_own() -> None:
    network, image = narrow(6), make_picture(16, 16)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    encoder = plain(modules.read(network, mean, std))
    standardised = torchvision.transforms.functional.normalize(image, mean, std)
    equal(encoder(image, encoder.layers), rectified(network, standardised))


def test_layers_may_have_names() -> None:
    """As in the VGG of Gatys's program, whose rectifiers are functions."""
    network = narrow(6, 8)
    convolutions = [part for part in network if isinstance(part, nn.Conv2d)]
    names = ("conv1_1", "conv1_2", "conv2_1", "conv2_2")
    named = nn.Module()
    for name, part in reversed(list(zip(names, convolutions, strict=True))):
        named.add_module(name, part)
    ours, expected = (plain(modules.read(x)) for x in (named, network))
    image = make_picture(16, 16)
    equal(ours(image, ours.layers), expected(image, expected.layers))


def test_nested_parts_shared_rectifiers_and_no_bias() -> None:
    relu = nn.ReLU()
    first = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 4, 3, bias=False), relu)
    second = nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), relu, nn.Dropout())
    network = seeded(nn.Sequential(OrderedDict(a=first, b=nn.AvgPool2d(2), c=second)))
    network.append(nn.Flatten()).append(nn.Linear(5, 2))
    found = modules.read(network)
    assert {name: tuple(x.shape) for name, x in found.convolutions.items()} == {
        "conv1_1.weight": (4, 3, 3, 3),
        "conv1_1.bias": (4,),
        "conv2_1.weight": (5, 4, 3, 3),
        "conv2_1.bias": (5,),
    }


def test_the_module_is_left_as_it_was() -> None:
    network = narrow(6)
    before = {key: x.clone() for key, x in network.state_dict().items()}
    encoder = optistyle.load_encoder(network)
    network[0].weight.data.zero_()
    assert encoder.convolutions()["conv1_1.weight"].abs().sum() > 0
    network.load_state_dict(before)
    assert all(x.requires_grad for x in network.parameters())


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_modules_are_mean_normalised_and_remembered(
    pooling: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = optistyle.load_encoder(narrow(6, 8), pooling=pooling, padding="zeros")
    assert (encoder.pooling, encoder.padding) == (pooling, "zeros")
    (known,) = cache.iterdir()
    features = [encoder(image, ["relu2_1"])["relu2_1"] for image in encoders.calibration_images()]
    means = torch.cat(features).mean((0, 2, 3))
    assert float(means.median()) == pytest.approx(1, rel=1e-4)
    monkeypatch.setattr(encoders, "mean_activations", lambda *_: pytest.fail("measured again"))
    again = optistyle.load_encoder(narrow(6, 8), pooling=pooling, padding="zeros")
    assert again.digest() == encoder.digest()
    monkeypatch.undo()
    assert list(cache.iterdir()) == [known]


def test_tiles_see_what_the_whole_has_with_vgg16s_layers() -> None:
    """Blocks of three convolutions reach less far than VGG-19's of four."""
    parts: list[nn.Module] = []
    source = 3
    for count in BLOCKS["vgg16"]:
        for _ in range(count):
            parts += [nn.Conv2d(source, 8, 3, padding=1), nn.ReLU()]
            source = 8
        parts.append(nn.MaxPool2d(2))
    encoder = optistyle.load_encoder(seeded(nn.Sequential(*parts)))
    assert encoder.name == "vgg16-module"
    assert encoder.reach(["relu5_1"]) == 2 + 2 * 2 + 3 * 4 + 3 * 8 + 16
    content, style = make_picture(272, 112), make_picture(64, 64, 1)
    layers = {"relu3_3": 1.0, "relu5_1": 1.0}
    terms = {"content": (1.0, Content(layers)), "style": (1e3, GramStyle(layers))}
    whole, tiled = (
        Objective.build(encoder, terms, (content, None), [(style, None)], [1.0], tile=tile)
        for tile in (None, 64)
    )
    assert (len(whole.tiles), len(tiled.tiles)) == (1, 3)
    image = make_picture(272, 112, 2)
    (losses, gradient), (by_tile, slope) = (x.gradient(image) for x in (whole, tiled))
    assert by_tile == pytest.approx(losses, rel=1e-4)
    assert (gradient - slope).norm() < 1e-4 * gradient.norm()


def test_a_run_paints_with_it_and_names_it() -> None:
    network = narrow(8, 8, 8, 8)
    encoder = optistyle.load_encoder(network, pooling="max")
    recipe = Recipe(
        size=32,
        scales=(32,),
        iterations=(2,),
        content_layers={"relu3_1": 1.0},
        style_layers={"relu1_1": 1.0, "relu2_2": 1.0},
        attention_layers={"relu3_1": 1.0},
    )
    content, style = make_picture(32, 32), make_picture(32, 32, 1)
    result = optistyle.stylize(content, style, recipe, encoder=encoder)
    assert result.manifest()["encoder"] == "vgg-module"
    assert result.final["total"] < result.first["total"]


# --- what an encoder says of itself ---


def test_vgg_meets_the_protocol(tiny: VGG) -> None:
    encoder: encoders.Encoder = tiny
    encoders.check(encoder)
    assert encoder.halvings("relu3_1") == 2
    assert encoder.halvings("pool5") == 5
    assert encoder.halvings("image") == 0
    assert encoder.reach(["relu1_2"]) == 2
    assert encoder.workspace(encoder.taps) == (0, 0.0)
    assert encoder.settings()["pooling"] == "average"


def test_digests_tell_weights_apart(tiny: VGG) -> None:
    same = VGG(tiny.convolutions(), mean=tiny.mean)
    other = VGG(tiny.convolutions(), mean=tiny.mean + 0.1)
    assert tiny.digest() == same.digest() != other.digest()


# --- bad input ---


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (lambda: 3, "got a int; give one of"),
        (lambda: None, "got a NoneType; give one of"),
        (lambda: nn.Linear(3, 3), "the order of layers in a Linear is not known"),
        (lambda: nn.Sequential(), "a Sequential without 3x3 convolutions"),
        (lambda: nn.Sequential(nn.Linear(3, 3)), "a Sequential without 3x3 convolutions"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 5)), r"layer '0' has kernel_size \(5, 5\)"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2)), r"has stride \(2, 2\)"),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3)), "conv1_1 takes 1 channels and is given 3"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
            "layer '1' is a BatchNorm2d; allowed: 3x3",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)),
            "no ReLU follows layer '0'",
        ),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(3)), "pools 3 px"),
        (
            lambda: nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU()),
            "in order from conv1_1 without gaps",
        ),
        (lambda: torchvision.models.resnet18(weights=None), "layers in a ResNet is not known"),
        (make_tiny, "encoder tiny is loaded already"),
    ],
)
def test_what_is_no_vgg_is_refused(given: Callable[[], object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as error:
        optistyle.load_encoder(given())  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"mean": (0, 0)}, "mean: got .*three numbers"),
        ({"mean": "red"}, "mean: got 'red'; give three numbers"),
        ({"std": (1, float("nan"), 1)}, "std: got .*three numbers"),
        ({"std": (1, 0, 1)}, "three numbers above 0"),
        ({"file": "weights.pth"}, "got a network and the file weights.pth"),
    ],
)
def test_bad_options_of_modules(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        optistyle.load_encoder(narrow(4), **options)  # type: ignore[arg-type]


def test_a_named_encoder_has_its_own_mean() -> None:
    with pytest.raises(InputError, match=r"belong to a torch\.nn\.Module"):
        optistyle.load_encoder("slim", mean=MEAN)


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (Picture(make_picture(16, 16)), r"got a Picture; .*this Picture's \.pixels"),
        ("photo.jpg", "got a str; give a float tensor"),
        (torch.zeros(3, 16, 16), r"got torch\.float32 of shape \(3, 16, 16\)"),
        (torch.zeros(1, 4, 16, 16), r"of shape \(1, 4, 16, 16\)"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), r"got torch\.uint8"),
    ],
)
def test_what_is_no_image_is_refused(image: object, complaint: str, tiny: VGG) -> None:
    with pytest.raises(InputError, match=complaint) as error:
        tiny(image, ["relu1_1"])
    assert "\n" not in str(error.value)


def test_one_layer_may_stand_alone(tiny: VGG) -> None:
    assert set(tiny(make_picture(16, 16), "relu1_1")) == {"relu1_1"}


@pytest.mark.parametrize("thing", [object(), nn.Identity(), "slim"])
def test_what_is_no_encoder_is_refused(thing: object) -> None:
    with pytest.raises(InputError, match=r"has no .*device.*give what optistyle\.load_encoder"):
        encoders.check(thing)


def test_calibration_is_the_packaged_one() -> None:
    """The fixture above replaces it for speed; this is what it replaces."""
    first = next(procedural.calibration_images())
    assert first.shape == (1, 3, 256, 256)


def test_vgg19_is_the_longest() -> None:
    assert relus(BLOCKS["vgg19"]) == RELUS
