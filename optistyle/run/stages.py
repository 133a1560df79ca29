"""What a run makes at each scale: its start, its objective, and the picture that it shows."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optistyle import baselines, pictures
from optistyle.baselines.codec import LEAST
from optistyle.baselines.paint import paint
from optistyle.choices import WARM_STARTS
from optistyle.machine import devices
from optistyle.optimise.objective import Measured, Objective, digest
from optistyle.pictures import Picture, Stored, colors
from optistyle.run.inputs import Inputs
from optistyle.run.manifest import PLANNED
from optistyle.run.plan import Plan, style_size
from optistyle.run.result import versions


def starting_picture(inputs: Inputs, plan: Plan) -> Stored:
    """What the optimisation starts from, of any size.

    For noise, which is drawn anew at every size, and for grey it is one grey pixel.
    """
    init = plan.recipe.init
    if inputs.init is not None:
        return inputs.init
    if init in ("grey", "noise"):
        return Stored(Picture(torch.full((1, 3, 1, 1), 0.5)))
    if init in ("content", "style"):
        return inputs.content if init == "content" else inputs.styles[0]
    model = baselines.load(init, device=plan.encoder.device)
    height, width = plan.schedule[0][0]
    larger = max(1.0, LEAST / min(height, width))  # it is resized in any case
    size = math.ceil(larger * height), math.ceil(larger * width)
    styles = [style.picture for style in inputs.styles]
    return Stored(paint(model, inputs.content.picture, styles, size, shares=inputs.shares))


def start(starting: Stored, plan: Plan, size: tuple[int, int]) -> Tensor:
    """Where the optimisation starts at a size (H, W): (1, 3, H, W) in [0, 1], on the device."""
    if plan.recipe.init == "noise":
        # Around grey, so narrow that hardly a pixel leaves [0, 1].
        generator = torch.Generator().manual_seed(plan.recipe.seed)
        pixels = (0.5 + 0.15 * torch.randn(1, 3, *size, generator=generator)).clamp(0, 1)
    else:
        pixels = starting.picture.pixels
    return pictures.resize(pixels.to(plan.encoder.device), size)


def build(
    inputs: Inputs,
    plan: Plan,
    size: tuple[int, int],
    measured: Measured | None = None,
) -> Objective:
    """The objective of a picture of (H, W)."""
    return Objective.build(
        plan.encoder,
        plan.terms,
        _sized(inputs.content, size, plan),
        [styled(style, size, plan) for style in inputs.styles],
        list(inputs.shares),
        measured,
        plan.fit.tile,
        plan.ranks,
    )


def finished(image: Tensor, inputs: Inputs, plan: Plan, size: tuple[int, int]) -> Picture:
    """The picture to save: resized, with the content's alpha and notes.

    It has the content's colours where the recipe asks for them, and is grey where the content and
    all styles are.

    Args:
        image: (1, 3, h, w) in [0, 1], on any device.
        size: (H, W) of the picture.
    """
    pixels, alpha = devices.fetched(pictures.resize(image, size))(), inputs.content.alpha
    if plan.recipe.original_colors == "luminance":
        content = inputs.content.picture.pixels
        pixels = colors.keep_luminance(pixels, pictures.resize(content, size))
    elif inputs.grey:
        pixels = colors.to_grey(pixels)
    alpha = None if alpha is None else pictures.resize(alpha, size)
    return Picture(pixels, alpha, inputs.content.notes)


def identify(
    inputs: Inputs, plan: Plan, starting: Stored, retunes: Sequence[Mapping[str, Any]] = ()
) -> str:
    """What stands for the result: a checkpoint fits only a run of the same.

    Tile, history and kernels are left out: a run that did not fit goes on in smaller tiles.
    """
    entries = [inputs.record["content"], *inputs.record["styles"], inputs.record.get("init")]
    hashes = [entry["sha256"] for entry in entries if entry]
    encoder, ranks = plan.encoder, plan.ranks
    # Ranks have a GPU each, and the same checkpoint.
    device = str(encoder.device) if ranks.count == 1 else encoder.device.type
    kind = [device, {k: v for k, v in encoder.settings().items() if k not in PLANNED}]
    if plan.recipe.init in WARM_STARTS:  # its weights are not among the inputs
        hashes.append(digest(starting.picture.pixels))
    # Another version's solver may keep another state.
    kind = [*kind, encoder.digest(), versions()["optistyle"]]
    settings = {k: v for k, v in plan.recipe.as_dict().items() if k not in PLANNED}
    text = json.dumps([settings, hashes, kind, plan.extra, list(retunes)])
    return hashlib.sha256(text.encode()).hexdigest()


def _sized(stored: Stored, size: tuple[int, int], plan: Plan) -> tuple[Tensor, Tensor | None]:
    """Pixels and alpha at (H, W), on the device."""
    picture, device = stored.picture, plan.encoder.device
    pixels, alpha = pictures.resize(picture.pixels.to(device), size), picture.alpha
    return pixels, None if alpha is None else pictures.resize(alpha.to(device), size)


def styled(style: Stored, size: tuple[int, int], plan: Plan) -> tuple[Tensor, Tensor | None]:
    """A style's pixels and alpha for a picture of (H, W).

    A style scale above 1 would bring out brushwork that is finer than the enlarged strokes, and the
    picture would repeat it as speckle. So the style is read with the detail that it has at the
    square root of the scale.
    """
    scale = plan.recipe.style_scale
    pixels, alpha = _sized(style, style_size(style, size, scale), plan)
    if scale > 1:
        factor = 1 / math.sqrt(scale)
        height, width = pixels.shape[-2:]
        coarse = max(1, round(height * factor)), max(1, round(width * factor))
        pixels = pictures.resize(pictures.resize(pixels, coarse), (height, width))
    return pixels, alpha
