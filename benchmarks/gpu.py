"""What a GPU makes of it: whole optimisations in seconds, and how much of the chip they use.

The chip's rate is that of one large matrix product. An iteration's operations are those of its
convolutions, to relu5_1 and back to the pixels; Gram matrices and the solver come on top, and are
not counted. The plain loop runs as torch comes, which is in TensorFloat-32, in turn with ours.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import pairs, plain, record, speed
from optistyle.encoders import load
from optistyle.encoders.procedural import calibration_images
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.errors import InputError
from optistyle.layers import CHANNELS, RELUS, halvings
from optistyle.machine import devices
from optistyle.optimise.objective import Objective
from optistyle.recipes import Recipe
from optistyle.run import Run, terms

#: Of the first picture, whose multiples the others are; and of how many iterations.
SIZE, ITERATIONS = 512, 500
#: Rounds at each multiple of the size.
ROUNDS = {1: 3, 4: 1}
#: Every so many iterations of ours, one of the plain loop, whose iterations take the same time.
FEWER = 10
#: The largest picture's side, in sizes, and its iterations.
LARGEST, FEW = 16, 2


def vgg19(precision: str, device: torch.device) -> VGG:
    """The real VGG-19, or one of random weights where that is not installed."""
    try:
        return load("vgg19", precision=precision, device=device)
    except InputError:
        generator, source, weights = torch.Generator().manual_seed(0), 3, {}
        for layer in RELUS:
            conv, width = f"conv{layer[4:]}", CHANNELS[layer]
            weights[f"{conv}.weight"] = (
                torch.randn(width, source, 3, 3, generator=generator) * (2 / (9 * source)) ** 0.5
            )
            weights[f"{conv}.bias"], source = torch.zeros(width), width
        encoder = VGG(weights, mean=torch.full((3,), 0.45), precision=precision, name="random")
        return normalise(encoder, mean_activations(encoder, calibration_images(2))).to(device)


def rate(device: torch.device, precision: str, side: int, rounds: int = 10) -> float:
    """Operations a second of a product of two square matrices, the best of so many."""
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    before, times = torch.get_float32_matmul_precision(), []
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        for _ in range(rounds + 1):
            started = plain.now(device)
            a @ b
            times.append(plain.now(device) - started)
    finally:
        torch.set_float32_matmul_precision(before)
    return 2 * side**3 / min(times[1:])


def operations(encoder: VGG, size: int) -> int:
    """Of one iteration on a square picture: a multiplication and an addition are two."""
    layers = {f"conv{x[4:]}": x for x in encoder.layers[: encoder.layers.index("relu5_1") + 1]}
    forward = 0
    for name, weights in encoder.convolutions().items():
        conv, _, part = name.partition(".")
        if conv in layers and part != "bias":
            forward += 2 * weights.numel() * (size >> halvings(layers[conv])) ** 2
    return 2 * forward


def ours(
    encoder: VGG, content: Tensor, style: Tensor, recipe: Recipe
) -> tuple[Run, dict[str, Any]]:
    """A run that has ended, its seconds without its targets and with them, and the GPU's memory.

    Without: all iterations at the pace of those after the first ten, or after the first half.
    """
    device = encoder.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run = Run(content, style, recipe, encoder=encoder)
    times = [plain.now(device)]
    for _ in run:
        times.append(time.perf_counter())
    times[-1] = plain.now(device)
    count = len(times) - 1
    first = min(10, count // 2)
    return run, {
        "seconds": (times[-1] - times[first]) / (count - first) * count,
        "with targets": times[-1] - times[0],
        "GB": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0,
    }


def loops(
    encoders: Mapping[str, VGG], px: int, iterations: int, rounds: int, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Each precision and the plain loop in turn: medians of whole optimisations."""
    content, style = pictures(px)
    recipe = Recipe(scales="single", iterations=(iterations,), size=px)
    found: dict[str, list[dict[str, Any]]] = {precision: [] for precision in encoders}
    theirs = []
    for _ in range(rounds):
        for precision, encoder in encoders.items():
            found[precision].append(ours(encoder, content, style, recipe)[1])
        base = encoders["float32"]
        inputs = (x.to(base.device) for x in (content, style))
        theirs.append(iterations * plain.optimise(base, *inputs, max(2, iterations // FEWER))[1])
    rows = []
    for precision, encoder in encoders.items():
        row = {name: median(x[name] for x in found[precision]) for name in found[precision][0]}
        achieved = operations(encoder, px) * iterations / row["seconds"]
        rows.append(
            {
                "px": px,
                "precision": precision,
                "iterations": iterations,
                **row,
                "plain": median(theirs),
                "times as fast": median(
                    b / a["seconds"] for a, b in zip(found[precision], theirs, strict=True)
                ),
                "TFLOP/s": achieved / 1e12,
                "of the chip's": achieved / rates[precision],
            }
        )
        print(rows[-1], flush=True)
    return rows


def errors(encoders: Mapping[str, VGG], px: int, iterations: int) -> list[dict[str, Any]]:
    """|g - g'| / |g| against float32's gradient, and of the graph's against the plain call's."""
    content, style = pictures(px)
    recipe = Recipe(scales="single", iterations=(iterations,), size=px)
    late = ours(encoders["float32"], content, style, recipe)[0].result().image
    rows: list[dict[str, Any]] = []
    exact: dict[str, Tensor] = {}
    for precision, encoder in encoders.items():
        start, end, painting = (x.to(encoder.device) for x in (content, late, style))
        objective = Objective.build(
            encoder, terms(recipe), (start, None), [(painting, None)], [1.0]
        )
        row: dict[str, Any] = {"px": px, "precision": precision}
        for label, image in (("at the start", start), (f"after {iterations}", end)):
            gradient = objective.gradient(image)[1]
            row[label] = distance(exact.setdefault(label, gradient), gradient)
        look = objective.gradients()
        replayed = [look(image)[1] for image in (start, start, end)][-1]
        rows.append({**row, "graph": distance(gradient, replayed)})
    return rows


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / a.norm())


def largest(encoder: VGG, size: int) -> dict[str, Any]:
    """A few iterations of a picture that takes tiles, as they are planned."""
    recipe = Recipe(scales="single", iterations=(FEW,), size=LARGEST * size)
    run, row = ours(encoder, *pictures(size), recipe)
    return {
        "px": LARGEST * size,
        "precision": encoder.precision,
        "tile": run.plan.fit.tile or "whole",
        "history": run.plan.fit.history,
        "planned GB": run.plan.fit.bytes / 1e9,
        "iterations": FEW,
        **row,
    }


def pictures(px: int) -> tuple[Tensor, Tensor]:
    """Content and style, (1, 3, px, px); both paintings, which come with the repository."""
    content, style = (pairs.centre_square(pairs.painting(x), px) for x in ("garden", "swirls"))
    return content, style


def main(device: str = "cuda", size: int = SIZE, iterations: int = ITERATIONS) -> None:
    place = torch.device(device)
    encoders = {
        precision: vgg19(precision, place)
        for precision in devices.PRECISIONS
        if devices.computes(place, precision)
    }
    rates = {precision: rate(place, precision, 16 * size) for precision in encoders}
    name = encoders["float32"].name
    found = {
        "weights": name,
        "rates": [{"precision": k, "TFLOP/s": x / 1e12} for k, x in rates.items()],
        "loops": [
            row
            for multiple, rounds in ROUNDS.items()
            for row in loops(encoders, multiple * size, iterations, rounds, rates)
        ],
        "errors": errors(encoders, size, iterations),
        "largest": [largest(encoder, size) for encoder in encoders.values()],
        "run": [speed.default_run("slim" if name == "random" else "vgg19", pictures(512)[0], size)],
    }
    for rows in found.values():
        if isinstance(rows, list):
            print(record.listed(rows), end="\n\n")
    print(record.save("gpu", found))
