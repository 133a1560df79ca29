# The public names, each listed once: `__init__.py` reads them here and imports one when it is used.
from optistyle.encoders import load_encoder as load_encoder
from optistyle.encoders.vgg import VGG as VGG
from optistyle.errors import InputError as InputError
from optistyle.losses import LossTerm as LossTerm
from optistyle.optimise.objective import Objective as Objective
from optistyle.pictures import Picture as Picture
from optistyle.pictures import read as read
from optistyle.pictures import sheet as sheet
from optistyle.pictures import write as write
from optistyle.recipes import Recipe as Recipe
from optistyle.recipes import preset as preset
from optistyle.run import Result as Result
from optistyle.run import Run as Run
from optistyle.run import stylize as stylize
from optistyle.run.observers import Observer as Observer
from optistyle.run.observers import Step as Step
