"""The recipe of the slim encoder, end to end on a tiny run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import random_convolutions
from PIL import Image

from optistyle import files
from optistyle.cli import main
from optistyle.encoders import formats, load, weights
from optistyle.encoders.procedural import dead_leaves
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.errors import InputError
from optistyle.training import crops, slim, student

_DEFAULTS = dict(slim.distil.__kwdefaults__ or {})
WIDTHS = {layer: 4 + 2 * int(layer[4]) for layer in student.WIDTHS}
TINY = slim.Settings(
    steps=6,
    batch=4,
    crop=32,
    warm_up=2,
    pool=16,
    chains=3,
    chain_life=3,
    kernel_positions=16,
    learning_rate=1e-2,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(6):
        pixels = dead_leaves(64, np.random.default_rng(seed))[0].permute(1, 2, 0).numpy()
        Image.fromarray((255 * pixels).astype(np.uint8)).save(images / f"{seed}.png")
    return images


@pytest.fixture
def teacher() -> VGG:
    generator, source, convolutions = torch.Generator().manual_seed(1), 3, {}
    for layer in student.WIDTHS:
        scale = (2 / (9 * source)) ** 0.5
        kernel = torch.randn(12, source, 3, 3, generator=generator) * scale
        convolutions[f"conv{layer[4:]}.weight"] = kernel
        convolutions[f"conv{layer[4:]}.bias"] = torch.zeros(12)
        source = 12
    encoder = VGG(convolutions, mean=torch.full((3,), 0.5))
    pictures = [dead_leaves(64, np.random.default_rng(seed)) for seed in range(4)]
    return normalise(encoder, mean_activations(encoder, pictures))


def log(work: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]


def test_runs_logs_and_resumes(teacher: VGG, folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = slim.distil(teacher, [folder], work, settings=TINY, widths=WIDTHS)
    assert torch.load(work / "checkpoint.pt", weights_only=True)["step"] == 6
    longer = replace(TINY, steps=9)
    second = slim.distil(teacher, [folder], work, settings=longer, widths=WIDTHS)
    assert [line["step"] for line in log(work)] == [6, 9]
    assert not torch.equal(first.conv3_1_weight, second.conv3_1_weight)
    assert not list(work.glob("*.part"))


def test_lowers_its_losses(teacher: VGG, folder: Path, tmp_path: Path) -> None:
    settings = replace(TINY, steps=200, kernel_positions=128)
    slim.distil(teacher, [folder], tmp_path / "w", settings=settings, widths=WIDTHS)
    early, late = log(tmp_path / "w")
    for name in ("relu1_1/feature", "relu1_1/kernel", "relu3_1/feature"):
        assert late[name] < 0.95 * early[name], name


def stopped(teacher: VGG, folder: Path, work: Path, at: int) -> None:
    """A training that is interrupted after so many steps."""
    calls: list[int] = []
    rate = slim.rate

    def stopping(settings: slim.Settings, step: int) -> float:
        calls.append(step)
        if len(calls) > at:
            raise KeyboardInterrupt
        return rate(settings, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slim, "rate", stopping)
        with pytest.raises(KeyboardInterrupt):
            slim.distil(teacher, [folder], work, settings=TINY, widths=WIDTHS, checkpoint_every=2)


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_stopped_training_ends_in_the_same_bits(
    at: int, teacher: VGG, folder: Path, tmp_path: Path
) -> None:
    whole = slim.distil(teacher, [folder], tmp_path / "whole", settings=TINY, widths=WIDTHS)
    stopped(teacher, folder, tmp_path / "cut", at)
    resumed = slim.distil(teacher, [folder], tmp_path / "cut", settings=TINY, widths=WIDTHS)
    assert resumed.digest() == whole.digest()


def test_a_checkpoint_of_another_training_is_refused(
    teacher: VGG, folder: Path, tmp_path: Path
) -> None:
    work = tmp_path / "w"
    short = replace(TINY, steps=1)
    slim.distil(teacher, [folder], work, settings=short, widths=WIDTHS)
    kept = (work / "checkpoint.pt").read_bytes()
    for name, value in {"seed": 1, "batch": 2, "learning_rate": 1e-3}.items():
        other = replace(short, **{name: value})
        with pytest.raises(InputError, match=f"another {name}; use another folder"):
            slim.distil(teacher, [folder], work, settings=other, widths=WIDTHS)
    with pytest.raises(InputError, match="another widths"):
        slim.distil(teacher, [folder], work, settings=short, widths={**WIDTHS, "relu1_1": 5})
    assert (work / "checkpoint.pt").read_bytes() == kept


def test_the_seed_decides_all(teacher: VGG, folder: Path, tmp_path: Path) -> None:
    """And nothing else: the program's own random numbers do not matter, nor are they changed."""
    short = replace(TINY, steps=2)
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        before = torch.get_rng_state()
        settings = replace(short, seed=seed)
        network = slim.distil(teacher, [folder], tmp_path / name, settings=settings, widths=WIDTHS)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        digests.append(network.digest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
        ({"batch": 0}, "batch is 0"),
        ({"pool": 18}, "pool is 18; it must be a multiple of batch, 4"),
    ],
)
def test_bad_settings(given: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(TINY, **given)


def test_folding_changes_nothing(generator: torch.Generator) -> None:
    network = student.Student(WIDTHS, generator)
    image = torch.rand(4, 3, 32, 32, generator=generator)
    network(image)  # gives batch normalisation running statistics other than 0 and 1
    network.eval()
    features = network.folded("slim")(image, student.TAPS)
    for layer, expected in network(image).items():  # computed in bfloat16
        error = (features[layer] - expected).norm() / expected.norm()
        assert error < 0.02, layer


def test_solved_heads_are_the_least_squares_fit() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 3, 8, 8, generator=generator)
    matrix = torch.randn(5, 3, generator=generator)
    goal = torch.einsum("on,bnhw->bohw", matrix, features)
    guess = student.Heads(ridge=1e-7)("relu1_1", features, goal)
    assert torch.allclose(guess, goal, atol=1e-3)


def test_saved_weights_load_under_their_digest(
    teacher: VGG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "slim_vgg19.safetensors"
    slim.save(teacher, path)
    source = replace(weights.SOURCES["slim"], find=lambda: path)
    monkeypatch.setitem(weights.SOURCES, "slim", source)
    encoder = load("slim")
    assert torch.equal(encoder.conv2_1_weight, teacher.conv2_1_weight.half().float())
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match="SHA-256"):
        load("slim")


def test_near_copies_of_held_out_images_are_left_out(folder: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held out"
    held_out.mkdir()
    with Image.open(folder / "2.png") as image:
        image.resize((200, 180)).save(held_out / "copy.jpg", quality=70)
    names = [path.name for path in crops.training_files([folder], [held_out])]
    assert names == ["0.png", "1.png", "3.png", "4.png", "5.png"]


def test_unreadable_images_are_skipped_and_counted(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"not a picture")
    drawn = crops.Crops(crops.training_files([folder]), 32, np.random.default_rng(0))
    for _ in range(40):
        crop = drawn()
        assert crop.shape == (3, 32, 32)
        assert 0 <= crop.min() <= crop.max() <= 1
    assert [path.name for path in drawn.skipped] == ["bad.png"]


def test_hidden_files_are_no_images(folder: Path) -> None:
    """As macOS leaves them on memory cards, and in folders of thumbnails."""
    (folder / "._0.png").write_bytes(b"\0\5\26\7")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "0.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "more.v2").mkdir()
    (folder / "more.v2" / "6.JPG").write_bytes(b"")
    names = [path.name for path in crops.training_files([folder])]
    assert names == ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "6.JPG"]


def test_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        crops.training_files([tmp_path])


def test_the_command_trains_on_a_folder(
    teacher: VGG, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optistyle.encoders.load", lambda name: teacher)
    monkeypatch.setattr(slim, "Settings", lambda seed: replace(TINY, seed=seed))
    monkeypatch.setattr(slim.distil, "__kwdefaults__", {**_DEFAULTS, "widths": WIDTHS})
    output = tmp_path / "slim.safetensors"
    words = ["train", "slim", str(folder), "-o", str(output), "--work", str(tmp_path / "w")]
    result = CliRunner().invoke(main, [*words, "--steps", "2"])
    assert result.exit_code == 0, result.output
    assert load(file=output).layers == tuple(WIDTHS)
    assert files.digest(output) in (tmp_path / "SHA256").read_text()


def test_packaged_slim_encoder() -> None:
    """At most 8 MB, VGG-19's layer names, about a sixteenth of the arithmetic, normalised."""
    path, _ = weights.verify("slim")
    assert path.stat().st_size <= 8_000_000
    found = formats.recognise(*weights.load_tensors(path), str(path))
    assert found.calibrated_for == "average"
    slim = load("slim")
    assert slim.layers[-1] == "relu5_1"

    def products(encoder: VGG) -> float:
        """Multiplications per pixel of the image."""
        return sum(
            tensor.numel() / 4 ** (int(name[4]) - 1)
            for name, tensor in encoder.convolutions().items()
            if tensor.ndim == 4
        )

    whole = VGG(random_convolutions((64, 128, 256, 512, 512)), mean=torch.zeros(3))
    assert 1 / 17 < products(slim) / products(whole) < 1 / 12
