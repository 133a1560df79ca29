"""The demo and the sheets, small."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("skimage", reason="the examples use scikit-image's photographs")

import demo
import poster
import sheets
import speed_tables
import tables
from conftest import make_picture
from interpreters import Interpreter

from optistyle import Recipe, encoders, read, write
from optistyle.metrics.self_similarity import PRESETS

cams = importlib.import_module("optistyle.metrics.cams")  # the package has a function of that name
EXAMPLES = Path(__file__).parents[1] / "examples"


def test_demo_writes_picture_manifest_and_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "choose", lambda name: "slim")  # the fast one
    demo.main(size=64, out=tmp_path)
    picture, page = read(tmp_path / "demo.png"), read(tmp_path / "demo-sheet.png")
    assert (picture.height, picture.width) == (43, 64)
    assert page.width > 3 * 64
    final = json.loads((tmp_path / "demo.json").read_text())["final"]
    assert final["style"] > 0
    assert str(tmp_path / "demo.png") in capsys.readouterr().out


def test_sheet_pictures_are_painted_by_presets_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = {"draft": Recipe(iterations=2), "default": Recipe(iterations=3)}
    fast = {name: replace(one, encoder="slim") for name, one in recipes.items()}
    monkeypatch.setattr(sheets, "presets", fast)
    pair = ("camera", "woodcut")  # the photograph is grey
    draft, usual = (sheets.picture(name, pair, 48, tmp_path) for name in recipes)
    assert draft.shape == (1, 3, 48, 48)
    assert not torch.equal(draft, usual)
    monkeypatch.delattr(sheets, "stylize")
    assert torch.equal(sheets.picture("draft", pair, 48, tmp_path), draft)


def test_a_strip_has_the_middle_squares_in_rows() -> None:
    wide, high = torch.zeros(1, 3, 40, 80), torch.zeros(1, 3, 60, 30)
    wide[..., 20:60], high[..., 15:45, :] = 0.5, 0.25
    page = sheets.strip([wide, high, wide], side=20, columns=2)
    assert page.shape == (1, 3, 52, 52)  # two rows of 20 px with 4 px around
    assert page[..., 4:24, 4:24].allclose(torch.tensor(0.5))
    assert page[..., 4:24, 28:48].allclose(torch.tensor(0.25))
    assert page[..., 28:48, 28:48].allclose(torch.tensor(1.0))


@pytest.mark.slow
def test_an_ablation_of_ones_own(tmp_path: Path, interpreter: Callable[..., Interpreter]) -> None:
    for seed, name in enumerate(("content", "style")):
        write(tmp_path / f"{name}.png", make_picture(48, 64, seed))
    arguments = [tmp_path / "content.png", tmp_path / "style.png", "-o", tmp_path / "out"]
    ran = interpreter(EXAMPLES / "ablate_layers.py", *arguments, "--size", "48")
    stdout, stderr = ran.communicate()
    assert ran.returncode == 0, stderr
    assert "| mostly relu3_1 |" in stdout
    assert read(tmp_path / "out" / "figure.jpg").width > 256


@pytest.mark.slow
def test_report_003_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of its figures, its attention maps, and the claims on a few pairs of our own making."""
    pytest.importorskip("matplotlib")
    import claims
    import report_003

    rc2021 = tmp_path / "rc2021"
    for kind in ("content", "style"):
        (rc2021 / kind).mkdir(parents=True)
        for index in range(7):
            write(rc2021 / kind / f"{kind}{index}.png", make_picture(48, 48, index))
    monkeypatch.setattr(claims, "RC2021", rc2021)
    monkeypatch.setattr(report_003, "ROOT", tmp_path)
    arguments = ["--small", "--encoder", "slim", "--only", "gamma", "attention", "claims"]
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "report_003.py",
            *arguments,
            "--workers",
            "1",
            "--threads",
            "1",
            "-o",
            str(tmp_path / "docs"),
        ],
    )
    report_003.main()
    names = {path.name for path in (tmp_path / "docs").iterdir()}
    assert names == {
        "gamma-slim.jpg", "gamma-slim.json", "attention-slim.jpg", "warps-slim.jpg",
        "claims-slim.json",
    }  # fmt: skip
    found = json.loads((tmp_path / "docs" / "claims-slim.json").read_text())
    assert {len(rows) for rows in found["rows"].values()} == {3}
    assert found["findings"]["gram, gamma 6e6 less gamma 0: strays"]["count"] == 3


def test_metrics_are_asked_what_they_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import metrics_sanity

    monkeypatch.setitem(PRESETS, "rc2021", replace(PRESETS["rc2021"], size=65))
    page = tmp_path / "metrics.md"
    page.write_text("<!-- content -->\n\n<!-- style -->\n\n| old |\n\nend\n")
    arguments = ["--size", "64", "--pairs", "1", "--metrics", "self_similarity", "chi_square"]
    command = ["metrics_sanity.py", *arguments, "-o", str(tmp_path / "metrics")]
    monkeypatch.setattr(sys, "argv", command)
    metrics_sanity.main()
    assert read(tmp_path / "metrics" / "pictures.jpg").width > 13 * 64
    lines = page.read_text().splitlines()
    (first,) = (line.split(" | ") for line in lines if "self_similarity" in line)
    assert first[1:4] == ["yes", "yes", "blind"]  # halves, blur, colours
    (second,) = (line.split(" | ") for line in lines if "chi_square" in line)
    assert second[1] == "yes"
    assert lines[-1] == "end"
    values = (tmp_path / "metrics" / "values.json").read_text()
    monkeypatch.setattr(sys, "argv", [*command, "--tables"])
    capsys.readouterr()
    metrics_sanity.main()
    assert page.read_text().splitlines() == lines
    assert (tmp_path / "metrics" / "values.json").read_text() == values


def test_answers_by_hand() -> None:
    import metrics_sanity

    def answer(*rows: tuple[float, ...], name: str = "chi_square") -> str:
        order = "abc"[: len(rows[0])]
        found = [dict(zip(order, row, strict=True)) for row in rows]
        return metrics_sanity.answer(name, found, order)

    assert answer((0, 0.5, 1), (0, 0, 1)) == "yes"
    assert answer((0, 0.5, 1), (1, 0.5, 0)) == "1 of 2"
    assert answer((1, 0), (1, 0)) == "wrong way"
    assert answer((1, 0), (1, 1)) == "wrong way, 1 of 2"
    assert answer((1, 1.04), (1, 0.96)) == "blind"
    assert answer((1, 2, 1)) == "not in order"
    assert answer((1, 0), name="ssim") == "yes"


def test_the_page_of_metrics_holds_what_was_measured() -> None:
    import metrics_sanity
    import tables

    page = EXAMPLES.parent / "docs" / "metrics.md"
    values = json.loads((page.with_suffix("") / "values.json").read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    assert tables.filled(text, metrics_sanity.made(values).__getitem__) == text


REPORT_000 = EXAMPLES.parent / "docs" / "report-000.md"


@pytest.mark.slow
def test_report_000_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Painted, judged and put on a page: three contents in four styles."""
    pytest.importorskip("matplotlib")
    import report_000
    from test_compare import in_turn

    from optistyle import encoders
    from optistyle.experiments import compare, judging

    slim = encoders.load("slim")
    monkeypatch.setattr(judging, "judge_name", lambda: "slim")
    monkeypatch.setattr(judging, "judging_encoder", lambda: slim)
    monkeypatch.setattr(compare, "_judged", in_turn)
    monkeypatch.setattr(cams, "SIZE", 32)
    monkeypatch.setitem(PRESETS, "rc2021", replace(PRESETS["rc2021"], size=40))
    for kind, count in (("content", 3), ("style", 4)):
        (tmp_path / kind).mkdir()
        for index in range(count):
            name = tmp_path / kind / f"{kind}{index + 18 * (kind == 'style' and index == 2)}.png"
            write(name, make_picture(32, 32, index + 10 * (kind == "style")))
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    text = REPORT_000.read_text(encoding="utf-8")
    page.write_text(text)

    def ran(*arguments: str) -> str:
        given = ["--data", str(tmp_path), "--work", str(tmp_path / "work"), "--page", str(page)]
        report_000.main([*arguments, *given, "--size", "32", "--sample", "4"])
        return capsys.readouterr().out

    ran("paint", "adaattn", "adain", "gram")
    with monkeypatch.context() as patch:
        patch.setattr(compare, "perform", None)  # nothing is done twice
        ran("paint", "adaattn", "adain", "gram")
        said = ran("page")
    assert said.splitlines() == [
        "sanet is left out: 0 of 12 pairs are done",
        "default is left out: 0 of 4 pairs are done",
    ]
    names = {path.name for path in (tmp_path / "docs" / "page").rglob("*.*")}
    assert names >= {"rows.csv", "structure.png", "histograms.png", "cams_slim.png"}
    filled = page.read_text(encoding="utf-8")
    assert "self-similarity, 9 pairs" in filled  # without style20
    assert "| adaattn less adain |" in filled
    assert "| adaattn less gram |" in filled
    assert all(f"<!-- {name} -->\n\n|" in filled for name in report_000.TABLES)
    assert [x for x in filled.splitlines() if x[:1] != "|"] == [
        x for x in text.splitlines() if x[:1] != "|"
    ]
    found = report_000.Found.of(tmp_path / "docs" / "page" / "rows.csv")
    assert found.grid("adain", "chi_square").shape == (3, 4)
    assert found.sample("gram", "cams_slim").shape == (4,)
    with pytest.raises(SystemExit, match="rc2021 pictures are not at nowhere"):
        report_000.main(["paint", "adain", "--data", "nowhere"])
    with pytest.raises(SystemExit, match="did you mean 'adain'"):
        report_000.main(["paint", "adian"])


def test_report_000_holds_what_was_measured() -> None:
    import report_000
    import tables

    rows = REPORT_000.with_suffix("") / "rows.csv"
    if not rows.is_file():
        pytest.skip("docs/report-000/rows.csv is not made yet")
    found = report_000.Found.of(rows)
    page = REPORT_000.read_text(encoding="utf-8")
    assert tables.filled(page, lambda name: report_000.TABLES[name](found)) == page


def test_shares_of_variance_by_hand() -> None:
    import report_000

    contents, styles = np.arange(3.0)[:, None], 2 * np.arange(4.0)
    assert report_000.shares(contents + 0 * styles) == pytest.approx((1, 0, 0))
    assert report_000.shares(0 * contents + styles) == pytest.approx((0, 1, 0))
    # Sums of squares: 4 x 2 of contents, 3 x 20 of styles.
    assert report_000.shares(contents + styles) == pytest.approx((8 / 68, 60 / 68, 0))
    checks = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert report_000.shares(checks) == pytest.approx((0, 0, 1))
    assert report_000.correlation(contents + styles, -(contents + styles)) == pytest.approx(-1)


def test_curves_are_compared_at_equal_content_error() -> None:
    import claims

    curve = [
        {"content_distance": c, "gram_distance": g}
        for c, g in ((0.1, 1.0), (0.4, 0.25), (1.6, 0.1))
    ]
    at = {"content_distance": 0.2, "gram_distance": 9.0}
    # Halfway between the first two in the logarithm of either.
    assert claims.matched(curve, at, "gram_distance") == pytest.approx(0.5)
    outside = {"content_distance": 2.0, "gram_distance": 9.0}
    assert claims.matched(curve, outside, "gram_distance") is None


def test_a_poster_and_its_tiles_corners(tmp_path: Path) -> None:
    recipe = Recipe(encoder="slim", size=480, tile=96, iterations=(1,), scales="single")
    files = poster.main(recipe, tmp_path)
    assert [path.name for path in files][:3] == ["poster.png", "poster.json", "overview.jpg"]
    assert "corner-160-240.jpg" in [path.name for path in files][3:]
    assert read(files[0]).width == 480
    assert json.loads(files[1].read_text())["recipe"]["tile"] == 96


@pytest.mark.parametrize("page", speed_tables.PAGES, ids=lambda page: page.stem)
def test_the_page_holds_what_was_measured(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert tables.filled(text, speed_tables.made().__getitem__) == text


def test_a_benchmark_that_never_ran_has_no_table(tmp_path: Path) -> None:
    assert set(speed_tables.made(tmp_path).values()) == {""}


def test_every_size_has_its_newest_results(tmp_path: Path) -> None:
    for name, seconds in (
        ("sizes-vgg19-64-off-2026-01-02", 1),
        ("sizes-slim-1024-256-2026-01-02", 2),
        ("sizes-slim-1024-256-2026-01-03", 3),
        ("sizes-slim-64-off-2025-12-31", 4),
    ):
        _, encoder, px, *_ = name.split("-")
        row = {"encoder": encoder, "px": int(px), "seconds": seconds}
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": [row]}))
    rows = speed_tables.together("sizes", tmp_path)
    found = [(row["encoder"], row["seconds"]) for row in rows]
    assert found == [("slim", 4), ("slim", 3), ("vgg19", 1)]
