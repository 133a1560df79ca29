"""An ink wash: peaks in mist, a pine on a rock, bamboo, a fisherman, brush writing and a seal."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from PIL import Image

from .canvas import (
    Array,
    Brush,
    Canvas,
    blur,
    frame,
    mask_of,
    mask_window,
    noise,
    paper,
    rgb,
    ribbon,
    sample,
    smoothstep,
    spline,
    to_image,
)

# How strongly red, green and blue light is held back by each ink.
BLACK = np.array([1.00, 0.97, 0.90], np.float32)
INDIGO = np.array([1.18, 0.92, 0.62], np.float32)
SIENNA = np.array([0.55, 0.95, 1.35], np.float32)
CINNABAR = np.array([0.10, 2.3, 2.6], np.float32)


class Sheet(Canvas):
    """A canvas whose planes hold the density of ink instead of colour."""

    def __init__(self, shape: tuple[int, int], scale: float, rng: Generator) -> None:
        super().__init__(shape, np.zeros(3, np.float32))
        self.scale = scale
        self.rng = rng
        self.tooth = noise(rng, shape, 3.0 * scale + 1, 2)
        self.grain = noise(rng, shape, 22 * scale + 1, 4)
        self.cloud = noise(rng, shape, 170 * scale + 2, 4)

    def wash(self, cover: Array, tone: float, ink: Array, rim: float = 0.5) -> None:
        """Flood an area: granulating, paler where water stood, darker along its rim."""
        near = blur(cover, 5 * self.scale)
        edge = np.clip(cover - near, 0, 1) * 1.8
        body = cover * np.clip(1 + 0.28 * self.cloud + 0.13 * self.grain + 0.05 * self.tooth, 0, 2)
        self.pixels += (tone * (body + rim * edge))[..., None] * ink

    def ink(
        self,
        cover: Array,
        tone: float,
        ink: Array = BLACK,
        dry: float = 0.0,
        window: tuple[slice, ...] = (),
    ) -> None:
        """Ink a window of the sheet; a dry brush catches only the tooth of the paper."""
        tooth, grain = self.tooth[window], self.grain[window]
        if dry:
            cover = cover * smoothstep(dry - 1.4, dry + 0.2, tooth + 0.35 * grain)
        flow = 1 + 0.16 * grain + 0.06 * tooth
        self.pixels[window] += (tone * cover * flow)[..., None] * ink

    def marks(self, polygons: list[Array], tone: float, ink: Array = BLACK, dry: float = 0) -> None:
        """Ink the union of some brush marks."""
        if polygons:
            window, cover = mask_window(self.shape, polygons, 2)
            self.ink(cover, tone, ink, dry, window)


def _peaks(sheet: Sheet, brush: Brush, base: float, tall: float, tone: float, ink: Array) -> None:
    """One range of steep karst peaks standing in mist, with texture strokes down their faces."""
    rng, scale, (height, width) = sheet.rng, sheet.scale, sheet.shape
    cols = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    rise = np.zeros(width, np.float32)
    for x in np.arange(-0.05, 1.1, 0.135) + rng.uniform(-0.05, 0.05, 9):
        half = rng.uniform(0.045, 0.105) * width
        lean = 1 + 0.4 * rng.uniform(-1, 1) * np.sign(cols - x * width)
        peak = tall * rng.uniform(0.3, 1.0) * height
        rise = np.maximum(rise, peak * np.exp(-(np.abs((cols - x * width) / half * lean) ** 2.3)))
    foot = 0.24 + 0.14 * noise(rng, (1, width), (1, 330 * scale + 2), 2)[0]
    rise = np.hypot(rise, tall * height * np.clip(foot, 0.02, 1))
    rough = noise(rng, (1, width), (1, 60 * scale + 2), 5, 0.6)[0]
    line = base * height - rise - rough * 7 * scale * (0.4 + rise / (tall * height))
    depth = rows - line[None, :]
    wobble = 1.6 * scale * sheet.grain
    cover = smoothstep(-1.2, 1.2, depth + wobble)
    floor = (base + 0.055) * height + 38 * scale * sheet.cloud
    mist = smoothstep(0, -0.26 * height, rows - floor)
    sheet.pixels *= 1 - 0.93 * (cover * smoothstep(0.12 * height, 0, rows - floor))[..., None]
    facets = noise(rng, sheet.shape, (120 * scale + 2, 34 * scale + 2), 3)
    fade = 0.42 + 0.5 * np.exp(-np.clip(depth, 0, None) / (90 * scale))
    body = cover * mist * np.clip(fade * (1 + 0.5 * facets), 0.02, 2)
    sheet.wash(body, tone, ink, rim=0.6)
    rim = np.exp(-((depth / (2.6 * scale + 0.4)) ** 2)) * smoothstep(-0.6, 1.0, sheet.grain + 0.4)
    sheet.ink(rim * mist, tone * 0.8, ink)
    for _ in range(int(520 * (0.4 + tall))):
        x = rng.uniform(0, width)
        top = line[int(x)]
        y = top + rng.gamma(1.5, 42) * scale
        if sample(mist, x, y) * sample(cover, x, y) < 0.3:
            continue
        slope = np.clip(line[min(int(x + 8 * scale), width - 1)] - top, -16 * scale, 16 * scale)
        side = 1.0 if slope >= 0 else -1.0
        angle = np.pi / 2 - side * rng.uniform(0.05, 0.55)
        level = tone * rng.uniform(0.55, 1.5)
        sheet.stroke(
            brush, brush.pick(rng), (x, y), angle, rng.uniform(26, 78) * scale,
            max(rng.uniform(4, 15) * scale, 1.5), side * rng.uniform(0, 0.006) / scale,
            ink * level, ink * level * 0.3, opacity=rng.uniform(0.2, 0.65),
        )  # fmt: skip


def _needles(sheet: Sheet, centre: Array, reach: float, tilt: float) -> list[Array]:
    """A fan of pine needles."""
    rng, fan = sheet.rng, []
    for turn in np.linspace(-1.25, 1.25, 23) + rng.normal(0, 0.05, 23):
        angle = tilt + turn
        long = reach * rng.uniform(0.75, 1.1)
        tip = centre + long * np.array([np.cos(angle), np.sin(angle)])
        middle = (centre + tip) / 2 + rng.normal(0, 0.03, 2) * long
        fan.append(ribbon(spline([centre, middle, tip], 8), np.linspace(2.3, 0.7, 8) * sheet.scale))
    return fan


def _pine(sheet: Sheet, brush: Brush) -> None:
    """A bent pine leaning out from the left over the mist."""
    rng, scale, (height, width) = sheet.rng, sheet.scale, sheet.shape
    unit = np.array([width, height], np.float32)
    trunk = spline(
        np.array([(-0.03, 0.80), (0.07, 0.72), (0.10, 0.63), (0.20, 0.56), (0.25, 0.47),
                  (0.37, 0.43), (0.47, 0.455)]) * unit, 90,
    )  # fmt: skip
    trunk[:, 1] += 5 * scale * noise(rng, (1, 90), (1, 9), 2)[0]
    limbs = [(trunk, 54.0, 9.0)]
    for at, dx, dy, thick in (
        (34, 0.16, 0.035, 20), (46, -0.17, -0.10, 22), (58, 0.10, -0.12, 17),
        (64, -0.10, -0.105, 14), (72, 0.17, 0.055, 13), (26, -0.16, -0.09, 18),
    ):  # fmt: skip
        root = trunk[at]
        bend = root + np.array([dx * 0.5, dy * 0.2]) * unit
        limb = spline([root, bend, root + np.array([dx, dy]) * unit], 40)
        limb += 3 * scale * np.stack([noise(rng, (1, 40), (1, 7), 2)[0]] * 2, axis=1)
        limbs.append((limb, thick, 4.0))
    for points, thick, thin in limbs:
        widths = np.linspace(thick, thin, len(points)) * scale
        widths *= 1 + 0.14 * noise(rng, (1, len(points)), (1, 6), 2)[0]
        cover = mask_of(sheet.shape, [ribbon(points, widths)])
        sheet.pixels *= 1 - 0.9 * cover[..., None]
        sheet.wash(cover, 0.42, SIENNA * 0.7 + BLACK * 0.5, rim=1.5)
        side = points + np.array([0, 0.28])[None, :] * widths[:, None]
        sheet.ink(mask_of(sheet.shape, [ribbon(side, widths * 0.5)]), 0.75, dry=0.15)
        for edge in (-0.48, 0.48):
            rim = points + np.array([0, edge])[None, :] * widths[:, None]
            pressure = 3.2 * scale * (1 + 0.5 * noise(rng, (1, len(rim)), (1, 5), 2)[0])
            sheet.marks([ribbon(rim, np.clip(pressure, 0.8 * scale, None))], 1.5, dry=-0.7)
        for i in range(2, len(points) - 2, 2):
            for _ in range(3):
                x, y = points[i] + rng.uniform(-0.4, 0.4, 2) * widths[i]
                sheet.stroke(
                    brush, brush.pick(rng), (x, y), rng.uniform(0, np.pi),
                    max(widths[i] * 0.5, 2), max(widths[i] * 0.16, 1.2), 0.8 / max(widths[i], 1),
                    BLACK * 1.5, BLACK * 0.3, opacity=0.75,
                )  # fmt: skip
    pale, dark = [], []
    for points, _, _ in limbs:
        steps = range(len(points) // 3, len(points), 4 if len(points) < 60 else 9)
        for i in steps:
            for _ in range(2):
                centre = points[i] + rng.normal(0, 22, 2) * scale - np.array([0, 12]) * scale
                fan = _needles(sheet, centre, rng.uniform(34, 56) * scale, -np.pi / 2)
                (dark if rng.uniform() < 0.6 else pale).extend(fan)
    halo = blur(mask_of(sheet.shape, pale + dark, 2), 9 * scale)
    sheet.wash(np.clip(halo * 1.6, 0, 1), 0.42, INDIGO, rim=0.2)
    sheet.marks(pale, 0.75)
    sheet.marks(dark, 1.9)


def _rock(sheet: Sheet, brush: Brush) -> None:
    """The cliff that carries the pine: broken outline, axe-cut dry strokes, moss dots."""
    rng, scale, (height, width) = sheet.rng, sheet.scale, sheet.shape
    outline = spline(
        np.array([(-0.05, 0.66), (0.06, 0.69), (0.13, 0.745), (0.12, 0.80), (0.22, 0.845),
                  (0.24, 0.90), (0.36, 0.945), (0.40, 1.04), (-0.05, 1.05)])
        * np.array([width, height]), 160,
    )  # fmt: skip
    outline += 7 * scale * np.stack([noise(rng, (1, 160), (1, 9), 3)[0] for _ in "xy"], axis=1)
    cover = blur(mask_of(sheet.shape, [outline]), 1.2 * scale)
    facets = noise(rng, sheet.shape, (90 * scale + 2, 70 * scale + 2), 4)
    sheet.pixels *= 1 - 0.94 * cover[..., None]
    tone = cover * np.clip(0.5 + 0.42 * facets, 0.05, 1.6)
    sheet.wash(tone, 1.0, BLACK * 0.8 + SIENNA * 0.2, 0.8)
    for _ in range(420):
        x, y = rng.uniform(0, 0.42) * width, rng.uniform(0.66, 1.0) * height
        if sample(cover, x, y) < 0.9:
            continue
        level = rng.uniform(0.5, 2.4)
        sheet.stroke(
            brush, brush.pick(rng), (x, y), 1.0 + 0.45 * sample(facets, x, y),
            rng.uniform(24, 90) * scale, max(rng.uniform(5, 22) * scale, 1.5),
            rng.normal(0, 0.004) / scale,
            BLACK * level, BLACK * 0.45 * level, opacity=rng.uniform(0.25, 0.7),
        )  # fmt: skip
    for _ in range(18):
        x, y = rng.uniform(-0.02, 0.30) * width, rng.uniform(0.70, 0.98) * height
        if sample(cover, x, y) < 0.9:
            continue
        heading = rng.normal(1.0, 0.3) + np.cumsum(rng.normal(0, 0.22, 7))
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * rng.uniform(7, 17) * scale
        crack = spline(np.array([x, y]) + np.cumsum(steps, axis=0), 40)
        press = np.abs(noise(rng, (1, 40), (1, 9), 2)[0]) * 3.4 * np.linspace(1.3, 0.4, 40) + 0.8
        sheet.marks([ribbon(crack, press * scale)], 1.6, dry=-0.9)
    edge = ribbon(outline[:130], scale * (5 + 3 * noise(rng, (1, 130), (1, 8), 2)[0]))
    sheet.marks([edge], 1.5, dry=-0.3)
    moss = []
    for i in rng.integers(5, 125, 120):
        x, y = outline[i] + rng.normal(0, 14, 2) * scale + np.array([-4, 4]) * scale
        r = rng.gamma(3.0, 1.1) * scale
        turns = np.linspace(0, 2 * np.pi, 12)
        blob = np.stack([x + r * 1.3 * np.cos(turns), y + r * np.sin(turns)], axis=1)
        moss.append((blob + rng.normal(0, 0.12, (12, 2)) * r).astype(np.float32))
    dots = blur(mask_of(sheet.shape, moss), 1.3 * scale)
    sheet.ink(smoothstep(0.15, 0.85, dots), 1.6)


def _bamboo(sheet: Sheet) -> None:
    """Stalks at the right edge, drawn joint by joint with a dry flat brush, and their leaves."""
    rng, scale, (height, width) = sheet.rng, sheet.scale, sheet.shape
    for x, lean, thick, tone, crown in (
        (0.99, -0.17, 15, 0.36, 0.30), (0.845, 0.02, 18, 0.62, 0.10),
        (0.955, -0.06, 26, 0.95, -0.1),
    ):  # fmt: skip
        y, at = 1.02 * height, x * width
        leaves = []
        while y > crown * height:
            long = rng.uniform(92, 132) * scale
            top = at + lean * long
            bulge = ((at + top) / 2 + 1.5 * scale, y - long / 2)
            spine = spline([(at, y), bulge, (top, y - long)], 30)
            widths = thick * scale * (1 + 0.16 * (2 * np.linspace(0, 1, 30) - 1) ** 4)
            cover = mask_of(sheet.shape, [ribbon(spine, widths)])
            sheet.pixels *= 1 - 0.8 * cover[..., None]
            sheet.wash(cover, tone * 0.5, BLACK * 0.8 + INDIGO * 0.2, rim=2.0)
            for shift, share in ((-0.34, 0.26), (0.36, 0.2)):
                streak = spine + np.array([shift * thick * scale, 0])
                sheet.marks([ribbon(streak, widths * share)], tone * 0.75, dry=-0.5)
            knot = np.array([(-0.62 * thick, -1), (0, 4), (0.66 * thick, -3)]) * scale
            hook = spline(knot + np.array([top, y - long]), 16)
            sheet.marks([ribbon(hook, np.linspace(2, 5.5, 16) * scale)], 1.7 * tone + 0.4)
            if rng.uniform() < 0.85:
                side = rng.choice([-1.0, -1.0, 1.0])
                twig = np.array([top, y - long]) + np.array([side * 58, -30]) * scale
                sheet.marks([ribbon(spline([(top, y - long), twig], 8), 2.6 * scale)], 1.2 * tone)
                for angle in np.pi / 2 - side * rng.uniform(0.1, 1.35, rng.integers(4, 8)):
                    reach = rng.uniform(70, 138) * scale
                    tip = twig + reach * np.array([np.cos(angle), np.sin(angle)])
                    bow = (twig + tip) / 2 + rng.normal(0, 7, 2) * scale
                    t = np.linspace(0, 1, 26)
                    fat = np.sin(np.pi * t**0.62) * rng.uniform(12, 19) * scale + 0.8 * scale
                    leaves.append(ribbon(spline([twig, bow, tip], 26), fat))
            y, at = y - long - 5 * scale, top
        for i in range(3):
            level = tone * (0.9, 1.6, 2.2)[i]
            sheet.marks(leaves[i::3], level, dry=-1.7 if i else -0.9)


def _boat(sheet: Sheet, brush: Brush) -> None:
    """Still water with a fisherman's boat, reeds of ripples and a flight of birds."""
    rng, scale, (height, width) = sheet.rng, sheet.scale, sheet.shape
    for _ in range(210):
        x, y = rng.uniform(0, width), (0.80 + 0.2 * rng.uniform() ** 0.8) * height
        level = rng.uniform(0.10, 0.42)
        sheet.stroke(
            brush, brush.pick(rng), (x, y), rng.normal(0, 0.025),
            rng.uniform(60, 240) * scale, max(rng.uniform(4, 17) * scale, 1.5), 0.0,
            INDIGO * level, INDIGO * level * 0.4, opacity=0.6,
        )  # fmt: skip
    origin = np.array([0.565 * width, 0.852 * height])

    def place(*points: tuple[float, float]) -> Array:
        return (np.array(points) * scale + origin).astype(np.float32)

    hull = spline(place((-92, -8), (-50, 8), (10, 12), (62, 6), (98, -14)), 40)
    t = np.linspace(0, 1, 40)
    sheet.marks([ribbon(hull, (3 + 13 * np.sin(np.pi * t)) * scale)], 1.7, dry=-1.8)
    mirrored = hull + np.array([0, 16]) * scale
    sheet.marks([ribbon(mirrored, (2 + 9 * np.sin(np.pi * t)) * scale)], 0.35)
    cabin = spline(place((-40, 0), (-34, -26), (-8, -33), (18, -24), (22, 2)), 30)
    sheet.wash(mask_of(sheet.shape, [cabin]), 0.75, BLACK * 0.6 + SIENNA * 0.5, 1.0)
    sheet.marks([ribbon(cabin, 3.2 * scale)], 1.4, dry=-0.6)
    robe = place((52, 2), (50, -22), (60, -36), (70, -24), (74, 0))
    hat = place((40, -38), (60, -56), (80, -39), (60, -43))
    sheet.marks([robe], 1.0)
    sheet.marks([hat], 1.8)
    rod = spline(place((64, -26), (110, -66), (150, -70)), 20)
    line = spline(place((150, -70), (152, -20), (150, 22)), 12)
    sheet.marks([ribbon(rod, np.linspace(2.4, 1, 20) * scale), ribbon(line, 0.8 * scale)], 1.4)
    for _ in range(11):
        x, y = rng.normal(0.66, 0.085) * width, rng.normal(0.262, 0.022) * height
        gull = np.array([(-1, -0.35), (-0.4, -0.5), (0, 0), (0.4, -0.62), (1, -0.3)])
        wing = spline(gull * rng.uniform(9, 19) * scale + np.array([x, y]), 24)
        press = 0.8 + 2.4 * np.sin(np.pi * np.linspace(0, 1, 24))
        sheet.marks([ribbon(wing, press * scale)], 1.5)


def _writing(sheet: Sheet) -> None:
    """Two columns of free grass-script flourishes and the painter's seal below them."""
    rng, scale, (height, width) = sheet.rng, sheet.scale, sheet.shape
    for column, x in enumerate((0.118, 0.060)):
        pen = np.array([x * width, (0.035 + 0.02 * column) * height])
        for _ in range(6 - 2 * column):
            cell = rng.uniform(25, 34) * scale
            for _ in range(rng.integers(3, 6)):
                start = pen + rng.uniform(-0.5, 0.5, 2) * cell
                turn = rng.choice([0.1, -0.25, 1.5, 2.2, 0.9]) + rng.normal(0, 0.2)
                ahead = np.array([np.cos(turn), np.sin(turn)])
                end = start + cell * rng.uniform(0.45, 0.95) * ahead
                bow = (start + end) / 2 + rng.normal(0, 0.13, 2) * cell
                hook = end + rng.normal(0, 0.12, 2) * cell
                t = np.linspace(0, 1, 30)
                swell = 0.6 + 0.5 * np.sin(5 * t + rng.uniform(0, 3))
                press = 5.2 * (1 - t) ** 0.5 * swell + 1.4
                line = spline([start, bow, end, hook], 30)
                sheet.marks([ribbon(line, press * scale)], 1.9, dry=-1.5)
            pen = pen + np.array([rng.normal(0, 2.5) * scale, cell * 1.28])
    x, y, side = 0.040 * width, 0.196 * height, 48 * scale
    square = np.array([(0, 0), (1, 0.02), (0.98, 1), (0.02, 0.98)], np.float32) * side + (x, y)
    carved, right = [], np.array([0.33 * side, 0])
    for row in range(2):
        for col in range(2):
            corner = np.array([x, y]) + side * np.array([0.12 + 0.42 * col, 0.12 + 0.42 * row])
            for k in range(3):
                level = corner + side * np.array([0, 0.05 + 0.13 * k])
                carved.append(ribbon(np.stack([level, level + right]), 0.055 * side))
            stem = corner + side * np.array([rng.uniform(0.06, 0.26), 0])
            carved.append(ribbon(np.stack([stem, stem + right[::-1]]), 0.055 * side))
    stamp = mask_of(sheet.shape, [square]) * (1 - mask_of(sheet.shape, carved))
    worn = smoothstep(-2.0, -0.6, sheet.tooth + 0.8 * sheet.grain)
    sheet.pixels += (stamp * worn * 0.72)[..., None] * CINNABAR


def _wet(sheet: Sheet) -> None:
    """Let the ink creep along the fibres where the paper is wet."""
    wet = smoothstep(0.1, 1.3, noise(sheet.rng, sheet.shape, 130 * sheet.scale + 2, 3))
    soft = blur(sheet.pixels, 5 * sheet.scale)
    sheet.pixels += (0.75 * wet)[..., None] * (soft - sheet.pixels)


def ink(size: int, rng: Generator) -> Image.Image:
    """Sumi-e landscape: layered washes, dry-brush strokes, mist, pine, bamboo, boat and seal."""
    height, width, scale = frame(size, 0.8)
    shape = (height, width)
    sheet = Sheet(shape, scale, rng)
    dry = Brush(rng, dryness=0.9)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    sky = np.clip(0.35 + 0.4 * sheet.cloud, 0, 1) * smoothstep(0.5, 0.0, rows)
    sheet.wash(sky, 0.16, INDIGO * 0.7 + SIENNA * 0.2, rim=0.8)
    _peaks(sheet, dry, 0.40, 0.22, 0.30, INDIGO)
    _peaks(sheet, dry, 0.53, 0.31, 0.55, INDIGO * 0.6 + BLACK * 0.4)
    _peaks(sheet, dry, 0.65, 0.27, 0.85, INDIGO * 0.3 + BLACK * 0.7)
    _peaks(sheet, dry, 0.775, 0.22, 1.0, BLACK * 0.9 + SIENNA * 0.1)
    _wet(sheet)
    _boat(sheet, dry)
    _rock(sheet, dry)
    _pine(sheet, dry)
    _bamboo(sheet)
    _writing(sheet)
    sheet_tone = paper(rng, shape, scale, rgb(240, 229, 203))
    return to_image(sheet_tone * np.exp(-np.clip(sheet.pixels, 0, 3.2)))
