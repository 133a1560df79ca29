"""A garden in dots of pure colour: a pond with lilies, flower beds, willows and a bridge."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from PIL import Image

from .canvas import (
    Array,
    Brush,
    Canvas,
    frame,
    mask_of,
    noise,
    over,
    palette,
    rgb,
    ribbon,
    sample,
    scatter,
    smoothstep,
    spline,
    to_image,
)

BLOOMS = np.array(
    [(206, 66, 84), (228, 132, 66), (240, 204, 96), (178, 92, 150), (244, 234, 214), (196, 56, 48),
     (128, 104, 176), (238, 170, 176)], np.float32,
) / 255  # fmt: skip
HORIZON, SHORE = 0.30, 0.62


def _light(rng: Generator, shape: tuple[int, int], scale: float) -> tuple[Array, Array]:
    """Colours of the sky, the trees, the water and the bank, with the direction of the dabs."""
    height, width = shape
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = rows / height, cols / width
    cloud = noise(rng, shape, (130 * scale + 2, 300 * scale + 2), 4)
    blues = [(-2.2, (104, 150, 190)), (-0.4, (152, 188, 206))]
    sky = palette([*blues, (0.7, (244, 222, 196)), (2, (252, 236, 186))], cloud + 3.0 * (y - 0.12))
    colour, angle = sky, np.full(shape, 0.1, np.float32) + 0.3 * cloud
    banks = [
        (0.20, 52, (74, 124, 150), (150, 190, 168)),
        (0.235, 46, (44, 104, 92), (150, 184, 92)),
    ]
    banks += [(0.275, 34, (30, 84, 56), (190, 200, 80))]
    for base, swing, dark, pale in banks:
        crowns = np.abs(noise(rng, (1, width), (1, 120 * scale + 2), 4, 0.6)[0])
        line = base * height - swing * scale * crowns
        leaf = noise(rng, shape, 60 * scale + 2, 4) + (rows - line) / (-120 * scale)
        grove = palette([(-2, dark), (1.5, pale), (2.6, (244, 226, 130))], leaf)
        colour = over(colour, grove, smoothstep(-3, 3, (rows - line) / max(scale, 0.1)))
        angle = np.where(rows > line, 1.2 + 0.8 * leaf, angle)
    ripple = noise(rng, shape, (9 * scale + 1, 120 * scale + 2), 3)
    mirror = np.clip((2 * HORIZON * height - rows) / 1.25 + 8 * scale * ripple, 0, height - 1)
    seen = colour[np.clip(mirror, 0, HORIZON * height).astype(int), cols.astype(int)]
    deep = palette(
        [(-2, (30, 62, 92)), (0, (62, 112, 132)), (1.2, (136, 172, 170)), (2.4, (226, 206, 204))],
        ripple + 1.1 * noise(rng, shape, (120 * scale + 2, 260 * scale + 2), 2),
    )
    water = 0.45 * seen + 0.55 * deep
    colour = over(colour, water, smoothstep(HORIZON - 0.004, HORIZON + 0.004, y))
    angle = np.where(y > HORIZON, 0.0, angle)
    shore = SHORE + 0.055 * np.sin(5.2 * x + 0.8) + 0.10 * (x - 0.5) ** 2
    shore += 0.012 * noise(rng, (1, width), (1, 120 * scale + 2), 3)
    grass = noise(rng, shape, (90 * scale + 2, 40 * scale + 2), 4) + 1.6 * (0.8 - y)
    greens = [(-2, (26, 62, 56)), (0, (72, 116, 62)), (1.6, (160, 172, 82)), (3, (232, 214, 120))]
    lawn = palette(greens, grass)
    path = np.abs(x - 0.60 - 0.55 * (y - 0.72) - 0.05 * np.sin(9 * y)) - 0.11 * (y - 0.52)
    rose = [(-2, (176, 130, 132)), (0, (226, 182, 150)), (2, (252, 228, 184))]
    sand = palette(rose, cloud + grass)
    lawn = over(lawn, sand, smoothstep(0.008, -0.008, path + 0.006 * grass) * (y > 0.70))
    on_bank = smoothstep(-0.004, 0.004, y - shore)
    angle = np.where(on_bank > 0.5, -np.pi / 2 + 0.35 * grass, angle)
    return over(colour, lawn, on_bank), angle


def _bridge(shape: tuple[int, int], scale: float, colour: Array) -> Array:
    """An arched footbridge and its reflection."""
    height, width = shape
    t = np.linspace(0, 1, 60)
    for sign, paint in ((-1, rgb(112, 60, 78)), (1, rgb(196, 82, 60))):
        middle = (HORIZON + 0.075) * height
        rise = sign * (84 * np.sin(np.pi * t) + 6) * scale
        arch = np.stack([(0.235 + 0.46 * t) * width, middle - rise], axis=1)
        rail = arch - np.array([0, sign * 50 * scale])
        parts = [ribbon(arch, 20 * scale), ribbon(rail, 10 * scale)]
        parts += [ribbon(np.stack([arch[k], rail[k]]), 7 * scale) for k in range(2, 60, 6)]
        colour = over(colour, paint, (0.95 if sign > 0 else 0.6) * mask_of(shape, parts))
    return colour


def _plants(rng: Generator, shape: tuple[int, int], scale: float) -> list[tuple[Array, Array]]:
    """Places (x, y, width, angle) and colours of dabs that stand for single things."""
    height, width = shape
    groups = []
    for _ in range(17):
        x, y = rng.uniform(0.02, 0.98) * width, rng.uniform(HORIZON + 0.07, SHORE - 0.02) * height
        near = (y / height - HORIZON) / (SHORE - HORIZON)
        count = int(26 + 30 * near)
        spread = np.array([62, 9]) * (0.5 + near) * scale
        at = rng.normal((x, y), spread, (count, 2))
        tone = rng.uniform(0, 1, count)
        pads = palette([(0, (26, 88, 78)), (0.6, (92, 160, 96)), (1, (190, 208, 130))], tone)
        flowers = rng.uniform(0, 1, count) < 0.2
        pads[flowers] = BLOOMS[rng.choice([0, 4, 7], count)][flowers]
        wide = (9 + 8 * near) * scale * rng.uniform(0.7, 1.3, count)
        groups.append((np.column_stack([at, wide, np.zeros(count)]), pads))
    for _ in range(74):
        x, y = rng.uniform(0, 1), 0.71 + 0.33 * rng.uniform() ** 0.8
        if abs(x - 0.60 - 0.55 * (y - 0.72)) < 0.14 * (y - 0.52) + 0.03:
            continue
        near = (y - 0.6) / 0.4
        count = int(rng.uniform(50, 110))
        reach = rng.uniform(24, 62) * (0.5 + near) * scale
        at = rng.normal((x * width, y * height), (reach, 0.62 * reach), (count, 2))
        pair = BLOOMS[rng.integers(0, len(BLOOMS), 2)]
        mix = rng.uniform(0, 1, (count, 1))
        tint = (pair[0] + (pair[1] - pair[0]) * (mix > 0.75)) * rng.uniform(0.72, 1.15, (count, 1))
        leaves = rng.uniform(0, 1, count) < 0.3
        tint[leaves] = rgb(40, 110, 60) * rng.uniform(0.5, 1.7, (count, 1))[leaves]
        wide = (5.5 + 8.5 * near) * scale * rng.uniform(0.6, 1.35, count)
        groups.append((np.column_stack([at, wide, rng.uniform(0, np.pi, count)]), tint))
    for root in np.concatenate([rng.uniform(-0.05, 0.17, 46), rng.uniform(0.80, 1.05, 52)]):
        top, long = rng.uniform(-0.05, 0.06), rng.uniform(0.18, 0.48)
        sway = rng.normal(0.01, 0.02)
        frond = spline(
            np.array([(0, 0), (0.3 * sway, 0.5 * long), (sway, long)]) * (width, height)
            + np.array([root * width, top * height]),
            int(18 + 70 * long),
        )
        heading = np.arctan2(*np.gradient(frond, axis=0).T[::-1]) + rng.normal(0, 0.3, len(frond))
        at = frond + rng.normal(0, 3.5, frond.shape) * scale
        tone = rng.uniform(0, 0.5) + rng.uniform(0, 0.5, len(frond))
        tint = palette([(0, (30, 80, 60)), (0.5, (98, 150, 62)), (1, (226, 214, 96))], tone)
        wide = rng.uniform(5, 9, len(frond)) * scale
        groups.append((np.column_stack([at, wide, heading]), tint))
    return groups


def garden(size: int, rng: Generator) -> Image.Image:
    """Pointillist garden: complementary dots over a warm ground, blossoms, lilies and willows."""
    height, width, scale = frame(size, 1.25)
    shape = (height, width)
    colour, angle = _light(rng, shape, scale)
    colour = _bridge(shape, scale, colour)
    canvas = Canvas(shape, rgb(214, 170, 130))
    brush = Brush(rng, dryness=0.2, oval=True)

    def dab(x: float, y: float, turn: float, long: float, wide: float, paint: Array) -> None:
        canvas.stroke(
            brush, brush.pick(rng), (x, y), turn, max(long, 2.0), max(wide, 1.4), 0.0,
            paint, 0.05 * (0.4 + paint), opacity=0.93, body=0.75,
        )  # fmt: skip

    passes = ((15, 36, 17, 0.05), (8.0, 16, 9.5, 0.085), (9.0, 10.5, 8.0, 0.13))
    for spacing, long, wide, spread in passes:
        xs, ys = scatter(rng, shape, spacing * scale)
        turns = sample(angle, xs, ys) + rng.normal(0, 0.3, xs.size)
        paint = sample(colour, xs, ys)
        # Divided colour: dabs swing between warm and cool while their mixture keeps the tone.
        warm = rng.normal(0, spread, (xs.size, 1)) * np.array([1.0, 0.15, -0.95])
        rose = rng.normal(0, 0.4 * spread, (xs.size, 1)) * np.array([0.7, -0.8, 0.5])
        paint = (paint + warm + rose) * (1 + rng.normal(0, 0.8 * spread, (xs.size, 1)))
        for i in range(xs.size):
            stretch = rng.uniform(0.75, 1.25)
            dab(xs[i], ys[i], turns[i], long * scale * stretch, wide * scale * stretch, paint[i])
    for places, tints in _plants(rng, shape, scale):
        for (x, y, wide, turn), tint in zip(places, tints, strict=True):
            tint = tint + rng.normal(0, 0.035, 3).astype(np.float32)
            dab(x, y, turn, 1.6 * wide, wide, tint)
    return to_image(canvas.lit(0.42, 0.08))
