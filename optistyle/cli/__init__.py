"""The command line: parse, call one public function, write."""

from optistyle.cli.main import main

__all__ = ["main"]
