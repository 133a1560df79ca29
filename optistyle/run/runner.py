"""The one entry point: a content image, style images and a recipe in, a picture out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optistyle import baselines, encoders, files, pictures, sizes
from optistyle.baselines.codec import LEAST
from optistyle.baselines.paint import paint
from optistyle.choices import INITS, MOST_KEYS, WARM_STARTS
from optistyle.encoders.vgg import VGG
from optistyle.errors import InputError
from optistyle.losses import (
    AttentionGram,
    AttentionLocal,
    Content,
    GramStyle,
    Range,
    TotalVariation,
    WassersteinStyle,
)
from optistyle.machine import devices, heap, ranks
from optistyle.optimise import solvers, tiles
from optistyle.optimise.objective import Measured, Objective, Terms, digest
from optistyle.optimise.scale import Progress, outcome, steps
from optistyle.pictures import Picture, Stored, colors
from optistyle.recipes import Recipe
from optistyle.run import plan as plans
from optistyle.run import timing
from optistyle.run.observers import Checkpoint, Observer, Step, TraceRow
from optistyle.sizes import SMALLEST

#: A picture, its pixels (1, 3, H, W) in [0, 1], or a file.
ImageLike = Picture | Tensor | str | Path


@dataclass(frozen=True)
class Result:
    """A finished picture and how it came about.

    Attributes:
        picture: pixels (1, 3, H, W) in [0, 1], and the content's alpha, if it had one.
        trace: every evaluation: scale, iteration and the weighted losses by name, of the image as
            it was optimised, not clamped.
        first, final: the losses at the last scale reached of the start, and of the picture itself,
            both clamped to [0, 1] as it is saved (and before original colours are put back); empty
            where a run was interrupted before its first step.
        recipe: the settings. extra: loss terms beside the recipe's, as text.
        inputs: paths and SHA-256. encoder: its name. device: where it ran.
        seconds: of computing, by scale, over resumptions.
        warnings: a line for every divergence.
        interrupted: whether it ended early, by Ctrl-C, a break, or the loss of a rank.
    """

    picture: Picture
    trace: list[TraceRow]
    first: dict[str, float]
    final: dict[str, float]
    recipe: Recipe
    extra: dict[str, str]
    inputs: dict[str, Any]
    encoder: str
    device: str
    seconds: list[float]
    warnings: list[str]
    interrupted: bool

    @property
    def image(self) -> Tensor:
        """(1, 3, H, W) in [0, 1]."""
        return self.picture.pixels

    def save(self, path: str | Path, *, bits: int = 8) -> None:
        """Write the picture; the suffix chooses the format (see `pictures.write`)."""
        pictures.write(path, self.picture, bits=bits)

    def manifest(self) -> dict[str, Any]:
        """All but the pixels, as JSON values."""
        return {
            "recipe": self.recipe.as_dict(),
            "extra": self.extra,
            "inputs": self.inputs,
            "encoder": self.encoder,
            "device": self.device,
            "threads": torch.get_num_threads(),
            "width": self.picture.width,
            "height": self.picture.height,
            "first": _plain(self.first),
            "final": _plain(self.final),
            "seconds": [round(s, 3) for s in self.seconds],
            "warnings": self.warnings,
            "interrupted": self.interrupted,
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "trace": [_plain(row) for row in self.trace],
        }

    def _repr_png_(self) -> bytes:
        """A notebook shows the picture by itself."""
        return self.picture._repr_png_()


def _plain(losses: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity."""
    return {name: x if math.isfinite(x) else None for name, x in losses.items()}


def versions() -> dict[str, str]:
    """Of all that can change a pixel."""
    names = ("optistyle", "torch", "torchvision", "numpy", "pillow", "ncnn")
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
    most = None if recipe.attention == "exact" else MOST_KEYS
    return {
        "content": (recipe.alpha, Content(recipe.content_layers)),
        "style": (recipe.beta, style(recipe.style_layers)),
        "attention": (recipe.gamma, attention(recipe.attention_layers, recipe.centre, most)),
        "tv": (recipe.tv, TotalVariation(recipe.tv_form)),
        "range": (recipe.range, Range()),
    }


def stylize(
    content: ImageLike,
    styles: ImageLike | Sequence[ImageLike],
    recipe: Recipe | None = None,
    *,
    encoder: VGG | None = None,
    extra: Terms | None = None,
    observers: Sequence[Observer] = (),
) -> Result:
    """Paint the content in the styles.

    Args:
        content: what the picture shows.
        styles: one or several paintings; their shares are the recipe's ``style_weights``.
        recipe: the settings, `Recipe()` by default.
        encoder: an encoder to use in place of the recipe's, to load it only once.
        extra: loss terms beside the recipe's, by name, with their weights.
        observers: see `observers`.

    Returns:
        The result. Ctrl-C ends the run early and returns the picture as it is.

    Raises:
        InputError: anything that cannot be used, before the work starts wherever that is possible.
    """
    run = Run(content, styles, recipe, encoder=encoder, extra=extra)
    with contextlib.suppress(KeyboardInterrupt):
        run.finish(observers)
    return run.result()


class Run:
    """A run as an iterator of steps, for notebooks: loop, look at ``step.image``, break at will.

    Takes `stylize`'s arguments, and checks all of them; and ``measured``, which runs that meet the
    same styles may share. Iterating again goes on from the last
    step, also after an error or Ctrl-C in the middle of one. ``result()`` gives the picture as it
    is at any moment.

    Attributes:
        recipe: the settings, with ``auto`` resolved: encoder, device, kernels, tile and history.
        encoder: the one in use. inputs: the paths, where they are files, and SHA-256 of all images.
        extra: loss terms beside the recipe's, as text.
        identity: stands for inputs, settings, encoder and optistyle's version; only a checkpoint of
            the same fits.
        schedule: (H, W) and iterations of every scale.
        plan: the tiles and the history that fit into memory.
    """

    def __init__(
        self,
        content: ImageLike,
        styles: ImageLike | Sequence[ImageLike],
        recipe: Recipe | None = None,
        *,
        encoder: VGG | None = None,
        extra: Terms | None = None,
        measured: Measured | None = None,
    ) -> None:
        recipe = recipe or Recipe()
        if isinstance(styles, ImageLike):
            styles = [styles]
        if not styles:
            raise InputError("no style image is given; give one or more")
        self._shares = recipe.shares(len(styles))
        picture = as_picture(content)
        self._styles = [
            Stored(colors.recolour(as_picture(style), picture, recipe.original_colors))
            for style in styles
        ]
        self._content = Stored(picture)
        del picture
        self.schedule = recipe.schedule(self._content.height, self._content.width)
        if encoder is None:
            recipe = resolved(recipe)
            encoder = load_encoder(recipe)
        self._init = self._initial(recipe.init, recipe.device)
        self.inputs: dict[str, Any] = {
            "content": _identified(content),
            "styles": [_identified(style) for style in styles],
            **{
                name: _identified(file)
                for name, file in (("init", recipe.init), ("weights", recipe.weights))
                if file is not None and file not in INITS
            },
        }
        self.recipe, self.encoder, self.device = recipe, encoder, encoder.device
        self._solver = solvers.make(recipe.optimizer, recipe.lr)
        own, extra = terms(recipe), extra or {}
        if taken := sorted(set(own) & set(extra)):
            raise InputError(f"{taken[0]!r} is the name of a term of the recipe; choose another")
        self.extra = {name: f"{weight:g} x {term!r}" for name, (weight, term) in extra.items()}
        self._terms = {name: pair for name, pair in {**own, **extra}.items() if pair[0] > 0}
        self._measured = measured
        if not self._terms:
            raise InputError("all weights are 0; there is nothing to optimise")
        layers = frozenset[str]().union(*(term.layers for _, term in self._terms.values()))
        encoder(torch.zeros(1, 3, 32, 32, device=self.device), layers)  # has it all of these?
        if isinstance(recipe.tile, int):
            tiles.check(encoder, layers, recipe.tile)
        self._size, iterations = self.schedule[-1]
        self._demand = plans.Demand(
            encoder,
            layers,
            tuple(
                math.prod(self._style_size(s, self._size)) / math.prod(self._size)
                for s in self._styles
            ),
            iterations,
            self._solver,
            plans.Needs.of(encoder, self._terms),
            recipe.attention == "exact",
        )
        self.identity = self._identify()  # of what was asked for: a checkpoint fits another plan
        if ranks.count() > 1:
            ranks.match(self._record())
        self.plan = self._demand.choose(*self._size, recipe.tile, recipe.history)
        if self.device.type == "cpu":
            heap.keep()
        self._solver = solvers.make(recipe.optimizer, recipe.lr, self.plan.history)
        self.recipe = replace(
            self.recipe,
            tile=self.plan.tile or "off",
            history=self.plan.history,
            kernels=encoder.kernels,
        )
        start = self._start(self.schedule[0][0])
        #: Replaced as one, so that an interruption at any moment finds the two in agreement.
        self._standing: tuple[Objective | None, Checkpoint] = (
            None,
            Checkpoint(0, Progress.start(start, self._solver.start(start))),
        )
        self._stepping = self._steps()
        self._ended = False

    def forecast(self) -> str:
        """The plan in one line, with the time that the run takes; a second's timing, or a few."""
        (height, width), plan = self._size, self.plan
        parts = "whole" if plan.tile is None else f"in tiles of {plan.tile} px"
        over, each = (f" over {ranks.count()} ranks", " each") if ranks.count() > 1 else ("", "")
        taken = timing.seconds(self._demand, self._terms, self.schedule, plan)
        line = (
            f"{width}x{height} px {parts}{over}, about {plan.peak / 1e9:.1f} GB of memory{each} "
            f"and {timing.spell(taken)}"
        )
        compact = solvers.is_compact(height * width)
        if isinstance(self._solver, solvers.LBFGS) and (compact or plan.history < 5):
            kept = self._demand.pairs(height * width, plan.history)
            line += f"; {kept} steps of history{', in bfloat16' if compact else ''}"
        if self._demand.sampled(height, width):
            line += f"; attention to {MOST_KEYS} positions of a style (all: --attention exact)"
        return line

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the run stands."""
        return self._standing[1]

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of this very run (see `observers.Checkpoints`)."""
        self._standing = (None, Checkpoint.load(path, self.identity, self.device))
        self._stepping, self._ended = self._steps(), False

    def finish(self, observers: Sequence[Observer] = ()) -> None:
        """Step to the end, watched."""
        if ranks.count() > 1:
            at = self.checkpoint
            place = [at.scale, at.progress.iteration, digest(at.progress.image)]
            ranks.match({"where they go on from (--resume)": place})
        try:
            for observer in observers:
                observer.started(self.schedule)
            for step in self:
                for observer in observers:
                    observer.stepped(step)
        finally:
            for observer in observers:
                observer.ended()

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        try:
            with self._demand.guard(*self._size, self.plan):
                return next(self._stepping)
        except StopIteration:
            raise
        except BaseException:
            self._stepping = self._steps()  # the next call goes on from the last whole step
            raise

    def _steps(self) -> Iterator[Step]:
        objective, at = self._standing
        begun = time.monotonic() - at.seconds[-1]
        if objective is None:
            objective = self._build(self.schedule[at.scale][0])
        while True:
            self._standing = (objective, at)
            size, iterations = self.schedule[at.scale]
            for losses, progress, warning in steps(
                objective, self._solver, at.progress, iterations
            ):
                row = {"scale": at.scale, "iteration": progress.iteration, **losses}
                at = Checkpoint(
                    at.scale,
                    progress,
                    (*at.trace, row),
                    (*at.seconds[:-1], time.monotonic() - begun),
                    (*at.warnings, warning) if warning else at.warnings,
                )
                self._standing = (objective, at)
                look = partial(self._look, progress)
                yield Step(
                    iteration=progress.iteration,
                    iterations=iterations,
                    scales=len(self.schedule),
                    size=size,
                    losses=losses,
                    look=look,
                    picture=partial(self._shown, look, size),
                    checkpoint=at,
                    warning=warning,
                )
                begun = time.monotonic() - at.seconds[-1]  # what happens between steps is not ours
            if at.scale == len(self.schedule) - 1:
                break
            begun = time.monotonic()
            image = outcome(objective, self._solver, at.progress)
            size, _ = self.schedule[at.scale + 1]
            start = pictures.resize(image, size)
            state = self._solver.rescale(start, at.progress.state)
            objective = self._build(size)
            progress = Progress.start(start, state)
            at = Checkpoint(at.scale + 1, progress, at.trace, (*at.seconds, 0.0), at.warnings)
        self._ended = True

    def result(self) -> Result:
        """The picture as it is, at the recipe's size, and how it came about."""
        objective, at = self._standing
        # Ranks that have not ended together do not measure together.
        apart = ranks.lost() or not self._ended
        if objective is None or (objective.shared and apart):
            image = self._look(at.progress)
            first: dict[str, float] = {}
            final: dict[str, float] = {}
        else:
            first = objective.evaluate(self._start(self.schedule[at.scale][0]).clamp(0, 1))
            image = outcome(objective, self._solver, at.progress).clamp(0, 1)
            final = objective.evaluate(image)
        return Result(
            picture=self._picture(image, self._size),
            trace=list(at.trace),
            first=first,
            final=final,
            recipe=self.recipe,
            extra=self.extra,
            inputs=self.inputs,
            encoder=self.encoder.name,
            device=str(self.device),
            seconds=list(at.seconds),
            warnings=list(at.warnings),
            interrupted=not self._ended or ranks.lost(),
        )

    def _look(self, progress: Progress) -> Tensor:
        return self._solver.result(progress.image, progress.state).clamp(0, 1)

    def _shown(self, look: Callable[[], Tensor], size: tuple[int, int]) -> Picture:
        return self._picture(look(), size)

    def _picture(self, image: Tensor, size: tuple[int, int]) -> Picture:
        """The image, resized, in the content's colours where that is asked for, with its alpha."""
        pixels, alpha = devices.fetched(pictures.resize(image, size))(), self._content.alpha
        if self.recipe.original_colors == "luminance":
            content = self._content.picture.pixels
            pixels = colors.keep_luminance(pixels, pictures.resize(content, size))
        return Picture(pixels, None if alpha is None else pictures.resize(alpha, size))

    def _sized(self, stored: Stored, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        picture = stored.picture
        pixels, alpha = pictures.resize(picture.pixels.to(self.device), size), picture.alpha
        return pixels, None if alpha is None else pictures.resize(alpha.to(self.device), size)

    def _style(self, style: Stored, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """The style's pixels and alpha for a picture of that size.

        A style scale above 1 would bring out brushwork that is finer than the enlarged strokes,
        and the picture would repeat it as speckle. So the style is read with the detail that it
        has at the square root of the scale.
        """
        pixels, alpha = self._sized(style, self._style_size(style, size))
        if self.recipe.style_scale > 1:
            factor = 1 / math.sqrt(self.recipe.style_scale)
            height, width = pixels.shape[-2:]
            coarse = max(1, round(height * factor)), max(1, round(width * factor))
            pixels = pictures.resize(pictures.resize(pixels, coarse), (height, width))
        return pixels, alpha

    def _style_size(self, style: Stored, size: tuple[int, int]) -> tuple[int, int]:
        """As many pixels as the picture has, times the scale squared, in the style's own aspect."""
        area = round(math.prod(size) * self.recipe.style_scale**2)
        # No side below SMALLEST px, where the deepest layers end.
        return sizes.fit_area(style.height, style.width, area, SMALLEST)

    def _build(self, size: tuple[int, int]) -> Objective:
        return Objective.build(
            self.encoder,
            self._terms,
            self._sized(self._content, size),
            [self._style(style, size) for style in self._styles],
            self._shares,
            self._measured,
            self.plan.tile,
        )

    def _initial(self, init: str, device: str) -> Stored:
        """What the optimisation starts from, of any size; for noise, which has its own at every
        size, and for grey a grey pixel."""
        if init in ("grey", "noise"):
            return Stored(Picture(torch.full((1, 3, 1, 1), 0.5)))
        if init in ("content", "style"):
            return self._content if init == "content" else self._styles[0]
        if init in WARM_STARTS:
            model = baselines.load(init, device=devices.resolve(device))
            height, width = self.schedule[0][0]
            larger = max(1.0, LEAST / min(height, width))  # it is resized in any case
            size = math.ceil(larger * height), math.ceil(larger * width)
            seen = self._content.picture, [style.picture for style in self._styles]
            return Stored(paint(model, *seen, size, shares=self._shares))
        if not Path(init).exists():
            raise InputError(f"init {init!r} is neither a file nor one of {', '.join(INITS)}")
        return Stored(pictures.read(init))

    def _start(self, size: tuple[int, int]) -> Tensor:
        """Where the optimisation starts, (1, 3, H, W) in [0, 1] on the device."""
        if self.recipe.init == "noise":
            # Around grey, so narrow that hardly a pixel leaves [0, 1].
            generator = torch.Generator().manual_seed(self.recipe.seed)
            start = (0.5 + 0.15 * torch.randn(1, 3, *size, generator=generator)).clamp(0, 1)
        else:
            start = self._init.picture.pixels
        return pictures.resize(start.to(self.device), size)

    def _record(self) -> dict[str, Any]:
        """What has to be the same on every rank, with its names for a reader."""
        styles = {f"style {k}": entry for k, entry in enumerate(self.inputs["styles"], 1)}
        files = {**self.inputs, **styles}
        del files["styles"]
        settings = {
            f"--{name.replace('_', '-')}": value
            for name, value in self.recipe.as_dict().items()
            if name not in files  # on another machine it may lie in another place
        }
        encoder, gpu = self.encoder, self.device.type == "cuda"
        return {
            **{f"the {name}": entry["sha256"] for name, entry in files.items()},
            **settings,
            "the start": digest(self._init.picture.pixels)
            if self.recipe.init in WARM_STARTS
            else "",
            "the encoder": [encoder.name, digest(*encoder.convolutions().values())],
            "extra terms": self.extra,
            **versions(),
            "threads": torch.get_num_threads(),
            "processor": torch.cuda.get_device_name(self.device)
            if gpu
            else torch.backends.cpu.get_cpu_capability(),
        }

    def _identify(self) -> str:
        entries = [self.inputs["content"], *self.inputs["styles"], self.inputs.get("init")]
        hashes = [entry["sha256"] for entry in entries if entry]
        encoder = self.encoder
        # Ranks have a GPU each, and the same checkpoint.
        device = str(self.device) if ranks.count() == 1 else self.device.type
        kind = [device, encoder.pooling, encoder.padding, encoder.precision]
        if self.recipe.init in WARM_STARTS:  # its weights are not among the inputs
            hashes.append(digest(self._init.picture.pixels))
        weights = digest(*encoder.convolutions().values())
        kind.append(versions()["optistyle"])  # another one's solver may keep another state
        settings = json.dumps([self.recipe.as_dict(), hashes, kind, weights, self.extra])
        return hashlib.sha256(settings.encode()).hexdigest()


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with the encoder and the device that ``auto`` stands for on this machine."""
    device = devices.resolve(recipe.device)
    chosen = encoders.choose(recipe.encoder, device)[0] if not recipe.weights else "auto"
    return replace(recipe, encoder=chosen, device=str(device))


def load_encoder(recipe: Recipe) -> VGG:
    """The encoder of a `resolved` recipe, on its device."""
    return encoders.load(
        recipe.encoder,
        file=recipe.weights,
        pooling=recipe.pooling,
        padding=recipe.padding,
        precision=recipe.precision,
        kernels=recipe.kernels,
        device=recipe.device,
    )


def as_picture(image: ImageLike) -> Picture:
    """The image as a picture that can be worked on, or an `InputError`."""
    if isinstance(image, Tensor):
        image = Picture(image.detach().float().cpu())
    name = "an image"
    if not isinstance(image, Picture):
        name = str(image)
        try:
            image = pictures.read(image)
        except MemoryError as error:
            raise InputError(f"{name} does not fit into memory: make it smaller first") from error
    if min(image.height, image.width) < SMALLEST:
        raise InputError(
            f"{name} is {image.width}x{image.height} px; "
            f"its shorter side must be {SMALLEST} px or more"
        )
    if not image.pixels.isfinite().all():
        raise InputError(f"{name} holds NaN or infinite values")
    if image.alpha is not None and not float(image.alpha.sum()) > 0:
        raise InputError(f"{name} is transparent all over; there is nothing to see in it")
    return image


def _identified(image: ImageLike) -> dict[str, str]:
    """An input as the manifest names it: its SHA-256, and its path if it is a file."""
    if isinstance(image, str | Path):
        return {"path": str(Path(image).resolve()), "sha256": files.digest(image)}
    parts = (image,) if isinstance(image, Tensor) else (image.pixels, image.alpha)
    return {"sha256": digest(*parts)}
