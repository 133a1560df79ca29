"""CUDA graphs as far as they go without a GPU: what is recorded, copied and given up."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from optistyle.encoders.vgg import VGG
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
from optistyle.losses.base import Target
from optistyle.machine import graphs
from optistyle.machine.graphs import Function, Replayed
from optistyle.optimise.objective import Objective, Reading
from optistyle.optimise.scale import Progress, steps
from optistyle.optimise.solvers import LBFGS

Picture = Callable[..., Tensor]

WEIGHTS = {"relu1_1": 1.0, "relu3_1": 2.0}
TERMS: dict[str, LossTerm] = {
    "content": Content(WEIGHTS),
    "gram": GramStyle(WEIGHTS),
    "wasserstein": WassersteinStyle(WEIGHTS),
    "attention": AttentionGram(WEIGHTS),
    "local": AttentionLocal(WEIGHTS),
    "tv": TotalVariation(),
    "range": Range(),
}


class Recorder:
    """Stands for CUDA: what it records writes its results to the same place at every replay."""

    def __init__(self) -> None:
        self.rehearsed = self.recorded = self.replayed = 0

    def rehearse(self, function: Function, image: Tensor) -> tuple[Tensor, ...]:
        self.rehearsed += 1
        return function(image)

    def record(
        self, function: Function, place: Tensor
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        self.recorded += 1
        results = tuple(torch.empty_like(x) for x in function(place))

        def replay() -> None:
            self.replayed += 1
            for result, x in zip(results, function(place), strict=True):
                result.copy_(x)

        return replay, results


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(graphs, "rehearse", recorder.rehearse)
    monkeypatch.setattr(graphs, "record", recorder.record)
    graphs._say.cache_clear()
    return recorder


def build(encoder: VGG, picture: Picture, terms: Mapping[str, LossTerm]) -> Objective:
    content, style = (picture(48, 40), picture(48, 40)[:, :1].round()), (picture(40, 36, 1), None)
    pairs = {name: (1e3, term) for name, term in terms.items()}
    return Objective.build(encoder, pairs, content, [style], [1.0])


def half(image: Tensor) -> tuple[Tensor, ...]:
    return image.sum(), image / 2


def test_results_are_the_functions_and_ones_own(recorder: Recorder) -> None:
    function = Replayed(half)
    images = [torch.full((2, 2), float(k)) for k in range(5)]
    found = [function(image) for image in images]
    for image, (total, halves) in zip(images, found, strict=True):
        assert torch.equal(total, image.sum())
        assert torch.equal(halves, image / 2)
    assert (recorder.rehearsed, recorder.recorded, recorder.replayed) == (1, 1, 4)
    assert [float(image[0, 0]) for image in images] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("stage", ["rehearse", "record"])
def test_what_cannot_be_recorded_runs_as_it_is(
    stage: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Tensor] = []

    def fail(function: Function, image: Tensor) -> Any:
        tried.append(image)
        raise RuntimeError("called a synchronizing CUDA operation\nwith details")

    monkeypatch.setattr(graphs, stage, fail)
    images = [torch.full((2, 2), float(k)) for k in range(4)]

    def a_scale() -> None:
        function = Replayed(half)
        for image in images:
            assert torch.equal(function(image)[1], image / 2)

    with pytest.warns(UserWarning, match="slower: called a synchronizing CUDA operation$"):
        a_scale()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a_scale()
    assert len(tried) == 2
    assert recorder.replayed == 0


def test_ctrl_c_while_it_rehearses(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call rehearses again."""

    def interrupted(function: Function, image: Tensor) -> Any:
        raise KeyboardInterrupt

    function = Replayed(half)
    with monkeypatch.context() as patch:
        patch.setattr(graphs, "rehearse", interrupted)
        with pytest.raises(KeyboardInterrupt):
            function(torch.ones(2, 2))
    function(torch.ones(2, 2))
    assert (recorder.rehearsed, recorder.recorded) == (1, 0)


def test_steps_go_the_same_way(tiny: VGG, picture: Picture, recorder: Recorder) -> None:
    """The solver keeps the last gradient while the next is written."""
    objective = build(tiny, picture, TERMS)

    class Graphed:
        def gradients(self) -> Callable[[Tensor], tuple[Reading, Tensor]]:
            slope = Replayed(objective.slope)

            def look(image: Tensor) -> tuple[Reading, Tensor]:
                losses, gradient = slope(image)
                return lambda: objective._numbers(losses), gradient

            return look

    start = picture(48, 40)
    progress = Progress.start(start, LBFGS().start(start))
    expected = list(steps(objective, LBFGS(), progress, 6))
    found = list(steps(Graphed(), LBFGS(), progress, 6))  # type: ignore[arg-type]
    assert recorder.replayed == 5
    assert [losses for losses, _, _ in found] == [losses for losses, _, _ in expected]
    assert torch.equal(found[-1][1].image, expected[-1][1].image)


def test_memory_goes_with_the_loop(tiny: VGG, picture: Picture, recorder: Recorder) -> None:
    """At once, not when Python comes to collect cycles: the next scale needs it."""
    objective = build(tiny, picture, {"content": TERMS["content"]})
    function = Replayed(objective.slope)
    for _ in range(3):
        function(picture(48, 40))
    gc.disable()
    try:
        held, owner = weakref.ref(function), weakref.ref(objective)
        del function, objective
        assert held() is None
        assert owner() is None
    finally:
        gc.enable()


class OnDevice(TorchDispatchMode):
    """Lets nothing on the CPU take part, as a graph does not."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        found = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, found)) if isinstance(x, Tensor)]
        assert {x.device.type for x in tensors} == {"meta"}, func
        return found


def to_meta(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.to("meta") for name, x in tensors.items()}


@pytest.mark.parametrize("tile", [None, 48])
@pytest.mark.parametrize("name", TERMS)
def test_nothing_waits_for_the_device(
    name: str, tile: int | None, tiny: VGG, picture: Picture
) -> None:
    """Tensors of the device "meta" hold no values: nobody can wait for one."""
    size = (160, 144)
    content = picture(*size), picture(*size)[:, :1].round()
    shallow = {"relu1_1": 1.0, "relu2_1": 2.0}
    term = TERMS[name]
    if name not in ("tv", "range"):
        term = replace(term, layer_weights=shallow)  # type: ignore[type-var]
    style = picture(40, 36, 1), None
    objective = Objective.build(tiny, {name: (1.0, term)}, content, [style], [1.0], tile=tile)
    assert (len(objective.tiles) > 1) == (tile is not None)
    targets = {
        key: Target(to_meta(x.weights), to_meta(x.maps), to_meta(x.values))
        for key, x in objective.targets.items()
    }
    away = replace(objective, encoder=tiny.to("meta"), targets=targets)
    image = picture(*size, seed=3).to("meta")
    with OnDevice():
        losses, gradient = away.slope(image)
    assert losses.shape == (1,)
    assert gradient.shape == image.shape
    with pytest.raises((RuntimeError, NotImplementedError)):
        away.gradient(image)
