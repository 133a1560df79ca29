"""A Byzantine floor: two fish circle a sun in a sea medallion, on gold with vines and a border.

The tesserae are the cells of a centroidal Voronoi diagram in a square metric turned along the
contours of the design (after Hausner, "Simulating decorative mosaics", 2001), so that their
rows follow the drawing as the rows of a mosaicist do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from .canvas import (
    Array,
    Cartoon,
    Colour,
    blur,
    frame,
    noise,
    over,
    resize,
    rgb,
    ribbon,
    sample,
    smoothstep,
    spline,
    to_image,
)

CENTRE = (640.0, 512.0)
GOLD: Colour = (206, 158, 62)
NIGHT: Colour = (24, 34, 74)
LAPIS: Colour = (36, 66, 138)
SEA: Colour = (44, 118, 148)
TURQUOISE: Colour = (104, 176, 170)
FOAM: Colour = (214, 222, 204)
CREAM: Colour = (230, 216, 182)
RED: Colour = (158, 44, 34)
ROSE: Colour = (206, 118, 92)
LEAF: Colour = (52, 94, 60)
OLIVE: Colour = (120, 152, 66)
UMBER: Colour = (72, 44, 34)
PLUM: Colour = (92, 42, 70)
ORANGE: Colour = (226, 142, 70)
BRICK: Colour = (178, 62, 36)
BLUSH: Colour = (230, 188, 160)
LARGE, SMALL = 14.6, 9.8


def _polar(radius: ArrayLike, angle: ArrayLike, centre: Sequence[float] = CENTRE) -> Array:
    """Points of a plane curve given around a centre."""
    x = centre[0] + np.asarray(radius) * np.cos(angle)
    y = centre[1] + np.asarray(radius) * np.sin(angle)
    return np.stack(np.broadcast_arrays(x, y), axis=-1).astype(np.float32)


def _border(cartoon: Cartoon) -> None:
    """Nested frames: night blue, cream, lozenges between dark bands, cream, red."""

    def box(inset: float) -> Array:
        right, low = 1280 - inset, 1024 - inset
        return np.array([(inset, inset), (right, inset), (right, low), (inset, low)], np.float32)

    for inset, colour in ((-5, NIGHT), (26, CREAM), (37, UMBER), (88, CREAM), (99, RED)):
        cartoon.area(box(inset), colour)
    cartoon.area(box(110), GOLD)
    for across, length in ((False, 1280), (True, 1024)):
        number = round((length - 75) / 62)
        step = (length - 75) / number
        for k in range(1, number):
            for level in (62.5, (1024 if not across else 1280) - 62.5):
                x, y = 37.5 + k * step, level
                for share, paint in ((1.0, (LAPIS, RED, LEAF)[k % 3]), (0.5, CREAM)):
                    rx, ry = 0.44 * step * share, 22 * share
                    points = [(x - rx, y), (x, y - ry), (x + rx, y), (x, y + ry)]
                    cartoon.area([p[::-1] for p in points] if across else points, paint)
    for x in (62.5, 1280 - 62.5):
        for y in (62.5, 1024 - 62.5):
            for half, paint in ((32, CREAM), (24, RED), (13, GOLD)):
                square = [(x - half, y - half), (x + half, y - half), (x + half, y + half)]
                cartoon.area([*square, (x - half, y + half)], paint)


def _vine(cartoon: Cartoon, flip_x: bool, flip_y: bool) -> None:
    """A vine scroll in one corner: a spiral stem, leaves and a pomegranate."""
    sign = np.array([-1 if flip_x else 1, -1 if flip_y else 1], np.float32)
    origin = np.array([1280 if flip_x else 0, 1024 if flip_y else 0], np.float32)

    def place(points: ArrayLike) -> Array:
        return np.asarray(points, np.float32) * sign + origin

    turn = np.linspace(0.9, 8.2, 130)
    stem = _polar(22 + 11.0 * turn, turn + 0.4, (232, 224))
    stem = np.concatenate([stem, spline([stem[-1], (158, 330), (135, 440), (150, 520)], 40)])
    cartoon.area(place(ribbon(stem, np.linspace(9, 17, len(stem)))), LEAF)
    branch = spline([stem[118], (330, 150), (430, 140), (560, 128)], 40)
    cartoon.area(place(ribbon(branch, np.linspace(15, 9, 40))), LEAF)
    leaves = [(stem[126], 2.5, 74), (stem[136], 0.35, 84), (stem[150], 2.6, 52)]
    leaves += [(branch[14], 0.75, 84), (branch[30], -0.35, 80), (stem[162], 0.25, 74)]
    leaves += [(stem[96], 5.2, 60), (stem[70], 2.6, 58)]
    for root, angle, long in leaves:
        t = np.linspace(0, 1, 20)
        lobes = np.sin(np.pi * t) ** 0.7 * long * 0.56 * (1 + 0.14 * np.cos(15 * t))
        tip = root + long * np.array([np.cos(angle), np.sin(angle)])
        axis = spline([root, (root + tip) / 2 + 4, tip], 20)
        cartoon.area(place(ribbon(axis, lobes)), OLIVE)
        cartoon.tint(place(ribbon(axis, lobes * 0.42)), LEAF)
    rim = np.linspace(0, 2 * np.pi, 40)
    for radius, paint in ((34, RED), (19, ROSE)):
        cartoon.area(place(_polar(radius, rim, (232, 224))), paint)
    crown = [(215, 196), (208, 172), (222, 182), (232, 168), (242, 182), (256, 172), (249, 196)]
    cartoon.area(place(crown), CREAM)


def _medallion(cartoon: Cartoon) -> None:
    """Rope border, then rings of waves that grow paler towards the middle."""
    theta = np.linspace(0, 2 * np.pi, 361)
    for radius, colour in ((398, UMBER), (386, CREAM), (374, NIGHT)):
        cartoon.area(_polar(radius, theta), colour)
    for k in range(44):
        a = k * 2 * np.pi / 44
        t = np.linspace(0, 1, 16)
        twist = _polar(372 - 34 * t, a + 0.21 * t**1.5)
        cartoon.area(ribbon(twist, 25 * np.sin(np.pi * (0.1 + 0.8 * t))), (GOLD, RED)[k % 2])
    cartoon.area(_polar(338, theta), CREAM)
    rings = [(326, NIGHT), (304, LAPIS), (280, FOAM), (268, LAPIS), (240, SEA), (212, FOAM)]
    rings += [(200, SEA), (172, TURQUOISE), (146, FOAM), (135, TURQUOISE)]
    for k, (radius, colour) in enumerate(rings):
        swell = 0.0 if k == 0 else 9.0
        edge = radius + swell * np.sin(14 * theta + 1.3 * k) + 0.4 * swell * np.sin(5 * theta + k)
        cartoon.area(_polar(edge, theta), colour)


def _sun(cartoon: Cartoon) -> None:
    """The sun in the middle: two ranks of flame rays and a ringed disc."""
    theta = np.linspace(0, 2 * np.pi, 121)
    cartoon.area(_polar(112, theta), NIGHT)
    for k in range(24):
        a = k * np.pi / 12
        reach = 106 if k % 2 == 0 else 88
        t = np.linspace(0, 1, 14)
        flame = _polar(46 + (reach - 46) * t, a + 0.12 * np.sin(2 * np.pi * t))
        cartoon.area(ribbon(flame, 15 * (1 - t) ** 0.8 + 1), (RED, GOLD)[k % 2])
    discs = ((54, UMBER), (49, GOLD), (33, RED), (22, (240, 196, 96)), (9, CREAM))
    for radius, colour in discs:
        cartoon.area(_polar(radius, theta), colour)


def _fish(cartoon: Cartoon, start: float, back: Colour, side: Colour) -> None:
    """A fish bent around the sun: back, scaled flank, belly, fins, forked tail and a round eye."""
    t = np.linspace(0, 1, 90)
    angle = start + 2.3 * t
    spine_radius = 232 + 10 * np.sin(3.1 * t)
    half = 48 * np.clip(np.sin(np.pi * (0.06 + 0.94 * t) ** 0.66), 0, 1) ** 0.8 + 9 * t

    def along(offset: ArrayLike, at: ArrayLike) -> Array:
        """Points at a share of the half width from the spine (outside positive)."""
        here = np.interp(at, t, half) * np.asarray(offset)
        return _polar(np.interp(at, t, spine_radius) + here, np.interp(at, t, angle))

    for at, offset, lean, long, paint in (
        (0.40, 0.9, 0.20, 0.70, RED), (0.62, 0.9, 0.13, 0.55, RED), (0.34, -0.9, 0.15, 0.75, ROSE),
        (0.60, -0.9, 0.12, 0.60, ROSE),
    ):  # fmt: skip
        sign = np.sign(offset)
        fin = [along(offset, at - 0.11), along(offset + sign * long * 0.8, at - 0.02)]
        fin += [along(offset + sign * long, at + lean), along(offset, at + 0.09)]
        cartoon.area(np.array(fin), paint)
        ridge = [along(offset, at - 0.02), along(offset + sign * long, at + 0.6 * lean)]
        cartoon.tint(ribbon(np.array(ridge, np.float32), 7), CREAM)
    for sign in (1, -1):
        shares = [(0.3, 0.95), (3.2 * sign, 1.0), (6.0 * sign, 1.0), (3.0 * sign, 1.0), (0.0, 1.0)]
        ahead = [0.0, 0.06, 0.27, 0.27, 0.13]
        lobe = [
            _polar(spine_radius[-1] + o * half[-1], start + 2.3 * a + e)
            for (o, a), e in zip(shares, ahead, strict=True)
        ]
        cartoon.area(np.array(lobe), RED)
        cartoon.tint(np.array([lobe[1], lobe[2], lobe[3]]), ROSE)
    outline = np.concatenate([along(1.12, t), along(-1.12, t)[::-1]])
    cartoon.area(outline, UMBER)
    for low, high, paint in ((0.42, 0.96, back), (-0.42, 0.42, side), (-0.96, -0.42, CREAM)):
        cartoon.area(np.concatenate([along(low, t), along(high, t)[::-1]]), paint)
    for row, offset in enumerate((-0.22, 0.14, 0.5, 0.82)):
        for at in np.arange(0.26 + 0.022 * (row % 2), 0.93, 0.046):
            scale = [along(offset - 0.16, at), along(offset, at + 0.024), along(offset + 0.16, at)]
            paint = (back, CREAM, side, side)[row]
            cartoon.tint(ribbon(np.array(scale, np.float32), 7.5), paint)
    gill = np.array([along(o, 0.215 + 0.03 * (1 - o * o)) for o in np.linspace(-0.95, 0.95, 16)])
    head = np.concatenate([along(0.95, t[t < 0.21]), gill[::-1], along(-0.95, t[t < 0.21])[::-1]])
    cartoon.area(head, GOLD)
    cartoon.area(ribbon(gill.astype(np.float32), 9), RED)
    mouth = np.array([along(-0.30, 0.0), along(-0.36, 0.05), along(-0.32, 0.085)], np.float32)
    cartoon.area(ribbon(mouth, 8), UMBER)
    rim = np.linspace(0, 2 * np.pi, 30)
    eye = along(0.30, 0.115)
    for radius, paint in ((19, UMBER), (14, FOAM), (6.5, NIGHT)):
        cartoon.area(_polar(radius, rim, eye), paint)


def _nearest_edge(region: NDArray[np.int32]) -> tuple[Array, Array]:
    """Vector (y, x) from the nearest change of region to every point, by jump flooding."""
    height, width = region.shape
    edge = np.zeros(region.shape, bool)
    edge[:, 1:] |= region[:, 1:] != region[:, :-1]
    edge[1:] |= region[1:] != region[:-1]
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float32)
    far = np.float32(1e5)
    seed_y, seed_x = np.where(edge, rows, far), np.where(edge, cols, far)
    step = 1 << (max(height, width) // 2).bit_length()
    while step >= 1:
        for dy in (-step, 0, step):
            for dx in (-step, 0, step):
                if (dy == 0 and dx == 0) or abs(dy) >= height or abs(dx) >= width:
                    continue
                to_y, of_y = (
                    slice(max(dy, 0), height + min(dy, 0)),
                    slice(max(-dy, 0), height - max(dy, 0)),
                )
                to_x, of_x = (
                    slice(max(dx, 0), width + min(dx, 0)),
                    slice(max(-dx, 0), width - max(dx, 0)),
                )
                to, of = (to_y, to_x), (of_y, of_x)
                y, x = seed_y[of], seed_x[of]
                now = (seed_y[to] - rows[to]) ** 2 + (seed_x[to] - cols[to]) ** 2
                better = (y - rows[to]) ** 2 + (x - cols[to]) ** 2 < now
                seed_y[to] = np.where(better, y, seed_y[to])
                seed_x[to] = np.where(better, x, seed_x[to])
        step //= 2
    return rows - seed_y, cols - seed_x


class Tesserae:
    """Square stones at points of the plane, each turned along the drawing and in one region."""

    def __init__(self, x: Array, y: Array, region: NDArray[np.int32], angle: Array, size: Array):
        self.x, self.y = x, y
        self.region, self.turn, self.sizes = region, angle, size
        self.read()

    def read(self) -> None:
        """Take direction, size and region from the drawing at the present places."""
        self.angle = sample(self.turn, self.x, self.y)
        self.side = sample(self.sizes, self.x, self.y)
        self.label = sample(self.region, self.x, self.y)

    def cells(self) -> tuple[NDArray[np.int32], Array, Array]:
        """Owner of every point (-1: none) with the distances to it and to the next stone."""
        height, width = self.region.shape
        owner = np.full(self.region.shape, -1, np.int32)
        first = np.full(self.region.shape, 9.0, np.float32)
        second = first.copy()
        cos, sin = np.cos(self.angle) / self.side, np.sin(self.angle) / self.side
        for i in range(self.x.size):
            x, y, reach = self.x[i], self.y[i], 1.9 * self.side[i]
            left, right = max(int(x - reach), 0), min(int(x + reach) + 2, width)
            top, bottom = max(int(y - reach), 0), min(int(y + reach) + 2, height)
            dx = np.arange(left, right, dtype=np.float32) - x
            dy = (np.arange(top, bottom, dtype=np.float32) - y)[:, None]
            u, v = dx * cos[i] + dy * sin[i], dy * cos[i] - dx * sin[i]
            u, v = u * u, v * v
            away = np.sqrt(np.sqrt(u * u + v * v))
            area = (slice(top, bottom), slice(left, right))
            away[self.region[area] != self.label[i]] = 9.0
            a, b = first[area], second[area]
            second[area] = np.minimum(b, np.maximum(a, away))
            owner[area][away < a] = i
            first[area] = np.minimum(a, away)
        return owner, first, second

    def align(self, away_y: Array, away_x: Array, pull: float) -> None:
        """Pull every stone towards the middle of its row, counted from the nearest outline."""
        y, x = sample(away_y, self.x, self.y), sample(away_x, self.x, self.y)
        away = np.hypot(x, y)
        step = pull * ((np.floor(away / self.side) + 0.5) * self.side - away)
        self.x = self.x + step * x / np.maximum(away, 0.5)
        self.y = self.y + step * y / np.maximum(away, 0.5)
        self.read()

    def relax(self) -> None:
        """Move every stone to the middle of its cell (one step of Lloyd's method)."""
        owner = self.cells()[0]
        rows, cols = np.nonzero(owner >= 0)
        which = owner[rows, cols]
        mass = np.bincount(which, minlength=self.x.size)
        some = mass > 0
        x = np.bincount(which, cols, self.x.size) / np.maximum(mass, 1)
        y = np.bincount(which, rows, self.x.size) / np.maximum(mass, 1)
        self.x, self.y = x[some].astype(np.float32), y[some].astype(np.float32)
        self.read()


def _lay(rng: Generator, cartoon: Cartoon, coarse: int, rounds: int) -> tuple[Tesserae, Array]:
    """Stones settled on a coarse grid, and the distance of every point to an outline."""
    region = np.asarray(cartoon.region, np.int32)
    away_y, away_x = _nearest_edge(region)
    # A stone looks the same after a quarter turn, so directions are averaged at four times
    # their angle.
    four = 4 * np.arctan2(away_y, away_x)
    reach = 5 * cartoon.scale
    turn = np.arctan2(blur(np.sin(four), reach), blur(np.cos(four), reach)) / 4
    ground = np.all(np.asarray(cartoon.colour) == GOLD, axis=2)
    size = np.maximum(np.where(ground, LARGE, SMALL) * cartoon.scale, 3.0).astype(np.float32)
    small = (slice(None, None, coarse),) * 2
    spacing = max(SMALL * cartoon.scale, 3.0)
    count = int(region.size / spacing**2 * 0.98)
    x = rng.uniform(0, region.shape[1] - 1, count).astype(np.float32)
    y = rng.uniform(0, region.shape[0] - 1, count).astype(np.float32)
    keep = rng.uniform(0, 1, count) < (spacing / sample(size, x, y)) ** 2
    stones = Tesserae(
        x[keep] / coarse, y[keep] / coarse, region[small], turn[small], size[small] / coarse
    )
    near_y, near_x = away_y[small] / coarse, away_x[small] / coarse
    for number in range(rounds):
        stones.align(near_y, near_x, 1.0 if number == 0 else 0.35)
        stones.relax()
    full = Tesserae(stones.x * coarse, stones.y * coarse, region, turn, size)
    return full, np.hypot(away_x, away_y)


def mosaic(size: int, rng: Generator) -> Image.Image:
    """Byzantine tesserae: gold ground, vines, a sea medallion with two fish about the sun."""
    height, width, scale = frame(size, 1.25)
    shape = (height, width)
    cartoon = Cartoon(shape, scale, GOLD)
    _border(cartoon)
    for flip_x in (False, True):
        for flip_y in (False, True):
            _vine(cartoon, flip_x, flip_y)
    _medallion(cartoon)
    _fish(cartoon, 0.35, BRICK, ORANGE)
    _fish(cartoon, 0.35 + np.pi, PLUM, BLUSH)
    _sun(cartoon)
    stones, edge = _lay(rng, cartoon, 2 if scale > 0.4 else 1, 14)
    return to_image(_set_in_mortar(rng, cartoon, stones, edge))


def _set_in_mortar(rng: Generator, cartoon: Cartoon, stones: Tesserae, edge: Array) -> Array:
    """Colour, bevel, tilt and light every stone, and fill the joints."""
    shape, scale = cartoon.shape, cartoon.scale
    owner, first, second = stones.cells()
    who = np.maximum(owner, 0)
    count = stones.x.size
    design = np.asarray(cartoon.colour, np.float32) / 255
    base = sample(design, stones.x, stones.y)
    golden = np.abs(base - rgb(*GOLD)).sum(axis=1) < 0.02
    value = rng.normal(0, 0.15, count)
    hue = rng.normal(0, 0.030, (count, 3))
    paint = base * (1 + value[:, None]) + hue
    leaf_tone = rng.beta(2.2, 2.0, count)[:, None]
    leaf = rgb(120, 76, 24) + leaf_tone * (rgb(250, 214, 118) - rgb(120, 76, 24))
    paint[golden] = (leaf + 0.5 * hue)[golden]
    stray = rng.uniform(0, 1, count) < 0.05
    paint[stray] = (paint * 0.62 + rng.normal(0.08, 0.07, (count, 3)))[stray]

    rough = noise(rng, shape, 5 * scale + 1, 2)
    side = stones.side[who]
    inner = np.minimum((second - first) * side / 2, edge) + 0.45 * scale * rough
    joint = 0.95 * scale
    stone = smoothstep(joint - 0.6, joint + 0.7, inner) * (owner >= 0)
    lost = (rng.uniform(0, 1, count) < 0.006)[who]
    stone = np.where(lost, 0, stone)
    dome = smoothstep(joint - 0.5, joint + 3.4 * scale + 0.5, inner) * stone
    slope_y, slope_x = np.gradient(blur(dome, 1.0))

    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    tilt_x, tilt_y = rng.normal(0, 0.16, (2, count))
    across = (cols - stones.x[who]) * tilt_x[who] + (rows - stones.y[who]) * tilt_y[who]
    across = across / side
    facing = (tilt_x + tilt_y)[who]
    glass = noise(rng, shape, (2.2 * scale + 1, 7 * scale + 1), 2)
    pits = smoothstep(1.4, 2.4, noise(rng, shape, 3.2 * scale + 1, 2))
    surface = paint[who] * (1 + 0.9 * across + 0.055 * glass)[..., None]
    surface *= (1 - 0.25 * pits)[..., None]
    light = np.clip(slope_x * 0.7 + slope_y * 0.75, -0.5, 0.5)
    surface = surface * (1 + 1.1 * light)[..., None]
    sparkle = np.clip(facing - 0.16, 0, 0.4) * (0.35 + 1.1 * golden[who]) * (1 + 0.4 * glass)
    surface += sparkle[..., None] * rgb(255, 240, 196)

    mortar = rgb(100, 87, 72) * (1 + 0.10 * noise(rng, shape, 4 * scale + 1, 2))[..., None]
    shade = blur(stone, 2.2 * scale)
    shade = np.roll(shade, (max(round(1.5 * scale), 0),) * 2, axis=(0, 1))
    mortar = mortar * (1.02 - 0.62 * shade)[..., None]
    picture = over(mortar, surface, stone)
    age = noise(rng, shape, 330 * scale + 2, 4)
    glow = resize(rng.normal(0, 1, (3, 4)).astype(np.float32), shape)
    return picture * (1.02 + 0.07 * age + 0.04 * glow)[..., None]
