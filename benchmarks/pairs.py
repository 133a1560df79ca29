"""Content and style pictures to measure on, none of which an encoder of ours was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from optistyle.pictures import read, resize

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
HELD_OUT = SHARED / "images"

#: Style and content numbers of the rc2021 set, and the field's usual pairs.
_RC2021 = ((0, 0), (1, 5), (3, 19), (7, 42), (10, 30), (19, 43))
_USUAL = (("tuebingen", "starry_night"), ("hoover_tower", "great_wave"))

#: Content and style: a skyline, two portraits and a city by the sea; then others.
_VARIED = (
    ("rc2021/content/content10.png", "rc2021/style/style7.png"),
    ("rc2021/content/content39.png", "rc2021/style/style13.png"),
    ("rc2021/content/content26.png", "rc2021/style/style6.png"),
    ("rc2021/content/content8.png", "rc2021/style/style1.png"),
    ("pairs/content/tuebingen.jpg", "pairs/style/starry_night.jpg"),
    ("pairs/content/hoover_tower.jpg", "pairs/style/great_wave.jpg"),
    ("rc2021/content/content32.png", "rc2021/style/style3.png"),
    ("rc2021/content/content30.png", "rc2021/style/style20.png"),
)

_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
_PAINTINGS = ("swirls", "woodcut", "garden", "cubist", "mosaic", "ink")


def centre_square(image: Tensor, size: int) -> Tensor:
    """The middle of an image, (1, 3, size, size)."""
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(image[..., top : top + side, left : left + side], (size, size))


def photograph(name: str) -> Tensor:
    """One of scikit-image's photographs, (1, 3, H, W)."""
    from skimage import data

    pixels = torch.from_numpy(getattr(data, name)().copy())
    return pixels[..., :3].permute(2, 0, 1)[None].float() / 255


def painting(name: str) -> Tensor:
    """One of our own paintings, (1, 3, H, W)."""
    return read(ROOT / "examples" / "styles" / f"{name}.jpg").pixels


def own(size: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Eight pairs of photographs and paintings that come with the repository's dependencies."""
    names = [(p, _PAINTINGS[(i + j) % 6]) for j in (0, 3) for i, p in enumerate(_PHOTOGRAPHS)]
    return {
        f"{p} x {s}": (centre_square(photograph(p), size), centre_square(painting(s), size))
        for p, s in names
    }


def held_out(size: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The pairs that published work is compared on, where they are; else our own."""
    if not HELD_OUT.is_dir():
        return own(size)
    sets = HELD_OUT / "rc2021", HELD_OUT / "pairs"
    files = {
        f"content{c} x style{s}": (
            sets[0] / "content" / f"content{c}.png",
            sets[0] / "style" / f"style{s}.png",
        )
        for s, c in _RC2021
    }
    for c, s in _USUAL:
        files[f"{c} x {s}"] = sets[1] / "content" / f"{c}.jpg", sets[1] / "style" / f"{s}.jpg"
    return _squares(files, size)


def varied(size: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Eight held-out pairs with two portraits and two skylines, where they are; else our own."""
    if not HELD_OUT.is_dir():
        return own(size)
    paths = [(HELD_OUT / content, HELD_OUT / style) for content, style in _VARIED]
    return _squares({f"{c.stem} x {s.stem}": (c, s) for c, s in paths}, size)


def _squares(files: Mapping[str, tuple[Path, Path]], size: int) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        name: (centre_square(read(content).pixels, size), centre_square(read(style).pixels, size))
        for name, (content, style) in files.items()
    }
