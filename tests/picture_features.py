"""The cases of `test_formats_matrix` that are alike in all containers, and the refused formats."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
from PIL import Image, features

from optistyle.pictures import SRGB_PROFILE
from tests.picture_files import (
    AVIF,
    BLOCKS,
    GREY,
    JPEG,
    RGB,
    Array,
    Case,
    H,
    W,
    bmp,
    box,
    chunk,
    decoded,
    deep,
    exif,
    iccp,
    palette_image,
    png,
    power,
    profile,
    saved,
    seen,
    srgb_encoded,
    three,
    tiff,
    upright,
    with_colours,
)


def profiled() -> Iterator[Case]:
    """ICC profiles in every container that can hold one."""

    def as_stored(stored: Array) -> Array:
        return stored

    def display_p3(stored: Array) -> Array:
        return seen("p3", power(2.2), stored)

    def adobe_rgb(stored: Array) -> Array:
        return seen("adobe", power(563 / 256), stored)

    broken, cmyk = (
        SRGB_PROFILE[:128] + b"\xff" * 200,
        SRGB_PROFILE[:16] + b"CMYK" + SRGB_PROFILE[20:],
    )
    rgb_profiles = {
        "sRGB": (SRGB_PROFILE, as_stored, ""),
        "Display P3": (profile("p3", 2.2), display_p3, ""),
        "Adobe RGB": (profile("adobe", 563 / 256), adobe_rgb, ""),
        "broken": (broken, as_stored, "damaged colour profile"),
        "of CMYK, in RGB": (cmyk, as_stored, ""),
        "1.2 MB": (profile("p3", 2.2) + bytes(1_200_000), display_p3, ""),
    }
    rows = np.pad(RGB[::-1, :, ::-1].reshape(H, -1), ((0, 0), (0, -3 * W % 4))).tobytes()
    for name, (icc, colour, said) in rgb_profiles.items():
        makers = {
            "JPEG": lambda icc=icc: saved(RGB, "JPEG", icc_profile=icc, **JPEG),
            "PNG": lambda icc=icc: png(RGB, 8, 2, iccp(icc)),
            "PNG, 16 bits": lambda icc=icc: png(deep(RGB), 16, 2, iccp(icc)),
            "WebP": lambda icc=icc: saved(RGB, "WEBP", lossless=True, icc_profile=icc),
            "TIFF": lambda icc=icc: saved(RGB, "TIFF", icc_profile=icc),
            "TIFF, 16 bits": lambda icc=icc: tiff(deep(RGB), iccprofile=icc),
            "BMP": lambda icc=icc: bmp(124, 24, 0, rows, icc=icc),
            "JPEG 2000": lambda icc=icc: with_colours(saved(RGB, "JPEG2000"), b"\2\0\0" + icc),
        }
        if features.check("avif") and name != "broken":
            makers["AVIF"] = lambda icc=icc: saved(RGB, "AVIF", icc_profile=icc, **AVIF)
        for container, make in makers.items():
            stored = decoded(make()) if container in ("JPEG", "AVIF") else RGB
            container, _, more = container.partition(", ")
            detail = f"{name} ({more})" if more else name
            yield Case(container, "ICC profile", detail, make, colour(stored), said=said)
    linear = imagecodecs.cms_profile("gray", gamma=1.0)
    seen_grey = three(srgb_encoded(GREY / 255))
    for container, make in {
        "PNG": lambda: png(GREY[..., None], 8, 0, iccp(linear)),
        "TIFF": lambda: tiff(GREY, photometric="minisblack", iccprofile=linear),
    }.items():
        yield Case(container, "ICC profile", "grey, linear", make, seen_grey)
    huge = iccp(SRGB_PROFILE + bytes(40 << 20))
    yield Case(
        "PNG",
        "ICC profile",
        "40 MB",
        lambda: png(RGB, 8, 2, huge),
        RGB,
        said="damaged colour profile",
    )
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20)))
    yield Case("PNG", "long texts", "80 MB before the pixels", lambda: png(RGB, 8, 2, text), RGB)
    whole = png(RGB, 8, 2)
    yield Case(
        "PNG", "long texts", "80 MB after the pixels", lambda: whole[:-12] + text + whole[-12:], RGB
    )


def turned() -> Iterator[Case]:
    """Orientations 1 to 8, in each integer type and byte order."""
    names = {1: "BYTE", 3: "SHORT", 4: "LONG", 6: "SBYTE", 8: "SSHORT", 9: "SLONG"}
    for orientation, (kind, name), order in itertools.product(range(1, 9), names.items(), "<>"):
        block = exif(orientation, kind, order)
        right = upright(RGB, orientation)
        detail = f"{orientation}, {name}, {'big' if order == '>' else 'little'}-endian"
        tag = [(274, kind, 1, orientation, True)]
        for container, make in {
            "JPEG": lambda b=block: saved(BLOCKS, "JPEG", exif=b"Exif\0\0" + b, **JPEG),
            "PNG": lambda b=block: png(RGB, 8, 2, chunk(b"eXIf", b)),
            "PNG, after the pixels": lambda b=block: (
                png(RGB, 8, 2)[:-12] + chunk(b"eXIf", b) + chunk(b"IEND", b"")
            ),
            "WebP": lambda b=block: saved(RGB, "WEBP", lossless=True, exif=b),
            "TIFF, 8 bits": lambda t=tag, o=order: tiff(RGB, extratags=t, byteorder=o),
            "TIFF, 8 bits, LZW": lambda t=tag, o=order: tiff(
                RGB, extratags=t, byteorder=o, compression="lzw"
            ),
            "TIFF, 16 bits": lambda t=tag, o=order: tiff(deep(RGB), extratags=t, byteorder=o),
        }.items():
            container, _, more = container.partition(", ")
            wanted = upright(BLOCKS, orientation) if container == "JPEG" else right
            words = f"{detail}, {more}" if more else detail
            yield Case(container, "orientation", words, make, wanted)
    for orientation, kind, order in itertools.product(range(1, 9), (16, 17), "<>"):
        tag = [(274, kind, 1, orientation, True)]
        yield Case(
            "TIFF",
            "orientation",
            f"{orientation}, LONG8 of type {kind}, {order}",
            lambda t=tag, o=order: tiff(RGB, extratags=t, byteorder=o, bigtiff=True),
            upright(RGB, orientation),
        )
    if features.check("avif"):
        for orientation in range(1, 9):
            yield Case(
                "AVIF",
                "orientation",
                f"{orientation}",
                lambda o=orientation: saved(RGB, "AVIF", exif=exif(o), **AVIF),
                upright(RGB, orientation),
            )


def several() -> Iterator[Case]:
    """Animations, pages and thumbnails."""
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for container, options in (
        ("PNG", {}),
        ("WebP", {"lossless": True}),
        ("AVIF", AVIF),
    ):
        if container != "AVIF" or features.check("avif"):
            yield Case(
                container,
                "animated",
                "two frames",
                lambda c=container, o=options: saved(
                    frames[0], c, save_all=True, append_images=frames[1:], **o
                ),
                RGB,
                said="animated; its first frame",
            )
    indexed, looked_up = palette_image()
    other = indexed.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    yield Case(
        "GIF",
        "animated",
        "two frames",
        lambda: saved(indexed, "GIF", save_all=True, append_images=[other]),
        looked_up,
        said="animated; its first frame",
    )
    whole = np.tile(RGB, (4, 4, 1))
    for wide, order, big in itertools.product((np.asarray, deep), "<>", (False, True)):
        end = f"{wide(RGB).dtype.itemsize * 8} bits, {'big' if order == '>' else 'little'}-endian"
        end += ", BigTIFF" * big
        options = {"byteorder": order, "bigtiff": big}
        yield Case(
            "TIFF",
            "several pages",
            end,
            lambda w=wide, o=options: tiff(w(RGB), w(255 - RGB), **o),
            RGB,
            said="2 pages; the first",
        )
        yield Case(
            "TIFF",
            "thumbnail first",
            f"marked, {end}",
            lambda w=wide, o=options: tiff(w(255 - RGB), w(whole), subfiletype=1, **o),
            whole,
        )
        yield Case(
            "TIFF",
            "thumbnail first",
            f"unmarked, {end}",
            lambda w=wide, o=options: tiff(w(255 - RGB), w(whole), **o),
            whole,
            said="looks like a thumbnail",
        )
        yield Case(
            "TIFF",
            "thumbnail first",
            f"SubIFD, {end}",
            lambda w=wide, o=options: tiff(w(255 - RGB), w(whole), subifds=1, subfiletype=1, **o),
            whole,
        )


def refused() -> Iterator[Case]:
    """What is not read is named, with the way out."""
    heads = {
        "Canon CR3": (box(b"ftyp", b"crx \0\0\0\0crx isom"), r"camera raw.*CR3.*darktable"),
        "Canon CR2": (b"II\x2a\0\x10\0\0\0CR\2\0", "camera raw.*CR2.*darktable"),
        "Fujifilm RAF": (b"FUJIFILMCCD-RAW 0201", "camera raw.*RAF.*darktable"),
        "Olympus ORF": (b"IIRO\x08\0\0\0", "camera raw.*ORF.*darktable"),
        "Panasonic RW2": (b"IIU\0\x18\0\0\0", "camera raw.*RW2.*darktable"),
        "video": (box(b"ftyp", b"isom\0\0\0\0isomiso2"), "a video.*frame"),
        "Photoshop": (b"8BPS\0\1", "Photoshop.*export"),
        "GIMP": (b"gimp xcf v011\0", "GIMP.*export"),
        "OpenEXR": (b"\x76\x2f\x31\x01\2\0\0\0", "OpenEXR.*export"),
        "PDF": (b"%PDF-1.7\n", "PDF.*export"),
        "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg">', "SVG.*export"),
        "PFM": (b"PF\n26 19\n-1.0\n", "PFM.*float"),
        "PAM": (b"P7\nWIDTH 26\n", "PAM.*convert"),
        "JPEG XR": (b"II\xbc\1\x20\0\0\0", "JPEG XR.*export"),
        "AppleDouble": (b"\0\5\x16\7\0\2\0\0Mac OS X        ", "AppleDouble.*without"),
    }
    for name, (head, words) in heads.items():
        yield Case("other formats", "", name, lambda h=head: h.ljust(400, b"\0"), refused=words)
    yield Case(
        "other formats",
        "",
        "DNG",
        lambda: tiff(GREY, photometric="cfa"),
        refused="camera raw.*DNG.*darktable",
    )
    yield Case(
        "other formats",
        "",
        "DNG, behind a thumbnail",
        lambda: tiff(
            RGB, RGB, subifds=1, subfiletype=1, extratags=[(50706, 1, 4, b"\1\4\0\0", True)]
        ),
        refused="camera raw.*DNG.*darktable",
    )
    yield Case(
        "other formats",
        "",
        "Nikon NEF",
        lambda: tiff(RGB),
        refused="camera raw.*NEF.*darktable",
        suffix=".NEF",
    )
