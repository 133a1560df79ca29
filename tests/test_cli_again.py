"""``optistyle run`` again: --from, --resume, --force, Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from commands import FAST, contents, optistyle, paint, refused
from PIL import Image

from optistyle import load_encoder, pictures
from optistyle.optimise.objective import Objective
from optistyle.recipes import Recipe, changed
from optistyle.run import stylize
from optistyle.run.manifest import Manifest


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
    assert "other versions of optistyle or its libraries" in result.stderr.splitlines()[2]


@pytest.mark.parametrize("changed", ["content", "style", "start"])
def test_from_notices_changed_inputs(folder: Path, changed: str) -> None:
    shutil.copy("content.png", "start.png")
    paint("--init", "start.png")
    shutil.copy("style.png" if changed != "style" else "content.png", f"{changed}.png")
    assert f"{changed}.png is not the file it was" in refused(folder, "run", "--from", "out.json")
    Path(f"{changed}.png").unlink()
    assert f"{changed}.png is not a file" in refused(folder, "run", "--from", "out.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"recipe": {}}'])
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
    Path("out.json").write_text('{"recipe": {"alpha": "x"}}')
    line = "out.json: alpha is 'x'; give a number of 0 or more"
    assert line in refused(folder, "run", "--from", "out.json")


def test_from_and_what_it_may_not_overwrite(folder: Path) -> None:
    paint()
    line = refused(folder, "run", "--from", "out.json", "-o", "out.png")
    assert "out.json would be overwritten, and is an input" in line
    line = refused(folder, "run", "--from", "out.json", "--preset", "gatys")
    assert "choose one" in line


def interrupted_at(
    monkeypatch: pytest.MonkeyPatch, method: str, call: int, *arguments: str
) -> Result:
    """Paint, and press Ctrl-C twice at a call of a method of the objective."""
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
            return paint(*arguments)
    finally:
        signal.signal(signal.SIGINT, before)


# The plan's timing builds 2 objectives and takes 4 gradients before the run's own.
def test_ctrl_c_saves_and_resume_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paint("-o", "whole.png").exit_code == 0
    result = interrupted_at(monkeypatch, "slope", 6)
    assert result.exit_code == 130, result.output
    assert result.stderr.splitlines()[-1] == (
        "optistyle: interrupted: out.png holds the picture so far; --resume goes on"
    )
    assert json.loads(Path("out.json").read_text())["interrupted"]
    assert Path("out.png.checkpoint").exists()
    assert pictures.read("out.png").width == 32
    line = refused(folder, "run", "content.png", "style.png", *FAST)
    assert line.endswith("choose another output with -o, or overwrite it with --force")
    assert paint("--resume").exit_code == 0
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert not Path("out.png.checkpoint").exists()


@pytest.mark.parametrize(("method", "call"), [("build", 1), ("build", 3), ("slope", 5)])
def test_ctrl_c_before_the_first_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch, method: str, call: int
) -> None:
    """The photograph is never saved as the picture so far, and a picture that is there stays."""
    Path("out.png").write_bytes(b"mine")
    before = contents(folder)
    result = interrupted_at(monkeypatch, method, call, "--force")
    assert result.exit_code == 130, result.output
    assert result.stderr.splitlines()[-1] == "optistyle: interrupted; nothing was written"
    assert contents(folder) == before


def test_ctrl_c_before_there_is_a_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("optistyle.run.plan.load_encoder", pressed)
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


def test_resume_in_tiles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after running out of memory: a checkpoint fits another plan."""
    with monkeypatch.context() as patch:
        patch.setattr("optistyle.run.Run.result", lambda run: 1 / 0)  # a crash at the end
        assert isinstance(paint("--checkpoint-every", "0").exception, ZeroDivisionError)
    result = paint("--resume", "--tile", "96", "--history", "3")
    assert result.exit_code == 0, result.output
    assert len(json.loads(Path("out.json").read_text())["trace"]) == 2


# --- what is there already ---


def test_an_output_is_kept(folder: Path) -> None:
    assert paint().exit_code == 0
    exists = " exists already: choose another output with -o, or overwrite it with --force"
    again = ("run", "content.png", "style.png", *FAST)
    assert refused(folder, *again) == f"optistyle: out.png{exists}"
    assert refused(folder, *again, "-o", "out.jpg") == f"optistyle: out.json{exists}"
    assert refused(folder, *again, "--resume") == f"optistyle: out.png{exists}"  # it is finished
    first = Path("out.png").read_bytes()
    assert paint("--force", "--gamma", "0").exit_code == 0
    assert Path("out.png").read_bytes() != first


def test_an_interrupted_output_without_checkpoint_begins_anew(folder: Path) -> None:
    assert paint().exit_code == 0
    manifest = json.loads(Path("out.json").read_text())
    Path("out.json").write_text(json.dumps({**manifest, "interrupted": True}))
    result = paint("--resume")
    assert result.exit_code == 0, result.output
    assert "no checkpoint out.png.checkpoint: starting from the beginning" in result.stderr


def test_a_baseline_keeps_the_output_of_a_run(folder: Path) -> None:
    arguments = ["baseline", "adain", "style.png", "style.png", "--size", "64"]
    Path("out.png").write_bytes(b"mine")
    assert "out.png exists already" in refused(folder, *arguments)
    result = optistyle(*arguments, "--force")
    assert result.exit_code == 0, result.output
    assert pictures.read("out.png").height == 64


# --- what --from takes over ---


def test_other_settings_do_not_inherit_the_plan(folder: Path) -> None:
    """Tile and history were chosen for a small picture: a large one chooses anew."""
    assert paint("-o", "small.png").exit_code == 0
    record = json.loads(Path("small.json").read_text())
    record["plan"] |= {"tile": "off", "history": 3}
    Path("small.json").write_text(json.dumps(record))
    repeated = ["run", "--from", "small.json", "-q", "-o"]
    assert optistyle(*repeated, "again.png").exit_code == 0
    again = json.loads(Path("again.json").read_text())
    assert (again["recipe"]["history"], again["plan"]["history"]) == ("auto", 3)
    assert optistyle(*repeated, "other.png", "--iterations", "1").exit_code == 0
    other = json.loads(Path("other.json").read_text())
    assert (other["recipe"]["history"], other["plan"]["history"]) == ("auto", 5)


def test_manifests_without_a_plan(folder: Path) -> None:
    """Older ones record the plan's choices among the settings."""
    assert paint("-o", "small.png").exit_code == 0
    record = json.loads(Path("small.json").read_text())
    plan = {"tile": 96, "history": 3, "kernels": "torch"}
    del record["plan"]
    record["recipe"] |= plan
    Path("old.json").write_text(json.dumps(record))
    earlier = Manifest.read(Path("old.json"))
    assert earlier.recipe.tile == earlier.recipe.history == "auto"
    assert earlier.plan_for(earlier.recipe) == plan
    assert earlier.plan_for(changed(earlier.recipe, {"size": "8192"})) == {}


@pytest.mark.parametrize(
    ("recorded", "weights", "repeated"),
    [
        ({"recipe": "auto", "encoder": "slim"}, None, "slim"),
        ({"recipe": "auto", "encoder": "vgg19"}, None, "vgg19"),
        ({"recipe": "auto", "encoder": "vgg19"}, "weights.pth", "auto"),
        ({"recipe": "auto", "encoder": "vgg16-module"}, None, "auto"),
    ],
)
def test_manifests_that_asked_for_auto_are_repeated_by_what_painted(
    folder: Path, recorded: dict[str, str], weights: str | None, repeated: str
) -> None:
    """Older files, of runs whose encoder was handed over, name it beside the recipe only."""
    assert paint("-o", "small.png").exit_code == 0
    record = json.loads(Path("small.json").read_text())
    record["recipe"] |= {"encoder": recorded["recipe"], "weights": weights}
    record["encoder"] = recorded["encoder"]
    Path("old.json").write_text(json.dumps(record))
    assert Manifest.read(Path("old.json")).recipe.encoder == repeated


def test_an_encoder_that_is_handed_over_is_in_the_recipe_of_the_manifest(folder: Path) -> None:
    recipe = Recipe(size=32, iterations=1)
    result = stylize(
        "content.png", "style.png", recipe, encoder=load_encoder("slim"), progress=False
    )
    assert result.manifest()["recipe"]["encoder"] == "slim"


def test_original_colors_can_be_undone(folder: Path) -> None:
    assert paint("--original-colors", "off", "-o", "plain.png").exit_code == 0
    assert paint("--original-colors", "luminance").exit_code == 0
    assert Path("out.png").read_bytes() != Path("plain.png").read_bytes()
    result = optistyle("run", "--from", "out.json", "--original-colors", "off")
    assert result.exit_code == 0, result.output
    assert Path("out-again.png").read_bytes() == Path("plain.png").read_bytes()


# --- the photograph's notes ---


def test_strip_leaves_out_the_notes_and_is_repeated(folder: Path) -> None:
    said = {"date": "2024:05:01 12:34:56", "author": "A. Dams", "copyright": "2024 A. Dams"}
    pictures.write("content.png", replace(pictures.read("content.png"), notes=said))
    assert paint("-q", "-o", "kept.png").exit_code == 0
    assert pictures.read("kept.png").notes == said
    assert paint("-q", "--strip", "--snapshot-every", "2").exit_code == 0
    assert pictures.read("out.png").notes == pictures.read("out-00002.png").notes == {}
    assert json.loads(Path("out.json").read_text())["strip"]
    assert optistyle("run", "-q", "--from", "out.json").exit_code == 0
    assert Path("out-again.png").read_bytes() == Path("out.png").read_bytes()
    assert optistyle("run", "-q", "--from", "out.json", "--keep", "-o", "x.png").exit_code == 0
    assert Path("x.png").read_bytes() == Path("kept.png").read_bytes()
    baseline = ["baseline", "adain", "content.png", "style.png", "--size", "64"]
    for options, expected in (((), said), (("--strip",), {})):
        name = f"adain{len(options)}.png"
        assert optistyle(*baseline, *options, "-o", name).exit_code == 0
        assert pictures.read(name).notes == expected
