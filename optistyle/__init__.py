"""optistyle: style transfer by optimising the picture itself, over VGG-19 features."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optistyle.encoders import load as load_encoder
    from optistyle.encoders.vgg import VGG
    from optistyle.errors import InputError
    from optistyle.losses import LossTerm
    from optistyle.optimise.objective import Objective
    from optistyle.pictures import Picture, read, sheet, write
    from optistyle.recipes import Recipe, preset
    from optistyle.run import Result, Run, stylize
    from optistyle.run.observers import Observer, Step

__all__ = [
    "VGG",
    "InputError",
    "LossTerm",
    "Objective",
    "Observer",
    "Picture",
    "Recipe",
    "Result",
    "Run",
    "Step",
    "load_encoder",
    "preset",
    "read",
    "sheet",
    "stylize",
    "write",
]

# Nothing heavy is imported until a name is used: `optistyle --help` answers at once.
_HOMES = {
    "VGG": "optistyle.encoders.vgg",
    "InputError": "optistyle.errors",
    "LossTerm": "optistyle.losses",
    "Objective": "optistyle.optimise.objective",
    "Observer": "optistyle.run.observers",
    "Picture": "optistyle.pictures",
    "Recipe": "optistyle.recipes",
    "Result": "optistyle.run",
    "Run": "optistyle.run",
    "Step": "optistyle.run.observers",
    "load_encoder": "optistyle.encoders:load",
    "preset": "optistyle.recipes",
    "read": "optistyle.pictures",
    "sheet": "optistyle.pictures",
    "stylize": "optistyle.run",
    "write": "optistyle.pictures",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'optistyle' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)
