# The public names, each listed once and in the order of docs/api.md: `__init__.py` reads them here
# and imports one when it is used.
# ruff: isort: skip_file
from optistyle.run import stylize as stylize
from optistyle.recipes import Recipe as Recipe
from optistyle.published import presets as presets
from optistyle.run import Run as Run
from optistyle.run import Result as Result
from optistyle.encoders import load_encoder as load_encoder
from optistyle.losses import Content as Content
from optistyle.losses import GramStyle as GramStyle
from optistyle.losses import AttentionGram as AttentionGram
from optistyle.losses import AttentionLocal as AttentionLocal
from optistyle.losses import WassersteinStyle as WassersteinStyle
from optistyle.losses import TotalVariation as TotalVariation
from optistyle.losses import Range as Range
from optistyle.losses import LossTerm as LossTerm
from optistyle.run.observers import ProgressBar as ProgressBar
from optistyle.run.observers import Observer as Observer
from optistyle.run.observers import Step as Step
from optistyle.pictures import Picture as Picture
from optistyle.errors import InputError as InputError
from optistyle.pictures import sheet as sheet
from optistyle.pictures import read as read
from optistyle.pictures import write as write
from optistyle.experiments.judging import evaluate as evaluate
from optistyle.run.baseline import baseline as baseline

__version__: str
