"""How much weave do pictures have where the photograph is flat?

Flat places are squares of the photograph whose mean of the channels deviates by less than
`FLAT` from a plane, in the root mean square. In the
painted picture's windowed spectra there:

- *fine* is the root mean square at periods below 3 px, *coarse* that at 4 to 12 px, where strokes
  are; both are medians over the places. Fine texture without strokes has a high ratio of the two.
- *peak P* is the power at a period of exactly P px, along rows, columns and both, over the median
  of its surroundings. Upsampling by nearest neighbours makes stairs of 2, 4 and 8 px.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks import baselines, pairs, record
from benchmarks.baselines import SIZE, Painter
from optistyle import baselines as models
from optistyle.baselines.codec import Transfer
from optistyle.choices import WARM_STARTS
from optistyle.recipes import Recipe
from optistyle.run import stylize

SIDE, STEP, FLAT = 32, 16, 0.012
PEAKS = (2, 4, 8)


def _residual(plane: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE) minus its best plane."""
    ramp = np.linspace(-1, 1, SIDE)
    plane = plane - plane.mean()
    slopes = [(plane * axis).mean() / (ramp**2).mean() for axis in (ramp, ramp[:, None])]
    return plane - slopes[0] * ramp - slopes[1] * ramp[:, None]


def flat_places(photograph: Tensor) -> list[tuple[int, int]]:
    """Top and left of every flat square of (1, 3, H, W)."""
    light = photograph[0].mean(0).numpy()
    corners = [range(0, side - SIDE + 1, STEP) for side in light.shape]
    return [
        (top, left)
        for top in corners[0]
        for left in corners[1]
        if _residual(light[top : top + SIDE, left : left + SIDE]).std() < FLAT
    ]


def spectra(picture: Tensor, places: list[tuple[int, int]]) -> np.ndarray:
    """(places, SIDE, SIDE): power by frequency, the mean over channels; its sum is the variance."""
    window = np.hanning(SIDE + 1)[:-1]
    taper = np.outer(window, window)
    taper /= np.sqrt((taper**2).mean())
    found = [
        [_residual(x[top : top + SIDE, left : left + SIDE]) * taper for x in picture[0].numpy()]
        for top, left in places
    ]
    return (np.abs(np.fft.fft2(found)) ** 2).mean(1) / SIDE**4


def weave(picture: Tensor, photograph: Tensor) -> dict[str, float]:
    """Fine, coarse and peaks of (1, 3, H, W), as the module says."""
    power = spectra(picture, flat_places(photograph))
    bins = np.abs(np.fft.fftfreq(SIDE, 1 / SIDE))
    frequency = np.hypot(*np.meshgrid(bins, bins)) / SIDE
    bands = {"fine": frequency > 1 / 3, "coarse": (frequency <= 1 / 4) & (frequency > 1 / 12)}
    row = {k: float(np.median(np.sqrt(power[:, x].sum(1)))) for k, x in bands.items()}
    mean, grid = power.mean(0), np.stack(np.meshgrid(bins, bins))
    for period in PEAKS:
        peak, near = 0.0, 0.0
        for point in SIDE // period * np.array([(0, 1), (1, 0), (1, 1)]):
            distance = np.abs(grid - point[:, None, None]).max(0)
            peak += mean[distance == 0].mean()
            near += np.median(mean[(distance >= 2) & (distance <= 3)])
        row[f"peak {period}"] = float(peak / near)
    return row


def painters() -> dict[str, Painter]:
    """Those of `baselines`, the transfer models with bilinear upsampling, and the optimiser's."""

    def smooth(name: str, content: Tensor, style: Tensor) -> Tensor:
        model = models.load(name)
        assert isinstance(model, Transfer)
        model.decoder.upsampling = "bilinear"
        return model.stylize(content, [style])

    def optimised(recipe: Recipe, content: Tensor, style: Tensor) -> Tensor:
        return stylize(content, style, recipe, progress=False).image

    return {
        **baselines.painters(),
        **{
            f"{name}, bilinear": partial(smooth, name)
            for name in WARM_STARTS
            if models.named(name).make
        },
        "optimiser, vgg19": partial(optimised, Recipe(size=SIZE, encoder="vgg19")),
        "optimiser, slim, tv 1000": partial(
            optimised, Recipe(size=SIZE, encoder="slim", tv=1000.0)
        ),
    }


def main(work: Path, names: tuple[str, ...]) -> None:
    rows: list[dict[str, Any]] = []
    for name, painter in painters().items():
        if not names or name in names:
            own = _measured(work, name, painter)
            rows.append({"by": name, **{k: float(np.mean([r[k] for r in own])) for k in own[0]}})
    print(record.listed(rows))
    print(record.save("weave", rows))


def _measured(work: Path, name: str, painter: Painter) -> list[dict[str, float]]:
    rows = []
    for pair, (content, style) in pairs.held_out(SIZE).items():
        if flat_places(content):
            place = record.place(work, name, pair, baselines.version(name))
            measure = partial(lambda c, s: weave(painter(c, s), c), content, style)
            rows.append(record.kept(place, {}, measure))
    return rows
