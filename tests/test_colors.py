"""Original colours: statistics matched, luma kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optistyle.pictures.colors import keep_luminance, match_covariance, match_histogram

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def picture(seed: int, height: int, width: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Noise with correlated channels, (1, 3, H, W) in [low, high]."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.rand(3, 3, generator=generator) + torch.eye(3)
    pixels = torch.einsum(
        "ij,bjhw->bihw", mix, torch.rand(1, 3, height, width, generator=generator)
    )
    return low + (high - low) * pixels / pixels.max()


def moments(image: Tensor) -> tuple[Tensor, Tensor]:
    pixels = image.double().flatten(2)[0]
    return pixels.mean(1), torch.cov(pixels, correction=0)


def luma(image: Tensor) -> Tensor:
    return (image * LUMA).sum(1)


def test_luma_of_the_result_and_hue_of_the_content():
    result, content = picture(0, 31, 45), picture(1, 31, 45)
    kept = keep_luminance(result, content)
    assert kept.min() >= 0
    assert kept.max() <= 1
    torch.testing.assert_close(luma(kept), luma(result), atol=1e-6, rtol=0)
    chroma, wanted = kept - luma(kept)[:, None], content - luma(content)[:, None]
    assert (torch.linalg.cross(chroma, wanted, dim=1).abs() < 1e-6).all()  # same direction
    assert ((chroma * wanted).sum(1) >= -1e-6).all()  # same way


def test_chroma_is_exact_inside_the_gamut():
    result, content = picture(0, 20, 20, 0.45, 0.55), picture(1, 20, 20, 0.4, 0.6)
    kept = keep_luminance(result, content)
    torch.testing.assert_close(kept - luma(kept)[:, None], content - luma(content)[:, None])


def test_keep_luminance_at_the_extremes():
    content = picture(2, 16, 16)
    faint = 0.5 + 1e-7 * content  # chroma of the size of rounding errors
    for grey in (0.0, 1.0):
        flat = torch.full_like(content, grey)
        torch.testing.assert_close(keep_luminance(flat, content), flat)
        torch.testing.assert_close(keep_luminance(flat, faint), flat)
    torch.testing.assert_close(keep_luminance(content, content), content)
    grey_content = content[:, :1].expand(1, 3, 16, 16)
    kept = keep_luminance(content, grey_content)
    torch.testing.assert_close(kept, luma(content)[:, None].expand(1, 3, 16, 16))


def test_covariance_matches():
    image, reference = picture(3, 40, 50, 0.1, 0.9), picture(4, 33, 21, 0.42, 0.6)
    matched = match_covariance(image, reference)
    for found, wanted in zip(moments(matched), moments(reference), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(moments(matched), moments(reference), atol=1e-6, rtol=0)


def test_covariance_is_the_image_analogies_map():
    """A = C_ref^(1/2) C_image^(-1/2), with roots found another way (Newton's iteration)."""
    image, reference = picture(3, 40, 50, 0.1, 0.9), picture(4, 33, 21, 0.42, 0.6)

    def root(matrix: Tensor) -> Tensor:
        y, z = matrix / matrix.trace(), torch.eye(3, dtype=matrix.dtype)
        for _ in range(60):
            step = (3 * torch.eye(3, dtype=matrix.dtype) - z @ y) / 2
            y, z = y @ step, step @ z
        return y * matrix.trace().sqrt()

    (mean, cov), (wanted_mean, wanted_cov) = moments(image), moments(reference)
    pixels = image.double().flatten(2)[0]
    wanted = root(wanted_cov) @ root(cov).inverse() @ (pixels - mean[:, None])
    wanted = (wanted + wanted_mean[:, None]).reshape(image.shape).float()
    torch.testing.assert_close(match_covariance(image, reference), wanted, atol=1e-5, rtol=0)


def test_covariance_of_grey_and_flat_pictures():
    colour = picture(5, 30, 30, 0.3, 0.7)
    grey = picture(6, 24, 36)[:, :1].expand(1, 3, 24, 36)
    noisy = (grey + 1e-4 * torch.randn(grey.shape, generator=torch.manual_seed(0))).clamp(0, 1)
    for image in (grey, noisy):
        matched = match_covariance(image, colour)
        assert matched.isfinite().all()
        torch.testing.assert_close(moments(matched)[0], moments(colour)[0], atol=1e-3, rtol=0)
    drift = (match_covariance(noisy, colour) - match_covariance(grey, colour)).abs().max()
    assert drift < 0.1  # noise of 1e-4 is not blown up to the reference's colours
    to_grey = match_covariance(colour, grey)
    torch.testing.assert_close(to_grey.amax(1), to_grey.amin(1), atol=1e-5, rtol=0)
    flat = torch.full((1, 3, 16, 16), 0.25)
    mean = moments(colour)[0].float().view(1, 3, 1, 1).expand_as(flat)
    torch.testing.assert_close(match_covariance(flat, colour), mean)
    torch.testing.assert_close(match_covariance(colour, flat), torch.full_like(colour, 0.25))


def test_histogram_is_the_references_quantiles():
    image, reference = picture(7, 30, 40), picture(8, 40, 30)
    image = torch.rand(image.shape, generator=torch.manual_seed(0), dtype=torch.float64)
    matched = match_histogram(image, reference)
    wanted = reference.double().flatten(2).sort().values
    torch.testing.assert_close(matched.flatten(2).sort().values, wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("size", [(15, 20), (61, 83), (1, 1)])
def test_histogram_of_another_size(size):
    image, reference = picture(7, 30, 40), picture(8, *size)
    matched = match_histogram(image, reference)
    levels = torch.linspace(0.05, 0.95, 19)
    for channel in range(3):
        before, after = image[0, channel].flatten(), matched[0, channel].flatten()
        wanted = reference[0, channel].flatten()
        torch.testing.assert_close(
            after.quantile(levels), wanted.quantile(levels), atol=0.02, rtol=0
        )
        torch.testing.assert_close(after.mean(), wanted.mean(), atol=1e-6, rtol=0)
        assert (after[before.argsort()].diff() >= 0).all()  # monotone


def test_histogram_keeps_equal_values_equal():
    image = (picture(9, 32, 32) * 4).round() / 4
    matched = match_histogram(image, picture(8, 20, 30))
    for channel in range(3):
        for value in image[0, channel].unique():
            assert matched[0, channel][image[0, channel] == value].unique().numel() == 1
    flat = match_histogram(torch.full((1, 3, 16, 16), 0.5), picture(8, 20, 30))
    mean = picture(8, 20, 30).mean((2, 3), keepdim=True)
    torch.testing.assert_close(flat, mean.expand_as(flat))


@pytest.mark.parametrize("match", [match_histogram, match_covariance])
def test_identity_and_determinism(match):
    image = (picture(10, 33, 47) * 255).round() / 255  # with ties
    for own in (image, image[:, :1].expand(1, 3, 33, 47)):
        torch.testing.assert_close(match(own, own), own, atol=1e-6, rtol=0)
    reference = picture(11, 20, 20)
    matched = match(image, reference)
    assert matched.dtype == torch.float32
    assert matched.shape == image.shape
    assert matched.min() >= 0
    assert matched.max() <= 1
    assert torch.equal(matched, match(image, reference))


@pytest.mark.parametrize("function", [keep_luminance, match_histogram, match_covariance])
def test_other_shapes_are_refused(function):
    good = torch.rand(1, 3, 8, 8)
    for bad in (torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.rand(1, 3, 0, 8)):
        with pytest.raises(ValueError, match="expected a picture"):
            function(good, bad)
    with pytest.raises(ValueError, match="sizes differ"):
        keep_luminance(good, torch.rand(1, 3, 8, 9))
