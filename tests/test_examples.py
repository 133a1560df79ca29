"""The demo and the sheets, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("skimage", reason="the examples use scikit-image's photographs")

import demo
import sheets

from optistyle import read


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
