"""What the paintings share: noise, curves, masks, bristle brushes, paint with relief, paper.

Lengths are given in units of a canvas whose longer side is 1280 and are multiplied by
``scale``, so a picture keeps its composition at any size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float32]
Colour = tuple[int, int, int]
REFERENCE_SIDE = 1280


def frame(size: int, aspect: float) -> tuple[int, int, float]:
    """Height, width and scale of a canvas of the given longer side and width/height ratio."""
    if aspect >= 1:
        height, width = round(size / aspect), size
    else:
        height, width = size, round(size * aspect)
    return max(height, 8), max(width, 8), size / REFERENCE_SIDE


def resize(field: Array, shape: tuple[int, int]) -> Array:
    """Bicubic resampling of one float plane."""
    image = Image.fromarray(np.asarray(field, np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def noise(
    rng: Generator,
    shape: tuple[int, int],
    cell: float | tuple[float, float],
    octaves: int = 3,
    gain: float = 0.55,
) -> Array:
    """Smooth fractal noise of mean 0 and deviation 1; ``cell`` is its largest grain (y, x)."""
    cell_y, cell_x = (cell, cell) if isinstance(cell, int | float) else cell
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        step_y, step_x = max(cell_y / 2**octave, 1.0), max(cell_x / 2**octave, 1.0)
        rows, cols = shape[0] / step_y, shape[1] / step_x
        grid = rng.standard_normal((int(rows) + 3, int(cols) + 3)).astype(np.float32)
        layer = Image.fromarray(grid).resize(
            (shape[1], shape[0]), Image.Resampling.BICUBIC, box=(1, 1, 1 + cols, 1 + rows)
        )
        total += gain**octave * np.asarray(layer)
    return (total - total.mean()) / (total.std() + 1e-6)


def blur(field: Array, radius: float) -> Array:
    """Three box blurs along each axis, close to a Gaussian of deviation ``radius``."""
    reach = max(round(radius), 0)
    if reach == 0:
        return field
    for axis in (0, 1) * 3:
        width = min(reach, field.shape[axis] - 1)
        pads = [(0, 0)] * field.ndim
        pads[axis] = (width + 1, width)
        sums = np.cumsum(np.pad(field, pads, mode="edge"), axis=axis, dtype=np.float64)
        high = np.take(sums, range(2 * width + 1, sums.shape[axis]), axis=axis)
        low = np.take(sums, range(sums.shape[axis] - 2 * width - 1), axis=axis)
        field = ((high - low) / (2 * width + 1)).astype(np.float32)
    return field


def smoothstep(low: float, high: float, value: ArrayLike) -> Array:
    """0 below ``low``, 1 above ``high``, smooth between (reversed if low > high)."""
    t = np.clip((np.asarray(value, np.float32) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def palette(stops: Sequence[tuple[float, tuple[int, int, int]]], value: ArrayLike) -> Array:
    """Colours (0..1) interpolated at ``value`` between (position, 8-bit colour) stops."""
    positions = [stop[0] for stop in stops]
    channels = [np.interp(value, positions, [stop[1][c] / 255 for stop in stops]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def rgb(*channels: int) -> Array:
    """An 8-bit colour as floats."""
    return np.array(channels, np.float32) / 255


def spline(points: ArrayLike, count: int = 64) -> Array:
    """A Catmull-Rom curve through the points."""
    p = np.asarray(points, np.float32)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, len(p) - 3 - 1e-4, count, dtype=np.float32)
    i, f = t.astype(int), (t % 1)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (
        2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3
    )


def ribbon(points: Array, widths: ArrayLike) -> Array:
    """The outline of a line whose width varies along it."""
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-6
    half = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    half *= np.broadcast_to(np.asarray(widths, np.float32), len(points))[:, None] / 2
    return np.concatenate([points + half, (points - half)[::-1]])


def mask_window(
    shape: tuple[int, int], polygons: Sequence[Array], oversample: int = 3
) -> tuple[tuple[slice, slice], Array]:
    """The window that holds some polygons and their coverage (0..1) of it, anti-aliased."""
    corners = np.concatenate([np.asarray(polygon) for polygon in polygons])
    left, top = np.clip(np.floor(corners.min(axis=0)) - 1, 0, (shape[1] - 1, shape[0] - 1))
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 2, (left + 1, top + 1), shape[::-1])
    size = (int(right - left) * oversample, int(bottom - top) * oversample)
    image = Image.new("L", size)
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        inside = (np.asarray(polygon) - (left, top)) * oversample
        draw.polygon([(float(x), float(y)) for x, y in inside], fill=255)
    window = (slice(int(top), int(bottom)), slice(int(left), int(right)))
    return window, np.asarray(image.reduce(oversample), np.float32) / 255


def mask_of(shape: tuple[int, int], polygons: Sequence[Array], oversample: int = 3) -> Array:
    """Coverage (0..1) of the union of polygons over the whole canvas."""
    window, cover = mask_window(shape, polygons, oversample)
    mask = np.zeros(shape, np.float32)
    mask[window] = cover
    return mask


def over(base: Array, colour: Array, cover: Array) -> Array:
    """``colour`` laid over ``base`` where ``cover`` is 1."""
    return base + cover[..., None] * (colour - base)


def sample(field: Array, x: Array, y: Array) -> Array:
    """Nearest values of a map at points (clamped to it)."""
    rows = np.clip(np.asarray(y).astype(int), 0, field.shape[0] - 1)
    cols = np.clip(np.asarray(x).astype(int), 0, field.shape[1] - 1)
    return field[rows, cols]


def smear(field: Array, angle: Array, length: float, steps: int = 12) -> Array:
    """Average a map along the streamlines of a direction field (line integral convolution)."""
    height, width = field.shape
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float32)
    dx, dy = np.cos(angle), np.sin(angle)
    total = field.copy()
    for sign in (-1, 1):
        x, y = cols.copy(), rows.copy()
        for _ in range(steps):
            step = sign * length / steps
            x, y = x + step * sample(dx, x, y), y + step * sample(dy, x, y)
            total += sample(field, x, y)
    return (total - total.mean()) / (total.std() + 1e-6)


def scatter(rng: Generator, shape: tuple[int, int], spacing: float) -> tuple[Array, Array]:
    """Shuffled points of a jittered grid that covers the canvas and a little more."""
    spacing = max(spacing, 2.0)
    ys, xs = np.meshgrid(
        np.arange(-spacing, shape[0] + spacing, spacing),
        np.arange(-spacing, shape[1] + spacing, spacing),
        indexing="ij",
    )
    points = np.stack([xs.ravel(), ys.ravel()], axis=1)
    points += rng.uniform(-0.6, 0.6, points.shape) * spacing
    rng.shuffle(points)
    return points[:, 0].astype(np.float32), points[:, 1].astype(np.float32)


def to_image(pixels: Array) -> Image.Image:
    """An 8-bit picture of floats in 0..1."""
    return Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))


class Cartoon:
    """A flat drawing in reference units: a colour and a region number at every point."""

    def __init__(self, shape: tuple[int, int], scale: float, ground: Colour) -> None:
        side = (shape[1], shape[0])
        self.shape, self.scale, self.count = shape, scale, 1
        self.colour = Image.new("RGB", side, ground)
        self.region = Image.new("I", side, 1)
        self._colour_draw = ImageDraw.Draw(self.colour)
        self._region_draw = ImageDraw.Draw(self.region)

    def tint(self, polygon: ArrayLike, colour: Colour) -> None:
        """Change the colour of a shape but not the region it belongs to."""
        flat = [(float(x), float(y)) for x, y in np.asarray(polygon, np.float32) * self.scale]
        self._colour_draw.polygon(flat, fill=colour)

    def area(self, polygon: ArrayLike, colour: Colour) -> None:
        """Make a shape a region of its own."""
        self.count += 1
        flat = [(float(x), float(y)) for x, y in np.asarray(polygon, np.float32) * self.scale]
        self._region_draw.polygon(flat, fill=self.count)
        self.tint(polygon, colour)


class Brush:
    """A set of bristle prints: cover, relief and tint of a stroke, along it and across it.

    A round brush leaves oval dabs, a flat one strokes with square, ragged ends.
    """

    LONG, WIDE = 96, 32

    def __init__(
        self, rng: Generator, dryness: float = 0.3, oval: bool = False, prints: int = 40
    ) -> None:
        shape = (self.LONG, self.WIDE)
        along = np.linspace(0, 1, self.LONG, dtype=np.float32)[:, None]
        across = np.abs(np.linspace(-1, 1, self.WIDE, dtype=np.float32))[None, :]
        cover, relief, tint = [], [], []
        for _ in range(prints):
            hairs = noise(rng, shape, (60, 3.2), 2)
            streaks = noise(rng, shape, (90, 7), 2)
            start = 0.05 + 0.025 * noise(rng, (1, self.WIDE), (1, 4), 2)
            stop = (
                0.92
                - 0.12 * dryness
                + (0.03 + 0.08 * dryness) * noise(rng, (1, self.WIDE), (1, 3.5), 2)
            )
            ends = smoothstep(-0.03, 0.03, along - start) * smoothstep(0.05, -0.05, along - stop)
            arch = np.sqrt(np.clip(1 - (2 * along - 1) ** 2, 0, 1)) if oval else 1.0
            waver = noise(rng, (self.LONG, 1), (14, 1))
            taper = 0.93 * arch - 0.25 * (2 * along - 1) ** 4 + 0.04 * waver
            sides = smoothstep(0.06, -0.08, across - taper)
            gaps = smoothstep(-2.6, -1.4, hairs + 1.6 * (1 - along) - 1.6 * dryness * along)
            cover.append(ends * sides * (1 - dryness + dryness * gaps))
            rim = np.exp(-(((across - taper + 0.12) / 0.1) ** 2)) + 0.8 * np.exp(
                -(((along - stop + 0.06) / 0.04) ** 2)
            )
            relief.append(0.5 + 0.2 * hairs + 0.55 * rim)
            tint.append(np.clip(0.6 * streaks + 0.5 * hairs, -2, 2))
        self.cover = np.array(cover, np.float32)
        self.relief = np.array(relief, np.float32)
        self.tint = np.array(tint, np.float32)

    def pick(self, rng: Generator) -> int:
        """The number of one of the prints."""
        return int(rng.integers(len(self.cover)))


class Canvas:
    """Wet paint: a colour plane and the relief of the paint on it."""

    def __init__(self, shape: tuple[int, int], ground: Array) -> None:
        self.shape = shape
        self.pixels = np.broadcast_to(ground, (*shape, 3)).astype(np.float32)
        self.relief = np.zeros(shape, np.float32)

    def stroke(
        self,
        brush: Brush,
        prints: int,
        at: tuple[float, float],
        angle: float,
        length: float,
        width: float,
        bend: float,
        colour: Array,
        streak: Array,
        opacity: float = 1.0,
        body: float = 1.0,
        within: tuple[NDArray[np.integer], int] | None = None,
    ) -> None:
        """Lay one stroke, bent like a parabola; ``within`` keeps it inside one labelled area."""
        x, y = at
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        sag = abs(bend) * length * length / 4
        reach_x = abs(cos) * length / 2 + abs(sin) * (width / 2 + sag) + 1
        reach_y = abs(sin) * length / 2 + abs(cos) * (width / 2 + sag) + 1
        left, right = max(int(x - reach_x), 0), min(int(x + reach_x) + 2, self.shape[1])
        top, bottom = max(int(y - reach_y), 0), min(int(y + reach_y) + 2, self.shape[0])
        if left >= right or top >= bottom:
            return
        dx = np.arange(left, right, dtype=np.float32) - x
        dy = (np.arange(top, bottom, dtype=np.float32) - y)[:, None]
        u = dx * cos + dy * sin
        v = dy * cos - dx * sin - bend * u * u
        iu = ((u / length + 0.5) * brush.LONG).astype(np.int32)
        iv = ((v / width + 0.5) * brush.WIDE).astype(np.int32)
        inside = (u > -length / 2) & (iu < brush.LONG) & (v > -width / 2) & (iv < brush.WIDE)
        rows, cols = np.nonzero(inside)
        if rows.size == 0:
            return
        where = (prints, iu[rows, cols], iv[rows, cols])
        rows, cols = rows + top, cols + left
        cover = brush.cover[where] * opacity
        if within is not None:
            cover = cover * (within[0][rows, cols] == within[1])
        paint = colour + brush.tint[where][:, None] * streak
        old = self.pixels[rows, cols]
        self.pixels[rows, cols] = old + cover[:, None] * (paint - old)
        old_relief = self.relief[rows, cols]
        self.relief[rows, cols] = (
            old_relief * (1 - 0.75 * cover) + body * cover * (brush.relief[where])
        )

    def lit(self, depth: float = 0.35, gloss: float = 0.1) -> Array:
        """The colours under a light from the upper left that rakes the relief."""
        relief = self.relief
        slope_y, slope_x = np.gradient(relief)
        slope = np.clip(slope_x * 0.7 + slope_y * 0.75, -0.8, 0.8)
        shine = np.clip(slope - 0.12, 0, 1) ** 1.5
        return self.pixels * (1 + depth * slope[..., None]) + gloss * shine[..., None]


def weave(rng: Generator, shape: tuple[int, int], scale: float) -> Array:
    """Relief of a woven canvas, around 0."""
    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    step = max(3.2 * scale, 2.0)
    wander = 0.7 * noise(rng, shape, 40 * scale + 2, 2)
    warp = np.sin(2 * np.pi * cols / step + wander) * np.sin(np.pi * rows / step + wander)
    return warp + 0.5 * noise(rng, shape, (2, 6 * scale + 2), 2)


def paper(rng: Generator, shape: tuple[int, int], scale: float, tone: Array) -> Array:
    """Handmade paper: cloudy tone, fine tooth and a few visible fibres."""
    cloud = noise(rng, shape, 300 * scale + 2, 4)
    tooth = noise(rng, shape, 3.0 * scale + 1, 2)
    sheet = tone * (1 + 0.022 * cloud + 0.022 * tooth)[..., None]
    fibres = []
    for _ in range(420):
        start = rng.uniform((0, 0), (shape[1], shape[0]))
        heading = rng.uniform(0, np.pi) + np.cumsum(rng.normal(0, 0.35, 6))
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * rng.uniform(3, 12) * scale
        fibres.append(ribbon((start + np.cumsum(steps, axis=0)).astype(np.float32), 0.9 * scale))
    veil = mask_of(shape, fibres, 2)
    return over(sheet, tone * 0.80, 0.35 * veil)
