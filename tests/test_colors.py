"""Original colours: statistics matched, lightness kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optistyle.pictures import Picture
from optistyle.pictures.colors import (
    MOST_GAIN,
    from_oklab,
    is_grey,
    keep_luminance,
    match_covariance,
    match_histogram,
    recolour,
    to_grey,
    to_oklab,
)

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def picture(seed: int, height: int, width: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Noise with correlated channels, (1, 3, H, W) in [low, high]."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.rand(3, 3, generator=generator) + torch.eye(3)
    pixels = torch.einsum(
        "ij,bjhw->bihw", mix, torch.rand(1, 3, height, width, generator=generator)
    )
    return low + (high - low) * pixels / pixels.max()


def muted(seed: int, height: int, width: int, chroma: float, tilt: float = 0.0) -> Tensor:
    """Middle greys with colours inside sRGB, of that standard deviation; all float64."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(3, height * width, generator=generator, dtype=torch.float64) - 0.5
    lightness, a, b = noise * 12**0.5
    colours = torch.stack([0.6 * a + 0.8 * tilt * lightness + 0.2 * b, b - 0.3 * a])
    lab = torch.cat([0.6 + 0.05 * lightness[None], chroma * colours + 0.01])
    return from_oklab(lab).reshape(1, 3, height, width)


def lab_of(image: Tensor) -> Tensor:
    return to_oklab(image.double().flatten(2)[0])


def colour_moments(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance of a and b, and their covariance with standardised lightness."""
    lightness, colours = lab_of(image)[0], lab_of(image)[1:]
    z = (lightness - lightness.mean()) / lightness.std(correction=0)
    return colours.mean(1), torch.cov(colours, correction=0), (colours * z).mean(1)


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


def test_oklab_is_ottossons():
    """The colours that the article lists, and primaries as CSS Color 4 gives them."""
    colours = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]).T.double()
    expected = torch.tensor(
        [
            [1.0, 0, 0],
            [0.62796, 0.22486, 0.12585],
            [0.86644, -0.23389, 0.17950],
            [0.45201, -0.03246, -0.31153],
            [0, 0, 0],
        ]
    ).T.double()
    torch.testing.assert_close(to_oklab(colours), expected, atol=1e-4, rtol=0)
    image = picture(0, 20, 30).double().flatten(2)[0]
    torch.testing.assert_close(from_oklab(to_oklab(image)), image, atol=1e-9, rtol=0)


@pytest.mark.parametrize("match", [match_histogram, match_covariance])
def test_lightness_is_kept_and_colours_match(match):
    image, reference = muted(0, 40, 50, 0.02), muted(1, 50, 40, 0.03, tilt=1.0)
    matched = match(image, reference)
    torch.testing.assert_close(lab_of(matched)[0], lab_of(image)[0], atol=1e-9, rtol=0)
    tolerance = 1e-9 if match is match_covariance else 2e-3
    for found, wanted in zip(colour_moments(matched), colour_moments(reference), strict=True):
        torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0)


def test_histograms_of_both_axes_are_the_references():
    image, reference = muted(0, 40, 50, 0.02), muted(1, 50, 40, 0.03, tilt=1.0)
    found = lab_of(match_histogram(image, reference))[1:].sort(1).values
    torch.testing.assert_close(found, lab_of(reference)[1:].sort(1).values, atol=1e-8, rtol=0)


def test_histogram_brings_no_hue_that_the_reference_lacks():
    """Two hues, as in a picture of orange and blue, whose channels are matched by themselves."""
    orange, blue = torch.tensor([[0.8, 0.5, 0.3], [0.3, 0.5, 0.8]]).view(2, 3, 1, 1)
    reference = torch.cat([orange.expand(3, 20, 30), blue.expand(3, 20, 20)], 2)[None]
    found, wanted = lab_of(match_histogram(muted(2, 40, 25, 0.02), reference)), lab_of(reference)
    distances = (found[1:, :, None] - wanted[1:, None, [0, -1]]).square().sum(0).sqrt()
    spread = (wanted[1:, 0] - wanted[1:, -1]).square().sum().sqrt()
    assert (distances.amin(1) < 0.1 * spread).double().mean() > 0.9


def test_stretching_is_bounded():
    """Of the colour that lightness does not explain: its covariance less that of B z."""
    image, reference = muted(0, 40, 50, 0.001), muted(1, 40, 50, 0.03)

    def unexplained(picture: Tensor) -> Tensor:
        _, covariance, slope = colour_moments(picture)
        return covariance - torch.outer(slope, slope)

    before, after = unexplained(image), unexplained(match_covariance(image, reference))
    torch.testing.assert_close(after, MOST_GAIN**2 * before, atol=1e-10, rtol=1e-6)


def test_vivid_colours_lose_chroma_and_keep_lightness_and_hue():
    dark = muted(0, 20, 20, 0.001) * 0.2
    red = torch.tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    for match in (match_covariance, match_histogram):
        found, wanted = lab_of(match(dark, red)), lab_of(red)[:, :1]
        torch.testing.assert_close(found[0], lab_of(dark)[0], atol=1e-6, rtol=0)
        chroma = found[1:].norm(dim=0)
        assert (chroma < wanted[1:].norm()).all()
        cosine = (found[1:] * wanted[1:]).sum(0) / (chroma * wanted[1:].norm())
        assert (cosine > 0.99).all()


@pytest.mark.parametrize("match", [match_histogram, match_covariance])
def test_grey_and_flat_pictures(match):
    colour = picture(5, 30, 30, 0.3, 0.7)
    grey = picture(6, 24, 36)[:, :1].expand(1, 3, 24, 36)
    flat = torch.full((1, 3, 16, 16), 0.25)
    for image, reference in ((grey, colour), (flat, colour), (colour, flat), (colour, grey)):
        matched = match(image, reference)
        assert matched.isfinite().all()
        torch.testing.assert_close(lab_of(matched)[0], lab_of(image)[0], atol=1e-5, rtol=0)
    assert (match(colour, grey).amax(1) - match(colour, grey).amin(1)).max() < 1e-3
    assert match(flat, colour).flatten(2)[0].unique(dim=1).shape == (3, 1)  # stays flat
    noise = 1e-4 * torch.randn(grey.shape, generator=torch.manual_seed(0))
    drift = match_covariance((grey + noise).clamp(0, 1), colour) - match_covariance(grey, colour)
    assert drift.abs().quantile(0.99) < 2e-3


def test_equal_colours_stay_equal():
    image = (picture(9, 32, 32) * 4).round() / 4
    codes = (image * 4).flatten(2)[0].T @ torch.tensor([25.0, 5, 1])
    for match in (match_covariance, match_histogram):
        matched = match(image, picture(8, 20, 30)).flatten(2)[0]
        for code in codes.unique():
            same = matched[:, codes == code]
            assert (same - same[:, :1]).abs().max() < 1e-6


@pytest.mark.parametrize("match", [match_histogram, match_covariance])
def test_identity_and_determinism(match):
    image = (picture(10, 33, 47) * 255).round() / 255  # with ties
    saturated = (image * 3 - 1).clamp(0, 1)
    for own in (image, saturated, image[:, :1].expand(1, 3, 33, 47)):
        torch.testing.assert_close(match(own, own), own, atol=1e-6, rtol=0)
    reference = picture(11, 20, 20)
    matched = match(image, reference)
    assert matched.dtype == torch.float32
    assert matched.shape == image.shape
    assert matched.min() >= 0
    assert matched.max() <= 1
    assert torch.equal(matched, match(image, reference))


@pytest.mark.parametrize("mode", ["histogram", "covariance"])
def test_transparent_pixels_do_not_count(mode):
    def with_hidden(shown: Tensor, colour: float) -> Picture:
        hidden = torch.full_like(shown, colour)
        alpha = torch.cat([torch.ones_like(shown[:, :1]), torch.zeros_like(shown[:, :1])], 3)
        return Picture(torch.cat([shown, hidden], 3), alpha)

    style, content = picture(1, 20, 24), picture(2, 20, 24)
    expected = recolour(Picture(style), Picture(content), mode).pixels
    found = recolour(with_hidden(style, 0.9), with_hidden(content, 0.1), mode).pixels
    torch.testing.assert_close(found[..., :24], expected)
    assert (found[..., 24:] == 0.9).all()  # transparent pixels of the style stay as they are


def test_grey_is_told_from_colour():
    grey = (torch.arange(256).view(1, 1, 16, 16) / 255).expand(1, 3, 16, 16).clone()
    assert is_grey(grey)
    grey[0, 0, 3, 3] += 1 / 255
    assert is_grey(grey)
    grey[0, 1, 3, 3] -= 1 / 255
    assert not is_grey(grey)


def test_to_grey_keeps_luma():
    image = picture(3, 20, 30)
    found = to_grey(image)
    assert found.shape == image.shape
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(found[:, 0], found[:, 2])
    torch.testing.assert_close(luma(found), luma(image))
    levels = (torch.arange(256).view(1, 1, 16, 16) / 255).expand(1, 3, 16, 16)
    torch.testing.assert_close(to_grey(levels), levels, atol=1e-6, rtol=0)
    assert to_grey(torch.ones(1, 3, 2, 2)).max() <= 1


@pytest.mark.parametrize("function", [keep_luminance, match_histogram, match_covariance])
def test_other_shapes_are_refused(function):
    good = torch.rand(1, 3, 8, 8)
    for bad in (torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.rand(1, 3, 0, 8)):
        with pytest.raises(ValueError, match="expected a picture"):
            function(good, bad)
    with pytest.raises(ValueError, match="sizes differ"):
        keep_luminance(good, torch.rand(1, 3, 8, 9))
