"""How threads of OpenMP wait for each other: how long they spin before they sleep.

It imports nothing large: OpenMP reads these variables once, when torch is loaded.
"""

from __future__ import annotations

import os

#: What a user may have set: then everything stays as it is.
_OTHERS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
#: GNU's OpenMP, which torch and ncnn bring on Linux: turns of the waiting loop. LLVM's and Intel's:
#: milliseconds.
_BOUNDS = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}


def bound() -> None:
    """Have threads sleep after about 0.2 ms of waiting, in this process and those that it starts.

    By default they spin for 5 ms (GNU) or 200 ms (LLVM and Intel), which takes the processor from
    the very thread that they wait for where another program computes: see docs/speed.md, *Beside
    other programs*. Sleeping at once costs slim a third more time on an idle machine.

    Call it before torch is loaded. Where the user has set any of these variables, nothing changes.
    """
    if not any(name in os.environ for name in _OTHERS):
        os.environ.update(_BOUNDS)
