"""The command line as a whole: help, lazy loading, and what each command prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
import torch
from commands import FAST, contents, optistyle, paint, refused

import optistyle as optistyle_package
from optistyle import files, pictures
from optistyle.baselines import MODELS
from optistyle.choices import TRAINABLE
from optistyle.cli import main
from optistyle.cli.main import COMMANDS
from optistyle.layers import RELUS
from optistyle.published import PRESETS
from optistyle.recipes import Recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "unknown command 'rum'; did you mean 'run'"),
        (["weights", "lisst"], "unknown command 'lisst'; did you mean 'list'"),
        (["weights", "fetch"], "Missing argument 'NAME'"),
        (["weights", "fetch", "vgg"], "unknown"),
        (["weights", "verify", "slm"], "did you mean 'slim'"),
        (["--versoin"], "--version"),
        (["run", "content.png"], "give a CONTENT image and one or more STYLE images"),
        (["presets", "all"], "unexpected extra argument"),
    ],
    ids=" ".join,
)
def test_wrong_commands(folder: Path, arguments: list[str], message: str) -> None:
    assert message in refused(folder, *arguments)


@pytest.mark.parametrize(
    "arguments", [["weights"], ["train"], ["--help"], ["run", "-h"], ["plan", "--help-all"]]
)
def test_help(arguments: list[str]) -> None:
    result = optistyle(*arguments)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("Usage: ")


def test_help_shows_every_setting_with_its_default() -> None:
    text = " ".join(optistyle("run", "--help-all").stdout.split())
    for setting in fields(Recipe):
        assert f"--{setting.name.replace('_', '-')} " in text
    for part in ("[1e7]", "[size / 32]", "[lbfgs]", "gram|wasserstein", "in pixels", "[14]"):
        assert part in text
    for heading in ("Loss:", "Style:", "Optimisation:", "Encoder:", "Run:"):
        assert heading in text


def test_help_says_what_each_preset_is_for() -> None:
    text = " ".join(optistyle("run", "--help").stdout.split())
    for name, entry in PRESETS.items():
        assert re.search(rf"\b{name}\b[^;]*\({re.escape(entry.purpose)}", text)


def test_short_help_shows_what_people_use() -> None:
    short = optistyle("run", "--help").stdout
    names = re.findall(r"^  (?:-., )?--([a-z-]+)", short, re.MULTILINE)
    assert len(names) <= 16
    usual = {"output", "preset", "strength", "stroke", "resume", "from", "force", "quiet", "size"}
    assert usual | {"help-all", "help"} <= set(names)
    assert "tile" not in names
    assert "transparent places" in short
    for command in ("plan", "ablate"):
        assert "--padding" not in optistyle(command, "--help").stdout
        assert "--padding" in optistyle(command, "--help-all").stdout


def test_examples_stand_in_for_a_wall_of_options() -> None:
    alone, run = optistyle(), optistyle("run")
    assert (alone.exit_code, alone.stderr) == (0, "")
    assert (run.exit_code, run.stdout) == (2, "")
    assert alone.stdout == run.stderr
    assert alone.stdout.count("\n  optistyle run ") == 3
    assert "optistyle run --help" in alone.stdout
    assert "--scales" not in alone.stdout


def every_command(group: click.Group, *names: str) -> Iterator[list[str]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield [*names, name]
        if isinstance(command, click.Group):
            yield from every_command(command, *names, name)


def test_help_is_plain_ascii() -> None:
    """So that a terminal of any encoding can print it."""
    for name in every_command(main):
        helps = ["--help", "--help-all"] if name[0] in ("run", "plan", "ablate") else ["--help"]
        for wanted in helps:
            result = optistyle(*name, wanted)
            assert result.exit_code == 0, result.output
            assert result.stdout.isascii(), name


def test_trainable_models_are_those_that_can_be_made() -> None:
    trainable = {name: entry.one_style for name, entry in MODELS.items() if entry.make}
    assert trainable == TRAINABLE
    text = optistyle("train", "--help").stdout
    assert all(f"  {name} " in text for name in ("slim", *TRAINABLE))


LOADED = """
import sys
sys.argv[0] = "optistyle"
{statement}
heavy = {{"torch", "torchvision", "numpy", "PIL", "tqdm", "safetensors", "matplotlib"}}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
COMMAND = """
from optistyle.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""


@pytest.mark.parametrize(
    "arguments",
    [
        None,
        ["--help"],
        ["--version"],
        [],
        ["presets"],
        ["run", "--help"],
        ["run", "--help-all"],
        ["plan", "--help"],
        ["ablate", "--help"],
        ["sweep", "--help"],
        ["compare", "--help"],
        ["baseline", "--help"],
        ["weights", "--help"],
        ["train", "--help"],
    ],
    ids=str,
)
def test_nothing_heavy_is_loaded_for_help(arguments: list[str] | None) -> None:
    statement = "import optistyle; dir(optistyle)" if arguments is None else COMMAND
    code = LOADED.format(statement=statement)
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *(arguments or [])],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"


def test_public_names() -> None:
    assert dir(optistyle_package) == sorted(optistyle_package.__all__)
    for name in dir(optistyle_package):
        assert getattr(optistyle_package, name) is not None
    assert {"Recipe", "Run", "stylize", "load_encoder", "LossTerm"} <= set(dir(optistyle_package))
    with pytest.raises(AttributeError, match="no attribute 'stylise'"):
        optistyle_package.stylise  # noqa: B018


def test_presets_and_their_sources() -> None:
    result = optistyle("presets")
    assert result.exit_code == 0
    for name, entry in PRESETS.items():
        assert f"{name}: {entry.summary()}\n    {entry.source}\n" in result.stdout
    assert "    --gamma 0\n" in result.stdout
    for line in re.findall(r"^    (--.*)$", result.stdout, re.MULTILINE):  # as they may be typed
        assert COMMANDS["run"].load().make_context("run", line.split(maxsplit=1))


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
