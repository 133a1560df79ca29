"""Faces in photographs, and the remark of ``optistyle run`` about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import FAST, optistyle
from torch import Tensor

from optistyle import pictures
from optistyle.pictures import faces

data = pytest.importorskip("skimage.data", reason="the detector is scikit-image's")

REMARK = "optistyle: a face was found: --preset portrait keeps faces nearer to the photograph"
#: As FAST, with the scales and the beta of the default, for which the remark is.
RUN = ("run", "face.png", "style.png", *FAST)


def photograph(name: str) -> Tensor:
    """One of scikit-image's, (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture
def astronaut(folder: Path) -> None:
    """face.png in the working folder."""
    pictures.write("face.png", photograph("astronaut"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("astronaut", True), ("chelsea", False), ("coffee", False), ("rocket", False)],
)
def test_faces_of_people_are_found(name: str, expected: bool) -> None:
    assert faces.has_face(photograph(name)) == expected


def test_a_small_face_does_not_count() -> None:
    surroundings = torch.full((1, 3, 1100, 1100), 0.5)
    surroundings[..., :512, :512] = photograph("astronaut")
    assert not faces.has_face(surroundings)


@pytest.mark.parametrize("size", [(16, 16), (16, 400), (400, 30), (24, 24)])
def test_pictures_of_any_size_are_searched(
    size: tuple[int, int], picture: Callable[..., Tensor]
) -> None:
    assert not faces.has_face(picture(*size))


def test_the_remark_comes_last(astronaut: None) -> None:
    result = optistyle(*RUN)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-1] == REMARK
    assert "face" not in result.stdout.replace("face.png", "")


@pytest.mark.parametrize(
    "options",
    [
        ["--preset", "portrait"],
        ["--scales", "single"],
        ["--beta", "1e6"],
        ["--strength", "soft"],
        ["--quiet"],
    ],
)
def test_no_remark_where_the_settings_were_chosen(astronaut: None, options: list[str]) -> None:
    result = optistyle(*RUN, *options)
    assert result.exit_code == 0, result.output
    assert REMARK not in result.stderr


def test_no_remark_in_a_batch(astronaut: None) -> None:
    result = optistyle("run", "f*.png", "style.png", *FAST, "-o", "painted")
    assert result.exit_code == 0, result.output
    assert REMARK not in result.stderr


def test_no_remark_without_scikit_image(astronaut: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not faces.has_face(photograph("astronaut"))


def test_a_detector_that_fails_does_not_fail_the_run(
    astronaut: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(image: object) -> None:
        raise RuntimeError("no cascade")

    monkeypatch.setattr(faces, "_detected", fail)
    result = optistyle(*RUN)
    assert result.exit_code == 0, result.output
    assert "cascade" not in result.output
    assert Path("out.png").exists()
