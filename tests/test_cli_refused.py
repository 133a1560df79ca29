"""``optistyle run``: bad options and pictures are refused in one line, and nothing is written."""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import FAST, paint, refused
from PIL import Image

from optistyle import files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "-1"], "alpha is -1.0; give a number of 0 or more"),
        (["--beta", "nan"], "beta is nan"),
        (["--beta", "1e45"], "beta is 1e+45; give a number up to 3.4e+38"),
        (["--gamma", "inf"], "gamma is inf"),
        (["--tv", "-0.5"], "tv is -0.5"),
        (["--range", "nan"], "range is nan"),
        (["--alpha", "much"], "alpha is 'much'; give a number of 0 or more"),
        (["--alpha", "0", "--beta", "0", "--gamma", "0", "--range", "0"], "all weights are 0"),
        (["--style-layers", "relu4_7"], "unknown layer 'relu4_7'; did you mean 'relu4_"),
        (["--style-layers", "relu5_4"], "unknown layer of encoder slim 'relu5_4'"),
        (["--content-layers", "relu4_1:x"], "is not a number; write relu4_1:2"),
        (["--attention-layers", "relu4_1:-1"], "not a positive number"),
        (["--attention-layers", ""], "no layer is named"),
        (["--style-weights", "1,2"], "style weights: got 2 for 1 style image; give one for each"),
        (["--style-weights", "1;2"], "style weights is '1;2'; give a number of 0 or more"),
        (["--style-weights=-1"], "style weights is -1.0; give a number of 0 or more"),
        (["--style-scale", "0"], "style scale is 0.0; give a number above 0"),
        (["--original-colors", "hue"], "unknown original colors 'hue'"),
        (["--size", "8"], "size is 8; give a whole number, 16 to 32768 px"),
        (["--size", "100000"], "size is 100000"),
        (
            ["--size", "big"],
            "size is 'big'; give a whole number, 16 to 32768 px, or auto, or original",
        ),
        (["--size", "20"], "20x13; its shorter side must be at least 16 px"),
        (["--iterations", "0"], "iterations is 0; give a whole number, 1 or more"),
        (["--iterations", "5,5"], "iterations: got 2 for 1 scales"),
        (["--scales", "sinlge"], "unknown scales 'sinlge'; did you mean 'single'"),
        (["--scales", "64,48"], "must grow"),
        (["--scales", "48,64"], "the last scale is 64 px, but the size is 32 px"),
        (["--optimizer", "sgd"], "unknown optimizer 'sgd'"),
        (["--lr", "0"], "lr is 0.0"),
        (["--lr", "fast"], "lr is 'fast'; give a number above 0, or auto"),
        (["--init", "nowhere.png"], "neither a file nor one of content, style, noise, grey"),
        (["--init", "text.txt"], "text.txt is not an image that can be read"),
        (["--seed", "-1"], "seed is -1"),
        (["--seed", "1.5"], "seed is '1.5'; give a whole number"),
        (["--encoder", "vgg91"], "unknown encoder 'vgg91'; did you mean 'vgg19'"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
        (["--weights", "text.txt"], "text.txt"),
        (["--weights", "other.pth"], "other.pth: not the weights of a VGG-19"),
        (["--weights", "short.pth"], "short.pth"),
        (["--pooling", "maximum"], "unknown pooling 'maximum'; did you mean 'max'"),
        (["--precision", "half"], "unknown precision 'half'"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--device", "cuda:99"], "device 'cuda:99'"),
        (["--preset", "fien"], "unknown preset 'fien'; did you mean 'fine'"),
        (["-o", "out.gif"], "unknown extension of the output '.gif'"),
        (["-o", "out"], "unknown extension of the output ''"),
        (["-o", "nowhere/out.png"], "does not exist: create it first"),
        (["-o", "content.png"], "content.png is the input content.png as well"),
        (["-o", "link.png"], "link.png is the input style.png as well"),
        (["-o", "full.png"], "full.png is a folder"),
        (["-o", "report.png"], "report.json is a folder"),
        (["-o", "check.png"], "check.png.checkpoint is a folder"),
        (["--bits", "0"], "0 bits for out.png (allowed: 8, 16)"),
        (["--bits", "12"], "12 bits for out.png (allowed: 8, 16)"),
        (["--bits", "16", "-o", "out.jpg"], "only PNG and TIFF hold them"),
        (["--snapshot-every", "0"], "snapshots every 0 iterations: it must be 1 or more"),
        (["--checkpoint-every", "-1"], "checkpoints every -1.0 seconds"),
        (["--checkpoint-every", "nan"], "checkpoints every nan seconds"),
        (["--gama", "3"], "No such option '--gama'|No such option: --gama"),
        (["--alpha"], "Option '--alpha' requires an argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options(folder: Path, options: list[str], message: str) -> None:
    Path("text.txt").write_text("hello")
    torch.save({"weight": torch.zeros(3)}, "other.pth")
    torch.save({"conv1_1.weight": torch.zeros(64, 3, 3, 3)}, "short.pth")
    os.link("style.png", "link.png")
    for name in ("full.png", "report.json", "check.png.checkpoint"):
        Path(name).mkdir()
    line = refused(folder, "run", "content.png", "style.png", *FAST, *options)
    assert any(part in line for part in message.split("|")), line


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "bf16"])
def test_precisions_that_this_machine_lacks(
    folder: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    line = refused(folder, "run", "content.png", "style.png", *FAST, "--precision", precision)
    name = {"bf16": "bfloat16"}.get(precision, precision)
    assert f"device 'cpu' does not compute in {name} (" in line
    assert line.endswith(" does): use --precision float32")


def test_unknown_option_is_suggested(folder: Path) -> None:
    assert "--gamma" in refused(folder, "run", "content.png", "style.png", "--gama", "3")


def large_png(path: Path) -> None:
    """20000 x 20000 pixels, by its header."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    Image.new("L", (20, 20)).save(path)
    path.write_bytes(path.read_bytes()[:8] + chunk + path.read_bytes()[33:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "bad.png does not exist"),
        (lambda path: path.write_bytes(b""), "bad.png is empty (0 bytes)"),
        (lambda path: path.write_bytes(b"not an image"), "not an image that can be read"),
        (
            lambda path: path.write_bytes(Path("content.png").read_bytes()[:900]),
            "bad.png is damaged, cut off",
        ),
        (lambda path: path.mkdir(), "bad.png is a folder"),
        (large_png, "bad.png has more than 200000000 pixels"),
        (lambda path: Image.new("RGB", (300, 15)).save(path), "its shorter side"),
        (
            lambda path: Image.new("RGBA", (40, 40)).save(path),
            "bad.png is transparent all over",
        ),
    ],
)
@pytest.mark.parametrize("role", ["content", "style", "init"])
def test_bad_pictures(
    folder: Path, make: Callable[[Path], object], message: str, role: str
) -> None:
    make(Path("bad.png"))
    arguments = {
        "content": ["bad.png", "style.png"],
        "style": ["content.png", "style.png", "bad.png"],
        "init": ["content.png", "style.png", "--init", "bad.png"],
    }[role]
    if role == "init" and "does not exist" in message:
        message = "neither a file nor one of"
    if role == "init" and "transparent" in message:
        return  # only its colours are taken
    assert message in refused(folder, "run", *arguments, *FAST)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(folder: Path) -> None:
    Path("locked").mkdir()
    Path("locked").chmod(stat.S_IRUSR | stat.S_IXUSR)
    line = refused(folder, "run", "content.png", "style.png", *FAST, "-o", "locked/out.png")
    assert "may not be written to" in line


def test_read_only_folder_as_the_system_tells(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.os, "access", lambda path, mode: mode != os.W_OK)
    line = refused(folder, "run", "content.png", "style.png", *FAST)
    assert "may not be written to" in line


def test_out_of_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optistyle.machine.memory.free", lambda device: 60_000_000)
    line = refused(folder, "run", "content.png", "style.png", *FAST, "--size", "4000")
    assert re.search(r"4000x2667 px takes about .* GB .*: --size \d+ would fit$", line)


def test_the_disk_fills_at_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("optistyle.pictures.writing.write_whole", full)
    result = paint("--quiet")
    assert result.exit_code == 2
    assert result.stderr == "optistyle: out.png cannot be written: No space left on device\n"


# --- outputs that exist ---


def test_snapshots_overwrite_nothing(folder: Path) -> None:
    Path("out-00002.png").write_bytes(b"mine")
    line = refused(folder, "run", "content.png", "style.png", *FAST, "-q", "--snapshot-every", "2")
    assert "out-00002.png exists already" in line
    assert paint("--snapshot-every", "2", "--force").exit_code == 0
    assert Path("out-00002.png").read_bytes() == Path("out.png").read_bytes()


def test_an_unfinished_run_is_not_started_over_by_mistake(folder: Path) -> None:
    Path("out.png.checkpoint").write_bytes(b"hours of work")
    line = refused(folder, "run", "content.png", "style.png", *FAST)
    assert "out.png.checkpoint is of an unfinished run: go on with --resume" in line
    assert paint("--force").exit_code == 0


@pytest.mark.parametrize("option", ["-o", "--warp"])
def test_a_figure_overwrites_nothing(folder: Path, option: str) -> None:
    Path("figure.png").write_bytes(b"mine")
    points = ["--point", "5,5"] if option == "-o" else []
    arguments = ["attention", "content.png", "style.png", *points, option, "figure.png"]
    assert "figure.png exists already" in refused(folder, *arguments)


@pytest.mark.parametrize(
    "arguments", [["slim", "photos"], ["adain", "--contents", "photos", "--styles", "photos"]]
)
def test_a_training_overwrites_no_weights(folder: Path, arguments: list[str]) -> None:
    Path("mine.safetensors").write_bytes(b"mine")
    line = refused(folder, "train", *arguments, "-o", "mine.safetensors")
    assert "mine.safetensors exists already" in line


def test_a_comparison_is_not_written_among_other_things(folder: Path) -> None:
    Path("mine").mkdir()
    Path("mine", "report.html").write_bytes(b"mine")
    arguments = ["compare", "content.png", "style.png", "--methods", "adain", "-o", "mine"]
    assert "mine is not empty, and not a comparison's" in refused(folder, *arguments)
