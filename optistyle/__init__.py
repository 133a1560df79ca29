"""Style transfer by optimising the picture itself, over VGG-19 features.

>>> import optistyle
>>> recipe = optistyle.Recipe(size=32, iterations=2, encoder="slim", device="cpu")
>>> recipe.size
32
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # "as" marks a name that type checkers may see from outside
    from optistyle import encoders as _encoders
    from optistyle.errors import InputError as InputError
    from optistyle.experiments.judging import evaluate as evaluate
    from optistyle.losses import AttentionGram as AttentionGram
    from optistyle.losses import AttentionLocal as AttentionLocal
    from optistyle.losses import Content as Content
    from optistyle.losses import GramStyle as GramStyle
    from optistyle.losses import LossTerm as LossTerm
    from optistyle.losses import Range as Range
    from optistyle.losses import TotalVariation as TotalVariation
    from optistyle.losses import WassersteinStyle as WassersteinStyle
    from optistyle.pictures import Picture as Picture
    from optistyle.pictures import read as read
    from optistyle.pictures import sheet as sheet
    from optistyle.pictures import write as write
    from optistyle.recipes import Recipe as Recipe
    from optistyle.recipes import presets as presets
    from optistyle.run import Result as Result
    from optistyle.run import Run as Run
    from optistyle.run import stylize as stylize
    from optistyle.run.baseline import baseline as baseline
    from optistyle.run.observers import Observer as Observer
    from optistyle.run.observers import ProgressBar as ProgressBar
    from optistyle.run.observers import Step as Step

    load_encoder = _encoders.load
    __version__: str

#: The public names and where they are defined. A name is imported when it is first used, so that
#: `import optistyle` loads no torch. Type checkers read the imports above instead.
_PUBLIC = {
    "stylize": "optistyle.run:stylize",
    "Recipe": "optistyle.recipes:Recipe",
    "presets": "optistyle.recipes:presets",
    "Run": "optistyle.run:Run",
    "Result": "optistyle.run:Result",
    "load_encoder": "optistyle.encoders:load",
    "Content": "optistyle.losses:Content",
    "GramStyle": "optistyle.losses:GramStyle",
    "AttentionGram": "optistyle.losses:AttentionGram",
    "AttentionLocal": "optistyle.losses:AttentionLocal",
    "WassersteinStyle": "optistyle.losses:WassersteinStyle",
    "TotalVariation": "optistyle.losses:TotalVariation",
    "Range": "optistyle.losses:Range",
    "LossTerm": "optistyle.losses:LossTerm",
    "ProgressBar": "optistyle.run.observers:ProgressBar",
    "Observer": "optistyle.run.observers:Observer",
    "Step": "optistyle.run.observers:Step",
    "Picture": "optistyle.pictures:Picture",
    "InputError": "optistyle.errors:InputError",
    "sheet": "optistyle.pictures:sheet",
    "read": "optistyle.pictures:read",
    "write": "optistyle.pictures:write",
    "evaluate": "optistyle.experiments.judging:evaluate",
    "baseline": "optistyle.run.baseline:baseline",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("optistyle")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'optistyle' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
