"""How long judging takes: self-similarity of a pair, and the evaluation of existing outputs.

The evaluation is report 000's: 43 contents in 20 styles, 860 outputs of 512 px, by the command
``optistyle compare --outputs`` with its default metrics, start-up and report included. Contents are
cut-outs of scikit-image's photographs; outputs are a handful of mixtures under all the names.
"""

from __future__ import annotations

import resource
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
from optistyle.metrics.self_similarity import self_similarity
from optistyle.pictures import resize, write

SIZE = 512
CONTENTS, STYLES, OUTPUTS = 43, 20, 8
PHOTOGRAPHS, PAINTINGS = ("astronaut", "chelsea", "coffee", "rocket"), ("swirls", "cubist", "ink")


def pair_seconds(size: int, rounds: int) -> dict[str, float]:
    """Medians of self-similarity with contents that were not seen before."""
    passed, worked = [], []
    for index in range(rounds + 1):
        content = cut_out(index, size)
        output = content.lerp(pairs.centre_square(pairs.painting("swirls"), size), 0.3)
        started, worked_before = time.perf_counter(), time.process_time()
        self_similarity(output, content)
        passed.append(time.perf_counter() - started)
        worked.append(time.process_time() - worked_before)
    # The first one warms up.
    return {
        "rounds": rounds,
        "size": size,
        "seconds": float(np.median(passed[1:])),
        "processor seconds": float(np.median(worked[1:])),
    }


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
        started, worked_before = time.perf_counter(), _worked()
        subprocess.run(command, cwd=folder, check=True)
        seconds, worked = time.perf_counter() - started, _worked() - worked_before
        done = len(list((folder / "report" / "rows").glob("*/*.json")))
    if done != count:
        raise RuntimeError(f"{done} of {count} pairs were judged")
    return {
        "pairs": count,
        "size": size,
        "metrics": list(USUAL),
        "seconds": seconds,
        "processor seconds": worked,
        "minutes for 860 at this rate": seconds / count * every / 60,
    }


def _worked() -> float:
    """Processor seconds of the commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(count: int, rounds: int, size: int = SIZE) -> None:
    alone, found = pair_seconds(size, rounds), evaluation(count, size)
    print(
        f"self-similarity at {size} px: {alone['seconds']:.2f} s a pair "
        f"({alone['processor seconds']:.2f} of a processor), median of {rounds}"
    )
    whole = found["pairs"] == CONTENTS * STYLES
    print(
        f"optistyle compare --outputs, {', '.join(USUAL)}: {found['pairs']} pairs in "
        f"{found['seconds']:.0f} s ({found['processor seconds']:.0f} of a processor); "
        f"{found['minutes for 860 at this rate']:.1f} minutes "
        + ("measured" if whole else "for 860 at this rate, start-up included")
    )
    print(record.save("metrics", {"self-similarity": alone, "evaluation": found}))
