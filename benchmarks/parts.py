"""What an iteration is made of: convolutions, memory, the solver, attention by layer, tiles.

Every measurement has a process of its own, whose peak memory is its own, too.
"""

from __future__ import annotations

import concurrent.futures
import math
import multiprocessing
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks import pairs, record
from optistyle import statistics
from optistyle.choices import MOST_KEYS
from optistyle.encoders import load, winograd
from optistyle.layers import CHANNELS, RELUS, halvings
from optistyle.losses.attention import pairing
from optistyle.losses.base import Reference
from optistyle.machine import heap
from optistyle.optimise.objective import Objective
from optistyle.optimise.solvers import LBFGS
from optistyle.recipes import Recipe
from optistyle.run import terms


def apart(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A measurement in a process of its own, with ``MB``: how far its memory grew at the most."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_measured, measure).result()


def _measured(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    load("slim")  # what the libraries take is there before
    before = record.peak()
    found = measure()
    return {**found, "MB": (record.peak() - before) / 1e6}


def _seconds(work: Callable[[], object], rounds: int) -> float:
    """The best of so many, after one that does not count."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def gradient(name: str, size: int, tile: int | None, rounds: int = 3) -> dict[str, Any]:
    """Seconds of losses and gradient, whole or in tiles."""
    encoder, recipe = load(name), Recipe()
    content = pairs.centre_square(pairs.photograph("astronaut"), size)
    style = pairs.centre_square(pairs.painting("swirls"), size)
    objective = Objective.build(
        encoder, terms(recipe), (content, None), [(style, None)], [1.0], tile=tile
    )
    seconds = _seconds(lambda: objective.gradient(content), rounds)
    return {"encoder": name, "px": size, "tile": tile or "whole", "seconds": seconds}


def allocator(name: str, size: int, kept: bool, rounds: int = 3) -> dict[str, Any]:
    """Seconds and page faults of losses and gradient, where freed memory is kept or given back."""
    if kept:
        heap.keep()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    row = gradient(name, size, None, rounds)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {
        "encoder": name,
        "px": size,
        "freed memory": "kept" if kept else "given back",
        "seconds": row["seconds"],
        "page faults, all": faults,
    }


def convolution(layer: str, size: int, rounds: int = 5) -> dict[str, Any]:
    """Seconds of one of VGG-19's layers and its derivative, torch's and Winograd's."""
    generator = torch.Generator().manual_seed(0)
    inputs, outputs = (CHANNELS[x] for x in (RELUS[RELUS.index(layer) - 1], layer))
    side = size >> halvings(layer)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / (9 * inputs) ** 0.5
    weight = weight.contiguous(memory_format=torch.channels_last)
    x = torch.randn(1, inputs, side, side, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    bias = torch.zeros(outputs)
    ways = {
        "torch": lambda x: F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), weight, bias)),
        "Winograd": winograd.Convolution(weight, bias, "reflect"),
    }
    heap.keep()
    best = dict.fromkeys(ways, math.inf)
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            found = way(x)
            torch.autograd.grad(found, x, found.detach())
            best[name] = min(best[name], time.perf_counter() - started)
    return {
        "layer": layer,
        "channels": f"{inputs} to {outputs}",
        "px": side,
        **best,
        "times as fast": best["torch"] / best["Winograd"],
    }


def solver(size: int, pairs_kept: int, rounds: int = 3) -> dict[str, Any]:
    """Seconds of one step of L-BFGS with a full history."""
    generator = torch.Generator().manual_seed(0)
    method = LBFGS(memory=0, least=pairs_kept)
    image = torch.rand(1, 3, size, size, generator=generator)
    curvature = torch.logspace(-5, 0, image.numel()).view_as(image)
    state = method.start(image)
    for _ in range(pairs_kept + 2):
        image, state = method.step(image, curvature * image, state)
    slope = curvature * image
    seconds = _seconds(lambda: method.step(image, slope, state), rounds)
    return {"px": size, "history": int(state["valid"].sum()), "seconds": seconds}


def attention(name: str, layer: str, size: int) -> dict[str, Any]:
    """Seconds of the style gathered to the content's positions at a layer."""
    encoder = load(name)
    content, style = (
        Reference(encoder(pairs.centre_square(image, size), {layer}))
        for image in (pairs.photograph("astronaut"), pairs.painting("swirls"))
    )
    started = time.perf_counter()
    statistics.attend(**pairing(content, style, layer), most=MOST_KEYS)
    return {"encoder": name, "layer": layer, "px": size, "seconds": time.perf_counter() - started}


def main(names: tuple[str, ...]) -> None:
    names_of = ("tiles", "solver", "attention", "allocator", "convolutions")
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in names_of}
    for name in names:
        for size, tile in ((512, None), (1024, None), (1024, 256), (1024, 512)):
            tables["tiles"].append(apart(partial(gradient, name, size, tile)))
        for layer, size in (("relu4_1", 512), ("relu3_1", 512), ("relu2_1", 512)):
            tables["attention"].append(apart(partial(attention, name, layer, size)))
    for size, kept in ((512, 10), (512, 39), (1024, 10)):
        tables["solver"].append(apart(partial(solver, size, kept)))
    for name in ("slim", "vgg19"):
        for kept in (False, True):
            tables["allocator"].append(apart(partial(allocator, name, 512, kept)))
    if winograd.available():
        for layer in (
            "relu1_2",
            "relu2_1",
            "relu2_2",
            "relu3_1",
            "relu3_2",
            "relu4_1",
            "relu4_2",
            "relu5_1",
        ):
            tables["convolutions"].append(apart(partial(convolution, layer, 512)))
    for rows in filter(None, tables.values()):
        print(record.listed(rows), end="\n\n")
    print(record.save("parts", tables))
