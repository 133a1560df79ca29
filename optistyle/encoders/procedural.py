"""Pictures made by program, with the statistics of photographs.

Dead leaves (Lee, Mumford & Huang, "Occlusion models for natural images", IJCV 2001): opaque shapes
fall on one another, their radii r distributed as r**-3, which gives natural images' scale
invariance, edges and occlusions. Each leaf is coloured from a correlated palette, shaded, and left
smooth or textured with 1/f noise or stripes. They serve to calibrate encoders without shipping
photographs, and as part of the training set of the slim encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_PAINTINGS = ("swirls", "mosaic", "ink", "woodcut", "cubist", "garden")


def dead_leaves(size: int, rng: np.random.Generator) -> Tensor:
    """One picture, (1, 3, size, size) in [0, 1]."""
    texture = _power_noise(size, rng, slope=rng.uniform(0.8, 1.6))
    palette = _palette(rng)
    background = rng.choice([0.0, rng.uniform(0.02, 0.15)]) * texture + 0.1 * _gradient(size, rng)
    canvas = palette[0] + background[..., None]
    # Radii by inversion of the cumulative r**-3 law between the bounds, large leaves first.
    low, high = rng.uniform(2, 6), size * rng.uniform(0.2, 0.5)
    uniform = rng.random(int(rng.integers(40, 300)))
    radii = np.sort((low**-2 - uniform * (low**-2 - high**-2)) ** -0.5)[::-1]
    radii = np.concatenate([rng.uniform(high / 4, high, 12), radii])
    for radius in radii:
        _drop_leaf(canvas, radius, texture, palette[rng.integers(len(palette))], rng)
    canvas = canvas + rng.choice([0.0, 0.004, 0.015]) * rng.standard_normal(canvas.shape)
    pixels = np.clip(canvas, 0, 1).astype(np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def calibration_images(leaves: int = 12, size: int = 256) -> Iterator[Tensor]:
    """The fixed pictures on which mean activations are measured, each (1, 3, H, W).

    Dead leaves, and the six paintings of ``examples/paint.py`` at 288 px: with paintings among them
    the means come closer to those on photographs at every layer from relu4_1 on.
    """
    for seed in range(leaves):
        yield dead_leaves(size, np.random.default_rng(seed))
    folder = resources.files("optistyle.encoders") / "data"
    for name in _PAINTINGS:
        with (folder / f"calibration-{name}.jpg").open("rb") as file, Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
        yield torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def _drop_leaf(
    canvas: np.ndarray,
    radius: float,
    texture: np.ndarray,
    colour: np.ndarray,
    rng: np.random.Generator,
) -> None:
    size = len(canvas)
    cx, cy = rng.uniform(-0.1 * size, 1.1 * size, 2)
    aspect, angle = rng.uniform(1, 3), rng.uniform(0, np.pi)
    top, bottom = max(0, int(cy - radius * 1.5)), min(size, int(cy + radius * 1.5) + 2)
    left, right = max(0, int(cx - radius * 1.5)), min(size, int(cx + radius * 1.5) + 2)
    if top >= bottom or left >= right:
        return
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    u = ((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)) / radius
    v = ((y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)) / radius * aspect
    kind = rng.integers(4)
    if kind < 2:
        distance = np.hypot(u, v)
        distance = distance * (1 + 0.15 * np.sin(rng.integers(2, 7) * np.arctan2(v, u) + angle))
    else:
        distance = np.maximum(np.abs(u), np.abs(v)) * 1.2
    softness = rng.choice([0.7, 1.5, 4.0], p=[0.4, 0.4, 0.2])
    cover = np.clip((1 - distance) * radius / softness + 0.5, 0, 1)[..., None]
    colour = np.clip(colour + rng.normal(0, 0.06) + rng.normal(0, 0.02, 3), 0, 1)
    shade = rng.uniform(-0.2, 0.2) * u + rng.uniform(-0.15, 0.15) * v
    shift = rng.integers(0, size, 2)
    grain = np.roll(texture, tuple(shift), (0, 1))[top:bottom, left:right]
    if rng.random() < 0.6:  # the rest is smooth: sky, walls, paper
        shade = shade + rng.exponential(0.1) * grain
    if rng.random() < 0.2:  # stripes: fences, fabric, windows
        frequency = rng.uniform(0.15, 1.2)
        wave = np.sin(frequency * radius * (u if rng.random() < 0.5 else v))
        shade = shade + rng.uniform(0.03, 0.2) * (np.sign(wave) if rng.random() < 0.3 else wave)
    leaf = colour + shade[..., None]
    region = canvas[top:bottom, left:right]
    region += cover * (leaf - region)


def _palette(rng: np.random.Generator, colours: int = 8) -> np.ndarray:
    """(colours, 3): mostly lightness, some blue-yellow, little red-green, as in natural scenes."""
    lightness = np.clip(rng.beta(1.4, 1.8, (colours, 1)), 0.02, 0.98)
    blue_yellow = rng.normal(0.03, 0.09, (colours, 1)) * np.array([[1.0, 0.3, -0.9]])
    red_green = rng.normal(0, 0.03, (colours, 1)) * np.array([[0.8, -0.8, 0.2]])
    cast = rng.normal(0, 0.02, (1, 3))
    vivid = np.where(rng.random((colours, 1)) < 0.15, 3.0, 1.0)
    return np.clip(lightness + vivid * (blue_yellow + red_green) + cast, 0, 1)


def _gradient(size: int, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    return 2 * (x * np.cos(angle) + y * np.sin(angle))


def _power_noise(size: int, rng: np.random.Generator, slope: float) -> np.ndarray:
    """(size, size) noise with amplitude spectrum 1 / f**slope, unit deviation, periodic."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    phase = rng.uniform(0, 2 * np.pi, frequency.shape)
    noise = np.fft.irfft2(np.exp(1j * phase) / frequency**slope, (size, size))
    return noise / noise.std()
