"""``optistyle run`` over folders and patterns, and from stdin to stdout."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import FAST, contents, optistyle, paint, refused
from PIL import Image

from optistyle import encoders, pictures
from optistyle.cli import main
from optistyle.cli.batch import files_of
from optistyle.files import digest

BATCH = ("style.png", *FAST, "-o", "painted/")


@pytest.fixture
def photos(folder: Path) -> Path:
    """A folder with two images of the same stem, another one, and files to skip."""
    place = folder / "photos"
    place.mkdir()
    shutil.copy("content.png", place / "a.png")
    Image.open("style.png").save(place / "A.jpg")
    shutil.copy("content.png", place / "b.png")
    shutil.copy("content.png", place / ".hidden.png")
    (place / "notes.txt").write_text("hello")
    return place


def made(place: Path) -> dict[str, int]:
    """When each picture of the folder was written."""
    return {path.name: path.stat().st_mtime_ns for path in place.glob("*.png")}


def test_a_folder(photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged image is recorded and the rest painted; a restart paints what is missing."""
    loads, load = [], encoders.load
    monkeypatch.setattr(encoders, "load", lambda *x, **y: loads.append(1) or load(*x, **y))
    (photos / "bad.png").write_bytes(b"no image")
    result = optistyle("run", "photos", *BATCH)
    assert result.exit_code == 1, result.output
    assert len(loads) == 1
    lines = [x for x in result.stderr.splitlines() if x.startswith("optistyle: ")]
    assert lines[0] == "optistyle: painting 4 images of photos in the style of style.png"
    assert sum("photos/bad.png is not an image" in line for line in lines) == 1
    assert sum(line.startswith("optistyle: plan: ") for line in lines) == 1
    assert lines[-1] == "optistyle: 3 painted, 0 finished before, 1 failed"
    expected = {
        f"A-{digest(photos / 'A.jpg')[:8]}.png",
        f"a-{digest(photos / 'a.png')[:8]}.png",
        "b.png",
    }
    first = made(folder / "painted")
    assert set(first) == expected
    assert result.stdout.count("painted/") == 3
    assert paint("-o", "alone.png").exit_code == 0
    assert Path("alone.png").read_bytes() == Path("painted/b.png").read_bytes()

    shutil.copy("style.png", photos / "bad.png")
    (folder / "painted" / "b.png").unlink()
    (folder / "painted" / "b.json").unlink()
    result = optistyle("run", "photos", *BATCH, "-q")
    assert (result.exit_code, result.output) == (0, "")
    second = made(folder / "painted")
    assert set(second) == {*expected, "bad.png"}
    assert all(second[name] == first[name] for name in expected - {"b.png"})


def test_the_invitation_to_vgg19_comes_once_for_all_pictures(
    photos: Path, folder: Path, without_vgg19: None
) -> None:
    batch = ("run", "photos", "style.png", *FAST[2:], "-o", "painted/")
    result = optistyle(*batch)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("pip install") == 1
    for report in Path("painted").glob("*.json"):
        assert json.loads(report.read_text())["recipe"]["encoder"] == "slim"
    assert "0 painted, 3 finished before" in optistyle(*batch).stderr


def test_other_settings_are_refused_before_any_work(photos: Path, folder: Path) -> None:
    assert optistyle("run", "photos/b*", *BATCH).exit_code == 0
    line = refused(folder, "run", "photos/b*", *BATCH, "--gamma", "0")
    assert line == (
        "optistyle: painted/b.png: of other settings or inputs; choose another folder with -o, or "
        "overwrite them with --force"
    )
    shutil.copy("style.png", photos / "b.png")
    assert "of other settings or inputs" in refused(folder, "run", "photos/b*", *BATCH)
    assert optistyle("run", "photos/b*", *BATCH, "--force").exit_code == 0
    assert optistyle("run", "photos/b*", *BATCH).exit_code == 0  # finished now
    manifest = Path("painted/b.json")
    record = json.loads(manifest.read_text())
    record["versions"]["optistyle"] = "0.0.1"
    manifest.write_text(json.dumps(record))
    assert "of other settings or inputs" in refused(folder, "run", "photos/b*", *BATCH)


def test_an_interrupted_one_goes_on(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("run", "photos/b*", *BATCH, "--checkpoint-every", "0")
    with monkeypatch.context() as patch:
        patch.setattr("optistyle.run.Run.result", lambda run: 1 / 0)  # a crash at the end
        result = optistyle(*arguments)
    assert result.exit_code == 1
    assert "photos/b.png: ZeroDivisionError: division by zero" in result.stderr
    assert Path("painted/b.png.checkpoint").exists()
    result = optistyle(*arguments)
    assert result.exit_code == 0, result.output
    assert "iteration 1/2" not in result.stderr
    assert paint("-o", "alone.png").exit_code == 0
    assert Path("alone.png").read_bytes() == Path("painted/b.png").read_bytes()


def test_a_file_comes_before_a_pattern(folder: Path) -> None:
    for name in ("photo[1].png", "photo1.png"):
        shutil.copy("content.png", name)
    assert files_of("photo[1].png") is None
    assert files_of("photo[12].png") == [Path("photo1.png")]
    assert optistyle("run", "photo[1].png", "style.png", *FAST).exit_code == 0
    assert json.loads(Path("out.json").read_text())["inputs"]["content"]["path"].endswith("[1].png")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["photos", "style.png"], "photos stands for 3 images: name a folder with -o FOLDER/"),
        (["photos", "style.png", "-o", "x.png"], "-o x.png: photos stands for 3 images"),
        (["photos", "style.png", "-o", "photos"], "-o photos is the folder of the images"),
        (["photos", "style.png", "-o", "-"], "-o -: photos stands for 3 images"),
        (["empty", *BATCH], "empty is a folder without images (.jpg,"),
        (["*.bmp", *BATCH], "no file matches '*.bmp'"),
        (["photos", "nowhere.png", *BATCH[1:]], "nowhere.png does not exist"),
        (["photos", *BATCH, "--style-weights", "1,2"], "style weights: got 2 for 1 style image"),
    ],
)
def test_bad_batches(photos: Path, folder: Path, arguments: list[str], line: str) -> None:
    (folder / "empty").mkdir()
    assert line in refused(folder, "run", *arguments)
    assert not (folder / "painted").exists()


def test_from_stdin_to_stdout(folder: Path) -> None:
    photograph = Path("content.png").read_bytes()
    before = contents(folder)
    arguments = ["run", "-", "style.png", *FAST, "-o", "-"]
    result = CliRunner().invoke(main, arguments, input=photograph)
    assert result.exit_code == 0, result.stderr
    assert contents(folder) == before
    assert result.stderr.splitlines()[0] == "optistyle: painting stdin in the style of style.png"
    assert result.stderr.splitlines()[-1].startswith("stdout  (32x21, ")
    assert Image.open(io.BytesIO(result.stdout_bytes)).format == "PNG"
    assert paint("-o", "out.png").exit_code == 0
    assert Path("out.png").read_bytes() == result.stdout_bytes
    result = CliRunner().invoke(main, arguments[:-2], input=photograph)
    assert "out.png exists already" in result.stderr
    result = CliRunner().invoke(main, [*arguments[:-2], "-o", "b.png"], input=photograph)
    assert pictures.read("b.png").width == 32
    assert "path" not in json.loads(Path("b.json").read_text())["inputs"]["content"]


@pytest.mark.parametrize(
    ("arguments", "given", "line"),
    [
        (["-", "style.png"], b"", "stdin is empty (0 bytes)"),
        (["-", "style.png"], b"text", "stdin is not an image that can be read"),
        (["content.png", "style.png", "-o", "-", "--bits", "12"], b"", "12 bits for stdout"),
        (["content.png", "style.png", "-o", "-", "--resume"], b"", "leave out --resume"),
        (["content.png", "-"], b"", "- does not exist"),
    ],
)
def test_bad_streams(folder: Path, arguments: list[str], given: bytes, line: str) -> None:
    before = contents(folder)
    result = CliRunner().invoke(main, ["run", *arguments, *FAST], input=given)
    assert (result.exit_code, result.stdout_bytes) == (2, b"")
    assert line in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert contents(folder) == before
