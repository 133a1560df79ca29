"""The attention explorer: rows of the attention matrix, correspondences, figures, the command."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import make_picture
from torch import Tensor

from optistyle import cli
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.experiments import attention
from optistyle.experiments.attention import Explorer
from optistyle.layers import CHANNELS
from optistyle.metrics.strays import strays
from optistyle.pictures import Picture, read, resize, write
from optistyle.sizes import fit_area
from optistyle.statistics import attend, correspond, log_attention, mean_variance_normalise

Make = Callable[..., Tensor]


def uniform(feature: Tensor) -> Tensor:
    return torch.tensor(1 / feature.shape[-2:].numel(), dtype=feature.dtype)


def dense(content: Tensor, style: Tensor, sharpness: float) -> Tensor:
    """The whole matrix W, (M_c, M_s)."""
    a, b = (mean_variance_normalise(x, uniform(x))[0].flatten(1) for x in (content, style))
    return (sharpness * a.T @ b).softmax(1)


@pytest.fixture
def features(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return tuple(
        torch.rand(1, 6, *size, generator=generator, dtype=torch.float64)
        for size in ((4, 5), (3, 7))
    )  # type: ignore[return-value]


def test_rows_and_summaries_equal_the_dense_matrix(features: tuple[Tensor, Tensor]) -> None:
    content, style = features
    whole = dense(content, style, 0.7)
    weights = uniform(content), uniform(style)
    places = torch.tensor([0, 13, 19])
    rows = log_attention(content, style, *weights, places, sharpness=0.7)
    torch.testing.assert_close(rows.exp().flatten(1), whole[places])
    for budget in (1, 50, 10_000):  # in chunks of one query, of two, and all at once
        found = correspond(content, style, *weights, sharpness=0.7, budget=budget)
        torch.testing.assert_close(found.top.flatten(), whole.amax(1))
        entropy = -(whole * whole.log()).sum(1)
        torch.testing.assert_close(found.entropy.flatten(), entropy)
        best = whole.argmax(1)
        assert found.best[0].flatten().tolist() == (best // 7).tolist()
        assert found.best[1].flatten().tolist() == (best % 7).tolist()
        row, column = torch.arange(21) // 7, torch.arange(21) % 7
        torch.testing.assert_close(found.expected[0].flatten(), whole @ row.double())
        torch.testing.assert_close(found.expected[1].flatten(), whole @ column.double())


def test_rows_gather_what_attend_gathers(features: tuple[Tensor, Tensor]) -> None:
    content, style = features
    weights = uniform(content), uniform(style)
    rows = log_attention(content, style, *weights, torch.arange(20)).exp().flatten(1)
    gathered = (style[0].flatten(1) @ rows.T).unflatten(1, (4, 5))
    torch.testing.assert_close(attend(content, style, *weights)[0], gathered)


def test_transparent_style_is_not_attended_to(features: tuple[Tensor, Tensor]) -> None:
    content, style = features
    visible = torch.zeros(1, 1, 3, 7, dtype=torch.float64)
    visible[..., :3] = 1 / 9
    found = correspond(content, style, uniform(content), visible)
    assert found.best[1].max() <= 2
    assert found.entropy.isfinite().all()
    rows = log_attention(content, style, uniform(content), visible, torch.tensor([4]))
    assert rows[0, :, 3:].exp().eq(0).all()


def test_maps_are_rows_of_the_losss_own_attention(tiny: VGG, picture: Make) -> None:
    content, style = picture(128, 64), picture(64, 96, 1)
    explorer = Explorer(content, style, ["relu2_1", "relu4_1"], encoder=tiny, size=64)
    # Seen at half size: 64x32 px, and a style of as many. relu2_1 has 32x16 positions.
    small, look = resize(content, (64, 32)), resize(style, fit_area(64, 96, 64 * 32))
    for layer, cell in (("relu2_1", 4), ("relu4_1", 16)):
        features = tiny(small, (layer,))[layer], tiny(look, (layer,))[layer]
        whole = dense(*features, CHANNELS[layer] / tiny.channels(layer))
        for x, y in ((0, 0), (50.5, 20), (63, 127)):
            row = whole[int(y) // cell * (64 // cell) + int(x) // cell]
            found = next(f for f in explorer.maps([(x, y)])[0] if f.layer == layer)
            torch.testing.assert_close(found.weights.flatten(), row)
            height, width = found.weights.shape
            best = divmod(int(row.argmax()), width)
            expected = (best[1] + 0.5) / width * 96, (best[0] + 0.5) / height * 64
            assert found.best == pytest.approx(expected)
            assert found.top == pytest.approx(float(row.max()), abs=1e-5)
            assert 0 <= found.entropy <= math.log(height * width)


def test_a_field_that_looks_straight_ahead_warps_a_picture_to_itself(
    tiny: VGG, picture: Make
) -> None:
    image = picture(64, 96)
    explorer = Explorer(image, image, ["relu2_1"], encoder=tiny, size=96)
    rows, columns = (torch.arange(32) + 0.5) / 32, (torch.arange(48) + 0.5) / 48
    straight = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    field = replace(explorer.field("relu2_1"), best=straight, expected=straight.flip(2))
    torch.testing.assert_close(explorer.warp(field), image)
    # Looking at the mirrored place brings its cell, which is not mirrored itself.
    cells = image.unflatten(3, (48, 2)).flip(3).flatten(3)
    torch.testing.assert_close(explorer.warp(field, expected=True), cells)


def test_warps_have_the_contents_shape(tiny: VGG, picture: Make) -> None:
    explorer = Explorer(picture(64, 96), picture(80, 48, 1), ["relu3_1"], encoder=tiny, size=48)
    field = explorer.field("relu3_1")
    for expected in (False, True):
        warped = explorer.warp(field, expected=expected)
        assert warped.shape == (1, 3, 32, 48)
        assert 0 <= float(warped.min()) <= float(warped.max()) <= 1


@pytest.mark.parametrize("point", [(-1, 0), (0, -0.1), (96, 0), (0, 64), (math.nan, 0)])
def test_points_outside_are_refused(tiny: VGG, picture: Make, point: tuple[float, float]) -> None:
    explorer = Explorer(picture(64, 96), picture(64, 64), ["relu3_1"], encoder=tiny, size=96)
    with pytest.raises(InputError, match="x is from 0 to 95, y from 0 to 63"):
        explorer.maps([point])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"content": 3}, "an image is given as int"),
        ({"style": torch.zeros(1, 4, 32, 32)}, "a tensor is of shape"),
        ({"layers": 5}, "layers is 5"),
        ({"encoder": "slim"}, "encoder is 'slim'"),
        ({"size": "original"}, "size is 'original'"),
        ({"size": 12.5}, "size is 12.5"),
    ],
)
def test_wrong_types_are_refused(
    tiny: VGG, picture: Make, change: dict[str, object], message: str
) -> None:
    usual = {"content": picture(32, 32), "style": picture(32, 32), "encoder": tiny, "size": 32}
    with pytest.raises(InputError, match=message):
        Explorer(**{**usual, **change})  # type: ignore[arg-type]


def test_one_text_names_layers_and_points_are_two_numbers(tiny: VGG, picture: Make) -> None:
    explorer = Explorer(picture(32, 32), picture(32, 32), "conv3_1,relu4_1", encoder=tiny, size=32)
    assert explorer.layers == ("relu3_1", "relu4_1")
    for point in (5, (1,), "ab", (1, 2, 3), (None, 1)):
        with pytest.raises(InputError, match="two numbers"):
            explorer.maps([point])  # type: ignore[list-item]
    with pytest.raises(InputError, match="did you mean 'relu3_1'"):
        explorer.field("relu3_2")


def test_pictures_with_alpha_are_taken(tiny: VGG, picture: Make) -> None:
    alpha = torch.ones(1, 1, 64, 64)
    alpha[..., :32] = 0
    style = Picture(picture(64, 64, 1), alpha)
    explorer = Explorer(picture(64, 64), style, ["relu3_1"], encoder=tiny, size=64)
    assert all(found.best[0] >= 32 for (found,) in explorer.maps([(x, 30) for x in (3, 30, 60)]))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for seed, name in enumerate(("content", "style")):
        write(tmp_path / f"{name}.png", make_picture(64, 96, seed))
    return tmp_path / "content.png", tmp_path / "style.png"


def test_the_command_draws_and_prints(files: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["attention", *map(str, files), "--size", "64", "--encoder", "slim"]
    arguments += ["--point", "10,20", "--point", "90,60", "--layers", "relu3_1,relu4_1"]
    figure, warp = tmp_path / "fig.png", tmp_path / "warp.png"
    ran = CliRunner().invoke(cli.main, [*arguments, "-o", str(figure), "--warp", str(warp)])
    assert ran.exit_code == 0, ran.output
    assert ran.output.count("best match") == 4
    assert ran.output.count("nats") == 4
    assert min(read(figure).width, read(warp).width) > 300
    again = tmp_path / "again.png"
    CliRunner().invoke(cli.main, [*arguments, "-o", str(again)])
    assert again.read_bytes() == figure.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to show"),
        (["--point", "1,2"], "belong together"),
        (["-o", "f.png", "--point", "1"], "is not X,Y"),
        (["-o", "f.png", "--point", "200,5"], "outside the content"),
        (["-o", "f.bmp", "--point", "1,2"], "extension of a figure"),
        (["-o", "none/f.png", "--point", "1,2"], "does not exist"),
        (["-o", "f.png", "--point", "1,2", "--layers", "relu9_1"], "relu9_1"),
        (["-o", "f.png", "--point", "1,2", "--size", "4"], "16 to"),
    ],
)
def test_bad_input_is_one_line(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(
        cli.main, ["attention", *map(str, files), "--encoder", "slim", *options]
    )
    assert ran.exit_code == 2
    assert message in ran.output
    assert not (tmp_path / "f.png").exists()


def test_no_figure_over_an_input(files: tuple[Path, Path]) -> None:
    before = files[1].read_bytes()
    ran = CliRunner().invoke(cli.main, ["attention", *map(str, files), "--warp", str(files[1])])
    assert ran.exit_code == 2
    assert files[1].read_bytes() == before


def test_a_figure_needs_a_point(tiny: VGG, picture: Make) -> None:
    explorer = Explorer(picture(64, 64), picture(64, 64), ["relu3_1"], encoder=tiny, size=64)
    with pytest.raises(InputError, match="no point is named"):
        attention.figure(explorer, [])


def test_strays(tiny: VGG, picture: Make) -> None:
    content, style = picture(128, 128), picture(128, 128, 1)
    assert strays(content, content, style, tiny) == 0
    # Mirrored, places look like what belongs on the other side.
    assert strays(content.flip(3), content, style, tiny) > 0.1
    # With no place further away than the reach, there is nowhere to stray to.
    assert strays(content.flip(3), content, style, tiny, reach=16) == 0
