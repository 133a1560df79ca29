"""The entry point: pictures in, a picture out, whatever happens on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from optistyle import encoders, files, pictures, sizes
from optistyle.choices import INITS
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.optimise.objective import Objective
from optistyle.optimise.solvers import SOLVERS
from optistyle.pictures import Picture, Stored, colors
from optistyle.recipes import Recipe
from optistyle.run import Run, stylize
from optistyle.run.observers import Observer, Step
from optistyle.run.plan import style_size
from optistyle.run.stages import styled

Make = Callable[..., Tensor]

#: Two scales, a few iterations.
SMALL = Recipe(size=48, scales=(32, 48), iterations=(4, 3), encoder="slim")


@pytest.fixture
def pair(picture: Make) -> tuple[Tensor, Tensor]:
    return picture(40, 60, 1), picture(50, 44, 2)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, method: str, call: int) -> None:
    """Ctrl-C at the n-th call, from 1, of one of `Objective`'s methods; once."""
    original, calls = getattr(Objective, method), 0

    def interrupted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(Objective, method, interrupted)


# --- results ---


@pytest.mark.parametrize("optimizer", SOLVERS)
def test_the_loss_falls(pair: tuple[Tensor, Tensor], tiny: VGG, optimizer: str) -> None:
    recipe = Recipe(size=32, scales="single", iterations=(30,), optimizer=optimizer)
    result = stylize(*pair, recipe, encoder=tiny)
    assert result.image.shape == (1, 3, 21, 32)
    assert 0 <= result.image.min() <= result.image.max() <= 1
    assert result.final["total"] < 0.5 * result.first["total"]
    assert [row["iteration"] for row in result.trace] == list(range(1, 31))
    assert not result.interrupted
    assert not result.warnings


def test_first_and_final_are_of_clamped_pictures(pair: tuple[Tensor, Tensor], tiny: VGG) -> None:
    recipe = replace(SMALL, range=0.0, original_colors="histogram")  # L-BFGS leaves [0, 1]
    run = Run(*pair, recipe, encoder=tiny)
    last = list(run)[-1]
    result = run.result()
    assert last.checkpoint.progress.image.max() > 1.001
    size = (32, 48)
    style = colors.match_histogram(pair[1], pair[0])
    fitted = sizes.fit_area(50, 44, size[0] * size[1])
    content = pictures.resize(pair[0], size)
    objective = Objective.build(
        tiny, run.plan.terms, (content, None), [(pictures.resize(style, fitted), None)], [1.0]
    )
    assert result.final == pytest.approx(objective.evaluate(result.image), rel=1e-5)
    assert result.first == pytest.approx(objective.evaluate(content), rel=1e-5, abs=1e-9)


def test_the_trace_starts_with_the_start(pair: tuple[Tensor, Tensor], tiny: VGG) -> None:
    result = stylize(*pair, replace(SMALL, scales="single", iterations=(2,)), encoder=tiny)
    start = {k: v for k, v in result.trace[0].items() if k not in ("scale", "iteration")}
    assert start == pytest.approx(result.first, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("optimizer", SOLVERS)
@pytest.mark.parametrize("init", [*INITS, "file"])
def test_same_seed_same_bytes(
    pair: tuple[Tensor, Tensor], tiny: VGG, init: str, optimizer: str, tmp_path: Path, picture: Make
) -> None:
    if init == "file":
        init = str(tmp_path / "start.png")
        pictures.write(init, picture(20, 30, 5))
    recipe = replace(SMALL, init=init, optimizer=optimizer)
    torch.rand(3)  # the global generator is of no consequence
    first, again = (stylize(*pair, recipe, encoder=tiny) for _ in range(2))
    assert torch.equal(first.image, again.image)
    assert first.trace == again.trace


def test_starts_differ(pair: tuple[Tensor, Tensor], tiny: VGG) -> None:
    recipe = replace(SMALL, iterations=(1, 1))
    starts = [Run(*pair, replace(recipe, init=init), encoder=tiny) for init in INITS]
    starts.append(Run(*pair, replace(recipe, init="noise", seed=1), encoder=tiny))
    pictures = [run.result().image for run in starts]
    assert not any(torch.equal(a, b) for i, a in enumerate(pictures) for b in pictures[:i]), (
        "two starts are the same"
    )


def test_several_styles(pair: tuple[Tensor, Tensor], tiny: VGG, picture: Make) -> None:
    content, one = pair
    two = 1 - picture(30, 70, 9)
    alone = stylize(content, one, SMALL, encoder=tiny).first["style"]
    other = stylize(content, two, SMALL, encoder=tiny).first["style"]

    def weighted(*weights: float) -> float:
        recipe = replace(SMALL, style_weights=weights)
        return stylize(content, [one, two], recipe, encoder=tiny).first["style"]

    assert weighted(1, 0) == pytest.approx(alone, rel=1e-4)
    assert weighted(0, 3) == pytest.approx(other, rel=1e-4)
    assert weighted() == weighted(2, 2)
    assert len({weighted(1, 0), weighted(3, 1), weighted(1, 1), weighted(0, 1)}) == 4


@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (17, 53), (16, 200), (300, 19), (33, 47), (31, 31)]
)
def test_any_aspect_and_odd_sizes(tiny: VGG, picture: Make, height: int, width: int) -> None:
    recipe = Recipe(size="original", iterations=(2,))
    result = stylize(picture(height, width), picture(16, 90), recipe, encoder=tiny)
    assert result.image.shape == (1, 3, height, width)
    assert result.image.isfinite().all()
    assert result.final["total"] < result.first["total"]


def test_the_smallest_picture_with_the_packaged_encoder(picture: Make) -> None:
    recipe = Recipe(size=16, iterations=(3,), encoder="slim", device="cpu")
    for height, width in ((16, 16), (40, 60)):
        if height == 40:
            with pytest.raises(InputError, match="shorter side must be at least 16 px"):
                stylize(picture(height, width), picture(20, 20), recipe)
        else:
            result = stylize(picture(height, width), picture(16, 16, 1), recipe)
            assert result.final["total"] < result.first["total"]


def test_style_scale(pair: tuple[Tensor, Tensor], tiny: VGG) -> None:
    style = Stored(Picture(pair[1]))
    assert style_size(style, (32, 48), 2.0) == sizes.fit_area(50, 44, 4 * 32 * 48)
    assert min(style_size(style, (32, 48), 0.1)) == 16
    run = Run(*pair, replace(SMALL, style_scale=2.0), encoder=tiny)
    assert run.plan.demand.styles == (pytest.approx(4, rel=0.02),)


def test_a_larger_style_holds_no_finer_detail(pair: tuple[Tensor, Tensor], tiny: VGG) -> None:
    """A checkerboard of single pixels is gone at scale 4, where a style is read at half its size;
    a broad one stays, and so does everything at scale 1."""
    fine = (torch.arange(64)[:, None] + torch.arange(64)) % 2.0
    broad = (torch.arange(64)[:, None] // 16 + torch.arange(64) // 16) % 2.0
    contrast = {}
    for name, board in (("fine", fine), ("broad", broad)):
        for scale, size in ((1.0, 64), (4.0, 16)):
            style = board.expand(1, 3, 64, 64).clone()
            run = Run(pair[0], style, replace(SMALL, style_scale=scale), encoder=tiny)
            pixels, _ = styled(run.inputs.styles[0], (size, size), run.plan)
            assert pixels.shape == (1, 3, 64, 64)
            contrast[name, scale] = float(pixels.std())
    assert contrast["fine", 1.0] > 0.49
    assert contrast["fine", 4.0] < 0.05
    assert contrast["broad", 4.0] > 0.4


# --- transparency and colours ---

#: Features that see one pixel around them: what happens elsewhere stays there.
NEAR = Recipe(
    size="original",
    iterations=(6,),
    gamma=0.0,
    content_layers={"relu1_1": 1.0},
    style_layers={"relu1_1": 1.0},
)


def test_transparent_pixels_weigh_nothing(tiny: VGG, picture: Make) -> None:
    alpha = torch.ones(1, 1, 32, 40)
    alpha[..., 20:] = 0
    content = Picture(picture(32, 40), alpha)
    result = stylize(content, picture(32, 32, 2), NEAR, encoder=tiny)
    assert torch.equal(result.picture.alpha, alpha)
    assert torch.equal(result.image[..., 22:], content.pixels[..., 22:])
    assert not torch.allclose(result.image[..., :20], content.pixels[..., :20], atol=0.01)


def test_alpha_is_resized_with_the_picture(tiny: VGG, picture: Make, tmp_path: Path) -> None:
    alpha = torch.ones(1, 1, 60, 80)
    alpha[..., :30, :] = 0
    pictures.write(tmp_path / "content.png", Picture(picture(60, 80), alpha))
    result = stylize(tmp_path / "content.png", picture(32, 32), SMALL, encoder=tiny)
    result.save(tmp_path / "out.png")
    saved = pictures.read(tmp_path / "out.png")
    assert saved.alpha is not None
    assert saved.alpha.shape == (1, 1, 36, 48)
    assert saved.alpha[..., :15, :].max() < 0.05
    assert saved.alpha[..., 21:, :].min() > 0.95


def test_transparent_parts_of_a_style_do_not_count(tiny: VGG, picture: Make) -> None:
    content, style = picture(32, 32), picture(32, 64, 3)
    inverted = style.clone()
    inverted[..., 32:] = 1 - style[..., 32:]
    alpha = torch.ones(1, 1, 32, 64)
    alpha[..., 32:] = 0

    def start(pixels: Tensor, alpha: Tensor | None) -> float:
        return stylize(content, Picture(pixels, alpha), NEAR, encoder=tiny).first["style"]

    assert start(style, alpha) == pytest.approx(start(inverted, alpha), rel=0.1)
    assert start(style, None) != pytest.approx(start(inverted, None), rel=0.2)


@pytest.mark.parametrize("optimizer", SOLVERS)
@pytest.mark.parametrize("styles", [1, 2])
def test_transparency_in_every_term(tiny: VGG, picture: Make, optimizer: str, styles: int) -> None:
    alpha = torch.linspace(-1, 1, 48).clamp(0, 1).expand(1, 1, 32, 48)
    see_through = Picture(picture(32, 48), alpha)
    recipe = replace(SMALL, tv=1.0, optimizer=optimizer)
    result = stylize(see_through, [see_through, picture(32, 32)][:styles], recipe, encoder=tiny)
    assert all(torch.tensor(list(row.values())).isfinite().all() for row in result.trace)


def test_luminance_keeps_the_content_s_chroma(pair: tuple[Tensor, Tensor], tiny: VGG) -> None:
    content = 0.3 + 0.4 * pair[0]  # room for every luminance
    run = Run(content, pair[1], replace(SMALL, original_colors="luminance"), encoder=tiny)
    step = next(run)
    assert step.picture().pixels.shape[-2:] == step.size
    run.finish()
    final = run.result().image
    expected = pictures.resize(content, final.shape[-2:])

    def red_less_green(image: Tensor) -> Tensor:
        return (image[:, 0] - image[:, 1]).flatten()

    together = torch.corrcoef(torch.stack([red_less_green(final), red_less_green(expected)]))
    assert together[0, 1] > 0.95


@pytest.mark.parametrize("method", ["histogram", "covariance"])
def test_the_style_is_taken_in_the_content_s_colours(
    pair: tuple[Tensor, Tensor], tiny: VGG, method: str
) -> None:
    content, style = pair
    recoloured = getattr(colors, f"match_{method}")(style, content)
    result = stylize(content, style, replace(SMALL, original_colors=method), encoder=tiny)
    expected = stylize(content, recoloured, SMALL, encoder=tiny)
    assert torch.equal(result.image, expected.image)
    assert result.image.mean() != stylize(content, style, SMALL, encoder=tiny).image.mean()


def test_colours_of_transparent_pixels_are_not_taken(tiny: VGG, picture: Make) -> None:
    content = picture(32, 32)
    hidden = content.clone()
    hidden[..., 16:] = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    alpha = torch.ones(1, 1, 32, 32)
    alpha[..., 16:] = 0
    recipe = replace(NEAR, original_colors="histogram")
    runs = [
        Run(Picture(p, alpha), picture(32, 32, 1), recipe, encoder=tiny) for p in (content, hidden)
    ]
    assert torch.equal(*(run.inputs.styles[0].picture.pixels for run in runs))


def test_grey_pictures_give_a_grey_one(tiny: VGG, picture: Make) -> None:
    content, style = (picture(32, 40, seed)[:, :1].expand(-1, 3, -1, -1) for seed in (1, 2))
    result = stylize(content, style, NEAR, encoder=tiny)
    assert torch.equal(result.image[:, 0], result.image[:, 1])
    assert torch.equal(result.image[:, 0], result.image[:, 2])
    coloured = stylize(content, [style, picture(32, 32, 3)], NEAR, encoder=tiny)
    assert not torch.allclose(coloured.image[:, 0], coloured.image[:, 1], atol=0.02)


def test_notes_of_the_photograph_come_along(tiny: VGG, picture: Make, tmp_path: Path) -> None:
    notes = {"author": "Ada", "copyright": "CC0"}
    content = Picture(picture(32, 40), None, notes)
    result = stylize(
        content, Picture(picture(32, 32), None, {"author": "Vincent"}), NEAR, encoder=tiny
    )
    assert result.picture.notes == notes
    result.save(tmp_path / "out.png")
    assert pictures.read(tmp_path / "out.png").notes == notes


# --- stopping and going on ---


def test_a_run_goes_on_after_a_break(pair: tuple[Tensor, Tensor], tiny: VGG) -> None:
    whole = stylize(*pair, SMALL, encoder=tiny)
    run = Run(*pair, SMALL, encoder=tiny)
    seen: list[Step] = []
    for pause in (2, 3, 6, 99):
        for step in run:
            seen.append(step)
            if len(seen) == pause:
                break
        partial = run.result()
        assert partial.image.shape == whole.image.shape
        assert partial.trace == whole.trace[: len(seen)]
        assert partial.final["total"] > 0
        assert partial.interrupted == (pause != 99)
    assert torch.equal(run.result().image, whole.image)
    assert [(s.scale, s.iteration) for s in seen] == [(0, i) for i in (1, 2, 3, 4)] + [
        (1, i) for i in (1, 2, 3)
    ]
    assert list(run) == []


def test_iterators_of_one_run_are_one(pair: tuple[Tensor, Tensor], tiny: VGG) -> None:
    run = Run(*pair, SMALL, encoder=tiny)
    steps = [step for both in zip(run, run, strict=False) for step in both]
    assert len(steps) == 6  # of 7: zip takes one more and drops it
    whole = stylize(*pair, SMALL, encoder=tiny)
    assert torch.equal(run.result().image, whole.image)


@pytest.mark.parametrize("optimizer", SOLVERS)
@pytest.mark.parametrize(
    ("method", "call", "done"),
    [
        ("build", 1, 0),
        ("slope", 1, 0),
        ("slope", 3, 2),
        ("evaluate", 1, 4),
        ("build", 2, 4),
        ("slope", 5, 4),
        ("slope", 7, 6),
    ],
)
def test_ctrl_c_at_any_moment(
    pair: tuple[Tensor, Tensor],
    tiny: VGG,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    call: int,
    done: int,
    optimizer: str,
    tmp_path: Path,
) -> None:
    recipe = replace(SMALL, optimizer=optimizer)
    whole = stylize(*pair, recipe, encoder=tiny)
    with monkeypatch.context() as patch:
        interrupt_at(patch, method, call)
        stopped = stylize(*pair, recipe, encoder=tiny)
    assert stopped.interrupted
    assert stopped.image.shape == whole.image.shape
    assert stopped.trace == whole.trace[:done]
    if method != "build" or call > 1:
        assert stopped.first["total"] > 0
        assert stopped.final["total"] <= 1.1 * stopped.first["total"]
    else:
        assert stopped.first == stopped.final == {}
    json.dumps(stopped.manifest())

    run = Run(*pair, recipe, encoder=tiny)
    with monkeypatch.context() as patch:
        interrupt_at(patch, method, call)
        with pytest.raises(KeyboardInterrupt):
            run.finish()
    run.checkpoint.save(tmp_path / "c", run.identity)
    run.finish()  # goes on in the same process ...
    resumed = Run(*pair, recipe, encoder=tiny)
    resumed.resume(tmp_path / "c")  # ... and in another
    resumed.finish()
    for result in (run.result(), resumed.result()):
        assert torch.equal(result.image, whole.image)
        assert (result.trace, result.first, result.final) == (
            whole.trace,
            whole.first,
            whole.final,
        )
        assert not result.interrupted
        assert len(result.seconds) == 2


def test_a_checkpoint_fits_its_own_run_only(
    pair: tuple[Tensor, Tensor], tiny: VGG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, style = pair
    run = Run(content, style, SMALL, encoder=tiny)
    next(run)
    run.checkpoint.save(tmp_path / "c", run.identity)
    Run(content, style, SMALL, encoder=tiny).resume(tmp_path / "c")
    other = VGG({k: 2 * w for k, w in tiny.convolutions().items()}, mean=tiny.mean, name="tiny")
    with monkeypatch.context() as patch:
        patch.setattr("optistyle.run.stages.versions", lambda: {"optistyle": "0.0.1"})
        earlier = Run(content, style, SMALL, encoder=tiny)
    for changed in (
        earlier,
        Run(content, 1 - style, SMALL, encoder=tiny),
        Run(1 - content, style, SMALL, encoder=tiny),
        Run(content, style, replace(SMALL, alpha=2.0), encoder=tiny),
        Run(content, style, SMALL, encoder=other),
    ):
        with pytest.raises(InputError, match="other inputs or settings"):
            changed.resume(tmp_path / "c")


def test_observers_end_whatever_happens(
    pair: tuple[Tensor, Tensor], tiny: VGG, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Observer):
        def __init__(self) -> None:
            self.log: list[str] = []

        def started(self, schedule: Any) -> None:
            self.log.append(f"started {len(schedule)}")

        def stepped(self, step: Step) -> None:
            self.log.append(f"{step.scale}.{step.iteration}")

        def ended(self) -> None:
            self.log.append("ended")

    seen = Seen()
    stylize(*pair, SMALL, encoder=tiny, observers=[seen])
    assert seen.log == ["started 2", "0.1", "0.2", "0.3", "0.4", "1.1", "1.2", "1.3", "ended"]
    interrupt_at(monkeypatch, "slope", 2)
    seen = Seen()
    stylize(*pair, SMALL, encoder=tiny, observers=[seen])
    assert seen.log == ["started 2", "0.1", "ended"]


def test_divergence_is_reported(pair: tuple[Tensor, Tensor], tiny: VGG) -> None:
    recipe = replace(SMALL, lr=1e4, scales="single", iterations=(6,))
    result = stylize(*pair, recipe, encoder=tiny)
    assert any("diverged at iteration" in line for line in result.warnings)
    assert result.final["total"] <= 1.1 * result.first["total"]
    assert result.image.isfinite().all()
    manifest = json.dumps(result.manifest(), allow_nan=False)
    assert "diverged" in manifest


# --- records ---


def test_manifest(pair: tuple[Tensor, Tensor], tiny: VGG, tmp_path: Path) -> None:
    pictures.write(tmp_path / "style.png", pair[1])
    result = stylize(pair[0], tmp_path / "style.png", SMALL, encoder=tiny)
    manifest = json.loads(json.dumps(result.manifest(), allow_nan=False))
    assert Recipe.from_dict(manifest["recipe"]) == SMALL
    assert manifest["plan"] == {"tile": "off", "history": 5, "kernels": "torch"}
    assert manifest["inputs"]["styles"] == [
        {
            "path": str((tmp_path / "style.png").resolve()),
            "sha256": files.digest(tmp_path / "style.png"),
        }
    ]
    assert set(manifest["inputs"]["content"]) == {"sha256"}
    assert len(manifest["trace"]) == 7
    assert manifest["encoder"] == "tiny"
    assert manifest["versions"]["torch"] == torch.__version__.split("+")[0] or manifest["versions"]
    assert (manifest["width"], manifest["height"]) == (48, 32)
    assert len(manifest["seconds"]) == 2
    assert result._repr_png_()[:4] == b"\x89PNG"


def test_auto_is_recorded_as_what_it_was(pair: tuple[Tensor, Tensor]) -> None:
    run = Run(*pair, replace(SMALL, encoder="auto", device="cpu"))
    assert run.recipe.encoder == run.encoder.name == encoders.choose("auto") != "auto"
    assert run.recipe.device == "cpu"


# --- bad input ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.0, "beta": 0.0, "gamma": 0.0, "range": 0.0}, "all weights are 0"),
        ({"style_weights": (1.0, 2.0)}, "style weights: got 2 for 1 style image"),
        ({"content_layers": {"relu5_4": 1.0}}, "layer of encoder tiny 'relu5_4'"),
        ({"init": "nowhere.png"}, "neither a file nor one of content, style, noise, grey"),
        ({"iterations": (1, 2, 3)}, "iterations: got 3 for 2 scales"),
        ({"scales": (16, 48)}, "shorter side must be at least 16 px"),
    ],
)
def test_settings_are_checked_before_the_first_step(
    pair: tuple[Tensor, Tensor], tiny: VGG, changes: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Run(*pair, replace(SMALL, **changes), encoder=tiny)


def test_pictures_are_checked(pair: tuple[Tensor, Tensor], tiny: VGG, picture: Make) -> None:
    content, style = pair
    broken = content.clone()
    broken[0, 0, 3, 3] = float("nan")
    for bad, message in (
        (broken, "NaN"),
        (picture(15, 40), "40x15 px; its shorter side must be 16"),
        (Picture(content, torch.zeros(1, 1, 40, 60)), "transparent all over"),
    ):
        with pytest.raises(InputError, match=message):
            Run(bad, style, SMALL, encoder=tiny)
        with pytest.raises(InputError, match=message):
            Run(content, [style, bad], SMALL, encoder=tiny)
    with pytest.raises(InputError, match="no style image"):
        Run(content, [], SMALL, encoder=tiny)
    with pytest.raises(InputError, match=r"a tensor is of shape \(1, 2, 40, 60\)"):
        Run(content[:, :2], style, SMALL, encoder=tiny)


def test_public_names(pair: tuple[Tensor, Tensor], tiny: VGG) -> None:
    import optistyle

    for name in optistyle.__all__:  # whatever was imported before, no name is a module's
        assert not isinstance(getattr(optistyle, name), ModuleType), name
    assert optistyle.stylize is stylize
    assert isinstance(stylize(*pair, SMALL, encoder=tiny), optistyle.Result)


def test_the_pooling_of_an_encoder_that_is_handed_over_is_recorded(
    tiny: VGG, picture: Callable[..., Tensor]
) -> None:
    recipe = Recipe(size=32, iterations=1, pooling="max")
    result = stylize(picture(32, 32), picture(32, 32, 1), recipe, encoder=tiny, progress=False)
    assert result.recipe.pooling == tiny.pooling == "average"
    assert result.manifest()["recipe"]["pooling"] == "average"
