"""Train a feed-forward model: a warm-up that gives images back, then stylisation."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optistyle import pictures
from optistyle.baselines.base import Baseline
from optistyle.baselines.codec import Transfer
from optistyle.errors import InputError
from optistyle.pictures import plots
from optistyle.training import loop
from optistyle.training.crops import Crops, training_files

log = logging.getLogger(__name__)

#: Fewer pictures than this are a mistake.
FEWEST = 8


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        warm_up_steps: of reconstruction training, before the style losses start.
        steps: of stylisation. The published 160 000 would take weeks on a CPU.
        batch: crops per step. crop: their side in px, at most the pictures' shorter sides.
        learning_rate: of Adam at first; a cosine lowers it to a twentieth.
        seed: of crops and order.
        checkpoint_every, sample_every: steps between checkpoints, and between samples.
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
    """Train what a model learns, or continue from ``work/checkpoint.pt``.

    Writes there, beside what `loop.run` writes, ``losses.png`` (where matplotlib is installed) and
    ``sample-STEP.jpg`` (contents, styles, outputs).

    Args:
        model: as it is to start; it is changed.
        contents, styles: folders of images; no styles for a model that has its own.
        work: the training's own folder.
        settings: the usual ones by default.
        held_out: folders of images that are not to be trained on.
        progress: show how far it is, on stderr.

    Returns:
        The model.

    Raises:
        InputError: too few images, or a checkpoint of another training.
        FloatingPointError: a loss is not finite; the last checkpoint is kept.
    """
    settings = settings or Settings()
    photographs = _files(contents, held_out)
    paintings = _files(styles, held_out) if styles else None
    task = _Stylisation(model, photographs, paintings, work, settings)
    loop.run(
        task,
        work,
        settings.warm_up_steps + settings.steps,
        _identity(model, settings),
        checkpoint_every=settings.checkpoint_every,
        clip=10.0,
        progress=progress,
    )
    for source in task.sources:
        if source.skipped:
            log.warning("%d images could not be read and were skipped", len(source.skipped))
    return model


def _identity(model: Baseline, settings: Settings) -> dict[str, Any]:
    """What a training is of; its length may change on the way."""
    teacher = getattr(model, "teacher", None)
    encoder = getattr(teacher or model, "encoder", None)
    identity = {
        **asdict(settings),
        "model": type(model).__name__,
        "encoder": encoder and encoder.name,
        "style_weight": model.style_weight,
        **({"upsampling": model.decoder.upsampling} if isinstance(model, Transfer) else {}),
        **({"painting": teacher.painting} if teacher else {}),
    }
    return {k: v for k, v in identity.items() if not k.endswith(("steps", "_every"))}


class _Stylisation(loop.Task):
    """A model's training: a warm-up, then stylisation."""

    def __init__(
        self,
        model: Baseline,
        photographs: Sequence[Path],
        paintings: Sequence[Path] | None,
        work: Path,
        settings: Settings,
    ) -> None:
        self.model, self.settings, self._work = model, settings, work
        self.parameters = [x for x in model.parameters() if x.requires_grad]
        self.optimiser = torch.optim.Adam(self.parameters, lr=settings.learning_rate)
        self._rng = np.random.default_rng(settings.seed)
        self.sources = [
            Crops(paths, settings.crop, self._rng) for paths in (photographs, paintings) if paths
        ]
        self._content = torch.empty(0)
        self._style: Tensor | None = None

    def rate(self, step: int) -> float:
        return rate(self.settings, step)

    def losses(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        settings, device = self.settings, self.parameters[0].device
        self._content, *rest = (
            torch.stack([source.plain() for _ in range(settings.batch)]).to(device)
            for source in self.sources
        )
        self._style = rest[0] if rest else None
        content, style = self._content, self._style
        if step < settings.warm_up_steps:
            # Paintings are to be decoded as well as photographs.
            half = settings.batch // 2
            mixed = content if style is None else torch.cat([content[:half], style[half:]])
            parts = self.model.warm_up(mixed)
        else:
            parts = self.model.losses(content, style, self._rng)
        return torch.stack(list(parts.values())).sum(), parts

    def state(self) -> dict[str, Any]:
        return {
            "learned": self.model.learned(),
            "rng": json.dumps(self._rng.bit_generator.state),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.restore(state["learned"])
        self._rng.bit_generator.state = json.loads(state["rng"])

    def after(self, done: int, last: bool) -> None:
        if done % self.settings.sample_every == 0 or last:
            path = self._work / f"sample-{done:06d}.jpg"
            _sample(self.model, self._content, self._style, path)
            _plot(self._work / "log.jsonl", self._work / "losses.png")


def _files(folders: Sequence[Path], held_out: Sequence[Path]) -> list[Path]:
    files = training_files(folders, held_out)
    if len(files) < FEWEST:
        raise InputError(
            f"{len(files)} images under {', '.join(map(str, folders))}; "
            f"{FEWEST} or more are needed, and thousands are better"
        )
    return files


def rate(settings: Settings, step: int) -> float:
    """Return the learning rate of a step: a cosine over each phase, to a twentieth."""
    length = settings.warm_up_steps
    if step >= length:
        step, length = step - length, settings.steps
    fallen = 0.5 * (1 - math.cos(math.pi * step / max(1, length)))
    return settings.learning_rate * (1 - 0.95 * fallen)


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
        lines = loop.read_log(log_file)
        for name in dict.fromkeys(n for line in lines for n in line if n not in loop.CLOCK):
            points = [(line["step"], line[name]) for line in lines if name in line]
            axis.plot(*zip(*points, strict=True), label=name)
        axis.set_yscale("log")
        axis.set_xlabel("steps")
        axis.legend()
        plots.save(figure, path)
