"""A tiny, seeded encoder and small pictures: all that most tests need."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from optistyle import pictures
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.layers import RELUS
from optistyle.machine import devices

# One thread: pictures here are tiny, and threads that wait for one another on a busy machine are
# slower than one. Set in the environment too, for the commands that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

#: For tests that ask for a precision that this machine may refuse.
bfloat16 = pytest.mark.skipif(
    not devices.computes(torch.device("cpu"), "bfloat16"), reason="not on this CPU"
)

STYLES = Path(__file__).parent.parent / "examples" / "styles"

#: Feature maps per block of the tiny encoder.
WIDTHS = (6, 8, 12, 16, 16)


def make_picture(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, height, width) in [0, 1]: smooth patches of colour with some grain."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 2 + height // 8, 2 + width // 8, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    grain = 0.1 * torch.randn(1, 3, height, width, generator=generator)
    return (smooth + grain).clamp(0, 1)


def random_convolutions(
    widths: tuple[int, ...] = WIDTHS, deepest: str = "relu5_1", seed: int = 0
) -> dict[str, Tensor]:
    """Random convolutions as `VGG` takes them, from conv1_1 to ``deepest``; every filter fires.

    Filters sum to 0: behind a rectifier the inputs' common level would decide alone, and many die.
    """
    generator = torch.Generator().manual_seed(seed)
    convolutions, source = {}, 3
    for layer in RELUS[: RELUS.index(deepest) + 1]:
        width = widths[int(layer[4]) - 1]
        weight = torch.randn(width, source, 3, 3, generator=generator) * (2 / (9 * source)) ** 0.5
        convolutions[f"conv{layer[4:]}.weight"] = weight - weight.mean((1, 2, 3), keepdim=True)
        convolutions[f"conv{layer[4:]}.bias"] = 0.1 * torch.rand(width, generator=generator)
        source = width
    return convolutions


def make_tiny(**options: str) -> VGG:
    """The tiny encoder before normalisation; ``options`` are `VGG`'s."""
    mean = torch.tensor((0.485, 0.456, 0.406))
    return VGG(random_convolutions(), mean=mean, **{"name": "tiny", **options})


@pytest.fixture(scope="session")
def _tiny() -> VGG:
    encoder = make_tiny()
    return normalise(
        encoder, mean_activations(encoder, [make_picture(64, 64, s) for s in range(4)])
    )


@pytest.fixture
def tiny(_tiny: VGG) -> VGG:
    """A mean-normalised VGG of narrow, random, seeded layers to relu5_1; the test's own copy."""
    return VGG(_tiny.convolutions(), mean=_tiny.mean, name="tiny")


@pytest.fixture
def picture() -> Callable[..., Tensor]:
    """``picture(height, width, seed=0)``: a small random image, (1, 3, height, width) in [0, 1]."""
    return make_picture


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of random numbers of the test's own."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with content.png and style.png."""
    pictures.write(tmp_path / "content.png", picture(40, 60, 1))
    pictures.write(tmp_path / "style.png", picture(50, 44, 2))
    monkeypatch.chdir(tmp_path)
    return tmp_path
