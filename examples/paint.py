"""Paint the style pictures of the demo: ``python examples/paint.py [NAME ...] -o DIR``.

Each picture is made by program alone, from a seed, with numpy and Pillow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paintings import PAINTINGS, paint

SMALLEST = 64
JPEG = {"quality": 90, "subsampling": 0, "optimize": True, "progressive": True}


def main(arguments: Sequence[str] | None = None) -> int:
    """Paint the named pictures (all without a name) and print each file written."""
    parser = argparse.ArgumentParser(description="Paint style pictures by program.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PAINTINGS))
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--size", type=int, default=1280, help="longer side in pixels (1280)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another picture (0)")
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="(jpg)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in PAINTINGS]
    if unknown:
        known = ", ".join(PAINTINGS)
        print(f"paint.py: no painting named {unknown[0]!r}; there are: {known}", file=sys.stderr)
        return 2
    if options.size < SMALLEST or options.seed < 0:
        print(f"paint.py: --size starts at {SMALLEST} and --seed at 0", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or PAINTINGS:
        target = options.output / f"{name}.{options.format}"
        picture = paint(name, options.size, options.seed)
        settings = JPEG if options.format == "jpg" else {}
        picture.save(target, **settings)
        print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
