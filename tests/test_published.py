"""Published checkpoints: read unchanged, every tensor in its place, every fault named."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import make_picture, random_convolutions
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle import baselines, cli
from optistyle.baselines import johnson
from optistyle.baselines.base import Baseline
from optistyle.baselines.codec import CONVOLUTIONS, Transfer
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.pictures import read, write

Make = Callable[..., Tensor]
Tensors = dict[str, Tensor]
SHARED = Path(__file__).parents[2] / "shared" / "weights"

#: Model -> its published files.
FILES = {
    "adain": ("decoder.pth", "vgg_normalised.pth"),
    "sanet": ("decoder_iter_500000.pth", "transformer_iter_500000.pth", "vgg_normalised.pth"),
    "adaattn": (
        "latest_net_adaattn_3.pth",
        "latest_net_transformer.pth",
        "latest_net_decoder.pth",
        "vgg_normalised.pth",
    ),
    "microast": tuple(
        f"{part}_iter_160000.pth.tar"
        for part in ("content_encoder", "style_encoder", "modulator", "decoder")
    ),
}


# --- what the published files hold, made of random numbers ---

Shapes = dict[str, tuple[int, ...]]


def convolutions(shapes: Shapes, seed: int) -> Tensors:
    """Weights and biases of convolutions, NAME -> (out, in, side, side)."""
    generator, found = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        inputs = shape[1] * shape[2] * shape[3]
        weight = torch.randn(shape, generator=generator)
        found[f"{name}.weight"] = weight.mul_(inputs**-0.5)
        found[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return found


def vgg_normalised() -> Tensors:
    """Convolutions of pytorch-AdaIN's vgg, a Sequential: conv1_1 to conv5_4."""
    numbers = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
    ours = random_convolutions((64, 128, 256, 512, 512), "relu5_4", seed=1)
    found = {
        "0.weight": torch.tensor([[0.0, 0.1, 2.0], [0.0, 1.9, 0.0], [2.1, 0.0, 0.2]]),
        "0.bias": torch.tensor([-0.9, -1.0, -1.1]),
    }
    found["0.weight"] = found["0.weight"][..., None, None]
    values = list(ours.values())
    for number, weight, bias in zip(numbers, values[::2], values[1::2], strict=True):
        found |= {f"{number}.weight": weight, f"{number}.bias": bias}
    return found


WIDTHS = (512, 256, 256, 256, 256, 128, 128, 64, 64, 3)


def decoder(names: tuple[str, ...], joined: int = 0) -> Tensors:
    """Of pytorch-AdaIN, SANet and AdaAttN; ``joined``: more inputs of the second convolution."""
    shapes = {
        name: (out, source + joined * (i == 1), 3, 3)
        for i, (name, (source, out)) in enumerate(zip(names, pairwise(WIDTHS), strict=True))
    }
    return convolutions(shapes, seed=2)


SEQUENTIAL = ("1", "5", "8", "11", "14", "18", "21", "25", "28")
SPLIT = ("decoder_layer_1.1", *(f"decoder_layer_2.{i}" for i in (1, 4, 7, 10, 14, 17, 21, 24)))
MICROAST_ENCODER: Shapes = {
    "enc1.0.conv_layer": (16, 3, 9, 9),
    "enc1.2.conv_layer": (32, 1, 3, 3),
    "enc1.4.conv_layer": (32, 32, 1, 1),
    "enc1.6.conv_layer": (64, 1, 3, 3),
    "enc1.8.conv_layer": (64, 64, 1, 1),
    "enc1.10.conv1.conv_layer": (64, 64, 3, 3),
    "enc1.10.conv2.conv_layer": (64, 64, 3, 3),
    "enc2.0.conv1.conv_layer": (64, 64, 3, 3),
    "enc2.0.conv2.conv_layer": (64, 64, 3, 3),
}
MICROAST_DECODER: Shapes = {
    **{f"dec{i}.conv{j}.conv_layer": (64, 64, 3, 3) for i in (1, 2) for j in (1, 2)},
    "dec3.1.conv_layer": (32, 2, 3, 3),
    "dec3.3.conv_layer": (32, 32, 1, 1),
    "dec3.6.conv_layer": (16, 2, 3, 3),
    "dec3.8.conv_layer": (16, 16, 1, 1),
    "dec3.10.conv_layer": (3, 16, 9, 9),
}
MODULATOR: Shapes = {
    f"{kind}{level}.0.conv_layer": (64, 1, 3, 3) for level in (1, 2) for kind in ("weight", "bias")
}


def sanet_transformer() -> Tensors:
    shapes: Shapes = {
        f"sanet{layer}.{part}": (512, 512, 1, 1)
        for layer in ("4_1", "5_1")
        for part in ("f", "g", "h", "out_conv")
    }
    return convolutions({**shapes, "merge_conv": (512, 512, 3, 3)}, seed=3)


def adaattn_transformer() -> Tensors:
    shapes: Shapes = {"merge_conv": (512, 512, 3, 3)}
    for layer, keys in (("4_1", 960), ("5_1", 1472)):
        shapes |= {f"attn_adain_{layer}.{part}": (keys, keys, 1, 1) for part in "fg"}
        shapes[f"attn_adain_{layer}.h"] = (512, 512, 1, 1)
    return convolutions(shapes, seed=4)


def microast_decoder() -> Tensors:
    tensors = convolutions(MICROAST_DECODER, seed=8)
    tensors["dec3.10.conv_layer.bias"] = torch.full((3,), 0.5)  # little is to be cut off
    return tensors


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for every model of `FILES`."""
    root = tmp_path_factory.mktemp("published")
    three: Shapes = {"f": (448, 448, 1, 1), "g": (448, 448, 1, 1), "h": (256, 256, 1, 1)}
    content, style, modulator, last = FILES["microast"]
    made: Mapping[str, Mapping[str, Tensors]] = {
        "adain": {FILES["adain"][0]: decoder(SEQUENTIAL), "vgg_normalised.pth": vgg_normalised()},
        "sanet": {
            FILES["sanet"][0]: decoder(SEQUENTIAL),
            FILES["sanet"][1]: sanet_transformer(),
        },
        "adaattn": {
            FILES["adaattn"][0]: convolutions(three, seed=5),
            FILES["adaattn"][1]: adaattn_transformer(),
            FILES["adaattn"][2]: decoder(SPLIT, joined=256),
        },
        "microast": {
            content: convolutions(MICROAST_ENCODER, seed=6),
            style: convolutions(MICROAST_ENCODER, seed=7),
            modulator: convolutions(MODULATOR, seed=9),
            last: microast_decoder(),
        },
    }
    for name, files in made.items():
        (root / name).mkdir()
        for file, tensors in files.items():
            torch.save(tensors, root / name / file)
        if name in ("sanet", "adaattn"):
            os.link(root / "adain" / "vgg_normalised.pth", root / name / "vgg_normalised.pth")
    return root


def tensors_of(path: Path) -> Tensors:
    found: Tensors = torch.load(path, weights_only=True)
    return found


def transfer(name: str, published: Path) -> Transfer:
    model = baselines.load(name, files=[published / name])
    assert isinstance(model, Transfer)
    return model


# --- every tensor in its place ---


@pytest.mark.parametrize("name", FILES)
def test_files_in_any_order_or_their_folder(name: str, published: Path, tmp_path: Path) -> None:
    files = [published / name / file for file in FILES[name]]
    one, two = (baselines.load(name, files=given) for given in (files[::-1], [published / name]))
    first, second = one.state_dict(), two.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_adains_tensors(published: Path) -> None:
    model = transfer("adain", published)
    theirs = tensors_of(published / "adain" / "decoder.pth")
    ours = model.learned()
    assert len(ours) == len(theirs)
    for number, name in zip(SEQUENTIAL, CONVOLUTIONS, strict=True):
        for part in ("weight", "bias"):
            assert torch.equal(ours[f"decoder.{name}.{part}"], theirs[f"{number}.{part}"])
    assert (model.encoder.pooling, model.encoder.padding) == ("max", "reflect")
    vgg = tensors_of(published / "adain" / "vgg_normalised.pth")
    assert torch.equal(model.encoder.convolutions()["conv5_1.weight"], vgg["42.weight"])


def test_sanets_tensors(published: Path) -> None:
    ours = transfer("sanet", published).learned()
    theirs = tensors_of(published / "sanet" / FILES["sanet"][1])
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    theirs = tensors_of(published / "sanet" / FILES["sanet"][0])
    assert torch.equal(ours["decoder.conv4_1.weight"], theirs["1.weight"])
    assert torch.equal(ours["decoder.conv1_1.bias"], theirs["28.bias"])


def test_adaattns_tensors(published: Path) -> None:
    ours, folder = transfer("adaattn", published).learned(), published / "adaattn"
    three, transformer, last = (tensors_of(folder / file) for file in FILES["adaattn"][:3])
    assert len(ours) == len(three) + len(transformer) + len(last)
    for part in ("f.weight", "g.weight", "h.weight", "f.bias", "g.bias", "h.bias"):
        assert torch.equal(ours[f"adaattn3_1.{part}"], three[part])
        for layer in ("4_1", "5_1"):
            theirs = transformer[f"attn_adain_{layer}.{part}"]
            assert torch.equal(ours[f"adaattn{layer}.{part}"], theirs)
    assert torch.equal(ours["merge_conv.weight"], transformer["merge_conv.weight"])
    for theirs_name, name in zip(SPLIT, CONVOLUTIONS, strict=True):
        assert torch.equal(ours[f"decoder.{name}.weight"], last[f"{theirs_name}.weight"])


def test_microasts_tensors(published: Path) -> None:
    ours = baselines.load("microast", files=[published / "microast"]).learned()
    parts = ("content_encoder", "style_encoder", "modulator", "decoder")
    count = 0
    for part, file in zip(parts, FILES["microast"], strict=True):
        theirs = tensors_of(published / "microast" / file)
        assert all(torch.equal(ours[f"{part}.{key}"], theirs[key]) for key in theirs)
        count += len(theirs)
    assert len(ours) == count


# --- against plain transcriptions ---


def conv(source: int, out: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(1), nn.Conv2d(source, out, 3), nn.ReLU()]


def pytorch_adain() -> tuple[nn.Sequential, nn.Sequential]:
    """vgg to relu4_1 and decoder of naoto0804/pytorch-AdaIN, positions and all."""
    pool, up = nn.MaxPool2d(2, 2, ceil_mode=True), nn.Upsample(scale_factor=2, mode="nearest")
    vgg = [nn.Conv2d(3, 3, 1), *conv(3, 64), *conv(64, 64), pool, *conv(64, 128), *conv(128, 128)]
    vgg += [pool, *conv(128, 256), *conv(256, 256), *conv(256, 256), *conv(256, 256), pool]
    back = [*conv(512, 256), up, *conv(256, 256), *conv(256, 256), *conv(256, 256)]
    back += [*conv(256, 128), up, *conv(128, 128), *conv(128, 64), up, *conv(64, 64)]
    return nn.Sequential(*vgg, *conv(256, 512)), nn.Sequential(*back, *conv(64, 3)[:2])


@torch.no_grad()
def test_adain_is_pytorch_adain(published: Path, picture: Make) -> None:
    vgg, back = pytorch_adain()
    known = tensors_of(published / "adain" / "vgg_normalised.pth")
    vgg.load_state_dict({k: x for k, x in known.items() if int(k.split(".")[0]) < 31})
    back.load_state_dict(tensors_of(published / "adain" / "decoder.pth"))
    content, style = picture(32, 48), picture(48, 64, 1)
    model = transfer("adain", published)
    features = model.encoder(content, ["relu4_1"])
    torch.testing.assert_close(features["relu4_1"], vgg(content), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        model.decoder(features), back(features["relu4_1"]), rtol=1e-3, atol=1e-4
    )
    c, s = vgg(content), vgg(style)
    mean, own_mean = (x.mean((2, 3), keepdim=True) for x in (s, c))
    deviation, own = ((x.var((2, 3), keepdim=True) + 1e-5).sqrt() for x in (s, c))
    for alpha in (1.0, 0.3):
        mixed = alpha * ((c - own_mean) / own * deviation + mean) + (1 - alpha) * c
        painted = model.stylize(content, [style], alpha=alpha)
        torch.testing.assert_close(painted, back(mixed).clamp(0, 1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["sanet", "adaattn"])
def test_the_others_paint(name: str, published: Path, picture: Make) -> None:
    painted = transfer(name, published).stylize(picture(33, 40), [picture(40, 32, 1)])
    assert painted.shape == (1, 3, 33, 40)
    assert painted.isfinite().all()


# --- what is wrong with them ---


def copied(name: str, published: Path, folder: Path, changes: Mapping[str, Tensors]) -> Path:
    """A model's folder with some files of other tensors."""
    for file in FILES[name]:
        if file in changes:
            torch.save(changes[file], folder / file)
        else:
            os.link(published / name / file, folder / file)
    return folder


def changed(name: str, published: Path, folder: Path, file: str, key: str, new: object) -> Path:
    """With a key misspelt (a name), of another shape (a tensor) or gone (None)."""
    tensors = tensors_of(published / name / file)
    old = tensors.pop(key)
    if isinstance(new, str):
        tensors[new] = old
    elif isinstance(new, Tensor):
        tensors[key] = new
    return copied(name, published, folder, {file: tensors})


KEYS = [
    ("adain", "decoder.pth", "21.bias"),
    ("adain", "vgg_normalised.pth", "22.weight"),
    ("sanet", "transformer_iter_500000.pth", "sanet5_1.out_conv.weight"),
    ("sanet", "decoder_iter_500000.pth", "1.weight"),
    ("adaattn", "latest_net_adaattn_3.pth", "g.weight"),
    ("adaattn", "latest_net_transformer.pth", "attn_adain_5_1.h.bias"),
    ("adaattn", "latest_net_decoder.pth", "decoder_layer_2.24.weight"),
    ("microast", "style_encoder_iter_160000.pth.tar", "enc2.0.conv1.conv_layer.bias"),
    ("microast", "modulator_iter_160000.pth.tar", "bias2.0.conv_layer.weight"),
    ("microast", "decoder_iter_160000.pth.tar", "dec3.8.conv_layer.weight"),
]
each_key = pytest.mark.parametrize(("name", "file", "key"), KEYS)


def refused(name: str, folder: Path, *parts: str) -> str:
    with pytest.raises(InputError) as caught:
        baselines.load(name, files=[folder])
    message = str(caught.value)
    assert all(part in message for part in parts), message
    return message


@each_key
def test_a_missing_key_is_named(
    name: str, file: str, key: str, published: Path, tmp_path: Path
) -> None:
    folder = changed(name, published, tmp_path, file, key, None)
    refused(name, folder, str(folder / file), f"{key!r} is missing")


@each_key
def test_a_misspelt_key_is_named_with_the_nearest(
    name: str, file: str, key: str, published: Path, tmp_path: Path
) -> None:
    misspelt = key[:-2] + key[-1]
    folder = changed(name, published, tmp_path, file, key, misspelt)
    refused(name, folder, str(folder / file), f"{key!r} is missing (nearest: {misspelt!r})")


@each_key
def test_a_wrong_shape_is_named(
    name: str, file: str, key: str, published: Path, tmp_path: Path
) -> None:
    folder = changed(name, published, tmp_path, file, key, torch.zeros(3, 7))
    refused(name, folder, str(folder / file), repr(key), "(3, 7)")


def test_a_key_too_many_is_named(published: Path, tmp_path: Path) -> None:
    tensors = tensors_of(published / "adain" / "decoder.pth")
    tensors["31.weight"] = torch.zeros(1)
    folder = copied("adain", published, tmp_path, {"decoder.pth": tensors})
    refused("adain", folder, "unknown key in", "decoder.pth", "'31.weight'")


@pytest.mark.parametrize(
    ("name", "file", "part"),
    [(name, file, part) for name in FILES for file, part in zip(
        FILES[name],
        {
            "adain": ("decoder", "vgg_normalised"),
            "sanet": ("decoder", "transformer", "vgg_normalised"),
            "adaattn": ("adaattn_3", "transformer", "decoder", "vgg_normalised"),
            "microast": ("content_encoder", "style_encoder", "modulator", "decoder"),
        }[name],
        strict=True,
    )],
)  # fmt: skip
def test_a_missing_file_is_named(
    name: str, file: str, part: str, published: Path, tmp_path: Path
) -> None:
    folder = copied(name, published, tmp_path, {})
    (folder / file).unlink()
    refused(name, folder, f"published weights of {name}: {part} missing; name all its files")


def test_foreign_files(published: Path, tmp_path: Path) -> None:
    folder = copied("adain", published, tmp_path, {})
    torch.save({"in1.weight": torch.zeros(3)}, folder / "other.pth")
    refused("adain", folder, str(folder / "other.pth"), "in1.weight", "no part of adain")
    (folder / "other.pth").write_bytes(b"no weights at all")
    refused("adain", folder, "other.pth is not a file of weights")
    os.unlink(folder / "other.pth")
    os.link(folder / "decoder.pth", folder / "z.pth")
    refused("adain", folder, "z.pth", "no part of adain that is looked for (nothing more)")
    with pytest.raises(InputError, match="not multiadain"):
        baselines.load("multiadain", files=[folder / "decoder.pth"])
    with pytest.raises(InputError, match=r"none\.pth"):
        baselines.load("adain", files=[folder / "decoder.pth", folder / "none.pth"])
    (tmp_path / "empty").mkdir()
    refused("adain", tmp_path / "empty", "no weights in")


def test_files_of_the_same_keys_are_told_apart_by_name(published: Path, tmp_path: Path) -> None:
    folder = copied("microast", published, tmp_path, {})
    (folder / FILES["microast"][0]).rename(folder / "a.pth.tar")
    refused("microast", folder, "a.pth.tar may be content_encoder or style_encoder")


class Code:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", [*FILES, "johnson"])
def test_code_in_a_file_is_not_run(name: str, tmp_path: Path) -> None:
    torch.save({"1.weight": Code(str(tmp_path / "ran"))}, tmp_path / "decoder.pth")
    with pytest.raises(InputError, match=r"decoder.pth was refused: it holds more than tensors"):
        baselines.load(name, files=[tmp_path / "decoder.pth"])
    assert not (tmp_path / "ran").exists()


# --- MicroAST ---


def plain_microast(parts: Mapping[str, Tensors], content: Tensor, style: Tensor) -> Tensor:
    """EndyWon/MicroAST's TestNet at alpha 1, functions of its state dicts."""

    def layer(x: Tensor, part: str, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight, bias = (parts[part][f"{name}.conv_layer.{p}"] for p in ("weight", "bias"))
        x = F.pad(x, (weight.shape[-1] // 2,) * 4, mode="reflect")
        return F.conv2d(x, weight, bias, stride, groups=groups)

    def encode(x: Tensor, part: str) -> list[Tensor]:
        x = layer(x, part, "enc1.0").relu()
        x = layer(x, part, "enc1.2", 2, 16).relu()
        x = layer(x, part, "enc1.4").relu()
        x = layer(x, part, "enc1.6", 2, 32).relu()
        x = layer(x, part, "enc1.8").relu()
        found = []
        for block in ("enc1.10", "enc2.0"):
            x = x + layer(layer(x, part, f"{block}.conv1").relu(), part, f"{block}.conv2")
            found.append(x)
        return found

    def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3), keepdim=True), (x.var((2, 3), keepdim=True) + 1e-5).sqrt()

    looks = encode(style, "style_encoder")
    x = encode(content, "content_encoder")[1]
    for index, (look, level) in enumerate(((looks[1], 2), (looks[0], 1)), start=1):
        own_mean, own = statistics(x)
        mean, deviation = statistics(look)
        x = (x - own_mean) / own * deviation + mean
        weight, bias = (
            layer(look, "modulator", f"{kind}{level}.0", groups=64).mean((2, 3), keepdim=True)
            for kind in ("weight", "bias")
        )
        inner = (weight * layer(x, "decoder", f"dec{index}.conv1") + bias * x).relu()
        x = x + weight * layer(inner, "decoder", f"dec{index}.conv2") + bias * inner
    for depthwise, pointwise, groups in (("dec3.1", "dec3.3", 32), ("dec3.6", "dec3.8", 16)):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = layer(layer(x, "decoder", depthwise, groups=groups).relu(), "decoder", pointwise).relu()
    return layer(x, "decoder", "dec3.10")


@pytest.fixture(params=["random", "published"])
def microast(request: pytest.FixtureRequest) -> Path:
    if request.param == "random":
        return Path(request.getfixturevalue("published")) / "microast"
    if not (SHARED / "microast").is_dir():
        pytest.skip(f"the published MicroAST is not at {SHARED / 'microast'}")
    return SHARED / "microast"


def test_microast_equals_a_plain_transcription(microast: Path, picture: Make) -> None:
    names = ("content_encoder", "style_encoder", "modulator", "decoder")
    parts = {
        name: tensors_of(microast / file)
        for name, file in zip(names, FILES["microast"], strict=True)
    }
    content, style = picture(64, 96), picture(80, 72, 1)
    expected = plain_microast(parts, content, style)
    painted = baselines.load("microast", files=[microast]).stylize(content, [style])
    assert painted.std() > 0.02
    torch.testing.assert_close(painted, expected.clamp(0, 1), rtol=0, atol=1e-4)


def test_microasts_controls(microast: Path, picture: Make) -> None:
    model = baselines.load("microast", files=[microast])
    content, one, two = picture(37, 50), picture(48, 48, 1), picture(16, 60, 2)
    whole = model.stylize(content, [one])
    assert whole.shape == content.shape
    torch.testing.assert_close(whole, model.stylize(content, [one, two], shares=[1.0, 0.0]))
    torch.testing.assert_close(whole, model.stylize(content, [one, one]), atol=1e-4, rtol=0)
    assert (whole - model.stylize(content, [one], alpha=0.0)).abs().max() > 0.01
    for alpha, message in ((1.5, "from 0 to 1"), ({"relu4_1": 1.0}, "no levels")):
        with pytest.raises(InputError, match=message):
            model.stylize(content, [one], alpha=alpha)
    with pytest.raises(InputError, match="style weights: got 1 for 2 style images; give one"):
        model.stylize(content, [one, two], shares=[1.0])
    with pytest.raises(InputError, match="one or more STYLE"):
        model.stylize(content, [])
    with pytest.raises(InputError, match="16 px a side"):
        model.stylize(content, [picture(15, 40)])


@pytest.mark.skipif(not (SHARED / "microast").is_dir(), reason="the published files are not here")
def test_the_published_microast_paints(tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    for seed, name in enumerate(("content", "style")):
        write(tmp_path / f"{name}.png", make_picture(96, 128, seed))
    pictures = [str(tmp_path / f"{name}.png") for name in ("content", "style")]
    arguments = ["baseline", "microast", *pictures, "--weights", str(SHARED / "microast")]
    ran = CliRunner().invoke(cli.main, [*arguments, "-o", str(output), "--size", "128"])
    assert ran.exit_code == 0, ran.output
    painted, content = read(output).pixels, read(pictures[0]).pixels
    assert painted.std() > 0.1
    assert 0.02 < (painted - content).abs().mean() < 0.4


# --- Johnson ---


def johnson_tensors() -> Tensors:
    """Random tensors of exactly pytorch/examples' keys and shapes."""
    generator = torch.Generator().manual_seed(0)
    convs = {"conv1": (32, 3, 9), "conv2": (64, 32, 3), "conv3": (128, 64, 3)}
    convs |= {f"res{i}.conv{j}": (128, 128, 3) for i in range(1, 6) for j in (1, 2)}
    convs |= {"deconv1": (64, 128, 3), "deconv2": (32, 64, 3), "deconv3": (3, 32, 9)}
    norms = {"in1": 32, "in2": 64, "in3": 128, "in4": 64, "in5": 32}
    norms |= {f"res{i}.in{j}": 128 for i in range(1, 6) for j in (1, 2)}
    found = {}
    for name, (out, source, side) in convs.items():
        weight = torch.randn(out, source, side, side, generator=generator)
        found[f"{name}.conv2d.weight"] = weight / (source * side**2) ** 0.5
        found[f"{name}.conv2d.bias"] = torch.randn(out, generator=generator)
    for name, out in norms.items():
        found[f"{name}.weight"] = torch.rand(out, generator=generator)
        found[f"{name}.bias"] = torch.rand(out, generator=generator)
        found[f"{name}.running_mean"] = torch.zeros(out)  # old files hold these
    return found


def test_johnson_equals_a_plain_transcription(picture: Make, tmp_path: Path) -> None:
    tensors = johnson_tensors()
    torch.save(tensors, tmp_path / "style.pth")
    image = picture(32, 48)

    def convolve(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight, bias = tensors[f"{name}.conv2d.weight"], tensors[f"{name}.conv2d.bias"]
        x = nn.ReflectionPad2d(weight.shape[-1] // 2)(x)
        return nn.functional.conv2d(x, weight, bias, stride)

    def norm(x: Tensor, name: str) -> Tensor:
        layer = nn.InstanceNorm2d(x.shape[1], affine=True)
        layer.load_state_dict({k: tensors[f"{name}.{k}"] for k in ("weight", "bias")})
        return layer(x)

    with torch.no_grad():
        x = 255 * image
        for index, stride in ((1, 1), (2, 2), (3, 2)):
            x = norm(convolve(x, f"conv{index}", stride), f"in{index}").relu()
        for i in range(1, 6):
            inner = norm(convolve(x, f"res{i}.conv1"), f"res{i}.in1").relu()
            x = x + norm(convolve(inner, f"res{i}.conv2"), f"res{i}.in2")
        for index in (1, 2):
            x = nn.Upsample(scale_factor=2, mode="nearest")(x)
            x = norm(convolve(x, f"deconv{index}"), f"in{index + 3}").relu()
        expected = (convolve(x, "deconv3") / 255).clamp(0, 1)
    found = baselines.load("johnson", files=[tmp_path / "style.pth"])
    torch.testing.assert_close(found.stylize(image, []), expected, atol=1e-5, rtol=0)
    half = found.stylize(image, [], alpha=0.5)
    torch.testing.assert_close(half, (image + expected) / 2, atol=1e-5, rtol=0)
    assert found.stylize(picture(37, 50), []).shape == (1, 3, 37, 50)


def test_our_own_johnson_networks_have_that_layout(
    tiny: VGG, picture: Make, tmp_path: Path
) -> None:
    model: Baseline = baselines.make("johnson", tiny, painting=picture(40, 40))
    published = {key for key in johnson_tensors() if "running" not in key}
    assert set(model.learned()) == published
    baselines.save(model, "johnson", tmp_path / "own.safetensors")
    torch.save(model.learned(), tmp_path / "own.pth")
    image = picture(32, 40)
    exact, half = (johnson.read(tmp_path / f"own.{kind}") for kind in ("pth", "safetensors"))
    assert torch.equal(exact.stylize(image), model.stylize(image, []))
    torch.testing.assert_close(half.stylize(image), exact.stylize(image), atol=2e-2, rtol=0)


def test_what_is_wrong_with_a_johnson_file_is_named(tmp_path: Path) -> None:
    tensors, key, file = johnson_tensors(), "res3.conv2.conv2d.weight", tmp_path / "style.pth"
    weight = tensors.pop(key)
    torch.save(tensors, file)
    with pytest.raises(InputError, match=rf"style.pth: '{key}' is missing"):
        baselines.load("johnson", files=[file])
    torch.save({**tensors, key: weight[:, :64]}, file)
    with pytest.raises(InputError, match=rf"style.pth: '{key}' has shape \(128, 64, 3, 3\)"):
        baselines.load("johnson", files=[file])
    torch.save({**tensors, key: weight, "in1.weight": torch.ones(16)}, file)
    with pytest.raises(InputError, match=r"style.pth: 'in1.weight' has shape \(16,\)"):
        baselines.load("johnson", files=[file])


def test_a_johnson_network_is_one_file(tmp_path: Path) -> None:
    files = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for file in files:
        torch.save(johnson_tensors(), file)
    with pytest.raises(InputError, match="one file"):
        baselines.load("johnson", files=files)


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no manifest.json"):
        baselines.load("johnson", files=[tmp_path])
    (tmp_path / "manifest.json").write_text('{"Variable": {"filename": "x", "shape": [9]}}')
    with pytest.raises(InputError, match="'Variable' is missing or damaged"):
        baselines.load("johnson", files=[tmp_path])


def test_same_padding_is_tensorflows() -> None:
    # Of 4 positions with stride 2, a 3x3 kernel needs one more row and column: below and right.
    x = torch.arange(16.0).view(1, 1, 4, 4)
    corner = torch.zeros(1, 1, 3, 3)
    corner[..., 0, 0] = 1
    layout = johnson._Same()
    # Of 5 it needs two: one on each side.
    odd = layout.convolve(torch.arange(25.0).view(1, 1, 5, 5), corner, None, 2)
    assert odd.flatten().tolist() == [0, 0, 0, 0, 6, 8, 0, 16, 18]
    assert layout.convolve(x, corner, None, 2).flatten().tolist() == [0, 2, 8, 10]
    up = layout.upsample(torch.ones(1, 1, 2, 2), corner, None)
    assert up[0, 0].tolist() == [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]


@pytest.mark.skipif(not (SHARED / "johnson").is_dir(), reason="the published files are not here")
@pytest.mark.parametrize("name", ["wave", "rain_princess"])
def test_published_networks_paint(name: str, tmp_path: Path) -> None:
    source, output = tmp_path / "content.png", tmp_path / "out.png"
    write(source, make_picture(64, 96))
    arguments = ["baseline", "johnson", str(source), "--weights", str(SHARED / "johnson" / name)]
    ran = CliRunner().invoke(cli.main, [*arguments, "-o", str(output), "--size", "96"])
    assert ran.exit_code == 0, ran.output
    painted, content = read(output).pixels, read(source).pixels
    # A picture of the content: neither grey nor the same.
    assert painted.std() > 0.1
    assert 0.02 < (painted - content).abs().mean() < 0.4
