"""A run: from a content image, style images and a recipe to a picture."""

from optistyle.run.inputs import ImageLike, Inputs, as_picture, read_inputs
from optistyle.run.plan import Plan, load_encoder, make_plan, resolved
from optistyle.run.result import Result, versions
from optistyle.run.runner import Run, stylize
from optistyle.run.terms import terms

__all__ = [
    "ImageLike",
    "Inputs",
    "Plan",
    "Result",
    "Run",
    "as_picture",
    "load_encoder",
    "make_plan",
    "read_inputs",
    "resolved",
    "stylize",
    "terms",
    "versions",
]
