"""Pictures of every kind that Python users have, and how wrong ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from optistyle import pictures
from optistyle.errors import InputError
from optistyle.pictures import Picture
from optistyle.recipes import Recipe
from optistyle.run import as_picture, read_inputs

#: 20 x 30 pixels in 8 bits.
SAMPLES = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
PIXELS = torch.from_numpy(SAMPLES).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize(
    "image",
    [
        SAMPLES,
        SAMPLES / 255,
        (SAMPLES / 255).astype(np.float32),
        torch.from_numpy(SAMPLES).permute(2, 0, 1),
        torch.from_numpy(SAMPLES).permute(2, 0, 1)[None],
        PIXELS,
        PIXELS[0],
        PIXELS.double(),
        PIXELS.clone().requires_grad_(),
        Image.fromarray(SAMPLES),
        Picture(PIXELS),
    ],
    ids=lambda image: f"{type(image).__name__}-{getattr(image, 'dtype', '')}",
)
def test_the_same_picture_in_every_form(image: Any) -> None:
    picture = as_picture(image)
    assert torch.allclose(picture.pixels, PIXELS, atol=1e-6)
    assert picture.pixels.dtype == torch.float32
    assert not picture.pixels.requires_grad
    assert picture.alpha is None
    inputs = read_inputs(image, [image, image], Recipe(style_weights=(3, 1)))
    assert inputs.shares == [0.75, 0.25]
    assert set(inputs.record["content"]) == {"sha256"}


def test_grey_and_transparent_arrays_and_images() -> None:
    grey = as_picture(SAMPLES[..., 0])
    assert torch.equal(grey.pixels, PIXELS[:, :1].expand(-1, 3, -1, -1))
    alpha = np.dstack([SAMPLES, SAMPLES[..., :1]])
    for image in (alpha, Image.fromarray(alpha)):
        picture = as_picture(image)
        assert torch.equal(picture.pixels, PIXELS)
        assert torch.equal(picture.alpha, PIXELS[:, :1])
    assert torch.equal(as_picture(Image.fromarray(SAMPLES[..., 0])).pixels, grey.pixels)


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (255 * PIXELS, "a tensor holds floats from 0 to 255; give floats in 0...1, or uint8"),
        ((255 * PIXELS).int(), "a tensor holds int32; give uint8 in 0...255 or floats in 0...1"),
        (SAMPLES.astype(float), "an array holds floats from 0 to 255"),
        (SAMPLES.astype(np.uint16), "an array holds uint16"),
        (SAMPLES[..., :2], r"an array is of shape \(20, 30, 2\); give \(H, W, 3\)"),
        (PIXELS.permute(0, 2, 3, 1), r"a tensor is of shape \(1, 20, 30, 3\)"),
        (PIXELS.expand(2, -1, -1, -1), r"a tensor is of shape \(2, 3, 20, 30\)"),
        (PIXELS[..., :9], "an image is 9x20 px; its shorter side must be 16 px or more"),
        (PIXELS * float("nan"), "holds NaN"),
        (None, "an image is given as NoneType; give a file, a PIL image"),
        (3, "an image is given as int"),
        (b"bytes", "an image is given as bytes"),
        (Picture(PIXELS, 0 * PIXELS[:, :1]), "transparent all over"),
    ],
)
def test_what_is_no_picture_is_refused(image: Any, line: str) -> None:
    for call in (lambda: as_picture(image), lambda: read_inputs(PIXELS, [PIXELS, image])):
        with pytest.raises(InputError, match=line) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_files_are_read_once(
    tmp_path: Path, picture: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, count, read = tmp_path / "a.png", [0], pictures.read
    pictures.write(path, picture(20, 30))

    def counted(path: Any) -> Picture:
        count[0] += 1
        return read(path)

    monkeypatch.setattr(pictures, "read", counted)
    inputs = read_inputs(path, str(path))
    assert count == [2]
    assert inputs.record["content"] == inputs.record["styles"][0]
    assert inputs.record["content"]["path"] == str(path)


def test_no_style_and_no_such_start() -> None:
    with pytest.raises(InputError, match="no style image is given"):
        read_inputs(PIXELS, [])
    with pytest.raises(InputError, match="init 'contnt' is neither a file nor one of content"):
        read_inputs(PIXELS, PIXELS, Recipe(init="contnt"))
