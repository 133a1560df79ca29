"""A windy night in thick paint: thousands of short bristle strokes along a field of vortices."""

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
    sample,
    scatter,
    smear,
    smoothstep,
    to_image,
)

SKY = [
    (-2.6, (10, 16, 50)),
    (-1.3, (20, 36, 98)),
    (-0.4, (34, 70, 142)),
    (0.4, (58, 116, 168)),
    (1.1, (92, 158, 170)),
    (1.8, (176, 204, 178)),
    (2.6, (240, 226, 160)),
    (3.4, (250, 206, 86)),
    (4.6, (255, 240, 190)),
]
# Lamps of the sky: x, y (of width, height), reach, turn, brightness; the first is the moon.
LIGHTS = [
    (0.845, 0.170, 165, 1.0, 1.25),
    (0.120, 0.130, 80, -1.0, 0.90),
    (0.295, 0.085, 52, 1.0, 0.75),
    (0.475, 0.115, 64, 1.0, 0.85),
    (0.640, 0.075, 46, -1.0, 0.70),
    (0.300, 0.460, 58, -1.0, 0.80),
    (0.660, 0.420, 70, 1.0, 0.85),
    (0.930, 0.480, 48, -1.0, 0.75),
]
# Eddies of the wind: x, y, reach, strength.
EDDIES = [(0.40, 0.300, 190, 2.6), (0.575, 0.335, 150, -2.4), (0.13, 0.36, 130, -1.5)]


def _sky(rng: Generator, shape: tuple[int, int], scale: float) -> tuple[Array, Array]:
    """Direction of the wind and brightness of the air."""
    height, width = shape
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float32)
    wind_x = np.ones(shape, np.float32)
    wind_y = 0.45 * np.sin(cols / width * 7.5 + 0.6) + 0.22 * noise(rng, shape, 260 * scale + 2, 2)
    light = np.zeros(shape, np.float32)
    for x, y, reach, strength in EDDIES:
        dx, dy = cols - x * width, (rows - y * height) * 1.15
        near = np.hypot(dx, dy) / (reach * scale) + 1e-3
        pull = strength * np.exp(-(near**2) / 1.6) / near
        wind_x += -pull * dy / (reach * scale)
        wind_y += pull * dx / (reach * scale)
        arm = np.sin(2.0 * np.arctan2(dy, dx) - np.sign(strength) * 5.5 * near)
        light += np.exp(-(near**2) / 1.4) * (0.55 + 0.95 * arm)
    for x, y, reach, turn, bright in LIGHTS:
        dx, dy = cols - x * width, rows - y * height
        near = np.hypot(dx, dy) / (reach * scale) + 1e-3
        pull = 3.5 * turn * np.exp(-(near**2) * 0.8) / near
        wind_x = wind_x - pull * dy / (reach * scale)
        wind_y = wind_y + pull * dx / (reach * scale)
        halo = 3.4 * np.exp(-near * 1.5) + 0.55 * np.cos(near * 10.0) * np.exp(-near * 0.9)
        light += bright * np.where(near < 3.2, halo, 0) + bright * 3.0 * smoothstep(0.3, 0.2, near)
    return np.arctan2(wind_y, wind_x), light


def _ridge(rng: Generator, width: int, base: float, swing: float, scale: float) -> Array:
    """Height of a hill line at every column."""
    return base + swing * noise(rng, (1, width), (1, 430 * scale + 2), 3, 0.4)[0]


def _land(
    rng: Generator, shape: tuple[int, int], scale: float, colour: Array, angle: Array
) -> tuple[Array, Array, Array]:
    """Lay hills, fields, a village and two cypresses over the maps of colour and direction.

    The third map tells where the village is, which wants a finer brush.
    """
    height, width = shape
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float32)
    hills = [
        (0.655, 16, (30, 62, 122), (96, 142, 168), 60),
        (0.715, 20, (22, 50, 92), (70, 128, 130), 46),
        (0.790, 14, (28, 62, 62), (138, 146, 72), 40),
        (0.885, 12, (58, 66, 40), (206, 164, 66), 34),
    ]
    for base, swing, dark, pale, furrow in hills:
        line = _ridge(rng, width, base * height, swing * scale, scale)
        inside = smoothstep(-1, 1, rows - line[None, :])
        slope = np.gradient(line)[None, :]
        depth = (rows - line[None, :]) / (furrow * scale)
        tilt = np.arctan(slope * 2.2) + 0.5 * np.sin(depth * 1.9 + cols / (150 * scale))
        band = np.sin(depth * 3.4 + 2.2 * np.sin(cols / (120 * scale) + base * 40))
        tone = 0.40 + 0.30 * band + 0.22 * noise(rng, shape, 70 * scale + 2, 2) - 0.10 * depth
        tone += 0.55 * np.exp(-((depth * 4.5) ** 2))
        ground = palette([(0, dark), (1, pale), (1.6, (236, 210, 140))], tone)
        colour = over(colour, ground, inside)
        angle = np.where(inside > 0.5, tilt, angle)
    before = colour
    colour, angle = _village(rng, shape, scale, colour, angle)
    village = smoothstep(0.02, 0.2, np.abs(colour - before).sum(axis=2))
    for x, foot, top, spread in ((0.075, 1.04, 0.22, 62), (0.165, 1.04, 0.52, 44)):
        t = np.linspace(0, 1, 120, dtype=np.float32)
        waver = noise(rng, (1, 120), (1, 18), 3)[0] * spread * 0.16 * scale
        spine = x * width + 16 * scale * np.sin(t * 6.0 + x * 30)
        half = spread * scale * np.clip(np.sin(np.pi * t**0.62), 0, 1) ** 0.8 * (0.35 + 0.65 * t)
        ys = (top + (foot - top) * t) * height
        left = np.stack([spine - half - np.abs(waver), ys], axis=1)
        right = np.stack([spine + half + np.abs(waver[::-1]), ys], axis=1)
        inside = mask_of(shape, [np.concatenate([left, right[::-1]])])
        flame = np.sin((cols - x * width) / (8.0 * scale) + 2.4 * np.sin(rows / (52 * scale)))
        tone = 0.42 + 0.34 * flame + 0.24 * noise(rng, shape, 40 * scale + 2, 2)
        leaf = palette([(-0.2, (10, 16, 20)), (0.5, (26, 52, 42)), (1.15, (116, 118, 52))], tone)
        colour = over(colour, leaf, inside)
        sway = 0.55 * np.sin(rows / (52 * scale) + (cols - x * width) / (46 * scale))
        angle = np.where(inside > 0.4, -np.pi / 2 + sway, angle)
    return colour, angle, village


def _village(
    rng: Generator, shape: tuple[int, int], scale: float, colour: Array, angle: Array
) -> tuple[Array, Array]:
    """Huddled roofs, lit windows and a steeple in the valley."""
    height, width = shape
    for _ in range(17):
        x = np.clip(rng.normal(0.60, 0.13), 0.32, 0.92) * width
        y = rng.uniform(0.765, 0.835) * height
        w, h = rng.uniform(42, 72) * scale, rng.uniform(24, 38) * scale
        wall = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], np.float32)
        eaves = [(x - 4 * scale, y), (x + w * 0.28, y - h * 0.8)]
        eaves += [(x + w * 0.8, y - h * 0.75), (x + w + 4 * scale, y)]
        roof = np.array(eaves, np.float32)
        tint = rng.uniform(0, 1)
        colour = over(colour, rgb(64, 92, 132) * (0.6 + 0.6 * tint), mask_of(shape, [wall], 2))
        tiles = rgb(120, 62, 44) if tint > 0.55 else rgb(26, 40, 74)
        colour = over(colour, tiles, mask_of(shape, [roof], 2))
        pane = np.array([(0.4, 0.3), (0.66, 0.3), (0.66, 0.85), (0.4, 0.85)], np.float32)
        window = pane * (w, h) + (x, y)
        colour = over(colour, rgb(252, 198, 84), mask_of(shape, [window], 2))
        angle = np.where(mask_of(shape, [wall], 2) > 0.5, np.pi / 2, angle)
        angle = np.where(mask_of(shape, [roof], 2) > 0.5, -0.35, angle)
    x, y = 0.585 * width, 0.80 * height
    tower = [(-11, 16), (-11, -44), (0, -128), (11, -44), (11, 16)]
    cover = mask_of(shape, [np.array(tower, np.float32) * scale + (x, y)])
    colour = over(colour, rgb(34, 48, 88), cover)
    lit_side = [(1, 14), (1, -44), (1, -120), (10, -44), (10, 14)]
    side = mask_of(shape, [np.array(lit_side, np.float32) * scale + (x, y)])
    colour = over(colour, rgb(112, 140, 160), side)
    return colour, np.where(cover > 0.5, np.pi / 2, angle)


def swirls(size: int, rng: Generator) -> Image.Image:
    """Van-Gogh-like night: wind, moon and stars over hills, a village and cypresses."""
    height, width, scale = frame(size, 1.25)
    shape = (height, width)
    angle, light = _sky(rng, shape, scale)
    streams = smear(noise(rng, shape, 24 * scale + 1, 2), angle, 90 * scale)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    tone = 0.85 * streams + light - 0.75 + 1.3 * smoothstep(0.25, 0.70, rows)
    colour = palette(SKY, tone)
    colour, angle, village = _land(rng, shape, scale, colour, angle)

    canvas = Canvas(shape, rgb(40, 44, 50))
    brush = Brush(rng, dryness=0.35)
    detail = np.abs(colour.mean(axis=2) - colour.mean(axis=2).mean())
    wishes = (None, None, 0.25 + 1.6 * detail, village)
    passes = [(20, 92, 21, 0.05), (9.8, 54, 11.5, 0.075), (8.5, 36, 7.5, 0.10)]
    passes += [(3.4, 14, 4.2, 0.05)]
    for wish, (spacing, long, wide, jitter) in zip(wishes, passes, strict=True):
        xs, ys = scatter(rng, shape, spacing * scale)
        if wish is not None:
            keep = rng.uniform(0, 1, xs.size) < sample(wish, xs, ys)
            xs, ys = xs[keep], ys[keep]
        turn = sample(angle, xs, ys)
        lengths = long * scale * rng.uniform(0.6, 1.25, xs.size)
        widths = np.maximum(wide * scale * rng.uniform(0.65, 1.25, xs.size), 1.2)
        ahead_x, ahead_y = np.cos(turn) * lengths / 3, np.sin(turn) * lengths / 3
        swing = sample(angle, xs + ahead_x, ys + ahead_y)
        swing = swing - sample(angle, xs - ahead_x, ys - ahead_y)
        swing = np.clip((swing + np.pi) % (2 * np.pi) - np.pi, -1.1, 1.1)
        bends = swing / (lengths * 4 / 3)
        paint = sample(colour, xs, ys)
        paint = paint * (1 + rng.normal(0, 1.6 * jitter, (xs.size, 1)))
        paint = paint + rng.normal(0, 0.45 * jitter, (xs.size, 3))
        streaks = (0.035 + 0.05 * rng.uniform(0, 1, (xs.size, 1))) * (
            0.6 + 0.8 * paint.mean(axis=1, keepdims=True)
        ) + rng.normal(0, 0.018, (xs.size, 3))
        turn = turn + rng.normal(0, 0.09, xs.size)
        prints = rng.integers(0, len(brush.cover), xs.size)
        for i in range(xs.size):
            canvas.stroke(
                brush, prints[i], (xs[i], ys[i]), turn[i], lengths[i], widths[i], bends[i],
                paint[i], streaks[i], opacity=0.96, body=0.8 + 0.5 * float(paint[i].mean()),
            )  # fmt: skip
    for x, y, reach, turn, _ in LIGHTS:
        for _ in range(9):
            around, away = rng.uniform(0, 2 * np.pi), abs(rng.normal(0, 0.09)) * reach * scale
            at = (x * width + away * np.cos(around), y * height + away * np.sin(around))
            core = palette(SKY, rng.uniform(2.8, 4.6))
            canvas.stroke(
                brush, brush.pick(rng), at, around + np.pi / 2, 0.24 * reach * scale + 2,
                0.10 * reach * scale + 2, 0.02 * turn / scale, core, core * 0.06, body=1.4,
            )  # fmt: skip
    return to_image(canvas.lit(0.55, 0.22))
