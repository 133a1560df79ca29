"""How long threads spin is bounded by the command line, and by nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
#: The start of the command line, with a command that tells what it meets.
COMMAND = """
import json, os, sys, types
from optistyle.__main__ import start
told = lambda: print(json.dumps([dict(os.environ), "torch" in sys.modules]))
sys.modules["optistyle.cli"] = types.SimpleNamespace(main=told)
start()
"""
LIBRARY = """
import json, os, sys
import optistyle.run
print(json.dumps([dict(os.environ), "torch" in sys.modules]))
"""


def variables(program: str, **settings: str) -> tuple[dict[str, str], bool]:
    """What the program leaves in the environment of these, and whether torch is loaded then."""
    environment = {name: text for name, text in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    found, loaded = json.loads(done.stdout)
    return {name: found[name] for name in NAMES if name in found}, loaded


def test_the_command_line_bounds_it_before_torch_is_loaded() -> None:
    found, loaded = variables(COMMAND)
    assert found == {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
    assert not loaded


@pytest.mark.parametrize("name", NAMES)
def test_what_the_user_has_set_stays(name: str) -> None:
    setting = {name: "active" if name == "OMP_WAIT_POLICY" else "200"}
    assert variables(COMMAND, **setting) == (setting, False)


def test_the_library_leaves_the_environment_alone() -> None:
    assert variables(LIBRARY) == ({}, True)
