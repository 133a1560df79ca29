"""Style transfer by optimising the picture itself, over VGG-19 features.

>>> import optistyle
>>> recipe = optistyle.Recipe(size=32, iterations=2, encoder="slim", device="cpu")
>>> recipe.size
32
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

# The stub beside this file lists the public names, for type checkers and for this module: nothing
# heavy is imported until a name is used, so that `optistyle --help` answers at once.
_PLACES = {
    alias.name: str(node.module)
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}

__all__ = [*_PLACES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("optistyle")
    if name not in _PLACES:
        raise AttributeError(f"module 'optistyle' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
