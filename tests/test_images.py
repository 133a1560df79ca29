"""Files to tensors and back: every format, depth, mode and mishap that users bring."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from optistyle import files, pictures, sizes
from optistyle.errors import InputError
from optistyle.pictures import SRGB_PROFILE, Picture, read, write

H, W = 33, 47  # odd on purpose
EXACT = [("png", 8), ("png", 16), ("tiff", 8), ("tif", 16)]


def smooth(height: int = H, width: int = W) -> np.ndarray:
    """A colour gradient (H, W, 3) uint8 that no flip or turn leaves as it is."""
    y, x = np.mgrid[:height, :width]
    planes = (200 * x / width + 30, 220 * y / height, 120 * (x + y) / (height + width) + 60)
    return np.stack(planes, 2).astype(np.uint8)


def noise(bits: int = 8, channels: int = 3) -> np.ndarray:
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(0).integers(0, 2**bits, (H, W, channels), dtype=dtype)


def tensor(array: np.ndarray) -> torch.Tensor:
    limit = np.iinfo(array.dtype).max
    return torch.from_numpy(array.astype(np.float32) / limit).permute(2, 0, 1)[None]


def samples(pixels: torch.Tensor, limit: int = 255) -> np.ndarray:
    return np.rint(pixels[0].permute(1, 2, 0).numpy() * limit).astype(int)


def swapped_profile() -> bytes:
    """An RGB profile whose red is sRGB's blue and whose blue is sRGB's red."""
    table = SRGB_PROFILE.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ")
    return table.replace(b"????", b"bXYZ")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    return png[:33] + png_chunk(kind, data) + png[33:]


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


# --- round trips ---


@pytest.mark.parametrize(("extension", "bits"), EXACT)
@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_round_trip_is_exact(tmp_path, extension, bits, channels):
    array = noise(bits, channels)
    colour = tensor(array[..., :3])
    alpha = tensor(array[..., 3:]) if channels == 4 else None
    path = tmp_path / f"a.{extension}"
    write(path, Picture(colour, alpha), bits=bits)
    back = read(path)
    assert (back.height, back.width) == (H, W)
    assert back.pixels.dtype == torch.float32
    assert torch.equal(back.pixels, colour)
    if alpha is None:
        assert back.alpha is None
    else:
        assert torch.equal(back.alpha, alpha)


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "webp", "JPG"])
def test_lossy_round_trip_is_close(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    write(path, tensor(smooth()))
    assert (read(path).pixels - tensor(smooth())).abs().mean() < 2 / 255


def test_webp_keeps_alpha(tmp_path):
    alpha = tensor(smooth()[..., :1])
    write(tmp_path / "a.webp", Picture(tensor(smooth()), alpha))
    assert torch.equal(read(tmp_path / "a.webp").alpha, alpha)


def test_jpeg_is_444_at_quality_95_and_on_white(tmp_path):
    path = tmp_path / "a.jpg"
    alpha = torch.zeros(1, 1, H, W)
    alpha[..., 24:] = 1
    write(path, Picture(torch.zeros(1, 3, H, W), alpha))
    pixels = read(path).pixels
    assert pixels[..., :16].min() > 0.99
    assert pixels[..., 32:].max() < 0.01
    with Image.open(path) as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
        assert image.quantization[0][0] == 2  # the first step of the table at quality 95


@pytest.mark.parametrize(
    ("extension", "bits"), [*EXACT, ("jpg", 8), ("webp", 8)], ids=lambda value: str(value)
)
def test_files_hold_srgb_no_exif_and_the_same_bytes(tmp_path, extension, bits):
    path = tmp_path / f"a.{extension}"
    picture = Picture(tensor(smooth()), tensor(smooth()[..., :1]))
    write(path, picture, bits=bits)
    first = path.read_bytes()
    with Image.open(path) as image:
        assert image.info["icc_profile"] == SRGB_PROFILE
        assert set(image.getexif()) <= {*range(254, 340), 34675}  # what makes up a TIFF, no more
        assert not {305, 306} & set(image.getexif())  # software, date
        assert not image.getexif().get_ifd(0x8769)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(SRGB_PROFILE))
    assert "sRGB" in ImageCms.getProfileDescription(profile)
    time.sleep(0.01)
    write(path, picture, bits=bits)
    assert path.read_bytes() == first


def test_the_profile_is_the_same_in_every_process():
    code = "from optistyle.pictures import SRGB_PROFILE as p; print(p.hex())"
    assert subprocess.check_output([sys.executable, "-c", code]).decode().strip() == (
        SRGB_PROFILE.hex()
    )


def test_rounding_is_half_up_and_clamped():
    row = torch.tensor([-1.0, 0.0, 0.5 / 255, 1.5 / 255, 2.49 / 255, 0.5, 1.0, 7.0])
    assert pictures.to_uint8(row.expand(1, 3, 1, 8))[0, :, 0].tolist() == [
        0,
        0,
        1,
        2,
        2,
        128,
        255,
        255,
    ]
    with pytest.raises(ValueError, match="NaN"):
        pictures.to_uint8(torch.full((1, 3, 2, 2), float("nan")))
    with pytest.raises(ValueError, match="one picture"):
        pictures.to_uint8(torch.zeros(3, 2, 2))


def test_pictures_of_other_shapes_are_refused():
    for pixels, alpha in (((1, 1, 9, 9), None), ((3, 9, 9), None), ((1, 3, 9, 9), (1, 1, 9, 8))):
        with pytest.raises(ValueError, match="expected a tensor of shape"):
            Picture(torch.zeros(pixels), torch.zeros(alpha) if alpha else None)


# --- what files hold ---


def upright_by_hand(stored: np.ndarray, orientation: int) -> np.ndarray:
    return {
        1: stored,
        2: np.fliplr(stored),
        3: np.rot90(stored, 2),
        4: np.flipud(stored),
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),  # clockwise
        7: np.rot90(stored, 2).transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "png16", "tiff", "tiff-lzw", "tiff16", "webp"])
def test_exif_orientation(tmp_path, kind, orientation):
    stored = smooth()
    path = tmp_path / f"a.{kind[:4].rstrip('1')}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "png16":
        png = imagecodecs.png_encode(stored.astype(np.uint16) * 257)
        path.write_bytes(with_chunk(png, b"eXIf", exif.tobytes()[6:]))
    elif kind == "tiff16":
        deep = stored.astype(np.uint16) * 257
        tag = (274, "H", 1, orientation, True)
        tifffile.imwrite(path, deep, photometric="rgb", extratags=[tag])
    else:
        options = {
            "jpg": {"quality": 95, "subsampling": 0},
            "webp": {"lossless": True},
            "tiff-lzw": {"compression": "tiff_lzw"},
        }
        save(path, stored, exif=exif, **options.get(kind, {}))
    wanted = upright_by_hand(stored, orientation).astype(int)
    found = samples(read(path).pixels)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= (6 if kind == "jpg" else 0)


def test_damaged_exif_is_ignored(tmp_path):
    path = save(tmp_path / "a.jpg", smooth(), exif=b"Exif\0\0II\x07\x00junkjunkjunk")
    assert read(path).height == H


@pytest.mark.parametrize(("extension", "bits"), [*EXACT, ("jpg", 8)])
def test_profiles_are_converted(tmp_path, extension, bits):
    path = tmp_path / f"a.{extension}"
    profile = swapped_profile()
    if bits == 8:
        options = {"quality": 100, "subsampling": 0} if extension == "jpg" else {}
        save(path, smooth(), icc_profile=profile, **options)
    elif extension == "png":
        png = imagecodecs.png_encode(smooth().astype(np.uint16) * 257)
        path.write_bytes(with_chunk(png, b"iCCP", b"swapped\0\0" + zlib.compress(profile)))
    else:
        deep = smooth().astype(np.uint16) * 257
        tifffile.imwrite(path, deep, photometric="rgb", iccprofile=profile)
    swapped = smooth()[..., ::-1].astype(int)
    tolerance = 4 if extension == "jpg" else 1
    assert np.abs(samples(read(path).pixels) - swapped).max() <= tolerance


def test_wide_gamut_profile_in_16_bits_is_accurate(tmp_path):
    """Adobe RGB (1998) against its own formula: gamma 563/256 and the published primaries."""
    stored = noise(16)
    profile = imagecodecs.cms_profile("adobergb")
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", iccprofile=profile)
    to_xyz = np.array(
        [[0.5767, 0.1856, 0.1882], [0.2974, 0.6273, 0.0753], [0.0270, 0.0707, 0.9911]]
    )
    to_srgb = np.array(
        [[3.2405, -1.5371, -0.4985], [-0.9693, 1.8760, 0.0416], [0.0556, -0.2040, 1.0572]]
    )
    linear = ((stored / 65535) ** (563 / 256) @ (to_srgb @ to_xyz).T).clip(0, 1)
    wanted = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found = read(tmp_path / "a.tif").pixels[0].permute(1, 2, 0).numpy()
    assert np.abs(found - wanted).max() < 1 / 255


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_profile(tmp_path, bits):
    grey = noise(bits, 1)[..., 0]
    linear = imagecodecs.cms_profile("gray", gamma=1.0)
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="minisblack", iccprofile=linear)
    found = samples(read(tmp_path / "a.tif").pixels, 255)
    value = grey / np.iinfo(grey.dtype).max
    wanted = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    assert np.abs(found - wanted[..., None] * 255).max() <= 1.5


@pytest.mark.parametrize("bits", [8, 16])
def test_rgb_profile_in_a_grey_file_and_damaged_profile(tmp_path, bits):
    grey = noise(bits, 1)[..., 0]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, grey, photometric="minisblack", iccprofile=swapped_profile())
    wanted = grey[..., None].repeat(3, 2).astype(int)
    limit = np.iinfo(grey.dtype).max
    assert np.abs(samples(read(path).pixels, limit) - wanted).max() <= limit / 255
    junk = SRGB_PROFILE[:128] + b"\xff" * 200
    tifffile.imwrite(path, grey, photometric="minisblack", iccprofile=junk)
    with pytest.warns(UserWarning, match="damaged colour profile"):
        picture = read(path)
    assert np.array_equal(samples(picture.pixels, limit), wanted)


def test_cmyk(tmp_path):
    """Pillow undoes the inversion of Adobe's CMYK JPEGs; a profile for RGB is not applied."""
    cmyk = np.zeros((H, W, 4), np.uint8)
    cmyk[:, :16] = (0, 255, 255, 0)  # magenta and yellow ink: red
    cmyk[:, 16:32] = (0, 0, 0, 0)  # no ink: white
    cmyk[:, 32:] = (0, 0, 0, 255)  # black
    image = Image.frombytes("CMYK", (W, H), cmyk.tobytes())
    for name in ("a.jpg", "a.tif"):
        image.save(tmp_path / name, quality=100, subsampling=0, icc_profile=swapped_profile())
        found = samples(read(tmp_path / name).pixels)
        for x, colour in ((4, (255, 0, 0)), (24, (255, 255, 255)), (44, (0, 0, 0))):
            assert np.abs(found[H // 2, x] - colour).max() <= 4
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()


def test_palette_with_transparency(tmp_path):
    indices = np.zeros((H, W), np.uint8)
    indices[:, 20:] = 1
    image = Image.frombytes("P", (W, H), indices.tobytes())
    image.putpalette([255, 0, 0, 0, 128, 255])
    image.save(tmp_path / "a.png", transparency=0)
    picture = read(tmp_path / "a.png")
    assert samples(picture.pixels)[0, 0].tolist() == [255, 0, 0]
    assert samples(picture.pixels)[0, 30].tolist() == [0, 128, 255]
    assert torch.equal(picture.alpha[0, 0], torch.from_numpy(indices).float())
    image.save(tmp_path / "b.png", icc_profile=swapped_profile())
    opaque = read(tmp_path / "b.png")
    assert opaque.alpha is None
    assert samples(opaque.pixels)[0, 0].tolist() == [0, 0, 255]


def test_grey_one_bit_and_transparent_grey(tmp_path):
    grey = noise(8, 1)[..., 0]
    wanted = grey[..., None].repeat(3, 2)
    assert np.array_equal(samples(read(save(tmp_path / "l.png", grey)).pixels), wanted)
    one_bit = read(save(tmp_path / "1.png", (grey > 128).astype(np.uint8) * 255, "1"))
    assert np.array_equal(samples(one_bit.pixels), (wanted > 128) * 255)
    la = np.dstack([grey, 255 - grey])
    transparent = read(save(tmp_path / "la.png", la))
    assert np.array_equal(samples(transparent.pixels), wanted)
    assert np.array_equal(samples(transparent.alpha), 255 - grey[..., None])
    keyed = read(save(tmp_path / "key.png", grey, transparency=int(grey[0, 0])))
    assert np.array_equal(samples(keyed.alpha)[..., 0] == 0, grey == grey[0, 0])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_of_every_kind(tmp_path, channels):
    stored = noise(16, channels)
    png = imagecodecs.png_encode(stored[..., 0] if channels == 1 else stored)
    (tmp_path / "a.png").write_bytes(png)
    picture = read(tmp_path / "a.png")
    colour = stored[..., :1].repeat(3, 2) if channels < 3 else stored[..., :3]
    assert np.array_equal(samples(picture.pixels, 65535), colour)
    if channels in (2, 4):
        assert np.array_equal(samples(picture.alpha, 65535), stored[..., -1:])
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_tiff_of_every_kind(tmp_path, byteorder):
    def roundtrip(array: np.ndarray, **options: object) -> Picture:
        tifffile.imwrite(tmp_path / "a.tif", array, byteorder=byteorder, **options)
        return read(tmp_path / "a.tif")

    grey, colour = noise(16, 1)[..., 0], noise(16)
    black_is_zero = roundtrip(grey, photometric="minisblack").pixels
    assert np.array_equal(samples(black_is_zero, 65535)[..., 0], grey)
    planes = roundtrip(np.moveaxis(colour, 2, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(samples(planes.pixels, 65535), colour)
    if byteorder == "<":  # Pillow opens no big-endian ones of these
        white_is_zero = roundtrip(grey, photometric="miniswhite").pixels
        assert np.array_equal(samples(white_is_zero, 65535)[..., 0], 65535 - grey)
    alpha = np.full((H, W, 1), 32768, np.uint16)
    half = np.dstack([colour // 2, alpha])
    premultiplied = roundtrip(half, photometric="rgb", extrasamples=["assocalpha"])
    assert np.array_equal(samples(premultiplied.alpha, 65535), alpha)
    assert np.abs(samples(premultiplied.pixels, 65535) - colour).max() <= 2
    unspecified = roundtrip(half, photometric="rgb", extrasamples=["unspecified"])
    assert unspecified.alpha is None


def test_opaque_alpha_is_none(tmp_path):
    array = np.dstack([smooth(), np.full((H, W), 255, np.uint8)])
    assert read(save(tmp_path / "a.png", array)).alpha is None


@pytest.mark.parametrize("extension", ["png", "webp", "tiff"])
def test_animations_give_their_first_frame(tmp_path, extension):
    frames = [Image.new("RGB", (W, H), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / f"a.{extension}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    with pytest.warns(UserWarning, match=r"first frame is read|3 pages; the first is read"):
        picture = read(path)
    assert samples(picture.pixels)[5, 5].tolist() == [255, 0, 0]


def test_without_the_extra_16_bits_are_read_as_8(tmp_path, monkeypatch):
    colour, grey = noise(16), noise(16, 1)[..., 0]
    (tmp_path / "rgb.png").write_bytes(imagecodecs.png_encode(colour))
    (tmp_path / "grey.png").write_bytes(imagecodecs.png_encode(grey))
    tifffile.imwrite(tmp_path / "rgb.tif", colour, photometric="rgb")
    planes = np.moveaxis(colour, 2, 0)
    tifffile.imwrite(tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for name, array in (("rgb.png", colour), ("rgb.tif", colour), ("grey.png", grey[..., None])):
        with pytest.warns(UserWarning, match=r"16 bits, read as 8.*optistyle\[deep\]"):
            found = samples(read(tmp_path / name).pixels)
        assert np.abs(found - array / 257).max() <= 1
    with pytest.raises(InputError, match=r"planes.*optistyle\[deep\]"):
        read(tmp_path / "p.tif")
    for fails in (
        lambda path: write(path, tensor(smooth()), bits=16),
        lambda path: pictures.check_writable(path, bits=16),
    ):
        with pytest.raises(InputError, match=r"pip install \"optistyle\[deep\]\""):
            fails(tmp_path / "out.png")


# --- what is refused ---


def refused(path: Path, match: str, **options: int) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folder_empty_and_text(tmp_path):
    refused(tmp_path / "none.png", "does not exist")
    refused(tmp_path, "folder")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "empty")
    (tmp_path / "text.jpg").write_text("a picture is worth a thousand words\n" * 50)
    refused(tmp_path / "text.jpg", "not an image.*JPEG, PNG, WebP, TIFF")
    Image.new("RGB", (W, H)).save(tmp_path / "a.ico")
    refused(tmp_path / "a.ico", r"icon \(ICO\).*JPEG, PNG, WebP, TIFF, GIF.*export")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "regular")


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff", "png16", "tiff16"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7])
def test_truncated(tmp_path, kind, part):
    whole = tmp_path / f"whole.{kind.removesuffix('16')}"
    bits = 16 if kind.endswith("16") else 8
    write(whole, tensor(noise(bits)), bits=bits)
    data = whole.read_bytes()
    cut = tmp_path / f"cut{whole.suffix}"
    cut.write_bytes(data[: int(len(data) * part)])
    refused(cut, "cut off|header is damaged")


@pytest.mark.filterwarnings("ignore:.*damaged colour profile")
def test_random_damage_ends_in_pictures_or_input_errors(tmp_path):
    rng = np.random.default_rng(1)
    for name, bits in (("a.jpg", 8), ("a.png", 8), ("a.webp", 8), ("a.tif", 16), ("b.png", 16)):
        write(tmp_path / name, tensor(smooth()), bits=bits)
        data = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for _ in range(20):
            damaged = data.copy()
            damaged[rng.integers(0, len(data), 8)] = rng.integers(0, 256, 8)
            path = tmp_path / f"damaged{Path(name).suffix}"
            path.write_bytes(damaged.tobytes())
            with contextlib.suppress(InputError):
                assert read(path).pixels.isfinite().all()


def test_bombs_are_refused_by_their_header(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    for side in (50_000, 15_000):  # beyond twice the limit, and between
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        data = png_chunk(b"IDAT", zlib.compress(b"\0" * 100))
        path = tmp_path / "bomb.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + png_chunk(b"IEND", b""))
        start = time.perf_counter()
        refused(path, "more than 200000000 pixels")
        assert time.perf_counter() - start < 1
    assert before == Image.MAX_IMAGE_PIXELS


def test_max_pixels_is_the_callers(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", smooth())
    refused(path, "more than 1550 pixels", max_pixels=H * W - 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # whatever Pillow's own limit is
    assert read(path, max_pixels=H * W).height == H
    assert Image.MAX_IMAGE_PIXELS == 10


def test_too_small(tmp_path):
    refused(save(tmp_path / "a.png", smooth(15, 40)), "40 x 15 .*at least 16")
    assert read(save(tmp_path / "b.png", smooth(16, 16))).height == 16


def test_samples_that_are_not_8_or_16_bit(tmp_path):
    for dtype, words in ((np.float32, "32-bit float"), (np.int16, "16-bit signed")):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, smooth()[..., 0].astype(dtype), photometric="minisblack")
        refused(path, words)


# --- writing safely ---


def test_writes_are_whole_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("optistyle.pictures.writing._encode", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(path, tensor(smooth()))
    for broken in ("write_bytes", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, broken, fail)
            with pytest.raises(InputError, match="No space left"):
                write(path, tensor(smooth()))
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.png"]
    write(path, tensor(smooth()))
    assert os.listdir(tmp_path) == ["a.png"]


def test_files_have_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        write(tmp_path / "a.png", tensor(smooth()))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o644


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    write(tmp_path / "link.png", tensor(smooth()))
    assert (tmp_path / "link.png").is_symlink()
    assert read(tmp_path / "real.png").height == H


def test_write_refuses(tmp_path):
    pixels = tensor(smooth())
    for name, options, words in (
        ("a.pmg", {}, "'.pmg'; did you mean '.png'"),
        ("a", {}, ".jpeg, .jpg, .png, .tif, .tiff, .webp"),
        ("a.jpg", {"bits": 16}, "only PNG and TIFF"),
        ("a.png", {"bits": 12}, "allowed: 8, 16"),
        ("a.jpg", {"quality": 0}, "1 to 100"),
        ("none/a.png", {}, "No such file or directory"),
    ):
        with pytest.raises(InputError, match=words):
            write(tmp_path / name, pixels, **options)
    with pytest.raises(InputError, match="16383"):
        write(tmp_path / "a.webp", torch.zeros(1, 3, 16, 16384))
    assert os.listdir(tmp_path) == []


def test_check_writable(tmp_path, monkeypatch):
    check = pictures.check_writable
    check(tmp_path / "new.png")
    check(tmp_path / "new.tif", bits=16)
    with pytest.raises(InputError, match=r"unknown extension.*allowed: .*png"):
        check(tmp_path / "new.bmp")
    with pytest.raises(InputError, match="only PNG and TIFF"):
        check(tmp_path / "new.webp", bits=16)
    with pytest.raises(InputError, match="does not exist"):
        check(tmp_path / "missing" / "new.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check(tmp_path / "folder.png")
    with monkeypatch.context() as patched:  # root may write anywhere
        patched.setattr(os, "access", lambda *_: False)
        with pytest.raises(InputError, match="may not be written"):
            check(tmp_path / "new.png")


def test_check_writable_protects_the_inputs(tmp_path, monkeypatch):
    source, link, other = tmp_path / "in.png", tmp_path / "link.png", tmp_path / "other.png"
    save(source, smooth())
    link.symlink_to(source)
    save(other, smooth())
    monkeypatch.chdir(tmp_path)
    for output in (source, link, "in.png", tmp_path / "x" / ".." / "in.png"):
        if "x" in Path(output).parts:
            (tmp_path / "x").mkdir()
        with pytest.raises(InputError, match=r"is the input .* as well"):
            pictures.check_writable(output, inputs=[other, source])
    pictures.check_writable(other, inputs=[source, "missing.png"])


# --- sizes, sheets, digests ---


def test_resize_is_antialiased_and_keeps_the_range():
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    small = pictures.resize(board.float().expand(1, 3, 64, 64), (16, 16))
    assert (small - 0.5).abs().max() < 0.03
    edge = torch.zeros(1, 1, 21, 33)
    edge[..., 16:] = 1
    large = pictures.resize(edge, (43, 71))
    assert large.shape == (1, 1, 43, 71)
    assert large.min() >= 0
    assert large.max() <= 1
    assert pictures.resize(edge, (21, 33)) is edge


def test_fit():
    assert sizes.fit_longer_side(600, 800, 400) == (300, 400)
    assert sizes.fit_longer_side(801, 600, 400) == (400, 300)
    assert sizes.fit_longer_side(2, 1000, 100) == (1, 100)
    assert sizes.fit_longer_side(333, 47, 333) == (333, 47)
    assert sizes.fit_area(300, 400, 1200) == (30, 40)
    assert sizes.fit_area(7, 7, 49) == (7, 7)
    assert sizes.fit_area(1, 10_000, 100) == (1, 1000)


def test_sheet():
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 20, 30)
    mask = torch.zeros(1, 1, 10, 40)
    page = pictures.sheet([[red, mask], [mask]], gap=4)
    assert page.shape == (1, 3, 4 + 20 + 4 + 10 + 4, 4 + 40 + 4 + 40 + 4)
    assert page[0, :, 14, 24].tolist() == [1, 0, 0]  # centred in a column of 40
    assert page[0, :, 14, 5].tolist() == [1, 1, 1]
    assert (page[0, :, 9:19, 48:88] == 0).all()
    columns = pictures.sheet([[red, red], [red, red]], ["one", "a very long caption"], gap=4)
    cells = pictures.sheet([[red, red], [red, red]], [["a", "b"], ["c", "d"]], gap=4)
    assert columns.shape[-2] < cells.shape[-2]
    assert columns[0, 0, 4:20, 4:34].min() < 0.5  # ink
    assert columns[:, :, :, :4].min() == 1  # none outside its column
    assert columns[:, :, :20, 34:38].min() == 1


def test_digest(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert files.digest(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    with pytest.raises(InputError, match="not a file"):
        files.digest(tmp_path / "b")


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_stored_pictures_come_back_as_they_were(channels: int, bits: int, tmp_path: Path) -> None:
    """Those of 8 bits from a quarter of the memory; of more, and from elsewhere, from all of it."""
    tifffile.imwrite(tmp_path / "a.tif", noise(bits, channels), photometric="rgb")
    picture = read(tmp_path / "a.tif")
    stored = pictures.Stored(picture)
    assert (stored.height, stored.width) == (H, W)
    found = stored.picture
    assert torch.equal(found.pixels, picture.pixels)
    assert found.pixels.stride()[1:] == picture.pixels.stride()[1:]
    assert (found.alpha is None) == (picture.alpha is None) == (channels == 3)
    if picture.alpha is not None:
        assert torch.equal(found.alpha, picture.alpha)
    held = stored._pixels.element_size()
    assert held == (1 if bits == 8 else 4)
