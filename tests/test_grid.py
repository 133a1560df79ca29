"""What a TOML file asks for, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_picture

from optistyle import encoders
from optistyle.errors import InputError
from optistyle.experiments import grid
from optistyle.experiments.naming import folder_name, labels, printable
from optistyle.files import LONGEST
from optistyle.pictures import write
from optistyle.recipes import Recipe

Write = Callable[[str], Path]


@pytest.fixture
def toml(tmp_path: Path) -> Write:
    """Writes a grid file beside two contents and two styles."""
    for seed, name in enumerate(("a", "b", "s", "t")):
        write(tmp_path / f"{name}.png", make_picture(16, 16, seed))

    def write_grid(text: str) -> Path:
        path = tmp_path / "grid.toml"
        path.write_text(text)
        return path

    return write_grid


INPUTS = 'contents = ["a.png", "b.png"]\nstyles = ["s.png"]\n'


def test_every_combination(toml: Write) -> None:
    jobs = grid.read(
        toml(
            'contents = ["[ab].png"]\nstyles = ["s.png", ["s.png", "t.png"]]\npreset = "gatys"\n'
            "[settings]\nsize = 64\n[grid]\ngamma = [0, 6e6]\n"
            'attention_layers = ["relu3_1", "relu4_1:2,relu5_1"]\n'
            '[[runs]]\noptimizer = "adam"\nlr = 0.01\n[[runs]]\niterations = [3]\n'
        )
    )
    assert len(jobs) == 2 * 2 * 2 * 2 * 2
    assert {job.recipe.size for job in jobs} == {64}
    assert {job.recipe.scales for job in jobs} == {"single"}  # the preset's
    assert {len(job.styles) for job in jobs} == {1, 2}
    assert {job.recipe.lr for job in jobs if job.recipe.optimizer == "adam"} == {0.01}
    assert {job.recipe.iterations for job in jobs if job.recipe.optimizer == "lbfgs"} == {(3,)}
    weights = [dict(job.recipe.attention_layers) for job in jobs]
    assert {"relu4_1": 2.0, "relu5_1": 1.0} in weights
    assert grid.varied(jobs) == [
        "gamma", "attention_layers", "iterations", "optimizer", "lr",
    ]  # fmt: skip


def test_the_same_run_twice_is_one(toml: Write) -> None:
    assert len(grid.read(toml(INPUTS + "[grid]\ngamma = [1, 1.0]\n"))) == 2


def test_a_key_stands_for_contents_and_settings(toml: Write, tmp_path: Path) -> None:
    (first, other) = grid.read(toml(INPUTS))
    assert first.key != other.key
    assert replace(first, recipe=Recipe(gamma=1.0)).key != first.key
    chosen = Recipe(encoder=encoders.choose("auto"))  # auto is another one on another machine
    assert replace(first, recipe=chosen).key == first.key
    # The same pixels under another name are the same job; other pixels are not.
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
    (copy,) = grid.jobs([tmp_path / "c.png"], [tmp_path / "s.png"], [Recipe()])
    assert copy.key == first.key
    write(tmp_path / "a.png", make_picture(16, 16, 9))
    assert grid.read(toml(INPUTS))[0].key != first.key


def test_a_start_file_is_seen_from_the_grid_and_in_the_key(toml: Write, tmp_path: Path) -> None:
    jobs = grid.read(toml(INPUTS + '[settings]\ninit = "t.png"\n'))
    assert jobs[0].recipe.init == str(tmp_path / "t.png")
    before = jobs[0].key
    write(tmp_path / "t.png", make_picture(16, 16, 9))
    assert grid.read(toml(INPUTS + '[settings]\ninit = "t.png"\n'))[0].key != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("contents = [", "is not TOML"),
        (INPUTS + "[gird]\n", "'gird'.*grid"),
        (INPUTS + "[settings]\ngama = 1\n", "'gama'.*gamma"),
        (INPUTS + "[grid]\ngama = [1]\n", "'gama'.*gamma"),
        (INPUTS + "[grid]\ngamma = []\n", "one value or more"),
        (INPUTS + '[grid]\ngamma = ["much"]\n', "gamma is 'much'; give a number of 0 or more"),
        (INPUTS + "[grid]\ngamma = [-1]\n", "0 or more"),
        (INPUTS + '[grid]\nattention_layers = ["relu9_1"]\n', "relu9_1"),
        (INPUTS + "[settings]\nsize = 1.5\n", "size"),
        (INPUTS + 'runs = ["x"]\n', r"\[\[runs\]\]"),
        (INPUTS + 'metrics = ["self_similarty"]\n', "self_similarity"),
        (INPUTS + 'preset = "gattys"\n', "gatys"),
        (INPUTS + "[settings]\nstyle_weights = [1, 2]\n", "style weights: got 2 for 1 style image"),
        ('contents = []\nstyles = ["s.png"]\n', "nothing to run: no contents"),
        ('styles = ["s.png"]\n', "nothing to run: no contents"),
        ('contents = ["a.png"]\n', "no styles"),
        ('contents = "a.png"\nstyles = ["s.png"]\n', "write contents = "),
        ('contents = [1]\nstyles = ["s.png"]\n', "1 is not a file; give a name"),
        ('contents = ["x.png"]\nstyles = ["s.png"]\n', "x.png is not a file"),
        ('contents = ["*.jpg"]\nstyles = ["s.png"]\n', "no file matches"),
    ],
)
def test_bad_grids_are_refused_in_one_line(toml: Write, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        grid.read(toml(text))
    assert "\n" not in str(caught.value)
    assert "grid.toml" in str(caught.value)


def test_a_grid_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        grid.read(tmp_path / "none.toml")


# --- one number, patterns, names ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[settings]\niterations = 5\n", [(5,)]),
        ("[settings]\niterations = [5]\n", [(5,)]),
        ("[grid]\niterations = 5\n", [(5,)]),
        ("[grid]\niterations = [5]\n", [(5,)]),
        ("[grid]\niterations = [5, 6]\n", [(5,), (6,)]),
        ("[settings]\nscales = [256, 512]\n[grid]\niterations = [5, [10, 5]]\n", [(5,), (10, 5)]),
        ("[[runs]]\niterations = 5\n[[runs]]\niterations = [6]\n", [(5,), (6,)]),
    ],
)
def test_one_number_of_iterations(toml: Write, text: str, expected: list[tuple[int, ...]]) -> None:
    jobs = grid.read(toml('contents = ["a.png"]\nstyles = ["s.png"]\n' + text))
    assert [job.recipe.iterations for job in jobs] == expected


@pytest.mark.parametrize("table", ["[settings]", "[grid]", "[[runs]]"])
def test_one_scale(toml: Write, table: str) -> None:
    (job, _) = grid.read(toml(f"{INPUTS}{table}\nscales = 512\n"))
    assert job.recipe.scales == (512,)
    assert job.recipe.schedule(400, 512) == [((400, 512), 14)]


def test_a_file_comes_before_a_pattern(toml: Write, tmp_path: Path) -> None:
    write(tmp_path / "photo[1].png", make_picture(16, 16, 5))
    write(tmp_path / "photo1.png", make_picture(16, 16, 6))
    styles = 'styles = ["s.png"]\n'
    (job,) = grid.read(toml('contents = ["photo[1].png"]\n' + styles))
    assert job.content.name == "photo[1].png"
    (tmp_path / "photo[1].png").unlink()
    (job,) = grid.read(toml('contents = ["photo[1].png"]\n' + styles))
    assert job.content.name == "photo1.png"
    with pytest.raises(InputError, match=r"grid.toml: 'a\*\*b' is not a pattern|no file matches"):
        grid.read(toml('contents = ["a**b"]\n' + styles))


def test_patterns_skip_names_with_a_dot_unless_asked_for(toml: Write, tmp_path: Path) -> None:
    for name in ("._a.png", ".thumbs/a.png", "folder.png/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, make_picture(16, 16, len(name)))

    def contents(pattern: str) -> list[str]:
        jobs = grid.read(toml(f'contents = ["{pattern}"]\nstyles = ["s.png"]\n'))
        return [str(job.content.relative_to(tmp_path)) for job in jobs]

    assert contents("*.png") == ["a.png", "b.png", "s.png", "t.png"]
    assert contents("**/[ax].png") == ["a.png", "folder.png/x.png"]
    assert contents(".thumbs/*.png") == [".thumbs/a.png"]
    assert contents(".*.png") == ["._a.png"]


def test_a_byte_order_mark_is_no_error(toml: Write, tmp_path: Path) -> None:
    path = toml("")
    path.write_text(INPUTS, encoding="utf-8-sig")
    assert len(grid.read(path)) == 2


def test_a_key_stands_for_the_version_too(toml: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    (before, _) = grid.read(toml(INPUTS))
    monkeypatch.setattr(grid, "version", lambda: "99")
    (after, _) = grid.read(toml(INPUTS))
    assert before.key != after.key
    assert before.folder != after.folder
    assert before.request == after.request


@pytest.mark.filterwarnings("ignore")  # xdist cannot carry a message with such a name
def test_names_for_people_are_unique() -> None:
    def named(*paths: str, suffix: bool = False) -> list[str]:
        return list(labels(map(Path, paths), suffix=suffix).values())

    assert named("x/a.png", "x/b.png") == ["a", "b"]
    assert named("x/a.png", "x/a.jpg", "x/b.png") == ["a.png", "a.jpg", "b"]
    assert named("x/a.png", "y/a.png") == ["x/a", "y/a"]
    assert named("x/a.png", "y/a.png", "y/a.jpg") == ["x/a.png", "y/a.png", "y/a.jpg"]
    assert named("1/x/a.png", "2/x/a.png") == ["x/a.png", "x/a.png (2)"]
    assert named("x/a.png", "y/a.jpg", suffix=True) == ["a.png", "a.jpg"]
    assert named("x/a.png", "y/a.png", suffix=True) == ["x/a.png", "y/a.png"]
    assert named("a.png", "a.png") == ["a"]
    broken = os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"caf\xe8.png")
    names = named(*broken)
    assert len({*names}) == 2
    assert all("caf\N{REPLACEMENT CHARACTER}" in name for name in names)
    assert all(name.encode() for name in names)


def test_folder_names_fit_the_file_system(toml: Write, tmp_path: Path) -> None:
    long = [f"{letter * 246}{index}.png" for index, letter in enumerate("xy")]
    for seed, name in enumerate(long):
        write(tmp_path / name, make_picture(16, 16, seed))
    jobs = grid.read(toml(f'contents = ["{long[0]}"]\nstyles = ["{long[1]}", "s.png"]\n'))
    for job in jobs:
        assert len(job.folder.encode()) <= LONGEST
        assert job.folder.endswith(job.key[:10])
        (tmp_path / job.folder).mkdir()
    assert folder_name("short", "12") == "short-12"
    cut = folder_name("\N{SNOWMAN}" * 100, "12", suffix=".json")
    assert len(f"{cut}.json".encode()) <= LONGEST
    assert cut == printable(cut)
    assert cut.startswith("\N{SNOWMAN}" * 70)
    assert cut.endswith("-12")
