"""How long judging takes: self-similarity of a pair, and the evaluation of existing outputs.

The evaluation is report 000's: 43 contents in 20 styles, 860 outputs of 512 px, by the command
``optistyle compare --outputs`` with its default metrics, start-up and report included. Contents are
cut-outs of scikit-image's photographs; outputs are a handful of mixtures under all the names.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks import pairs, record
from optistyle.experiments.compare import USUAL
from optistyle.images import resize, write
from optistyle.metrics.self_similarity import self_similarity

SIZE = 512
CONTENTS, STYLES, OUTPUTS = 43, 20, 8
PHOTOGRAPHS, PAINTINGS = ("astronaut", "chelsea", "coffee", "rocket"), ("swirls", "cubist", "ink")


def pair_seconds(size: int, rounds: int) -> list[float]:
    """Of self-similarity with a content that was not seen before, as often as ``rounds`` says."""
    seconds = []
    for index in range(rounds + 1):
        content = cut_out(index, size)
        output = content.lerp(pairs.centre_square(pairs.painting("swirls"), size), 0.3)
        started = time.perf_counter()
        self_similarity(output, content)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]  # the first one warms up


def cut_out(index: int, size: int) -> Tensor:
    """(1, 3, size, size): a part of a photograph, another one for every index."""
    image = pairs.photograph(PHOTOGRAPHS[index % len(PHOTOGRAPHS)])
    side = min(image.shape[-2:]) - 16
    at = index // len(PHOTOGRAPHS)
    return resize(image[..., at : at + side, at : at + side], (size, size))


def lay_out(folder: Path, size: int) -> None:
    """Folders ``contents``, ``styles`` and ``outputs``; what has the same pixels is linked."""
    for name in ("contents", "styles", "outputs", "made"):
        (folder / name).mkdir()
    looks = [pairs.centre_square(pairs.painting(name), size) for name in PAINTINGS]
    for index in range(CONTENTS):
        write(folder / "contents" / f"content{index}.png", cut_out(index, size))
    for index in range(STYLES):
        shifted = looks[index % len(looks)].roll(index, dims=-1)
        write(folder / "styles" / f"style{index}.png", shifted)
    for index in range(OUTPUTS):
        mixture = cut_out(index, size).lerp(looks[index % len(looks)], 0.4)
        write(folder / "made" / f"{index}.png", mixture)
    for c in range(CONTENTS):
        for s in range(STYLES):
            made = folder / "made" / f"{(c * STYLES + s) % OUTPUTS}.png"
            (folder / "outputs" / f"content{c}_style{s}.png").hardlink_to(made)


def evaluation(count: int, size: int) -> dict[str, Any]:
    """Seconds of the command on so many of the pairs, and what all of them take at that rate."""
    every = CONTENTS * STYLES
    count = min(count, every)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder, size)
        command = [sys.executable, "-m", "optistyle", "compare", "contents", "styles", "-q"]
        command += ["--outputs", "these=outputs", "-o", "report", "--sample", str(count)]
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True)
        seconds = time.perf_counter() - started
        done = len(list((folder / "report" / "rows").glob("*/*.json")))
    if done != count:
        raise RuntimeError(f"{done} of {count} pairs were judged")
    return {
        "pairs": count,
        "size": size,
        "metrics": list(USUAL),
        "seconds": seconds,
        "minutes for 860 at this rate": seconds / count * every / 60,
    }


def main(count: int, rounds: int, size: int = SIZE) -> None:
    seconds = pair_seconds(size, rounds)
    print(f"self-similarity at {size} px: {np.median(seconds):.2f} s a pair, median of {rounds}")
    found = evaluation(count, size)
    minutes = found["minutes for 860 at this rate"]
    how = "measured" if found["pairs"] == CONTENTS * STYLES else "860 at this rate, start-up too"
    print(
        f"optistyle compare --outputs, {', '.join(USUAL)}: {found['pairs']} pairs in "
        f"{found['seconds']:.0f} s; {minutes:.1f} minutes ({how})"
    )
    print(record.save("metrics", {"self-similarity seconds": seconds, "evaluation": found}))
