"""Seconds per iteration against the plain loop, and the default run as a user starts it."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from benchmarks import pairs, plain, record
from optistyle.encoders import load
from optistyle.encoders.vgg import VGG
from optistyle.pictures import encode
from optistyle.recipes import Recipe
from optistyle.run import stylize
from optistyle.run.observers import Observer, Step


@functools.cache
def encoder_of(name: str, precision: str = "float32") -> VGG:
    return load(name, precision=precision)


def pair(size: int) -> tuple[Tensor, Tensor]:
    return (
        pairs.centre_square(pairs.photograph("astronaut"), size),
        pairs.centre_square(pairs.painting("swirls"), size),
    )


def theirs(name: str, size: int, iterations: int) -> float:
    """Seconds per iteration of the plain loop."""
    return plain.optimise(encoder_of(name), *pair(size), iterations)[1]


def ours(name: str, precision: str, gamma: float, size: int, iterations: int) -> float:
    """Seconds per iteration of our single-scale loop, targets not counted."""
    recipe = Recipe(gamma=gamma, scales="single", iterations=(iterations,), size=size)
    times: list[float] = []

    class Clock(Observer):
        def stepped(self, step: Step) -> None:
            times.append(time.perf_counter())

    stylize(
        *pair(size),
        recipe,
        encoder=encoder_of(name, precision),
        observers=[Clock()],
        progress=False,
    )
    return (times[-1] - times[0]) / (len(times) - 1)


#: Name -> encoder and, for ours, precision and gamma.
CONTENDERS: dict[str, tuple[str, str | None, float]] = {
    "plain VGG-19": ("vgg19", None, 0.0),
    "plain slim": ("slim", None, 0.0),
    "VGG-19, gamma 0": ("vgg19", "float32", 0.0),
    "VGG-19": ("vgg19", "float32", 6e6),
    "VGG-19, bfloat16": ("vgg19", "bfloat16", 6e6),
    "slim, gamma 0": ("slim", "float32", 0.0),
    "slim": ("slim", "float32", 6e6),
    "slim, bfloat16": ("slim", "bfloat16", 6e6),
}


def per_iteration(
    sizes: tuple[int, ...], rounds: int, contenders: Sequence[str] = tuple(CONTENDERS)
) -> list[dict[str, Any]]:
    """All loops in turn, as often as ``rounds`` says, on the same machine in the same minute.

    Every one has a process of its own, whose peak of memory is its own, too, and in which how ours
    has the C library treat memory is nothing to the others.
    """
    spawn, rows = multiprocessing.get_context("spawn"), []
    for size in sizes:
        for _ in range(rounds):
            for label in contenders:
                with ProcessPoolExecutor(1, mp_context=spawn) as apart:
                    seconds, peak = apart.submit(_timed, label, size).result()
                rows.append({"px": size, "loop": label, "seconds": seconds, "GB": peak / 1e9})
                print(rows[-1], flush=True)
    return rows


def _timed(label: str, size: int) -> tuple[float, int]:
    """Seconds per iteration, and bytes of this program at its peak."""
    name, precision, gamma = CONTENDERS[label]
    count = (4 if size > 256 else 8) * (1 if name == "vgg19" else 4)
    if precision is None:
        return theirs(name, size, count), record.peak()
    return ours(name, precision, gamma, size, count), record.peak()


def start(arguments: Sequence[str]) -> tuple[float, int]:
    """Seconds of ``optistyle`` from start to end, as a user starts it, and bytes at its peak.

    Started from a small process: in the peak is what the one that starts it takes.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as apart:
        return apart.submit(_started, arguments).result()


def _started(arguments: Sequence[str]) -> tuple[float, int]:
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
    return {"encoder": encoder, "px": size, "seconds": seconds, "GB": peak / 1e9}


def main(sizes: tuple[int, ...], rounds: int, vgg_run: bool) -> None:
    rows = per_iteration(sizes, rounds)
    astronaut, names = pairs.photograph("astronaut"), ["slim", "vgg19"] if vgg_run else ["slim"]
    runs = [default_run(encoder, astronaut) for encoder in names]
    found = {
        "iterations": rows,
        "ratios": ratios(rows),
        "runs": runs,
    }
    for name in ("ratios", "runs"):
        table = found[name]
        print(record.listed(table), end="\n\n")
    print(record.save("speed", found))


def ratios(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Medians over rounds: of seconds, of how many times as fast as the plain loop on the same
    weights in the same round, and of memory."""
    lines = []
    for size, loop in dict.fromkeys((row["px"], row["loop"]) for row in rows):
        base = "plain slim" if "slim" in loop else "plain VGG-19"
        own, plainly = (
            [row for row in rows if (row["px"], row["loop"]) == (size, x)] for x in (loop, base)
        )
        found = [y["seconds"] / x["seconds"] for x, y in zip(own, plainly, strict=True)]
        lines.append(
            {
                "px": size,
                "loop": loop,
                "s / iteration": median(row["seconds"] for row in own),
                "times as fast as the plain loop": median(found),
                "spread": f"{min(found):.2f} to {max(found):.2f}",
                "GB": median(row["GB"] for row in own),
            }
        )
    return lines
