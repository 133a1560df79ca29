"""Ablations: every one can be run; the figure and the table say what was run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import make_picture
from test_sweep import here

from optistyle import cli
from optistyle.errors import InputError
from optistyle.experiments import ablations
from optistyle.experiments.ablations import ABLATIONS, Ablation, ablate
from optistyle.experiments.intervals import bootstrap
from optistyle.pictures import read, write
from optistyle.published import preset
from optistyle.recipes import changed


@pytest.fixture
def pairs(tmp_path: Path) -> list[tuple[Path, Path]]:
    for seed, name in enumerate(("a", "s", "b", "t")):
        write(tmp_path / f"{name}.png", make_picture(48, 64, seed))
    return [(tmp_path / "a.png", tmp_path / "s.png"), (tmp_path / "b.png", tmp_path / "t.png")]


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_column_is_a_recipe_of_its_own(name: str) -> None:
    ablation = ABLATIONS[name]
    base = changed(preset(ablation.preset), ablation.base)
    found = {repr(changed(base, column)) for column in ablation.columns.values()}
    assert len(found) == len(ablation.columns) >= 2


def test_report_003s_own_settings() -> None:
    gamma = changed(preset("attention"), ABLATIONS["gamma"].columns["gamma 6e6"])
    assert (gamma.alpha, gamma.beta, gamma.gamma) == (1, 1e7, 6e6)
    assert gamma.schedule(512, 512) == [((512, 512), 500)]
    assert ABLATIONS["attention-layer"].base == {"gamma": 5e7}
    assert ABLATIONS["optimizer"].base == {"beta": 1e6, "gamma": 5e6}
    assert ABLATIONS["optimizer"].columns["Adam 0.01"] == {"optimizer": "adam", "lr": 0.01}


@pytest.mark.slow
def test_figure_table_and_curves(pairs: list[tuple[Path, Path]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ablation = Ablation(
        "?", "ours", {"one": {"iterations": "2"}, "two": {"iterations": "4"}}, curves=True
    )
    changes = {"size": 32, "encoder": "slim", "scales": "single"}
    found = ablate(ablation, pairs, tmp_path / "out", changes, engine=here, cell=40, stream=None)
    assert set(found.table) == {"one", "two"}
    assert set(found.table["one"]) == {*ablations.METRICS, "seconds"}
    manifests = [json.loads(p.read_text()) for p in tmp_path.glob("out/*/manifest.json")]
    twos = [m for m in manifests if m["recipe"]["iterations"] == [4]]
    mean = sum(m["metrics"]["gram_distance"] for m in twos) / 2
    assert found.table["two"]["gram_distance"] == pytest.approx(mean)
    assert read(found.figure).width > 4 * 40
    assert found.curves is not None
    assert read(found.curves).width > 300
    assert ablations.markdown(found.table).count("\n") == 3


def test_a_pair_that_cannot_be_painted_leaves_blanks(
    pairs: list[tuple[Path, Path]], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    pairs[0][0].write_bytes(b"no picture")
    ablation = Ablation("?", "ours", {"one": {"iterations": 2}, "two": {"gamma": 0}}, curves=True)
    changes = {"size": 32, "encoder": "slim", "scales": "single"}
    found = ablate(ablation, pairs, tmp_path / "out", changes, engine=here, cell=40, stream=None)
    assert found.summary.failed == 2
    assert read(found.figure).height > 2 * 16
    assert set(found.table["two"]) == {*ablations.METRICS, "seconds"}
    assert found.curves is None  # which are the first pair's
    assert found.summary.page.is_file()


def test_the_varied_setting_cannot_be_given(pairs: list[tuple[Path, Path]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gamma is what this ablation varies"):
        ablate(ABLATIONS["gamma"], pairs, tmp_path / "out", {"gamma": 1.0})
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command(pairs: list[tuple[Path, Path]], tmp_path: Path) -> None:
    arguments = ["ablate", "gamma", *map(str, pairs[0]), "-o", str(tmp_path / "out")]
    options = ["--size", "32", "--iterations", "2", "--encoder", "slim", "--workers", "1"]
    ran = CliRunner().invoke(cli.main, arguments + options)
    assert ran.exit_code == 0, ran.output
    assert "| gamma 6e6 |" in ran.output
    assert (tmp_path / "out" / "figure.jpg").is_file()
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gama", "a.png", "s.png", "-o", "out"], "gamma"),
        (["gamma", "a.png", "-o", "out"], "1 files; give a content and a style"),
        (["gamma", "-o", "out"], "0 files"),
        (["gamma", "a.png", "s.png"], "name the folder with -o"),
        (["gamma", "none.png", "s.png", "-o", "out"], "none.png is not a file"),
    ],
)
def test_bad_input_is_one_line(
    pairs: list[tuple[Path, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(cli.main, ["ablate", *arguments])
    assert ran.exit_code == 2
    assert message in ran.output
    assert not (tmp_path / "out").exists()


def test_ablations_are_listed() -> None:
    ran = CliRunner().invoke(cli.main, ["ablate", "list"])
    assert ran.exit_code == 0
    assert all(name in ran.output for name in ABLATIONS)


def test_bootstrap_intervals() -> None:
    constant = bootstrap([2.0] * 5)
    assert (constant.mean, constant.low, constant.high, constant.count) == (2, 2, 2, 5)
    values = [0.0, 1.0] * 50
    found = bootstrap(values)
    # The mean of 100 coin tosses has a deviation of 0.05.
    assert found.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)
    assert bootstrap(values) == found
