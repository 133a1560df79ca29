"""Image files to sRGB tensors and back.

Pictures in memory are float32 tensors (1, 3, H, W) of sRGB values in [0, 1].  Whatever a file holds
(grey, a palette, CMYK, 16 bits, a colour profile, an EXIF orientation) is settled in `read`, and
nothing else in the program knows of it.  16 bits need `tifffile` and `imagecodecs`, the extra
`optistyle[deep]`: Pillow handles 16-bit colour only as 8-bit.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import secrets
import struct
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageDraw,
    ImageFont,
    TiffImagePlugin,
    UnidentifiedImageError,
)
from torch import Tensor
from torch.nn import functional

from .errors import InputError, unknown

MIN_SIDE = 16  # VGG-19 halves a picture four times up to its last layer in use
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
_DEEP_FORMATS = ("PNG", "TIFF")
_DEEP_EXTRA = 'pip install "optistyle[deep]"'
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # the photometric interpretations of TIFF
_LONGEST_SIDE = {"JPEG": 65_535, "WEBP": 16_383}
_ROWS = 512  # of a picture, that are rounded at a time

_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
# Unless told not to, lcms puts coarse tables in place of grey curves and of all in
# 16 bits: wrong by up to 19 steps of 255, as measured.
_CMS_FLAGS: Any = 0x2000 | 0x0100  # BLACKPOINTCOMPENSATION, NOOPTIMIZE (no enum before Pillow 10.3)
_srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Bytes 24 to 35 of a profile say when it was made; this one has a fixed date in place of now.
SRGB_PROFILE = _srgb[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + _srgb[36:]

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Picture:
    """A picture in memory, upright and in sRGB."""

    pixels: Tensor  # (1, 3, H, W) float32 in [0, 1], straight: not multiplied by alpha
    alpha: Tensor | None = None  # (1, 1, H, W) float32 in [0, 1]; None where all is opaque

    def __post_init__(self) -> None:
        size = tuple(self.pixels.shape[-2:])
        for part, channels in ((self.pixels, 3), (self.alpha, 1)):
            if part is not None and tuple(part.shape) != (1, channels, *size):
                expected, got = (1, channels, *size), tuple(part.shape)
                raise ValueError(f"expected a tensor of shape {expected}, got {got}")

    def _repr_png_(self) -> bytes:
        """A notebook shows the picture by itself."""
        return encode(self)

    @property
    def height(self) -> int:
        return self.pixels.shape[-2]

    @property
    def width(self) -> int:
        return self.pixels.shape[-1]


class Stored:
    """A picture in a quarter of the memory: in 8 bits a sample, where those give it exactly."""

    def __init__(self, picture: Picture) -> None:
        self.height, self.width = picture.height, picture.width
        self._pixels = _narrowed(picture.pixels)
        self._alpha = None if picture.alpha is None else _narrowed(picture.alpha)

    @property
    def alpha(self) -> Tensor | None:
        return None if self._alpha is None else _widened(self._alpha)

    @property
    def picture(self) -> Picture:
        """As it was, made anew."""
        return Picture(_widened(self._pixels), self.alpha)


def _narrowed(samples: Tensor) -> Tensor:
    narrow = (samples * 255).round_().clamp_(0, 255).to(torch.uint8)
    return narrow if torch.equal(_widened(narrow), samples) else samples


def _widened(samples: Tensor) -> Tensor:
    return samples.float().div_(255) if samples.dtype == torch.uint8 else samples


# --- reading ---


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
            if min(image.size) < MIN_SIDE:
                raise InputError(
                    f"{path} is {image.width} x {image.height} pixels; its shorter side must have "
                    f"at least {MIN_SIDE} pixels: use a larger picture"
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
    if deep and _codecs() is None:
        if planar:  # which Pillow would take for 8 bits
            raise InputError(f"{path} has its 16-bit colours in planes, which needs {_DEEP_EXTRA}")
        warnings.warn(f"{path} has 16 bits, read as 8; for all of them {_DEEP_EXTRA}", stacklevel=4)
        return False
    return deep


def _codecs() -> tuple[Any, Any] | None:
    """The modules imagecodecs and tifffile; None without the extra that brings them."""
    try:
        import imagecodecs
        import tifffile
    except ImportError:
        return None
    return imagecodecs, tifffile


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
    codecs = _codecs()
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


# --- writing ---


def check_writable(path: AnyPath, *, inputs: Iterable[AnyPath] = (), bits: int = 8) -> None:
    """Raise InputError where `write(path, ..., bits=bits)` would fail or overwrite an input.

    For before the work starts: the extension and the bits, the folder, its permissions, and
    whether the path is, by whatever name or link, one of the `inputs`.
    """
    _format(Path(path), bits)
    check_place(Path(path), inputs)


def check_place(path: Path, inputs: Iterable[AnyPath] = ()) -> None:
    """Raise InputError where no file can be written, or an input would be overwritten."""
    folder = path.resolve().parent
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    if not folder.is_dir():
        raise InputError(f"the folder {folder} of the output does not exist: create it first")
    for needed in (folder, path):
        if needed.exists() and not os.access(needed, os.W_OK):
            raise InputError(f"{needed} may not be written to: choose another output")
    for source in map(Path, inputs):
        if path.exists() and source.exists() and path.samefile(source):
            raise InputError(f"{path} is the input {source} as well: choose another output")


def write(path: AnyPath, picture: Picture | Tensor, *, bits: int = 8, quality: int = 95) -> None:
    """Write a picture, or its pixels alone, in the format that the extension names.

    Samples are rounded to the nearest step, halves up, and clamped.  `bits` is 8, or 16 for PNG
    and TIFF; `quality`, 1 to 100, is for JPEG (4:4:4) and WebP.  Every file holds an sRGB profile
    and no EXIF, and the same picture gives the same bytes.  Alpha, of the size of the pixels, is
    written too; JPEG, which has none, gets the picture on white.  The file appears whole or not
    at all: it is written under another name in its folder, then moved (to the target of a link).

    Raises InputError as `check_writable` does, for a quality out of range, for a side longer than
    JPEG and WebP allow, and where the disk refuses; ValueError for NaN and for other shapes.
    """
    path = Path(path)
    name = _format(path, bits)
    if not 1 <= quality <= 100:
        raise InputError(f"quality {quality} is out of range (allowed: 1 to 100)")
    if isinstance(picture, Tensor):
        picture = Picture(picture)
    longest = _LONGEST_SIDE.get(name)
    if longest and max(picture.height, picture.width) > longest:
        raise InputError(
            f"{path} would be {picture.width} x {picture.height} pixels; {name} ends at {longest} "
            "a side: write a PNG or TIFF"
        )
    data = encode(picture, name, bits=bits, quality=quality)
    try:
        write_whole(path.resolve(), data)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def encode(
    picture: Picture | Tensor, name: str = "PNG", *, bits: int = 8, quality: int = 95
) -> bytes:
    """What `write` writes, as bytes, in one of the formats of `FORMATS`."""
    if isinstance(picture, Tensor):
        picture = Picture(picture)
    pixels, alpha = picture.pixels.detach().cpu().float(), picture.alpha
    if alpha is not None:
        alpha = alpha.detach().cpu().float()
        white = 1 + (pixels - 1) * alpha
        pixels = white if name == "JPEG" else torch.cat([pixels, alpha], 1)
    samples = _samples(pixels, bits)
    return _encode_deep(samples, name) if bits == 16 else _encode(samples, name, quality)


def to_uint8(pixels: Tensor) -> np.ndarray:
    """(1, C, H, W) in [0, 1] -> (H, W, C) uint8, rounded to nearest, halves up, and clamped."""
    return _samples(pixels, 8)


def _samples(pixels: Tensor, bits: int) -> np.ndarray:
    if pixels.dim() != 4 or pixels.shape[0] != 1:
        raise ValueError(f"expected one picture (1, C, H, W), got {tuple(pixels.shape)}")
    if pixels.isnan().any():
        raise ValueError("the picture holds NaN")
    limit, kind = 2**bits - 1, np.uint8 if bits == 8 else np.uint16

    def rounded(rows: Tensor) -> np.ndarray:
        samples = rows.cpu().float().permute(1, 2, 0).mul(limit).add_(0.5).floor_()
        return samples.clamp_(0, limit).numpy().astype(kind, order="C")

    # Some rows at a time: of a huge picture a second one in float32 is much.
    return np.concatenate([rounded(rows) for rows in pixels.detach()[0].split(_ROWS, 1)])


def _format(path: Path, bits: int) -> str:
    """The format to write, checked."""
    name = FORMATS.get(path.suffix.lower())
    if name is None:
        raise unknown("extension of the output", path.suffix, FORMATS)
    if bits not in (8, 16):
        raise InputError(f"{bits} bits for {path} (allowed: 8, 16)")
    if bits == 16 and name not in _DEEP_FORMATS:
        raise InputError(f"16 bits for {path}: only PNG and TIFF hold them; choose one, or 8 bits")
    if bits == 16 and _codecs() is None:
        raise InputError(f"16 bits for {path} need tifffile and imagecodecs: {_DEEP_EXTRA}")
    return name


def _encode(samples: np.ndarray, name: str, quality: int) -> bytes:
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": "4:4:4"},
        "PNG": {},
        "TIFF": {"compression": "tiff_adobe_deflate"},
        "WEBP": {"quality": quality, "exact": True},  # exact: colours under transparency too
    }
    file = io.BytesIO()
    Image.fromarray(samples).save(file, name, icc_profile=SRGB_PROFILE, **options[name])
    return file.getvalue()


def _encode_deep(samples: np.ndarray, name: str) -> bytes:
    codecs = _codecs()
    assert codecs is not None
    imagecodecs, tifffile = codecs
    if name == "PNG":
        return _with_profile(imagecodecs.png_encode(samples))
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        samples,
        photometric="rgb",
        extrasamples=["unassalpha"] if samples.shape[2] == 4 else None,
        compression="adobe_deflate",
        predictor=True,
        iccprofile=SRGB_PROFILE,
        metadata=None,
        software=False,
    )
    return file.getvalue()


def _with_profile(png: bytes) -> bytes:
    """A PNG with the sRGB profile in an iCCP chunk, after the signature and IHDR of 33 bytes."""
    chunk = b"iCCPsRGB\0\0" + zlib.compress(SRGB_PROFILE)
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + framed + png[33:]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: under another name in its folder, then moved."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# --- sizes ---


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w) in [0, 1] resized to (H, W), bicubic and antialiased; itself if so already."""
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    resized = functional.interpolate(pixels, size, mode="bicubic", antialias=True)
    return resized.clamp(0, 1)


def fit_longer_side(height: int, width: int, longer: int) -> tuple[int, int]:
    """The size (H, W) of the same aspect with a longer side of `longer`, each side at least 1."""
    return _scaled(height, width, longer / max(height, width))


def fit_area(height: int, width: int, area: int, least: int = 0) -> tuple[int, int]:
    """The size (H, W) of the same aspect with `area` pixels or so, no side below `least`, or 1."""
    area = max(area, math.ceil(least**2 * max(height, width) / min(height, width)))
    return _scaled(height, width, math.sqrt(area / (height * width)))


def _scaled(height: int, width: int, factor: float) -> tuple[int, int]:
    return max(1, math.floor(height * factor + 0.5)), max(1, math.floor(width * factor + 0.5))


# --- contact sheets and digests ---


def sheet(
    rows: Sequence[Sequence[Tensor]],
    labels: Sequence[str] | Sequence[Sequence[str]] | None = None,
    gap: int = 8,
    row_labels: Sequence[str] | None = None,
) -> Tensor:
    """A contact sheet (1, 3, H, W) of pictures (1, 3, h, w) or masks (1, 1, h, w), on white.

    Columns are as wide and rows as high as their largest picture, with `gap` pixels around; a
    smaller picture is centred in its cell.  `labels` are captions: one per column, above the first
    row, or one list per row, each above its picture; a caption too wide for its column is set
    smaller.  `row_labels` are captions left of the rows, read from below.
    """
    captions: list[list[str]] = [[] for _ in rows]
    for index, label in enumerate(labels or ()):
        if isinstance(label, str):
            captions[0].append(label)
        else:
            captions[index] = list(label)
    columns = range(max(map(len, rows)))
    widths = [max(row[c].shape[-1] for row in rows if c < len(row)) for c in columns]
    heights = [max(image.shape[-2] for image in row) for row in rows]
    line = min(40, max(16, max(widths) // 14))
    strips = [line if any(caption) else 0 for caption in captions]
    height = sum(heights) + sum(strips) + gap * (len(heights) + 1)
    margin = line + gap if row_labels else 0
    width = margin + sum(widths) + gap * (len(widths) + 1)
    canvas = torch.ones(1, 3, height, width)
    top = gap
    names = row_labels or [""] * len(rows)
    for row, name, caption, height, strip in zip(
        rows, names, captions, heights, strips, strict=True
    ):
        left = gap + margin
        if name:
            upright = _text(name, line, height).rot90()
            canvas[..., top + strip : top + strip + height, gap : gap + line] = upright
        for image, text, width in zip(row, caption + [""] * len(row), widths, strict=False):
            if text:
                canvas[..., top : top + strip, left : left + width] = _text(text, strip, width)
            y = top + strip + (height - image.shape[-2]) // 2
            x = left + (width - image.shape[-1]) // 2
            canvas[..., y : y + image.shape[-2], x : x + image.shape[-1]] = image.detach().cpu()
            left += width + gap
        top += strip + height + gap
    return canvas


def _text(text: str, height: int, width: int) -> Tensor:
    """Black on white, centred: (height, width)."""
    image = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(image)
    size = 0.7 * height
    length = draw.textlength(text, ImageFont.load_default(size))
    font = ImageFont.load_default(max(1, min(size, size * width / max(length, 1))))
    draw.text((width / 2, height / 2), text, fill=0, font=font, anchor="mm")
    return torch.from_numpy(np.array(image)) / 255


def digest(path: AnyPath) -> str:
    """The SHA-256 of a file, in hexadecimal, read in pieces; InputError where it is no file."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file: check its name and folder")
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            sha.update(piece)
    return sha.hexdigest()
