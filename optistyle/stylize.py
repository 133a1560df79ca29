"""The one entry point: a content image, style images and a recipe in, a picture out."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optistyle import colors, devices, encoders, images, solvers
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.images import Picture
from optistyle.losses import (
    AttentionGram,
    AttentionLocal,
    Content,
    GramStyle,
    Range,
    TotalVariation,
    WassersteinStyle,
)
from optistyle.objective import Objective, Terms
from optistyle.observers import Observer, Resumption, Step, TraceRow
from optistyle.optimise import Progress, outcome, steps
from optistyle.recipes import INITS, Recipe

#: A picture, its pixels (1, 3, H, W) in [0, 1], or a file.
ImageLike = Picture | Tensor | str | Path


@dataclass(frozen=True)
class Result:
    """A finished picture and how it came about.

    Attributes:
        picture: pixels (1, 3, H, W) in [0, 1], and the content's alpha, if it had one.
        trace: every evaluation: scale, iteration and the weighted losses by name, of the image as it
            was optimised, not clamped.
        first, final: the losses at the last scale of the start, and of the picture itself, both
            clamped to [0, 1] as it is saved.
        recipe: the settings. encoder: its name. device: where it ran.
        seconds: of computing, over resumptions; ``scale_seconds`` by scale, in this process.
        interrupted: whether Ctrl-C ended it early.
    """

    picture: Picture
    trace: list[TraceRow]
    first: dict[str, float]
    final: dict[str, float]
    recipe: Recipe
    encoder: str
    device: str
    seconds: float
    scale_seconds: list[float] = field(default_factory=list)
    interrupted: bool = False

    @property
    def image(self) -> Tensor:
        """(1, 3, H, W) in [0, 1]."""
        return self.picture.pixels

    def save(self, path: str | Path, *, bits: int = 8) -> None:
        """Write the picture; the suffix chooses the format (see `images.write`)."""
        images.write(path, self.picture, bits=bits)

    def manifest(self) -> dict[str, Any]:
        """All but the pixels, as JSON values."""
        return {
            "recipe": self.recipe.as_dict(),
            "encoder": self.encoder,
            "device": self.device,
            "threads": torch.get_num_threads(),
            "width": self.picture.width,
            "height": self.picture.height,
            "first": self.first,
            "final": self.final,
            "seconds": round(self.seconds, 3),
            "scale_seconds": [round(s, 3) for s in self.scale_seconds],
            "interrupted": self.interrupted,
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "trace": self.trace,
        }

    def _repr_png_(self) -> bytes:
        """A notebook shows the picture by itself."""
        return images.png(self.image)


def versions() -> dict[str, str]:
    """Of all that can change a pixel."""
    names = ("optistyle", "torch", "torchvision", "numpy", "pillow")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def terms(recipe: Recipe) -> Terms:
    """The loss terms of a recipe, by name, with their weights."""
    style = {"gram": GramStyle, "wasserstein": WassersteinStyle}[recipe.style_loss]
    attention = {"gram": AttentionGram, "local": AttentionLocal}[recipe.attention_form]
    return {
        "content": (recipe.alpha, Content(recipe.content_layers)),
        "style": (recipe.beta, style(recipe.style_layers)),
        "attention": (recipe.gamma, attention(recipe.attention_layers, recipe.centre)),
        "tv": (recipe.tv, TotalVariation(recipe.tv_form)),
        "range": (recipe.range, Range()),
    }


def stylize(
    content: ImageLike,
    styles: ImageLike | Sequence[ImageLike],
    recipe: Recipe | None = None,
    *,
    encoder: VGG | None = None,
    observers: Sequence[Observer] = (),
    resume: Path | None = None,
) -> Result:
    """Paint the content in the styles.

    Args:
        content: what the picture shows.
        styles: one or several paintings; their shares are the recipe's ``style_weights``.
        recipe: the settings, `Recipe()` by default.
        encoder: an encoder to use in place of the recipe's, to load it only once.
        observers: see `observers`.
        resume: a checkpoint of this very run to go on from (see `observers.Checkpoints`).

    Returns:
        The result. Ctrl-C ends the run early and returns the picture as it is.

    Raises:
        InputError: anything that cannot be used.
    """
    run = Run(content, styles, recipe, encoder=encoder, resume=resume)
    for observer in observers:
        observer.started(run.schedule)
    interrupted = False
    try:
        for step in run:
            for observer in observers:
                if run.warning:
                    observer.warned(run.warning)
                observer.stepped(step)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for observer in observers:
            observer.ended()
    return run.result(interrupted)


class Run:
    """A run as an iterator of steps, for notebooks: loop, look at ``step.image``, break at will.

    Takes `stylize`'s arguments. ``result()`` gives the picture as it is at any moment.
    """

    def __init__(
        self,
        content: ImageLike,
        styles: ImageLike | Sequence[ImageLike],
        recipe: Recipe | None = None,
        *,
        encoder: VGG | None = None,
        resume: Path | None = None,
    ) -> None:
        self.recipe = recipe = recipe or Recipe()
        if isinstance(styles, (Picture, Tensor, str, Path)):
            styles = [styles]
        if not styles:
            raise InputError("no style image is given; give one or more")
        self._shares = recipe.shares(len(styles))
        self._content = _picture(content)
        self._styles = [self._recoloured(_picture(style)) for style in styles]
        self.schedule = recipe.schedule(self._content.height, self._content.width)
        self.device = encoder.device if encoder else devices.resolve(recipe.device)
        self.encoder = encoder or load_encoder(recipe, self.device)
        self._solver = solvers.make(recipe.optimizer, recipe.lr)
        self._terms = terms(recipe)
        self.identity = self._identify()
        self._resume = Resumption.load(resume, self.identity, self.device) if resume else None
        self._scale = self._resume.scale if self._resume else 0
        self._objective: Objective | None = None
        self._progress: Progress | None = None
        self.trace: list[TraceRow] = list(self._resume.trace) if self._resume else []
        self.warning: str | None = None
        self._seconds = self._resume.seconds if self._resume else 0.0
        self._scale_seconds: list[float] = []

    def __iter__(self) -> Iterator[Step]:
        started = time.monotonic() - self._seconds
        image: Tensor | None = None
        state: solvers.State | None = None
        for self._scale in range(self._scale, len(self.schedule)):
            size, iterations = self.schedule[self._scale]
            begun = time.monotonic()
            self._objective = self._build(size)
            if self._resume is not None:
                self._progress, self._resume = self._resume.progress, None
            elif image is None or state is None:
                start = self._start(size)
                self._progress = Progress.start(start, self._solver.start(start))
            else:
                start = images.resize(image, size)
                self._progress = Progress.start(start, self._solver.rescale(start, state))
            for losses, self._progress, self.warning in steps(
                self._objective, self._solver, self._progress, iterations
            ):
                self._seconds = time.monotonic() - started
                iteration = self._progress.iteration
                self.trace.append({"scale": self._scale, "iteration": iteration, **losses})
                yield Step(
                    scale=self._scale,
                    scales=len(self.schedule),
                    iteration=iteration,
                    iterations=iterations,
                    size=size,
                    losses=losses,
                    image=self._solver.result(self._progress.image, self._progress.state).clamp(
                        0, 1
                    ),
                    progress=self._progress,
                    trace=self.trace,
                    seconds=self._seconds,
                )
            image = outcome(self._objective, self._solver, self._progress)
            state = self._progress.state
            self._scale_seconds.append(time.monotonic() - begun)

    def result(self, interrupted: bool = False) -> Result:
        """The picture as it is, at the recipe's size, and how it came about."""
        size = self.schedule[-1][0]
        if self._objective is None or self._progress is None:
            picture = images.resize(self._start(size).cpu(), size)
            first = final = {}
        else:
            image = outcome(self._objective, self._solver, self._progress).clamp(0, 1)
            final = self._objective.evaluate(image)
            start = self._start(self.schedule[self._scale][0])
            first = self._objective.evaluate(start)
            picture = images.resize(image, size).cpu()
        alpha = self._content.alpha
        if self.recipe.original_colors == "luminance":
            content = images.resize(self._content.pixels, size)
            picture = colors.keep_luminance(picture, content)
        return Result(
            picture=Picture(picture, None if alpha is None else images.resize(alpha, size)),
            trace=self.trace,
            first=first,
            final=final,
            recipe=self.recipe,
            encoder=self.encoder.name,
            device=str(self.device),
            seconds=self._seconds,
            scale_seconds=self._scale_seconds,
            interrupted=interrupted,
        )

    def _recoloured(self, style: Picture) -> Picture:
        """The style in the content's colours, where the recipe asks for that beforehand."""
        change = {
            "histogram": colors.match_histogram,
            "covariance": colors.match_covariance,
        }.get(self.recipe.original_colors or "")
        if change is None:
            return style
        return Picture(change(style.pixels, self._content.pixels), style.alpha)

    def _sized(self, picture: Picture, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        pixels = images.resize(picture.pixels.to(self.device), size)
        alpha = picture.alpha
        if alpha is not None:
            alpha = images.resize(alpha.to(self.device), size)
            if not float(alpha.sum()) > 0:
                raise InputError("an image is transparent all over; there is nothing to see in it")
        return pixels, alpha

    def _style_size(self, style: Picture, size: tuple[int, int]) -> tuple[int, int]:
        """As many pixels as the picture has, times the scale squared, in the style's own aspect."""
        area = round(size[0] * size[1] * self.recipe.style_scale**2)
        return images.fit_area(style.height, style.width, max(area, 16 * 16))

    def _build(self, size: tuple[int, int]) -> Objective:
        return Objective.build(
            self.encoder,
            self._terms,
            self._sized(self._content, size),
            [self._sized(style, self._style_size(style, size)) for style in self._styles],
            self._shares,
        )

    def _start(self, size: tuple[int, int]) -> Tensor:
        """Where the optimisation starts, (1, 3, H, W) on the device."""
        init = self.recipe.init
        if init == "content":
            start = self._content.pixels
        elif init == "style":
            start = self._styles[0].pixels
        elif init == "grey":
            start = torch.full((1, 3, *size), 0.5)
        elif init == "noise":
            # Around grey, so narrow that hardly a pixel leaves [0, 1].
            generator = torch.Generator().manual_seed(self.recipe.seed)
            start = (0.5 + 0.15 * torch.randn(1, 3, *size, generator=generator)).clamp(0, 1)
        else:
            start = _start_file(init)
        return images.resize(start.to(self.device), size)

    def _identify(self) -> str:
        """A digest of inputs and settings."""
        digest = hashlib.sha256(json.dumps(self.recipe.as_dict(), sort_keys=True).encode())
        digest.update(f"{self.encoder.name} {self.device}".encode())
        for picture in (self._content, *self._styles):
            for tensor in (picture.pixels, picture.alpha):
                if tensor is not None:
                    digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def load_encoder(recipe: Recipe, device: torch.device) -> VGG:
    """The recipe's encoder on a device."""
    return encoders.load(
        recipe.encoder,
        file=recipe.weights,
        pooling=recipe.pooling,
        padding=recipe.padding,
        precision=recipe.precision,
        device=device,
    )


def _picture(image: ImageLike) -> Picture:
    if isinstance(image, Picture):
        return image
    if isinstance(image, Tensor):
        return Picture(image.detach().float().cpu())
    return images.read(image)


def _start_file(init: str) -> Tensor:
    if not Path(init).exists():
        raise InputError(
            f"init {init!r} is neither a file nor one of {', '.join(INITS)}; give one of these"
        )
    return images.read(init).pixels
