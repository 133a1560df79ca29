"""Image files to sRGB tensors.

Whatever a file holds (grey, a palette, CMYK, 16 bits, a colour profile, an EXIF orientation) is
settled in `read`, and nothing else in the program knows of it.  16 bits of colour need `tifffile`
and `imagecodecs`, the extra `optistyle[deep]`: Pillow handles 16-bit colour only as 8-bit.

Nothing here changes Pillow's settings or the warnings filters, which belong to the process.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageChops, ImageCms, ImageFile

from optistyle.errors import InputError
from optistyle.pictures import (
    boxes,
    containers,
    heics,
    ifds,
    jpegs,
    jpegxls,
    notes,
    pngs,
    profiles,
    tiffs,
)
from optistyle.pictures.codecs import DEEP_EXTRA, deep_codecs
from optistyle.pictures.ifds import Directory
from optistyle.pictures.picture import Picture
from optistyle.pictures.samples import Samples
from optistyle.pictures.sources import Job, Source, opened

# JPEG 2000's numbers of colour spaces: CMYK, sRGB, grey, sYCC
_JPEG_2000_COLOURS = (12, 16, 17, 18)


def read(source: Source, *, max_pixels: int = 200_000_000) -> Picture:
    """Read a picture, turn it upright and convert it to sRGB.

    JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF, JPEG 2000, PPM and TGA are read, with 8 and 16 bits of
    grey, RGB, palette, 1-bit and CMYK colours.  The orientation is applied.  An embedded ICC
    profile is converted from (relative colorimetric, with black point compensation), but ignored
    where it is damaged (with a warning) or made for another kind of pixels (an RGB profile in a
    CMYK file).  Without a profile, PNG's cICP, gAMA and cHRM and AVIF's cICP count.  Of an
    animated or multi-page file it is the first picture that is no thumbnail, with a warning.
    Without the extra `optistyle[deep]`, 16-bit colours are read as 8-bit, with a warning.
    HEIC and JPEG XL (in sRGB) are read where the extra `optistyle[formats]` is installed.

    Args:
        source: A path, the bytes of an image file, or a binary file object, such as
            `sys.stdin.buffer`, which is read to its end and not closed.
        max_pixels: The most pixels allowed.  The header decides, before anything is decoded.

    Returns:
        The picture, with the photograph's date, author and copyright as its notes.

    Raises:
        InputError: The file is missing, empty, not a regular file, of a format that is not read
            (which is named), damaged or cut off, of other samples (such as 32-bit float), HDR,
            less than 16 pixels on its shorter side, or larger than `max_pixels`.

    >>> import io, PIL.Image
    >>> from optistyle import read
    >>> file = io.BytesIO()
    >>> PIL.Image.new("L", (30, 20), 51).save(file, "PNG")
    >>> picture = read(file.getvalue())
    >>> picture.pixels.shape, picture.pixels.unique()
    (torch.Size([1, 3, 20, 30]), tensor([0.2000]))
    """
    with opened(source, max_pixels) as job:
        picture = _read(job)
    for notice in job.notices:
        warnings.warn(notice, stacklevel=2)
    return picture


@dataclass
class _Contents:
    """What a file holds, decoded: an image in 8 bits, or samples in 16."""

    image: Image.Image | None = None
    deep: tuple[np.ndarray, np.ndarray] | None = None  # (H, W, 1 or 3) and alpha (H, W, 0 or 1)
    icc: bytes | None = None
    orientation: int = 1
    exif: tuple[Directory, Directory] | None = None
    alpha: np.ndarray | None = None  # (H, W, 1), where it is not in the image or the samples


def _read(job: Job) -> Picture:
    """Decode a file; every error of a decoder becomes an InputError."""
    try:
        kind = containers.identify(job.file, job.suffix, job.name)
        contents = _READERS.get(kind, _read_plainly)(job, kind)
        samples = _to_srgb(contents, job)
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{job.name} has more pixels than this process lets Pillow decode ({error}): "
            "make it smaller first, or raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except Exception as error:  # decoders meet damage with errors of every type
        raise InputError(
            f"{job.name} is damaged, cut off or of an unusual kind ({_one_line(error)}): "
            "save it anew as PNG"
        ) from error
    samples = _upright(samples, contents.orientation)
    pixels = torch.from_numpy(samples.astype(np.float32)).permute(2, 0, 1)[None]
    pixels = pixels.contiguous() / np.iinfo(samples.dtype).max
    pixels, alpha = pixels[:, :3], pixels[:, 3:]
    return Picture(
        pixels.contiguous(),
        None if bool((alpha == 1).all()) else alpha.contiguous(),
        notes.from_exif(*contents.exif) if contents.exif else {},
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read_plainly(job: Job, kind: str) -> _Contents:
    """A file of which Pillow tells all."""
    image = containers.opened(kind, job.file, job.name)
    return _loaded(image, job)


def _loaded(image: ImageFile.ImageFile, job: Job) -> _Contents:
    job.check_size(*image.size)
    if getattr(image, "is_animated", False):
        job.notices.append(f"{job.name} is animated; its first frame is read")
    image.load()
    exif = ifds.exif(image.info.get("exif") or b"")
    orientation = _orientation(exif, image.info.get("xmp"))
    return _Contents(image, None, image.info.get("icc_profile"), orientation, exif)


def _read_jpeg(job: Job, kind: str) -> _Contents:
    image = containers.opened(kind, job.file, job.name)
    job.check_size(*image.size)
    try:
        contents = _loaded(image, job)
    except OSError as error:
        job.check_bytes()
        mended = jpegs.mended(job.file) if "truncated" in str(error) else None
        if mended is None:
            raise
        image = mended
        job.notices.append(
            f"{job.name} lacks its end marker; a part of its last row of blocks may be grey"
        )
        contents = _loaded(image, job)
    if image.mode == "CMYK" and "adobe" not in image.info:  # Pillow inverts all, as Adobe does
        contents.image = ImageChops.invert(image)
    return contents


def _read_png(job: Job, kind: str) -> _Contents:
    job.check_bytes()
    chunks = pngs.take_apart(job.file)
    job.check_size(chunks.width, chunks.height)
    if chunks.frames > 1:
        job.notices.append(f"{job.name} is animated; its first frame is read")
    image = containers.opened(kind, io.BytesIO(chunks.pixels), job.name)
    image.load()  # damage shows here, in files of 16 bits, too
    contents = _Contents(image, icc=chunks.profile(job.name))
    codecs = deep_codecs()
    if chunks.depth == 16 and codecs is not None:
        samples = np.atleast_3d(codecs[0].png_decode(chunks.pixels))
        colour, alpha = np.split(samples, [1 if samples.shape[2] < 3 else 3], axis=2)
        contents.image, contents.deep = None, (colour, alpha)
    elif chunks.depth == 16:
        job.notices.append(f"{job.name} has 16 bits, read as 8; for all of them {DEEP_EXTRA}")
    if chunks.key is not None:
        contents.alpha = _keyed(contents, chunks)
    for what in chunks.damaged:
        if what == "iCCP":
            job.taken_as_srgb("colour profile")
        else:
            job.notices.append(f"{job.name} has a damaged {what} chunk, which is ignored")
    contents.exif = ifds.exif(chunks.exif())
    contents.orientation = _orientation(contents.exif, chunks.xmp())
    return contents


def _keyed(contents: _Contents, chunks: pngs.Chunks) -> np.ndarray | None:
    """Alpha for the one transparent colour of a PNG: 0 where the pixel has it, else full."""
    assert chunks.key is not None
    if contents.deep:
        colour, key = contents.deep[0], chunks.key
    else:
        assert contents.image is not None
        grey = len(chunks.key) == 1
        image = contents.image
        deep_grey = image.mode.startswith("I")
        colour = np.atleast_3d(
            np.asarray(image if deep_grey else image.convert("L" if grey else "RGB"))
        )
        scale = 1 if deep_grey else 255 / ((1 << chunks.depth) - 1)
        key = np.floor(chunks.key * scale)
    if len(key) != colour.shape[2]:
        return None
    full = np.iinfo(np.uint16 if contents.deep else np.uint8).max
    alpha = np.where((colour == key).all(2, keepdims=True), 0, full)
    return alpha.astype(np.uint16 if contents.deep else np.uint8)


def _read_webp(job: Job, kind: str) -> _Contents:
    job.check_bytes()
    if size := containers.webp_size(job.file):
        job.check_size(*size)
    return _read_plainly(job, kind)


def _read_bmp(job: Job, kind: str) -> _Contents:
    contents = _read_plainly(job, kind)
    job.file.seek(14)
    header = job.file.read(124)
    if len(header) == 124 and header[56:60] == b"DEBM":  # an embedded profile
        offset, size = (int.from_bytes(header[at : at + 4], "little") for at in (112, 116))
        job.file.seek(14 + offset)
        contents.icc = job.file.read(min(size, pngs.LONGEST_CHUNK))
    return contents


def _read_boxes(job: Job, kind: str) -> _Contents:
    """AVIF and JPEG 2000, whose colours Pillow reports in part."""
    job.check_bytes()
    told = boxes.look(job.file)
    if told.codestream:
        job.check_size(*told.codestream)
    image = containers.opened(kind, job.file, job.name)
    contents = _loaded(image, job)
    icc = contents.icc or told.icc
    if told.enumerated is not None and not icc and told.enumerated not in _JPEG_2000_COLOURS:
        raise InputError(
            f"{job.name} has colours of JPEG 2000's kind {told.enumerated} "
            "(allowed: sRGB, grey, sYCC, CMYK, or a profile): save it as PNG first"
        )
    if told.cicp and not icc:
        pngs.refuse_hdr(told.cicp[1], job.name)
        icc = profiles.from_cicp(*told.cicp)
        if icc is None:
            job.taken_as_srgb("description of its colours (nclx)")
    contents.icc = icc
    if told.bits > 8 and not image.mode.startswith("I"):
        job.notices.append(f"{job.name} has {told.bits} bits, read as 8")
    return contents


def _read_heic(job: Job, kind: str) -> _Contents:
    return _from_library(heics.decode(job), job)


def _read_jpeg_xl(job: Job, kind: str) -> _Contents:
    decoded = jpegxls.decode(job)
    if isinstance(decoded, Samples):
        return _from_library(decoded, job)
    inner = Job(decoded, job.name, "", job.max_pixels, job.notices)
    return _read_jpeg(inner, "JPEG")


def _from_library(samples: Samples, job: Job) -> _Contents:
    contents = _Contents(icc=samples.icc, exif=ifds.exif(samples.exif))
    if samples.bits > 8 and deep_codecs() is not None:
        contents.deep = samples.colour, samples.alpha
        return contents
    stored = np.dstack([samples.colour, samples.alpha])
    if samples.bits > 8:
        job.notices.append(
            f"{job.name} has {samples.bits} bits, read as 8; for all of them {DEEP_EXTRA}"
        )
        stored = (stored >> 8).astype(np.uint8)
    contents.image = _from_samples(stored, None)
    return contents


def _read_tiff(job: Job, kind: str) -> _Contents:
    tiff = ifds.Tiff(job.file)
    page = tiffs.main_page(tiff, job.name, job.notices)
    job.check_size(*tiffs.size(page))
    if page.offset != tiff.first:
        job.check_bytes()
    file = tiffs.with_page_first(tiff, page)
    exif = ifds.with_exif(tiff, page)
    orientation = _orientation(exif, bytes(v & 255 for v in page.integers(ifds.XMP)))
    if tiffs.needs_tifffile(tiff, page, job.name, job.notices):
        colour, alpha, icc = tiffs.decode(file, job.name)
        if colour.dtype == np.uint16 and colour.shape[2] < 4:
            return _Contents(None, (colour, alpha), icc, orientation, exif)
        samples = np.dstack([colour, alpha])
        if samples.dtype == np.uint16:
            samples = (samples >> 8).astype(np.uint8)
        mode = "CMYK" if colour.shape[2] == 4 else None
        return _Contents(_from_samples(samples, mode), None, icc, orientation, exif)
    image = containers.opened(kind, file, job.name)
    turned_by = image.getexif().get(ifds.ORIENTATION)  # Pillow turns by this, and forgets it
    if image.mode == "P":
        colours = tiffs.eight_bit_map(np.array(page.integers(ifds.COLOR_MAP)))
        image.putpalette(colours.reshape(3, -1).T.tobytes())
    # Memory that is there already is not compared with the process's limit of pixels
    image.im = Image.new(image.mode, tiffs.size(page)).im
    image.load()
    done = turned_by in range(2, 9)
    icc = image.info.get("icc_profile")
    return _Contents(image, None, icc, 1 if done else orientation, exif)


def _from_samples(samples: np.ndarray, mode: str | None) -> Image.Image:
    """(H, W, 1 to 4) uint8 to an image; CMYK loses its alpha, which few programs write."""
    if mode == "CMYK":
        return Image.frombytes("CMYK", samples.shape[1::-1], samples[..., :4].tobytes())
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _read_ppm(job: Job, kind: str) -> _Contents:
    """PPM: files of 16 bits are unpacked here, for Pillow takes seconds for each megapixel."""
    image = containers.opened(kind, job.file, job.name)
    job.check_size(*image.size)
    decoder, _, offset, args = image.tile[0]
    most = args[-1] if args else None
    if image.mode == "I" and decoder == "raw":
        most = 65535
    job.file.seek(0)
    if job.file.read(2) not in (b"P5", b"P6") or not isinstance(most, int) or most <= 255:
        return _loaded(image, job)
    channels = 3 if image.mode == "RGB" else 1
    count = image.width * image.height * channels
    job.file.seek(offset)
    samples = np.frombuffer(job.file.read(2 * count), ">u2")
    samples = samples.reshape(image.height, image.width, channels)
    scaled = np.minimum(samples * (65535 / most) + 0.5, 65535).astype(np.uint16)
    return _Contents(None, (scaled, scaled[..., :0]))


_READERS: dict[str, Callable[[Job, str], _Contents]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "WebP": _read_webp,
    "BMP": _read_bmp,
    "AVIF": _read_boxes,
    "JPEG 2000": _read_boxes,
    "HEIC": _read_heic,
    "JPEG XL": _read_jpeg_xl,
    "TIFF": _read_tiff,
    "PPM": _read_ppm,
}


def _orientation(exif: tuple[Directory, Directory] | None, xmp: Any) -> int:
    """The orientation, 1 to 8, by EXIF, whatever the number's type; else by XMP; else 1."""
    if exif and ifds.ORIENTATION in exif[0].tags:
        return exif[0].integer(ifds.ORIENTATION, 1)
    text = xmp.encode() if isinstance(xmp, str) else xmp or b""
    found = re.search(rb'tiff:Orientation(?:="|>)([0-9])', text)
    return int(found[1]) if found else 1


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) with an EXIF orientation of 2 to 8 undone; any other number means nothing."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def _to_srgb(contents: _Contents, job: Job) -> np.ndarray:
    """The samples, as stored but in sRGB: (H, W, 3) or, with alpha, (H, W, 4), uint8 or uint16."""
    if contents.icc and contents.icc[36:40] != b"acsp":  # every profile has that there
        job.taken_as_srgb("colour profile")
        contents.icc = None
    convert = _deep_to_srgb if contents.deep else _shallow_to_srgb
    samples = convert(contents, job)
    return samples if contents.alpha is None else np.dstack([samples[..., :3], contents.alpha])


def _shallow_to_srgb(contents: _Contents, job: Job) -> np.ndarray:
    """8-bit samples, by Pillow."""
    image = contents.image
    assert image is not None
    if image.mode.startswith("I"):  # 16-bit grey
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    own = {"CMYK": "CMYK", "1": "L", "L": "L", "LA": "L"}.get(image.mode, "RGB")
    alpha = []
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = [np.asarray(image)[..., 3]]
    colour = image.convert("RGB")
    if contents.icc and (mode := profiles.mode_of(contents.icc, own)):
        try:
            colour = profiles.convert_8_bit(image, contents.icc, mode)
        except (ImageCms.PyCMSError, OSError):
            job.taken_as_srgb("colour profile")
    return np.dstack([np.asarray(colour), *alpha])


def _deep_to_srgb(contents: _Contents, job: Job) -> np.ndarray:
    """16-bit samples, by imagecodecs."""
    assert contents.deep is not None
    colour, alpha = contents.deep
    mode = profiles.mode_of(contents.icc, "L" if colour.shape[2] == 1 else "RGB")
    if colour.shape[2] == 1 and mode != "L":
        colour = colour.repeat(3, axis=2)
    if mode and contents.icc:
        try:
            colour = profiles.convert_16_bit(colour, contents.icc, mode)
        except RuntimeError:
            job.taken_as_srgb("colour profile")
            colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    return np.dstack([colour, alpha])
