"""What a training shows while it runs."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import TextIO

from tqdm import tqdm

#: Seconds between two plain lines.
_EVERY = 30.0
#: Losses that are shown: a line has no room for the slim encoder's sixteen.
_SHOWN = 5


class Progress:
    """Step, losses and time left: a bar on a terminal, elsewhere a plain line every 30 seconds.

    Args:
        total: steps of the training. first: how many were done before.
        shown: False shows nothing.
        stream: where to write; stderr by default.
    """

    def __init__(
        self, total: int, first: int = 0, *, shown: bool = True, stream: TextIO | None = None
    ) -> None:
        stream = stream or sys.stderr
        self._total, self._first, self._step = total, first, first
        self._begun, self._written = time.monotonic(), -math.inf
        bar = shown and stream.isatty()
        self._stream = stream if shown and not bar else None
        self._bar = tqdm(total=total, initial=first, file=stream, disable=not bar)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def step(self, losses: Mapping[str, float]) -> None:
        """Count a step, with its losses by name."""
        self._step += 1
        spelled = {name: f"{x:.3g}" for name, x in list(losses.items())[:_SHOWN]}
        self._bar.set_postfix(spelled, refresh=False)
        self._bar.update()
        now = time.monotonic()
        last = self._step == self._total
        if self._stream is None or not (last or now - self._written > _EVERY):
            return
        self._written = now
        each = (now - self._begun) / (self._step - self._first)
        shown = "  ".join(f"{name} {x}" for name, x in spelled.items())
        print(
            f"step {self._step}/{self._total}  {shown}  {now - self._begun:.0f} s, "
            f"{each * (self._total - self._step):.0f} s left",
            file=self._stream,
            flush=True,
        )
