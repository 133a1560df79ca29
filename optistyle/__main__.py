"""``python -m optistyle``."""

from optistyle.cli import main

main()
