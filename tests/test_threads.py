"""Two runs in one process: each gives what it gives alone, and leaves the process as it was."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from optistyle.encoders.vgg import VGG
from optistyle.recipes import Recipe
from optistyle.run import Run

Make = Callable[..., Tensor]
ONE = Recipe(scales=(32, 48), iterations=(8, 6))
TWO = Recipe(scales=(40, 56), iterations=(6, 6), gamma=0.0, optimizer="adam", init="noise")


def painted(recipe: Recipe, tiny: VGG, picture: Make, together: threading.Barrier) -> Tensor:
    run = Run(picture(40, 60, 1), picture(50, 44, 2), recipe, encoder=tiny)
    together.wait()
    run.finish()
    return run.result().image


def test_two_runs_in_two_threads_give_the_bytes_that_they_give_alone(
    tiny: VGG, picture: Make
) -> None:
    alone = [painted(recipe, tiny, picture, threading.Barrier(1)) for recipe in (ONE, TWO)]
    together, found = threading.Barrier(2), dict[str, Tensor]()

    def work(recipe: Recipe) -> None:
        found[recipe.optimizer] = painted(recipe, tiny, picture, together)

    threads = [threading.Thread(target=work, args=(recipe,)) for recipe in (ONE, TWO)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(found["lbfgs"], alone[0])
    assert torch.equal(found["adam"], alone[1])


def test_a_run_leaves_the_process_as_it_was(tiny: VGG, picture: Make) -> None:
    def state() -> list[object]:
        return [
            torch.get_num_threads(),
            torch.get_rng_state().tolist(),
            str(np.random.get_state()),  # noqa: NPY002
            random.getstate(),
            list(warnings.filters),
            torch.is_grad_enabled(),
            torch.backends.cudnn.allow_tf32,
            sys.getrecursionlimit(),
        ]

    before = state()
    painted(ONE, tiny, picture, threading.Barrier(1))
    painted(TWO, tiny, picture, threading.Barrier(1))
    assert state() == before


def test_a_run_leaves_the_c_librarys_memory_policy_alone() -> None:
    """Blocks of 40 MB go back to the system at once, as by default: see `machine.heap.keep`."""
    program = """
import torch
from pathlib import Path
from optistyle import Recipe, Run

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

picture = torch.rand(1, 3, 32, 32)
recipe = Recipe(size=32, iterations=2, encoder="slim", device="cpu")
run = Run(picture, picture, recipe)
run.finish()
before = resident()
for _ in range(3):
    block = torch.ones(10_000_000)
    grown = resident() - before
    del block
print(grown > 30e6, resident() - before < 10e6)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"], done.stderr
