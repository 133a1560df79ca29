"""Memory and seconds of ``optistyle run`` at any size, beside what its plan said before."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from benchmarks import pairs, record, speed
from optistyle.errors import InputError
from optistyle.pictures import to_uint8
from optistyle.run.demand import PAIRS

#: Encoder, size in px, and tile.
Configuration = tuple[str, int, str]

#: Those of the page, as the command line takes them.
USUAL = (
    "slim:512:off",
    "slim:1024:auto",
    "slim:2048:512",
    "vgg19:512:off",
    "vgg19:1024:256",
    "vgg19:4096:256",
    "vgg19:4096:512",
    "slim:8192:512",
)
#: So many that L-BFGS has all the pairs that it keeps of a large picture, and replaces one.
ITERATIONS = PAIRS[0] + 2

_PLAN = re.compile(r"about ([\d.]+) GB of memory and ([\d.]+) (s|min|h)\b")
_SECONDS = {"s": 1, "min": 60, "h": 3600}


def parse(text: str) -> Configuration:
    """``ENCODER:PX:TILE``."""
    try:
        encoder, px, tile = text.split(":")
        return encoder, int(px), tile
    except ValueError:
        raise InputError(f"{text!r} is not ENCODER:PX:TILE, as in slim:1024:256") from None


def planned(arguments: Sequence[str]) -> tuple[float, float]:
    """Gigabytes and seconds as ``optistyle plan`` says."""
    command = [sys.executable, "-m", "optistyle", "plan", *arguments]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = _PLAN.search(said)
    assert found is not None, said
    return float(found[1]), float(found[2]) * _SECONDS[found[3]]


def measure(encoder: str, px: int, tile: str) -> dict[str, Any]:
    """One run as a user starts it, and what its plan says before."""
    with tempfile.TemporaryDirectory() as folder:
        content, style, output = (Path(folder) / x for x in ("content.tif", "style.tif", "out.png"))
        _write(content, pairs.photograph("astronaut"), px)
        _write(style, pairs.painting("swirls"), px)
        arguments = [str(content), str(style), "--encoder", encoder, "--size", str(px)]
        arguments += ["--tile", tile, "--scales", "single", "--iterations", str(ITERATIONS)]
        gigabytes, seconds = planned(arguments)
        whole, peak = speed.start(["run", *arguments, "-o", str(output)])
        manifest = json.loads(output.with_suffix(".json").read_text())
    taken = sum(manifest["seconds"])
    return {
        "encoder": encoder,
        "px": px,
        "tile": manifest["recipe"]["tile"],
        "GB forecast": gigabytes,
        "GB": peak / 1e9,
        "forecast / GB": gigabytes * 1e9 / peak,
        "seconds forecast": seconds,
        "seconds": taken,
        "forecast / seconds": seconds / taken,
        "seconds, start to end": whole,
    }


def _write(path: Path, image: Tensor, px: int) -> None:
    """A square, uncompressed: quick to write and to read at any size."""
    Image.fromarray(to_uint8(pairs.centre_square(image, px))).save(path)


def main(texts: Sequence[str]) -> None:
    configurations = [parse(text) for text in texts]
    rows = []
    for encoder, px, tile in configurations:
        rows.append(measure(encoder, px, tile))
        print(record.save(f"sizes-{encoder}-{px}-{tile}", rows[-1:]), flush=True)
    print(record.listed(rows))
