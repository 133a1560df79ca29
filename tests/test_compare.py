"""Comparisons of methods: what is found, what is written, what is done again, what is refused."""

from __future__ import annotations

import html
import json
import math
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import make_picture
from test_sweep import Start, needs_proc, wait_for, workers

from optistyle import baselines, encoders, files, metrics, pictures, published, recipes, sizes
from optistyle.cli import main
from optistyle.errors import InputError
from optistyle.experiments import compare, compare_report, judging, processes
from optistyle.experiments.cases import Case, cases, pairs_of
from optistyle.experiments.findings import Comparison, at_no_gap, findings
from optistyle.experiments.intervals import Interval, bootstrap, crossed
from optistyle.pictures import read, write

CHEAP = "chi_square,content_distance"
TWO = ("--outputs", "ours=ours", "--outputs", "theirs=theirs")
Rows = dict[str, dict[str, Any]]

needs_adain = pytest.mark.skipif(
    not baselines.packaged("adain").is_file(), reason="the weights of adain are not packaged"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: contents, styles, and the pictures of two methods."""
    monkeypatch.chdir(tmp_path)
    for name in ("contents", "styles", "ours", "theirs"):
        (tmp_path / name).mkdir()
    for seed, name in enumerate("ab"):
        write(tmp_path / "contents" / f"{name}.png", make_picture(32, 40, seed))
        write(tmp_path / "styles" / f"{name.upper()}.png", make_picture(48, 36, 10 + seed))
    outputs(tmp_path)
    return tmp_path


def outputs(folder: Path, pattern: str = "{content}_{style}") -> None:
    """Mixtures: theirs has more of the style, more in later pairs."""
    pairs = [
        (content, style)
        for content in sorted((folder / "contents").iterdir())
        for style in sorted((folder / "styles").iterdir())
    ]
    for index, (content, style) in enumerate(pairs):
        photo, painting = read(content).pixels, pictures.resize(read(style).pixels, (32, 40))
        name = pattern.format(content=content.stem, style=style.stem)
        for method, share in (("ours", 0.3), ("theirs", 0.6 + 0.1 * index)):
            write(folder / method / f"{name}.png", photo.lerp(painting, share))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged in this process, by the slim encoder."""
    slim = encoders.load("slim")
    monkeypatch.setattr(judging, "judge_name", lambda: "slim")
    monkeypatch.setattr(judging, "judging_encoder", lambda: slim)
    monkeypatch.setattr(compare, "_judged", in_turn)


@pytest.fixture
def here(in_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, without figures."""
    monkeypatch.setattr(compare_report, "_figures", lambda *_: ())


def in_turn(left: Sequence[Case], workers: int | None) -> Iterator[tuple[Case, dict[str, Any]]]:
    for case in left:
        yield case, compare.perform(case)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, here: None) -> list[str]:
    """The pictures that are judged, as it happens."""
    names: list[str] = []
    perform = compare.perform

    def noted(case: Case) -> dict[str, Any]:
        names.append(f"{case.method} {case.content.stem}{case.style.stem}")
        return perform(case)

    monkeypatch.setattr(compare, "perform", noted)
    return names


def optistyle(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def compared(*arguments: str, metrics: str = CHEAP, code: int = 0) -> Result:
    result = optistyle(
        "compare", "contents", "styles", "-o", "report", "-q", "--metrics", metrics, *arguments
    )
    assert result.exit_code == code, result.output
    return result


def facts(output: Path) -> dict[str, Any]:
    found = json.loads((output / "findings.json").read_text())
    assert isinstance(found, dict)
    return found


def row_files(output: Path) -> dict[str, int]:
    """Names of rows -> when they were written."""
    found = sorted(output.glob("rows/*/*.json"))
    return {f"{p.parent.name}/{p.name}": p.stat().st_mtime_ns for p in found}


def page_rows(output: Path) -> list[list[str]]:
    """The values of the page's rows, as they sort."""
    body = (output / "report.html").read_text().partition("<tbody>")[2]
    lines = re.findall(r"<tr><td>.*?</tr>", body, re.DOTALL)
    return [[html.unescape(x) for x in re.findall(r'data-value="(.*?)"', x)] for x in lines]


def refused(folder: Path, *arguments: str) -> str:
    """The one line on stderr of a command that must fail and write nothing."""
    before = sorted(folder.rglob("*"))
    result = optistyle(*arguments)
    assert result.exit_code == 2, result.output
    assert sorted(folder.rglob("*")) == before
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("optistyle: ")
    return line


# --- statistics ---


def interval_at_no_gap(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray
) -> Interval:
    return bootstrap(np.stack([x, y], 1), statistic=at_no_gap)


def test_points_on_a_line_give_its_intercept() -> None:
    x = np.random.default_rng(0).normal(1, 0.2, 12)
    found = interval_at_no_gap(x, 3 - 2 * x)
    assert (found.mean, found.low, found.high) == pytest.approx((3, 3, 3))
    assert found.count == 12


@pytest.mark.parametrize("error", [0.0, 0.1, -7.3])
def test_without_spread_in_error_it_is_the_mean(error: float) -> None:
    y = np.random.default_rng(0).normal(1, 0.2, 9)
    found, plain = interval_at_no_gap([error] * 9, y), bootstrap(y)
    assert vars(found) == pytest.approx(vars(plain))


def test_the_interval_covers_the_truth_and_is_seeded() -> None:
    source, covered = np.random.default_rng(0), 0
    for _ in range(200):
        x = source.normal(0.5, 1, 30)
        points = np.stack([x, 2 + 3 * x + source.normal(0, 1, 30)], 1)
        found = bootstrap(points, statistic=at_no_gap, draws=400)
        covered += found.low <= 2 <= found.high
    assert 0.88 < covered / 200 < 0.99
    again = [bootstrap(points, at_no_gap, draws=400, seed=seed) for seed in (0, 1)]
    assert found == again[0]
    assert found.mean == again[1].mean
    assert found != again[1]


def test_other_contents_and_styles_widen_the_interval() -> None:
    source = np.random.default_rng(0)
    contents, styles = source.normal(0, 1, (40, 1)), source.normal(0, 1, (1, 20))
    noise = source.normal(0, 1, (40, 20))
    alone, together = crossed(noise), crossed(contents + styles + noise)
    assert alone.mean == pytest.approx(noise.mean())
    assert together.count == 800
    pairs = bootstrap((contents + styles + noise).ravel())
    assert together.high - together.low > 3 * (pairs.high - pairs.low)
    # The variances of the means of 40 and of 20 draws, and a little of noise.
    width = 2 * 1.96 * np.sqrt(contents.var() / 40 + styles.var() / 20)
    assert together.high - together.low == pytest.approx(width, rel=0.1)
    assert crossed(noise) == alone


# --- findings ---


def rows_of(
    method: str, values: Mapping[str, Sequence[float] | np.ndarray]
) -> list[dict[str, Any]]:
    count = len(next(iter(values.values())))
    return [
        {
            "method": method,
            "content": f"{i}.png",
            "style": "s.png",
            **{name: float(column[i]) for name, column in values.items()},
        }
        for i in range(count)
    ]


def test_means_and_paired_differences_by_hand() -> None:
    first = rows_of("one", {"chi_square": [1, 2, 3]})
    second = rows_of("two", {"chi_square": [0.5, 1.5, 2.5]})
    found = findings([*first, *second])
    assert found.means["one"]["chi_square"].mean == 2
    assert found.means["two"]["chi_square"].mean == 1.5
    assert found.differences == {"one less two": {"chi_square": Interval(0.5, 0.5, 0.5, 3)}}
    assert found.means["one"]["chi_square"].low < 2 < found.means["one"]["chi_square"].high
    assert found.failed == 0


def test_differences_are_of_the_pairs_that_both_have() -> None:
    first = rows_of("one", {"chi_square": [1, 2, 3, 50]})
    second = rows_of("two", {"chi_square": [0, 1, 2, 3]})
    second[3] = {"method": "two", "content": "3.png", "style": "s.png", "error": "broken"}
    second.reverse()  # pairs are told by their names
    found = findings([*first, *second])
    assert found.failed == 1
    assert found.differences["one less two"]["chi_square"] == Interval(1, 1, 1, 3)
    assert found.means["one"]["chi_square"].count == 4
    assert found.means["two"]["chi_square"] == bootstrap([2, 1, 0])


def test_a_metric_that_some_rows_lack_is_left_out() -> None:
    first = rows_of("one", {"chi_square": [1, 2], "strays": [0, 1]})
    second = rows_of("two", {"chi_square": [1, 2]})
    found = findings([*first, *second])
    assert list(found.differences["one less two"]) == ["chi_square"]
    assert [list(row) for row in found.means.values()] == [["strays", "chi_square"], ["chi_square"]]


@pytest.mark.parametrize("others", [0, 1])
def test_one_pair_has_no_intervals(others: int) -> None:
    both = [row for name in ("one", "two") for row in rows_of(name, {"chi_square": [1]})]
    found = findings(both[: 1 + others])
    assert not any(found.means.values())
    assert not found.differences
    assert "no method has 2 pairs" in compare.markdown(found)


@pytest.mark.parametrize("error", ["self_similarity", "content_distance"])
def test_at_equal_content_error_for_metrics_of_style_and_8_pairs(error: str) -> None:
    x = np.random.default_rng(0).normal(1, 0.3, 8)

    def found(count: int) -> Comparison:
        one = {error: x, "chi_square": 0.5 + 2 * x, "ssim": x, "strays": x}
        two = dict.fromkeys(one, 0 * x)
        both = (("one", one), ("two", two))
        return findings(
            [r for m, v in both for r in rows_of(m, {n: c[:count] for n, c in v.items()})]
        )

    assert found(7).matched == {}
    (matched,) = found(8).matched.values()
    assert set(matched) == {"chi_square", "strays"}
    assert matched["chi_square"].mean == pytest.approx(0.5)
    assert matched["strays"].mean == pytest.approx(0, abs=1e-9)
    assert "at equal content error, 8 pairs" in compare.markdown(found(8))


def test_without_a_metric_of_content_nothing_is_matched() -> None:
    rows = [r for m in ("one", "two") for r in rows_of(m, {"chi_square": range(9)})]
    assert findings(rows).matched == {}


# --- pictures that are there ---


@pytest.mark.parametrize("pattern", ["{content}_{style}", "{style}-on-{content}"])
def test_two_folders_are_compared(folder: Path, in_process: None, pattern: str) -> None:
    for method in ("ours", "theirs"):
        for path in (folder / method).iterdir():
            path.unlink()
    outputs(folder, pattern)
    names = "chi_square,self_similarity"
    result = optistyle(
        *("compare", "contents", "styles", *TWO, "-o", "report", "--metrics", names),
        *("--pattern", pattern),
    )
    assert result.exit_code == 0, result.output
    report = folder / "report"
    assert "optistyle:" not in result.stderr  # progress and nothing else
    assert "report/report.html" in result.stdout
    assert (report / "means.md").read_text() in result.stdout
    found = facts(report)
    assert list(found["means"]) == ["ours", "theirs"]
    assert list(found["differences"]) == ["ours less theirs"]
    assert found["at equal content error"] == {}
    assert found["failed"] == []
    assert found["differences"]["ours less theirs"]["self_similarity"]["high"] < 0
    rows = [json.loads(path.read_text()) for path in report.glob("rows/*/*.json")]
    assert len(rows) == 8
    for row in rows:
        name = pattern.format(content=row["content"][0], style=row["style"][0])
        picture = folder / row["method"] / f"{name}.png"
        assert row["picture sha256"] == files.digest(picture)
        photo, painting = (read(folder / at / row[at[:-1]]).pixels for at in ("contents", "styles"))
        painting = pictures.resize(painting, sizes.fit_area(48, 36, 32 * 40))
        expected = metrics.measure(
            ["chi_square"], read(picture).pixels, photo, [(painting, 1)], encoders.load("slim")
        )
        assert row["chi_square"] == pytest.approx(expected["chi_square"])
    means = [row["chi_square"] for row in rows if row["method"] == "ours"]
    assert found["means"]["ours"]["chi_square"]["mean"] == pytest.approx(sum(means) / 4)
    assert len(list(report.glob("results.*"))) == 1
    assert not (report / "pictures").exists()
    pytest.importorskip("matplotlib")
    for name in ("chi_square", "self_similarity", "structure", "histograms"):
        assert read(report / f"{name}.png").width > 100


def test_the_page_needs_nothing_but_itself_and_begins_with_the_worst(
    folder: Path, here: None
) -> None:
    compared(*TWO)
    text = (folder / "report" / "report.html").read_text()
    assert "http" not in text
    assert text.count("data:image/jpeg") == 8 + 2 + 2  # outputs; contents and styles once each
    assert text.count('<i class="p') == 8 * 2
    assert re.search(r"\bi \{[^}]*width: \d+px; height: \d+px", text)  # an empty <i> has no size
    assert "th.onclick" in text
    rows = page_rows(folder / "report")
    assert len(rows) == 8
    values = [float(row[3]) for row in rows]  # method, content, style, the first metric asked for
    assert values == sorted(values, reverse=True)
    kept = [json.loads(p.read_text()) for p in folder.glob("report/rows/*/*.json")]
    assert values[0] == max(row["chi_square"] for row in kept)


def test_where_higher_is_better_the_lowest_comes_first(folder: Path, here: None) -> None:
    compared(*TWO, metrics="ssim,chi_square")
    values = [float(row[3]) for row in page_rows(folder / "report")]
    assert values == sorted(values)


def test_a_single_pair_is_judged_and_shown(folder: Path, here: None) -> None:
    result = optistyle(
        *("compare", "contents/a.png", "styles/A.png", *TWO, "-o", "report", "--metrics", CHEAP)
    )
    assert result.exit_code == 0, result.output
    assert "no method has 2 pairs" in result.stdout
    (first, second) = page_rows(folder / "report")
    assert {first[0], second[0]} == {"ours", "theirs"}
    assert float(first[3]) > float(second[3])


def test_a_missing_and_a_damaged_picture_are_reported_and_the_rest_goes_on(
    folder: Path, here: None
) -> None:
    (folder / "ours" / "a_A.png").unlink()
    damaged = folder / "ours" / "a_B.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    result = compared(*TWO, code=1)
    missing, cut = result.stderr.splitlines()
    assert missing.startswith("optistyle: ours, a.png x A.png: ")
    assert "a_A.png does not exist" in missing
    assert cut.startswith("optistyle: ours, a.png x B.png: ")
    assert "damaged" in cut
    found = facts(folder / "report")
    assert len(found["failed"]) == 2
    assert found["means"]["ours"]["chi_square"]["count"] == 2
    assert found["means"]["theirs"]["chi_square"]["count"] == 4
    assert found["differences"]["ours less theirs"]["chi_square"]["count"] == 2
    rows = page_rows(folder / "report")
    assert len(rows) == 8
    assert all("a_" in row[-1] for row in rows[:2])  # first what failed
    # Mended, only these are judged.
    before = row_files(folder / "report")
    outputs(folder)
    compared(*TWO)
    after = row_files(folder / "report")
    assert len(after) == 8
    assert before.items() <= after.items()


def test_a_method_without_any_picture_and_a_damaged_content_do_not_end_it(
    folder: Path, in_process: None
) -> None:
    (folder / "none").mkdir()
    content = folder / "contents" / "c.png"
    content.write_bytes((folder / "contents" / "a.png").read_bytes()[:300])
    result = compared("--outputs", "ours=ours", "--outputs", "none=none", code=1)
    assert len(result.stderr.splitlines()) == 2 + 6
    assert "Traceback" not in result.stderr
    found = facts(folder / "report")
    assert found["means"]["none"] == {}
    assert found["differences"] == {}
    assert found["means"]["ours"]["chi_square"]["count"] == 4


def test_other_sizes_are_resized_and_that_is_said(folder: Path, here: None) -> None:
    write(folder / "ours" / "a_A.png", make_picture(64, 48, 3))
    compared(*TWO)
    rows = page_rows(folder / "report")
    said = [row for row in rows if "content from 40x32" in row]
    assert [row[:3] for row in said] == [["ours", "a.png", "A.png"]]


def test_extensions_may_be_others_and_in_capitals(folder: Path, here: None) -> None:
    (folder / "ours" / "a_A.png").rename(folder / "ours" / "a_A.PNG")
    picture = read(folder / "ours" / "b_B.png")
    (folder / "ours" / "b_B.png").unlink()
    write(folder / "ours" / "b_B.jpg", picture)
    compared(*TWO)


# --- started again ---


def test_nothing_is_judged_twice(folder: Path, judged: list[str]) -> None:
    compared(*TWO)
    assert len(judged) == 8
    before, found = row_files(folder / "report"), facts(folder / "report")
    compared(*TWO)
    assert len(judged) == 8
    assert row_files(folder / "report") == before
    assert facts(folder / "report") == found


def test_a_changed_picture_is_judged_again(folder: Path, judged: list[str]) -> None:
    compared(*TWO)
    judged.clear()
    write(folder / "theirs" / "b_A.png", make_picture(32, 40, 9))
    compared(*TWO)
    assert judged == ["theirs bA"]
    judged.clear()
    write(folder / "styles" / "B.png", make_picture(48, 36, 9))
    compared(*TWO)
    assert sorted(judged) == ["ours aB", "ours bB", "theirs aB", "theirs bB"]


def test_a_further_metric_is_measured_and_one_less_is_not_shown(
    folder: Path, judged: list[str]
) -> None:
    compared(*TWO)
    compared(*TWO, metrics=f"{CHEAP},uv_hellinger")
    assert len(judged) == 16
    assert set(facts(folder / "report")["means"]["ours"]) == {*CHEAP.split(","), "uv_hellinger"}
    compared(*TWO, metrics="chi_square")
    assert len(judged) == 16
    assert set(facts(folder / "report")["means"]["ours"]) == {"chi_square"}


def test_another_method_joins_with_fewer_metrics(folder: Path, judged: list[str]) -> None:
    compared("--outputs", "ours=ours")
    compared(*TWO, metrics="chi_square")
    assert len(judged) == 8
    assert list(facts(folder / "report")["differences"]["ours less theirs"]) == ["chi_square"]


def test_another_judge_judges_again(
    folder: Path, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared(*TWO)
    monkeypatch.setattr(judging, "judge_name", lambda: "vgg19")
    compared(*TWO)
    assert len(judged) == 16


def test_a_row_cut_off_is_written_again(folder: Path, judged: list[str]) -> None:
    compared(*TWO)
    path = next(folder.glob("report/rows/ours-*/a__A-*.json"))
    path.write_text('{"method": "ou')
    compared(*TWO)
    assert len(judged) == 9
    assert json.loads(path.read_text())["method"] == "ours"


@needs_proc
@pytest.mark.slow
def test_a_killed_comparison_goes_on_where_it_was(folder: Path, interpreter: Start) -> None:
    for seed in range(8):
        write(folder / "contents" / f"c{seed}.png", make_picture(32, 40, 20 + seed))
        write(folder / "styles" / f"S{seed}.png", make_picture(48, 36, 40 + seed))
    outputs(folder)
    names = "chi_square,uv_hellinger"
    arguments = ["contents", "styles", "--outputs", "ours=ours", "--metrics", names]
    command = ["-m", "optistyle", "compare", *arguments, "-o", "report", "-q", "--workers", "1"]
    process = interpreter(*command)
    try:
        wait_for(lambda: row_files(folder / "report"), 300)
        found = workers(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not any(alive(pid) for pid in found), 60)  # nobody paints on in the dark
    kept = row_files(folder / "report")
    assert 1 <= len(kept) < 100
    ran = interpreter(*command)
    _, stderr = ran.communicate()
    assert ran.returncode == 0, stderr
    after = row_files(folder / "report")
    assert len(after) == 100
    assert kept.items() <= after.items()
    whole = CliRunner().invoke(main, ["compare", *arguments, "-o", "whole", "-q"])
    assert whole.exit_code == 0, whole.output
    assert facts(folder / "report") == facts(folder / "whole")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def killed_at_the_third(case: Case, report: processes.Report) -> dict[str, Any]:
    if (case.content.stem, case.style.stem) == ("b", "A"):
        os.kill(os.getpid(), signal.SIGKILL)
    return compare.perform(case)


def killed_once(case: Case, report: processes.Report) -> dict[str, Any]:
    mark = case.row.parents[2] / "killed"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return compare.perform(case)


def of_ours(folder: Path) -> list[Case]:
    pairs = compare.pairs_of(folder / "contents", folder / "styles")
    return compare.cases(pairs, [], {"ours": Path("ours")}, folder / "report", ["chi_square"])


def test_a_killed_worker_costs_only_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_reported", killed_once)
    monkeypatch.setattr(compare_report, "_figures", lambda *_: ())
    found = compare.compare(of_ours(folder), folder / "report", workers=1, stream=None)
    assert (folder / "report" / "killed").exists()
    assert found.failed == 0
    assert found.means["ours"]["chi_square"].count == 4


def test_a_picture_that_kills_every_worker_is_an_error_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = of_ours(folder)
    monkeypatch.setattr(compare_report, "_figures", lambda *_: ())
    with monkeypatch.context() as patch:
        patch.setattr(compare, "_reported", killed_at_the_third)
        found = compare.compare(todo, folder / "report", workers=1, stream=None)
    (error,) = (row["error"] for row in found.rows if "error" in row)
    assert "its worker died 3 times (exit code -9)" in error
    assert error in html.unescape((folder / "report" / "report.html").read_text())
    kept = row_files(folder / "report")
    assert len(kept) == 3
    monkeypatch.setattr(compare, "_judged", in_turn)
    again = compare.compare(todo, folder / "report", stream=None)
    assert again.means["ours"]["chi_square"].count == 4
    assert kept.items() <= row_files(folder / "report").items()


def test_ctrl_c_says_what_is_kept(
    folder: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(
        left: Sequence[Case], workers: int | None
    ) -> Iterator[tuple[Case, dict[str, Any]]]:
        for case in left[:3]:
            yield case, compare.perform(case)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compare, "_judged", interrupted)
        result = compared(*TWO, code=130)
    line = "optistyle: interrupted: 3 of 8 pictures are done and kept: start it again"
    assert result.stderr.strip() == line
    assert len(row_files(folder / "report")) == 3
    compared(*TWO)
    assert len(row_files(folder / "report")) == 8


# --- methods that paint ---


@pytest.mark.parametrize(
    ("methods", "device", "expected"),
    [(["gatys"], "cuda", 1), (["gatys"], "cpu", 3), (["ours"], "cuda", 3)],
)
def test_a_gpu_has_one_worker(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    methods: list[str],
    device: str,
    expected: int,
) -> None:
    existing = {"ours": Path("ours")} if methods == ["ours"] else {}
    pairs = compare.pairs_of(folder / "contents", folder / "styles")
    painting = [] if existing else methods
    todo = compare.cases(pairs, painting, existing, folder / "report", ["chi_square"])
    counts: list[int] = []

    def spread(*_: Any, workers: int, threads: int) -> Iterator[tuple[Case, dict[str, Any]]]:
        counts.append(workers)
        return iter(())

    monkeypatch.setattr(compare.processes, "spread", spread)
    monkeypatch.setattr(compare.devices, "resolve", lambda: torch.device(device))
    monkeypatch.setattr(compare.torch, "get_num_threads", lambda: 3)
    assert list(compare._judged(todo, None)) == []
    assert counts == [expected]


@needs_adain
def test_a_method_paints_once_and_anew_at_another_size(
    folder: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--methods", "adain", "--outputs", "ours=ours", "--sample", "2")
    compared(*arguments, "--size", "48")
    pictures = sorted(folder.glob("report/pictures/adain-*/*.png"))
    assert [max(read(p).width, read(p).height) for p in pictures] == [48, 48]
    found = facts(folder / "report")
    assert found["differences"]["adain less ours"]["chi_square"]["count"] == 2
    painted: list[str] = []
    paint = compare._paint

    def noted(case: Case, *rest: Any) -> pictures.Picture:
        painted.append(case.method)
        return paint(case, *rest)

    monkeypatch.setattr(compare, "_paint", noted)
    # Without its row a picture is judged, not painted.
    next(folder.glob("report/rows/adain-*/*.json")).unlink()
    compared(*arguments, "--size", "48")
    assert painted == []
    assert facts(folder / "report") == found
    compared(*arguments, "--size", "64")
    assert painted == ["adain"] * 2
    sizes = [read(p).width for p in folder.glob("report/pictures/adain-*/*.png")]
    assert sorted(sizes) == [48, 48, 64, 64]
    # Another photograph of the same name is painted.
    for name in "ab":
        write(folder / "contents" / f"{name}.png", make_picture(32, 40, 30))
    compared(*arguments, "--size", "64")
    assert painted == ["adain"] * 4


def test_the_optimiser_paints(folder: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "choose", lambda name: "slim")  # the fast one
    result = optistyle(
        *("compare", "contents/a.png", "styles", "--methods", "gram", "-o", "report"),
        *("--size", "32", "--metrics", "gram_distance", "-q"),
    )
    assert result.exit_code == 0, result.output
    pictures = sorted(folder.glob("report/pictures/gram-*/a__*.png"))
    assert [read(path).width for path in pictures] == [32, 32]
    found = facts(folder / "report")["means"]["gram"]["gram_distance"]
    photo, painting = read(folder / "contents" / "a.png"), read(folder / "styles" / "A.png")
    before, _ = compare.judge(photo.pixels, photo.pixels, painting.pixels, ["gram_distance"])
    assert found["mean"] < before["gram_distance"]


def test_methods_named_like_presets_are_these_presets() -> None:
    for name in {*compare.OPTIMISERS} & {*published.PRESETS}:
        assert compare.OPTIMISERS[name] == published.preset(name)
    gatys, gram = compare.OPTIMISERS["gatys"], compare.OPTIMISERS["gram"]
    assert (gatys.scales, gatys.iterations, gatys.gamma) == ("single", (500,), 0)
    assert gram == recipes.changed(recipes.Recipe(), {"gamma": 0.0})


# --- what goes wrong with one picture ---


def test_a_row_that_cannot_be_written_is_an_error_of_its_own(folder: Path, here: None) -> None:
    todo = of_ours(folder)
    todo[0].row.mkdir(parents=True)  # a folder in its place
    found = compare.compare(todo, folder / "report", stream=None)
    assert found.failed == 1
    assert f"{todo[0].row} cannot be written" in found.rows[0]["error"]
    assert len(row_files(folder / "report")) == 1 + 3  # the folder, and the other rows
    assert (folder / "report" / "report.html").is_file()


def test_a_figure_that_cannot_be_drawn_is_left_out(
    folder: Path,
    in_process: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("matplotlib")

    def broken(*_: object) -> None:
        raise ValueError("by hand")

    monkeypatch.setattr(compare_report, "_histograms", broken)
    compared(*TWO)
    assert "histograms.png is not drawn: by hand" in caplog.text
    assert (folder / "report" / "chi_square.png").is_file()
    assert (folder / "report" / "report.html").is_file()


# --- names ---


def test_contents_of_one_name_are_told_apart(folder: Path, here: None) -> None:
    (folder / "other").mkdir()
    write(folder / "other" / "a.png", make_picture(32, 40, 7))
    pairs = [(Path(x) / "a.png", Path("styles/A.png")) for x in ("contents", "other")]
    existing = {"ours": Path("ours")}
    todo = [
        case
        for pair in pairs
        for case in compare.cases([pair], [], existing, folder / "report", ["chi_square"])
    ]
    found = compare.compare(todo, folder / "report", stream=None)
    assert [row["content"] for row in found.rows] == ["contents/a.png", "other/a.png"]
    assert found.means["ours"]["chi_square"].count == 2


def test_hidden_files_are_no_images(folder: Path) -> None:
    before = pairs_of(Path("contents"), Path("styles"))
    (folder / "contents" / "._a.png").write_bytes(b"\0\5\x16\7")
    assert pairs_of(Path("contents"), Path("styles")) == before


def test_keys_hold_the_version_where_pictures_depend_on_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parents() -> list[Path]:
        pairs = pairs_of(Path("contents"), Path("styles"))
        todo = cases(pairs, ["gram"], {"ours": Path("ours")}, Path("report"), ["chi_square"])
        return list(dict.fromkeys(case.row.parent for case in todo))

    before = parents()
    monkeypatch.setattr("optistyle.experiments.cases.version", lambda: "99")
    after = parents()
    assert before[0] != after[0]
    assert before[1] == after[1]


@pytest.mark.filterwarnings("ignore")  # xdist cannot carry a message with such a name
def test_long_names_and_names_that_are_not_utf_8(folder: Path, here: None) -> None:
    long, odd = "x" * 250, os.fsdecode(b"caf\xe9")
    try:
        for name in (long, odd):
            (folder / "contents" / f"{name}.png").write_bytes(b"no picture")
            write(folder / "styles" / f"{name}.png", make_picture(32, 32, len(name)))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    todo = compare.cases(
        pairs_of(Path("contents"), Path("styles")), ["gram"], {}, Path("report"), ["chi_square"]
    )
    assert len({case.row for case in todo}) == len(todo) == 16
    for case in todo:
        assert max(len(os.fsencode(path.name)) for path in (case.row, case.picture)) <= 255
        case.row.parent.mkdir(parents=True, exist_ok=True)
        case.row.touch()
        case.row.unlink()
    result = compared("--outputs", "ours=ours", code=1)
    assert len(result.stderr.splitlines()) == 16 - 4
    assert "Traceback" not in result.output
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "caf\N{REPLACEMENT CHARACTER}.png" in page
    line = refused(folder, "compare", "contents", "styles", "--outputs", f"{odd}=ours", "-o", "x")
    assert "must be able to name a folder" in line


# --- refused ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "gatis"], "did you mean 'gatys'"),
        (["--methods", "gatys", "--metrics", "chi_sqare"], "did you mean 'chi_square'"),
        (["--methods", "gatys", "--metrics", ","], "no metrics are named"),
        ([], "no methods are given"),
        (["--methods", "gatys,gatys"], "gatys is given twice"),
        (["--methods", "gatys", "--outputs", "gatys=ours"], "gatys is given twice"),
        (["--outputs", "ours"], "write NAME=DIR"),
        (["--outputs", "ours="], "write NAME=DIR"),
        (["--outputs", "=ours"], "write NAME=DIR"),
        (["--outputs", "ours=ours", "--outputs", "ours=theirs"], "ours is given twice"),
        (["--outputs", "ours=nowhere"], "write NAME=DIR"),
        (["--outputs", "../x=ours"], "leave out the /"),
        (["--outputs", "ours=ours", "--pattern", "{picture}"], "{content} and {style}"),
        (["--outputs", "ours=ours", "--pattern", "{content.x}"], "{content} and {style}"),
        (["--outputs", "ours=ours", "--pattern", "{content"], "{content} and {style}"),
        (["--outputs", "ours=ours", "--pattern", "{content}"], "several pairs"),
        (["--outputs", "ours=ours", "--sample", "1"], "sample is 1"),
        (["--outputs", "ours=ours", "--workers", "0"], "workers is 0"),
        (["--methods", "gatys", "--size", "8"], "size is 8"),
        (["--outputs", "ours=ours", "-o", "styles"], "styles is a folder of inputs"),
        (["--outputs", "ours=ours", "-o", "contents/a.png"], "a.png cannot be written"),
        (["--outputs", "ours=ours", "-o", "contents/a.png/x"], "cannot be written"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, arguments: list[str], words: str) -> None:
    where = () if "-o" in arguments else ("-o", "report")
    line = refused(folder, "compare", "contents", "styles", "-q", *where, *arguments)
    assert words in line


def test_folders_without_images_and_missing_ones_are_named(folder: Path) -> None:
    (folder / "empty").mkdir()
    for name in ("empty", "nowhere"):
        line = refused(folder, "compare", "contents", name, "--methods", "gatys", "-o", "report")
        assert f"no images at {name}" in line


def test_weights_that_are_not_here_are_named_before_anything_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "DATA", folder)
    line = refused(folder, "compare", "contents", "styles", "--methods", "sanet", "-o", "report")
    assert "no weights of sanet are here" in line


def test_a_metric_whose_backbone_is_missing_is_refused_before_anything_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "torch").mkdir()
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    arguments = ("compare", "contents", "styles", *TWO, "-o", "report", "-q")
    assert "weights of alexnet" in refused(folder, *arguments, "--metrics", "chi_square,lpips")
    at = ("--content", "contents/a.png", "--style", "styles/A.png")
    line = refused(folder, "evaluate", "ours/a_A.png", *at, "--metrics", "lpips")
    assert "weights of alexnet" in line


# --- samples ---


def test_a_sample_is_seeded_and_spread_evenly(folder: Path) -> None:
    def draw(seed: int) -> list[tuple[Path, Path]]:
        return compare.pairs_of(folder / "contents", folder / "styles", 2, seed)

    every = compare.pairs_of(folder / "contents", folder / "styles")
    assert len(every) == 4
    assert draw(0) == draw(0)
    assert len({tuple(draw(seed)) for seed in range(20)}) > 1
    assert all(set(draw(seed)) < set(every) for seed in range(5))
    assert compare.pairs_of(folder / "contents", folder / "styles", 9) == every
    for seed, name in enumerate("cde"):
        write(folder / "contents" / f"{name}.png", make_picture(16, 16, seed))
    for count in range(2, 10):  # of 5 x 2
        sample = compare.pairs_of(folder / "contents", folder / "styles", count, 1)
        assert len(set(sample)) == count
        for side, things in ((0, 5), (1, 2)):
            times = sorted(Counter(pair[side] for pair in sample).values())
            assert times[-1] <= -(-count // things)
            assert len(times) == min(count, things)
    for name in "cde":
        (folder / "contents" / f"{name}.png").unlink()
    (folder / "contents" / "z.png").mkdir()  # a folder is no picture
    assert compare.pairs_of(folder / "contents", folder / "styles") == every


# --- evaluate ---


def evaluated(*arguments: str) -> Result:
    at = ("--content", "contents/a.png", "--style", "styles/A.png")
    return optistyle("evaluate", *arguments, *at)


def test_evaluate_prints_a_table_of_several_outputs(folder: Path, here: None) -> None:
    result = evaluated("ours/a_A.png", "theirs/a_A.png", "--metrics", CHEAP)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["a_A.png", "a_A.png"]
    assert [line.split()[0] for line in lines] == CHEAP.split(",")
    assert all(line.endswith("(lower is better)") for line in lines)
    ours, theirs = (float(x) for x in lines[1].split()[1:3])
    assert ours < theirs  # it keeps more of the content


def test_evaluate_prints_json(folder: Path, here: None) -> None:
    result = evaluated("contents/a.png", "ours/a_A.png", "--metrics", CHEAP, "--json")
    assert result.exit_code == 0, result.output
    found: Rows = json.loads(result.stdout)
    assert list(found) == ["contents/a.png", "ours/a_A.png"]
    assert found["contents/a.png"]["content_distance"] == 0
    assert found["ours/a_A.png"]["content_distance"] > 0
    assert all(math.isfinite(x) for row in found.values() for x in row.values())


def test_evaluate_goes_without_what_cannot_be_measured_unless_it_is_asked_for(
    folder: Path, here: None
) -> None:
    pytest.importorskip("torchmetrics")
    result = evaluated("ours/a_A.png", "--json")
    assert result.exit_code == 0, result.output
    assert "without ms_ssim: a picture of 40x32 px is too small" in result.stderr
    (row,) = json.loads(result.stdout).values()
    assert set(row) >= {"self_similarity", "chi_square", "ssim", "cams_slim"}
    assert not {"ms_ssim", "lpips"} & set(row)
    at = ("--content", "contents/a.png", "--style", "styles/A.png")
    assert "too small" in refused(folder, "evaluate", "ours/a_A.png", *at, "--metrics", "ms_ssim")


def test_evaluate_says_what_was_resized(folder: Path, here: None) -> None:
    write(folder / "other.png", make_picture(48, 64))
    result = evaluated("other.png", "ours/a_A.png", "--metrics", CHEAP, "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line == "optistyle: other.png is 64x48: content from 40x32"
    json.loads(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ours/a_A.png", "--metrics", "chi_sqare"], "did you mean 'chi_square'"),
        (["ours/nothing.png", "--metrics", "chi_square"], "nothing.png does not exist"),
    ],
)
def test_evaluate_refuses(folder: Path, arguments: list[str], words: str) -> None:
    at = ("--content", "contents/a.png", "--style", "styles/A.png")
    assert words in refused(folder, "evaluate", *arguments, *at)


def test_metrics_at_hand_need_nothing_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None if "torch" in name else object())
    found = metrics.at_hand()
    assert {"self_similarity", "chi_square", "ssim", "color_wasserstein"} <= set(found)
    assert not {"ms_ssim", "lpips", "dists"} & set(found)
    monkeypatch.setattr(metrics.weights, "locate", lambda name: Path(name))
    assert "cams" in metrics.at_hand()

    def missing(name: str) -> Path:
        raise InputError(name)

    monkeypatch.setattr(metrics.weights, "locate", missing)
    assert "cams" not in metrics.at_hand()
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    assert "color_wasserstein" not in metrics.at_hand()
