"""What a training shows: plain lines now and then, a bar on a terminal."""

from __future__ import annotations

import io

import pytest

from optistyle.training import progress
from optistyle.training.progress import Progress


def test_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step, then every 30 seconds, and the last."""
    clock = iter([0, *(10 * k for k in range(1, 9))])
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    stream = io.StringIO()
    with Progress(10, 2, stream=stream) as shown:
        for k in range(8):
            shown.step({"content": 1 / 3, "style": 2.0 * k})
    assert stream.getvalue().splitlines() == [
        "step 3/10  content 0.333  style 0  10 s, 70 s left",
        "step 7/10  content 0.333  style 8  50 s, 30 s left",
        "step 10/10  content 0.333  style 14  80 s, 0 s left",
    ]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    with Progress(4, stream=stream) as shown:
        for _ in range(4):
            shown.step({"content": 0.5})
    assert "4/4" in stream.getvalue()
    assert "step" not in stream.getvalue()


def test_nothing_where_it_is_not_wanted() -> None:
    stream = io.StringIO()
    with Progress(1, shown=False, stream=stream) as shown:
        shown.step({"content": 0.5})
    assert stream.getvalue() == ""
