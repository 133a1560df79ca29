"""Training of feed-forward models: losses that fall, bits that repeat, what is refused."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import make_picture
from interpreters import Interpreter
from torch import Tensor

from optistyle import baselines, cli
from optistyle.baselines import teacher
from optistyle.baselines.adaattn import AdaAttN
from optistyle.baselines.adain import AdaIN, MultiAdaIN
from optistyle.baselines.adjustable import Adjustable
from optistyle.baselines.base import Baseline
from optistyle.baselines.codec import Decoder, Transfer
from optistyle.baselines.johnson import Johnson
from optistyle.baselines.sanet import SANet
from optistyle.cli.train import train as commands
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.pictures import read, write
from optistyle.training import feed_forward as train

Make = Callable[..., Tensor]
Folders = tuple[Path, Path]
TINY = train.Settings(
    warm_up_steps=3, steps=5, batch=2, crop=32, checkpoint_every=2, sample_every=1000
)
ONE_STYLE = ("johnson", "adjustable")
#: A transfer model's class, and what its decoder joins.
TRANSFERS: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "adain": (AdaIN, ()),
    "multiadain": (MultiAdaIN, ("relu3_1", "relu2_1")),
    "sanet": (SANet, ()),
    "adaattn": (AdaAttN, ("relu3_1",)),
}


@pytest.fixture(autouse=True)
def small_paintings(monkeypatch: pytest.MonkeyPatch) -> None:
    """One-style networks look at their painting once, at 512 x 512 px otherwise."""
    monkeypatch.setattr(teacher, "AREA", 64 * 64)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    for seed in range(16):
        name = ("photos", "paintings")[seed % 2]
        (tmp_path / name).mkdir(exist_ok=True)
        write(tmp_path / name / f"{seed}.png", make_picture(48, 56, seed))
    return tmp_path / "photos", tmp_path / "paintings"


def untrained(name: str, encoder: VGG, painting: int = 99) -> Baseline:
    """With a narrow decoder: a step takes a tenth of the time."""
    if name in ONE_STYLE:
        return baselines.make(name, encoder, painting=make_picture(64, 64, painting))
    kind, joined = TRANSFERS[name]
    generator = torch.Generator().manual_seed(0)
    joins = {layer: encoder.channels(layer) for layer in joined}
    decoder = Decoder((8, 12, 16, encoder.channels("relu4_1")), joins, generator)
    own = (generator,) if kind in (SANet, AdaAttN) else ()
    model: Baseline = kind(encoder, decoder, *own)
    return model


def trained(model: Baseline, folders: Folders, work: Path, settings: train.Settings) -> Baseline:
    styles = [] if isinstance(model, Johnson | Adjustable) else [folders[1]]
    return train.train(model, [folders[0]], styles, work, settings, progress=False)


def log(work: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]


@torch.no_grad()
def loss(model: Baseline) -> float:
    """On pictures of the training; of an adjustable network the style alone, not normalised."""
    photos, paintings = (
        torch.cat([make_picture(48, 56, seed)[..., :32, :32] for seed in seeds])
        for seeds in ((0, 2), (1, 3))
    )
    if isinstance(model, Adjustable):
        assert model.teacher is not None
        parts = model.teacher.losses(model(photos, torch.ones(2, 3)), photos)
        return float(torch.stack([parts[layer].mean() for layer in model.levels]).sum())
    style = None if isinstance(model, Johnson) else paintings
    losses = model.losses(photos, style, np.random.default_rng(0))
    return float(torch.stack(list(losses.values())).sum())


@pytest.mark.parametrize("name", [*TRANSFERS, *ONE_STYLE])
def test_training_lowers_the_losses(name: str, tiny: VGG, folders: Folders, tmp_path: Path) -> None:
    model = untrained(name, tiny)
    before = loss(model)
    rate = 1e-3 if name in ONE_STYLE else 3e-3
    settings = replace(TINY, warm_up_steps=0, steps=50, learning_rate=rate)
    trained(model, folders, tmp_path / "w", settings)
    assert loss(model) < 0.9 * before


@pytest.mark.parametrize("name", [*TRANSFERS, *ONE_STYLE])
def test_the_warm_up_learns_to_give_images_back(
    name: str, tiny: VGG, folders: Folders, tmp_path: Path, picture: Make
) -> None:
    def error() -> float:
        with torch.no_grad():
            return float(model.warm_up(picture(32, 32, 50))["pixels"])

    model = untrained(name, tiny)
    before = error()
    trained(model, folders, tmp_path / "w", replace(TINY, warm_up_steps=50, steps=0))
    assert error() < 0.8 * before


def test_the_log_has_means_of_a_hundred_steps(tiny: VGG, folders: Folders, tmp_path: Path) -> None:
    settings = replace(TINY, warm_up_steps=100, steps=2, batch=1)
    trained(untrained("adain", tiny), folders, tmp_path / "w", settings)
    first, second = log(tmp_path / "w")
    assert set(first) == {"step", "seconds", "pixels", "features"}
    assert set(second) == {"step", "seconds", "content", "style", "identity", "range"}
    assert (first["step"], second["step"]) == (100, 102)
    assert read(tmp_path / "w" / "sample-000102.jpg").width > 96  # content, style, output


def test_losses_are_drawn(tiny: VGG, folders: Folders, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trained(untrained("johnson", tiny), folders, tmp_path / "w", TINY)
    assert read(tmp_path / "w" / "losses.png").width > 100


def test_samples_may_come_before_the_first_line_of_the_log(
    tiny: VGG, folders: Folders, tmp_path: Path
) -> None:
    trained(untrained("johnson", tiny), folders, tmp_path / "w", replace(TINY, sample_every=3))
    names = sorted(path.name for path in (tmp_path / "w").glob("sample-*"))
    assert names == [f"sample-00000{step}.jpg" for step in (3, 6, 8)]


# --- stopped and resumed ---


def stopped(
    name: str, tiny: VGG, folders: Folders, work: Path, settings: train.Settings, at: int
) -> None:
    """A training that is interrupted after so many steps."""
    calls: list[int] = []
    rate = train.rate

    def stopping(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) > at:
            raise KeyboardInterrupt
        return rate(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "rate", stopping)
        with pytest.raises(KeyboardInterrupt):
            trained(untrained(name, tiny), folders, work, settings)


@pytest.mark.parametrize(
    ("name", "at"),
    [
        *(("multiadain", at) for at in (2, 4, 7)),
        *((name, 5) for name in ("adain", "sanet", "adaattn", *ONE_STYLE)),
    ],
)
def test_a_stopped_training_ends_in_the_same_bits(
    name: str, at: int, tiny: VGG, folders: Folders, tmp_path: Path
) -> None:
    whole = trained(untrained(name, tiny), folders, tmp_path / "whole", TINY).learned()
    stopped(name, tiny, folders, tmp_path / "cut", TINY, at)
    resumed = trained(untrained(name, tiny), folders, tmp_path / "cut", TINY).learned()
    assert set(whole) == set(resumed)
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []


def test_the_usual_sizes_of_losses_are_resumed(tiny: VGG, folders: Folders, tmp_path: Path) -> None:
    model = trained(untrained("adjustable", tiny), folders, tmp_path / "w", TINY)
    state = torch.load(tmp_path / "w" / "checkpoint.pt", weights_only=True)
    assert torch.equal(state["learned"]["usual"], model.learned()["usual"])
    assert (state["learned"]["usual"] > 0).all()


def test_a_finished_training_gives_its_weights_again(
    tiny: VGG, folders: Folders, tmp_path: Path
) -> None:
    for name in ("adain", "johnson"):
        first = trained(untrained(name, tiny), folders, tmp_path / name, TINY).learned()
        again = trained(untrained(name, tiny), folders, tmp_path / name, TINY).learned()
        assert all(torch.equal(first[key], again[key]) for key in first)


def test_a_training_may_be_made_longer(tiny: VGG, folders: Folders, tmp_path: Path) -> None:
    trained(untrained("adain", tiny), folders, tmp_path / "w", TINY)
    trained(untrained("adain", tiny), folders, tmp_path / "w", replace(TINY, steps=7))
    state = torch.load(tmp_path / "w" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 10


def test_a_checkpoint_of_another_training_is_refused(
    tiny: VGG, folders: Folders, tmp_path: Path
) -> None:
    def run(name: str, settings: train.Settings = TINY, encoder: VGG = tiny) -> None:
        trained(untrained(name, encoder), folders, tmp_path / "w", settings)

    run("adain")
    checkpoint = tmp_path / "w" / "checkpoint.pt"
    kept = checkpoint.read_bytes()
    with pytest.raises(InputError, match="another model"):
        run("multiadain")
    for name, value in {"batch": 3, "crop": 48, "seed": 1, "learning_rate": 1e-4}.items():
        with pytest.raises(InputError, match=f"another {name}; use another folder"):
            run("adain", replace(TINY, **{name: value}))
    other = VGG(tiny.convolutions(), mean=tiny.mean, name="other")
    with pytest.raises(InputError, match="another encoder"):
        run("adain", encoder=other)
    model = untrained("adain", tiny)
    model.style_weight = 3.0
    with pytest.raises(InputError, match="another style_weight"):
        trained(model, folders, tmp_path / "w", TINY)
    smooth = untrained("adain", tiny)
    assert isinstance(smooth, Transfer)
    smooth.decoder.upsampling = "bilinear"
    with pytest.raises(InputError, match="another upsampling"):
        trained(smooth, folders, tmp_path / "w", TINY)
    assert checkpoint.read_bytes() == kept
    checkpoint.write_bytes(b"broken")
    with pytest.raises(InputError, match="delete it to start over"):
        run("adain")


@pytest.mark.parametrize("name", ONE_STYLE)
def test_a_checkpoint_of_another_painting_is_refused(
    name: str, tiny: VGG, folders: Folders, tmp_path: Path
) -> None:
    trained(untrained(name, tiny, painting=1), folders, tmp_path / "w", TINY)
    with pytest.raises(InputError, match="use another folder"):
        trained(untrained(name, tiny, painting=2), folders, tmp_path / "w", TINY)


def test_nan_keeps_the_last_checkpoint(tiny: VGG, folders: Folders, tmp_path: Path) -> None:
    model = untrained("adain", tiny)
    model.style_weight = float("nan")  # first at step 3, after the warm-up
    with pytest.raises(FloatingPointError, match=r"not finite at step 3; .* last good state"):
        trained(model, folders, tmp_path / "w", TINY)
    state = torch.load(tmp_path / "w" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2
    assert all(x.isfinite().all() for x in (*state["learned"].values(), *model.parameters()))


# --- pictures ---


def test_bad_images_are_skipped_and_counted(
    tiny: VGG, folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = (folders[0] / "0.png").read_bytes()
    (folders[0] / "empty.jpg").write_bytes(b"")
    (folders[0] / "text.png").write_text("not a picture")
    (folders[0] / "cut.png").write_bytes(good[: len(good) // 2])
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 0xFF
    (folders[0] / "damaged.png").write_bytes(damaged)
    (folders[0] / "notes.txt").write_text("no image by its name")
    settings = replace(TINY, warm_up_steps=0, steps=20)
    with caplog.at_level(logging.WARNING):
        trained(untrained("johnson", tiny), folders, tmp_path / "w", settings)
    assert "4 images could not be read and were skipped" in caplog.text


def test_a_png_whose_chunks_are_lost_is_skipped_as_well(
    tiny: VGG, folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of such a file Pillow says SyntaxError, when it is already open."""
    lost = bytearray((folders[0] / "0.png").read_bytes())
    place = lost.index(b"IDAT")
    lost[place - 4 : place] = (64).to_bytes(4, "big")  # bytes of pixels; there are more
    (folders[0] / "lost.png").write_bytes(lost)
    settings = replace(TINY, warm_up_steps=0, steps=20)
    with caplog.at_level(logging.WARNING):
        trained(untrained("johnson", tiny), folders, tmp_path / "w", settings)
    assert "1 images could not be read and were skipped" in caplog.text


def test_none_of_the_images_can_be_read(tiny: VGG, folders: Folders, tmp_path: Path) -> None:
    for path in folders[0].iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of the training images can be read"):
        trained(untrained("adain", tiny), folders, tmp_path / "w", TINY)


def test_too_few_images(tiny: VGG, folders: Folders, tmp_path: Path) -> None:
    for path in list(folders[1].iterdir())[:4]:
        path.unlink()
    with pytest.raises(InputError, match=r"4 images under .*paintings; 8 or more"):
        trained(untrained("adain", tiny), folders, tmp_path / "w", TINY)
    for path in folders[1].iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no images under"):
        trained(untrained("adain", tiny), folders, tmp_path / "w", TINY)
    assert not (tmp_path / "w").exists()


def test_held_out_pictures_do_not_count(tiny: VGG, folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    for name in ("0.png", "2.png"):
        (tmp_path / "held" / name).write_bytes((folders[0] / name).read_bytes())
    with pytest.raises(InputError, match="6 images under"):
        train.train(
            untrained("johnson", tiny),
            [folders[0]],
            [],
            tmp_path / "w",
            TINY,
            held_out=[tmp_path / "held"],
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"crop": 40}, "multiple of 16"),
        ({"crop": 16}, "32 or more"),
        ({"steps": -1}, "0 or more"),
        ({"warm_up_steps": -1}, "0 or more"),
        ({"checkpoint_every": 0}, "1 or more"),
    ],
)
def test_bad_settings(given: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(TINY, **given)


def test_the_rate_falls_to_a_twentieth_in_both_phases() -> None:
    settings = train.Settings(warm_up_steps=4, steps=8, learning_rate=1.0)
    found = {step: train.rate(settings, step) for step in (0, 2, 4, 8, 12)}
    assert found == pytest.approx({0: 1, 2: 0.525, 4: 1, 8: 0.525, 12: 0.05})


# --- the command ---


def test_every_model_that_can_be_trained_has_a_command() -> None:
    trainable = {name for name, entry in baselines.MODELS.items() if entry.make}
    listed = commands.list_commands(click.Context(commands))
    assert trainable == set(listed) - {"slim"}


QUICK = ["--crop", "32", "--batch", "2", "--warm-up-steps", "1", "--steps", "2"]


def test_commands_train_start_and_paint(folders: Folders, tmp_path: Path) -> None:
    painting = str(folders[1] / "1.png")
    runs = {
        "adain": ["--styles", str(folders[1])],
        "multiadain": ["--styles", str(folders[1]), "--start", str(tmp_path / "adain.safetensors")],
        "johnson": ["--styles", painting],
    }
    for name, options in runs.items():
        output = tmp_path / f"{name}.safetensors"
        arguments = ["train", name, "--contents", str(folders[0]), *options, *QUICK]
        arguments += ["-o", str(output), "--work", str(tmp_path / name)]
        ran = CliRunner().invoke(cli.main, arguments)
        assert ran.exit_code == 0, ran.output
        notes = {"steps": 2, "batch": 2, "crop": 32}
        notes |= {"style": "1.png"} if name == "johnson" else {"upsampling": "bilinear"}
        facts = baselines.facts(output)
        assert notes.items() <= facts.items()
        assert ("start" in facts) == ("--start" in options)
        pictures = [str(folders[0] / "0.png"), *([] if name == "johnson" else [painting])]
        arguments = ["baseline", name, *pictures, "--weights", str(output), "--size", "48"]
        ran = CliRunner().invoke(cli.main, [*arguments, "-o", str(tmp_path / f"{name}.png")])
        assert ran.exit_code == 0, ran.output


@pytest.mark.parametrize(
    ("name", "styles", "options", "message"),
    [
        ("adain", ["paintings"], ["--crop", "40"], "multiple of 16"),
        ("adain", ["paintings"], ["--steps", "-1"], "0 or more"),
        ("adain", ["paintings"], ["--encoder", "vgg11"], "unknown encoder 'vgg11'"),
        ("adain", ["paintings"], ["--start", "none.pth"], "none.pth"),
        ("adain", ["paintings"], ["--start", "text.pth"], "not a file of weights"),
        ("adain", ["nowhere"], [], "no images under"),
        ("adain", [], [], "--styles"),
        ("johnson", [], [], "--styles"),
        ("johnson", ["paintings/1.png", "paintings/3.png"], [], "johnson learns one painting"),
        ("adjustable", ["paintings/1.png", "paintings/3.png"], [], "adjustable learns one"),
        ("johnson", ["paintings/none.png"], [], "none.png"),
        ("adian", ["paintings"], [], "did you mean 'adain'"),
        ("microast", ["paintings"], [], "unknown command 'microast'"),
        ("sanet", ["paintings"], ["-o", "nowhere/w.safetensors"], "does not exist"),
    ],
)
def test_bad_input_is_one_line(
    name: str,
    styles: list[str],
    options: list[str],
    message: str,
    folders: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pth").write_text("no weights at all")
    chosen = [part for style in styles for part in ("--styles", style)]
    arguments = ["train", name, "--contents", "photos", *chosen, *QUICK]
    before = sorted(tmp_path.rglob("*"))
    ran = CliRunner().invoke(cli.main, [*arguments, *options])
    assert ran.exit_code == 2, ran.output
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


TRAIN = """
import sys
from pathlib import Path
from optistyle import baselines, load_encoder
from optistyle.training.feed_forward import Settings, train

photos, paintings, work, output = map(Path, sys.argv[1:])
settings = Settings(20, 60, batch=1, crop=32, checkpoint_every=10, sample_every=1000)
model = baselines.make("adain", load_encoder("slim"))
baselines.save(train(model, [photos], [paintings], work, settings), "adain", output)
"""


@pytest.mark.slow
def test_a_killed_training_goes_on(
    folders: Folders, tmp_path: Path, interpreter: Callable[..., Interpreter]
) -> None:
    def run(name: str, kill: bool) -> bytes:
        output, work = tmp_path / f"{name}.safetensors", tmp_path / name
        command = ["-c", TRAIN, *folders, work, output]
        if kill:
            process = interpreter(*command)
            end = time.monotonic() + 300
            while not (work / "checkpoint.pt").exists():
                assert time.monotonic() < end
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not output.exists()
        process = interpreter(*command)
        assert process.wait() == 0, process.err.read_text()
        return output.read_bytes()

    assert run("killed", kill=True) == run("whole", kill=False)
