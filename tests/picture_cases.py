"""The cases of `test_formats_matrix`, by container: pixels of every kind."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator

import imagecodecs
import numpy as np
from PIL import features

from optistyle.pictures import SRGB_PROFILE
from tests.picture_files import (
    ALPHA,
    AVIF,
    BLOCKS,
    CMYK,
    GREY,
    INKS,
    JPEG,
    PRIMARIES,
    RGB,
    Array,
    Case,
    H,
    W,
    bmp,
    bt709_decoded,
    chunk,
    cmyk_image,
    decoded,
    deep,
    iccp,
    in_planes,
    ink,
    palette_image,
    png,
    power,
    saved,
    seen,
    srgb_decoded,
    srgb_encoded,
    three,
    tiff,
    with_colours,
    with_nclx,
)


def jpegs() -> Iterator[Case]:
    def case(kind: str, detail: str, make: Callable[[], bytes], colour: Array, **more) -> Case:
        return Case("JPEG", kind, detail, make, colour, **more)

    yield case(
        "grey", "8 bits", lambda: saved(BLOCKS[..., 0], "JPEG", quality=100), three(BLOCKS[..., 0])
    )
    for name, options in (
        ("4:4:4", {}),
        ("progressive", {"progressive": True}),
        ("RGB kept", {"keep_rgb": True}),
    ):
        yield case("RGB", name, lambda o=options: saved(BLOCKS, "JPEG", **{**JPEG, **o}), BLOCKS)

    flat = np.full_like(RGB, (200, 80, 120))
    yield case("RGB", "4:2:0", lambda: saved(flat, "JPEG", quality=100, subsampling=2), flat)

    def plain_cmyk() -> bytes:
        """Without Adobe's marker, inks are not stored inverted."""
        data = saved(cmyk_image(255 - INKS), "JPEG", **JPEG)
        at = data.index(b"\xff\xee")
        return data[:at] + data[at + 16 :]

    adobe = saved(cmyk_image(INKS), "JPEG", **JPEG)
    yield case("CMYK", "Adobe, inverted", lambda: adobe, ink(INKS))
    yield case("CMYK", "without Adobe's marker", plain_cmyk, ink(INKS))
    whole = saved(RGB, "JPEG", **JPEG)
    progressive = saved(RGB, "JPEG", progressive=True, **JPEG)
    for name, data in (("baseline", whole), ("progressive", progressive)):
        yield case(
            "without the end marker",
            name,
            lambda d=data: d[:-2],
            decoded(data),
            said="end marker",
        )
    for name, data in (("half missing", whole), ("progressive, a third missing", progressive)):
        part = data[: len(data) * 2 // 3]
        yield Case("JPEG", "cut off", name, lambda p=part: p, refused="cut off")


def pngs() -> Iterator[Case]:
    def case(kind: str, detail: str, make: Callable[[], bytes], colour: Array, **more) -> Case:
        return Case("PNG", kind, detail, make, colour, **more)

    for depth, interlace in itertools.product((1, 2, 4, 8, 16), (False, True)):
        most = (1 << depth) - 1
        levels = (np.arange(H * W).reshape(H, W) * 7 % (most + 1))[..., None]
        grey = levels[..., 0] * (255 / most)
        name = f"{depth} bits" + ", interlaced" * interlace
        yield case(
            "grey",
            name,
            lambda s=levels, d=depth, i=interlace: png(s, d, 0, interlace=i),
            three(grey),
        )
        key = chunk(b"tRNS", struct.pack(">H", int(levels[3, 3, 0])))
        alpha = np.where(levels[..., 0] == levels[3, 3, 0], 0, 255)
        yield case(
            "grey, one transparent level",
            name,
            lambda s=levels, d=depth, i=interlace, k=key: png(s, d, 0, k, interlace=i),
            three(grey),
            alpha=alpha,
        )
        if depth < 8:
            colours = np.random.default_rng(depth).integers(0, 256, (most + 1, 3), dtype=np.uint8)
            table = chunk(b"PLTE", colours.tobytes())
            looked_up = colours[levels[..., 0]]
            yield case(
                "palette",
                name,
                lambda s=levels, d=depth, i=interlace, t=table: png(s, d, 3, t, interlace=i),
                looked_up,
            )
            see_through = chunk(b"tRNS", bytes([0, 128]))
            opacity = np.select([levels[..., 0] == 0, levels[..., 0] == 1], [0, 128], 255)
            yield case(
                "palette, transparent",
                name,
                lambda s=levels, d=depth, t=table + see_through: png(s, d, 3, t),
                looked_up,
                alpha=opacity,
            )
    for depth, stored in ((8, RGB), (16, deep(RGB))):
        name = f"{depth} bits"
        a = (ALPHA if depth == 8 else deep(ALPHA))[..., None]
        key = chunk(b"tRNS", struct.pack(">3H", *(int(v) for v in stored[2, 5])))
        alpha = np.where((RGB[2, 5] == RGB).all(2), 0, 255)
        yield case("RGB", name, lambda s=stored, d=depth: png(s, d, 2), RGB)
        yield case(
            "RGB",
            name + ", interlaced",
            lambda s=stored, d=depth: png(s, d, 2, interlace=True),
            RGB,
        )
        yield case(
            "RGB, one transparent colour",
            name,
            lambda s=stored, d=depth, k=key: png(s, d, 2, k),
            RGB,
            alpha=alpha,
        )
        yield case(
            "RGBA",
            name,
            lambda s=stored, a=a, d=depth: png(np.dstack([s, a]), d, 6),
            RGB,
            alpha=ALPHA,
        )
        yield case(
            "grey and alpha",
            name,
            lambda s=stored, a=a, d=depth: png(np.dstack([s[..., :1], a]), d, 4),
            three(GREY),
            alpha=ALPHA,
        )


def png_colours() -> Iterator[Case]:
    def chrm(name: str) -> bytes:
        points = ((0.3127, 0.3290), *PRIMARIES[name])
        return chunk(b"cHRM", struct.pack(">8I", *(round(1e5 * v) for p in points for v in p)))

    def gama(gamma: float) -> bytes:
        return chunk(b"gAMA", struct.pack(">I", round(1e5 / gamma)))

    def cicp(*codes: int) -> bytes:
        return chunk(b"cICP", bytes(codes))

    srgb = chunk(b"sRGB", b"\0")
    for name, chunks, colour in (
        ("gAMA 1.0", gama(1.0), seen("srgb", power(1.0))),
        ("gAMA 1/1.8", gama(1.8), seen("srgb", power(1.8))),
        ("gAMA 1/2.2, as sRGB", gama(2.2), RGB),
        (
            "gAMA and cHRM of Adobe RGB",
            gama(563 / 256 + 0.2) + chrm("adobe"),
            seen("adobe", power(563 / 256 + 0.2)),
        ),
        ("cHRM of Display P3", chrm("p3"), seen("p3", srgb_decoded)),
        ("sRGB before gAMA", srgb + gama(1.0), RGB),
        ("cICP Display P3", cicp(12, 13, 0, 1), seen("p3", srgb_decoded)),
        ("cICP BT.2020, linear", cicp(9, 8, 0, 1), seen("bt2020", power(1.0))),
        ("cICP BT.709", cicp(1, 1, 0, 1), seen("srgb", bt709_decoded)),
        ("cICP sRGB before gAMA", cicp(1, 13, 0, 1) + gama(1.0), RGB),
        ("a profile before cICP and gAMA", iccp(SRGB_PROFILE) + cicp(9, 8, 0, 1) + gama(1.0), RGB),
    ):
        kind = "cICP" if name.startswith("cICP") else "gAMA and cHRM"
        for depth, stored in ((8, RGB), (16, deep(RGB))):
            yield Case(
                "PNG",
                kind,
                f"{name}, {depth} bits",
                lambda s=stored, d=depth, c=chunks: png(s, d, 2, c),
                colour,
            )
    linear = three(srgb_encoded(GREY / 255.0))
    yield Case(
        "PNG", "gAMA and cHRM", "grey, 1.0", lambda: png(GREY[..., None], 8, 0, gama(1.0)), linear
    )
    for code, word in ((16, "PQ"), (18, "HLG")):
        yield Case(
            "PNG",
            "HDR",
            word,
            lambda c=code: png(RGB, 8, 2, cicp(9, c, 0, 1)),
            refused=f"HDR picture.*{word}",
        )
    yield Case(
        "PNG",
        "cICP",
        "unknown",
        lambda: png(RGB, 8, 2, cicp(99, 13, 0, 1)),
        RGB,
        said="damaged cICP",
    )


def tiffs() -> Iterator[Case]:
    kinds = {
        "grey": ("minisblack", GREY, three(GREY)),
        "grey, white is zero": ("miniswhite", 255 - GREY, three(GREY)),
        "RGB": ("rgb", RGB, RGB),
        "CMYK": ("separated", CMYK, ink(CMYK)),
    }
    for (
        kind,
        (photometric, stored, colour),
    ), bits, planes, order, big, packed in itertools.product(
        kinds.items(), (8, 16), (False, True), "<>", (False, True), (None, "adobe_deflate", "lzw")
    ):
        if planes and stored.ndim == 2:
            continue
        array = stored if bits == 8 else deep(stored)
        arranged = in_planes(array) if planes else array
        options = {
            "photometric": photometric,
            "planarconfig": ("separate" if planes else "contig") if stored.ndim == 3 else None,
            "byteorder": order,
            "bigtiff": big,
            "compression": packed,
            "predictor": packed is not None,
        }
        words = (
            f"{bits} bits",
            "big-endian" if order == ">" else "little-endian",
            "planes" if planes else "",
            "BigTIFF" if big else "",
            packed or "",
        )
        yield Case(
            "TIFF",
            kind,
            ", ".join(filter(None, words)),
            lambda a=arranged, o=options: tiff(a, **o),
            colour,
        )
    yield from tiff_alpha()
    yield from tiff_palettes()
    yield from tiff_others()


def tiff_alpha() -> Iterator[Case]:
    for bits, planes, order in itertools.product((8, 16), (False, True), "<>"):
        wide = deep if bits == 16 else np.asarray
        a = wide(ALPHA)[..., None]
        half = (wide(RGB) * (ALPHA / 255)[..., None] + 0.5).astype(a.dtype)
        for extra, stored, colour, alpha in (
            ("unassalpha", wide(RGB), RGB, ALPHA),
            ("assocalpha", half, None, ALPHA),
            ("unspecified", wide(RGB), RGB, None),
        ):
            if colour is None:
                full = 65535 if bits == 16 else 255
                colour = (half.astype(float) * full / np.maximum(a, 1)).clip(0, full) * (255 / full)
            array = np.dstack([stored, a])
            arranged = in_planes(array) if planes else array
            options = {
                "extrasamples": [extra],
                "byteorder": order,
                "planarconfig": "separate" if planes else "contig",
            }
            yield Case(
                "TIFF",
                {"unassalpha": "RGBA", "assocalpha": "RGBA, premultiplied"}.get(
                    extra, "RGB and a channel more"
                ),
                f"{bits} bits, {'planes, ' * planes}{'big' if order == '>' else 'little'}-endian",
                lambda s=arranged, o=options: tiff(s, **o),
                colour,
                alpha=alpha,
            )


def tiff_palettes() -> Iterator[Case]:
    colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    indices = np.arange(H * W).reshape(H, W).astype(np.uint8)
    for most, order, big in itertools.product((65535, 255), "<>", (False, True)):
        table = colours * 257 if most == 65535 else colours
        yield Case(
            "TIFF",
            "palette",
            f"colours to {most}, {'big' if order == '>' else 'little'}-endian{', BigTIFF' * big}",
            lambda t=table, o=order, b=big: tiff(
                indices, photometric="palette", colormap=t, byteorder=o, bigtiff=b
            ),
            colours.T[indices],
        )


def tiff_others() -> Iterator[Case]:
    bits = (np.arange(H * W).reshape(H, W) * 7 % 5 < 2).astype(np.uint8) * 255
    for name in ("raw", "group4", "packbits"):
        yield Case(
            "TIFF",
            "1 bit",
            name,
            lambda c=name: saved(bits, "TIFF", "1", compression=c),
            three(bits),
        )
    for name in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "lzma"):
        yield Case("TIFF", "RGB", name, lambda c=name: saved(RGB, "TIFF", compression=c), RGB)
    yield Case(
        "TIFF", "YCbCr", "JPEG", lambda: saved(RGB, "TIFF", compression="jpeg", quality=100), RGB
    )
    big = np.tile(RGB, (4, 4, 1))
    for wide in (np.asarray, deep):
        name = f"tiles, {wide(RGB).dtype.itemsize * 8} bits"
        yield Case("TIFF", "RGB", name, lambda w=wide: tiff(w(big), tile=(32, 48)), big)
    for kind, name in (
        ("float32", "32-bit float"),
        ("int16", "16-bit signed"),
        ("uint32", "32-bit unsigned"),
    ):
        for photometric, array in (("minisblack", GREY), ("rgb", RGB)):
            yield Case(
                "TIFF",
                f"{name} samples",
                photometric,
                lambda a=array, k=kind, p=photometric: tiff(a.astype(k), photometric=p),
                refused=f"has {name} samples",
            )
    yield Case(
        "TIFF", "CIELab", "8 bits", lambda: tiff(RGB, photometric="cielab"), refused="CIELab"
    )
    many = np.zeros((H, W, 20), np.uint8)
    yield Case(
        "TIFF",
        "20 channels",
        "8 bits",
        lambda: tiff(many, photometric="minisblack", planarconfig="contig"),
        refused="20 channels",
    )


def others() -> Iterator[Case]:
    """WebP, BMP, GIF, AVIF, JPEG 2000, PPM, TGA."""
    rgba = np.dstack([RGB, ALPHA])
    indexed, looked_up = palette_image()
    bits = (GREY > 128).astype(np.uint8) * 255
    for name, options in (("lossless", {"lossless": True, "exact": True}),):
        yield Case("WebP", "RGB", name, lambda o=options: saved(RGB, "WEBP", **o), RGB)
        yield Case(
            "WebP", "RGBA", name, lambda o=options: saved(rgba, "WEBP", **o), RGB, alpha=ALPHA
        )
    flat = np.full_like(RGB, 120)
    yield Case("WebP", "RGB", "lossy", lambda: saved(flat, "WEBP", quality=100), flat)

    yield Case("BMP", "RGB", "24 bits", lambda: saved(RGB, "BMP"), RGB)
    bgrx = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    yield Case("BMP", "RGB", "32 bits", lambda: bmp(40, 32, 0, bgrx), RGB)
    yield Case("BMP", "RGBA", "32 bits", lambda: bmp(124, 32, 3, bgrx), RGB, alpha=ALPHA)
    yield Case("BMP", "grey", "8 bits", lambda: saved(GREY, "BMP"), three(GREY))
    yield Case("BMP", "palette", "8 bits", lambda: saved(indexed, "BMP"), looked_up)
    yield Case("BMP", "1 bit", "1 bit", lambda: saved(bits, "BMP", "1"), three(bits))
    rows = np.pad(RGB[..., ::-1].reshape(H, -1), ((0, 0), (0, -3 * W % 4)))
    yield Case("BMP", "RGB", "from the top down", lambda: bmp(40, 24, 0, rows.tobytes(), -H), RGB)
    five = (
        (RGB[..., 0].astype(int) >> 3 << 11)
        | (RGB[..., 1].astype(int) >> 2 << 5)
        | (RGB[..., 2] >> 3)
    )
    coarse = np.stack(
        [(five >> 11) * 255 / 31, (five >> 5 & 63) * 255 / 63, (five & 31) * 255 / 31], 2
    )
    yield Case(
        "BMP",
        "RGB",
        "16 bits (5, 6, 5)",
        lambda: bmp(40, 16, 3, five[::-1].astype("<u2").tobytes()),
        coarse,
    )

    yield Case("GIF", "palette", "8 bits", lambda: saved(indexed, "GIF"), looked_up)
    yield Case("GIF", "grey", "8 bits", lambda: saved(GREY, "GIF"), three(GREY))
    clear = np.where(np.asarray(indexed) == 3, 0, 255)
    yield Case(
        "GIF",
        "palette, transparent",
        "8 bits",
        lambda: saved(indexed, "GIF", transparency=3),
        looked_up,
        alpha=clear,
    )

    if features.check("avif"):
        yield Case("AVIF", "RGB", "8 bits", lambda: saved(RGB, "AVIF", **AVIF), RGB)
        yield Case("AVIF", "RGBA", "8 bits", lambda: saved(rgba, "AVIF", **AVIF), RGB, alpha=ALPHA)
        yield Case("AVIF", "grey", "8 bits", lambda: saved(GREY, "AVIF", **AVIF), three(GREY))
        ten = (RGB.astype(np.uint16) * (1023 / 255) + 0.5).astype(np.uint16)
        yield Case(
            "AVIF",
            "RGB",
            "10 bits",
            lambda: imagecodecs.avif_encode(ten, 100, bitspersample=10),
            RGB,
            said="has 10 bits, read as 8",
        )
        for name, codes, space, decode in (
            ("Display P3", (12, 13), "p3", srgb_decoded),
            ("BT.2020, linear", (9, 8), "bt2020", power(1.0)),
        ):
            data = with_nclx(saved(RGB, "AVIF", **AVIF), *codes)
            wanted = seen(space, decode, decoded(data))
            yield Case("AVIF", "cICP", name, lambda d=data: d, wanted)
        yield Case(
            "AVIF",
            "HDR",
            "PQ",
            lambda: with_nclx(saved(RGB, "AVIF", **AVIF), 9, 16),
            refused="HDR picture.*PQ",
        )

    for codec, name in ((False, "JP2"), (True, "codestream")):
        for kind, array, colour, alpha in (
            ("grey", GREY, three(GREY), None),
            ("RGB", RGB, RGB, None),
            ("RGBA", rgba, RGB, ALPHA),
            ("grey and alpha", np.dstack([GREY, ALPHA]), three(GREY), ALPHA),
        ):
            yield Case(
                "JPEG 2000",
                kind,
                f"8 bits, {name}",
                lambda a=array, c=codec: saved(a, "JPEG2000", no_jp2=c),
                colour,
                alpha=alpha,
            )
    yield Case(
        "JPEG 2000",
        "grey",
        "16 bits",
        lambda: imagecodecs.jpeg2k_encode(deep(GREY), level=0),
        three(GREY),
    )
    yield Case(
        "JPEG 2000",
        "RGB",
        "16 bits",
        lambda: imagecodecs.jpeg2k_encode(deep(RGB), level=0),
        RGB,
        said="has 16 bits, read as 8",
    )
    yield Case(
        "JPEG 2000",
        "colours of another kind",
        "CIELab",
        lambda: with_colours(saved(RGB, "JPEG2000"), b"\1\0\0" + struct.pack(">I", 14)),
        refused="JPEG 2000's kind 14",
    )

    for most, magic in itertools.product((255, 100, 1000, 65535), (b"P2", b"P3", b"P5", b"P6")):
        colour = magic in (b"P3", b"P6")
        stored = ((RGB if colour else GREY) * (most / 255) + 0.5).astype(int)
        if magic in (b"P2", b"P3"):
            body = " ".join(map(str, stored.ravel())).encode()
        else:
            body = stored.astype(">u2" if most > 255 else "u1").tobytes()
        data = b"%s\n# made by hand\n%d %d\n%d\n" % (magic, W, H, most) + body
        values = stored * (255 / most)
        yield Case(
            "PPM",
            "RGB" if colour else "grey",
            f"{magic.decode()}, to {most}",
            lambda d=data: d,
            values if colour else three(values),
        )
    yield Case("PPM", "1 bit", "P4", lambda: saved(bits, "PPM", "1"), three(bits))

    for rle, name in ((None, "raw"), ("tga_rle", "RLE")):
        for kind, image, mode, colour, alpha in (
            ("RGB", RGB, None, RGB, None),
            ("grey", GREY, None, three(GREY), None),
            ("RGBA", rgba, None, RGB, ALPHA),
            ("palette", indexed, None, looked_up, None),
        ):
            for turned in (-1, 1):
                yield Case(
                    "TGA",
                    kind,
                    f"{name}, {'down' if turned == 1 else 'up'}",
                    lambda i=image, m=mode, r=rle, t=turned: saved(
                        i, "TGA", m, compression=r, orientation=t
                    ),
                    colour,
                    alpha=alpha,
                    suffix=".tga",
                )
