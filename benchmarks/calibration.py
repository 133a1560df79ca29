"""Do the calibration pictures calibrate as photographs do?

For VGG-19's filters at each layer, log mean activations on the calibration pictures against those
on photographs: their correlation, the standard deviation and the largest of the difference (each
layer's median level taken out, rare filters raised as `vgg.normalise` does).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import pairs, record
from optistyle.encoders import formats, weights
from optistyle.encoders.procedural import calibration_images
from optistyle.encoders.vgg import RAREST, VGG, mean_activations
from optistyle.pictures import read, resize
from optistyle.sizes import fit_longer_side

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1")


def photographs(folder: Path | None, count: int = 40, side: int = 360) -> Iterator[Tensor]:
    """Evenly spaced files of a folder, or scikit-image's photographs."""
    if folder is None:
        images = map(pairs.photograph, ("astronaut", "chelsea", "coffee", "rocket"))
    else:
        files = sorted(folder.glob("*.jpg")) + sorted(folder.glob("*.png"))
        images = (read(path).pixels for path in files[:: max(1, len(files) // count)])
    for image in images:
        longer = min(side, max(image.shape[-2:]))
        yield resize(image, fit_longer_side(*image.shape[-2:], longer))


def rows(folder: Path | None) -> list[dict[str, Any]]:
    path = weights.locate("vgg19")
    found = formats.recognise(*weights.load_tensors(path), str(path))
    keep = {key: x for key, x in found.convolutions.items() if key < "conv5_2"}
    encoder = VGG(keep, mean=found.mean, name="vgg19")
    ours = mean_activations(encoder, calibration_images())
    theirs = mean_activations(encoder, photographs(folder))

    def levels(means: Tensor) -> np.ndarray:
        relative = (means / means.median()).clamp_min(RAREST)
        return torch.log(relative).numpy()

    table = []
    for layer in LAYERS:
        a, b = levels(ours[layer]), levels(theirs[layer])
        table.append(
            {
                "layer": layer,
                "correlation": float(np.corrcoef(a, b)[0, 1]),
                "deviation": float((b - a).std()),
                "largest ratio": float(np.exp((b - a).max())),
            }
        )
    return table


def main(folder: Path | None) -> None:
    table = rows(folder)
    print(record.listed(table))
    print(record.save("calibration", table))
