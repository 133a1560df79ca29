"""A colour woodcut: a great clawed wave, carved line by line and printed from several blocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from .canvas import (
    Array,
    frame,
    noise,
    paper,
    rgb,
    ribbon,
    smoothstep,
    spline,
    to_image,
)

# Every block with its ink, from the first to the last printed.
INKS = {
    "dawn": rgb(232, 186, 134),
    "sky": rgb(150, 160, 158),
    "red": rgb(206, 74, 50),
    "ochre": rgb(206, 160, 92),
    "pale": rgb(158, 192, 200),
    "mid": rgb(66, 118, 160),
    "dark": rgb(24, 56, 108),
    "key": rgb(20, 30, 58),
}
OVERSAMPLE = 2


class Blocks:
    """One carved block per ink; a new shape is first cut away from all of them."""

    def __init__(self, shape: tuple[int, int], scale: float, rng: Generator) -> None:
        self.shape, self.scale, self.rng = shape, scale, rng
        side = (shape[1] * OVERSAMPLE, shape[0] * OVERSAMPLE)
        self.images = {name: Image.new("L", side) for name in INKS}
        self.draws = {name: ImageDraw.Draw(image) for name, image in self.images.items()}

    def _flat(self, polygon: ArrayLike) -> list[tuple[float, float]]:
        points = np.asarray(polygon, np.float32) * (OVERSAMPLE * self.scale)
        return [(float(x), float(y)) for x, y in points]

    def area(self, polygon: ArrayLike, *inks: str) -> None:
        """Cut a shape out of every block and leave it standing on the named ones."""
        flat = self._flat(polygon)
        for name, draw in self.draws.items():
            draw.polygon(flat, fill=255 if name in inks else 0)

    def add(self, polygon: ArrayLike, ink: str) -> None:
        """Leave a shape standing on one block, over what the others print."""
        self.draws[ink].polygon(self._flat(polygon), fill=255)

    def line(
        self, points: Array, thick: float, ink: str = "key", ends: float = 0.15, gap: float = 0.0
    ) -> None:
        """A carved line: it swells, thins at its ends, trembles, and may be broken by gaps."""
        count = len(points)
        t = np.linspace(0, 1, count, dtype=np.float32)
        swell = np.minimum(1, np.minimum(t, 1 - t) / max(ends, 1e-3)) ** 0.6
        tremble = 1 + 0.22 * noise(self.rng, (1, count), (1, max(count / 9, 2)), 2)[0]
        widths = np.clip(thick * swell * tremble, 0.5, None)
        pieces = [(0, count)]
        if gap and count > 12:
            cuts = np.sort(self.rng.integers(3, count - 3, self.rng.poisson(gap)))
            marks = [0, *[int(c) for c in cuts], count]
            pieces = [(a, b - 2) for a, b in pairwise(marks) if b - a > 5]
        for a, b in pieces:
            self.add(ribbon(points[a:b], widths[a:b]), ink)

    def plate(self, name: str, shift: tuple[float, float]) -> Array:
        """What one block prints, set down slightly out of register."""
        image = self.images[name]
        moved = image.transform(
            image.size,
            Image.Transform.AFFINE,
            (1, 0, -shift[0] * OVERSAMPLE, 0, 1, -shift[1] * OVERSAMPLE),
            Image.Resampling.BILINEAR,
        )
        return np.asarray(moved.reduce(OVERSAMPLE), np.float32) / 255


def _curl(start: Array, angle: float, long: float, bend: float, count: int = 18) -> Array:
    """An arc that tightens towards its end, like a finger."""
    t = np.linspace(0, 1, count, dtype=np.float32)
    heading = angle + bend * t**1.6
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (long / count)
    return (start + np.cumsum(steps, axis=0)).astype(np.float32)


def _claw(blocks: Blocks, root: Array, angle: float, long: float, bend: float, depth: int) -> None:
    """A finger of foam with smaller fingers on its outer side, outlined and shaded."""
    rng = blocks.rng
    spine = _curl(root, angle, long, bend)
    t = np.linspace(0, 1, len(spine), dtype=np.float32)
    fat = long * (0.36 * (1 - t) ** 0.8 + 0.13 * np.sin(np.pi * t) + 0.05)
    if depth:
        for at in rng.choice([5, 6, 8, 9, 11, 12, 14], rng.integers(2, 4), replace=False):
            ahead = spine[min(at + 1, 17)] - spine[at - 1]
            turn = float(np.arctan2(ahead[1], ahead[0])) - np.sign(bend) * rng.uniform(0.3, 1.2)
            share = rng.uniform(0.34, 0.58)
            _claw(blocks, spine[at], turn, long * share, bend * rng.uniform(0.7, 1.4), depth - 1)
    thick = 2.0 + 0.012 * long
    outline = ribbon(spine, fat)
    blocks.area(ribbon(spine, fat + 2 * thick), "key")
    tip = spine[-1]
    turns = np.linspace(0, 2 * np.pi, 14)
    round_end = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    blocks.area(tip + round_end * (fat[-1] / 2 + thick), "key")
    blocks.area(outline)
    blocks.area(tip + round_end * fat[-1] / 2)
    inner = spine + np.stack([-np.sin(angle + bend * t), np.cos(angle + bend * t)], axis=1) * (
        0.22 * np.sign(bend) * fat[:, None]
    )
    blocks.add(ribbon(inner[2:-2], fat[2:-2] * 0.30), "pale")
    if long > 26:
        blocks.line(spine[1:13], 1.5, "mid", ends=0.5)


def _foam(blocks: Blocks, edge: Array, sizes: ArrayLike, lean: float, depth: int = 1) -> None:
    """Claws in two overlapping ranks along a crest (which runs so that its left is outside)."""
    rng = blocks.rng
    tangent = np.gradient(edge, axis=0)
    heading = np.arctan2(tangent[:, 1], tangent[:, 0])
    sizes = np.broadcast_to(np.asarray(sizes, np.float32), len(edge))
    for rank in (1.0, 0.62):
        i = int(rng.integers(0, 3))
        while i < len(edge):
            long = float(sizes[i]) * rank * rng.uniform(0.75, 1.3)
            angle = float(heading[i]) + lean + rng.normal(0, 0.28)
            root = edge[i] + rng.normal(0, 3.0, 2)
            _claw(blocks, root, angle, long, rng.uniform(1.0, 2.4), depth)
            i += int(rng.integers(2, 5))


def _sky(blocks: Blocks) -> None:
    """Graded sky, sun, long carved wind lines, streaky clouds and the far mountain."""
    rng = blocks.rng
    blocks.area([(-9, -9), (1290, -9), (1290, 1030), (-9, 1030)], "sky", "dawn")
    turns = np.linspace(0, 2 * np.pi, 90)
    disc = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    sun = disc * 92 + (1020, 250)
    blocks.area(sun, "red")
    for y in np.arange(14, 640, 12.5):
        y = y + rng.normal(0, 3)
        x = -30 - rng.uniform(0, 120)
        while x < 1300:
            long = rng.uniform(120, 520)
            xs = np.linspace(x, x + long, 50)
            sway = 9 * np.sin(xs / 170 + y / 60) + 5 * np.sin(xs / 67 + y / 23)
            points = np.stack([xs, y + sway], axis=1).astype(np.float32)
            inside = np.hypot(xs.mean() - 1020, y - 250) < 150
            thick = rng.uniform(0.9, 2.4) * (0.75 if inside else 1.0)
            blocks.line(points, thick, "mid" if y < 330 else "ochre", ends=0.4, gap=0.6)
            x += long + rng.uniform(8, 60)
    for cx, cy, w in ((860, 120, 250), (1130, 330, 210), (760, 400, 200), (1210, 180, 160)):
        for k in range(4):
            left = cx - w * rng.uniform(0.5, 1.0) + 40 * k
            right = cx + w * rng.uniform(0.5, 1.0) - 10 * k
            xs = np.linspace(left, right, 60)
            y = cy + 19 * k + 5 * np.sin(xs / 60 + k)
            fat = 22 * np.sin(np.pi * np.linspace(0, 1, 60)) ** 0.35
            band = np.stack([xs, y], axis=1).astype(np.float32)
            blocks.area(ribbon(band, fat))
            blocks.line(band + np.array([0, 10.5], np.float32), 2.0, "mid", ends=0.3, gap=1.0)
            blocks.line(band - np.array([0, 10.5], np.float32), 1.2, "key", ends=0.3, gap=1.5)
    slope = [(690, 720), (800, 660), (870, 600), (915, 545), (940, 528), (968, 530), (990, 548)]
    slope += [(1040, 605), (1120, 665), (1250, 720)]
    mountain = spline(slope, 120)
    blocks.area(mountain, "mid")
    blocks.line(mountain, 3.0, ends=0.05)
    snow = [(892, 578), (915, 545), (940, 527), (968, 529), (992, 550), (1022, 585), (1004, 580)]
    snow += [(992, 604), (975, 578), (962, 622), (946, 585), (928, 612), (918, 580)]
    blocks.area(snow)
    for _ in range(90):
        x = rng.uniform(740, 1200)
        top = float(np.interp(x, mountain[:, 0], mountain[:, 1]))
        away = (x - 955) / 240
        y = top + rng.uniform(6, 80)
        stroke = np.array([(x, y), (x + 18 * away, y + 14), (x + 42 * away, y + 30)])
        blocks.line(spline(stroke, 12), rng.uniform(1.2, 3.2), "dark", ends=0.5)


def _far_sea(blocks: Blocks) -> None:
    """Choppy water to the horizon: rows of small carved swells that grow as they come near."""
    rng = blocks.rng
    blocks.area([(-9, 700), (1290, 700), (1290, 1030), (-9, 1030)], "pale")
    y, step = 704.0, 7.0
    while y < 1030:
        x = -40 + rng.uniform(-30, 0)
        while x < 1300:
            long = step * rng.uniform(5, 9)
            xs = np.linspace(x, x + long, 26)
            rise = np.abs(np.sin(np.pi * (xs - x) / long)) ** 1.6 * step * 0.9
            points = np.stack([xs, y - rise], axis=1).astype(np.float32)
            lower = np.stack([xs, y + 0.55 * step - 0.3 * rise], axis=1).astype(np.float32)
            ink = "mid" if rng.uniform() < 0.62 else "dark"
            blocks.add(np.concatenate([points, lower[::-1]]), ink)
            blocks.line(points, 1.1 + step * 0.06, ends=0.3, gap=0.3)
            x += long * rng.uniform(0.8, 1.1)
        y += step
        step *= 1.13


def _water(blocks: Blocks, outer: Array, inner: Array, stripes: int) -> None:
    """A body of water between two curves, ribbed by stripes and hatching that follow its form."""
    rng = blocks.rng
    blocks.area(np.concatenate([outer, inner[::-1]]), "mid")
    count = len(outer)
    t = np.linspace(0, 1, count, dtype=np.float32)
    spread = float(np.median(np.linalg.norm(inner - outer, axis=1))) / stripes
    for k in range(stripes):
        level = (k + 0.5 + rng.normal(0, 0.1)) / stripes
        wave = level + 0.22 / stripes * np.sin(2 * np.pi * (1.4 * t + level))
        middle = outer + (inner - outer) * wave[:, None]
        gap = np.linalg.norm(inner - outer, axis=1) / stripes
        start, stop = int(count * rng.uniform(0, 0.04)), int(count * rng.uniform(0.86, 1.0))
        grow = np.sin(np.pi * np.linspace(0.22, 0.97, stop - start)) ** 0.5
        ink = ("dark", "dark", "white")[k % 3]
        fat = gap[start:stop] * grow * rng.uniform(0.42, 0.72)
        if ink == "white":
            blocks.area(ribbon(middle[start:stop], fat * 1.05), "pale")
            for side in (-0.5, 0.5):
                shift = (inner - outer) / np.linalg.norm(inner - outer, axis=1, keepdims=True)
                rim = middle[start:stop] + shift[start:stop] * (side * fat[:, None])
                blocks.line(rim, 1.8, ends=0.1, gap=0.8)
        else:
            blocks.add(ribbon(middle[start:stop], fat), "dark")
    for k in range(stripes * 7):
        level = (k + rng.uniform(0.2, 0.8)) / (stripes * 7)
        line = outer + (inner - outer) * level
        a = int(count * rng.choice([0.0, rng.uniform(0, 0.3), rng.uniform(0, 0.65)]))
        b = min(count, a + int(rng.integers(count * 0.12, count * 0.4)))
        ink = "key" if rng.uniform() < 0.75 else "mid"
        blocks.line(line[a:b], rng.uniform(0.8, 0.12 * spread + 1.2), ink, ends=0.5, gap=0.8)
    blocks.line(outer, 3.4, ends=0.03)
    blocks.line(inner, 3.0, ends=0.03)


def _great_wave(blocks: Blocks) -> None:
    """The wave that rears up on the left and curls over to the right."""
    outer = spline([(-60, 640), (20, 505), (110, 370), (220, 250), (340, 165), (460, 122),
                    (560, 126), (640, 166), (688, 236), (694, 300)], 200)  # fmt: skip
    inner = spline([(1010, 980), (900, 870), (740, 800), (600, 735), (500, 650), (448, 555),
                    (432, 460), (458, 372), (520, 314), (600, 292), (672, 330)], 200)  # fmt: skip
    base = spline([(-60, 640), (-60, 900), (100, 1000), (500, 1000), (900, 870)], 80)
    blocks.area(np.concatenate([outer, inner[::-1], base[::-1]]), "mid")
    back = spline([(-60, 1060), (-20, 880), (120, 760), (230, 600), (285, 450), (350, 330),
                   (450, 245), (560, 215), (640, 240), (680, 300)], 200)  # fmt: skip
    _water(blocks, back, inner, 11)
    _water(blocks, outer, back, 7)
    t = np.linspace(0, 1, 150, dtype=np.float32)
    scallops = outer[50:] + np.array([0.3, 1], np.float32) * (
        30 * t + 9 * t * np.abs(np.sin(42 * t)) + 2
    ).reshape(-1, 1)
    blocks.area(np.concatenate([outer[50:], scallops[::-1]]))
    blocks.line(scallops, 2.2, ends=0.1)
    ramp = np.linspace(0, 1, 110, dtype=np.float32)
    _foam(blocks, outer[62:172], 26 + 52 * ramp, -0.75, 1)
    _foam(blocks, outer[150:], 92, -0.15, 2)
    lip = spline([(700, 310), (672, 318), (610, 290), (548, 296), (500, 322)], 34)
    _foam(blocks, lip[::-1], np.linspace(40, 92, 34), 0.75, 2)


def _spray(blocks: Blocks, centre: tuple[float, float], spread: tuple[float, float]) -> None:
    """Drops thrown off the crest, each with a carved rim."""
    rng = blocks.rng
    turns = np.linspace(0, 2 * np.pi, 26)
    for _ in range(95):
        at = rng.normal(centre, spread)
        r = rng.gamma(2.0, 1.2) + 0.9
        dot = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        dot *= r * (1 + rng.normal(0, 0.03, (26, 1)))
        blocks.area(dot * (1 + 1.5 / r) + at, "key" if r > 3 else "mid")
        blocks.area(dot + at)


def _boat(blocks: Blocks, x: float, y: float, tilt: float, size: float) -> None:
    """A long skiff with a row of bowed oarsmen."""

    def place(points: ArrayLike) -> Array:
        p = np.asarray(points, np.float32) * size
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        return (p @ turn + (x, y)).astype(np.float32)

    top = spline([(-150, -34), (-70, -6), (30, 0), (120, -14), (190, -52)], 50)
    keel = spline([(-150, -34), (-80, 18), (20, 28), (120, 12), (190, -52)], 50)
    for k in range(7):
        cx = -78 + 30 * k
        back = [(cx - 17, 4), (cx - 13, -20), (cx + 3, -31), (cx + 15, -18), (cx + 17, 4)]
        body = spline(back, 20)
        blocks.area(place(body), ("ochre", "mid", "pale")[k % 3])
        blocks.line(place(body), 2.0, ends=0.1)
        turns = np.linspace(0, 2 * np.pi, 18)
        head = np.stack([6.5 * np.cos(turns) + cx + 9, 7.5 * np.sin(turns) - 33], axis=1)
        blocks.area(place(head), "dawn")
        blocks.line(place(head), 1.8, ends=0.02)
    blocks.area(place(np.concatenate([top, keel[::-1]])), "ochre")
    for level in (0.0, 0.3, 0.55, 0.8, 1.0):
        plank = top + (keel - top) * level
        blocks.line(place(plank), 2.8 if level in (0.0, 1.0) else 1.4, ends=0.05, gap=0.5)


def _swells(blocks: Blocks) -> None:
    """The nearer seas, with the boats between them."""
    outer = spline([(560, 960), (680, 860), (800, 800), (930, 770), (1040, 790), (1130, 850),
                    (1230, 872), (1340, 830)], 160)  # fmt: skip
    inner = spline([(520, 1090), (700, 1030), (840, 980), (960, 950), (1060, 960), (1150, 1010),
                    (1240, 1030), (1340, 1010)], 160)  # fmt: skip
    _boat(blocks, 1090, 772, -0.16, 0.92)
    _water(blocks, outer, inner, 9)
    _water(blocks, inner, inner + np.array([0, 130], np.float32), 6)
    _foam(blocks, outer[28:96:2], 40 - 12 * np.linspace(-1, 1, 34) ** 2, -0.8, 1)
    outer = spline([(-60, 800), (40, 790), (150, 812), (250, 868), (360, 915), (500, 925),
                    (640, 945), (800, 985), (980, 1000), (1340, 960)], 200)  # fmt: skip
    inner = outer + np.stack([np.zeros(200), 170 + 80 * np.linspace(1, 0, 200)], axis=1)
    _boat(blocks, 330, 880, 0.20, 1.0)
    _water(blocks, outer, inner.astype(np.float32), 12)
    _foam(blocks, outer[4:150:3], 36 + 12 * np.sin(np.linspace(0, 12, 49)), -0.9, 1)


def _print(blocks: Blocks) -> Array:
    """Rub every inked block onto the paper: wood grain, uneven pressure, graded sky."""
    shape, scale, rng = blocks.shape, blocks.scale, blocks.rng
    sheet = paper(rng, shape, scale, rgb(243, 232, 204))
    rows = np.arange(shape[0], dtype=np.float32)[:, None] / scale
    down = rows / 1024
    for name, colour in INKS.items():
        shift = tuple(rng.normal(0, 1.1, 2) * scale) if name != "key" else (0.0, 0.0)
        cover = blocks.plate(name, (float(shift[0]), float(shift[1])))
        rings = 34 * noise(rng, shape, (150 * scale + 2, 700 * scale + 2), 2) + rows
        grain = np.sin(rings * 2 * np.pi / 9.0)
        grain *= smoothstep(-1.5, 1.0, noise(rng, shape, 200 * scale + 2))
        pores = noise(rng, shape, (1.6 * scale + 1, 42 * scale + 2), 2)
        baren = noise(rng, shape, 60 * scale + 2, 4)
        load = 0.90 + 0.055 * grain + 0.055 * pores + 0.06 * baren
        if name == "sky":
            load = load * (0.12 + 0.95 * smoothstep(0.42, 0.0, down + 0.03 * baren))
        elif name == "dawn":
            load = load * (0.18 + 0.75 * smoothstep(0.25, 0.70, down + 0.02 * baren))
        elif name == "key":
            load = 0.97 + 0.04 * pores
        speck = smoothstep(-3.0, -2.1, pores + 0.6 * baren)
        sheet = sheet * (1 - (cover * np.clip(load * speck, 0, 1))[..., None] * (1 - colour))
    return sheet


def woodcut(size: int, rng: Generator) -> Image.Image:
    """Ukiyo-e sea: a clawed wave, boats, a far mountain and a red sun in eight printings."""
    height, width, scale = frame(size, 1.25)
    blocks = Blocks((height, width), scale, rng)
    _sky(blocks)
    _far_sea(blocks)
    _great_wave(blocks)
    _swells(blocks)
    _spray(blocks, (720, 300), (75, 90))
    _spray(blocks, (560, 120), (170, 45))
    return to_image(_print(blocks))
