"""The command line: help, the settings, what is written, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import bfloat16
from PIL import Image
from torch import Tensor

from optistyle import files, pictures
from optistyle.cli import main
from optistyle.layers import RELUS
from optistyle.optimise.objective import Objective
from optistyle.recipes import PRESETS, Recipe
from optistyle.run import stylize

FAST = ["--encoder", "slim", "--device", "cpu", "--size", "32", "--iterations", "2"]


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with content.png and style.png."""
    pictures.write(tmp_path / "content.png", picture(40, 60, 1))
    pictures.write(tmp_path / "style.png", picture(50, 44, 2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def optistyle(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def paint(*arguments: str) -> Result:
    return optistyle("run", "content.png", "style.png", *FAST, *arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(folder: Path, *arguments: str) -> str:
    """The one line on stderr of a command that must fail and write nothing."""
    before = contents(folder)
    result = optistyle(*arguments)
    assert result.exit_code == 2, result.output
    assert contents(folder) == before
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("optistyle: ")
    return line


# --- the main job ---


def test_run_writes_picture_and_manifest(folder: Path) -> None:
    result = paint()
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"out\.png  \(32x21, \d+ s\)\n", result.stdout)
    lines = result.stderr.splitlines()
    assert lines[0] == "optistyle: encoder slim"
    assert re.fullmatch(
        r"optistyle: plan: 32x21 px whole, about \d\.\d GB of memory and \d+ s", lines[1]
    )
    assert lines[2].startswith("scale 1/1 (32x21)  iteration 1/2  total")
    assert lines[-1].endswith("0 s left")
    assert set(contents(folder)) == {"content.png", "style.png", "out.png", "out.json"}
    manifest = json.loads((folder / "out.json").read_text())
    assert manifest["inputs"]["content"]["sha256"] == files.digest("content.png")
    assert manifest["recipe"]["size"] == 32
    assert len(manifest["trace"]) == 2
    assert pictures.read("out.png").width == 32


def test_plan_writes_nothing(folder: Path) -> None:
    before = contents(folder)
    result = optistyle("plan", "content.png", "style.png", *FAST, "--size", "400", "--tile", "96")
    assert result.exit_code == 0, result.output
    line = r"400x267 px in tiles of 96 px, about \d\.\d GB of memory and \d+ s\n"
    assert re.fullmatch(line, result.stdout)
    assert contents(folder) == before


def test_tiles_are_recorded_and_repeated(folder: Path) -> None:
    """The picture in tiles is the whole one's to rounding, and its own to the bit."""
    size = ("--size", "320")
    assert paint(*size, "--tile", "96", "-o", "tiled.png").exit_code == 0
    assert paint(*size, "-o", "whole.png").exit_code == 0
    recipe = json.loads((folder / "tiled.json").read_text())["recipe"]
    assert (recipe["tile"], recipe["history"]) == (96, 5)
    tiled, whole = (pictures.read(f"{name}.png").pixels for name in ("tiled", "whole"))
    assert (tiled - whole).abs().max() < 2 / 255
    assert optistyle("run", "--from", "tiled.json", "-o", "again.png").exit_code == 0
    assert files.digest("again.png") == files.digest("tiled.png")
    assert json.loads((folder / "again.json").read_text())["recipe"] == recipe


@pytest.mark.parametrize("command", ["run", "plan"])
def test_tiles_that_cannot_be(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = (command, "content.png", "style.png", *FAST)
    assert "a tile of 64 px is smaller than the 80 px" in refused(folder, *pair, "--tile", "64")
    line = "'big' is not a whole number, nor 'auto', 'off'"
    assert line in refused(folder, *pair, "--tile", "big")
    assert "tile is 0; it must be auto, off or" in refused(folder, *pair, "--tile", "0")
    assert "history is -1; it must be auto or" in refused(folder, *pair, "--history", "-1")
    monkeypatch.setattr("optistyle.machine.memory.free", lambda device: 60_000_000)
    line = refused(folder, *pair, "--size", "4000", "--tile", "off")
    assert re.search(r"4000x2667 px takes about .*--size \d+ would fit, or --tile auto may$", line)


def test_quiet(folder: Path) -> None:
    result = paint("--quiet", "-o", "a.jpg")
    assert (result.exit_code, result.output) == (0, "")
    assert Image.open("a.jpg").format == "JPEG"


def test_auto_says_how_to_get_the_other(folder: Path) -> None:
    arguments = [*FAST[2:], "-o", "a.png"]
    result = optistyle("run", "content.png", "style.png", *arguments)
    assert result.stderr.splitlines()[0] == (
        "optistyle: encoder slim, the fast one for CPUs (the real VGG-19: --encoder vgg19)"
    )


def test_same_seed_same_bytes(folder: Path) -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert paint("--init", "noise", "--seed", seed, "-o", f"{name}.png").exit_code == 0
    a, b, c = (Path(f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    "options",
    [
        ["--original-colors", "luminance"],
        ["--original-colors", "histogram"],
        ["--original-colors", "covariance"],
        ["--style-loss", "wasserstein"],
        ["--attention-form", "local", "--centre", "none"],
        ["--attention-layers", "relu3_1:2,conv4_1"],
        ["--tv", "2", "--tv-form", "l1"],
        ["--optimizer", "adam", "--lr", "0.01"],
        ["--pooling", "max", "--padding", "zeros"],
        pytest.param(["--precision", "bfloat16"], marks=bfloat16),
        ["--init", "style.png"],
        ["--gamma", "0", "--scales", "24,32", "--iterations", "2,1"],
        ["--preset", "gatys"],
        ["--bits", "16"],
        ["--style-scale", "0.5"],
    ],
)
def test_options_reach_the_run(folder: Path, options: list[str]) -> None:
    result = paint(*options)
    assert result.exit_code == 0, result.output
    recipe = json.loads(Path("out.json").read_text())["recipe"]
    for option, value in zip(options[::2], options[1::2], strict=True):
        name = option[2:].replace("-", "_")
        if isinstance(recipe.get(name), str):
            assert recipe[name] == value


@bfloat16
def test_the_short_name_of_bfloat16(folder: Path) -> None:
    assert paint("--precision", "bf16").exit_code == 0
    assert json.loads(Path("out.json").read_text())["recipe"]["precision"] == "bfloat16"


def test_several_styles(folder: Path) -> None:
    shutil.copy("content.png", "other.png")
    result = optistyle(
        "run", "content.png", "style.png", "other.png", *FAST, "--style-weights", "3,1"
    )
    assert result.exit_code == 0, result.output
    manifest = json.loads(Path("out.json").read_text())
    assert [Path(s["path"]).name for s in manifest["inputs"]["styles"]] == [
        "style.png",
        "other.png",
    ]


def test_transparency_is_put_back(folder: Path) -> None:
    pixels = np.asarray(Image.open("content.png"))
    alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    alpha[:20] = 0
    Image.fromarray(np.concatenate([pixels, alpha], 2)).save("content.png")
    assert paint("--original-colors", "luminance").exit_code == 0
    painted = np.asarray(Image.open("out.png"))
    assert painted.shape == (21, 32, 4)
    assert painted[:9, :, 3].max() < 10
    assert painted[12:, :, 3].min() > 245


def test_snapshots(folder: Path) -> None:
    assert paint("--snapshot-every", "1", "-o", "a.png").exit_code == 0
    assert {"a-00001.png", "a-00002.png", "a.png"} <= set(contents(folder))


def test_warnings_are_one_line(folder: Path) -> None:
    Image.open("content.png").save("profile.png", icc_profile=b"x" * 16 + b"RGB " + b"x" * 200)
    arguments = ["run", "profile.png", "style.png", *FAST]
    result = optistyle(*arguments)
    assert result.exit_code == 0, result.output
    line = "optistyle: profile.png has a damaged colour profile; taken as sRGB"
    assert result.stderr.splitlines()[0] == line
    assert optistyle(*arguments, "--quiet").output == ""
    with warnings.catch_warnings(record=True) as caught:  # and Python's own way is as it was
        warnings.warn("still here", stacklevel=1)
    assert len(caught) == 1


# --- again ---


def test_from_repeats_to_the_same_bytes(folder: Path) -> None:
    first = ["--init", "noise", "--seed", "3", "--original-colors", "histogram", "--bits", "16"]
    assert paint(*first, "-o", "first.tiff").exit_code == 0
    assert optistyle("run", "--from", "first.json").exit_code == 0
    assert Path("first-again.tiff").read_bytes() == Path("first.tiff").read_bytes()
    repeated = json.loads(Path("first-again.json").read_text())
    original = json.loads(Path("first.json").read_text())
    for key in ("recipe", "inputs", "trace", "first", "final", "encoder", "threads", "bits"):
        assert repeated[key] == original[key]


def test_from_restores_threads(folder: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        paint()
        manifest = json.loads(Path("out.json").read_text())
        assert manifest["threads"] == 1
        torch.set_num_threads(2)
        optistyle("run", "--from", "out.json")
        assert torch.get_num_threads() == 1
        assert Path("out-again.png").read_bytes() == Path("out.png").read_bytes()
    finally:
        torch.set_num_threads(before)


def test_other_options_change_the_repetition(folder: Path) -> None:
    paint("--gamma", "0", "--init", "style.png")
    result = optistyle("run", "--from", "out.json", "--iterations", "3", "-o", "longer.png")
    assert result.exit_code == 0, result.output
    recipe = json.loads(Path("longer.json").read_text())["recipe"]
    assert (recipe["iterations"], recipe["gamma"], recipe["size"]) == ([3], 0, 32)
    assert Path(recipe["init"]) == folder / "style.png"
    result = optistyle("run", "--from", "out.json", "style.png", "content.png", "-o", "turned.png")
    assert result.exit_code == 0, result.output
    assert Image.open("turned.png").size == (28, 32)


def test_from_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint("--init", "style.png")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert optistyle("run", "--from", "../out.json").exit_code == 0
    assert Path("out-again.png").read_bytes() == Path("../out.png").read_bytes()


def test_from_a_manifest_of_the_python_interface(folder: Path) -> None:
    recipe = Recipe(size=32, iterations=(2,), encoder="slim", device="cpu")
    result = stylize("content.png", "style.png", recipe)
    Path("own.json").write_text(json.dumps(result.manifest()))
    assert optistyle("run", "--from", "own.json").exit_code == 0
    assert np.array_equal(np.asarray(Image.open("own-again.png")), pictures.to_uint8(result.image))
    result = stylize(pictures.read("content.png"), "style.png", recipe)
    Path("own.json").write_text(json.dumps(result.manifest()))
    assert "whose images were no files: give them" in refused(folder, "run", "--from", "own.json")


def test_other_versions_are_mentioned(folder: Path) -> None:
    paint()
    manifest = json.loads(Path("out.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    Path("out.json").write_text(json.dumps(manifest))
    result = optistyle("run", "--from", "out.json")
    assert "other versions of optistyle or its libraries" in result.stderr.splitlines()[0]


@pytest.mark.parametrize("changed", ["content", "style", "start"])
def test_from_notices_changed_inputs(folder: Path, changed: str) -> None:
    shutil.copy("content.png", "start.png")
    paint("--init", "start.png")
    shutil.copy("style.png" if changed != "style" else "content.png", f"{changed}.png")
    assert f"{changed}.png is not the file it was" in refused(folder, "run", "--from", "out.json")
    Path(f"{changed}.png").unlink()
    assert f"{changed}.png is not a file" in refused(folder, "run", "--from", "out.json")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"recipe": {}}', '{"recipe": {"alpha": "x"}}']
)
def test_from_something_else(folder: Path, text: str) -> None:
    Path("other.json").write_text(text)
    message = "other.json is not a .json that optistyle run has written"
    assert message in refused(folder, "run", "--from", "other.json")


def test_from_a_manifest_changed_by_hand(folder: Path) -> None:
    paint()
    text = Path("out.json").read_text()
    Path("out.json").write_text(text.replace('"gamma"', '"gama"'))
    assert "out.json: unknown setting 'gama'" in refused(folder, "run", "--from", "out.json")
    assert "cannot be read" in refused(folder, "run", "--from", "nowhere.json")


def test_from_and_what_it_may_not_overwrite(folder: Path) -> None:
    paint()
    line = refused(folder, "run", "--from", "out.json", "-o", "out.png")
    assert "out.json would be overwritten, and is an input" in line
    line = refused(folder, "run", "--from", "out.json", "--preset", "gatys")
    assert "choose one" in line


# --- interruption and resumption, as far as one process shows it ---


# The plan's timing builds 2 objectives and takes 4 gradients before the run's own.
@pytest.mark.parametrize(("method", "call"), [("build", 1), ("build", 3), ("slope", 6)])
def test_ctrl_c_saves_and_resume_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, method: str, call: int
) -> None:
    assert paint("-o", "whole.png").exit_code == 0
    original, calls = getattr(Objective, method), 0

    def pressed(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)  # and again, while it is being saved
        return original(*arguments)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Objective, method, pressed)
            result = paint()
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130, result.output
    assert result.stderr.splitlines()[-1] == (
        "optistyle: interrupted: out.png holds the picture so far; --resume goes on"
    )
    assert json.loads(Path("out.json").read_text())["interrupted"]
    assert Path("out.png.checkpoint").exists()
    assert pictures.read("out.png").width == 32
    assert paint("--resume").exit_code == 0
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert not Path("out.png.checkpoint").exists()


def test_ctrl_c_before_there_is_a_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("optistyle.run.runner.load_encoder", pressed)
    before = contents(folder)
    result = paint()
    assert result.exit_code == 130
    assert result.stderr.strip() == "optistyle: interrupted; nothing was written"
    assert contents(folder) == before


def test_resume_without_a_checkpoint(folder: Path) -> None:
    result = paint("--resume")
    assert result.exit_code == 0
    assert "no checkpoint out.png.checkpoint: starting from the beginning" in result.stderr


def test_resume_another_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optistyle.run.Run.result", lambda run: 1 / 0)  # a crash at the end
    assert isinstance(paint("--checkpoint-every", "0").exception, ZeroDivisionError)
    line = refused(folder, "run", "content.png", "style.png", *FAST, "--resume", "--alpha", "3")
    assert "out.png.checkpoint is of a run with other inputs or settings" in line
    Path("out.png.checkpoint").write_bytes(b"damaged")
    line = refused(folder, "run", "content.png", "style.png", *FAST, "--resume")
    assert "not a checkpoint that can be read" in line


# --- bad input ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "-1"], "alpha is -1.0; it must be a number of 0 or more"),
        (["--beta", "nan"], "beta is nan"),
        (["--gamma", "inf"], "gamma is inf"),
        (["--tv", "-0.5"], "tv is -0.5"),
        (["--range", "nan"], "range is nan"),
        (["--alpha", "much"], "'much' is not a valid float"),
        (["--alpha", "0", "--beta", "0", "--gamma", "0", "--range", "0"], "all weights are 0"),
        (["--style-layers", "relu4_7"], "unknown layer 'relu4_7'; did you mean 'relu4_"),
        (["--style-layers", "relu5_4"], "unknown layer of encoder slim 'relu5_4'"),
        (["--content-layers", "relu4_1:x"], "is not a number; write relu4_1:2"),
        (["--attention-layers", "relu4_1:-1"], "not a positive number"),
        (["--attention-layers", ""], "no layer is named"),
        (["--style-weights", "1,2"], "2 style weights for 1 style image; give one for each"),
        (["--style-weights", "1;2"], "is not numbers with commas"),
        (["--style-weights=-1"], "each must be a number of 0 or more"),
        (["--style-scale", "0"], "style_scale is 0.0"),
        (["--original-colors", "hue"], "unknown original colors 'hue'"),
        (["--size", "8"], "size 8: allowed are 16 to 32768 px"),
        (["--size", "100000"], "size 100000"),
        (["--size", "big"], "'big' is not a whole number, nor 'original'"),
        (["--size", "20"], "20x13; its shorter side must be at least 16 px"),
        (["--iterations", "0"], "each must be 1 or more"),
        (["--iterations", "5,5"], "2 iteration counts for 1 scales"),
        (["--scales", "sinlge"], "unknown scales 'sinlge'; did you mean 'single'"),
        (["--scales", "64,48"], "must grow"),
        (["--scales", "48,64"], "the last scale is 64 px, but --size is 32 px"),
        (["--optimizer", "sgd"], "unknown optimizer 'sgd'"),
        (["--lr", "0"], "lr is 0.0"),
        (["--lr", "fast"], "'fast' is not a valid float"),
        (["--init", "nowhere.png"], "neither a file nor one of content, style, noise, grey"),
        (["--init", "text.txt"], "text.txt is not an image that can be read"),
        (["--seed", "-1"], "seed is -1"),
        (["--seed", "1.5"], "'1.5' is not a valid integer"),
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


# --- the commands themselves ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "unknown command 'rum'; did you mean 'run'"),
        (["weights", "lisst"], "unknown command 'lisst'; did you mean 'list'"),
        (["weights", "fetch"], "Missing argument 'NAME'"),
        (["weights", "fetch", "vgg"], "unknown"),
        (["weights", "verify", "slm"], "did you mean 'slim'"),
        (["--versoin"], "--version"),
        (["run"], "give a CONTENT image and one or more STYLE images"),
        (["run", "content.png"], "give a CONTENT image and one or more STYLE images"),
        (["presets", "all"], "unexpected extra argument"),
    ],
    ids=" ".join,
)
def test_wrong_commands(folder: Path, arguments: list[str], message: str) -> None:
    assert message in refused(folder, *arguments)


@pytest.mark.parametrize("arguments", [[], ["weights"], ["--help"], ["run", "-h"]])
def test_help(arguments: list[str]) -> None:
    result = optistyle(*arguments)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("Usage: ")


def test_help_shows_every_setting_with_its_default() -> None:
    text = " ".join(optistyle("run", "--help").stdout.split())
    for setting in fields(Recipe):
        assert f"--{setting.name.replace('_', '-')} " in text
    for part in ("[1e+07]", "[512]", "[lbfgs]", "gram|wasserstein", "in pixels", "[80]"):
        assert part in text
    for heading in ("Loss:", "Style:", "Optimisation:", "Encoder:", "Run:"):
        assert heading in text


def test_presets_and_their_sources() -> None:
    result = optistyle("presets")
    assert result.exit_code == 0
    for name, entry in PRESETS.items():
        assert name in result.stdout
        assert entry.source in result.stdout
    assert "    --gamma 0\n" in result.stdout
    for line in re.findall(r"^    (--.*)$", result.stdout, re.MULTILINE):  # as they may be typed
        assert main.commands["run"].make_context("run", line.split(maxsplit=1))


def test_weights_list_and_verify() -> None:
    listed = optistyle("weights", "list").stdout
    assert "slim_vgg19.safetensors" in listed
    assert "licence: " in listed
    verified = optistyle("weights", "verify", "slim").stdout
    assert re.match(r"slim: ok  [0-9a-f]{64}  .*slim_vgg19\.safetensors", verified)
    assert "slim: ok" in optistyle("weights", "verify").stdout


def test_info() -> None:
    text = optistyle("info").stdout
    for part in ("python: ", "torch: ", "devices: cpu", "encoder slim: ", "cache of mean"):
        assert part in text


def test_weights_file(folder: Path) -> None:
    """A VGG-19 of the user's own: here a narrow random one in our format."""
    from safetensors.torch import save_file

    from optistyle.encoders.formats import metadata_for

    generator = torch.Generator().manual_seed(0)
    tensors, source = {}, 3
    for layer in RELUS[:13]:
        name = f"conv{layer[4:]}"
        tensors[f"{name}.weight"] = torch.randn(4, source, 3, 3, generator=generator)
        tensors[f"{name}.bias"] = torch.zeros(4)
        source = 4
    save_file(tensors, "own.safetensors", metadata_for("own", torch.zeros(3), "average"))
    result = paint("--weights", "own.safetensors")
    assert result.exit_code == 0, result.output
    manifest = json.loads(Path("out.json").read_text())
    assert manifest["encoder"] == "own"
    assert manifest["inputs"]["weights"]["sha256"] == files.digest("own.safetensors")
    assert not result.stderr.startswith("optistyle: encoder")


# --- the console script ---


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command where there is one beside the interpreter, else the module."""
    installed = Path(sys.executable).with_name("optistyle")
    command = [str(installed)] if installed.exists() else [sys.executable, "-m", "optistyle"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)


def test_script_paints(folder: Path) -> None:
    result = script("run", "content.png", "style.png", *FAST)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("out.png  (32x21")
    assert pictures.read("out.png").width == 32


def test_script_refuses(folder: Path) -> None:
    before = contents(folder)
    result = script("run", "content.png", "nowhere.png", *FAST)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == ("optistyle: nowhere.png does not exist: check its name and folder\n")
    assert contents(folder) == before
