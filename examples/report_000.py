"""Report 000, again: five methods on rc2021's 43 contents and 20 styles, into docs/report-000/.

python examples/report_000.py paint adain|sanet|adaattn|gatys|attention …
python examples/report_000.py page

``paint`` paints and judges, in one thread, so that two of them can run side by side; killed and
started again, it goes on. Feed-forward models paint all pairs, optimisers (slim encoder) a seeded
sample spread evenly over contents and styles. ``page`` makes tables and figures of what is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from optistyle.errors import InputError
from optistyle.experiments import compare
from optistyle.experiments.compare import OPTIMISERS, USUAL, Case

ROOT = Path(__file__).parents[1]
RC2021 = ROOT.parent / "shared" / "images" / "rc2021"
METHODS = ("adaattn", "adain", "sanet", "gatys", "attention")
#: Measured on the sampled pairs only: a second and a half a picture.
SAMPLED = "cams_slim"


def cases(method: str, data: Path, work: Path, size: int, sample: int, seed: int) -> list[Case]:
    """The sampled pairs, and for a feed-forward model all the others."""
    folders = data / "content", data / "style"
    if not all(folder.is_dir() for folder in folders):
        raise InputError(
            f"the rc2021 pictures are not at {data}: name the folder that holds their folders "
            "content and style with --data"
        )
    chosen = compare.pairs_of(*folders, sample, seed)
    found = compare.cases(chosen, [method], {}, work, [*USUAL, SAMPLED], size=size, encoder="slim")
    if method not in OPTIMISERS:
        others = sorted(set(compare.pairs_of(*folders)) - set(chosen))
        found += compare.cases(others, [method], {}, work, USUAL, size=size) if others else []
    return found


def paint(methods: Sequence[str], options: argparse.Namespace) -> None:
    """Paint and judge what is not done yet; compare's own report is beside it."""
    torch.set_num_threads(1)
    for method in methods:
        todo = cases(method, options.data, options.work, options.size, options.sample, options.seed)
        found = compare.compare(todo, options.work / method, workers=1)
        print(compare.markdown(found), flush=True)
        for row in found.rows:
            if "error" in row:
                print(f"{method}, {row['content']} x {row['style']}: {row['error']}")
        if found.failed:
            sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=["paint"])
    parser.add_argument("methods", nargs="*", choices=METHODS, metavar="METHOD", default=[])
    parser.add_argument("--data", type=Path, default=RC2021, help="folder of content/ and style/")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "report-000")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--sample", type=int, default=60, help="pairs that optimisers paint")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        paint(options.methods or METHODS, options)
    except InputError as error:
        sys.exit(f"report_000.py: {error}")
    except KeyboardInterrupt:
        sys.exit("report_000.py: interrupted; what is done is kept: start it again")


if __name__ == "__main__":
    main()
