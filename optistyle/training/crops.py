"""Training images: files in folders, and random crops of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from optistyle.errors import InputError

_KINDS = frozenset((".jpg", ".jpeg", ".png", ".webp"))
#: What Pillow says of a bad file; SyntaxError of a PNG that is open already.
_UNREADABLE = (OSError, SyntaxError, Image.DecompressionBombError)


class Crops:
    """Endless random crops of images, with augmentation.

    Args:
        files: the images. size: the crops' side in px. rng: draws the crops.

    Attributes:
        skipped: the files that could not be read.
    """

    def __init__(self, files: Sequence[Path], size: int, rng: np.random.Generator) -> None:
        self._files, self._size, self._rng = list(files), size, rng
        self.skipped: set[Path] = set()

    def plain(self) -> Tensor:
        """One crop, (3, size, size) in [0, 1], as it is or mirrored."""
        return torch.from_numpy(self._cut()).permute(2, 0, 1)

    def _cut(self) -> np.ndarray:
        rng, size, image = self._rng, self._size, self._open()
        side = min(image.size)
        span = min(side, round(size * math.exp(rng.uniform(0, math.log(max(1.01, side / size))))))
        left = int(rng.integers(image.width - span + 1))
        top = int(rng.integers(image.height - span + 1))
        image = image.resize(
            (size, size), Image.Resampling.BICUBIC, (left, top, left + span, top + span)
        )
        pixels = np.asarray(image, dtype=np.float32) / 255
        return pixels[:, ::-1].copy() if rng.random() < 0.5 else pixels

    def __call__(self) -> Tensor:
        """One crop, (3, size, size) in [0, 1], its colours changed, with noise at times."""
        rng, pixels = self._rng, self._cut()
        if rng.random() < 0.3:
            pixels = pixels ** np.float32(math.exp(rng.normal(0, 0.25)))
        if rng.random() < 0.3:
            gain = np.exp(rng.normal(0, 0.15, 3)).astype(np.float32)
            pixels = pixels * gain
        if rng.random() < 0.15:
            pixels = pixels[..., rng.permutation(3)]
        if rng.random() < 0.2:
            noise = rng.standard_normal(pixels.shape, dtype=np.float32)
            pixels = pixels + np.float32(rng.uniform(0.01, 0.12)) * noise
        return torch.from_numpy(np.clip(pixels, 0, 1)).permute(2, 0, 1)

    def _open(self) -> Image.Image:
        """One of the images that can be read."""
        while len(self.skipped) < len(self._files):
            path = self._files[self._rng.integers(len(self._files))]
            try:
                with Image.open(path) as file:
                    return file.convert("RGB")
            except _UNREADABLE:
                self.skipped.add(path)
        raise InputError("none of the training images can be read")


def training_files(folders: Sequence[Path], held_out: Sequence[Path] = ()) -> list[Path]:
    """List all images under folders, without near-copies of held-out ones.

    A near-copy is an image whose 16x16 grey thumbnail correlates above 0.95 with a held-out one.
    Hidden files and folders are left out: macOS writes ``._IMG_1.JPG`` beside ``IMG_1.JPG``.

    Args:
        folders: of JPEG, PNG and WebP images, at any depth.
        held_out: folders of images that are not to be trained on.

    Raises:
        InputError: there is no image.
    """

    def images(root: Path) -> list[Path]:
        found = (p for p in root.rglob("*") if p.suffix.lower() in _KINDS)
        return sorted(p for p in found if not _is_hidden(p.relative_to(root)))

    def thumbnail(path: Path) -> np.ndarray | None:
        try:
            with Image.open(path) as file:
                file.draft("L", (64, 64))
                small = np.asarray(file.convert("L").resize((16, 16), Image.Resampling.BOX), float)
        except _UNREADABLE:
            return None
        small = small - small.mean()
        return (small / (np.linalg.norm(small) + 1e-6)).ravel()

    files = [path for folder in folders for path in images(folder)]
    if not files:
        raise InputError(f"no images under {', '.join(map(str, folders))}")
    kept_out = [t for root in held_out for p in images(root) if (t := thumbnail(p)) is not None]
    if not kept_out:
        return files
    matrix = np.stack(kept_out)
    thumbnails = ((p, thumbnail(p)) for p in files)
    return [p for p, t in thumbnails if t is not None and (matrix @ t).max() <= 0.95]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
