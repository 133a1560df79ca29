"""A cubist still life: guitar, bottle, glass, newspaper and a face, broken into shifted planes."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from .canvas import (
    Array,
    Brush,
    Canvas,
    Cartoon,
    blur,
    frame,
    mask_of,
    noise,
    over,
    rgb,
    ribbon,
    sample,
    scatter,
    smoothstep,
    spline,
    to_image,
    weave,
)

OCHRE = (198, 154, 86)
SAND = (222, 196, 142)
CREAM = (232, 220, 188)
SIENNA = (146, 98, 58)
UMBER = (86, 58, 40)
SOOT = (40, 34, 32)
STONE = (152, 144, 128)
SLATE = (104, 114, 118)
BLUE = (80, 104, 122)
OLIVE = (108, 112, 70)
MOSS = (66, 84, 66)
BRICK = (156, 78, 54)
# Tones of the planes where no object lies, from the middle of the picture to its corners.
PLANES = (SAND, OCHRE, STONE, CREAM, SIENNA, OLIVE, SLATE, BLUE, UMBER, MOSS)


def _turned(points: ArrayLike, at: tuple[float, float], angle: float, size: float = 1) -> Array:
    """Points rotated about the origin, enlarged and moved."""
    cos, sin = np.cos(angle) * size, np.sin(angle) * size
    matrix = np.array([[cos, sin], [-sin, cos]])
    return (np.asarray(points, np.float64) @ matrix + at).astype(np.float32)


def _disc(x: float, y: float, rx: float, ry: float) -> Array:
    """An ellipse."""
    t = np.linspace(0, 2 * np.pi, 60)
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1).astype(np.float32)


def _guitar(cartoon: Cartoon, lines: list[Array]) -> None:
    """A guitar leaning to the left, its front in two halves of different light."""
    at, lean = (560.0, 815.0), -0.42
    right = [(0, -215), (62, -212), (108, -170), (106, -112), (78, -62), (84, -18), (136, 36),
             (164, 108), (142, 186), (74, 228), (0, 236)]  # fmt: skip
    half = spline(right, 90)
    other = half * np.array([-1, 1], np.float32)
    cartoon.area(_turned(np.concatenate([half * 1.07, other[::-1] * 1.07]), at, lean), SOOT)
    cartoon.area(_turned(np.concatenate([half, [(0, 0)]]), at, lean), OCHRE)
    cartoon.area(_turned(np.concatenate([other, [(0, 0)]]), at, lean), SIENNA)
    cartoon.area(_turned(_disc(0, -40, 58, 58), at, lean), CREAM)
    cartoon.area(_turned(_disc(0, -40, 49, 49), at, lean), SOOT)
    neck = [(-25, -560), (25, -560), (29, -80), (-29, -80)]
    cartoon.area(_turned(neck, at, lean), UMBER)
    head = [(-28, -560), (-42, -690), (-14, -712), (14, -704), (42, -690), (28, -560)]
    cartoon.area(_turned(head, at, lean), BRICK)
    cartoon.area(_turned([(-66, 118), (66, 118), (60, 142), (-60, 142)], at, lean), UMBER)
    for k in range(-3, 3):
        x = (k + 0.5) * 7.5
        lines.append(ribbon(_turned([(x * 1.3, 128), (x, -40), (x * 0.8, -690)], at, lean), 2.0))
    for k in range(9):
        y = -120 - 47 * k
        lines.append(ribbon(_turned([(-27, y), (27, y)], at, lean), 3.0))
    for k in range(3):
        for side in (-1, 1):
            peg = _disc(side * 52, -590 - 38 * k, 14, 8)
            cartoon.area(_turned(peg, at, lean), CREAM)


def _face(cartoon: Cartoon, lines: list[Array]) -> None:
    """A head at once in profile and from the front, under dark hair and a hat."""
    profile = spline(
        [
            (640, 120),
            (590, 160),
            (575, 235),
            (560, 275),
            (520, 345),
            (556, 368),
            (548, 398),
            (568, 410),
            (556, 432),
            (578, 468),
            (620, 492),
            (660, 486),
        ],
        90,
    )
    cheek = spline([(660, 486), (730, 440), (764, 350), (766, 240), (720, 150), (640, 120)], 60)
    cartoon.area(np.concatenate([profile, cheek]), SAND)
    shade = spline([(640, 120), (652, 240), (632, 330), (668, 400), (660, 486)], 50)
    cartoon.area(np.concatenate([shade, cheek]), SLATE)
    cartoon.area(spline([(560, 275), (600, 250), (626, 330), (520, 345)], 40), CREAM)
    hair = spline([(600, 140), (690, 66), (800, 120), (820, 300), (790, 420), (752, 440),
                   (764, 330), (744, 220), (690, 168), (600, 160)], 90)  # fmt: skip
    cartoon.area(hair, SOOT)
    hat = [(520, 128), (612, 96), (640, 10), (790, 22), (806, 110), (872, 132), (860, 158)]
    cartoon.area([*hat, (530, 156)], UMBER)
    cartoon.area([(604, 118), (812, 118), (816, 92), (612, 92)], BRICK)
    for x, y, wide in ((612, 268, 34), (706, 280, 40)):
        upper = spline([(x - wide, y), (x, y - 20), (x + wide, y)], 20)
        lower = spline([(x + wide, y), (x, y + 18), (x - wide, y)], 20)
        cartoon.area(np.concatenate([upper, lower]), CREAM)
        cartoon.area(_disc(x, y - 1, 12, 14), SOOT)
        lines.append(ribbon(upper, 6.0))
        lines.append(ribbon(upper - np.array([0, 20], np.float32), np.linspace(3, 9, 20)))
    cartoon.area(spline([(560, 412), (610, 402), (640, 414), (606, 428), (558, 430)], 30), BRICK)
    neck = [(628, 480), (748, 410), (770, 560), (850, 640), (560, 640), (640, 570)]
    cartoon.area(neck, OCHRE)
    cartoon.area([(560, 640), (690, 600), (730, 760), (520, 720)], BLUE)
    cartoon.area([(690, 600), (860, 630), (930, 800), (730, 760)], MOSS)


def _table(cartoon: Cartoon, lines: list[Array]) -> None:
    """The round table with a cloth, a newspaper, a bottle, a glass and sheet music."""
    cartoon.area(_disc(520, 1085, 440, 190), UMBER)
    cartoon.area(_disc(520, 1070, 425, 178), SIENNA)
    cartoon.area([(150, 1050), (420, 985), (560, 1110), (470, 1240), (260, 1200)], CREAM)
    cartoon.area([(420, 985), (620, 1010), (700, 1130), (560, 1110)], STONE)
    paper = [(120, 930), (350, 890), (400, 1080), (160, 1130)]
    cartoon.area(paper, SAND)
    for row in range(12):
        y = 985 + 11 * row
        for col in range(2):
            x = 150 + 118 * col + 3 * row
            drift = np.array([(x, y), (x + 96, y - 17)], np.float32)
            lines.append(ribbon(drift, 3.2))
    for k, shape in enumerate((
        [(34, 0), (34, 62), (20, 78), (0, 70)],
        [(20, 0), (2, 22), (2, 58), (20, 78), (38, 58), (38, 22), (20, 0)],
        [(0, 0), (2, 58), (20, 78), (38, 58), (40, 0)],
    )):  # fmt: skip
        letter = _turned(spline(shape, 40), (148 + 62 * k, 922 - 11 * k), -0.17, 0.85)
        lines.append(ribbon(letter, 11.0))
    bottle = [(226, 900), (206, 700), (214, 610), (246, 560), (250, 430), (244, 410), (300, 410),
              (294, 430), (298, 560), (332, 606), (340, 700), (324, 900)]  # fmt: skip
    cartoon.area(bottle, MOSS)
    lit = [(273, 412), (294, 430), (298, 560), (332, 606), (340, 700), (324, 900), (273, 900)]
    cartoon.area(lit, OLIVE)
    cartoon.area([(212, 690), (338, 680), (334, 800), (218, 806)], CREAM)
    cartoon.area([(240, 372), (304, 372), (300, 426), (244, 426)], BRICK)
    for k in range(4):
        y = 712 + 22 * k
        lines.append(ribbon(np.array([(228, y), (318 - 14 * (k % 2), y - 5)], np.float32), 6.0))
    cartoon.area([(770, 880), (900, 872), (868, 1020), (798, 1024)], SLATE)
    cartoon.area(_disc(835, 877, 66, 20), CREAM)
    cartoon.area([(800, 940), (872, 936), (860, 1010), (806, 1012)], BRICK)
    cartoon.area([(826, 1020), (842, 1020), (846, 1090), (822, 1090)], STONE)
    cartoon.area(_disc(834, 1098, 56, 16), CREAM)
    sheet = np.array([(716, 670), (946, 640), (968, 836), (742, 862)], np.float32)
    cartoon.area(sheet, CREAM)
    for stave in range(3):
        for k in range(5):
            level = 0.12 + 0.29 * stave + 0.036 * k
            ends = sheet[[0, 1]] * (1 - level) + sheet[[3, 2]] * level
            lines.append(ribbon(ends, 1.8))
        for k in range(6):
            level, along = 0.13 + 0.29 * stave + 0.03 * ((k * 5 + stave) % 5), 0.12 + 0.14 * k
            top = sheet[0] * (1 - along) + sheet[1] * along
            low = sheet[3] * (1 - along) + sheet[2] * along
            x, y = top * (1 - level) + low * level
            lines.append(_disc(x, y, 8, 6))
            lines.append(ribbon(np.array([(x + 7, y), (x + 3, y - 36)], np.float32), 2.2))


def _facets(rng: Generator, shape: tuple[int, int], scale: float) -> NDArray[np.int64]:
    """Planes cut by long straight lines and a few arcs, denser towards the middle."""
    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32) / scale
    key = np.zeros(shape, np.int64)
    slopes = (1.10, -1.15, 0.15, 1.45, -0.55, 0.75, -1.40, 1.25, -0.95, 0.45, -1.3, 0.95, -0.2, 1.5)
    slopes = (*slopes, 1.0, -1.2, 0.6, -0.75, 1.3, -1.05)
    for number, slope in enumerate(slopes):
        angle = slope + rng.normal(0, 0.10)
        x, y = rng.normal(512, 260), 130 + 1020 * ((number * 7) % 20 + rng.uniform(0, 1)) / 20
        side = (cols - x) * np.sin(angle) - (rows - y) * np.cos(angle)
        # A cut ends at another one, so that no line crosses the whole picture.
        stop_angle = angle + rng.uniform(0.8, 2.2)
        stop_x, stop_y = x + rng.normal(0, 330), y + rng.normal(0, 330)
        open_side = (cols - stop_x) * np.sin(stop_angle) - (rows - stop_y) * np.cos(stop_angle) > 0
        key = 2 * key + ((side > 0) & open_side)
    for _ in range(5):
        x, y, r = rng.normal(512, 260), rng.normal(640, 330), rng.uniform(130, 340)
        inside = np.hypot(cols - x, rows - y) < r
        angle = rng.uniform(0, 2 * np.pi)
        half = (cols - x) * np.cos(angle) + (rows - y) * np.sin(angle) > r * rng.uniform(-0.4, 0.4)
        key = 2 * key + (inside & half)
    facets = np.unique(key, return_inverse=True)[1].reshape(shape)
    for _ in range(3):
        count = int(facets.max()) + 1
        area = np.bincount(facets.ravel(), minlength=count)
        mid_x = np.bincount(facets.ravel(), cols.ravel(), count) / area
        mid_y = np.bincount(facets.ravel(), rows.ravel(), count) / area
        angle = rng.choice([0.95, -1.05, 0.3, 1.4], count) + rng.normal(0, 0.2, count)
        side = (cols - mid_x[facets]) * np.sin(angle)[facets]
        side = side - (rows - mid_y[facets]) * np.cos(angle)[facets] > 0
        split = side & (area > 0.028 * facets.size)[facets]
        facets = np.unique(2 * facets + split, return_inverse=True)[1].reshape(shape)
    return facets


def _broken(
    rng: Generator, facets: NDArray[np.int64], scale: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where every point looks at the objects: each plane sees them shifted and turned."""
    count = int(facets.max()) + 1
    rows, cols = np.indices(facets.shape).astype(np.float32)
    area = np.maximum(np.bincount(facets.ravel(), minlength=count), 1)
    mid_y = np.bincount(facets.ravel(), rows.ravel(), count) / area
    mid_x = np.bincount(facets.ravel(), cols.ravel(), count) / area
    moved = rng.uniform(0, 1, count) < 0.62
    shift = rng.normal(0, 17, (2, count)) * scale * moved
    angle, zoom = rng.normal(0, 0.10, count) * moved, 1 + rng.normal(0, 0.08, count) * moved
    dx, dy = cols - mid_x[facets], rows - mid_y[facets]
    cos, sin = (np.cos(angle) * zoom)[facets], (np.sin(angle) * zoom)[facets]
    x = mid_x[facets] + dx * cos - dy * sin + shift[0][facets]
    y = mid_y[facets] + dx * sin + dy * cos + shift[1][facets]
    height, width = facets.shape
    return np.clip(y, 0, height - 1).astype(int), np.clip(x, 0, width - 1).astype(int)


def _shade(
    rng: Generator, base: Array, label: NDArray[np.int64], facets: NDArray[np.int64], scale: float
) -> Array:
    """Light every plane by a ramp of its own and let edges glow or darken into each other."""
    shape = label.shape
    count = int(label.max()) + 1
    rows, cols = np.indices(shape).astype(np.float32)
    area = np.maximum(np.bincount(label.ravel(), minlength=count), 1)
    mid_y = np.bincount(label.ravel(), rows.ravel(), count) / area
    mid_x = np.bincount(label.ravel(), cols.ravel(), count) / area
    reach = np.sqrt(area) * 0.75 + 40 * scale
    heading = rng.normal(0.9, 0.9, count) + np.pi * (rng.uniform(0, 1, count) < 0.3)
    ramp = (cols - mid_x[label]) * np.cos(heading)[label]
    ramp += (rows - mid_y[label]) * np.sin(heading)[label]
    ramp = np.clip(ramp / reach[label], -1.5, 1.5)
    level = rng.normal(0, 0.15, count)[label] + rng.normal(0, 0.20, int(facets.max()) + 1)[facets]
    level = level - 0.42 * ramp
    passage = level - blur(level, 34 * scale)
    tone = 1 + 0.75 * level + 0.9 * passage
    warm = rng.normal(0, 0.035, count)[label] - 0.05 * ramp
    tint = np.stack([tone + warm, tone, tone - 1.3 * warm], axis=2)
    return base * np.clip(tint, 0.22, 1.5)


def _patterns(rng: Generator, colour: Array, label: NDArray[np.int64], scale: float) -> Array:
    """Comb imitation wood grain into some planes and hatch others with parallel strokes."""
    shape = label.shape
    rows, cols = np.indices(shape).astype(np.float32) / scale
    count = int(label.max()) + 1
    kind = rng.choice(4, count, p=[0.17, 0.17, 0.12, 0.54])[label]
    angle = rng.choice([0.9, -1.0, 1.5, 0.2], count)[label] + rng.normal(0, 0.1, count)[label]
    across = cols * np.sin(angle) - rows * np.cos(angle)
    along = cols * np.cos(angle) + rows * np.sin(angle)
    sway = noise(rng, shape, 150 * scale + 2, 3)
    wood = np.sin(2 * np.pi * (across / 15 + 1.6 * sway)) + 0.5 * np.sin(across / 1.9 + 5 * sway)
    hatch = smoothstep(0.2, 0.9, np.sin(2 * np.pi * (across + 5 * sway) / 24))
    bricks = np.sin(2 * np.pi * along / 46 + np.floor(across / 19))
    bricks *= np.sin(2 * np.pi * across / 19)
    tone = np.select(
        [kind == 0, kind == 1, kind == 2],
        [1 + 0.13 * wood, 1.08 - 0.34 * hatch, 1 + 0.24 * bricks],
        1,
    )
    return np.clip(colour * tone[..., None], 0.04, 0.97).astype(np.float32)


def _paint(
    rng: Generator, canvas: Canvas, colour: Array, label: NDArray[np.int64], scale: float
) -> None:
    """Lay broad, middle and brick-like strokes that stop at the edges of the planes."""
    brush = Brush(rng, dryness=0.45)
    count = int(label.max()) + 1
    grain = rng.choice([0.75, -0.8, 1.35, 0.1], count) + rng.normal(0, 0.22, count)
    bricks = rng.uniform(0, 1, count) < 0.45
    for number, (spacing, long, wide, loose) in enumerate(
        ((22, 96, 30, 0.35), (12.5, 50, 15, 0.40), (10.0, 25, 9.5, 0.22))
    ):
        xs, ys = scatter(rng, canvas.shape, spacing * scale)
        owner = sample(label, xs, ys)
        if number == 2:
            keep = bricks[owner] | (rng.uniform(0, 1, xs.size) < 0.25)
            xs, ys, owner = xs[keep], ys[keep], owner[keep]
        angle = grain[owner] + rng.normal(0, loose, xs.size)
        paint = sample(colour, xs, ys)
        paint = paint * (1 + rng.normal(0, 0.085, (xs.size, 1)))
        paint = paint + rng.normal(0, 0.018, (xs.size, 3))
        lengths = np.maximum(long * scale * rng.uniform(0.6, 1.3, xs.size), 2)
        widths = np.maximum(wide * scale * rng.uniform(0.6, 1.2, xs.size), 1.3)
        streaks = (0.03 + 0.05 * rng.uniform(0, 1, (xs.size, 1))) * (0.5 + paint)
        prints = rng.integers(0, len(brush.cover), xs.size)
        bends = rng.normal(0, 0.0025, xs.size) / scale
        for i in range(xs.size):
            canvas.stroke(
                brush, prints[i], (xs[i], ys[i]), angle[i], lengths[i], widths[i], bends[i],
                paint[i], streaks[i], opacity=0.85, body=0.55, within=(label, int(owner[i])),
            )  # fmt: skip


def _contours(
    rng: Generator, canvas: Canvas, label: NDArray[np.int64], strength: float, scale: float
) -> None:
    """Dark lines along the edges of the planes, lost in places, each laid by a thin brush."""
    brush = Brush(rng, dryness=0.6)
    value = rng.uniform(0, 1, int(label.max()) + 1).astype(np.float32)[label]
    slope_y, slope_x = np.gradient(blur(value, max(2.5 * scale, 1)))
    edge = np.zeros(label.shape, bool)
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    edge[1:] |= label[1:] != label[:-1]
    found = noise(rng, label.shape, 150 * scale + 2, 2) > -0.35
    thick_edge = blur(edge.astype(np.float32), max(1.6 * scale, 1)) > 0.02
    rows, cols = np.nonzero(edge & found)
    pick = rng.permutation(rows.size)[: int(rows.size * strength / max(5 * scale, 1))]
    for i in pick:
        y, x = rows[i], cols[i]
        angle = float(np.arctan2(slope_x[y, x], -slope_y[y, x]))
        long = max(rng.uniform(15, 44) * scale, 2)
        end_x, end_y = 0.42 * long * np.cos(angle), 0.42 * long * np.sin(angle)
        if not all(sample(thick_edge, x + e * end_x, y + e * end_y) for e in (-1, 1)):
            continue
        ink = rgb(*SOOT) * rng.uniform(0.5, 1.3)
        canvas.stroke(
            brush, brush.pick(rng), (x, y), angle, long,
            max(rng.uniform(2.0, 5.6) * scale, 1.0), 0.0, ink, ink * 0.25, opacity=0.85, body=0.6,
        )  # fmt: skip


def cubist(size: int, rng: Generator) -> Image.Image:
    """Analytic-cubist canvas: faceted planes, lost-and-found contours, fragments of objects."""
    height, width, scale = frame(size, 0.8)
    shape = (height, width)
    cartoon, strokes = Cartoon(shape, scale, STONE), []
    _table(cartoon, strokes)
    _face(cartoon, strokes)
    _guitar(cartoon, strokes)
    drawing = mask_of(shape, [line * scale for line in strokes])

    facets = _facets(rng, shape, scale)
    rows, cols = _broken(rng, facets, scale)
    region = np.asarray(cartoon.region, np.int64)[rows, cols]
    colour = np.asarray(cartoon.colour, np.float32)[rows, cols] / 255
    lines = drawing[rows, cols]
    label = facets * (cartoon.count + 1) + region
    label = np.unique(label, return_inverse=True)[1].reshape(shape)

    count = int(facets.max()) + 1
    pick = np.array([rgb(*PLANES[i]) for i in rng.integers(0, len(PLANES), count)])
    empty = (region == 1)[..., None]
    colour = np.where(empty, 0.75 * pick[facets] + 0.25 * colour, 0.8 * colour + 0.2 * pick[facets])
    y, x = np.indices(shape) / np.array([height, width]).reshape(2, 1, 1)
    away = np.hypot((x - 0.5) * 1.15, y - 0.5)
    fog = smoothstep(0.42, 0.72, away + 0.05 * noise(rng, shape, 200 * scale + 2, 3))
    colour = over(colour.astype(np.float32), rgb(126, 120, 104), 0.55 * fog)
    colour = np.clip(_shade(rng, colour, label, facets, scale), 0.05, 0.97)

    colour = _patterns(rng, colour, label, scale)
    canvas = Canvas(shape, rgb(150, 118, 80))
    _paint(rng, canvas, colour, label, scale)
    _contours(rng, canvas, label, 0.75, scale)
    tooth = noise(rng, shape, 3.5 * scale + 1, 2)
    chalk = lines * smoothstep(-1.7, -0.2, tooth + 0.5 * noise(rng, shape, 30 * scale + 2, 3))
    canvas.pixels = over(canvas.pixels, rgb(*SOOT), 0.85 * chalk)
    canvas.relief += 0.05 * weave(rng, shape, scale)
    return to_image(canvas.lit(0.5, 0.10))
