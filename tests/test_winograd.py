"""Winograd's convolutions, and the choice between them and torch's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import random_convolutions
from torch import Tensor
from torch.nn import functional as F

from optistyle import encoders, files, stylize
from optistyle.encoders import kernels, winograd
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.optimise.objective import Objective
from optistyle.recipes import Recipe
from optistyle.run import demand as plans
from optistyle.run import terms

needs_ncnn = pytest.mark.skipif(not winograd.available(), reason="ncnn is not installed")
CPU = torch.device("cpu")


def wide(**options: str) -> VGG:
    """An encoder with three layers that are wide enough."""
    weights = random_convolutions((8, 64, 128, 8, 8), "relu3_2")
    return VGG(weights, mean=torch.zeros(3), **options)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


def torchs(x: Tensor, weight: Tensor, bias: Tensor, padding: str) -> Tensor:
    mode = {"reflect": "reflect", "zeros": "constant"}[padding]
    return F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode=mode), weight, bias))


@needs_ncnn
@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize(("outputs", "inputs"), [(128, 64), (64, 128), (64, 64)])
@pytest.mark.parametrize("size", [(2, 2), (3, 5), (16, 16), (37, 50)])
def test_values_and_derivatives_are_the_convolutions(
    outputs: int, inputs: int, size: tuple[int, int], padding: str, generator: torch.Generator
) -> None:
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    x = torch.randn(2, inputs, *size, generator=generator)
    for image in (x, x.contiguous(memory_format=torch.channels_last)):
        image = image.clone().requires_grad_()
        found = winograd.Convolution(weight, bias, padding)(image)
        expected = torchs(image, weight, bias, padding)
        assert difference(found, expected) < 1e-5
        assert found.is_contiguous(memory_format=torch.channels_last)
        slope = torch.randn(expected.shape, generator=generator)
        slope = slope * ((found > 0) == (expected > 0))  # units that rounding opens or closes
        ours, theirs = (torch.autograd.grad(y, image, slope)[0] for y in (found, expected))
        assert difference(ours, theirs) < 1e-5


@needs_ncnn
@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("height", [12, 17, 18, 19, 41])
def test_bands_are_the_whole(
    padding: str, height: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(64, 64, 3, 3, generator=generator)
    layer = winograd.Convolution(weight, torch.zeros(64), padding)
    x = torch.randn(1, 64, height, 7, generator=generator)
    whole = layer.forward(x), layer.backward(x)
    monkeypatch.setattr(winograd, "_BAND", 1)
    monkeypatch.setattr(winograd, "_TILES", 6)
    for ours, theirs in zip((layer.forward(x), layer.backward(x)), whole, strict=True):
        assert difference(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    ("shape", "suited"),
    [
        ((128, 64, 3, 3), True),
        ((64, 128, 3, 3), True),
        ((64, 64, 3, 3), True),
        ((64, 48, 3, 3), False),
        ((64, 136, 3, 3), False),
        ((512, 3, 3, 3), False),
        ((128, 128, 1, 1), False),
        ((128, 1, 3, 3), False),
    ],
)
def test_what_suits(shape: tuple[int, ...], suited: bool) -> None:
    assert winograd.suits(torch.zeros(shape)) is suited


@needs_ncnn
def test_an_encoder_sees_the_same(generator: torch.Generator) -> None:
    image = torch.rand(1, 3, 37, 50, generator=generator)
    theirs, ours = wide(), wide(kernels="winograd")
    assert [x for x in ours.layers if ours.is_transformed(x)] == ["relu2_2", "relu3_1", "relu3_2"]
    assert not any(map(theirs.is_transformed, theirs.layers))
    for layer in ours.layers:
        assert difference(ours(image, {layer})[layer], theirs(image, {layer})[layer]) < 1e-5
    gradients = []
    for encoder in (ours, theirs):
        pixels = image.clone().requires_grad_()
        sum(x.square().mean() for x in encoder(pixels, encoder.layers).values()).backward()
        gradients.append(pixels.grad)
    assert difference(*gradients) < 1e-4


@needs_ncnn
def test_other_types_are_torchs(generator: torch.Generator) -> None:
    image = torch.rand(1, 3, 16, 16, generator=generator).double()
    exact, ours = wide().double(), wide(kernels="winograd").double()
    assert torch.equal(ours(image, {"relu3_2"})["relu3_2"], exact(image, {"relu3_2"})["relu3_2"])
    assert not wide(kernels="winograd", precision="bfloat16").is_wide("relu3_1")


@needs_ncnn
def test_filters_are_made_again_for_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, image = wide(kernels="winograd"), torch.zeros(1, 3, 16, 16)
    made = []
    own = winograd.Convolution
    monkeypatch.setattr(winograd, "Convolution", lambda *x: made.append(x) or own(*x))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for _ in range(2):
        encoder(image, {"relu3_1"})
    assert len(made) == 2  # relu2_2 and relu3_1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    encoder(image, {"relu3_1"})
    assert len(made) == 4


@needs_ncnn
def test_the_same_bytes_twice(generator: torch.Generator) -> None:
    content, style = (torch.rand(1, 3, 32, 40, generator=generator) for _ in range(2))
    recipe = Recipe(
        size=40,
        scales="single",
        iterations=(4,),
        content_layers={"relu3_2": 1},
        style_layers={"relu2_1": 1, "relu3_1": 1},
        attention_layers={"relu3_1": 1},
    )
    first, second, torchs = (
        stylize(content, style, recipe, encoder=wide(kernels=name))
        for name in ("winograd", "winograd", "torch")
    )
    assert first.plan["kernels"] == "winograd"
    assert torchs.plan["kernels"] == "torch"
    assert torch.equal(first.image, second.image)
    assert difference(first.image, torchs.image) < 1e-2


@needs_ncnn
def test_auto_is_timed_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.platformdirs, "user_cache_dir", lambda *_: str(tmp_path / "new"))
    answers = iter(["winograd", "torch"])
    monkeypatch.setattr(kernels, "_timed", lambda encoder: next(answers))
    assert kernels.fastest(wide()) == "winograd"
    assert kernels.fastest(wide()) == "winograd"
    (kept,) = (tmp_path / "new").iterdir()
    kept.write_text("rubbish")
    assert kernels.fastest(wide()) == "torch"
    assert kept.read_text() == "torch"


@needs_ncnn
def test_timing_leaves_the_encoder_as_it_was() -> None:
    encoder = wide()
    assert kernels._timed(encoder) in ("torch", "winograd")
    assert encoder.kernels == "torch"
    assert encoder.transformed == {}


def test_auto_does_not_time_what_has_no_choice(
    tiny: VGG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.platformdirs, "user_cache_dir", lambda *_: str(tmp_path))
    monkeypatch.setattr(kernels, "_timed", lambda encoder: pytest.fail("timed"))
    assert kernels.fastest(tiny) == "torch"
    assert kernels.fastest(wide(precision="bfloat16")) == "torch"
    monkeypatch.setattr(winograd, "available", lambda: False)
    assert kernels.fastest(wide()) == "torch"


@pytest.mark.parametrize(
    ("name", "precision", "there", "line"),
    [
        ("fast", "float32", True, "unknown kernels 'fast'"),
        ("winograd", "bfloat16", True, "compute in float32 on a CPU, not in bfloat16 on cpu"),
        ("winograd", "float32", False, r'pip install "optistyle\[fast\]"'),
    ],
)
def test_kernels_that_cannot_be_had(
    name: str, precision: str, there: bool, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "available", lambda: there)
    with pytest.raises(InputError, match=line):
        kernels.check(name, precision, CPU)
    with pytest.raises(InputError):
        encoders.load("slim", kernels=name, precision=precision)


@needs_ncnn
def test_the_plan_counts_filters_and_workspace() -> None:
    recipe = Recipe(
        content_layers={"relu3_2": 1}, style_layers={"relu3_1": 1}, attention_layers={"relu3_1": 1}
    )
    used = frozenset({"relu3_1", "relu3_2", "image"})
    needs = plans.Needs.of(wide(), terms(recipe))
    ours, theirs = (
        plans.Demand(wide(kernels=name), used, needs=needs).bytes(256, 256)
        for name in ("winograd", "torch")
    )
    filters = 12 * 4 * 9 * (64 * 64 + 64 * 128 + 128 * 128)
    # relu2_2's 64 channels in and out, at 128x128, packed.
    workspace = 4 * 128 * 128 * 128
    assert ours - theirs == pytest.approx(filters + workspace + winograd.TILES, rel=1e-6)


@needs_ncnn
def test_tiles_are_the_whole(generator: torch.Generator) -> None:
    encoder, recipe = wide(kernels="winograd"), Recipe()
    image, style = (torch.rand(1, 3, 96, 120, generator=generator) for _ in range(2))
    layers = {"relu2_1": 1.0, "relu3_1": 1.0}
    recipe = Recipe(content_layers={"relu3_2": 1}, style_layers=layers, gamma=0)
    whole, tiled = (
        Objective.build(
            encoder, terms(recipe), (style, None), [(style, None)], [1.0], tile=tile
        ).gradient(image)[1]
        for tile in (None, 32)
    )
    assert difference(tiled, whole) < 1e-4


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_large_blocks_are_kept_and_given_back() -> None:
    program = """if True:
        import ctypes, json, platform, resource, torch
        from optistyle.machine import heap, memory
        from optistyle.run import demand as plans
        torch.set_num_threads(1)
        library = ctypes.CDLL(None)
        library.malloc.restype = ctypes.c_void_p
        library.free.argtypes = [ctypes.c_void_p]
        def plainly():
            block = library.malloc(2**26)
            ctypes.memset(block, 0, 2**26)
            library.free(block)
        def faults(use):  # at the least: what is kept may have been nibbled at once
            found = []
            for _ in range(5):
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                use()
                found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
            return min(found)
        before = faults(lambda: torch.zeros(2**24))
        told = heap.keep()
        after, obeyed = faults(lambda: torch.zeros(2**24)), faults(plainly)
        cpu = torch.device("cpu")
        held = memory.held(cpu)
        memory.free(cpu)
        back = held - memory.held(cpu)
        print(json.dumps([platform.libc_ver(), before, told, after, obeyed, back]))
    """
    # Where a program's blocks lie is chance: once in a while no use finds what the last one left.
    for _ in range(4):
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        library, before, told, after, obeyed, back = json.loads(run.stdout)
        if before > 10 * after:
            break
    if not told or 10 * obeyed > before:
        kept = f"mallopt {'accepted' if told else 'refused'}, {obeyed} faults of {before}"
        pytest.skip(f"{' '.join(library)} gives large blocks back all the same ({kept})")
    assert before > 10 * after  # 64 MB are up to 16384 pages
    assert back > 0.9 * 2**26
