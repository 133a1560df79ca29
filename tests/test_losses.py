"""Every loss: zero at its target, a value by hand, gradcheck, tiles, a few steps, invariances."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from optistyle.choices import CENTRES
from optistyle.encoders.vgg import VGG, forward_differences
from optistyle.errors import InputError
from optistyle.layers import DIFFERENCES, IMAGE
from optistyle.losses import (
    AttentionGram,
    AttentionLocal,
    Content,
    GramStyle,
    LossTerm,
    Range,
    Reference,
    References,
    TotalVariation,
    WassersteinStyle,
)
from optistyle.losses.attention import attended
from optistyle.losses.wasserstein import matrix_root
from optistyle.optimise.objective import Objective
from optistyle.optimise.solvers import LBFGS
from optistyle.statistics import Moments, moments, position_weights

Picture = Callable[..., Tensor]

LAYERS = {"relu1_1": 1.0, "relu2_1": 3.0, "relu3_2": 0.5}
TERMS: dict[str, LossTerm] = {
    "content": Content(LAYERS),
    "gram": GramStyle(LAYERS),
    "wasserstein": WassersteinStyle(LAYERS),
    **{f"attention-{centre}": AttentionGram(LAYERS, centre) for centre in CENTRES},
    **{f"local-{centre}": AttentionLocal(LAYERS, centre) for centre in CENTRES},
    "tv-squared": TotalVariation("squared"),
    "tv-l1": TotalVariation("l1"),
    "range": Range(),
}
every_term = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
style_terms = pytest.mark.parametrize("name", ["gram", "wasserstein", "attention-both"])


@pytest.fixture
def encoder(tiny: VGG) -> VGG:
    return tiny.double()


@pytest.fixture
def see(encoder: VGG, picture: Picture) -> Callable[..., Reference]:
    """``see(height, width, seed, alpha=None)``: the features of a random picture."""

    def see(height: int, width: int, seed: int, alpha: Tensor | None = None) -> Reference:
        image = 1.2 * picture(height, width, seed).double()  # somewhat out of range
        return Reference(encoder(image, {*LAYERS, IMAGE, DIFFERENCES}), alpha)

    return see


See = Callable[..., Reference]


def score(term: LossTerm, features: dict[str, Tensor], references: References) -> Tensor:
    target = term.target(references)
    return term.score(term.statistic(features, target), target)


def pair(content: dict[str, Tensor], style: dict[str, Tensor]) -> References:
    return References(Reference(content), [Reference(style)], [1.0])


def opacity(height: int, width: int) -> Tensor:
    """Half seen on the left, wholly seen on the right, a transparent corner."""
    alpha = torch.ones(1, 1, height, width, dtype=torch.float64)
    alpha[..., : width // 3] = 0.5
    alpha[..., : height // 2, : width // 2] = 0
    return alpha


# --- what every term has in common


@every_term
@pytest.mark.parametrize("transparent", [False, True])
def test_tiles_add_up(term: LossTerm, transparent: bool, see: See) -> None:
    """Statistics of four windows, summed, score as the whole; odd sizes, so windows differ."""
    alpha = opacity(44, 52) if transparent else None
    references = References(see(44, 52, 0, alpha), [see(40, 36, 1)], [1.0])
    features, target = see(44, 52, 2).features, term.target(references)
    whole = term.statistic(features, target)
    sums = {name: torch.zeros_like(value) for name, value in whole.items()}
    for top in (True, False):
        for left in (True, False):
            window = {}
            for layer in term.layers:
                rows, columns = (size // 4 for size in features[layer].shape[-2:])
                window[layer] = (
                    slice(None, rows) if top else slice(rows, None),
                    slice(None, columns) if left else slice(columns, None),
                )
            tile = {layer: features[layer][(..., *window[layer])] for layer in term.layers}
            for name, value in term.statistic(tile, target.window(window)).items():
                sums[name] = sums[name] + value
    for name, value in whole.items():
        torch.testing.assert_close(sums[name], value)
    torch.testing.assert_close(term.score(sums, target), term.score(whole, target))


@every_term
def test_gradcheck_on_features(term: LossTerm, generator: torch.Generator) -> None:
    layers = dict.fromkeys(LAYERS, (1, 4, 3, 3)) | {
        IMAGE: (1, 3, 3, 3),
        DIFFERENCES: (1, 6, 3, 3),
    }

    def random() -> dict[str, Tensor]:
        return {
            x: torch.randn(*layers[x], generator=generator).double() for x in sorted(term.layers)
        }

    target = term.target(References(Reference(random()), [Reference(random())], [1.0]))
    features = random()
    names = list(features)

    def loss(*tensors: Tensor) -> Tensor:
        return term.score(term.statistic(dict(zip(names, tensors, strict=True)), target), target)

    assert torch.autograd.gradcheck(loss, [features[name].requires_grad_() for name in names])


@every_term
def test_gradcheck_through_the_encoder(
    term: LossTerm, encoder: VGG, see: See, picture: Picture
) -> None:
    target = term.target(References(see(16, 12, 0), [see(12, 16, 1)], [1.0]))
    image = (1.3 * picture(16, 12, 2).double()).requires_grad_()

    def loss(image: Tensor) -> Tensor:
        return 1e3 * term.score(term.statistic(encoder(image, term.layers), target), target)

    assert torch.autograd.gradcheck(loss, image, fast_mode=True)


@every_term
def test_a_few_steps_lower_it(term: LossTerm, tiny: VGG, picture: Picture) -> None:
    content, style, image = picture(32, 24), picture(24, 28, 1), 1.3 * picture(32, 24, 2)
    objective = Objective.build(tiny, {"it": (1.0, term)}, (content, None), [(style, None)], [1.0])
    before = objective.evaluate(image)["total"]
    solver = LBFGS(first_move=0.003)
    state = solver.start(image)
    after = []
    for _ in range(8):
        image, state = solver.step(image, objective.gradient(image)[1], state)
        after.append(objective.evaluate(image)["total"])
    assert min(after) < 0.9 * before


@every_term
def test_float32_is_close_to_float64(term: LossTerm, see: See) -> None:
    def single(reference: Reference) -> Reference:
        return Reference({name: x.float() for name, x in reference.features.items()})

    content, style, image = (see(32, 32, seed) for seed in range(3))
    exact = score(term, image.features, References(content, [style], [1.0]))
    close = score(term, single(image).features, References(single(content), [single(style)], [1.0]))
    assert exact.dtype == torch.float64
    assert close.dtype == torch.float32
    torch.testing.assert_close(close.double(), exact, rtol=1e-3, atol=0)


@every_term
def test_odd_sizes_with_alpha(term: LossTerm, see: See) -> None:
    """45 px are 22, 11, 5 and 2 further down, not multiples of anything."""
    content, style = see(67, 45, 0, opacity(67, 45)), see(45, 67, 1, opacity(45, 67))
    assert score(term, see(67, 45, 2).features, References(content, [style], [1.0])) > 0


@pytest.mark.parametrize(
    "term",
    [term for name, term in TERMS.items() if "tv" not in name and name != "range"],
    ids=lambda term: f"{type(term).__name__}-{getattr(term, 'centre', '')}",
)
def test_layers_are_averaged_by_weight(term: LossTerm, see: See) -> None:
    references, features = (
        References(see(32, 32, 0), [see(32, 32, 1)], [1.0]),
        see(32, 32, 2).features,
    )

    def alone(weights: dict[str, float]) -> Tensor:
        extra = {"centre": term.centre} if hasattr(term, "centre") else {}
        return score(type(term)(weights, **extra), features, references)

    parts = {layer: alone({layer: 7.0}) for layer in LAYERS}
    expected = sum(weight * parts[layer] for layer, weight in LAYERS.items()) / 4.5
    torch.testing.assert_close(score(term, features, references), expected)


# --- transparency, several styles, sizes


@every_term
def test_transparent_positions_weigh_nothing(
    term: LossTerm, encoder: VGG, see: See, picture: Picture
) -> None:
    """Pixels out of reach of the opaque half: relu3_2 sees 36 px wide."""
    alpha = torch.ones(1, 1, 32, 96, dtype=torch.float64)
    alpha[..., :48] = 0
    references = References(see(32, 96, 0, alpha), [see(32, 32, 1)], [1.0])
    target, plain = (
        term.target(references),
        term.target(References(see(32, 96, 0), [see(32, 32, 1)], [1.0])),
    )
    image = 1.3 * picture(32, 96, 2).double()
    changed = image.clone()
    changed[..., :24] = 1.3 * picture(32, 24, 3).double()
    a, b = (encoder(x, term.layers) for x in (image, changed))
    for name, value in term.statistic(a, target).items():
        torch.testing.assert_close(term.statistic(b, target)[name], value, rtol=1e-10, atol=1e-12)
    assert term.score(term.statistic(a, plain), plain) != term.score(
        term.statistic(b, plain), plain
    )


@style_terms
def test_transparent_style_is_not_seen(name: str, encoder: VGG, see: See, picture: Picture) -> None:
    """Down to relu2_1, which sees 10 px wide; attention is normalised without it, too."""
    layers = {"relu1_1": 1.0, "relu2_1": 1.0}
    term = type(TERMS[name])(layers)
    alpha = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    alpha[..., 16:] = 1
    style = picture(32, 32, 1).double()
    changed = style.clone()
    changed[..., :8] = 1 - changed[..., :8]
    content, features = see(32, 32, 0), see(32, 32, 2).features
    losses = [
        score(term, features, References(content, [Reference(encoder(x, layers), alpha)], [1.0]))
        for x in (style, changed)
    ]
    torch.testing.assert_close(losses[0], losses[1])


@style_terms
def test_styles_are_blended_by_their_shares(name: str, see: See) -> None:
    term, content, features = TERMS[name], see(32, 32, 0), see(32, 32, 2).features
    a, b = see(32, 32, 1), see(24, 40, 3)

    def loss(styles: list[Reference], shares: list[float]) -> Tensor:
        return score(term, features, References(content, styles, shares))

    torch.testing.assert_close(loss([a, b], [1.0, 0.0]), loss([a], [1.0]))
    torch.testing.assert_close(loss([a, a], [0.3, 0.7]), loss([a], [1.0]))
    torch.testing.assert_close(loss([a, b], [0.2, 0.8]), loss([b, a], [0.8, 0.2]))


def test_two_styles_are_their_union(see: See) -> None:
    """Raw moments of two styles, blended, are those of both side by side."""
    a, b = (see(32, 32, seed).features["relu2_1"] for seed in (1, 3))
    both = Reference({"relu2_1": torch.cat([a, b], dim=3)})
    content = Reference({"relu2_1": a})
    features = {"relu2_1": see(32, 32, 2).features["relu2_1"]}
    for kind in (GramStyle, WassersteinStyle):
        term = kind({"relu2_1": 1.0})
        styles = [Reference({"relu2_1": a}), Reference({"relu2_1": b})]
        blended = score(term, features, References(content, styles, [0.5, 0.5]))
        union = score(term, features, References(content, [both], [1.0]))
        torch.testing.assert_close(blended, union)


@style_terms
def test_style_forgets_positions(name: str, see: See, generator: torch.Generator) -> None:
    """Flipped or shuffled features have the same style."""
    term, references = TERMS[name], References(see(32, 32, 0), [see(32, 32, 1)], [1.0])
    features = {layer: see(32, 32, 2).features[layer] for layer in LAYERS}
    flipped = {layer: x.flip(3) for layer, x in features.items()}
    shuffled = {
        layer: x.flatten(2)[..., torch.randperm(x[0, 0].numel(), generator=generator)].view_as(x)
        for layer, x in features.items()
    }
    expected = score(term, features, references)
    torch.testing.assert_close(score(term, flipped, references), expected)
    torch.testing.assert_close(score(term, shuffled, references), expected)


@pytest.mark.parametrize(
    "kind", [Content, GramStyle, WassersteinStyle, AttentionGram, AttentionLocal]
)
def test_a_larger_piece_of_the_same_texture_scores_the_same(
    kind: Callable[..., LossTerm], encoder: VGG, picture: Picture
) -> None:
    """alpha, beta and gamma mean the same at every size; borders are out of sight."""
    layers, losses = {"relu2_1": 1.0, "relu3_2": 1.0}, []
    for repeats in (4, 9):
        side = 16 * repeats
        alpha = F.pad(torch.ones(1, 1, side - 32, side - 32), (16, 16, 16, 16))
        content, style, image = (
            Reference(encoder(picture(16, 16, seed).double().tile(repeats, repeats), layers), alpha)
            for seed in range(3)
        )
        references = References(content, [style], [1.0])
        losses.append(float(score(kind(layers), image.features, references)))
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


# --- content


def test_content_by_hand() -> None:
    content = {"relu1_1": torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)}
    image = {"relu1_1": torch.tensor([[1.0, 4.0], [0.0, 5.0]]).view(1, 2, 1, 2)}
    loss = score(Content({"relu1_1": 5.0}), image, pair(content, content))
    assert float(loss) == pytest.approx((0 + 4 + 9 + 1) / (2 * 2 * 2))
    assert float(score(Content({"relu1_1": 5.0}), content, pair(content, content))) == 0


# --- Gram


def test_gram_by_hand() -> None:
    image = {"relu1_1": torch.tensor([[1.0, 3.0], [0.0, 2.0]]).view(1, 2, 1, 2)}
    style = {"relu1_1": torch.tensor([[2.0], [1.0]]).view(1, 2, 1, 1)}
    # G = [[5, 3], [3, 2]], S = [[4, 2], [2, 1]]: all four differ by 1; N is VGG-19's 64.
    loss = score(GramStyle({"relu1_1": 2.0}), image, pair(image, style))
    assert float(loss) == pytest.approx(1 / 4 / 64**2)


def test_gram_is_zero_at_the_style(see: See) -> None:
    style = see(32, 32, 1)
    assert float(score(TERMS["gram"], style.features, pair(style.features, style.features))) == 0


def test_gram_of_gatys() -> None:
    """For VGG-19's own width: eqs. 3-4 of Gatys et al. 2016, with M and N of both images."""
    generator = torch.Generator().manual_seed(0)
    f, s = torch.rand(2, 1, 64, 5, 6, generator=generator, dtype=torch.float64)
    gram, goal = (x.flatten(2)[0] @ x.flatten(2)[0].T for x in (f[None, 0], s[None, 0]))
    expected = (gram - goal).square().sum() / (4 * 64**2 * 30**2) / 64**2
    loss = score(GramStyle({"relu1_1": 1.0}), {"relu1_1": f}, pair({"relu1_1": f}, {"relu1_1": s}))
    torch.testing.assert_close(loss, expected)


# --- attention


@pytest.mark.parametrize("kind", [AttentionGram, AttentionLocal])
@pytest.mark.parametrize("centre", CENTRES)
def test_attention_at_its_target(kind: type, centre: str, see: See) -> None:
    """FA itself; with the literal reading FA about its mean, which a rectifier cannot give."""
    term, references = kind(LAYERS, centre), References(see(32, 24, 0), [see(24, 32, 1)], [1.0])
    features = {layer: next(attended(references, layer)) for layer in LAYERS}
    literal = {layer: x - x.mean((2, 3), keepdim=True) for layer, x in features.items()}
    shifted = {layer: x + 3 for layer, x in features.items()}
    losses = {
        name: float(score(term, x, references))
        for name, x in (("itself", features), ("literal", literal), ("shifted", shifted))
    }
    expected = {"both": {"itself", "literal", "shifted"}, "none": {"itself"}, "target": {"literal"}}
    assert {name for name, loss in losses.items() if loss < 1e-14} == expected[centre]


@pytest.mark.parametrize("centre", CENTRES)
def test_attention_by_hand(centre: str) -> None:
    """One style position: FA is that position everywhere, whatever the content."""
    content = {"relu1_1": torch.tensor([[0.0, 2.0], [5.0, 1.0]]).view(1, 2, 1, 2)}
    style = {"relu1_1": torch.tensor([[1.0], [3.0]]).view(1, 2, 1, 1)}
    image = {"relu1_1": torch.tensor([[2.0, 4.0], [1.0, 1.0]]).view(1, 2, 1, 2)}
    # F Fᵀ / M = [[10, 3], [3, 1]], its covariance [[1, 0], [0, 0]]; FA FAᵀ / M = [[1, 3], [3, 9]].
    squares = {"both": 1, "none": 81 + 64, "target": 100 + 9 + 9 + 1}[centre]
    loss = score(AttentionGram({"relu1_1": 1.0}, centre), image, pair(content, style))
    assert float(loss) == pytest.approx(squares / 4 / 4 / 64**2)
    # F - FA = [[1, 3], [-2, -2]]; less means [[-1, 1], [0, 0]]; F itself [[2, 4], [1, 1]].
    squares = {"both": 2, "none": 18, "target": 22}[centre]
    loss = score(AttentionLocal({"relu1_1": 1.0}, centre), image, pair(content, style))
    assert float(loss) == pytest.approx(squares / (2 * 2 * 2))


def test_attention_is_sharpened_for_narrow_encoders() -> None:
    """A quarter of VGG-19's 64 channels, four times the sharpness: as all of them."""
    generator = torch.Generator().manual_seed(0)
    content, style = torch.randn(2, 1, 16, 4, 4, generator=generator, dtype=torch.float64)
    narrow, wide = (
        next(
            attended(
                pair(
                    {"relu1_1": content.repeat(1, n, 1, 1)}, {"relu1_1": style.repeat(1, n, 1, 1)}
                ),
                "relu1_1",
            )
        )
        for n in (1, 4)
    )
    torch.testing.assert_close(narrow.repeat(1, 4, 1, 1), wide)


def test_local_attention_blends_maps(see: See) -> None:
    content, styles = see(32, 32, 0), [see(32, 32, 1), see(24, 24, 3)]
    references = References(content, styles, [0.25, 0.75])
    a, b = attended(references, "relu2_1")
    term = AttentionLocal({"relu2_1": 1.0}, "none")
    torch.testing.assert_close(term.target(references).maps["relu2_1"], 0.25 * a + 0.75 * b)


@pytest.mark.parametrize("kind", [AttentionGram, AttentionLocal])
def test_unknown_centre(kind: type) -> None:
    with pytest.raises(InputError, match="unknown centre 'boht'; did you mean 'both'"):
        kind(LAYERS, "boht")


# --- Wasserstein


def cross(mean: tuple[float, float], deviation: tuple[float, float]) -> dict[str, Tensor]:
    """Two channels, four positions: those means, and a diagonal covariance of those deviations."""
    signs = torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)
    channels = signs * torch.tensor(deviation).view(2, 1) + torch.tensor(mean).view(2, 1)
    return {"relu1_1": channels.view(1, 2, 2, 2)}


def test_wasserstein_of_diagonal_covariances() -> None:
    """|m - m_s|² + sum (σ - σ_s)², in closed form."""
    image, style = cross((1.0, 2.0), (3.0, 1.0)), cross((0.0, 4.0), (1.0, 2.0))
    loss = score(WassersteinStyle({"relu1_1": 1.0}, eps=1e-12), image, pair(image, style))
    assert float(loss) == pytest.approx((1 + 4 + 4 + 1) / (4 * 2 * 64**2), rel=1e-6)


def test_wasserstein_adds_eps_to_the_variances() -> None:
    image, style = cross((0.0, 0.0), (0.0, 0.0)), cross((0.0, 0.0), (0.03, 0.0))
    loss = score(WassersteinStyle({"relu1_1": 1.0}, eps=1e-4), image, pair(image, style))
    expected = ((0.03**2 + 1e-4) ** 0.5 - 1e-4**0.5) ** 2 / (4 * 2 * 64**2)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_wasserstein_is_zero_at_the_style(see: See) -> None:
    style = see(32, 32, 1).features
    other = score(TERMS["wasserstein"], see(32, 32, 2).features, pair(style, style))
    assert abs(float(score(TERMS["wasserstein"], style, pair(style, style)))) < 1e-8 * float(other)


def test_wasserstein_is_symmetric(see: See) -> None:
    a, b = see(32, 32, 1).features, see(32, 32, 2).features
    forth, back = (
        score(TERMS["wasserstein"], a, pair(a, b)),
        score(TERMS["wasserstein"], b, pair(b, a)),
    )
    torch.testing.assert_close(forth, back, rtol=1e-6, atol=0)


def test_wasserstein_of_a_shift(see: See) -> None:
    """Only the means differ: |shift|² / (4 n N²), whatever the covariance."""
    style = {"relu1_1": see(32, 32, 1).features["relu1_1"]}
    image = {"relu1_1": style["relu1_1"] + 0.5}
    loss = score(WassersteinStyle({"relu1_1": 1.0}), image, pair(style, style))
    assert float(loss) == pytest.approx(0.25 / 4 / 64**2, rel=1e-6)


@pytest.mark.parametrize("kind", ["flat", "one position", "same"])
def test_wasserstein_gradient_of_singular_covariances(
    kind: str, generator: torch.Generator
) -> None:
    """Fewer positions than channels, none that vary, or the style itself."""
    style = torch.randn(1, 16, 2, 3, generator=generator)
    image = {
        "flat": torch.ones(1, 16, 4, 4),
        "one position": torch.randn(1, 16, 1, 1, generator=generator),
        "same": style.clone(),
    }[kind].requires_grad_()
    references = pair({"relu1_1": image.detach()}, {"relu1_1": style})
    score(WassersteinStyle({"relu1_1": 1.0}), {"relu1_1": image}, references).backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() < 1


def test_matrix_root(generator: torch.Generator) -> None:
    a = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    root = matrix_root(a @ a.T)  # singular
    torch.testing.assert_close(root, root.T)
    torch.testing.assert_close(root @ root, a @ a.T)


# --- pixels


def images_as_features(image: Tensor) -> dict[str, Tensor]:
    return {IMAGE: image, DIFFERENCES: forward_differences(image)}


@pytest.mark.parametrize(("form", "total"), [("squared", 1 + 4 + 25 + 1 + 9 + 1), ("l1", 13)])
def test_total_variation_by_hand(form: str, total: float) -> None:
    channel = torch.tensor([[1.0, 2.0, 4.0], [0.0, 5.0, 5.0]])
    image = images_as_features(torch.stack([channel, channel, channel])[None])
    loss = score(TotalVariation(form), image, pair(image, image))
    assert float(loss) == pytest.approx(total / 6 * (3 / 512) ** (2 if form == "squared" else 1))


@pytest.mark.parametrize("form", ["squared", "l1"])
def test_total_variation_of_a_flat_picture(form: str) -> None:
    image = images_as_features(torch.full((1, 3, 8, 8), 0.7))
    assert float(score(TotalVariation(form), image, pair(image, image))) == 0


@pytest.mark.parametrize("form", ["squared", "l1"])
def test_total_variation_is_of_the_picture_not_of_its_size(form: str, picture: Picture) -> None:
    small = F.avg_pool2d(picture(96, 128), 9, 1, 4, count_include_pad=False)
    losses = []
    for image in (small, F.interpolate(small, scale_factor=4, mode="bicubic")):
        features = images_as_features(image)
        losses.append(float(score(TotalVariation(form), features, pair(features, features))))
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_unknown_form() -> None:
    with pytest.raises(InputError, match="unknown form of total variation 'L1'; did you mean 'l1'"):
        TotalVariation("L1")


def test_range_by_hand() -> None:
    pixels = torch.tensor([-0.5, 0.0, 0.3, 1.0, 1.1, 3.0]).view(1, 3, 1, 2)
    image = images_as_features(pixels)
    assert float(score(Range(), image, pair(image, image))) == pytest.approx((0.25 + 0.01 + 4) / 6)
    inside = images_as_features(pixels.clamp(0, 1))
    assert float(score(Range(), inside, pair(image, image))) == 0


# --- references


def test_reference_moments_and_weights(see: See) -> None:
    alpha = opacity(32, 32)
    reference = see(32, 32, 0, alpha)
    feature = reference.features["relu2_1"]
    weights = position_weights(alpha, feature)
    torch.testing.assert_close(reference.weights("relu2_1"), weights)
    expected: Moments = moments(feature, weights)
    torch.testing.assert_close(reference.moments("relu2_1").second, expected.second)
