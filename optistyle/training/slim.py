"""Train the slim encoder: distil the real VGG-19 into a network of a thirteenth of its arithmetic.

The student has VGG-19's layers at the widths below, and is trained to span the features of the
mean-normalised teacher at the six layers that the losses read. Widths matter most there: 16, 64,
128, 256, 256 and 512 principal components of the teacher's own features leave 0.03, 0.03, 0.06,
0.04, 0.07 and none of their variance unexplained (half as many in the middle: 0.1 to 0.2). Inside
the blocks, where nothing is read, convolutions are separable to pay for it (depthwise 3x3, then
1x1: Howard et al., MobileNets, 2017). Three things are asked of the student:

- **features**: through a linear 1x1 head per layer (solved by least squares, not kept) they
  predict the teacher's; squared error over the layer's overall variance. Linear, because if
  F_teacher = W F, a Gram matrix matched in the student is matched in the teacher: W G Wᵀ.
- **Gram**: the same for the Gram matrix of every crop.
- **kernel**: without any head, the inner products <f(x), f(y)> / N of mean-normalised features at
  random positions x, y agree with the teacher's. Content, Gram and attention losses depend on
  features through these inner products only (|G - S|² is a sum of their squares), so this
  makes alpha, beta and gamma mean the same strength in both networks.

A student is fooled where it is used: on pictures that were optimised against it. A third kind of
training crop therefore stands beside photographs and procedural pictures: **chains**, crops
that are being stylised with the student as it is at the moment, a few Adam steps each round, and
handed to the teacher as they are.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import torch as safetensors
from torch import Tensor

from optistyle import files
from optistyle.encoders.formats import metadata_for
from optistyle.encoders.procedural import calibration_images, dead_leaves
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.errors import InputError
from optistyle.layers import BLOCK_STARTS, CHANNELS
from optistyle.training import loop
from optistyle.training.crops import Crops, training_files
from optistyle.training.student import TAPS, WIDTHS, Heads, Student, Teacher, gram, thinned

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How to train. The defaults are what the packaged weights were made with.

    Attributes:
        steps: of the optimiser. batch: crops per step. crop: their side in px.
        learning_rate: of AdamW after ``warm_up`` steps; a cosine then lowers it to a thousandth.
        weight_decay: of AdamW.
        pool: crops that are kept with their teacher features, a multiple of ``batch``.
        reuse: steps per fresh batch.
        chains: crops being stylised. chain_share, procedural_share: of every fresh batch.
        chain_steps: Adam steps on the chains per fresh batch.
        chain_life: fresh batches that a chain lives on average.
        gram_weight, kernel_weight: of these losses beside the features'.
        kernel_positions: drawn at every step and layer.
        seed: of initial weights, crops and order.
    """

    steps: int = 7_500
    batch: int = 10
    crop: int = 128
    learning_rate: float = 4e-3
    warm_up: int = 300
    weight_decay: float = 1e-4
    pool: int = 800
    reuse: int = 5
    chains: int = 10
    chain_share: float = 0.3
    procedural_share: float = 0.1
    chain_steps: int = 2
    chain_life: int = 40
    gram_weight: float = 0.5
    kernel_weight: float = 0.5
    kernel_positions: int = 384
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "reuse", "chains", "chain_life", "warm_up"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.pool < self.batch or self.pool % self.batch:
            raise InputError(f"pool is {self.pool}; it must be a multiple of batch, {self.batch}")


class Chains:
    """Crops being stylised with the student of the moment; each lives for a random time."""

    #: The tensors that decide what comes next.
    _STATE = ("images", "_contents", "_styles", "_alpha", "_first", "_second", "_age", "_rate")

    def __init__(self, settings: Settings, crops: Crops, rng: np.random.Generator) -> None:
        count, size = settings.chains, settings.crop
        self._settings, self._crops, self._rng = settings, crops, rng
        self.images = torch.zeros(count, 3, size, size)
        self._contents, self._styles = self.images.clone(), self.images.clone()
        self._alpha = torch.ones(count)
        self._first, self._second = self.images.clone(), self.images.clone()
        self._age = torch.zeros(count)
        self._rate = torch.zeros(count, 1, 1, 1)
        for index in range(count):
            self._restart(index)

    def state(self) -> dict[str, Tensor]:
        """Return what `restore` takes back."""
        return {name: getattr(self, name) for name in self._STATE}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        for name in self._STATE:
            setattr(self, name, state[name].clone())

    def _restart(self, index: int) -> None:
        rng = self._rng
        self._contents[index], self._styles[index] = self._crops(), self._crops()
        start = self._contents[index]
        if rng.random() < 0.2:
            start = torch.from_numpy(rng.random(start.shape, dtype=np.float32))
        self.images[index] = start
        self._alpha[index] = float(rng.choice([0.0, 1.0, 30.0]))
        self._rate[index] = math.exp(rng.uniform(math.log(0.01), math.log(0.06)))
        self._first[index], self._second[index], self._age[index] = 0, 0, 0

    def advance(self, student: Student) -> None:
        """A few Adam steps on Gatys's objective, the picture clamped to [0, 1] after each."""
        student.eval()
        with torch.no_grad():
            content = student.mean_normalised(student(self._contents))["relu4_2"]
            style = student.mean_normalised(student(self._styles))
            targets = {layer: gram(style[layer]) for layer in BLOCK_STARTS}
        for _ in range(self._settings.chain_steps):
            image = self.images.clone().requires_grad_()
            features = student.mean_normalised(student(image))
            loss = (self._alpha * (features["relu4_2"] - content).square().mean((1, 2, 3))).sum()
            for layer in BLOCK_STARTS:
                error = (gram(features[layer]) - targets[layer]) / CHANNELS[layer]
                loss = loss + 1e6 * error.square().mean((1, 2)).sum()
            (gradient,) = torch.autograd.grad(loss, image)
            gradient = gradient / (gradient.abs().amax((1, 2, 3), keepdim=True) + 1e-20)
            self._age += 1
            self._first.lerp_(gradient, 0.1)
            self._second.lerp_(gradient.square(), 0.01)
            age = self._age.view(-1, 1, 1, 1)
            first, second = self._first / (1 - 0.9**age), self._second / (1 - 0.99**age)
            self.images -= self._rate * first / (second.sqrt() + 1e-8)
            self.images.clamp_(0, 1)
        student.train()

    def draw(self, count: int) -> list[Tensor]:
        """Some of the pictures as they are now; then old ones make room for new ones."""
        picked = self._rng.permutation(len(self.images))[:count]
        drawn = [self.images[int(i)].clone() for i in picked]
        for index in np.flatnonzero(
            self._rng.random(len(self.images)) < 1 / self._settings.chain_life
        ):
            self._restart(int(index))
        return drawn


def losses(
    student: Student,
    heads: Heads,
    images: Tensor,
    truth: dict[str, Tensor],
    settings: Settings,
    generator: torch.Generator,
) -> dict[str, dict[str, Tensor]]:
    """Per layer the relative errors of features, Gram matrices and kernel (see the module)."""
    features = {layer: thinned(layer, f) for layer, f in student(images).items()}
    normalised = student.mean_normalised(features)
    result: dict[str, dict[str, Tensor]] = {}
    for layer in TAPS:
        goal = truth[layer].float()
        guess = heads(layer, normalised[layer], goal)
        row = {"feature": (guess - goal).square().mean() / goal.var()}
        if layer in BLOCK_STARTS:
            target = gram(goal)
            error = (gram(guess) - target).square().sum((1, 2))
            row["gram"] = (error / target.square().sum((1, 2))).mean()
        flat = normalised[layer].transpose(0, 1).flatten(1)
        flat_goal = goal.transpose(0, 1).flatten(1)
        picks = torch.randint(flat.shape[1], (settings.kernel_positions,), generator=generator)
        kernel = flat[:, picks].T @ flat[:, picks] / len(flat)
        kernel_goal = flat_goal[:, picks].T @ flat_goal[:, picks] / len(flat_goal)
        row["kernel"] = (kernel - kernel_goal).square().mean() / kernel_goal.var()
        result[layer] = row
    return result


class Pool:
    """Crops with their teacher features, the oldest replaced by fresh ones."""

    def __init__(
        self, settings: Settings, teacher: Teacher, crops: Crops, rng: np.random.Generator
    ) -> None:
        self._settings, self._teacher, self._crops, self._rng = settings, teacher, crops, rng
        self._chains = Chains(settings, crops, rng)
        self._images = torch.zeros(settings.pool, 3, settings.crop, settings.crop)
        self._truth: dict[str, Tensor] = {}
        self._written = 0

    def refresh(self, student: Student) -> None:
        """A batch more: chains a few steps on, procedural pictures, and crops."""
        settings = self._settings
        self._chains.advance(student)
        fresh = self._chains.draw(round(settings.chain_share * settings.batch))
        while len(fresh) < settings.batch:
            procedural = self._rng.random() < settings.procedural_share
            fresh.append(dead_leaves(settings.crop, self._rng)[0] if procedural else self._crops())
        start = self._written % settings.pool
        self._images[start : start + settings.batch] = torch.stack(fresh)
        self._look(start)
        self._written += settings.batch

    def _look(self, start: int) -> None:
        """Note the teacher's features of the batch of crops that begins at a place."""
        places = slice(start, start + self._settings.batch)
        for layer, feature in self._teacher(self._images[places]).items():
            if layer not in self._truth:
                self._truth[layer] = feature.new_zeros(self._settings.pool, *feature.shape[1:])
            self._truth[layer][places] = feature

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes back; the teacher's features are computed again there."""
        kept = self._images[: len(self)].clone()
        return {"images": kept, "written": self._written, "chains": self._chains.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self._written = state["written"]
        self._images[: len(self)] = state["images"]
        for start in range(0, len(self), self._settings.batch):
            self._look(start)
        self._chains.restore(state["chains"])

    def __len__(self) -> int:
        return min(self._settings.pool, self._written)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Random crops (B, 3, H, W), and the teacher's thinned features of them."""
        picks = torch.randint(len(self), (self._settings.batch,), generator=generator)
        return self._images[picks], {layer: x[picks] for layer, x in self._truth.items()}


def rate(settings: Settings, step: int) -> float:
    """Return the learning rate of a step: a linear warm-up, then a cosine to a thousandth."""
    warmed = min(1.0, (step + 1) / settings.warm_up)
    decayed = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return settings.learning_rate * max(1e-3, warmed * decayed)


class _Distillation(loop.Task):
    """The student's training."""

    def __init__(
        self, vgg: VGG, paths: Sequence[Path], settings: Settings, widths: Mapping[str, int]
    ) -> None:
        self.settings = settings
        self._rng = np.random.default_rng(settings.seed)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self.student, self._heads = Student(widths, self._generator), Heads()
        self.parameters = list(self.student.parameters())
        self.optimiser = torch.optim.AdamW(self.parameters, weight_decay=settings.weight_decay)
        self.crops = Crops(paths, settings.crop, self._rng)
        self._pool = Pool(settings, Teacher(vgg), self.crops, self._rng)
        self._weights = {
            "feature": 1.0,
            "gram": settings.gram_weight,
            "kernel": settings.kernel_weight,
        }

    def rate(self, step: int) -> float:
        return rate(self.settings, step)

    def losses(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        settings, pool = self.settings, self._pool
        while len(pool) < min(settings.pool, 8 * settings.batch):
            pool.refresh(self.student)
        if step % settings.reuse == 0:
            pool.refresh(self.student)
        batch = pool.batch(self._generator)
        rows = losses(self.student, self._heads, *batch, settings, self._generator)
        parts = {f"{layer}/{kind}": x for layer, row in rows.items() for kind, x in row.items()}
        weighted = [self._weights[name.split("/")[1]] * x for name, x in parts.items()]
        return torch.stack(weighted).sum(), parts

    def state(self) -> dict[str, Any]:
        return {
            "student": self.student.state_dict(),
            "heads": self._heads.moments,
            "pool": self._pool.state(),
            "rng": json.dumps(self._rng.bit_generator.state),
            "generator": self._generator.get_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self._heads.moments = dict(state["heads"])
        self._pool.restore(state["pool"])
        self._rng.bit_generator.state = json.loads(state["rng"])
        self._generator.set_state(state["generator"])


def distil(
    vgg: VGG,
    folders: Sequence[Path],
    work: Path,
    *,
    settings: Settings | None = None,
    held_out: Sequence[Path] = (),
    widths: Mapping[str, int] = WIDTHS,
    checkpoint_every: int = 500,
    progress: bool = True,
) -> VGG:
    """Train the student, or continue from ``work/checkpoint.pt``.

    The checkpoint holds the pool's crops and the chains: about 200 MB with the usual settings.

    Args:
        vgg: the mean-normalised real VGG-19, average pooling.
        folders: of training images.
        work: the training's own folder (see `loop.run`).
        settings: the usual ones by default.
        held_out: folders of images whose near-copies are left out.
        widths: layer -> channels.
        checkpoint_every: steps between checkpoints.
        progress: show how far it is, on stderr.

    Returns:
        The student, `levelled`.

    Raises:
        InputError: no images, or a checkpoint of another training.
        FloatingPointError: a loss is not finite; the last checkpoint is kept.
    """
    settings = settings or Settings()
    paths = training_files(folders, held_out)
    log.info("%d images", len(paths))
    task = _Distillation(vgg, paths, settings, widths)
    identity = {**asdict(settings), "model": "slim", "teacher": vgg.name, "widths": dict(widths)}
    del identity["steps"]
    loop.run(
        task,
        work,
        settings.steps,
        identity,
        checkpoint_every=checkpoint_every,
        clip=5.0,
        progress=progress,
    )
    if task.crops.skipped:
        log.warning("%d images could not be read and were skipped", len(task.crops.skipped))
    task.student.eval()
    return levelled(task.student.folded("slim"), vgg)


def levelled(student: VGG, teacher: VGG) -> VGG:
    """The student, mean-normalised and then brought to the teacher's level, layer by layer.

    A departure from unit means: what a student cannot explain of its teacher it leaves out, so that
    at equal means its features vary less, and every loss would be weaker (measured: content 4,
    style 3, attention 10 times). Each of `TAPS` is scaled to the teacher's variance over the
    calibration pictures, averaged over channels; alpha, beta and gamma then mean the same in both.
    """
    means = mean_activations(student, calibration_images())
    normal = normalise(student, means)
    own, wanted = _variances(normal), _variances(teacher)
    gains = {layer: (wanted[layer] / own[layer]) ** 0.5 for layer in TAPS}
    return normalise(student, {x: mean / gains.get(x, 1.0) for x, mean in means.items()})


@torch.no_grad()
def _variances(encoder: VGG) -> dict[str, float]:
    """Variance over the calibration pictures' positions, averaged over channels, at `TAPS`."""
    first = dict.fromkeys(TAPS, torch.zeros((), dtype=torch.float64))
    second, count = dict(first), dict.fromkeys(TAPS, 0)
    for image in calibration_images():
        for layer, feature in encoder(image, TAPS).items():
            flat = feature.double().flatten(2)[0]
            first[layer] = first[layer] + flat.sum(1)
            second[layer] = second[layer] + flat.square().sum(1)
            count[layer] += flat.shape[1]
    return {x: float((second[x] / count[x] - (first[x] / count[x]).square()).mean()) for x in TAPS}


def save(encoder: VGG, path: Path) -> None:
    """Write a normalised encoder as float16 safetensors, and its digest into SHA256 beside it."""
    tensors = {key: x.half().contiguous() for key, x in encoder.convolutions().items()}
    notes = metadata_for(encoder.name, encoder.mean, encoder.pooling)
    files.write_whole(path.resolve(), safetensors.save(tensors, notes))
    line = f"{files.digest(path)}  {path.name}\n"
    files.write_whole(path.resolve().with_name("SHA256"), line.encode())
