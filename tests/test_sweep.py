"""Sweeps: nothing is lost, nothing is done twice, whoever dies."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import make_picture
from interpreters import Interpreter

from optistyle import recipes
from optistyle.cli import main
from optistyle.errors import InputError
from optistyle.experiments import engines, grid, judging, processes, report, runs
from optistyle.experiments.engines import Event
from optistyle.experiments.grid import Job
from optistyle.experiments.sweep import sweep
from optistyle.experiments.work import Failure, Outcome, Worker
from optistyle.pictures import read, write

Start = Callable[..., Interpreter]

QUICK = "[settings]\nencoder = 'slim'\nsize = 32\nscales = 'single'\niterations = [3]\n"
#: Long enough to be killed in: a second or two.
SLOW = "[settings]\nencoder = 'slim'\nsize = 64\nscales = 'single'\niterations = [150]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two contents, a style, and grid files; the second with a picture that is none."""
    for seed, name in enumerate(("a", "b", "s")):
        write(tmp_path / f"{name}.png", make_picture(48, 64, seed))
    inputs = "contents = ['a.png', 'b.png']\nstyles = ['s.png']\n"
    gammas = "[grid]\ngamma = [0, 6e6]\n"
    (tmp_path / "grid.toml").write_text(inputs + QUICK + gammas)
    (tmp_path / "slow.toml").write_text(inputs + SLOW + gammas)
    (tmp_path / "bad.png").write_text("not a picture")
    bad = "contents = ['bad.png', 'b.png']\nstyles = ['s.png']\n"
    (tmp_path / "bad.toml").write_text(bad + QUICK)
    return tmp_path


def here(jobs: Sequence[Job]) -> Iterator[Event]:
    """An engine without processes."""
    worker = Worker()
    for job in jobs:
        yield Event(job, worker.attempt(job, lambda share: None))


def never(jobs: Sequence[Job]) -> Iterator[Event]:
    raise AssertionError(f"{len(jobs)} runs are repeated")
    yield


def manifests(output: Path) -> dict[str, str]:
    return {p.parent.name: p.read_text() for p in sorted(output.glob("*/manifest.json"))}


def command(*arguments: object) -> list[str]:
    return ["-m", "optistyle", "sweep", *map(str, arguments)]


def test_a_sweep_makes_every_run_and_the_reports(folder: Path) -> None:
    jobs = grid.read(folder / "grid.toml")
    summary = sweep(jobs, folder / "runs", here, stream=None)
    assert (summary.made, summary.kept, summary.failed) == (4, 0, 0)
    for job, run in zip(jobs, summary.folders, strict=True):
        manifest = json.loads((run / "manifest.json").read_text())
        assert read(run / "picture.png").width == 32
        assert recipes.Recipe.from_dict(manifest["recipe"]).gamma == job.recipe.gamma
        rows = list(csv.DictReader((run / "trace.csv").open()))
        assert len(rows) == 3
        assert float(rows[0]["total"]) == pytest.approx(manifest["trace"][0]["total"])
    page = summary.page.read_text()
    assert page.count("<tr>") == 5
    assert page.count("data:image/jpeg") == 4
    assert "http" not in page.replace("http://www.w3.org", "")  # needs nothing but itself
    (sheet,) = summary.sheets
    assert read(sheet).width > 2 * 32


def test_the_table_holds_settings_losses_times_and_metrics(folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    text = (folder / "grid.toml").read_text()
    (folder / "grid.toml").write_text("metrics = ['gram_distance']\n" + text)
    summary = sweep(grid.read(folder / "grid.toml"), folder / "runs", here, stream=None)
    rows = parquet.read_table(summary.results).to_pylist()
    assert [row["gamma"] for row in rows] == [0, 6e6, 0, 6e6]
    for row in rows:
        assert row["loss_total"] > 0
        assert row["seconds"] > 0
        assert row["metric_gram_distance"] > 0
        assert row["status"] == "finished"
        assert row["size"] == 32
    assert rows[0]["loss_attention"] is None
    assert rows[1]["loss_attention"] > 0


def test_the_table_is_csv_without_pyarrow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = report.table([{"a": 1, "b": "x"}, {"a": 2, "c": 0.5}], folder)
    assert path.name == "results.csv"
    assert list(csv.reader(path.open())) == [["a", "b", "c"], ["1", "x", ""], ["2", "", "0.5"]]


def test_finished_runs_are_not_repeated_and_half_written_ones_are(folder: Path) -> None:
    jobs = grid.read(folder / "grid.toml")
    first = sweep(jobs, folder / "runs", here, stream=None)
    before = manifests(folder / "runs")
    again = sweep(jobs, folder / "runs", never, stream=None)
    assert (again.made, again.kept) == (0, 4)
    (first.folders[0] / "manifest.json").unlink()
    (first.folders[1] / "manifest.json").write_text('{"key": "cut o')
    done: list[str] = []

    def counting(jobs: Sequence[Job]) -> Iterator[Event]:
        done.extend(job.folder for job in jobs)
        yield from here(jobs)

    repaired = sweep(jobs, folder / "runs", counting, stream=None)
    assert done == [path.name for path in first.folders[:2]]
    assert (repaired.made, repaired.kept) == (2, 2)
    timeless = re.compile(r'"(finished|seconds)": (\[[^\]]*\]|"[^"]*")')
    for name, text in manifests(folder / "runs").items():
        assert timeless.sub("", text) == timeless.sub("", before[name])


def test_a_metric_more_is_measured_of_the_pictures_that_are_there(folder: Path) -> None:
    sweep(grid.read(folder / "grid.toml"), folder / "runs", here, stream=None)
    text = "metrics = ['strays']\n" + (folder / "grid.toml").read_text()
    (folder / "grid.toml").write_text(text)
    before = manifests(folder / "runs")
    jobs = grid.read(folder / "grid.toml")
    assert sweep(jobs, folder / "runs", never, stream=None).kept == 4
    for name, text in manifests(folder / "runs").items():
        found = json.loads(text)
        assert 0 <= found.pop("metrics")["strays"] <= 1
        assert found.pop("judge") in ("vgg19", "slim")
        assert found == json.loads(before[name])
    # The same as measured at once.
    other = sweep(jobs[:1], folder / "other", here, stream=None)
    of_both = [
        json.loads((folder / at / other.folders[0].name / "manifest.json").read_text())["metrics"]
        for at in ("runs", "other")
    ]
    assert of_both[0] == of_both[1]


def test_a_failure_is_recorded_and_stops_nothing(folder: Path, interpreter: Start) -> None:
    output = folder / "runs"
    ran = interpreter(*command(folder / "bad.toml", "-o", output, "--workers", 1))
    stdout, stderr = ran.communicate()
    assert ran.returncode == 1
    assert "1 made, 0 there already, 1 failed" in stdout
    assert "Traceback" not in stderr
    (failure,) = output.glob("bad-*/failure.json")
    assert "bad.png" in json.loads(failure.read_text())["message"]
    assert len(list(output.glob("b-*/manifest.json"))) == 1
    assert "1 failed" in (output / "report.html").read_text()
    # Mended, it is run; the failure is gone.
    write(folder / "bad.png", make_picture(48, 64, 7))
    assert sweep(grid.read(folder / "bad.toml"), output, here, stream=None).kept == 1


@pytest.mark.parametrize(
    "arguments",
    ["sweep grid.toml", "ablate gamma a.png s.png --encoder slim --size 32 --iterations 3"],
)
def test_ctrl_c_says_what_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    def interrupted(jobs: Sequence[Job]) -> Iterator[Event]:
        yield from here(jobs[:1])
        raise KeyboardInterrupt

    monkeypatch.chdir(folder)
    monkeypatch.setattr(engines, "local", lambda *_: interrupted)
    result = CliRunner().invoke(main, [*arguments.split(), "-o", "runs", "-q"])
    assert result.exit_code == 130, result.output
    line = r"optistyle: interrupted: 1 of \d runs are done and kept: start it again"
    assert re.fullmatch(line, result.stderr.strip())


def test_a_folder_that_cannot_be_written_is_a_failure_of_its_run(folder: Path) -> None:
    jobs, output = grid.read(folder / "grid.toml"), folder / "runs"
    sweep(jobs[:1], output, here, stream=None)
    (output / jobs[1].folder).write_text("a file in its place")
    summary = sweep(jobs, output, here, stream=None)
    assert (summary.made, summary.kept, summary.failed) == (2, 1, 1)
    page = summary.page.read_text()
    assert "4 runs, 1 failed" in page
    assert f"{output / jobs[1].folder} cannot be written" in page


def test_a_damaged_picture_does_not_end_the_report(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs, output = grid.read(folder / "grid.toml"), folder / "runs"
    first = sweep(jobs, output, here, stream=None)
    (first.folders[0] / "picture.png").write_bytes(b"damaged")
    again = sweep(jobs, output, never, stream=None)
    assert again.page.read_text().count("data:image/jpeg") == 3
    assert len(again.sheets) == 1
    assert "left out of a report" in caplog.text
    # One that is gone is painted again.
    (first.folders[0] / "picture.png").unlink()
    assert sweep(jobs, output, here, stream=None).made == 1


def test_another_judge_measures_every_picture_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slim = judging.encoders.load("slim")
    monkeypatch.setattr(judging, "judging_encoder", lambda: slim)
    monkeypatch.setattr(judging, "judge_name", lambda: "slim")
    text = "metrics = ['gram_distance']\n" + (folder / "grid.toml").read_text()
    (folder / "grid.toml").write_text(text)
    jobs = grid.read(folder / "grid.toml")
    sweep(jobs[:2], folder / "runs", here, stream=None)
    monkeypatch.setattr(judging, "judge_name", lambda: "vgg19")
    asked: list[str] = []

    def counting(jobs: Sequence[Job]) -> Iterator[Event]:
        asked.extend(job.folder for job in jobs)
        yield from here(jobs)

    sweep(jobs, folder / "runs", counting, stream=None)
    assert asked == [job.folder for job in jobs[2:]]  # the others are measured, not painted
    judges = [json.loads(text)["judge"] for text in manifests(folder / "runs").values()]
    assert judges == ["vgg19"] * 4


def test_a_picture_that_cannot_be_measured_again_is_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = grid.read(folder / "grid.toml")
    sweep(jobs, folder / "runs", here, stream=None)
    text = "metrics = ['strays']\n" + (folder / "grid.toml").read_text()
    (folder / "grid.toml").write_text(text)
    write_json = runs.write_json

    def full(path: Path, value: object) -> None:
        monkeypatch.setattr(runs, "write_json", write_json)
        raise OSError(28, "No space left on device")

    judge = Worker.judge

    def then_full(self: Worker, *arguments: object) -> object:
        monkeypatch.setattr(Worker, "judge", judge)
        monkeypatch.setattr(runs, "write_json", full)
        return judge(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Worker, "judge", then_full)
    summary = sweep(grid.read(folder / "grid.toml"), folder / "runs", here, stream=None)
    assert (summary.made, summary.kept, summary.failed) == (1, 3, 0)


# --- names ---


def test_pages_name_all_styles_and_tell_namesakes_apart(folder: Path) -> None:
    for index, name in enumerate(("x/a.png", "y/a.png", "t.png")):
        (folder / name).parent.mkdir(exist_ok=True)
        write(folder / name, make_picture(48, 64, 20 + index))
    (folder / "grid.toml").write_text(
        "contents = ['x/a.png', 'y/a.png']\nstyles = [['s.png', 't.png']]\n" + QUICK
    )
    summary = sweep(grid.read(folder / "grid.toml"), folder / "runs", here, stream=None)
    page = summary.page.read_text()
    assert page.count(">s + t</td>") == 2
    assert page.count(">x/a</td>") == page.count(">y/a</td>") == 1
    (sheet,) = summary.sheets
    assert read(sheet).height > 2 * 240  # two rows of pictures


def test_messages_are_shown_whole(folder: Path) -> None:
    assert report.cell("cannot read /some/file.png: why") == (
        '<td data-value="cannot read /some/file.png: why">cannot read /some/file.png: why</td>'
    )


@pytest.mark.filterwarnings("ignore")  # xdist cannot carry a message with such a name
def test_names_that_are_not_utf_8_end_in_no_traceback(folder: Path, interpreter: Start) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (folder / "c" / name).parent.mkdir()
        (folder / "c" / name).write_bytes((folder / "a.png").read_bytes())
        (folder / "c" / os.fsdecode(b"bad\xe9.png")).write_bytes(b"no picture")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (folder / "grid.toml").write_text("contents = ['c/*.png']\nstyles = ['s.png']\n" + QUICK)
    ran = interpreter(*command(folder / "grid.toml", "-o", folder / "runs", "--workers", 1))
    stdout, stderr = ran.communicate()
    assert ran.returncode == 1, stderr
    assert "Traceback" not in stderr
    assert "1 made, 0 there already, 1 failed" in stdout
    page = (folder / "runs" / "report.html").read_text(encoding="utf-8")
    assert ">caf\N{REPLACEMENT CHARACTER}</td>" in page
    assert "bad\N{REPLACEMENT CHARACTER}.png is not an image" in page
    # The same without pyarrow.
    rows = [{"content": name}]
    assert report.table(rows, folder).stat().st_size > 0


# --- sheets ---


def test_a_sheet_too_high_becomes_several(folder: Path) -> None:
    """More rows than a JPEG is high: 203 of 320 px and their gaps."""
    rows = [[folder / "a.png"] for _ in range(203)]
    names = [str(index) for index in range(203)]
    files = report.sheets(folder / "sheet.jpg", rows, ["x"], names)
    assert [file.name for file in files] == ["sheet.jpg", "sheet-2.jpg"]
    heights = [read(file).height for file in files]
    assert max(heights) < 65_535
    assert sum(heights) > 203 * 240


def test_a_sheet_too_wide_has_smaller_cells_and_then_several_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_ACROSS", 1000)
    rows = [[folder / "a.png"] * 8 for _ in range(2)]
    (file,) = report.sheets(folder / "sheet.png", rows, ["x"] * 8)
    assert 900 < read(file).width <= 1100
    rows = [[folder / "a.png"] * 20 for _ in range(2)]
    files = report.sheets(folder / "sheet.png", rows, ["x"] * 20)
    assert [file.name for file in files] == ["sheet.png", "sheet-2.png"]
    assert all(read(file).width <= 1100 for file in files)


def test_any_exception_is_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Worker, job: Job, tell: Callable[[float], None]) -> Outcome:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(Worker, "perform", broken)
    news = Worker().attempt(grid.read(folder / "grid.toml")[0], lambda share: None)
    assert news == Failure("ZeroDivisionError: by hand")


def test_other_peoples_folders_are_left_alone(folder: Path) -> None:
    jobs = grid.read(folder / "grid.toml")
    sweep(jobs[:2], folder / "runs", here, stream=None)
    with pytest.raises(InputError, match="belongs to another sweep"):
        sweep(jobs[2:], folder / "runs", never, stream=None)
    assert sweep(jobs, folder / "runs", here, stream=None).kept == 2  # it has grown
    assert sweep(jobs[2:], folder / "runs", never, stream=None).kept == 2
    with pytest.raises(InputError, match="not empty, and not a sweep's"):
        sweep(jobs, folder, never, stream=None)
    (folder / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used as a sweep's folder"):
        sweep(jobs, folder / "file", never, stream=None)


def test_styles_and_encoder_are_kept_by_a_worker(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optistyle.experiments import work

    loads: list[object] = []
    load = work.load_encoder
    monkeypatch.setattr(
        work, "load_encoder", lambda recipe: (loads.append(recipe), load(recipe))[1]
    )
    worker, jobs = Worker(), grid.read(folder / "grid.toml")
    outcomes = [worker.attempt(job, lambda share: None) for job in jobs]
    assert len(loads) == 1
    assert len(worker._measured._kept) == 1  # one style at one size
    fresh = [Worker().attempt(job, lambda share: None) for job in jobs]
    for kept, alone in zip(outcomes, fresh, strict=True):
        assert isinstance(kept, Outcome)
        assert isinstance(alone, Outcome)
        assert kept.png == alone.png


def children(pid: int, deep: bool = True) -> list[int]:
    """Live descendants of a process, or those alone that it has started itself."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found += [int(entry.name), *(children(int(entry.name)) if deep else ())]
        except (OSError, IndexError):
            continue
    return found


def titled(pids: Sequence[int], title: str) -> list[int]:
    found = []
    for pid in pids:
        try:
            if title in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"):
                found.append(pid)
        except OSError:
            continue
    return found


def workers(pid: int) -> list[int]:
    """Live workers of a process: forked from its fork server, or from that of this process."""
    started = {*children(pid, deep=False), *children(os.getpid(), deep=False)}
    servers = titled(sorted(started), "multiprocessing.forkserver")
    return [x for server in servers for x in children(server, deep=False) if x != pid]


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@needs_proc
@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(folder: Path, interpreter: Start) -> None:
    output = folder / "runs"
    arguments = command(folder / "slow.toml", "-o", output, "--workers", 2, "--threads", 1)
    process = interpreter(*arguments)
    wait_for(lambda: list(output.glob("*/manifest.json")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = manifests(output)
    assert 1 <= len(finished) < 4
    ran = interpreter(*arguments)
    stdout, stderr = ran.communicate()
    assert ran.returncode == 0, stderr
    assert f"{4 - len(finished)} made, {len(finished)} there already, 0 failed" in stdout
    after = manifests(output)
    assert len(after) == 4
    assert all(after[name] == text for name, text in finished.items())


@needs_proc
@pytest.mark.slow
def test_a_killed_worker_costs_only_time(folder: Path, interpreter: Start) -> None:
    output = folder / "runs"
    process = interpreter(
        *command(folder / "slow.toml", "-o", output, "--workers", 2, "--threads", 1)
    )
    wait_for(lambda: list(output.glob("*/manifest.json")))
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "4 made, 0 there already, 0 failed" in out


def test_a_job_that_kills_every_worker_is_given_up(folder: Path, interpreter: Start) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from optistyle.experiments import engines, grid, work\n"
        "work.Worker.attempt = lambda self, job, report: os._exit(9)\n"
        "if __name__ == '__main__':\n"
        "    jobs = grid.read(Path(sys.argv[1]))[:1]\n"
        "    print([e.news for e in engines.local(1)(jobs)])\n"
    )
    (folder / "fatal.py").write_text(script)
    stdout, stderr = interpreter(folder / "fatal.py", folder / "grid.toml").communicate()
    assert "its worker died 3 times (exit code 9)" in stdout, stderr


def squared(number: int, report: processes.Report) -> int:
    report(0.5)
    return number**2


def test_results_and_shares_come_from_processes() -> None:
    news = list(processes.spread(squared, [1, 2, 3], workers=2, threads=1))
    assert sorted(news) == [(1, 0.5), (1, 1), (2, 0.5), (2, 4), (3, 0.5), (3, 9)]
    assert list(processes.spread(squared, [], workers=2, threads=1)) == []


@needs_proc
def test_an_idle_worker_may_die() -> None:
    news = processes.spread(squared, [1, 2], workers=1, threads=1)
    assert [next(news), next(news)] == [(1, 0.5), (1, 1)]
    (worker,) = workers(os.getpid())
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: worker not in workers(os.getpid()))
    assert list(news) == [(2, 0.5), (2, 4)]


def seen(name: str, report: processes.Report) -> tuple[str | None, str, int]:
    return os.environ.get(name), os.getcwd(), torch.get_num_threads()


def test_workers_have_the_environment_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of the time when the fork server started."""
    for value in ("one", "two"):
        (tmp_path / value).mkdir()
        monkeypatch.setenv("OPTISTYLE_TEST", value)
        monkeypatch.chdir(tmp_path / value)
        ((_, found),) = processes.spread(seen, ["OPTISTYLE_TEST"], workers=1, threads=2)
        assert found == (value, str(tmp_path / value), 2)


@needs_proc
def test_the_fork_server_computes_nothing() -> None:
    """It has one thread: what is forked from it lacks none. torch is loaded."""
    news = processes.spread(squared, [1, 2], workers=1, threads=1)
    next(news)
    (server,) = titled(children(os.getpid(), deep=False), "multiprocessing.forkserver")
    assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
    assert "libtorch" in Path(f"/proc/{server}/maps").read_text()
    news.close()


@pytest.mark.parametrize("number", [0, -1])
def test_numbers_of_workers_and_threads_are_checked(number: int) -> None:
    with pytest.raises(InputError, match="1 or more"):
        engines.local(workers=number)
    with pytest.raises(InputError, match="1 or more"):
        engines.local(threads=number)


# --- Ray ---


@needs_proc
@pytest.mark.slow
@pytest.mark.xdist_group("machine")
def test_ray_loses_nothing_when_a_worker_is_killed(folder: Path, interpreter: Start) -> None:
    pytest.importorskip("ray")
    output = folder / "runs"
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    process = interpreter(
        *command(folder / "slow.toml", "-o", output, "--engine", "ray"), environment=environment
    )
    wait_for(lambda: list(output.glob("*/manifest.json")))
    busy = titled(children(process.pid), "ray::_on_cluster")
    assert busy, "no Ray worker is at work"
    os.kill(busy[0], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "4 made, 0 there already, 0 failed" in out
    jobs = grid.read(folder / "slow.toml")
    by_hand = Worker().attempt(jobs[0], lambda share: None)
    assert isinstance(by_hand, Outcome)
    manifest = json.loads((output / jobs[0].folder / "manifest.json").read_text())
    assert manifest["inputs"]["content"]["path"] == str(jobs[0].content.resolve())
    assert manifest["threads"] == 1


def test_files_that_are_not_on_the_machine_come_along(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)  # as in a container
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
    (folder / "temporary").mkdir()
    job = grid.read(folder / "grid.toml")[0]
    contents = {sha: path.read_bytes() for path, sha in job.digests.items()}
    job.content.unlink()
    here = engines._unpacked(job, contents)
    assert here.content != job.content
    assert here.styles == job.styles  # still where it was
    assert here.key == job.key
    assert read(here.content).width == 64
    here.content.write_bytes(b"somebody else's")
    assert read(engines._unpacked(job, contents).content).width == 64


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "host.invalid:6379"])
def test_a_ray_address_that_does_not_answer(folder: Path, address: str) -> None:
    pytest.importorskip("ray")
    started = time.monotonic()
    with pytest.raises(InputError, match="no Ray cluster answers at"):
        list(engines.ray(address)(grid.read(folder / "grid.toml")))
    assert time.monotonic() - started < 30


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "optistyle\[ray\]"'):
        engines.ray()
