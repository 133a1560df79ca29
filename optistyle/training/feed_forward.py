"""Train a feed-forward model: seeded, resumable to the bit; NaN ends it, the last state kept."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optistyle import files, pictures
from optistyle.baselines.base import Baseline
from optistyle.errors import InputError
from optistyle.pictures import plots
from optistyle.training.distil import Crops, training_files
from optistyle.training.progress import Progress

log = logging.getLogger(__name__)

#: Fewer pictures than this are a mistake.
FEWEST = 8
_CLOCK = ("step", "seconds")


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        warm_up_steps: of giving images back, before there is any style.
        steps: of stylisation. The published 160 000 are out of a CPU's reach.
        crop: in px, at most the pictures' shorter sides.
        learning_rate: of Adam at first; at the end a twentieth of it, along a cosine.
    """

    warm_up_steps: int = 1500
    steps: int = 4000
    batch: int = 8
    crop: int = 128
    learning_rate: float = 1e-3
    seed: int = 0
    checkpoint_every: int = 200
    sample_every: int = 500

    def __post_init__(self) -> None:
        for name in ("batch", "crop", "checkpoint_every", "sample_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if min(self.steps, self.warm_up_steps) < 0:
            raise InputError(f"steps {self.steps} and {self.warm_up_steps}: must be 0 or more")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if self.crop % 16 or self.crop < 32:
            raise InputError(f"crop is {self.crop}; it must be a multiple of 16, 32 or more")


def train(
    model: Baseline,
    contents: Sequence[Path],
    styles: Sequence[Path],
    work: Path,
    settings: Settings | None = None,
    *,
    held_out: Sequence[Path] = (),
    progress: bool = True,
) -> Baseline:
    """Train what a model learns, or go on from ``work/checkpoint.pt``.

    Writes there: the checkpoint, ``log.jsonl`` (mean losses), ``losses.png`` (where matplotlib is
    installed) and ``sample-STEP.jpg`` (contents, styles, outputs).

    Args:
        model: as it is to start.
        contents, styles: folders of images; no styles for a model that has its own.
        held_out: folders of images that are not to be trained on.
        work: a folder of this training's own.

    Raises:
        InputError: too few images, or a checkpoint of another training.
        FloatingPointError: a loss is not finite; the last checkpoint is kept.
    """
    settings = settings or Settings()
    photographs = _files(contents, held_out)
    paintings = _files(styles, held_out) if styles else None
    work.mkdir(parents=True, exist_ok=True)
    parameters = [x for x in model.parameters() if x.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate)
    rng = np.random.default_rng(settings.seed)
    checkpoint, first = work / "checkpoint.pt", 0
    # The length of the training may change on the way: the rest is what it is a training of.
    teacher = getattr(model, "teacher", None)
    encoder = getattr(teacher or model, "encoder", None)
    identity = {
        **asdict(settings),
        "model": type(model).__name__,
        "encoder": encoder and encoder.name,
        "style_weight": model.style_weight,
        **({"painting": teacher.painting} if teacher else {}),
    }
    identity = {k: v for k, v in identity.items() if not k.endswith(("steps", "_every"))}
    if checkpoint.exists():
        state = _load(checkpoint, identity)
        model.restore(state["learned"])
        optimiser.load_state_dict(state["optimiser"])
        rng.bit_generator.state = json.loads(state["rng"])
        first = state["step"]
        log.info("going on from step %d", first)
    sources = [Crops(files, settings.crop, rng) for files in (photographs, paintings) if files]
    rows: list[dict[str, float]] = []
    total = settings.warm_up_steps + settings.steps
    started, device = time.monotonic(), parameters[0].device
    with Progress(total, first, shown=progress) as shown:
        for step in range(first, total):
            content, *rest = (
                torch.stack([source.plain() for _ in range(settings.batch)]).to(device)
                for source in sources
            )
            style = rest[0] if rest else None
            if step < settings.warm_up_steps:
                # Paintings are to be decoded as well as photographs.
                half = settings.batch // 2
                mixed = content if style is None else torch.cat([content[:half], style[half:]])
                parts = model.warm_up(mixed)
            else:
                parts = model.losses(content, style, rng)
            loss = torch.stack(list(parts.values())).sum()
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is not finite at step {step}; {checkpoint} has the last good state"
                )
            _set_rate(optimiser, settings, step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 10.0)
            optimiser.step()
            rows.append({name: float(x.detach()) for name, x in parts.items()})
            shown.step(rows[-1])
            done = step + 1
            if done % 100 == 0 or done == total:
                line = dict(zip(_CLOCK, (done, round(time.monotonic() - started)), strict=True))
                _log(work / "log.jsonl", line, rows)
                rows = []
            if done % settings.sample_every == 0 or done == total:
                _sample(model, content, style, work / f"sample-{done:06d}.jpg")
                _plot(work / "log.jsonl", work / "losses.png")
            if done % settings.checkpoint_every == 0 or done == total:
                _save(
                    checkpoint,
                    {
                        "learned": model.learned(),
                        "optimiser": optimiser.state_dict(),
                        "rng": json.dumps(rng.bit_generator.state),
                        "step": done,
                        "identity": identity,
                    },
                )
    for source in sources:
        if source.skipped:
            log.warning("%d images could not be read and were skipped", len(source.skipped))
    return model


def _files(folders: Sequence[Path], held_out: Sequence[Path]) -> list[Path]:
    files = training_files(folders, held_out)
    if len(files) < FEWEST:
        raise InputError(
            f"{len(files)} images under {', '.join(map(str, folders))}; "
            f"{FEWEST} or more are needed, and thousands are better"
        )
    return files


def _set_rate(optimiser: torch.optim.Optimizer, settings: Settings, step: int) -> None:
    """A cosine over each of the two phases, to a twentieth."""
    length = settings.warm_up_steps
    if step >= length:
        step, length = step - length, settings.steps
    fallen = 0.5 * (1 - math.cos(math.pi * step / max(1, length)))
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * (1 - 0.95 * fallen)


def _log(path: Path, line: Mapping[str, float], rows: Sequence[Mapping[str, float]]) -> None:
    names = dict.fromkeys(name for row in rows for name in row)
    means = {n: float(np.mean([row[n] for row in rows if n in row])) for n in names}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, **{n: round(x, 5) for n, x in means.items()}}) + "\n")


@torch.no_grad()
def _sample(model: Baseline, contents: Tensor, styles: Tensor | None, path: Path) -> None:
    rows = []
    for index, content in enumerate(contents[:4].split(1)):
        style = [] if styles is None else [styles[index : index + 1]]
        rows.append([x.cpu() for x in (content, *style, model.stylize(content, style))])
    names = ["content", *(["style"] if styles is not None else []), "output"]
    pictures.write(path, pictures.sheet(rows, names), quality=88)


def _plot(log_file: Path, path: Path) -> None:
    """Every loss against steps, logarithmically."""
    if not log_file.exists():  # it gets its first line after 100 steps
        return
    with contextlib.suppress(InputError):  # matplotlib is an extra
        figure, ((axis,),) = plots.axes(1, 1, 6, 3.5)
        lines = [json.loads(line) for line in log_file.read_text(encoding="utf-8").splitlines()]
        for name in dict.fromkeys(n for line in lines for n in line if n not in _CLOCK):
            points = [(line["step"], line[name]) for line in lines if name in line]
            axis.plot(*zip(*points, strict=True), label=name)
        axis.set_yscale("log")
        axis.set_xlabel("steps")
        axis.legend()
        plots.save(figure, path)


def _save(path: Path, state: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    files.write_whole(path.resolve(), buffer.getvalue())


def _load(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        known = state["identity"]
    except Exception as error:  # whatever torch finds wrong with it
        raise InputError(f"{path} cannot be read; delete it to start over") from error
    if known != identity:
        differing = [k for k in identity if known.get(k) != identity[k]]
        raise InputError(
            f"{path} is of a training with another {', '.join(differing)}; use another folder"
        )
    return state
