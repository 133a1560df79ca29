"""HEIC and JPEG XL: their readers, limits, notes and what is said without a reader."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from optistyle.pictures import notes, read
from tests.picture_extras import HAS_HEIC, heic, heics
from tests.picture_files import RGB, H, W, box
from tests.test_formats_matrix import outcome
from tests.test_odd_pictures import NOTES, refusal

needs_heic = pytest.mark.skipif(not HAS_HEIC, reason="pillow-heif, which makes HEIC, is missing")


@pytest.mark.parametrize("brands", [b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heix"])
def test_heic_without_a_reader_names_the_extra(
    brands: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, module, None)
    message = refusal(box(b"ftyp", brands) + bytes(99))
    assert re.search(r'HEIC.*allowed: .*: pip install "optistyle\[formats\]" .*JPEG', message)


def test_jpeg_xl_without_a_reader_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    data = imagecodecs.jpegxl_encode(RGB)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    message = refusal(data)
    assert re.search(r'JPEG XL.*allowed: .*: pip install "optistyle\[formats\]" .*djxl', message)


@pytest.mark.parametrize("boxes", [False, True])
def test_jpeg_xl_has_a_limit_before_it_is_decoded(boxes: bool) -> None:
    data = imagecodecs.jpegxl_encode(np.tile(RGB, (40, 50, 1)), usecontainer=boxes)
    words = f"more than {H * W} pixels"
    assert words in refusal(data, max_pixels=H * W)
    assert words in refusal(data[: len(data) // 2], max_pixels=H * W)
    assert "header is cut off" in refusal(data[: data.index(b"\xff\x0a") + 4])


@needs_heic
def test_heic_changes_nothing_of_pillow_and_has_notes_and_a_limit() -> None:
    formats = set(Image.OPEN)
    data = heic(RGB, exif=b"Exif\0\0" + notes.to_exif(NOTES))
    assert read(data, max_pixels=H * W).notes == NOTES
    assert f"more than {H * W - 1} pixels" in refusal(data, max_pixels=H * W - 1)
    assert "shorter side" in refusal(heic(RGB[:15]))
    assert set(Image.OPEN) == formats


@needs_heic
@pytest.mark.parametrize("missing", ["pi_heif", "pillow_heif", "imagecodecs"])
def test_heic_by_either_reader_and_without_deep_colours(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = [dataclasses.replace(case, make=lambda data=case.make(): data) for case in heics()]  # noqa: B008
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "pillow_heif":
        pytest.importorskip("pi_heif")
    for case in made:
        if missing == "imagecodecs" and "10 bits" in case.detail and not case.refused:
            if case.said:  # two warnings
                continue
            case = dataclasses.replace(case, said="10 bits, read as 8")
        assert outcome(case, tmp_path) == "", case
