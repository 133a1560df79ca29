"""Time to a result: the objective that the plain loop has after so many iterations.

The plain loop (`benchmarks.plain`) with a range term, from the content image, at a single scale;
its objective is taken without that term on the clamped picture. Ours runs on the same objective
(zero padding, gamma 0) until its clamped picture is as low by the same function; looking takes no
time.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import pairs, plain, record
from optistyle.encoders import load
from optistyle.recipes import Recipe
from optistyle.run import Run

#: Weight of the range term, on both sides.
STAY = Recipe().range


def until(run: Run, goal: float, objective: Any, every: int = 5) -> tuple[int | None, float]:
    """Iterations and seconds until the clamped picture is at the goal; None: it never is."""
    spent, started = 0.0, time.perf_counter()
    for count, step in enumerate(run, 1):
        spent += time.perf_counter() - started
        if count % every == 0 and step.losses["total"] < 1.1 * goal:
            with torch.no_grad():
                if float(objective(step.image)) <= goal:
                    return count, spent
        started = time.perf_counter()
    return None, math.inf


def goal_of(name: str, *images: Tensor, iterations: int) -> tuple[Tensor, float]:
    """The picture that the plain loop comes to, and the seconds that it takes."""
    encoder = load(name, padding="zeros")
    started = time.perf_counter()
    image, _ = plain.optimise(encoder, *images, iterations, STAY)
    return image, time.perf_counter() - started


def race(name: str, content: Tensor, style: Tensor, iterations: int) -> dict[str, Any]:
    """One pair, the plain loop first, by itself, then ours in float32 and in bfloat16."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as apart:
        run = apart.submit(goal_of, name, content, style, iterations=iterations)
        image, seconds = run.result()
    objective = plain.gatys(load(name, padding="zeros"), content, style)
    with torch.no_grad():
        goal = float(objective(image.clamp(0, 1)))
    row: dict[str, Any] = {"goal": goal, "plain": seconds}
    size = max(content.shape[-2:])
    for precision in ("float32", "bfloat16"):
        recipe = Recipe(
            gamma=0.0, scales="single", iterations=(2 * iterations,), size=size, padding="zeros"
        )
        own = load(name, padding="zeros", precision=precision)
        count, spent = until(Run(content, style, recipe, encoder=own), goal, objective)
        row |= {f"{precision}: iterations": count, f"{precision}: times sooner": seconds / spent}
    return row


def main(
    names: tuple[str, ...], size: int, iterations: int, count: int, folder: Path, own_pairs: bool
) -> None:
    found = pairs.own(size) if own_pairs else pairs.held_out(size)
    for name in names:
        rows = []
        for pair, (content, style) in list(found.items())[:count]:
            path = record.place(folder, name, size, iterations, pair)
            facts = {"pair": pair, "encoder": name, "px": size}
            raced = partial(race, name, content, style, iterations)
            rows.append(record.kept(path, facts, raced))
        print(record.listed(rows))
        print(record.save(f"race-{name}-{size}", rows))
