"""Seconds per iteration against the plain loop, and the default run as a user starts it."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks import pairs, plain, record
from optistyle.encoders import load
from optistyle.encoders.vgg import VGG
from optistyle.images import encode
from optistyle.objective import Objective
from optistyle.observers import Observer, Step
from optistyle.recipes import Recipe
from optistyle.run import stylize, terms


def ours(encoder: VGG, content: Tensor, style: Tensor, iterations: int, gamma: float) -> float:
    """Seconds per iteration of our single-scale loop, targets not counted."""
    size = content.shape[-1]
    recipe = Recipe(gamma=gamma, scales="single", iterations=(iterations,), size=size)
    times: list[float] = []

    class Clock(Observer):
        def stepped(self, step: Step) -> None:
            times.append(time.perf_counter())

    stylize(content, style, recipe, encoder=encoder, observers=[Clock()])
    return (times[-1] - times[0]) / (len(times) - 1)


def per_iteration(sizes: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """All loops in turn, as often as ``rounds`` says, on the same machine in the same minute.

    Each of ours stands against the plain loop on the same weights.
    """
    vgg, slim = load("vgg19"), load("slim")
    contenders = {
        "VGG-19, gamma 0": (vgg, 0.0),
        "VGG-19": (vgg, 6e6),
        "VGG-19, bfloat16": (load("vgg19", precision="bfloat16"), 6e6),
        "slim, gamma 0": (slim, 0.0),
        "slim": (slim, 6e6),
        "slim, bfloat16": (load("slim", precision="bfloat16"), 6e6),
    }
    rows = []
    for size in sizes:
        content = pairs.centre_square(pairs.photograph("astronaut"), size)
        style = pairs.centre_square(pairs.painting("swirls"), size)
        few = 4 if size > 256 else 8
        for _ in range(rounds):
            row: dict[str, Any] = {"size": size}
            for kind, encoder in (("VGG-19", vgg), ("slim", slim)):
                count = few if encoder is vgg else 4 * few
                _, row[f"plain {kind}"] = plain.optimise(encoder, content, style, count)
            for name, (encoder, gamma) in contenders.items():
                count = few if name.startswith("VGG") else 4 * few
                row[name] = ours(encoder, content, style, count, gamma)
            rows.append(row)
            print(row, flush=True)
    return rows


def gradient_errors(size: int, iterations: int = 60) -> list[dict[str, Any]]:
    """|g - g'| / |g| of bfloat16's gradient, at the content and where an optimisation has come."""
    content = pairs.centre_square(pairs.photograph("astronaut"), size)
    style = pairs.centre_square(pairs.painting("swirls"), size)
    recipe = Recipe(scales="single", iterations=(iterations,), size=size)
    rows = []
    for name in ("vgg19", "slim"):
        exact, fast = load(name), load(name, precision="bfloat16")
        late = stylize(content, style, recipe, encoder=exact).image
        row: dict[str, Any] = {"encoder": name, "size": size}
        for label, image in (("at the start", content), (f"after {iterations}", late)):
            ours, theirs = (
                Objective.build(
                    encoder, terms(recipe), (content, None), [(style, None)], [1.0]
                ).gradient(image)[1]
                for encoder in (exact, fast)
            )
            row[label] = float((ours - theirs).norm() / ours.norm())
        rows.append(row)
    return rows


def start(arguments: Sequence[str]) -> tuple[float, int]:
    """Seconds of ``optistyle`` from start to end, as a user starts it, and bytes at its peak."""
    command = [sys.executable, "-m", "optistyle", *arguments]
    started = time.perf_counter()
    # Not `subprocess`, after whose vfork the peak of this very program counts.
    process = os.spawnv(os.P_NOWAIT, sys.executable, command)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed")
    return time.perf_counter() - started, usage.ru_maxrss * 1024


def default_run(encoder: str, photograph: Tensor, size: int = 512) -> dict[str, Any]:
    """Wall time and peak memory of ``optistyle run`` with its defaults, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        content, style = Path(folder) / "content.png", Path(folder) / "style.png"
        content.write_bytes(encode(photograph))
        style.write_bytes(encode(pairs.painting("swirls")))
        settings = ["--encoder", encoder, "--size", str(size), "-o", str(Path(folder) / "out.png")]
        seconds, peak = start(["run", str(content), str(style), "-q", *settings])
    return {"encoder": encoder, "size": size, "seconds": seconds, "MB": peak / 2**20}


def main(sizes: tuple[int, ...], rounds: int, vgg_run: bool) -> None:
    rows = per_iteration(sizes, rounds)
    astronaut, names = pairs.photograph("astronaut"), ["slim", "vgg19"] if vgg_run else ["slim"]
    runs = [default_run(encoder, astronaut) for encoder in names]
    found = {
        "iterations": rows,
        "ratios": ratios(rows),
        "errors": gradient_errors(min(sizes)),
        "runs": runs,
    }
    for name in ("ratios", "errors", "runs"):
        table = found[name]
        print(record.table(list(table[0]), [list(row.values()) for row in table]), end="\n\n")
    print(record.save("speed", found))


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of seconds, and of how many times as fast as the plain loop on the same weights."""
    lines = []
    for size in dict.fromkeys(row["size"] for row in rows):
        mine = [row for row in rows if row["size"] == size]
        for name in list(mine[0])[1:]:
            base = "plain slim" if "slim" in name else "plain VGG-19"
            found = [row[base] / row[name] for row in mine]
            lines.append(
                {
                    "px": size,
                    "loop": name,
                    "s / iteration": float(np.median([row[name] for row in mine])),
                    "times as fast as the plain loop": float(np.median(found)),
                    "spread": f"{min(found):.2f} to {max(found):.2f}",
                }
            )
    return lines
