"""The command ``optistyle``: which commands there are and where each of them is."""

from __future__ import annotations

import click

from optistyle.cli.group import Group, Lazy
from optistyle.cli.options import EXAMPLES

COMMANDS = {
    "run": Lazy("optistyle.cli.run:run", "Paint a photograph in the style of paintings."),
    "plan": Lazy("optistyle.cli.run:plan", "Say how much memory and time a run would take."),
    "presets": Lazy("optistyle.cli.info:presets", "List the presets: settings by name."),
    "info": Lazy("optistyle.cli.info:info", "Show versions, devices, encoders and caches."),
    "attention": Lazy(
        "optistyle.cli.experiments:attention", "Show which places of a painting match a photograph."
    ),
    "ablate": Lazy("optistyle.cli.experiments:ablate", "Vary one setting over pairs of images."),
    "sweep": Lazy("optistyle.cli.experiments:sweep", "Run every combination of a TOML file."),
    "evaluate": Lazy("optistyle.cli.compare:evaluate", "Measure stylised pictures."),
    "compare": Lazy("optistyle.cli.compare:compare", "Compare methods over many pairs of images."),
    "baseline": Lazy("optistyle.cli.baseline:baseline", "Paint in one pass of a trained network."),
    "train": Lazy("optistyle.cli.train:train", "Train such a network, or the slim encoder."),
    "weights": Lazy("optistyle.cli.weights:weights", "Find, download and check the encoders."),
}


@click.group(
    cls=Group,
    lazy=COMMANDS,
    alone=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="optistyle")
def main() -> None:
    """Style transfer by optimising the picture itself."""
