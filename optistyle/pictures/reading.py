"""Image files to sRGB tensors.

Whatever a file holds (grey, a palette, CMYK, 16 bits, a colour profile, an EXIF orientation) is
settled in `read`, and nothing else in the program knows of it.  16 bits need `tifffile` and
`imagecodecs`, the extra `optistyle[deep]`: Pillow handles 16-bit colour only as 8-bit.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from optistyle.errors import InputError
from optistyle.files import AnyPath
from optistyle.pictures.codecs import DEEP_EXTRA, FORMATS, SRGB_PROFILE, deep_codecs
from optistyle.pictures.picture import Picture
from optistyle.sizes import SMALLEST

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # the photometric interpretations of TIFF
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
# Unless told not to, lcms puts coarse tables in place of grey curves and of all in
# 16 bits: wrong by up to 19 steps of 255, as measured.
_CMS_FLAGS: Any = 0x2000 | 0x0100  # BLACKPOINTCOMPENSATION, NOOPTIMIZE (no enum before Pillow 10.3)


def read(path: AnyPath, *, max_pixels: int = 200_000_000) -> Picture:
    """The picture in a JPEG, PNG, WebP or TIFF file, turned upright and converted to sRGB.

    8 and 16 bits; grey, RGB, palette, 1-bit and CMYK.  The EXIF orientation is applied.  An
    embedded ICC profile is converted from (relative colorimetric, with black point compensation),
    but ignored where it is damaged (with a warning) or made for another kind of pixels (an RGB
    profile in a CMYK file).  Of an animated or multi-page file it is the first picture.  Without
    the extra `optistyle[deep]`, 16-bit files are read as 8-bit, with a warning.

    Raises InputError where the file is missing, empty, not a regular file, not of these formats,
    damaged or cut off, of other samples (as 32-bit float), less than 16 pixels on its shorter
    side, or of more than `max_pixels` pixels: the header decides that, before anything is decoded.
    """
    path = Path(path)
    _check_readable(path)
    try:
        with (
            _pixel_limit(max_pixels),
            Image.open(path, formats=sorted(set(FORMATS.values()))) as image,
        ):
            if min(image.size) < SMALLEST:
                raise InputError(
                    f"{path} is {image.width} x {image.height} pixels; its shorter side must have "
                    f"at least {SMALLEST} pixels: use a larger picture"
                )
            samples = _decode(image, path)
    except (InputError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{path} has more than {max_pixels} pixels, the most allowed: make it smaller first"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path} is not an image that can be read, or its header is damaged "
            "(allowed: JPEG, PNG, WebP, TIFF): convert it first"
        ) from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read: change its permissions") from error
    except Exception as error:  # decoders meet damage with errors of every type
        raise InputError(
            f"{path} is damaged, cut off or of an unusual kind ({error}): save it anew as PNG"
        ) from error
    pixels = torch.from_numpy(samples.astype(np.float32)).permute(2, 0, 1)[None]
    pixels = pixels.contiguous() / np.iinfo(samples.dtype).max
    pixels, alpha = pixels[:, :3], pixels[:, 3:]
    return Picture(pixels.contiguous(), None if bool((alpha == 1).all()) else alpha.contiguous())


def _check_readable(path: Path) -> None:
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist: check its name and folder")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name an image file in it")
    if not path.is_file():
        raise InputError(f"{path} is not a regular file: name an image file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or save it anew")


_limit_lock = threading.Lock()


@contextlib.contextmanager
def _pixel_limit(limit: int) -> Iterator[None]:
    """Pillow's own check of the size in a header, with this limit, for the time of one read.

    Its other warnings, on small damage that it reads past, are silenced.
    """
    with _limit_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, limit
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _decode(image: Image.Image, path: Path) -> np.ndarray:
    """The samples of an opened file, sRGB: (H, W, 3) or, with alpha, (H, W, 4), uint8 or uint16."""
    tiff = image.format == "TIFF"
    if not tiff:
        image.load()  # first, for in a PNG the orientation may follow the pixels
    orientation = _orientation(image)
    deep = _is_deep(image, path)
    image.load()  # damage shows here; a TIFF is turned upright, and its orientation forgotten
    samples = _decode_deep(image, path) if deep else _decode_shallow(image, path)
    return samples if tiff and not deep else _upright(samples, orientation)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block says nothing
        return 1


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) with an EXIF orientation of 2 to 8 undone; any other number means nothing."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def _is_deep(image: Image.Image, path: Path) -> bool:
    """Whether to read 16-bit samples around Pillow; InputError for samples that nothing reads."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        bits = int(np.max(tags.get(TiffImagePlugin.BITSPERSAMPLE, 1)))
        kind = int(np.max(tags.get(TiffImagePlugin.SAMPLEFORMAT, 1)))
        if kind != 1 or bits not in (1, 2, 4, 8, 16):
            name = {1: "unsigned", 2: "signed", 3: "float"}.get(kind, "unusual")
            raise InputError(
                f"{path} has {bits}-bit {name} samples (allowed: unsigned of up to 8, or 16 bits): "
                "convert it first"
            )
        colours = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
        deep = bits == 16 and colours in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
        planar = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    else:
        with path.open("rb") as file:
            deep = image.format == "PNG" and file.read(25)[24] == 16
        planar = False
    if deep and deep_codecs() is None:
        if planar:  # which Pillow would take for 8 bits
            raise InputError(f"{path} has its 16-bit colours in planes, which needs {DEEP_EXTRA}")
        warnings.warn(f"{path} has 16 bits, read as 8; for all of them {DEEP_EXTRA}", stacklevel=4)
        return False
    return deep


def _decode_shallow(image: Image.Image, path: Path) -> np.ndarray:
    """8-bit samples, by Pillow."""
    icc = image.info.get("icc_profile")
    if image.mode.startswith("I"):  # 16-bit grey, without the extra
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    own = {"CMYK": "CMYK", "1": "L", "L": "L", "LA": "L"}.get(image.mode, "RGB")
    alpha = []
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = [np.asarray(image)[..., 3]]
    colour = image.convert("RGB")
    if icc and (mode := _profile_mode(icc, own)):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            srgb = ImageCms.ImageCmsProfile(io.BytesIO(SRGB_PROFILE))
            transform = ImageCms.buildTransform(source, srgb, mode, "RGB", _INTENT, _CMS_FLAGS)
            colour = transform.apply(image.convert(mode))
        except (ImageCms.PyCMSError, OSError):
            _warn_of_profile(path)
    return np.dstack([np.asarray(colour), *alpha])


def _decode_deep(image: Image.Image, path: Path) -> np.ndarray:
    """16-bit grey or RGB samples, by imagecodecs and tifffile; `image` has the profile."""
    codecs = deep_codecs()
    assert codecs is not None
    imagecodecs, tifffile = codecs
    if image.format == "PNG":
        samples = np.atleast_3d(imagecodecs.png_decode(path.read_bytes()))
        colour, alpha = np.split(samples, [1 if samples.shape[2] < 3 else 3], axis=2)
    else:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            samples = page.asarray()
        samples = np.moveaxis(samples, 0, 2) if page.axes == "SYX" else np.atleast_3d(samples)
        colour, alpha = np.split(samples, [3 if page.photometric == _RGB else 1], axis=2)
        if page.photometric == _WHITE_IS_ZERO:
            colour = 65535 - colour
        extra = page.extrasamples[0] if page.extrasamples else 0
        alpha = alpha[..., :1] if extra in (1, 2) else alpha[..., :0]
        if extra == 1:  # associated alpha: divide it out
            colour = np.minimum(colour * 65535.0 / np.maximum(alpha, 1) + 0.5, 65535)
            colour = colour.astype(np.uint16)
    icc = image.info.get("icc_profile")
    mode = _profile_mode(icc, "L" if colour.shape[2] == 1 else "RGB")
    if colour.shape[2] == 1 and mode != "L":
        colour = colour.repeat(3, axis=2)
    if mode:
        try:
            colour = imagecodecs.cms_transform(
                np.ascontiguousarray(colour[..., 0] if mode == "L" else colour),
                icc,
                SRGB_PROFILE,
                colorspace="gray" if mode == "L" else "rgb",
                outcolorspace="rgb",
                intent=int(_INTENT),
                flags=_CMS_FLAGS,
            )
        except RuntimeError:
            _warn_of_profile(path)
            colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    return np.dstack([colour, alpha])


def _profile_mode(icc: bytes | None, own: str) -> str | None:
    """The mode ("L", "RGB" or "CMYK") in which pixels of mode `own` are the profile's.

    None where there is nothing to convert: no profile, sRGB, or a profile for other pixels.
    """
    if not icc or icc == SRGB_PROFILE:
        return None
    mode = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}.get(icc[16:20])
    return mode if mode == own or (mode, own) == ("RGB", "L") else None


def _warn_of_profile(path: Path) -> None:
    warnings.warn(f"{path} has a damaged colour profile; taken as sRGB", stacklevel=5)
