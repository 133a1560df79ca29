"""How good are pictures optimised in an encoder, judged in the real VGG-19?

Every pair is optimised in the encoder at 256 px: gamma 0, 150 L-BFGS iterations from the content
at a single scale, range term on. Then, in VGG-19: **style**, the mean over relu1_1 … relu5_1 of
|G - S|² / |S|², and **content**, |F - C|² / |C|² at relu4_2. What counts is the ratio to VGG-19's
own result, as a geometric mean over pairs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import pairs, record
from optistyle.encoders import load
from optistyle.encoders.procedural import calibration_images
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.encoders.weights import load_tensors
from optistyle.metrics.distances import content_distance, gram_distances
from optistyle.recipes import Recipe
from optistyle.run import stylize
from optistyle.training.student import SEPARABLE, WIDTHS

#: VGG-19 compressed 16 times, by Wang et al. (collaborative distillation, CVPR 2020).
COMPRESSED = pairs.SHARED / "weights" / "vgg19-16x"
RECIPE = Recipe(gamma=0.0, scales="single", iterations=(150,), size=256)


def random_encoder() -> VGG:
    """The slim encoder's shape with random weights: what training is worth."""
    generator, source, weights = torch.Generator().manual_seed(0), 3, {}
    for layer, width in WIDTHS.items():
        deviation = (2 / (9 * source)) ** 0.5
        side = 3
        if layer in SEPARABLE:
            weights[f"conv{layer[4:]}.depthwise"] = torch.randn(
                source, 1, 3, 3, generator=generator
            )
            side = 1
        kernel = torch.randn(width, source, side, side, generator=generator) * deviation
        weights[f"conv{layer[4:]}.weight"] = kernel
        weights[f"conv{layer[4:]}.bias"] = torch.zeros(width)
        source = width
    encoder = VGG(weights, mean=torch.full((3,), 0.45), name="random")
    return normalise(encoder, mean_activations(encoder, calibration_images(8)))


def compressed(file: Path) -> VGG:
    """One of the encoders in `COMPRESSED`, as published."""
    theirs, _ = load_tensors(file)
    matrix = theirs["conv0.weight"][:, :, 0, 0].double()
    mean = -torch.linalg.solve(matrix, theirs["conv0.bias"].double())
    weights = {
        f"conv{key[4]}_{key[5]}{key[6:]}": x
        for key, x in theirs.items()
        if key[4] != "0" and "aux" not in key
    }
    first = torch.einsum("omhw,mi->oihw", weights["conv1_1.weight"].double(), matrix)
    weights["conv1_1.weight"] = first.float()
    return VGG(weights, mean=mean.float(), pooling="max", name="vgg19-16x")


def distances(judge: VGG, picture: Tensor, content: Tensor, style: Tensor) -> dict[str, float]:
    """Style distance by layer and in the mean, and content error, in the judge."""
    by_layer = gram_distances(picture, style, judge)
    return {
        "style": float(np.mean(list(by_layer.values()))),
        "content": content_distance(picture, content, judge),
        **by_layer,
    }


def measure(names: list[str], work: Path, own_pairs: bool = False) -> list[dict[str, Any]]:
    """One row per encoder and pair. Rows already in ``work`` are not measured again.

    Args:
        names: ``vgg19``, ``slim``, ``random``, ``photograph`` (nothing optimised) or weights files.
        work: a folder for pictures and rows, so that a long measurement can be interrupted.
        own_pairs: use our own pictures although the held-out set is there.
    """
    judge = load("vgg19")
    images = pairs.own(256) if own_pairs else pairs.held_out(256)
    loaded, rows = cache(_encoder), []
    for name in names:
        for pair, (content, style) in images.items():
            path = record.place(work, Path(name).stem, pair)
            facts = {"encoder": Path(name).stem, "pair": pair}
            encoder = None if name == "photograph" else partial(loaded, name)
            painted = partial(_painted, encoder, content, style, judge, path.with_suffix(".png"))
            rows.append(record.kept(path, facts, painted))
    return rows


def _painted(
    encoder: Callable[[], VGG] | None, content: Tensor, style: Tensor, judge: VGG, output: Path
) -> dict[str, float]:
    started, picture = time.perf_counter(), content
    if encoder is not None:
        result = stylize(content, style, RECIPE, encoder=encoder(), progress=False)
        picture = result.image
        result.save(output)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, **distances(judge, picture, content, style)}


def _encoder(name: str) -> VGG:
    if name == "random":
        return random_encoder()
    return load(file=name) if Path(name).exists() else load(name)


def summary(rows: list[dict[str, Any]]) -> str:
    """A Markdown table: means over pairs, and geometric means of ratios to VGG-19's own results."""
    by_encoder: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_encoder.setdefault(row["encoder"], {})[row["pair"]] = row
    reference = by_encoder.get("vgg19", {})

    def ratio(own: dict[str, dict[str, Any]], key: str) -> float | str:
        common = [pair for pair in own if pair in reference and own[pair][key] > 0]
        if not common:
            return "-"
        logs = [np.log(own[pair][key] / reference[pair][key]) for pair in common]
        return float(np.exp(np.mean(logs)))

    lines = []
    for name, own in by_encoder.items():
        means = [
            float(np.mean([row[key] for row in own.values()]))
            for key in ("style", "relu3_1", "relu4_1", "relu5_1", "content", "seconds")
        ]
        lines.append([name, *means, ratio(own, "style"), ratio(own, "content")])
    header = ["optimised in", "style", "relu3_1", "relu4_1", "relu5_1", "content", "seconds"]
    return record.table([*header, "style / VGG-19's", "content / VGG-19's"], lines)


def main(names: list[str], work: Path, own_pairs: bool = False) -> None:
    rows = measure(names, work, own_pairs)
    print(summary(rows))
    print(record.save("encoders", rows))
