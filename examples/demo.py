"""The main job on a real photograph: Chelsea the cat (scikit-image, CC0), painted as ``garden``.

Writes out/demo.png, out/demo.json and out/demo-sheet.png (photograph, painting, picture).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from skimage import data

import optistyle
from optistyle.pictures import resize
from optistyle.sizes import fit_longer_side

ROOT = Path(__file__).parents[1]


def main(size: int = 512, out: Path = ROOT / "out") -> None:
    """Make the picture and the sheet in ``out``, and print where they are."""
    out.mkdir(exist_ok=True)
    photograph = torch.from_numpy(data.chelsea().copy()).permute(2, 0, 1)[None].float() / 255
    painting = optistyle.read(ROOT / "examples" / "styles" / "garden.jpg")
    recipe = optistyle.Recipe(size=size)
    result = optistyle.stylize(photograph, painting, recipe)
    result.save(out / "demo.png")
    (out / "demo.json").write_text(json.dumps(result.manifest(), indent=1))
    small = resize(painting.pixels, fit_longer_side(painting.height, painting.width, size))
    sheet = optistyle.sheet([[resize(photograph, result.image.shape[-2:]), small, result.image]])
    optistyle.write(out / "demo-sheet.png", sheet)
    print(f"the picture: {out / 'demo.png'}\nside by side: {out / 'demo-sheet.png'}")


if __name__ == "__main__":
    main()
