"""Which format a file has, by its first bytes, and the formats that are refused by name."""

from __future__ import annotations

import importlib
import struct
from typing import BinaryIO, NamedTuple

from PIL import ImageFile, features

from optistyle.errors import InputError

#: The formats that are read without the extra `formats`, in words.
READABLE = "JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF, JPEG 2000, PPM, TGA"


class _Plugin(NamedTuple):
    module: str
    cls: str
    feature: str = ""  # of Pillow's build; "" where Pillow always has it


_PLUGINS = {
    "JPEG": _Plugin("JpegImagePlugin", "JpegImageFile", "jpg"),
    "PNG": _Plugin("PngImagePlugin", "PngImageFile", "zlib"),
    "WebP": _Plugin("WebPImagePlugin", "WebPImageFile", "webp"),
    "TIFF": _Plugin("TiffImagePlugin", "TiffImageFile"),
    "GIF": _Plugin("GifImagePlugin", "GifImageFile"),
    "BMP": _Plugin("BmpImagePlugin", "BmpImageFile"),
    "AVIF": _Plugin("AvifImagePlugin", "AvifImageFile", "avif"),
    "JPEG 2000": _Plugin("Jpeg2KImagePlugin", "Jpeg2KImageFile", "jpg_2000"),
    "PPM": _Plugin("PpmImagePlugin", "PpmImageFile"),
    "TGA": _Plugin("TgaImagePlugin", "TgaImageFile"),
}

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    **dict.fromkeys((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"), "JPEG XL"),
    **dict.fromkeys((b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b"), "TIFF"),
}

_EXPORT = "export it as JPEG or PNG first"
_DEVELOP = (
    "develop it to JPEG or 16-bit TIFF first, with the camera's program, darktable or RawTherapee"
)
# Formats that are told by their first bytes and refused: name, way out
_REFUSED: dict[bytes, tuple[str, str]] = {
    b"FUJIFILMCCD-RAW": ("a camera raw file (Fujifilm RAF)", _DEVELOP),
    b"FOVb": ("a camera raw file (Sigma X3F)", _DEVELOP),
    b"\0MRM": ("a camera raw file (Minolta MRW)", _DEVELOP),
    b"II\x1a\0\0\0HEAPCCDR": ("a camera raw file (Canon CRW)", _DEVELOP),
    b"IIRO": ("a camera raw file (Olympus ORF)", _DEVELOP),
    b"IIRS": ("a camera raw file (Olympus ORF)", _DEVELOP),
    b"MMOR": ("a camera raw file (Olympus ORF)", _DEVELOP),
    b"IIU\0": ("a camera raw file (Panasonic RW2)", _DEVELOP),
    b"II\xbc": ("a JPEG XR picture", _EXPORT),
    b"8BPS": ("a Photoshop document", _EXPORT),
    b"gimp xcf": ("a GIMP document", _EXPORT),
    b"\x76\x2f\x31\x01": ("an OpenEXR picture", _EXPORT),
    b"#?RADIANCE": ("a Radiance HDR picture", _EXPORT),
    b"%PDF": ("a PDF document", _EXPORT),
    b"%!PS": ("a PostScript document", _EXPORT),
    b"\0\0\1\0": ("an icon (ICO)", _EXPORT),
    b"icns": ("an icon (ICNS)", _EXPORT),
    b"DDS ": ("a DDS texture", _EXPORT),
    b"qoif": ("a QOI picture", _EXPORT),
    b"P7\n": ("a PAM picture", "convert it to PPM or PNG first"),
    b"PF\n": ("a PFM picture of 32-bit floats", "convert it to a 16-bit PNG or TIFF first"),
    b"Pf\n": ("a PFM picture of 32-bit floats", "convert it to a 16-bit PNG or TIFF first"),
    b"\x1f\x8b": ("a gzip archive", "unpack it first"),
    b"PK\x03\x04": ("a ZIP archive or a document", "take the picture out of it first"),
    b"\x1aE\xdf\xa3": ("a video", "export a frame of it as PNG first"),
    b"\0\5\x16\7": (
        "an AppleDouble file, which macOS writes beside a picture",
        "name the picture, without `._` before it",
    ),
    b"version https://git-lfs": (
        "a Git LFS pointer",
        "fetch the picture with `git lfs pull` first",
    ),
}
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_BRANDS: dict[bytes, tuple[str, str]] = {
    b"crx ": ("a camera raw file (Canon CR3)", _DEVELOP),
}
#: Names of camera raw files that are TIFF files by their first bytes.
_RAW_SUFFIXES = {
    ".dng": "DNG",
    ".nef": "Nikon NEF",
    ".nrw": "Nikon NRW",
    ".cr2": "Canon CR2",
    ".arw": "Sony ARW",
    ".sr2": "Sony SR2",
    ".srf": "Sony SRF",
    ".pef": "Pentax PEF",
    ".srw": "Samsung SRW",
    ".3fr": "Hasselblad 3FR",
    ".iiq": "Phase One IIQ",
    ".erf": "Epson ERF",
    ".mef": "Mamiya MEF",
    ".mos": "Leaf MOS",
    ".kdc": "Kodak KDC",
    ".dcr": "Kodak DCR",
    ".rwl": "Leica RWL",
}
_TGA_SUFFIXES = (".tga", ".icb", ".vda", ".vst")
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"


def identify(file: BinaryIO, suffix: str, name: str) -> str:
    """Return which of the formats in `READABLE` a file has, or "HEIC" or "JPEG XL".

    Args:
        file: The file.
        suffix: Of its name, such as ".nef", or "": it decides nothing but camera raw and TGA,
            which have no first bytes of their own.
        name: The picture's name for errors.

    Raises:
        InputError: It has another format, or none; known ones are named.
    """
    file.seek(0)
    head = file.read(64)
    kind = _by_signature(head)
    for signature, (what, way_out) in _REFUSED.items():
        if kind is None and head.startswith(signature):
            raise refusal(name, what, way_out)
    if kind == "TIFF" and (suffix.lower() in _RAW_SUFFIXES or head[8:11] == b"CR\2"):
        raise raw_refusal(name, _RAW_SUFFIXES.get(suffix.lower(), "Canon CR2"))
    if head[4:8] == b"ftyp":
        return _by_brands(file, head, name)
    if kind is None and (suffix.lower() in _TGA_SUFFIXES or _has_footer(file)):
        return "TGA"
    if kind is None:
        if head.lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<html", b"<!doc"):
            raise refusal(name, "an SVG drawing or a web page", _EXPORT)
        raise InputError(
            f"{name} is not an image that can be read, or its header is damaged "
            f"(allowed: {READABLE}): convert it first"
        )
    return kind


def refusal(name: str, what: str, way_out: str) -> InputError:
    """Return the error for a format that is known and not read."""
    return InputError(f"{name} is {what}, which is not read (allowed: {READABLE}): {way_out}")


def raw_refusal(name: str, maker: str = "DNG or similar") -> InputError:
    """Return the error for a camera raw file."""
    return refusal(name, f"a camera raw file ({maker})", _DEVELOP)


def opened(kind: str, file: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Open a file by Pillow's class for its format, without decoding it.

    `PIL.Image.open` would compare the size with a limit that is one for the whole process.

    Raises:
        InputError: This Pillow was built without the format.
    """
    plugin = _PLUGINS[kind]
    try:
        if plugin.feature and not features.check(plugin.feature):
            raise ImportError
        cls = getattr(importlib.import_module(f"PIL.{plugin.module}"), plugin.cls)
    except ImportError:
        raise refusal(
            name,
            f"a {kind} picture",
            "this Pillow was built without it; `pip install --upgrade pillow`, or convert it first",
        ) from None
    file.seek(0)
    return cls(file)


def webp_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return the width and height in a WebP's header, which Pillow allocates when it opens it."""
    file.seek(12)
    head = file.read(18)
    if head[:4] == b"VP8X" and len(head) >= 18:
        return (
            int.from_bytes(head[12:15], "little") + 1,
            int.from_bytes(head[15:18], "little") + 1,
        )
    if head[:4] == b"VP8L" and len(head) >= 13:
        (bits,) = struct.unpack_from("<I", head, 9)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[:4] == b"VP8 " and len(head) >= 18:
        width, height = struct.unpack_from("<HH", head, 14)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _by_signature(head: bytes) -> str | None:
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and head[14:18] in (struct.pack("<I", n) for n in _BMP_HEADERS):
        return "BMP"
    if len(head) > 2 and head[:1] == b"P" and head[1] in b"123456" and head[2] in b" \t\r\n#":
        return "PPM"
    return None


_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def _by_brands(file: BinaryIO, head: bytes, name: str) -> str:
    """Tell the formats that begin with a box of brands apart: the main one, then the others."""
    size = min(struct.unpack_from(">I", head)[0], 1024)
    file.seek(8)
    data = file.read(max(size - 8, 4))
    brands = [data[:4], *(data[at : at + 4] for at in range(8, len(data) - 3, 4))]
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    for brand in brands:
        if brand in _HEIC_BRANDS:
            return "HEIC"
        if brand in _BRANDS:
            raise refusal(name, *_BRANDS[brand])
    raise refusal(name, "a video", "export a frame of it as PNG first")


def _has_footer(file: BinaryIO) -> bool:
    end = file.seek(0, 2)
    if end < len(_TGA_FOOTER):
        return False
    file.seek(end - len(_TGA_FOOTER))
    return file.read() == _TGA_FOOTER
