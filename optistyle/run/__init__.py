"""A run: from a content image, style images and a recipe to a picture."""

from optistyle.run.runner import (
    ImageLike,
    Result,
    Run,
    as_picture,
    load_encoder,
    resolved,
    stylize,
    terms,
    versions,
)

__all__ = [
    "ImageLike",
    "Result",
    "Run",
    "as_picture",
    "load_encoder",
    "resolved",
    "stylize",
    "terms",
    "versions",
]
