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
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.encoders.formats import metadata_for
from optistyle.encoders.procedural import calibration_images, dead_leaves
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.errors import InputError
from optistyle.files import digest
from optistyle.layers import BLOCK_STARTS, CHANNELS
from optistyle.training.progress import Progress

log = logging.getLogger(__name__)

#: Channels at every layer.
WIDTHS = {
    "relu1_1": 16,
    "relu1_2": 16,
    "relu2_1": 64,
    "relu2_2": 64,
    "relu3_1": 128,
    "relu3_2": 128,
    "relu3_3": 128,
    "relu3_4": 128,
    "relu4_1": 256,
    "relu4_2": 256,
    "relu4_3": 256,
    "relu4_4": 256,
    "relu5_1": 512,
}
#: The layers whose convolutions are separable.
SEPARABLE = frozenset(("relu2_2", "relu3_2", "relu3_3", "relu3_4", "relu4_2", "relu4_3", "relu4_4"))
TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1")
#: Positions kept along each axis, one in so many: the first layers have more than training needs.
STRIDES = {"relu1_1": 8, "relu2_1": 4, "relu3_1": 2}
MEAN = 0.45


@dataclass(frozen=True)
class Settings:
    """How to train. The defaults are what the packaged weights were made with."""

    steps: int = 7_500
    batch: int = 10
    crop: int = 128
    learning_rate: float = 4e-3
    warm_up: int = 300
    weight_decay: float = 1e-4
    pool: int = 800  # crops kept with their teacher features
    reuse: int = 5  # training steps per fresh batch
    chains: int = 10
    chain_share: float = 0.3  # of every fresh batch
    procedural_share: float = 0.1
    chain_steps: int = 2  # Adam steps on the chains per fresh batch
    chain_life: int = 40  # fresh batches that a chain lives on average
    gram_weight: float = 0.5
    kernel_weight: float = 0.5
    kernel_positions: int = 384
    seed: int = 0


_NEAR: dict[str, Any] = {"padding": 1, "padding_mode": "reflect", "bias": False}


class Student(nn.Module):
    """The slim VGG-19 in training: batch normalisation after every convolution."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.widths = dict(widths)
        sources = [3, *self.widths.values()]
        self.convs: dict[str, list[nn.Conv2d]] = {}
        self.norms: dict[str, nn.BatchNorm2d] = {}
        for (layer, width), source in zip(self.widths.items(), sources, strict=False):
            self.convs[layer] = [nn.Conv2d(source, width, 3, **_NEAR)]
            if layer in SEPARABLE:
                depthwise = nn.Conv2d(source, source, 3, groups=source, **_NEAR)
                self.convs[layer] = [depthwise, nn.Conv2d(source, width, 1, bias=False)]
            for conv in self.convs[layer]:
                conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.norms[layer] = nn.BatchNorm2d(width)
            self.add_module(f"convs_{layer}", nn.Sequential(*self.convs[layer]))
            self.add_module(f"norms_{layer}", self.norms[layer])
            # Running mean of the rectified output: what mean normalisation will divide by.
            self.register_buffer(f"{layer}_level", torch.full((width,), 0.4))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Rectified features at `TAPS`, not yet mean-normalised."""
        x, block, features = image - MEAN, "1", {}
        with torch.autocast("cpu", torch.bfloat16, enabled=image.device.type == "cpu"):
            for layer in self.widths:
                if layer[4] != block:
                    x, block = F.avg_pool2d(x, 2), layer[4]
                for conv in self.convs[layer]:
                    x = conv(x)
                x = F.relu(self.norms[layer](x))
                if layer in TAPS:
                    features[layer] = x.float()
                    if self.training:
                        with torch.no_grad():
                            level = self.get_buffer(f"{layer}_level")
                            level.lerp_(features[layer].mean((0, 2, 3)), 0.02)
        return features

    def mean_normalised(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features over their running mean (below a twentieth of the typical level: over that)."""
        return {
            layer: f / self.get_buffer(f"{layer}_level").clamp_min(0.02).view(1, -1, 1, 1)
            for layer, f in features.items()
        }

    def folded(self, name: str) -> VGG:
        """Batch normalisation folded into the convolutions, as an ordinary `VGG`."""
        convolutions: dict[str, Tensor] = {}
        for layer in self.widths:
            (*depthwise, last), norm = self.convs[layer], self.norms[layer]
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight = last.weight * scale.view(-1, 1, 1, 1)
            convolutions[f"conv{layer[4:]}.weight"] = weight.detach().contiguous()
            convolutions[f"conv{layer[4:]}.bias"] = (norm.bias - norm.running_mean * scale).detach()
            for part in depthwise:
                convolutions[f"conv{layer[4:]}.depthwise"] = part.weight.detach().contiguous()
        return VGG(convolutions, mean=torch.full((3,), MEAN), name=name)


class Heads:
    """The best linear map from student to teacher at every layer, by least squares.

    Second moments fade exponentially as the student changes. Solved anew at every step, the maps
    are never behind the features, as maps learned by gradient are for thousands of steps; the
    gradient through a solved map is that through the whole solution (envelope theorem).
    """

    def __init__(self, decay: float = 0.97, ridge: float = 1e-3) -> None:
        self._decay, self._ridge = decay, ridge
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: str, features: Tensor, goal: Tensor) -> Tensor:
        """(B, n, H, W) -> (B, N, H, W), the prediction of ``goal``."""
        with torch.no_grad():
            flat = features.transpose(0, 1).flatten(1)
            flat_goal = goal.transpose(0, 1).flatten(1)
            own, cross = flat @ flat.T / flat.shape[1], flat @ flat_goal.T / flat.shape[1]
            if layer in self.moments:
                own = self.moments[layer][0].lerp(own, 1 - self._decay)
                cross = self.moments[layer][1].lerp(cross, 1 - self._decay)
            self.moments[layer] = own, cross
            ridge = self._ridge * own.diagonal().mean() * torch.eye(len(own))
            weight = torch.linalg.solve(own + ridge, cross).T
        return F.conv2d(features, weight[:, :, None, None])


class Teacher:
    """Features of the mean-normalised VGG-19 at `TAPS`, in bfloat16, channels last."""

    def __init__(self, vgg: VGG) -> None:
        self._layers = vgg.layers[: vgg.layers.index("relu5_1") + 1]
        kind, form = torch.bfloat16, torch.channels_last
        weights = vgg.convolutions()
        self._convs = {
            layer: (
                weights[f"conv{layer[4:]}.weight"].to(kind).contiguous(memory_format=form),
                weights[f"conv{layer[4:]}.bias"].to(kind),
            )
            for layer in self._layers
        }
        self._mean = vgg.mean

    @torch.no_grad()
    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        x = (image - self._mean).bfloat16().contiguous(memory_format=torch.channels_last)
        block, features = "1", {}
        for layer in self._layers:
            if layer[4] != block:
                x, block = F.avg_pool2d(x, 2), layer[4]
            x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), *self._convs[layer]))
            if layer in TAPS:
                features[layer] = thinned(layer, x)
        return features


#: What Pillow says of a bad file; SyntaxError of a PNG that is open already.
_UNREADABLE = (OSError, SyntaxError, Image.DecompressionBombError)


class Crops:
    """Endless random crops from folders of images, with augmentation; bad files are counted."""

    def __init__(self, files: Sequence[Path], size: int, rng: np.random.Generator) -> None:
        self._files, self._size, self._rng = list(files), size, rng
        self.skipped: set[Path] = set()

    def plain(self) -> Tensor:
        """One crop, (3, size, size) in [0, 1], as it is or mirrored."""
        return torch.from_numpy(self._cut()).permute(2, 0, 1)

    def _cut(self) -> np.ndarray:
        rng, size, image = self._rng, self._size, self._open()
        side = min(image.size)
        span = min(side, round(size * math.exp(rng.uniform(0, math.log(max(1.01, side / size))))))
        left = int(rng.integers(image.width - span + 1))
        top = int(rng.integers(image.height - span + 1))
        image = image.resize(
            (size, size), Image.Resampling.BICUBIC, (left, top, left + span, top + span)
        )
        pixels = np.asarray(image, dtype=np.float32) / 255
        return pixels[:, ::-1].copy() if rng.random() < 0.5 else pixels

    def __call__(self) -> Tensor:
        """One crop, (3, size, size) in [0, 1], its colours changed, with noise at times."""
        rng, pixels = self._rng, self._cut()
        if rng.random() < 0.3:
            pixels = pixels ** np.float32(math.exp(rng.normal(0, 0.25)))
        if rng.random() < 0.3:
            gain = np.exp(rng.normal(0, 0.15, 3)).astype(np.float32)
            pixels = pixels * gain
        if rng.random() < 0.15:
            pixels = pixels[..., rng.permutation(3)]
        if rng.random() < 0.2:
            noise = rng.standard_normal(pixels.shape, dtype=np.float32)
            pixels = pixels + np.float32(rng.uniform(0.01, 0.12)) * noise
        return torch.from_numpy(np.clip(pixels, 0, 1)).permute(2, 0, 1)

    def _open(self) -> Image.Image:
        """One of the images that can be read."""
        while len(self.skipped) < len(self._files):
            path = self._files[self._rng.integers(len(self._files))]
            try:
                with Image.open(path) as file:
                    return file.convert("RGB")
            except _UNREADABLE:
                self.skipped.add(path)
        raise InputError("none of the training images can be read")


def training_files(folders: Sequence[Path], held_out: Sequence[Path] = ()) -> list[Path]:
    """All images under the folders, without near-copies of held-out ones.

    A near-copy is an image whose 16x16 grey thumbnail correlates above 0.95 with a held-out one.
    """
    kinds = {".jpg", ".jpeg", ".png", ".webp"}

    def images(root: Path) -> list[Path]:
        return sorted(p for p in root.rglob("*") if p.suffix.lower() in kinds)

    def thumbnail(path: Path) -> np.ndarray | None:
        try:
            with Image.open(path) as file:
                file.draft("L", (64, 64))
                small = np.asarray(file.convert("L").resize((16, 16), Image.Resampling.BOX), float)
        except _UNREADABLE:
            return None
        small = small - small.mean()
        return (small / (np.linalg.norm(small) + 1e-6)).ravel()

    files = [path for folder in folders for path in images(folder)]
    if not files:
        raise InputError(f"no images under {', '.join(map(str, folders))}")
    kept_out = [t for root in held_out for p in images(root) if (t := thumbnail(p)) is not None]
    if not kept_out:
        return files
    matrix = np.stack(kept_out)
    thumbnails = ((p, thumbnail(p)) for p in files)
    return [p for p, t in thumbnails if t is not None and (matrix @ t).max() <= 0.95]


class Chains:
    """Crops being stylised with the student of the moment; each lives for a random while."""

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


def gram(features: Tensor) -> Tensor:
    """(B, N, H, W) -> (B, N, N), F Fᵀ / M."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def thinned(layer: str, features: Tensor) -> Tensor:
    """Every so many positions of (B, N, H, W), as `STRIDES` says."""
    stride = STRIDES.get(layer, 1)
    return features[..., stride // 2 :: stride, stride // 2 :: stride]


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
        places = (self._written + torch.arange(settings.batch)) % settings.pool
        images = torch.stack(fresh)
        self._images[places] = images
        for layer, feature in self._teacher(images).items():
            if layer not in self._truth:
                self._truth[layer] = feature.new_zeros(settings.pool, *feature.shape[1:])
            self._truth[layer][places] = feature
        self._written += settings.batch

    def __len__(self) -> int:
        return min(self._settings.pool, self._written)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Random crops (B, 3, H, W), and the teacher's thinned features of them."""
        picks = torch.randint(len(self), (self._settings.batch,), generator=generator)
        return self._images[picks], {layer: x[picks] for layer, x in self._truth.items()}


class Log:
    """Means over every 100 steps, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self._path, self._started = path, time.monotonic()
        self._rows: list[dict[str, float]] = []

    def add(self, step: int, row: dict[str, float], *, last: bool) -> None:
        self._rows.append(row)
        if len(self._rows) < 100 and not last:
            return
        mean = {key: round(float(np.mean([r[key] for r in self._rows])), 4) for key in row}
        line = {"step": step, "seconds": round(time.monotonic() - self._started), **mean}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._rows = []


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
    """Train, or go on from ``work/checkpoint.pt``; return the student, `levelled`.

    The pool and the chains are not saved: after a resumption they start anew, from another seed.

    Args:
        vgg: the mean-normalised real VGG-19, average pooling.
        folders: of training images. held_out: folders whose near-copies are left out.
        work: where the checkpoint and ``log.jsonl`` go.
        widths: layer -> channels.
        progress: whether steps, losses and time left are shown on stderr.

    Raises:
        InputError: no images.
        FloatingPointError: the loss is not finite; the last checkpoint is kept.
    """
    settings = settings or Settings()
    torch.manual_seed(settings.seed)  # the initial weights of nn.Conv2d have no other source
    student, heads = Student(widths), Heads()
    parameters = list(student.parameters())
    optimiser = torch.optim.AdamW(parameters, weight_decay=settings.weight_decay)
    first, checkpoint = 0, work / "checkpoint.pt"
    work.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        student.load_state_dict(state["student"])
        heads.moments = state["heads"]
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
        log.info("going on from step %d", first)
    rng = np.random.default_rng([settings.seed, first])
    generator = torch.Generator().manual_seed(settings.seed + first)
    files = training_files(folders, held_out)
    log.info("%d images", len(files))
    crops = Crops(files, settings.crop, rng)
    pool = Pool(settings, Teacher(vgg), crops, rng)
    while len(pool) < min(settings.pool, 8 * settings.batch):
        pool.refresh(student)
    weights = {"feature": 1.0, "gram": settings.gram_weight, "kernel": settings.kernel_weight}
    lines = Log(work / "log.jsonl")
    student.train()
    with Progress(settings.steps, first, shown=progress) as shown:
        for step in range(first, settings.steps):
            if step % settings.reuse == 0:
                pool.refresh(student)
            warmed = min(1.0, (step + 1) / settings.warm_up)
            decayed = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * max(1e-3, warmed * decayed)
            rows = losses(student, heads, *pool.batch(generator), settings, generator)
            parts = {f"{layer}/{kind}": x for layer, row in rows.items() for kind, x in row.items()}
            total = torch.stack([weights[key.split("/")[1]] * x for key, x in parts.items()]).sum()
            if not torch.isfinite(total):
                raise FloatingPointError(f"the loss is not finite at step {step}; checkpoint kept")
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimiser.step()
            last = step + 1 == settings.steps
            row = {key: x.item() for key, x in parts.items()}
            lines.add(step + 1, row, last=last)
            shown.step(_by_kind(row))
            if last or (step + 1) % checkpoint_every == 0:
                part = checkpoint.with_suffix(".part")
                state = {
                    "student": student.state_dict(),
                    "heads": heads.moments,
                    "optimiser": optimiser.state_dict(),
                    "step": step + 1,
                    "settings": asdict(settings),
                }
                torch.save(state, part)
                part.replace(checkpoint)
    if crops.skipped:
        log.warning("%d images could not be read and were skipped", len(crops.skipped))
    student.eval()
    return levelled(student.folded("slim"), vgg)


def _by_kind(row: Mapping[str, float]) -> dict[str, float]:
    """The losses, named ``layer/kind``, added up over layers."""
    kinds = dict.fromkeys((key.split("/")[1] for key in row), 0.0)
    for key, value in row.items():
        kinds[key.split("/")[1]] += value
    return kinds


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
    """Write a normalised encoder as float16 safetensors, its digest into SHA256 beside it."""
    tensors = {key: x.half().contiguous() for key, x in encoder.convolutions().items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata_for(encoder.name, encoder.mean, encoder.pooling))
    part.replace(path)
    (path.parent / "SHA256").write_text(f"{digest(path)}  {path.name}\n")
