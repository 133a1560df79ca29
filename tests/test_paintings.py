"""The painted style pictures: deterministic, seeded, rich in colour and texture."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

from paintings import PAINTINGS, paint  # noqa: E402

SIZE = 96


@cache
def small(name: str, seed: int) -> Image.Image:
    return paint(name, SIZE, seed)


@pytest.mark.parametrize("name", PAINTINGS)
def test_same_seed_paints_the_same_picture(name: str) -> None:
    assert small(name, 0).tobytes() == paint(name, SIZE, 0).tobytes()


@pytest.mark.parametrize("name", PAINTINGS)
def test_another_seed_paints_another_picture(name: str) -> None:
    assert small(name, 0).tobytes() != small(name, 1).tobytes()


@pytest.mark.parametrize("name", PAINTINGS)
def test_size_colours_and_local_contrast(name: str) -> None:
    picture = small(name, 0)
    assert picture.mode == "RGB"
    assert max(picture.size) == SIZE
    pixels = np.asarray(picture, np.float64)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 2000
    grey = pixels.mean(axis=2)
    rows, cols = (side // 8 for side in grey.shape)
    blocks = grey[: 8 * rows, : 8 * cols].reshape(rows, 8, cols, 8).std(axis=(1, 3))
    assert np.median(blocks) > 5
    assert grey.std() > 25


def test_command_line_paints_what_it_is_asked_for(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "paint.py", "woodcut", "-o", tmp_path, "--size", "96"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "woodcut.jpg")]
    assert (tmp_path / "woodcut.jpg").stat().st_size > 1000


def test_command_line_refuses_an_unknown_name(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "paint.py", "fresco", "-o", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "fresco" in done.stderr
