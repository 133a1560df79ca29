"""The library leaves the process as it finds it: random generators, threads, output, warnings."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_picture

from optistyle import Recipe, Run, baselines, encoders
from optistyle.encoders.vgg import VGG

IMPORTS = """
import importlib, pkgutil, random
import numpy as np
import torch

def state():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    generators = random.getstate(), (kind, keys.tolist(), *rest), torch.get_rng_state().tolist()
    return *generators, torch.get_num_threads(), torch.get_num_interop_threads()

import optistyle
before = state()
names = [m.name for m in pkgutil.walk_packages(optistyle.__path__, "optistyle.")]
names.remove("optistyle.__main__")
assert len(names) > 80
for name in names:
    importlib.import_module(name)
    assert state() == before, name
"""


def test_imports_draw_print_and_warn_nothing() -> None:
    command = [sys.executable, "-W", "error", "-c", IMPORTS]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def state() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    drawn = (kind, keys.tolist(), *rest), torch.get_rng_state().tolist()
    return random.getstate(), *drawn, torch.get_num_threads()


CALLS: dict[str, Callable[[VGG], object]] = {
    "encoders.load": lambda _: encoders.load("slim"),
    **{f"load {x}": lambda _, x=x: baselines.load(x) for x in ("adain", "sanet")},
    **{f"make {x}": lambda e, x=x: baselines.make(x, e) for x in ("adain", "sanet", "adaattn")},
    **{
        f"make {x}": lambda e, x=x: baselines.make(x, e, painting=make_picture(32, 32))
        for x in ("johnson", "adjustable")
    },
    "forecast": lambda e: Run(
        make_picture(32, 32), make_picture(32, 32, 1), Recipe(size=32), encoder=e
    ).forecast(),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_leave_the_global_generators_alone(
    name: str, tiny: VGG, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for a moment: another thread may draw from them."""
    for setter in ("manual_seed", "set_rng_state", "seed"):
        monkeypatch.setattr(torch, setter, lambda *_: pytest.fail("the global generator is set"))
        monkeypatch.setattr(torch.random, setter, getattr(torch, setter))
    before = state()
    CALLS[name](tiny)
    assert state() == before
