"""Tiles: the same features, losses and gradients as of the whole image, and no seams."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import make_tiny
from torch import Tensor

from optistyle.choices import PADDINGS
from optistyle.encoders.vgg import POOLINGS, VGG
from optistyle.errors import InputError
from optistyle.layers import BLOCK_STARTS, DIFFERENCES, IMAGE, POOL5, reach
from optistyle.losses import (
    AttentionGram,
    AttentionLocal,
    Content,
    GramStyle,
    LossTerm,
    Range,
    TotalVariation,
    WassersteinStyle,
)
from optistyle.optimise import tiles
from optistyle.optimise.objective import Objective, Terms

Picture = Callable[..., Tensor]

#: Two layers each, of different depth: windows of several sizes.
WEIGHTS = {"relu2_1": 1.0, "relu4_1": 2.0}
TERMS: dict[str, LossTerm] = {
    "content": Content(WEIGHTS),
    "gram": GramStyle(dict.fromkeys(BLOCK_STARTS, 1.0)),
    "wasserstein": WassersteinStyle(WEIGHTS),
    "attention": AttentionGram(WEIGHTS),
    "attention, literal": AttentionGram(WEIGHTS, "target"),
    "local": AttentionLocal(WEIGHTS),
    "local, plain": AttentionLocal(WEIGHTS, "none"),
    "tv": TotalVariation(),
    "tv l1": TotalVariation("l1"),
    "range": Range(),
}
LAYERS = frozenset({"relu1_1", "relu3_2", "relu5_1", IMAGE, DIFFERENCES})
#: Odd, and no multiple of the tile: its last row and column of tiles are of another size.
SIZE, STYLE_SIZE, TILE = (251, 171), (150, 203), 80


def objectives(
    encoder: VGG, terms: Terms, picture: Picture, alpha: bool = False, styles: int = 1
) -> list[Objective]:
    """The same objective whole and in tiles."""

    def opacity(size: tuple[int, int], seed: int) -> Tensor | None:
        return picture(*size, seed=seed)[:, :1].round() if alpha else None

    content = picture(*SIZE), opacity(SIZE, 7)
    paintings = [
        (picture(*STYLE_SIZE, seed=k), opacity(STYLE_SIZE, k)) for k in range(1, styles + 1)
    ]
    shares = [(k + 1) / sum(range(1, styles + 1)) for k in range(styles)]
    return [
        Objective.build(encoder, terms, content, paintings, shares, tile=tile)
        for tile in (None, TILE)
    ]


def assert_same(whole: Objective, tiled: Objective, image: Tensor, close: float = 1e-5) -> None:
    assert len(whole.tiles) == 1 < len(tiled.tiles)
    losses, gradient = whole.gradient(image)
    tiled_losses, tiled_gradient = tiled.gradient(image)
    assert tiled_losses == pytest.approx(losses, rel=close)
    assert tiled.evaluate(image) == pytest.approx(losses, rel=close)
    assert float((tiled_gradient - gradient).norm() / gradient.norm()) < close
    assert gradient.norm() > 0


@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize("name", TERMS)
def test_tiled_equals_whole(name: str, alpha: bool, tiny: VGG, picture: Picture) -> None:
    both = objectives(tiny, {name: (1e4, TERMS[name])}, picture, alpha, styles=2)
    # A softmax sharpened 16 times, as narrow layers' is, makes as much of its features' rounding:
    # the whole image's target is as far from float64's.
    close = 3e-5 if name.startswith(("attention", "local")) else 1e-5
    assert_same(*both, 1.2 * picture(*SIZE, seed=3) - 0.1, close)


@pytest.mark.parametrize("name", TERMS)
def test_tiles_are_exact_but_for_rounding(name: str, tiny: VGG, picture: Picture) -> None:
    def exact(*size: int, seed: int = 0) -> Tensor:
        return picture(*size, seed=seed).double()

    both = objectives(tiny.double(), {name: (1e4, TERMS[name])}, exact, alpha=True)
    assert_same(*both, 1.2 * exact(*SIZE, seed=3) - 0.1, 1e-10)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_tiled_equals_whole_in_every_encoder(padding: str, pooling: str, picture: Picture) -> None:
    encoder = make_tiny(padding=padding, pooling=pooling)
    terms = {name: (1.0, TERMS[name]) for name in ("content", "gram", "local", "tv")}
    assert_same(*objectives(encoder, terms, picture), picture(*SIZE, seed=3))


@pytest.mark.parametrize("size", [(300, 21), (16, 270), (277, 261), (96, 500)])
@pytest.mark.parametrize("side", [16, 48, 80, 144])
def test_features_are_the_wholes(
    size: tuple[int, int], side: int, tiny: VGG, picture: Picture
) -> None:
    """Also of strips one position wide, whose border is repeated in place of reflected."""
    pixels = picture(*size)
    whole, tiled = tiny(pixels, LAYERS), tiles.TiledFeatures(tiny, pixels, LAYERS, side)
    assert set(tiled) == LAYERS
    for layer in LAYERS:
        assert tiled.like(layer).shape == whole[layer].shape
        torch.testing.assert_close(tiled[layer], whole[layer], rtol=1e-5, atol=1e-5)


def test_tiles_cover_every_position_once(tiny: VGG) -> None:
    for size in ((411, 287), (33, 364), (32, 31), (320, 320)):
        for side in (None, 16, 50, 1000):
            seen = {
                x: torch.zeros(size[0] >> n, size[1] >> n)
                for x, n in (("relu1_1", 0), ("relu5_1", 4))
            }
            for tile in tiles.tiling(tiny, seen, size, side):
                assert all(x.stop - x.start <= (side or 1000) + 2 * 80 for x in tile.crop)
                for layer, counts in seen.items():
                    counts[tile.window[layer]] += 1
                    assert counts[tile.window[layer]].numel()
            assert all((counts == 1).all() for counts in seen.values())


@pytest.mark.parametrize(("size", "shapes"), [((848, 976), 1), ((845, 976), 1), ((845, 979), 2)])
def test_crops_have_one_shape(
    size: tuple[int, int], shapes: int, tiny: VGG, picture: Picture
) -> None:
    """Tiles here are of 96 to 192 px; on the grid only a last row or column may differ."""
    cut = tiles.tiling(tiny, {"relu1_1", "relu5_1"}, size, 112)
    own = {tuple(x.stop - x.start for x in tile.window["relu1_1"]) for tile in cut}
    assert len(own) > shapes
    assert len({tuple(x.stop - x.start for x in tile.crop) for tile in cut}) == shapes
    pixels = picture(*size)
    whole = tiny(pixels, {"relu5_1"})["relu5_1"]
    tiled = tiles.TiledFeatures(tiny, pixels, frozenset({"relu5_1"}), 112)["relu5_1"]
    torch.testing.assert_close(tiled, whole, rtol=1e-5, atol=1e-5)


def test_one_pass_where_the_tile_is_the_image(
    tiny: VGG, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, tiled = objectives(tiny, {"gram": (1.0, TERMS["gram"])}, picture)
    passes: list[int] = []
    forward = VGG.forward
    monkeypatch.setattr(
        VGG, "forward", lambda self, x, layers: (passes.append(1), forward(self, x, layers))[1]
    )
    whole.gradient(picture(*SIZE))
    assert len(passes) == 1
    tiled.gradient(picture(*SIZE))
    assert len(passes) == 1 + 2 * len(tiled.tiles)


@pytest.mark.parametrize("padding", PADDINGS)
def test_no_seams(padding: str, picture: Picture) -> None:
    """The gradient beside tiles' borders is like anywhere: on a flat image flat, on noise noise."""
    encoder, size = make_tiny(padding=padding), (320, 320)
    terms: Terms = {"gram": (1e5, TERMS["gram"])}
    tiled = Objective.build(
        encoder, terms, (picture(*size), None), [(picture(*size, seed=1), None)], [1.0], tile=80
    )
    assert len(tiled.tiles) == 4
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, *size, generator=generator)
    flat = tiled.gradient(torch.full((1, 3, *size), 0.5))[1][..., 96:-96, 96:-96]
    # Inside, a flat image's gradient repeats with the pooling grid, across the seam as elsewhere.
    torch.testing.assert_close(flat[..., 16:, :], flat[..., :-16, :], rtol=1e-4, atol=1e-9)
    gradient = tiled.gradient(noise)[1].square().mean((0, 1))
    for energy in (gradient.mean(0), gradient.mean(1)):
        seam = energy[152:168].mean()
        blocks = energy[32:-32].unfold(0, 16, 16).mean(1)
        assert abs(seam - blocks.mean()) < 4 * blocks.std()


def test_the_halo_is_the_receptive_field(tiny: VGG, picture: Picture) -> None:
    """What a position sees beyond its own pixels, by a gradient; and the grid rounds it up."""
    for layer in ("relu1_1", "relu2_2", "relu3_4", "relu5_1"):
        image = picture(400, 400).requires_grad_()
        feature = tiny(image, {layer})[layer]
        step = tiles.grid(tiny, {layer})
        place = feature.shape[-1] // 2
        feature[..., place, place].sum().backward()
        rows = image.grad.abs().sum((0, 1, 3)).nonzero()
        far = reach({layer}, tiny.taps)
        assert place * step - int(rows.min()) == far
        assert int(rows.max()) - (place + 1) * step + 1 == far
        assert far <= tiles.halo(tiny, {layer}) < far + step
    assert tiles.halo(tiny, {IMAGE}) == 0
    assert tiles.halo(tiny, {IMAGE, DIFFERENCES}) == 1
    assert reach({POOL5}, tiny.taps) == reach({"relu5_1"}, tiny.taps) == 70


def test_moments_of_tiles_are_those_of_the_whole(tiny: VGG, picture: Picture) -> None:
    pixels, alpha = picture(*SIZE), picture(*SIZE, seed=1)[:, :1].round()
    whole, tiled = (tiles.refer(tiny, pixels, alpha, LAYERS, side) for side in (None, TILE))
    assert isinstance(tiled, tiles.TiledReference)
    for layer in LAYERS:
        assert tiled.size(layer) == whole.size(layer)
        assert torch.equal(tiled.weights(layer), whole.weights(layer))
        torch.testing.assert_close(tiled.moments(layer).second, whole.moments(layer).second)
        torch.testing.assert_close(tiled.moments(layer).first, whole.moments(layer).first)


def test_a_gram_target_needs_no_map(
    tiny: VGG, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    put_together = tiles.TiledFeatures.__getitem__
    monkeypatch.setattr(
        tiles.TiledFeatures,
        "__getitem__",
        lambda self, layer: (asked.append(layer), put_together(self, layer))[1],
    )
    chosen = ("gram", "wasserstein", "tv", "range")
    objectives(tiny, {name: (1.0, TERMS[name]) for name in chosen}, picture)
    assert asked == []
    objectives(tiny, {"content": (1.0, TERMS["content"])}, picture)
    assert sorted(asked) == sorted(WEIGHTS)  # the content's, and not the style's


def test_a_tile_smaller_than_its_halo(tiny: VGG) -> None:
    tiles.check(tiny, LAYERS, 80)
    with pytest.raises(InputError, match="a tile of 64 px is smaller than the 80 px around it"):
        tiles.check(tiny, LAYERS, 64)
