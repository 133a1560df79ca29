"""Report 003, again: every figure of it, and what it left open, into docs/report-003/.

python examples/report_003.py [--encoder slim|vgg19 …] [--only NAME …] [--small]

Runs go to out/report-003, and finished ones are not repeated. Photographs are scikit-image's,
paintings our own. VGG-19 runs the report's own schedule (500 iterations at one scale) at 256 px,
its convolutions in bfloat16 (float32 where losses are compared), for which the processor needs
AVX-512 or ARM's BF16; the slim encoder optistyle's schedule at 512 px. --small is everything at
96 px with few iterations.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import claims
from PIL import Image
from skimage import data

from optistyle import load_encoder, read, write
from optistyle.experiments import attention
from optistyle.experiments.ablations import ABLATIONS, ablate, markdown
from optistyle.experiments.engines import local
from optistyle.experiments.runs import write_json
from optistyle.files import write_whole
from optistyle.pictures import plots

ROOT = Path(__file__).parents[1]
STYLES = ROOT / "examples" / "styles"
PAIRS = (("chelsea", "garden"), ("astronaut", "swirls"), ("rocket", "woodcut"))
#: Points of the cat: an eye, the fur between the ears, the wall behind it.
POINTS = ((182.0, 108.0), (250.0, 60.0), (60.0, 40.0))
#: Ablations whose own settings (500 iterations at one scale) are the report's: VGG-19's too.
REPORTS_OWN = ("gamma", "attention-layer", "optimizer")


def photograph(name: str, folder: Path) -> Path:
    """One of scikit-image's photographs as a file."""
    path = folder / f"{name}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(getattr(data, name)()).save(path)
    return path


def settings(encoder: str, name: str, small: bool) -> dict[str, Any]:
    """What the size of machine and figure asks for."""
    if small:
        few = {"iterations": "8"} if name in REPORTS_OWN else {"iterations": "4", "scales": "96"}
        return {"encoder": encoder, "size": 96, **few}
    if encoder == "slim":
        # Coarse to fine, optistyle's own schedule; but where iterations are counted, one scale.
        schedule = {"scales": "single", "iterations": "200"}
        if not ABLATIONS[name].curves:
            schedule = {"scales": "auto", "iterations": "40"}
        return {"encoder": encoder, "size": 512, **schedule}
    precision = "float32" if ABLATIONS[name].curves else "bfloat16"
    return {"encoder": encoder, "size": 256, "precision": precision}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", nargs="+", default=["slim", "vgg19"])
    parser.add_argument("--only", nargs="+", default=[*ABLATIONS, "attention", "claims"])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "report-003")
    options = parser.parse_args()
    work = ROOT / "out" / ("report-003-small" if options.small else "report-003")
    options.output.mkdir(parents=True, exist_ok=True)
    pairs = [(photograph(c, work / "photos"), STYLES / f"{s}.jpg") for c, s in PAIRS]
    for encoder in options.encoder:
        for name in [x for x in ABLATIONS if x in options.only]:
            if encoder == "vgg19" and name not in REPORTS_OWN:
                continue
            found = ablate(
                ABLATIONS[name],
                pairs if name == "gamma" else pairs[:1],
                work / f"{name}-{encoder}",
                settings(encoder, name, options.small),
                engine=local(options.workers, options.threads),
            )
            stem = options.output / f"{name}-{encoder}"
            write(stem.with_suffix(".jpg"), read(found.figure), quality=85)
            if found.curves is not None:
                write_whole(Path(f"{stem}-curves.png").resolve(), found.curves.read_bytes())
            write_json(stem.with_suffix(".json").resolve(), found.table)
            print(f"{name}, {encoder}\n{markdown(found.table)}", flush=True)
        if "attention" in options.only:
            explorer = attention.Explorer(
                *pairs[0], encoder=load_encoder(encoder), size=96 if options.small else 512
            )
            figure = attention.figure(explorer, POINTS)
            plots.save(figure, options.output / f"attention-{encoder}.jpg")
            plots.save(attention.warps(explorer), options.output / f"warps-{encoder}.jpg")
        if "claims" in options.only:
            claims.run(encoder, work / f"claims-{encoder}", options.output, options)


if __name__ == "__main__":
    main()
