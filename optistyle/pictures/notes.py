"""What a photograph says of itself that its stylized picture keeps: date, author, copyright.

Nothing else of EXIF is read or written: no place, no camera, no thumbnail.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from optistyle.pictures import ifds
from optistyle.pictures.ifds import Directory

#: The notes, by name, in the order in which they are written.
NOTES = ("date", "author", "copyright")
_LONGEST = 1000  # characters of a note
_MAIN = {"author": ifds.ARTIST, "copyright": ifds.COPYRIGHT}
_ASCII, _LONG, _LONG8 = 2, 4, 16


def from_exif(main: Directory, details: Directory) -> dict[str, str]:
    """Return the notes in an EXIF block.

    The date is that of the photograph, else of its scan, else of the file's last change.
    """
    dates = (details.text(ifds.DATE_ORIGINAL), details.text(ifds.DATE_DIGITIZED))
    found = {
        "date": next(filter(_is_date, (*dates, main.text(ifds.DATE))), ""),
        "author": main.text(ifds.ARTIST),
        # EXIF separates photographer and editor by a zero byte
        "copyright": main.text(ifds.COPYRIGHT).replace("\0", "; "),
    }
    cleaned = {name: clean(text) for name, text in found.items()}
    return {name: text for name, text in cleaned.items() if text}


def clean(text: str) -> str:
    """Return a note on one line, without control characters, at most 1000 characters long."""
    printable = "".join(
        " " if ord(letter) < 32 or ord(letter) == 127 else letter for letter in text
    )
    return " ".join(printable.split()).strip("; ")[:_LONGEST]


def _is_date(text: str) -> bool:
    """Whether a date is one of EXIF; cameras without a clock write zeros or blanks."""
    return bool(re.fullmatch(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d", text)) and text[:4] != "0000"


def to_exif(notes: Mapping[str, str]) -> bytes:
    """Return an EXIF block (little-endian, without "Exif\\0\\0") that holds the notes alone.

    Args:
        notes: Some of `NOTES`.  Empty ones are left out.

    Returns:
        The block, or no bytes where there are no notes.  The same notes give the same bytes.

    Raises:
        ValueError: A note has another name, or a date another form.
    """
    if not check(notes):
        return b""
    head = struct.pack("<2sHI", b"II", 42, 8)
    return head + _directories(notes, {}, 8, big=False)


def into_tiff(tiff: bytes, notes: Mapping[str, str]) -> bytes:
    """Return a little-endian TIFF with the notes in its first page's directory.

    The directory is written anew behind the file's end, and the header points to it.
    """
    if not check(notes):
        return tiff
    big = tiff[2] == 43
    pointer, counts, size = ("<Q", "<Q", 20) if big else ("<I", "<H", 12)
    at = 8 if big else 4
    (old,) = struct.unpack_from(pointer, tiff, at)
    (count,) = struct.unpack_from(counts, tiff, old)
    start = old + struct.calcsize(counts)
    entries = [tiff[start + i * size : start + (i + 1) * size] for i in range(count)]
    tags = {struct.unpack_from("<H", entry)[0]: entry for entry in entries}
    padded = tiff + b"\0" * (len(tiff) % 2)
    head = padded[:at] + struct.pack(pointer, len(padded))
    return head + padded[len(head) :] + _directories(notes, tags, len(padded), big=big)


def check(notes: Mapping[str, str]) -> bool:
    """Return whether there are notes to write.

    Raises:
        ValueError: A note has another name, or a date another form.
    """
    unknown = set(notes) - set(NOTES)
    if unknown:
        raise ValueError(f"unknown notes {sorted(unknown)} (allowed: {', '.join(NOTES)})")
    date = clean(notes.get("date", ""))
    if date and not _is_date(date):
        raise ValueError(f"the date {date!r} is not of the form 2024:12:31 23:59:59")
    return any(map(clean, notes.values()))


def _directories(
    notes: Mapping[str, str], others: Mapping[int, bytes], start: int, *, big: bool
) -> bytes:
    """Pack the main directory, to stand at `start`, and behind it the Exif one with the date.

    Args:
        notes: The notes.
        others: Further entries of the main directory by tag, packed.
        start: Where in its file the main directory will stand.
        big: Whether the file is a BigTIFF.
    """
    cleaned = {name: clean(note) for name, note in notes.items()}
    texts = {tag: _encoded(cleaned[name]) for name, tag in _MAIN.items() if cleaned.get(name)}
    date = cleaned.get("date")
    count = len({*others, *texts, *([ifds.EXIF_IFD] if date else [])})
    behind = start + (8 + 20 * count + 8 if big else 2 + 12 * count + 4)
    table, data = dict(others), b""
    for tag, text in texts.items():
        table[tag], data = _entry(tag, text, data, behind, big)
    if date:
        table[ifds.EXIF_IFD] = struct.pack(
            "<HHQQ" if big else "<HHII",
            ifds.EXIF_IFD,
            _LONG8 if big else _LONG,
            1,
            behind + len(data),
        )
        exif_table = behind + len(data) + (8 + 20 + 8 if big else 2 + 12 + 4)
        entry, text = _entry(ifds.DATE_ORIGINAL, _encoded(date), b"", exif_table, big)
        data += _packed([entry], big) + text
    return _packed([table[tag] for tag in sorted(table)], big) + data


def _encoded(note: str) -> bytes:
    """A note as EXIF stores it: UTF-8 and a zero byte, here to an even length."""
    text = clean(note).encode("utf-8", "replace") + b"\0"
    return text + b"\0" * (len(text) % 2)


def _entry(tag: int, text: bytes, data: bytes, behind: int, big: bool) -> tuple[bytes, bytes]:
    """A text's entry, and the data behind the directory, with the text where it is too long."""
    form, inline = ("<HHQ", 8) if big else ("<HHI", 4)
    head = struct.pack(form, tag, _ASCII, len(text))
    if len(text) <= inline:
        return head + text.ljust(inline, b"\0"), data
    return head + struct.pack("<Q" if big else "<I", behind + len(data)), data + text


def _packed(entries: list[bytes], big: bool) -> bytes:
    count, last = ("<Q", "<Q") if big else ("<H", "<I")
    return struct.pack(count, len(entries)) + b"".join(entries) + struct.pack(last, 0)
