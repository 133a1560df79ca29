"""Feed-forward models: statistics before the decoder, controls, files, training, the commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner
from conftest import make_picture
from torch import Tensor, nn

from optistyle import baselines, cli, load_encoder
from optistyle.baselines import adain, train
from optistyle.baselines.codec import Decoder, Transfer, padded
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.images import read, write

Make = Callable[..., Tensor]
TINY = train.Settings(
    warm_up_steps=3, steps=5, batch=2, crop=32, checkpoint_every=2, sample_every=4
)


@pytest.fixture(params=["adain", "multiadain"])
def model(request: pytest.FixtureRequest, tiny: VGG) -> Transfer:
    return baselines.make(request.param, tiny)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for seed in range(16):
        name = ("photos", "paintings")[seed % 2]
        (tmp_path / name).mkdir(exist_ok=True)
        write(tmp_path / name / f"{seed}.png", make_picture(48, 56, seed))
    return tmp_path / "photos", tmp_path / "paintings"


def test_statistics_are_the_styles_before_the_decoder(
    model: Transfer, tiny: VGG, picture: Make
) -> None:
    content, style = (tiny(picture(64, 96, i), model.levels) for i in range(2))
    found = model.transform(content, style)
    assert set(found) == set(model.levels)
    for layer in model.levels:
        for ours, theirs in zip(
            adain.mean_deviation(found[layer]), adain.mean_deviation(style[layer]), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=3e-3)  # eps in the roots


def test_mean_and_deviation_by_hand() -> None:
    features = torch.tensor([1.0, 2.0, 3.0, 6.0]).view(1, 1, 2, 2)
    mean, deviation = adain.mean_deviation(features, eps=0)
    assert float(mean) == 3
    assert float(deviation) == pytest.approx((14 / 3) ** 0.5)  # unbiased: over M - 1
    flat, none = adain.mean_deviation(torch.full((1, 2, 4, 4), 5.0))
    assert flat.flatten().tolist() == [5, 5]
    assert none.square().flatten().tolist() == pytest.approx([1e-5, 1e-5])
    assert adain.mean_deviation(torch.ones(1, 1, 1, 1))[1].isfinite().all()


def test_alpha_and_shares(model: Transfer, picture: Make) -> None:
    content, one, two = picture(48, 64), picture(64, 64, 1), picture(40, 80, 2)
    plain = model.stylize(content, [one], alpha=0.0)
    torch.testing.assert_close(plain, model.stylize(content, [two], alpha=0.0))
    by_level = dict.fromkeys(model.levels, 0.0)
    torch.testing.assert_close(plain, model.stylize(content, [one], alpha=by_level))
    whole = model.stylize(content, [one])
    assert not torch.allclose(plain, whole)
    torch.testing.assert_close(whole, model.stylize(content, [one, two], shares=[1.0, 0.0]))
    torch.testing.assert_close(whole, model.stylize(content, [one, one]))


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_alpha_out_of_range(model: Transfer, picture: Make, alpha: float) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        model.stylize(picture(48, 64), [picture(64, 64, 1)], alpha=alpha)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 129)])
def test_any_size_comes_back(model: Transfer, picture: Make, size: tuple[int, int]) -> None:
    painted = model.stylize(picture(*size), [picture(45, 61, 1)])
    assert painted.shape == (1, 3, *size)
    assert 0 <= float(painted.min()) <= float(painted.max()) <= 1


def test_too_small_images(picture: Make) -> None:
    with pytest.raises(InputError, match="32 px a side"):
        padded(picture(31, 64))


def test_decoder_mirrors_vgg19() -> None:
    """512>256, up, 256 x3, >128, up, 128, >64, up, 64, >3 (pytorch-AdaIN)."""
    shapes = [tuple(c.weight.shape[:2]) for c in Decoder((64, 128, 256, 512)).children()]
    assert shapes == [
        (256, 512), (256, 256), (256, 256), (256, 256), (128, 256),
        (128, 128), (64, 128), (64, 64), (3, 64),
    ]  # fmt: skip


def test_saved_weights_load(
    tiny: VGG, picture: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines.encoders, "load", lambda name, device: tiny)
    model = baselines.make("adain", tiny, seed=3)
    baselines.save(model, "adain", tmp_path / "w.safetensors")
    again = baselines.load("adain", files=[tmp_path / "w.safetensors")
    image = picture(48, 48), [picture(48, 48, 1)]
    torch.testing.assert_close(model.stylize(*image), again.stylize(*image), atol=2e-3, rtol=0)
    with pytest.raises(InputError, match="holds adain, not multiadain"):
        baselines.load("multiadain", files=[tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="did you mean 'adain'"):
        baselines.load("adian")


def test_training_lowers_its_losses(tiny: VGG, folders: tuple[Path, Path], tmp_path: Path) -> None:
    model = baselines.make("adain", tiny)
    settings = replace(TINY, warm_up_steps=200, steps=100, sample_every=1000)
    train.train(model, [folders[0]], [folders[1]], tmp_path / "w", settings, progress=False)
    lines = [json.loads(x) for x in (tmp_path / "w" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [100, 200, 300]
    assert lines[1]["pixels"] < 0.8 * lines[0]["pixels"]
    assert set(lines[2]) == {"step", "seconds", "content", "style", "range"}
    assert read(tmp_path / "w" / "sample-000300.jpg").width > 96


@pytest.mark.parametrize("at", [2, 4, 6])
def test_a_stopped_training_ends_in_the_same_bits(
    tiny: VGG, folders: tuple[Path, Path], tmp_path: Path, at: int
) -> None:
    def run(work: str, settings: train.Settings) -> dict[str, Tensor]:
        model = baselines.make("multiadain", tiny)
        train.train(model, [folders[0]], [folders[1]], tmp_path / work, settings, progress=False)
        return model.decoder.state_dict()

    whole = run("whole", TINY)

    calls: list[int] = []
    rate = train._set_rate

    def stopping(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) > at:
            raise KeyboardInterrupt
        rate(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_set_rate", stopping)
        with pytest.raises(KeyboardInterrupt):
            run("cut", TINY)
    resumed = run("cut", TINY)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_checkpoint_of_another_training_is_refused(
    tiny: VGG, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    def run(name: str, settings: train.Settings) -> None:
        model = baselines.make(name, tiny)
        train.train(model, [folders[0]], [folders[1]], tmp_path / "w", settings, progress=False)

    run("adain", TINY)
    with pytest.raises(InputError, match="another model"):
        run("multiadain", TINY)
    with pytest.raises(InputError, match="another batch"):
        run("adain", replace(TINY, batch=3))
    (tmp_path / "w" / "checkpoint.pt").write_bytes(b"broken")
    with pytest.raises(InputError, match="delete it to start over"):
        run("adain", TINY)


def test_nan_keeps_the_last_checkpoint(
    tiny: VGG, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        adain, "losses", lambda *_: {"content": torch.tensor(float("nan"), requires_grad=True)}
    )
    model = baselines.make("adain", tiny)
    with pytest.raises(FloatingPointError, match="last good state"):
        train.train(model, [folders[0]], [folders[1]], tmp_path / "w", TINY, progress=False)
    state = torch.load(tmp_path / "w" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2


def test_too_few_images(tiny: VGG, folders: tuple[Path, Path], tmp_path: Path) -> None:
    for path in list(folders[0].iterdir())[:4]:
        path.unlink()
    with pytest.raises(InputError, match="4 images under"):
        train.train(baselines.make("adain", tiny), [folders[0]], [folders[1]], tmp_path / "w", TINY)


def test_every_model_that_can_be_trained_has_a_command() -> None:
    trained = {name for name, entry in baselines.MODELS.items() if entry.make}
    listed = cli.train.list_commands(click.Context(cli.train))
    assert trained == set(listed) - {"slim"}


@pytest.mark.slow
def test_a_killed_training_goes_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "optistyle", "train", "adain"]
    arguments += ["--contents", str(folders[0]), "--styles", str(folders[1]), "--crop", "32"]
    arguments += ["--batch", "2", "--warm-up-steps", "300", "--steps", "300"]

    def run(name: str, kill: bool) -> bytes:
        output = tmp_path / f"{name}.safetensors"
        work = tmp_path / name
        command = [*arguments, "-o", str(output), "--work", str(work)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if kill:
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
            end = time.monotonic() + 300
            while not (work / "checkpoint.pt").exists():
                assert time.monotonic() < end
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not output.exists()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environment)
        return output.read_bytes()

    assert run("killed", kill=True) == run("whole", kill=False)


# --- with the packaged weights ---


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for seed, name in enumerate(("content", "style")):
        write(tmp_path / f"{name}.png", make_picture(64, 96, seed))
    return tmp_path / "content.png", tmp_path / "style.png"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Weights of adain on the slim encoder, untrained."""
    path = tmp_path / "adain.safetensors"
    baselines.save(baselines.make("adain", load_encoder("slim")), "adain", path)
    return path


def test_the_command_paints(files: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    arguments = ["baseline", "adain", *map(str, files), "-o", str(output), "--size", "64"]
    ran = CliRunner().invoke(cli.main, [*arguments, "--weights", str(trained)])
    assert ran.exit_code == 0, ran.output
    assert (read(output).width, read(output).height) == (64, 43)


def test_weights_that_are_not_there(files: tuple[Path, Path], tmp_path: Path) -> None:
    if baselines.packaged("adain").is_file():
        pytest.skip("weights of adain are packaged")
    ran = CliRunner().invoke(cli.main, ["baseline", "adain", *map(str, files)])
    assert ran.exit_code == 2
    assert "optistyle train adain" in ran.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["adian"], "did you mean 'adain'"),
        (["adain", "--alpha", "2"], "from 0 to 1"),
        (["adain", "--level-alpha", "relu3_1:1"], "level of this model"),
        (["adain", "--level-alpha", "relu4_1"], "is not LAYER:A"),
        (["adain", "--style-weights", "1,2"], "2 style weights for 1 style image"),
        (["adain", "--size", "8"], "16 to"),
        (["adain", "--size", "24"], "32 px a side"),
        (["johnson"], "name its file with --weights"),
        (["johnson", "--weights", "none"], "none"),
    ],
)
def test_bad_input_is_one_line(
    files: tuple[Path, Path], trained: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    output = tmp_path / "out.png"
    name, *rest = options
    if name == "adain":
        rest += ["--weights", str(trained)]
    ran = CliRunner().invoke(
        cli.main, ["baseline", name, *map(str, files), "-o", str(output), *rest]
    )
    assert ran.exit_code == 2
    assert message in ran.output
    assert not output.exists()


# --- Johnson ---

PUBLISHED = Path(__file__).parents[2] / "shared" / "weights" / "johnson"


def state_dict() -> dict[str, Tensor]:
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
    tensors = state_dict()
    torch.save(tensors, tmp_path / "style.pth")
    image = picture(32, 48)

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
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
            x = norm(conv(x, f"conv{index}", stride), f"in{index}").relu()
        for i in range(1, 6):
            inner = norm(conv(x, f"res{i}.conv1"), f"res{i}.in1").relu()
            x = x + norm(conv(inner, f"res{i}.conv2"), f"res{i}.in2")
        for index in (1, 2):
            x = nn.Upsample(scale_factor=2, mode="nearest")(x)
            x = norm(conv(x, f"deconv{index}"), f"in{index + 3}").relu()
        expected = (conv(x, "deconv3") / 255).clamp(0, 1)
    found = baselines.load("johnson", files=[tmp_path / "style.pth")
    torch.testing.assert_close(found.stylize(image, []), expected, atol=1e-5, rtol=0)
    half = found.stylize(image, [], alpha=0.5)
    torch.testing.assert_close(half, (image + expected) / 2, atol=1e-5, rtol=0)
    assert found.stylize(picture(37, 50), []).shape == (1, 3, 37, 50)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    tensors = state_dict()
    del tensors["res3.conv2.conv2d.weight"]
    torch.save(tensors, tmp_path / "style.pth")
    with pytest.raises(InputError, match=r"style.pth: 'res3.conv2.conv2d.weight' is missing"):
        baselines.load("johnson", files=[tmp_path / "style.pth")


def test_same_padding_is_tensorflows() -> None:
    from optistyle.baselines.johnson import _Same

    # Of 4 positions with stride 2, a 3x3 kernel needs one more row and column: below and right.
    x = torch.arange(16.0).view(1, 1, 4, 4)
    corner = torch.zeros(1, 1, 3, 3)
    corner[..., 0, 0] = 1
    assert _Same().convolve(x, corner, None, 2).flatten().tolist() == [0, 2, 8, 10]
    up = _Same().upsample(torch.ones(1, 1, 2, 2), corner, None)
    assert up[0, 0].tolist() == [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published networks are not here")
@pytest.mark.parametrize("name", ["wave", "rain_princess"])
def test_published_networks_paint(name: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    arguments = ["baseline", "johnson", str(files[0]), "--weights", str(PUBLISHED / name)]
    ran = CliRunner().invoke(cli.main, [*arguments, "-o", str(output), "--size", "96"])
    assert ran.exit_code == 0, ran.output
    painted, content = read(output).pixels, read(files[0]).pixels
    # A picture of the content: neither grey nor the same.
    assert painted.std() > 0.1
    assert 0.02 < (painted - content).abs().mean() < 0.4


def test_models_are_listed() -> None:
    ran = CliRunner().invoke(cli.main, ["baseline", "list"])
    assert all(name in ran.output for name in baselines.MODELS)
