"""Pictures: image files in and out, sizes, original colours, contact sheets, figures."""

from optistyle.pictures.codecs import FORMATS, SRGB_PROFILE
from optistyle.pictures.picture import Picture, Stored, resize, to_uint8
from optistyle.pictures.reading import read
from optistyle.pictures.sheets import sheet
from optistyle.pictures.writing import check_writable, encode, write

__all__ = [
    "FORMATS",
    "SRGB_PROFILE",
    "Picture",
    "Stored",
    "check_writable",
    "encode",
    "read",
    "resize",
    "sheet",
    "to_uint8",
    "write",
]
