"""An ablation of your own: name the settings to lay side by side, and the pairs to try them on.

python examples/ablate_layers.py photo.jpg painting.jpg [-o out/layers] [--size 256]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from optistyle.experiments.ablations import Ablation, ablate, markdown

LAYERS = Ablation(
    question="Is more than one attention layer better than one?",
    source="ours",
    columns={
        "relu4_1": {"attention_layers": "relu4_1"},
        "relu3_1 and relu4_1": {"attention_layers": "relu3_1,relu4_1"},
        "relu3_1 to relu5_1": {"attention_layers": "relu3_1,relu4_1,relu5_1"},
        "mostly relu3_1": {"attention_layers": "relu3_1:4,relu4_1"},
    },
)

if __name__ == "__main__":  # workers are processes that import this file
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("content", type=Path)
    parser.add_argument("style", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/layers"))
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    pairs = [(options.content, options.style)]
    found = ablate(LAYERS, pairs, options.output, {"size": options.size})
    print(markdown(found.table))
    print(found.figure)
