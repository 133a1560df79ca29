"""The demo and the sheets, small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("skimage", reason="the examples use scikit-image's photographs")

import demo
import poster
import sheets
from conftest import make_picture

from optistyle import Recipe, read, write

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_demo_writes_picture_manifest_and_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main(size=64, out=tmp_path)
    picture, page = read(tmp_path / "demo.png"), read(tmp_path / "demo-sheet.png")
    assert (picture.height, picture.width) == (43, 64)
    assert page.width > 3 * 64
    final = json.loads((tmp_path / "demo.json").read_text())["final"]
    assert final["style"] > 0
    assert str(tmp_path / "demo.png") in capsys.readouterr().out


def test_sheet_pictures_differ_by_gamma_and_are_kept(tmp_path: Path) -> None:
    pair = ("chelsea", "woodcut")
    with_attention = sheets.picture("slim", pair, 6e6, 48, tmp_path)
    without = sheets.picture("slim", pair, 0.0, 48, tmp_path)
    assert not torch.equal(with_attention, without)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    sheets.picture("slim", pair, 0.0, 48, tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_an_ablation_of_ones_own(tmp_path: Path) -> None:
    for seed, name in enumerate(("content", "style")):
        write(tmp_path / f"{name}.png", make_picture(48, 64, seed))
    arguments = [tmp_path / "content.png", tmp_path / "style.png", "-o", tmp_path / "out"]
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "ablate_layers.py", *arguments, "--size", "48"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "| mostly relu3_1 |" in ran.stdout
    assert read(tmp_path / "out" / "figure.jpg").width > 256


@pytest.mark.slow
def test_report_003_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of its figures, its attention maps, and the claims on a few pairs of our own making."""
    pytest.importorskip("matplotlib")
    import claims
    import report_003

    rc2021 = tmp_path / "rc2021"
    for kind in ("content", "style"):
        (rc2021 / kind).mkdir(parents=True)
        for index in range(7):
            write(rc2021 / kind / f"{kind}{index}.png", make_picture(48, 48, index))
    monkeypatch.setattr(claims, "RC2021", rc2021)
    monkeypatch.setattr(report_003, "ROOT", tmp_path)
    arguments = ["--small", "--encoder", "slim", "--only", "gamma", "attention", "claims"]
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "report_003.py",
            *arguments,
            "--workers",
            "1",
            "--threads",
            "1",
            "-o",
            str(tmp_path / "docs"),
        ],
    )
    report_003.main()
    names = {path.name for path in (tmp_path / "docs").iterdir()}
    assert names == {
        "gamma-slim.jpg", "gamma-slim.json", "attention-slim.jpg", "warps-slim.jpg",
        "claims-slim.json",
    }  # fmt: skip
    found = json.loads((tmp_path / "docs" / "claims-slim.json").read_text())
    assert {len(rows) for rows in found["rows"].values()} == {3}
    assert found["findings"]["gram, gamma 6e6 less gamma 0: strays"]["count"] == 3


def test_curves_are_compared_at_equal_content_error() -> None:
    import claims

    curve = [
        {"content_distance": c, "gram_distance": g}
        for c, g in ((0.1, 1.0), (0.4, 0.25), (1.6, 0.1))
    ]
    at = {"content_distance": 0.2, "gram_distance": 9.0}
    # Halfway between the first two in the logarithm of either.
    assert claims.matched(curve, at, "gram_distance") == pytest.approx(0.5)
    outside = {"content_distance": 2.0, "gram_distance": 9.0}
    assert claims.matched(curve, outside, "gram_distance") is None


def test_a_poster_and_its_tiles_corners(tmp_path: Path) -> None:
    recipe = Recipe(encoder="slim", size=320, tile=96, iterations=(1,), scales="single")
    files = poster.main(recipe, tmp_path)
    assert [path.name for path in files][:3] == ["poster.png", "poster.json", "overview.jpg"]
    assert [path.name for path in files][3:] == ["corner-160-160.png"]
    assert read(files[0]).width == 320
    assert json.loads(files[1].read_text())["recipe"]["tile"] == 96
