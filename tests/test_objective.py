"""The weighted sum of terms over one pass of the encoder."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.losses import AttentionGram, Content, GramStyle, Range, TotalVariation
from optistyle.optimise.objective import Objective, Terms

Picture = Callable[..., Tensor]

TERMS: Terms = {
    "content": (1.0, Content({"relu4_2": 1.0})),
    "style": (1e5, GramStyle({"relu1_1": 1.0, "relu3_1": 1.0})),
    "attention": (1e4, AttentionGram({"relu4_1": 1.0})),
    "tv": (2.0, TotalVariation()),
    "range": (1e3, Range()),
}


@pytest.fixture
def build(tiny: VGG, picture: Picture) -> Callable[[Terms], Objective]:
    def build(terms: Terms) -> Objective:
        content, style = (picture(32, 48), None), (picture(40, 36, seed=1), None)
        return Objective.build(tiny, terms, content, [style], [1.0])

    return build


Build = Callable[[Terms], Objective]


def test_one_pass_over_the_union_of_layers(
    build: Build, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[set[str]] = []
    forward = VGG.forward
    monkeypatch.setattr(
        VGG,
        "forward",
        lambda self, x, layers: (passes.append(set(layers)), forward(self, x, layers))[1],
    )
    objective = build(TERMS)
    assert len(passes) == 2  # content and style
    objective.gradient(picture(32, 48, seed=2))
    union = {"relu4_2", "relu1_1", "relu3_1", "relu4_1", "differences", "image"}
    assert passes[2:] == [union]


def test_weights_multiply(build: Build, picture: Picture) -> None:
    image = 1.5 * picture(32, 48, seed=2)
    whole = build(TERMS)(image)
    assert set(whole) == set(TERMS)
    for name, (weight, term) in TERMS.items():
        alone = build({name: (1.0, term)})(image)
        assert set(alone) == {name}
        torch.testing.assert_close(whole[name], weight * alone[name])
        assert whole[name] > 0


def test_evaluate_is_the_sum(build: Build, picture: Picture) -> None:
    objective, image = build(TERMS), picture(32, 48, seed=2)
    numbers = objective.evaluate(image)
    assert list(numbers) == ["total", *TERMS]
    assert numbers["total"] == math.fsum(numbers[name] for name in TERMS)
    assert numbers["content"] == pytest.approx(float(objective(image)["content"]))


def test_gradient_is_that_of_the_sum(build: Build, picture: Picture) -> None:
    objective, image = build(TERMS), picture(32, 48, seed=2)
    numbers, gradient = objective.gradient(image)
    assert numbers == pytest.approx(objective.evaluate(image))
    assert not image.requires_grad
    leaf = image.clone().requires_grad_()
    sum(objective(leaf).values()).backward()
    torch.testing.assert_close(gradient, leaf.grad)


def test_gradient_is_the_slope(build: Build, picture: Picture) -> None:
    objective, image = build(TERMS), picture(32, 48, seed=2).double()
    objective.encoder.double()
    gradient = objective.gradient(image)[1]
    direction = picture(32, 48, seed=3).double() - 0.5
    low, high = (objective.evaluate(image + h * direction)["total"] for h in (-1e-6, 1e-6))
    assert float((gradient * direction).sum()) == pytest.approx((high - low) / 2e-6, rel=1e-4)


def test_weight_zero_leaves_a_term_out(build: Build, picture: Picture) -> None:
    objective = build({**TERMS, "attention": (0.0, TERMS["attention"][1])})
    assert "attention" not in objective.evaluate(picture(32, 48))
    assert "relu4_1" not in objective.layers


def test_targets_hold_no_graph(build: Build) -> None:
    for target in build(TERMS).targets.values():
        tensors = [*target.weights.values(), *target.maps.values(), *target.values.values()]
        assert tensors
        assert not any(tensor.requires_grad for tensor in tensors)


def test_large_images_keep_maps_in_bfloat16(
    build: Build, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the memory; the losses, and their derivative, in the features' float32."""
    image = picture(32, 48, seed=2)
    exact = build(TERMS)
    losses, gradient = exact.gradient(image)
    monkeypatch.setattr("optistyle.optimise.solvers.COMPACT", 32 * 48)
    rounded = build(TERMS)
    assert exact.targets["content"].maps["relu4_2"].dtype == torch.float32
    assert rounded.targets["content"].maps["relu4_2"].dtype == torch.bfloat16
    found, slope = rounded.gradient(image)
    assert found["content"] != losses["content"]
    assert found["content"] == pytest.approx(losses["content"], rel=1e-3)
    assert {**found, "content": 0, "total": 0} == {**losses, "content": 0, "total": 0}
    torch.testing.assert_close(slope, gradient, rtol=0, atol=2e-3 * float(gradient.abs().max()))


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_bad_weights(weight: float, build: Build) -> None:
    with pytest.raises(InputError, match="the weight of content is"):
        build({**TERMS, "content": (weight, TERMS["content"][1])})


def test_all_weights_zero(build: Build) -> None:
    with pytest.raises(InputError, match="nothing to optimise"):
        build({name: (0.0, term) for name, (_, term) in TERMS.items()})
