"""Picture files that people have and programs trip over; sources in memory; notes; names."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image

from optistyle import files, pictures
from optistyle.errors import InputError
from optistyle.pictures import Picture, notes, read, write
from tests.picture_cases import pngs, tiffs
from tests.picture_extras import HAS_HEIC, heic
from tests.picture_files import BLOCKS, RGB, H, W, chunk, exif, iccp, png, profile, saved, tiff
from tests.test_formats_matrix import outcome

NOTES = {
    "date": "2024:05:01 12:34:56",
    "author": "Zoë Ångström",
    "copyright": "© 2024 Zoë; all rights reserved",
}

needs_heic = pytest.mark.skipif(not HAS_HEIC, reason="pillow-heif, which makes HEIC, is missing")


def values(picture: Picture) -> np.ndarray:
    return np.rint(picture.pixels[0].permute(1, 2, 0).numpy() * 255).astype(int)


def refusal(source: object, **options: int) -> str:
    with pytest.raises(InputError) as caught:
        read(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- no effect on the process ---


def test_threads_read_with_their_own_limits_and_change_nothing_of_the_process(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(np.tile(RGB, (12, 12, 1)), "PNG"))
    pixels = H * W * 144
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    seen, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append((Image.MAX_IMAGE_PIXELS, list(warnings.filters)))

    refused, accepted = [], []

    def reject() -> None:
        for _ in range(20):
            try:
                read(path, max_pixels=pixels - 1)
            except InputError as error:
                refused.append(str(error))

    def accept() -> None:
        accepted.extend(read(path, max_pixels=pixels).height for _ in range(20))

    watcher = threading.Thread(target=watch)
    readers = [threading.Thread(target=reject), threading.Thread(target=accept)]
    watcher.start()
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    watcher.join()
    assert len(refused) == len(accepted) == 20
    assert all(f"more than {pixels - 1} pixels" in message for message in refused)
    assert seen
    assert all(state == (limit, filters) for state in seen)
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == (limit, filters)


@pytest.mark.filterwarnings("error")
def test_the_limit_of_the_process_counts_for_webp_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's class for WebP compares with it before anyone can ask."""
    indexed = Image.fromarray(BLOCKS).quantize(16)
    made = {
        **{name: saved(RGB, name) for name in ("PNG", "JPEG", "BMP", "JPEG2000", "PPM", "GIF")},
        **{name: saved(RGB, "TIFF", compression=name) for name in ("raw", "tiff_lzw", "jpeg")},
        **{f"{name}, indexed": saved(indexed, name) for name in ("GIF", "TIFF", "PNG")},
    }
    webp = saved(RGB, "WEBP")
    expected = {name: read(data).pixels for name, data in made.items()}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name, data in made.items():
        assert torch.equal(read(data).pixels, expected[name])
    assert "PIL.Image.MAX_IMAGE_PIXELS" in refusal(webp)


# --- bombs ---


def bombs() -> dict[str, bytes]:
    """Files whose headers promise 50 000 x 50 000 pixels, or 40 000 of GIF and TGA."""
    side, half = 50_000, 16_383
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    jpeg = bytearray(saved(RGB, "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", side, side)
    gif = bytearray(saved(RGB, "GIF"))
    gif[6:10] = struct.pack("<HH", side, side)
    bmp = bytearray(saved(RGB, "BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    webp = bytearray(saved(np.dstack([RGB, RGB[..., 0]]), "WEBP", exif=exif(1)))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = 2 * (half - 1).to_bytes(3, "little")
    jp2 = bytearray(saved(RGB, "JPEG2000"))
    at = jp2.index(b"\xff\x4f\xff\x51")
    jp2[at + 8 : at + 16] = struct.pack(">II", side, side)  # the codestream, not its box
    tif = bytearray(saved(RGB, "TIFF"))
    deep = bytearray(tiff(RGB.astype(np.uint16)))
    for data in (tif, deep):
        (entries,) = struct.unpack_from("<I", data, 4)
        for index in range(struct.unpack_from("<H", data, entries)[0]):
            at = entries + 2 + 12 * index
            if struct.unpack_from("<H", data, at)[0] in (256, 257):
                data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, side)
    return {
        "png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")),
        "jpg": bytes(jpeg),
        "gif": bytes(gif),
        "bmp": bytes(bmp),
        "webp": bytes(webp),
        "jp2": bytes(jp2),
        "tif": bytes(tif),
        "16.tif": bytes(deep),
        "ppm": b"P6 50000 50000 255\n" + bytes(100),
        "tga": saved(RGB, "TGA")[:12] + struct.pack("<HH", side, side) + saved(RGB, "TGA")[16:],
    }


@pytest.mark.parametrize("kind", sorted(bombs()))
def test_headers_of_huge_pictures_are_refused_before_memory_is_used(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / f"bomb.{kind}"
    path.write_bytes(bombs()[kind])
    assert "more than 200000000 pixels" in refusal(path)


def test_tiles_larger_than_the_picture_are_refused(tmp_path: Path) -> None:
    data = bytearray(tiff(np.tile(RGB, (4, 4, 1)).astype(np.uint16), tile=(32, 48)))
    (entries,) = struct.unpack_from("<I", data, 4)
    for index in range(struct.unpack_from("<H", data, entries)[0]):
        at = entries + 2 + 12 * index
        if struct.unpack_from("<H", data, at)[0] in (322, 323):
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 1 << 20)
    assert "tiles of 1099511627776 pixels" in refusal(bytes(data))


# --- files that end early ---


def test_a_jpeg_may_lack_its_end_marker_and_its_last_row_of_blocks() -> None:
    tall = np.tile(RGB, (4, 2, 1))
    for progressive in (False, True):
        data = saved(tall, "JPEG", quality=90, progressive=progressive)
        with pytest.warns(UserWarning, match="lacks its end marker") as caught:
            picture = read(data[:-2])
        assert len(caught) == 1
        assert np.array_equal(values(picture), np.asarray(Image.open(io.BytesIO(data))))
    baseline = saved(tall, "JPEG", quality=90)
    with pytest.warns(UserWarning, match="last row of blocks may be grey"):
        cut = values(read(baseline[:-12]))
    right = np.asarray(Image.open(io.BytesIO(baseline)))
    assert np.array_equal(cut[:62], right[:62])  # 76 rows are in five rows of blocks
    for part in (0.5, 0.75):
        assert "cut off" in refusal(baseline[: int(len(baseline) * part)])


def test_every_cut_of_a_progressive_jpeg_is_seen() -> None:
    data = saved(np.tile(BLOCKS, (2, 2, 1)), "JPEG", quality=90, progressive=True)
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 5
    for start in starts[1:]:
        refusal(data[:start])  # between two scans, where all rows were decoded


# --- colours, profiles and transparency ---


def test_a_profile_up_to_the_bound_counts_and_a_longer_one_is_named() -> None:
    icc = profile("p3", 2.2) + bytes(20 << 20)
    small = values(read(png(RGB, 8, 2, iccp(icc[:4096]))))
    assert np.array_equal(values(read(png(RGB, 8, 2, iccp(icc)))), small)
    with pytest.warns(UserWarning, match="damaged colour profile; taken as sRGB"):
        read(png(RGB, 8, 2, iccp(bytes(40 << 20))))


def test_a_chunk_that_fails_its_check_is_named() -> None:
    gamma = bytearray(chunk(b"gAMA", struct.pack(">I", 100_000)))
    gamma[-1] ^= 1
    with pytest.warns(UserWarning, match="damaged gAMA chunk, which is ignored"):
        assert np.array_equal(values(read(png(RGB, 8, 2, bytes(gamma)))), RGB)


def test_orientation_by_xmp_alone() -> None:
    packet = b'<x:xmpmeta tiff:Orientation="6"/>'
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    tag = (700, 1, len(packet), packet, True)
    for data in (png(RGB, 8, 2, text), tiff(RGB.astype(np.uint16) * 257, extratags=[tag])):
        assert np.array_equal(values(read(data)), np.rot90(RGB, -1))


def test_a_picture_of_several_wrong_things_says_each_once(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(png(RGB, 8, 2, iccp(b"junk"), chunk(b"acTL", struct.pack(">II", 2, 0))))
    assert len(caught) == 2
    assert all(warning.filename == __file__ for warning in caught)


# --- sources ---


def test_bytes_and_streams_are_read_like_files(tmp_path: Path) -> None:
    for data in (saved(RGB, "PNG"), saved(RGB, "TIFF", compression="tiff_lzw"), tiff(RGB)):
        (tmp_path / "a").write_bytes(data)
        stream = io.BytesIO(data)
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        with open(reader, "rb", buffering=0) as pipe:
            for source in (data, bytearray(data), memoryview(data), stream, pipe, tmp_path / "a"):
                assert np.array_equal(values(read(source)), RGB)
        assert not stream.closed


def test_errors_name_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(b"junk" * 99).startswith("the picture in memory is not an image")
    assert refusal(b"").startswith("the picture in memory is empty")
    assert refusal(io.BytesIO(b"junk" * 99)).startswith("the stream is not an image")
    (tmp_path / "a.txt").write_bytes(b"junk" * 99)
    monkeypatch.setattr(sys, "stdin", (tmp_path / "a.txt").open())
    with sys.stdin:
        assert str(tmp_path / "a.txt") in refusal(sys.stdin.buffer)


def test_a_stream_without_end_is_refused() -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            assert 0 < size < 1 << 30
            return bytes(size)

    assert "bytes, the most allowed" in refusal(Endless(), max_pixels=1000)


# --- notes ---


def described(order: str = ">") -> bytes:
    """An EXIF block with everything that a camera writes, and the place."""
    block = Image.Exif()
    block.endian = order
    block[ExifTags.Base.Artist] = "A. Dams"
    block[ExifTags.Base.Copyright] = "2024 A. Dams"
    block[ExifTags.Base.DateTime] = "2025:01:01 00:00:00"
    block[ExifTags.Base.Model] = "Camera"
    block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:05:01 12:34:56"
    block.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 31.0, 12.0)
    return block.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_date_author_and_copyright_are_read_and_nothing_else(container: str, order: str) -> None:
    found = read(saved(RGB, container, exif=described(order))).notes
    assert found == {
        "date": "2024:05:01 12:34:56",
        "author": "A. Dams",
        "copyright": "2024 A. Dams",
    }


@pytest.mark.parametrize(
    ("name", "bits"),
    [("a.jpg", 8), ("a.png", 8), ("a.png", 16), ("a.webp", 8), ("a.tif", 8), ("a.tif", 16)],
)
@pytest.mark.parametrize("alpha", [False, True])
def test_notes_are_written_and_come_back(name: str, bits: int, alpha: bool, tmp_path: Path) -> None:
    pixels = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(0))
    opacity = pixels[:, :1] if alpha else None
    path = tmp_path / name
    write(path, Picture(pixels, opacity, NOTES), bits=bits)
    data = path.read_bytes()
    back = read(path)
    assert back.notes == NOTES
    write(path, Picture(pixels, opacity, NOTES), bits=bits)
    assert path.read_bytes() == data
    write(path, Picture(pixels, opacity), bits=bits)
    assert torch.equal(read(path).pixels, back.pixels)
    assert read(path).notes == {}
    with Image.open(io.BytesIO(data)) as image:  # Pillow reads bytes beyond ASCII as Latin-1
        block = image.getexif()
        author = block[ExifTags.Base.Artist].encode("latin-1").decode()
        assert author.rstrip("\0") == NOTES["author"]
        assert block.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.DateTimeOriginal: NOTES["date"]}
        assert not block.get_ifd(ExifTags.IFD.GPSInfo)
    if path.suffix == ".tif":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            assert file.pages.first.tags[34665].value["DateTimeOriginal"] == NOTES["date"]
            assert len(file.pages) == 1


@pytest.mark.parametrize("name", sorted(NOTES))
def test_each_note_alone(name: str, tmp_path: Path) -> None:
    for path, bits in ((tmp_path / "a.png", 8), (tmp_path / "a.tif", 16)):
        write(path, Picture(torch.rand(1, 3, H, W), notes={name: NOTES[name]}), bits=bits)
        assert read(path).notes == {name: NOTES[name]}


def test_notes_of_other_names_and_forms_are_refused() -> None:
    for said, words in (
        ({"place": "48 N"}, "unknown notes"),
        ({"date": "yesterday"}, "not of the form"),
    ):
        with pytest.raises(ValueError, match=words):
            pictures.encode(Picture(torch.zeros(1, 3, H, W), notes=said))
    assert pictures.encode(Picture(torch.zeros(1, 3, H, W), notes={"author": " \0\n"})) == (
        pictures.encode(torch.zeros(1, 3, H, W))
    )


def test_odd_notes_are_cleaned() -> None:
    block = Image.Exif()
    block[ExifTags.Base.Artist] = "two\nlines\x1b[31m"
    block[ExifTags.Base.Copyright] = "x" * 5000
    block[ExifTags.Base.DateTime] = "0000:00:00 00:00:00"
    found = read(saved(RGB, "PNG", exif=block)).notes
    assert found == {"author": "two lines [31m", "copyright": "x" * 1000}


# --- names ---


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/..", "./"])
def test_outputs_that_name_no_file(name: str) -> None:
    for check in (pictures.check_writable, files.check_place):
        with pytest.raises(InputError, match=r"empty name|is a folder") as caught:
            check(name)
        assert "out.png" in str(caught.value)
    with pytest.raises(InputError):
        write(name, torch.zeros(1, 3, H, W))


def test_names_that_are_too_long_circular_or_impossible(tmp_path: Path) -> None:
    longest = tmp_path / ("é" * 125 + "n.png")
    pictures.check_writable(longest)
    write(longest, torch.zeros(1, 3, H, W))
    assert read(longest).height == H
    (tmp_path / "loop.png").symlink_to("loop.png")
    for path, words in (
        (tmp_path / ("é" * 126 + "n.png"), r"has 257 bytes.*shorter"),
        (tmp_path / ("d" * 300) / "a.png", "shorter"),
        (tmp_path / "loop.png", "circle"),
        (f"{tmp_path}/a\0.png", "zero byte"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            pictures.check_writable(path)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError):
            write(path, torch.zeros(1, 3, H, W))
    pictures.check_writable(tmp_path / "a.png", inputs=["n" * 300, "a\0b", ""])
    with pytest.raises(InputError, match="not a file"):
        files.digest(tmp_path / ("n" * 300))
    assert "does not exist" in refusal(tmp_path / ("n" * 300))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_names_of_any_bytes(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"-o $HOME [1] \xff.png", "🎨 画.png".encode()):
        path = tmp_path / os.fsdecode(name)
        pictures.check_writable(path)
        write(path, torch.zeros(1, 3, H, W))
        assert read(path).width == W
        assert name in os.listdir(os.fsencode(tmp_path))
        assert len(files.digest(path)) == 64


def test_the_formats_that_can_be_written_are_named() -> None:
    with pytest.raises(InputError, match=r"'.gif'.*\.jpg.*\.webp.*a JPEG, PNG, TIFF or WebP"):
        pictures.check_writable("a.gif")


# --- what is not a picture ---


def test_reasons_are_one_line_and_say_what_to_do(tmp_path: Path) -> None:
    for data, words in (
        (imagecodecs.jpegxl_encode(RGB.astype(np.float32)), "JPEG XL"),
        (tiff(RGB.astype(np.float32)), "32-bit float"),
        (tiff(RGB, photometric="cielab"), "CIELab"),
    ):
        message = refusal(data)
        assert words in message
        assert "allowed: " in message
        assert ": " in message.split("allowed", 1)[1]


@pytest.mark.parametrize("big", [False, True])
def test_notes_in_a_tiff_of_either_kind(big: bool) -> None:
    data = notes.into_tiff(tiff(RGB, bigtiff=big), NOTES)
    picture = read(data)
    assert picture.notes == NOTES
    assert np.array_equal(values(picture), RGB)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "container",
    [
        *("GIF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA", "TIFF", "JPEG XL"),
        pytest.param("HEIC", marks=needs_heic),
    ],
)
def test_random_damage_ends_in_pictures_or_input_errors(container: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    encode = {"HEIC": heic, "JPEG XL": imagecodecs.jpegxl_encode}.get(container)
    data = np.frombuffer(encode(RGB) if encode else saved(RGB, container), np.uint8)
    path = tmp_path / f"a.{container.lower()}"
    for _ in range(40):
        damaged = data.copy()
        damaged[rng.integers(0, min(len(data), 200), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(InputError):
            assert read(path, max_pixels=1 << 20).pixels.isfinite().all()


def test_without_the_extra_every_layout_is_right_or_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = [
        dataclasses.replace(case, make=lambda data=case.make(): data)  # noqa: B008
        for case in (*tiffs(), *pngs())
        if not case.refused and case.kind != "RGBA, premultiplied"  # coarse where nearly clear
    ]
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    wrong = {}
    for case in made:
        said = dataclasses.replace(case, said="16 bits, read as 8")
        what = outcome(said, tmp_path) and outcome(case, tmp_path)
        if not re.match(r"$|refused: .*optistyle\[deep\]", what):
            wrong[str(case)] = what
    assert wrong == {}
