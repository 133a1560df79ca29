"""Fonts of captions: the first that has every character."""

from __future__ import annotations

import io
from functools import cache
from importlib import metadata

from PIL import Image, ImageDraw, ImageFont

#: Files of installed packages, which are not imported, in the order of trying. Pillow's own font
#: comes before them: it has little more than ASCII. The first adds Latin, Greek and Cyrillic, the
#: second Chinese, Japanese and Korean.
_PACKAGES = (
    ("matplotlib", "DejaVuSans.ttf"),
    ("noto-cjk-sans-jp-regular", "NotoSansCJKjp-Regular.otf"),
)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def choose(text: str) -> tuple[str, bytes | None]:
    """Return the text to draw and the file of a font that has all its characters.

    Returns:
        The text, with escapes such as ``\\u65e5`` for characters that no font has; and the font's
        bytes, None for Pillow's own.
    """
    fonts = [None, *(data for entry in _PACKAGES if (data := _packaged(*entry)) is not None)]
    for data in fonts:
        if all(_has(data, character) for character in text):
            return text, data
    shown = "".join(
        character
        if any(_has(data, character) for data in fonts)
        else character.encode("ascii", "backslashreplace").decode()
        for character in text
    )
    if shown != text:
        return choose(shown)
    return choose(text.encode("ascii", "backslashreplace").decode())  # no font has them all


def load(data: bytes | None, size: float) -> _Font:
    """The font at a size in pixels."""
    if data is None:
        return ImageFont.load_default(size)
    return ImageFont.truetype(io.BytesIO(data), size)


@cache
def _packaged(package: str, name: str) -> bytes | None:
    try:
        listed = metadata.files(package) or ()
        return next((x.locate().read_bytes() for x in listed if x.name == name), None)  # type: ignore[attr-defined]
    except (metadata.PackageNotFoundError, OSError):
        return None


@cache
def _has(data: bytes | None, character: str) -> bool:
    """Whether it is drawn otherwise than U+FFFF, which no font has."""
    if "\ud800" <= character <= "\udfff":  # a byte of a file name that is not UTF-8
        return False
    return character.isspace() or _drawn(data, character) != _drawn(data, "\uffff")


@cache
def _drawn(data: bytes | None, character: str) -> bytes:
    image = Image.new("L", (40, 40))
    ImageDraw.Draw(image).text((4, 4), character, fill=255, font=load(data, 20))
    return image.tobytes()
