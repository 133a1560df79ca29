"""The training loop on a task of three numbers: what it keeps, says and refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optistyle.errors import InputError
from optistyle.training import loop
from optistyle.training.progress import Progress

IDENTITY = {"model": "numbers", "seed": 0}


class Numbers(loop.Task):
    """Brings three numbers towards random ones of its own generator.

    Args:
        bad: losses, or gradients, by step that are not finite.
    """

    def __init__(self, bad: Mapping[int, str] | None = None) -> None:
        self.numbers = nn.Parameter(torch.zeros(3))
        self.parameters = [self.numbers]
        self.optimiser = torch.optim.Adam(self.parameters)
        self._generator = torch.Generator().manual_seed(0)
        self._bad = bad or {}
        self.samples: list[tuple[int, bool]] = []

    def rate(self, step: int) -> float:
        return 0.1 / (1 + step)

    def losses(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        goal = torch.rand(3, generator=self._generator)
        near = (self.numbers - goal).square().sum()
        loss = near
        if self._bad.get(step) == "loss":
            loss = loss * float("nan")
        if self._bad.get(step) == "gradient":
            loss = loss + (self.numbers.sum() * 0).sqrt()  # 0, of infinite slope
        return loss, {"near": near}

    def state(self) -> dict[str, Any]:
        return {"numbers": self.numbers.detach().clone(), "rng": self._generator.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.numbers.data.copy_(state["numbers"])
        self._generator.set_state(state["rng"])

    def after(self, done: int, last: bool) -> None:
        self.samples.append((done, last))


def train(task: Numbers, work: Path, total: int, **options: Any) -> Tensor:
    settings = {"checkpoint_every": 4, "clip": 1.0, "progress": False, **options}
    loop.run(task, work, total, settings.pop("identity", IDENTITY), **settings)
    return task.numbers.detach()


def test_a_training_in_two_parts_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole = train(Numbers(), tmp_path / "whole", 11)
    train(Numbers(), tmp_path / "parts", 6)
    task = Numbers()
    assert torch.equal(train(task, tmp_path / "parts", 11), whole)
    assert task.samples == [(7, False), (8, False), (9, False), (10, False), (11, True)]


@pytest.mark.parametrize(("what", "at"), [("loss", 5), ("gradient", 5), ("gradient", 7)])
def test_what_is_not_finite_ends_it_and_the_last_state_is_kept(
    what: str, at: int, tmp_path: Path
) -> None:
    """A gradient of step 7 that is not finite would be in the checkpoint of 8 steps."""
    task = Numbers({at: what})
    with pytest.raises(FloatingPointError, match=rf"the {what} is not finite at step {at}; .*good"):
        train(task, tmp_path, 12)
    assert task.numbers.isfinite().all()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    assert state["numbers"].isfinite().all()


def test_not_finite_before_the_first_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="at step 1; nothing is kept yet"):
        train(Numbers({1: "loss"}), tmp_path, 12)


def test_a_checkpoint_made_on_a_gpu_is_continued_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor in it says that it belongs on cuda:0."""
    whole = train(Numbers(), tmp_path / "whole", 8)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        train(Numbers(), tmp_path / "gpu", 4)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="map_location"):
            torch.load(tmp_path / "gpu" / "checkpoint.pt", weights_only=True)
    assert torch.equal(train(Numbers(), tmp_path / "gpu", 8), whole)


def test_another_trainings_checkpoint_is_refused_and_kept(tmp_path: Path) -> None:
    train(Numbers(), tmp_path, 2)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    for identity, name in (
        ({**IDENTITY, "seed": 1}, "seed"),
        ({"model": "numbers"}, "seed"),
        ({**IDENTITY, "more": 1}, "more"),
    ):
        with pytest.raises(InputError, match=f"another {name}; use another folder"):
            train(Numbers(), tmp_path, 4, identity=identity)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


@pytest.mark.parametrize("content", [b"", b"broken", None])
def test_a_broken_checkpoint_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is None:  # a good file of something else
        torch.save({"step": 3}, tmp_path / "checkpoint.pt")
    else:
        (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read; delete it to start over"):
        train(Numbers(), tmp_path, 4)


def test_a_checkpoint_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(Numbers(), tmp_path, 4)
    kept = (tmp_path / "checkpoint.pt").read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        train(Numbers(), tmp_path / ".", 8)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    assert not list(tmp_path.glob(".*.tmp"))


def test_the_log_has_the_means(tmp_path: Path) -> None:
    log = loop.Log(tmp_path / "log.jsonl")
    for step in range(1, 151):
        log.add(step, {"a": float(step)}, last=step == 150)
    first, second = loop.read_log(tmp_path / "log.jsonl")
    assert (first["step"], first["a"]) == (100, 50.5)
    assert (second["step"], second["a"]) == (150, 125.5)


def test_a_step_is_logged_once_however_often_it_is_taken(tmp_path: Path) -> None:
    """Lines behind the checkpoint, and one that was cut short, are of steps that are done again."""
    path = tmp_path / "log.jsonl"
    lines = [json.dumps({"step": step, "seconds": 1, "near": 0.5}) for step in (100, 200, 300)]
    path.write_text("\n".join([*lines, '{"step": 40']), encoding="utf-8")
    loop.Log(path, first=200)
    assert [line["step"] for line in loop.read_log(path)] == [100, 200]


# --- progress ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_with_the_losses() -> None:
    stream = Terminal()
    with Progress(4, 1, stream=stream) as shown:
        for _ in range(3):
            shown.step({"near": 0.123456})
    text = stream.getvalue()
    assert "4/4" in text
    assert "near=0.123" in text
    assert text.count("\r") > 1


def test_elsewhere_there_are_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """At once, every half minute and at the end."""
    train(Numbers(), tmp_path, 20, progress=True)
    out, err = capsys.readouterr()
    first, last = err.splitlines()
    assert first.startswith("step 1/20  near ")
    assert last.startswith("step 20/20  near ")
    assert last.endswith(" s, 0 s left")
    assert (out, "\r" in err) == ("", False)


def test_progress_may_be_off(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    train(Numbers(), tmp_path, 2)
    assert capsys.readouterr() == ("", "")
