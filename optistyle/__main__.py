"""The command ``optistyle``, also as ``python -m optistyle``."""

from optistyle.machine import waiting
from optistyle.machine.signals import Interrupts


def start() -> None:
    """Run the command line. Signals are handled before anything large is imported."""
    with Interrupts(starting=True):
        waiting.bound()
        from optistyle.cli import main

        main()


if __name__ == "__main__":
    start()
