"""Loss terms, one file each; `base` says what a term is."""

from optistyle.losses.attention import AttentionGram, AttentionLocal
from optistyle.losses.base import LossTerm, Reference, References, Statistic, Target
from optistyle.losses.content import Content
from optistyle.losses.gram import GramStyle
from optistyle.losses.pixels import Range, TotalVariation
from optistyle.losses.wasserstein import WassersteinStyle

__all__ = [
    "AttentionGram",
    "AttentionLocal",
    "Content",
    "GramStyle",
    "LossTerm",
    "Range",
    "Reference",
    "References",
    "Statistic",
    "Target",
    "TotalVariation",
    "WassersteinStyle",
]
