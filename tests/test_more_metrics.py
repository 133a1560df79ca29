"""Metrics of colour, structure and distributions: published values, values by hand, identities."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.metrics import external
from optistyle.metrics.cams import cams
from optistyle.metrics.chi_square import chi_square
from optistyle.metrics.color_transport import color_wasserstein
from optistyle.metrics.external import dists, lpips
from optistyle.metrics.gaussians import bures_distance, single_image_frechet
from optistyle.metrics.structural import LEAST_SIDE, ms_ssim, ssim
from optistyle.metrics.uv_histogram import _histogram, uv_hellinger
from optistyle.pictures import read
from optistyle.statistics import moments

cams_module = importlib.import_module("optistyle.metrics.cams")

RC2021 = Path(__file__).parents[2] / "shared" / "images" / "rc2021"
Picture = Callable[..., Tensor]
Metric = Callable[[Tensor, Tensor], float]

COLOUR: dict[str, Metric] = {
    "chi_square": chi_square,
    "color_wasserstein": color_wasserstein,
    "uv_hellinger": uv_hellinger,
}
STRUCTURE: dict[str, Metric] = {"ssim": ssim, "ms_ssim": ms_ssim}
NEEDS = {"color_wasserstein": "ot", "ms_ssim": "torchmetrics"}
FEATURES = {"bures_distance": bures_distance, "single_image_frechet": single_image_frechet}


@pytest.fixture
def small_cams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cams_module, "SIZE", 64)


def shuffled(image: Tensor) -> Tensor:
    """The same pixels elsewhere."""
    order = torch.randperm(image[0, 0].numel(), generator=torch.Generator().manual_seed(7))
    return image.flatten(2)[..., order].view_as(image)


def blurred(image: Tensor, side: int) -> Tensor:
    edge = (side // 2,) * 4
    return F.avg_pool2d(F.pad(image, edge, mode="reflect"), side, stride=1)


def flat(color: tuple[float, float, float], height: int = 16, width: int = 16) -> Tensor:
    return torch.tensor(color).view(1, 3, 1, 1).expand(1, 3, height, width)


# --- colour ---


@pytest.mark.skipif(not RC2021.is_dir(), reason="the rc2021 pictures are not here")
@pytest.mark.parametrize(
    ("style", "content", "published"), [(7, 42, 0.121041184), (19, 43, 0.080828692)]
)
def test_chi_square_equals_the_published_values(style: int, content: int, published: float) -> None:
    output = read(RC2021 / "adaattn_reference" / f"style{style}_content{content}.png").pixels
    image = read(RC2021 / "style" / f"style{style}.png").pixels
    assert chi_square(output, image, "rc2021") == pytest.approx(published, abs=5e-10)


def test_chi_square_by_hand() -> None:
    # Red: shares (1/2, 1/2) against (1/4, 3/4) of two values; green the same; blue disjoint.
    a, b = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    a[0, 0, 0], b[0, 0, 0], b[0, 0, 1, 0] = 1, 1, 1
    b[0, 2] = 0.5
    red = ((1 / 4) ** 2 / (3 / 4) + (1 / 4) ** 2 / (5 / 4)) / 2
    assert chi_square(a, b) == pytest.approx((red + 0 + 1) / 3)


def test_rc2021_bins_are_those_of_numpy() -> None:
    values = torch.arange(256).repeat(3, 1).view(1, 3, 16, 16)
    a, b = values / 255, (values**2 / 255).round() / 255
    expected = 0.0
    for channel in range(3):
        x, y = (
            np.histogram(
                (255 * image[0, channel]).round().numpy(), np.arange(0, 255), density=True
            )[0]
            for image in (a, b)
        )
        expected += float((np.square(x - y) / (x + y + 1e-20)).sum() / 6)
    assert chi_square(a, b, "rc2021") == pytest.approx(expected, rel=1e-6)
    white = torch.ones(1, 3, 4, 4)  # all 255: nothing is counted
    assert chi_square(white, white, "rc2021") == 0


def test_an_unknown_preset_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="rc2021"):
        chi_square(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), "rc2012")


def test_color_wasserstein_by_hand() -> None:
    pytest.importorskip("ot")
    black, white = flat((0, 0, 0), 16, 8), flat((1, 1, 1))
    assert color_wasserstein(black, white) == pytest.approx(1, abs=0.002)
    # A shift by d moves every projection by θᵀd, whose square is |d|² / 3 in the mean.
    assert color_wasserstein(black, flat((0.3, 0, 0.4))) == pytest.approx(
        0.5 / math.sqrt(3), rel=0.005
    )


def test_uv_histogram_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optistyle.metrics.uv_histogram.CHUNK", 7)
    found = _histogram(flat((0.5, 0.5, 0.5), 4, 4))
    assert found.sum() == pytest.approx(1)
    # Grey has u = v = 0, between the two middle bins.
    assert found[:, 31:33, 31:33].flatten(1).amin() == pytest.approx(float(found.max()), rel=1e-4)
    # Red twice green and blue: for red u = v = log 2, 7.28 bins up; for green log 1/2 and 0.
    red = _histogram(flat((0.8, 0.4, 0.4), 4, 4))
    centre = round(31.5 + math.log(2) * 63 / 6)
    assert red[0].argmax() == centre * 64 + centre
    assert int(red[1].argmax()) // 64 == 63 - centre


def test_uv_hellinger_does_not_see_brightness(picture: Picture) -> None:
    image = 0.2 + 0.8 * picture(32, 32)
    assert uv_hellinger(image / 2, image) < 1e-2
    assert uv_hellinger(flat((1, 0.2, 0.2)), flat((0.2, 0.2, 1))) > 0.9


@pytest.mark.parametrize("name", COLOUR)
def test_distances_of_colour_keep_their_promises(name: str, picture: Picture) -> None:
    pytest.importorskip(NEEDS.get(name, "torch"))
    metric = COLOUR[name]
    image, other = picture(64, 64), picture(48, 80, seed=1)
    assert metric(image, image) == 0
    assert metric(shuffled(image), image) < 1e-5  # blind to where
    assert 0 < metric(image, other) <= 1
    assert metric(image, other) == pytest.approx(metric(other, image), rel=1e-6)
    assert metric(image, other) == metric(image, other)
    # The nearer the colours, the lower.
    goal = image[:, [2, 0, 1]] * torch.tensor([1.0, 0.5, 0.2]).view(1, 3, 1, 1)
    values = [metric(image.lerp(goal, share), goal) for share in (0.0, 0.9, 1.0)]
    assert values[0] > values[1] > values[2] == 0


def test_color_wasserstein_draws_from_no_global_generator(picture: Picture) -> None:
    pytest.importorskip("ot")
    large = picture(160, 160)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert color_wasserstein(shuffled(large), large) < 0.01
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002


# --- structure ---


@pytest.mark.parametrize("name", STRUCTURE)
def test_structural_similarity_moves_the_right_way(name: str, picture: Picture) -> None:
    pytest.importorskip("torchmetrics")
    metric = STRUCTURE[name]
    image = picture(176, 184)
    assert metric(image, image) == pytest.approx(1, abs=1e-9)
    values = [metric(blurred(image, side), image) for side in (3, 9, 25)]
    assert 1 > values[0] > values[1] > values[2]
    assert metric(shuffled(image), image) < values[1]
    other = picture(176, 184, seed=1)
    assert metric(image, other) == pytest.approx(metric(other, image))
    # Colour at equal luma does not count.
    luma = (image * torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(1, keepdim=True)
    assert metric(luma.expand(1, 3, -1, -1), image) == pytest.approx(1, abs=1e-6)
    assert 0.2 < metric(image, image[..., :-8, :]) < 1  # the content is resized


def test_ssim_of_flat_pictures_by_hand() -> None:
    a, b = flat((0.2, 0.2, 0.2)), flat((0.6, 0.6, 0.6))
    expected = (2 * 0.2 * 0.6 + 0.01**2) / (0.2**2 + 0.6**2 + 0.01**2)
    assert ssim(a, b) == pytest.approx(expected, rel=1e-5)


def test_ssim_equals_torchmetrics(picture: Picture) -> None:
    reference = pytest.importorskip("torchmetrics.functional.image")
    luma = [picture(48, 56, seed).mean(1, keepdim=True).double() for seed in (0, 1)]
    compare = reference.structural_similarity_index_measure
    _, each = compare(*luma, data_range=1.0, return_full_image=True)
    a, b = (x.expand(1, 3, -1, -1) for x in luma)
    assert ssim(a, b) == pytest.approx(float(each[..., 5:-5, 5:-5].mean()), abs=1e-12)


def test_ssim_equals_scikit_image(picture: Picture) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    luma = [picture(48, 56, seed).mean(1)[0].double().numpy() for seed in (0, 1)]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = metrics.structural_similarity(*luma, data_range=1.0, **settings)
    a, b = (torch.from_numpy(x).expand(1, 3, -1, -1) for x in luma)
    assert ssim(a, b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("metric", "least"), [(ssim, 11), (ms_ssim, LEAST_SIDE)])
def test_pictures_too_small_are_refused(metric: Metric, least: int) -> None:
    pytest.importorskip("torchmetrics")
    image = torch.full((1, 3, least, least + 2), 0.5)
    assert metric(image, image) == pytest.approx(1)
    with pytest.raises(InputError, match=f"at least {least} px"):
        metric(image[..., : least - 1, :], image)


@pytest.mark.parametrize("name", NEEDS)
def test_the_missing_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ot.sliced", "torchmetrics", "torchmetrics.functional"):
        monkeypatch.setitem(sys.modules, module, None)
    image = torch.full((1, 3, LEAST_SIDE, LEAST_SIDE), 0.5)
    with pytest.raises(InputError, match=r'pip install "optistyle\[metrics\]"'):
        (COLOUR | STRUCTURE)[name](image, image)


# --- features ---


@pytest.mark.parametrize("name", FEATURES)
def test_distances_of_gaussians_keep_their_promises(name: str, tiny: VGG, picture: Picture) -> None:
    metric = FEATURES[name]
    image, other = picture(64, 64), picture(48, 80, seed=1)
    assert metric(image, image, tiny) < 1e-6
    assert metric(image, other, tiny) == metric(image, other, tiny) > 0
    values = [metric(image.lerp(other[..., :48, :48].mean(), x), image, tiny) for x in (0.2, 0.8)]
    assert 0 < values[0] < values[1]
    assert metric(image.roll(32, 3), image, tiny) < metric(shuffled(image), image, tiny)
    # Fewer positions than channels, and a picture without any variance.
    grey = torch.full_like(image, 0.5)
    assert math.isfinite(metric(grey, image[..., :16, :16], tiny))


def test_bures_distance_by_hand(tiny: VGG, picture: Picture) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    image, other = picture(64, 64), picture(48, 80, seed=1)
    a, b = (
        moments(x, torch.tensor(1 / x[0, 0].numel(), dtype=torch.float64))
        for x in (tiny(x, ("relu2_2",))["relu2_2"].double() for x in (image, other))
    )
    c, d = a.covariance.numpy(), b.covariance.numpy()
    overlap = linalg.sqrtm(c @ d).real.trace()
    expected = float((a.first - b.first).square().sum()) + c.trace() + d.trace() - 2 * overlap
    assert single_image_frechet(image, other, tiny) == pytest.approx(expected, rel=1e-4)
    relative = bures_distance(image, other, tiny, ("relu2_2",))
    assert relative == pytest.approx(expected / float(b.second.trace()), rel=1e-4)


@pytest.mark.usefixtures("small_cams")
def test_cams_keeps_its_promises(tiny: VGG, picture: Picture) -> None:
    image, other = picture(64, 64), picture(48, 80, seed=1)
    assert cams(image, image, tiny) == 0
    assert cams(image, other, tiny) == cams(image, other, tiny) > 0
    assert cams(image, other, tiny) == pytest.approx(cams(other, image, tiny), rel=1e-4)
    assert cams(image.flip(3), image, tiny) < cams(other, image, tiny)
    assert math.isfinite(cams(torch.full_like(image, 0.5), torch.zeros_like(image), tiny))


@pytest.mark.usefixtures("small_cams")
def test_cams_sees_textures_change_colours(tiny: VGG) -> None:
    # Fine stripes on red and plain blue, against plain red and fine stripes on blue.
    stripes = (torch.arange(64) // 2 % 2).float().expand(64, 64)
    red, blue = (torch.zeros(1, 3, 64, 64) for _ in range(2))
    red[0, 0, :, :32] = (0.4 + 0.6 * stripes)[:, :32]
    red[0, 2, :, 32:] = 0.7
    blue[0, 0, :, :32] = 0.7
    blue[0, 2, :, 32:] = (0.4 + 0.6 * stripes)[:, 32:]
    assert cams(red, blue, tiny) > 10 * cams(red.roll(2, 2), red, tiny)


def test_the_palette_holds_the_colours() -> None:
    image = torch.zeros(1, 3, 60, 60)  # black and white, which keep others away, red and blue
    image[..., :15], image[:, 0, :, 15:40], image[:, 2, :, 40:] = 1, 0.8, 0.6
    image[..., 55:] = 0
    found = cams_module._palette(image)
    for color in ((0.8, 0, 0), (0, 0, 0.6)):
        assert (found - torch.tensor(color)).abs().sum(1).min() < 1e-6


def test_lab_of_known_colours() -> None:
    colors = np.array([(1, 1, 1), (0, 0, 0), (1, 0, 0), (0, 0, 1)], dtype=float)
    expected = [(100, 0, 0), (0, 0, 0), (53.24, 80.09, 67.20), (32.30, 79.19, -107.86)]
    assert cams_module._lab(colors) == pytest.approx(np.array(expected), abs=0.05)


# --- with the user's weights ---


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[str], Path]:
    """A file of random weights, as torchvision saves them; smaller than real ones by the head."""

    def make(net: str) -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            with torch.device("meta"):
                shapes = getattr(torchvision.models, net)(weights=None).features.state_dict()
            tensors = {
                f"features.{key}": torch.randn(x.shape) * (2 / max(1, x[0].numel())) ** 0.5
                if x.ndim > 1
                else torch.zeros(x.shape)
                for key, x in shapes.items()
            }
        torch.save(tensors, path := tmp_path / f"{net}.pth")
        return path

    return make


@pytest.mark.parametrize("net", ["alexnet", "vgg16"])
def test_lpips_equals_torchmetrics(
    net: str, weights: Callable[[str], Path], picture: Picture
) -> None:
    reference = pytest.importorskip("torchmetrics.functional.image.lpips")
    file = weights(net)
    with torch.random.fork_rng():
        model = reference._LPIPS(net=net.replace("net", "").replace("16", ""), pnet_rand=True)
    tensors = torch.load(file)
    for name in model.net.state_dict():  # slice1.0.weight: torchvision's features.0.weight
        model.net.get_parameter(name).data = tensors["features" + name[name.index(".") :]]
    image, other = picture(48, 56), picture(48, 56, seed=1)
    expected = float(model(image, other, normalize=True))
    assert lpips(image, other, net=net, file=file) == pytest.approx(expected, rel=1e-4)
    assert lpips(image, image, net=net, file=file) == 0
    assert lpips(blurred(image, 3), image, net=net, file=file) > 0


def test_dists_equals_torchmetrics(
    weights: Callable[[str], Path], picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = pytest.importorskip("torchmetrics.functional.image.dists")
    file = weights("vgg16")
    with torch.device("meta"):
        features = torchvision.models.vgg16(weights=None).features
    tensors = {key[9:]: value for key, value in torch.load(file).items()}
    features.load_state_dict(tensors, assign=True)

    class Loaded:
        def __init__(self, **_: object) -> None:
            self.features = features

    monkeypatch.setattr(reference, "vgg16", Loaded)
    image, other = picture(48, 56), picture(48, 56, seed=1)
    with torch.random.fork_rng():
        expected = float(
            reference.deep_image_structure_and_texture_similarity(image, other).detach()
        )
    assert dists(image, other, file=file) == pytest.approx(expected, abs=1e-4)
    assert dists(image, image, file=file) == pytest.approx(0, abs=1e-5)


def test_weights_that_are_not_there_are_explained(
    weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"download https://.*alexnet.*\.pth and put it into"):
        lpips(image, image)
    with pytest.raises(InputError, match="give its path"):
        dists(image, image, file=tmp_path / "none.pth")
    with pytest.raises(InputError, match="did you mean 'vgg16'"):
        lpips(image, image, net="vgg19")
    with pytest.raises(InputError, match="at least 31 px"):
        lpips(image[..., :20, :], image)
    with pytest.raises(InputError, match="not torchvision's weights of vgg16"):
        dists(image, image, file=weights("alexnet"))
    external._load.cache_clear()


def test_no_metric_asks_for_gradients(tiny: VGG, picture: Picture) -> None:
    image = picture(32, 32).requires_grad_()
    other = picture(32, 32, seed=1)
    found = [
        chi_square(image, other),
        uv_hellinger(image, other),
        bures_distance(image, other, tiny),
    ]
    assert all(type(value) is float for value in found)
