"""Metrics: published values, values by hand, and the direction in which they move."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from optistyle import metrics
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.metrics.chi_square import chi_square
from optistyle.metrics.distances import content_distance, gram_distance
from optistyle.metrics.self_similarity import PRESETS, descriptors, self_similarity
from optistyle.pictures import read

RC2021 = Path(__file__).parents[2] / "shared" / "images" / "rc2021"
#: (style, content) -> published local self-similarity of AdaAttN's output.
PUBLISHED = {
    (0, 0): 0.07637,
    (1, 5): 0.04538,
    (3, 19): 0.07123,
    (7, 42): 0.04791,
    (10, 30): 0.09632,
    (19, 43): 0.05545,
}
Picture = Callable[..., Tensor]


@pytest.mark.skipif(not RC2021.is_dir(), reason="the rc2021 pictures are not here")
@pytest.mark.parametrize(("style", "content"), PUBLISHED)
def test_self_similarity_equals_the_published_values(style: int, content: int) -> None:
    output = read(RC2021 / "adaattn_reference" / f"style{style}_content{content}.png").pixels
    image = read(RC2021 / "content" / f"content{content}.png").pixels
    assert round(self_similarity(output, image), 5) == PUBLISHED[style, content]


def descriptor_by_hand(pixels: np.ndarray, y: int, x: int) -> np.ndarray:
    """Report 000's, of 0 to 255 (H, W, 3), about one point: loops over the formula."""

    def patch(y: int, x: int) -> np.ndarray:
        return pixels[y - 2 : y + 3, x - 2 : x + 3]

    def ssd(dy: int, dx: int) -> float:
        return float(((patch(y, x) - patch(y + dy, x + dx)) ** 2).sum())

    noise = max(2700.0, ssd(0, 1), ssd(0, -1), ssd(1, 0), ssd(-1, 0))
    found = np.zeros(8)
    for dy in range(-10, 11):
        for dx in range(-10, 11):
            distance = math.hypot(dy, dx)
            if 0 < distance <= 10:
                ring = 0 if distance <= math.exp(math.log(11) / 2) - 1 else 1
                angle = math.degrees(math.atan2(dy, dx)) % 360 or 360.0
                index = 4 * ring + math.ceil(angle / 90) - 1
                found[index] = max(found[index], math.exp(-ssd(dy, dx) / noise))
    return found / found.max()


def test_self_similarity_equals_loops_over_the_formula(
    picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "rc2021", replace(PRESETS["rc2021"], size=40))
    output, content = picture(40, 40), picture(40, 40, seed=1)
    ours, theirs = (255 * x[0].permute(1, 2, 0).double().numpy() for x in (output, content))
    squares = [
        (descriptor_by_hand(ours, y, x) - descriptor_by_hand(theirs, y, x)) ** 2
        for y in range(12, 29, 5)
        for x in range(12, 29, 5)
    ]
    expected = float(np.mean(squares))
    assert expected > 0.01
    assert self_similarity(output, content) == pytest.approx(expected, abs=1e-9)


def test_descriptors_of_a_photograph_equal_loops_over_the_formula() -> None:
    data = pytest.importorskip("skimage.data", reason="its photograph is scikit-image's")
    pixels = data.astronaut()
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    found = descriptors(image, PRESETS["rc2021"])
    for row, column in ((0, 0), (3, 40), (25, 47), (60, 12), (97, 97), (50, 97)):
        expected = descriptor_by_hand(pixels.astype(float), 12 + 5 * row, 12 + 5 * column)
        assert found[:, row, column].tolist() == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("preset", ["default", "rc2021"])
def test_chi_square_equals_loops_over_the_formula(preset: str) -> None:
    source = np.random.default_rng(0)
    output, style = (source.integers(low, 256, (12, 9, 3)) for low in (0, 180))
    output[:3], style[:2] = 255, 254
    total = 0.0
    for channel in range(3):
        shares = []
        for pixels in (output, style):
            values = [int(v) for v in pixels[..., channel].flatten()]
            if preset == "rc2021":  # numpy.histogram(values, arange(0, 255))
                values = [min(v, 253) for v in values if v <= 254]
            shares.append([values.count(v) / len(values) for v in range(256)])
        for a, b in zip(*shares, strict=True):
            total += (a - b) ** 2 / (a + b + 1e-20) / 2
    ours, theirs = (
        torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255 for x in (output, style)
    )
    assert chi_square(ours, theirs, preset) == pytest.approx(total / 3, abs=1e-9)


@pytest.mark.parametrize("preset", PRESETS)
def test_descriptors_have_their_best_at_one(picture: Picture, preset: str) -> None:
    settings = replace(PRESETS[preset], size=192)
    found = descriptors(picture(128, 128), settings)
    assert len(found) == settings.rings * settings.sectors
    assert found.amax(0).eq(1).all()
    assert found.ge(0).all()


def test_rc2021_has_98_points() -> None:
    assert descriptors(torch.zeros(1, 3, 8, 8), PRESETS["rc2021"]).shape == (8, 98, 98)


def test_self_similarity_of_stripes_by_hand() -> None:
    # Vertical stripes of period 512 px / 64 = 8: along a stripe nothing changes, so that the bins
    # holding straight up and straight down are at 1 in both rings.
    stripes = (torch.arange(512) // 4 % 2).float().expand(1, 3, 512, 512)
    found = descriptors(stripes, PRESETS["rc2021"])
    # Sectors are (0°, 90°], (90°, 180°], (180°, 270°] and (270°, 360°], y down.
    assert found[[0, 2, 4, 6]].eq(1).all()


def test_self_similarity_moves_the_right_way(picture: Picture) -> None:
    image = picture(256, 256)
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    values = [self_similarity(image.lerp(noise, share), image) for share in (0.0, 0.2, 0.6)]
    assert values[0] == 0
    assert values[0] < values[1] < values[2]
    assert self_similarity(image[:, [2, 0, 1]], image) < 1e-12  # blind to colour


def test_contents_are_kept_by_their_pixels(
    picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "rc2021", replace(PRESETS["rc2021"], size=65))
    monkeypatch.setitem(PRESETS, "chatfield", replace(PRESETS["chatfield"], size=192))
    content, other, output = (picture(48, 64, seed) for seed in range(3))
    found = self_similarity(output, content)
    assert self_similarity(output, content.clone()) == found
    assert self_similarity(output, other) != found
    assert self_similarity(output, content, "chatfield") != found
    changed = content.clone()
    self_similarity(output, changed)
    changed.copy_(other)  # the same tensor, another picture
    assert self_similarity(output, changed) == self_similarity(output, other)


def test_self_similarity_is_fast() -> None:
    image = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    started = time.process_time()  # of this process alone: others may be busy
    self_similarity(image, image)
    assert time.process_time() - started < 5  # about half a second


def test_distances_are_zero_at_home_and_by_hand(tiny: VGG, picture: Picture) -> None:
    image, other = picture(64, 64), picture(64, 48, seed=1)
    assert content_distance(image, image, tiny) == 0
    assert gram_distance(image, image, tiny) == 0
    a, b = (tiny(x, ("relu2_1",))["relu2_1"][0].flatten(1) for x in (image, other))
    first, second = a @ a.T / a.shape[1], b @ b.T / b.shape[1]
    expected = float((first - second).square().sum() / second.square().sum())
    assert gram_distance(image, other, tiny, ("relu2_1",)) == pytest.approx(expected, rel=1e-4)
    black = torch.zeros_like(image)
    f, c = (tiny(x, ("relu4_2",))["relu4_2"] for x in (black, image))
    expected = float((f - c).square().sum() / c.square().sum())
    assert content_distance(black, image, tiny) == pytest.approx(expected, rel=1e-5)


def test_measure_averages_styles_by_their_shares(tiny: VGG, picture: Picture) -> None:
    image, one, two = picture(64, 64), picture(64, 64, seed=1), picture(64, 64, seed=2)
    found = metrics.measure(["gram_distance"], image, image, [(one, 0.25), (two, 0.75)], tiny)
    apart = [gram_distance(image, style, tiny) for style in (one, two)]
    assert found["gram_distance"] == pytest.approx(0.25 * apart[0] + 0.75 * apart[1])


def test_metrics_of_content_do_not_look_at_the_style_and_are_measured_once(
    tiny: VGG, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, content, one, two = (picture(64, 64, seed) for seed in range(4))
    names = ("self_similarity", "content_distance", "gram_distance", "strays")
    counts = dict.fromkeys(names, 0)

    def counting(name: str) -> metrics.Metric:
        metric = metrics.METRICS[name]

        def counted(judged: metrics.Judged) -> float:
            counts[name] += 1
            return metric.measure(judged)

        return replace(metric, measure=counted)

    for name in names:
        monkeypatch.setitem(metrics.METRICS, name, counting(name))
    alone, other = (
        metrics.measure(names, image, content, [(style, 1.0)], tiny) for style in (one, two)
    )
    same = {name for name in names if alone[name] == other[name]}
    of_content = {name for name in names if metrics.METRICS[name].of == "content"}
    assert same == of_content
    counts.update(dict.fromkeys(counts, 0))
    both = metrics.measure(list(counts), image, content, [(one, 0.5), (two, 0.5)], tiny)
    assert counts == {name: 1 if name in of_content else 2 for name in counts}
    assert all(both[name] == alone[name] for name in of_content)


@pytest.mark.parametrize("metric", [chi_square, self_similarity])
def test_an_unknown_preset_is_named_with_the_nearest(
    metric: Callable[..., float], picture: Picture
) -> None:
    with pytest.raises(InputError, match="did you mean 'rc2021'"):
        metric(picture(32, 32), picture(32, 32), preset="rc2022")


def test_one_text_is_no_list_of_metrics() -> None:
    with pytest.raises(InputError, match=r"give a list of names, as in \['ssim'\]"):
        metrics.check("ssim")


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="self_similarity"):
        metrics.check(["self_similarty"])
