"""How a run is done: the encoder, the loss terms, the scales, and what fits into memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from optistyle import encoders, sizes
from optistyle.choices import MOST_KEYS
from optistyle.encoders.base import Encoder
from optistyle.encoders.base import check as check_encoder
from optistyle.losses.named import described
from optistyle.machine import devices
from optistyle.machine.ranks import ALONE, Ranks, match
from optistyle.optimise import solvers, tiles
from optistyle.optimise.objective import Terms
from optistyle.optimise.solvers import LBFGS, Solver
from optistyle.pictures import Stored
from optistyle.recipes import Recipe, changed
from optistyle.run import timing
from optistyle.run.demand import Demand, Fit, Needs
from optistyle.run.inputs import Inputs
from optistyle.run.manifest import PLANNED
from optistyle.run.result import versions
from optistyle.run.terms import all_terms, layers_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """All that is decided before the first step.

    Attributes:
        recipe: the settings, with the encoder and the device that ``auto`` stands for.
        encoder: in use, on its device.
        terms: the loss terms of weights above 0, by name.
        extra: the terms beside the recipe's, as the manifest records them.
        schedule: (H, W) and iterations of every scale.
        demand: what decides how much memory the run takes. fit: the tiles and the history.
        ranks: who shares the tiles.
    """

    recipe: Recipe
    encoder: Encoder
    terms: Terms
    extra: Mapping[str, Any]
    schedule: Sequence[tuple[tuple[int, int], int]]
    demand: Demand
    fit: Fit
    ranks: Ranks = ALONE

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the result."""
        return self.schedule[-1][0]

    @property
    def solver(self) -> Solver:
        """The solver, with as much history as fits."""
        return solvers.make(self.recipe.optimizer, self.recipe.lr, self.fit.history)

    def how(self) -> dict[str, Any]:
        """Tile, history and kernels, for the manifest: what repeats the run to the bit."""
        return {
            "tile": self.fit.tile or "off",
            "history": self.fit.history,
            "kernels": self.encoder.settings().get("kernels", self.recipe.kernels),
        }

    def describe(self) -> str:
        """One line that says memory and time; it times the encoder for a second or a few."""
        (height, width), fit = self.size, self.fit
        parts = "whole" if fit.tile is None else f"in tiles of {fit.tile} px"
        count = self.ranks.count
        over, each = (f" over {count} ranks", " each") if count > 1 else ("", "")
        duration = timing.seconds(self.demand, self.terms, self.schedule, fit)
        line = (
            f"{width}x{height} px {parts}{over}, about {fit.peak / 1e9:.1f} GB of memory{each} "
            f"and {timing.spell(duration)}"
        )
        compact = solvers.is_compact(height * width)
        if isinstance(self.solver, LBFGS) and (compact or fit.history < 5):
            kept = self.demand.pairs(height * width, fit.history)
            line += f"; {kept} steps of history{', in bfloat16' if compact else ''}"
        if self.demand.sampled(height, width):
            line += f"; attention to {MOST_KEYS} positions of a style (all: --attention exact)"
        return line


def make_plan(
    inputs: Inputs,
    recipe: Recipe | None = None,
    *,
    encoder: Encoder | None = None,
    extra: Terms | None = None,
    ranks: Ranks = ALONE,
) -> Plan:
    """Plan a run: load the encoder, check every setting against it, and choose tiles and history.

    Args:
        inputs: see `inputs.read_inputs`.
        recipe: the settings, `Recipe()` by default.
        encoder: an encoder to use in place of the recipe's.
        extra: loss terms beside the recipe's, by name, with their weights.
        ranks: who shares the tiles.

    Raises:
        InputError: settings that do not go with the pictures, the encoder or the memory; ranks that
            do not match.
    """
    recipe = recipe or Recipe()
    schedule = recipe.schedule(inputs.content.height, inputs.content.width)
    if encoder is None:
        asked, recipe = recipe.encoder, resolved(recipe)
        if recipe.weights is None:
            log.info("%s", encoders.announcement(asked, recipe.encoder))
        encoder = load_encoder(recipe)
    else:
        check_encoder(encoder)
        recipe = _as_run(recipe, encoder)
    weighted = all_terms(recipe, extra)
    layers = layers_of(weighted)
    with torch.no_grad():
        encoder(torch.zeros(1, 3, 32, 32, device=encoder.device), layers)  # has it all of these?
    if isinstance(recipe.tile, int):
        tiles.check(encoder, layers, recipe.tile)
    size, iterations = schedule[-1]
    demand = Demand(
        encoder,
        layers,
        tuple(
            math.prod(style_size(style, size, recipe.style_scale)) / math.prod(size)
            for style in inputs.styles
        ),
        iterations,
        solvers.make(recipe.optimizer, recipe.lr),
        Needs.of(encoder, weighted),
        recipe.attention == "exact",
        ranks,
    )
    record = described(extra or {})
    if ranks.count > 1:
        match(ranks, _alike(inputs, recipe, encoder, record))
    fit = demand.choose(*size, recipe.tile, recipe.history)
    log.info("plan: tile %s, history %d, %.2f GB", fit.tile, fit.history, fit.peak / 1e9)
    return Plan(recipe, encoder, weighted, record, schedule, demand, fit, ranks)


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with the encoder and the device that ``auto`` stands for on this machine."""
    device = str(devices.resolve(recipe.device))
    chosen = encoders.choose(recipe.encoder) if not recipe.weights else "auto"
    return replace(recipe, encoder=chosen, device=device)


def load_encoder(recipe: Recipe) -> Encoder:
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


def style_size(style: Stored, size: tuple[int, int], scale: float) -> tuple[int, int]:
    """As many pixels as the picture has, times the scale squared, in the style's own aspect."""
    area = round(math.prod(size) * scale**2)
    # No side below SMALLEST px, where the deepest layers end.
    return sizes.fit_area(style.height, style.width, area, sizes.SMALLEST)


def _as_run(recipe: Recipe, encoder: Encoder) -> Recipe:
    """The recipe with what an encoder that was handed over really does, and its name if known."""
    if recipe.weights is None and encoder.name in encoders.ENCODERS:
        recipe = replace(recipe, encoder=encoder.name)
    changes = {
        name: value
        for name, value in encoder.settings().items()
        if name not in PLANNED and hasattr(recipe, name) and value != getattr(recipe, name)
    }
    for name, value in changes.items():
        log.info("the encoder's %s is %s; the recipe's is %s", name, value, getattr(recipe, name))
    return changed(recipe, changes)


def _alike(
    inputs: Inputs, recipe: Recipe, encoder: Encoder, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """What has to be the same on every rank, with its names for a reader."""
    styles = {f"style {k}": entry for k, entry in enumerate(inputs.record["styles"], 1)}
    files = {**inputs.record, **styles}
    del files["styles"]
    settings = {
        f"--{name.replace('_', '-')}": value
        for name, value in recipe.as_dict().items()
        if name not in files  # on another machine it may lie in another place
    }
    processor = (
        torch.cuda.get_device_name(encoder.device)
        if encoder.device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    return {
        **{f"the {name}": entry["sha256"] for name, entry in files.items()},
        **settings,
        "the encoder": [encoder.name, encoder.digest()],
        "extra terms": {**extra},
        **versions(),
        "threads": torch.get_num_threads(),
        "processor": processor,
    }
