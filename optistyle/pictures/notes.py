"""What a photograph says of itself that its stylized picture keeps: date, author, copyright.

Nothing else of EXIF is read or written: no place, no camera, no thumbnail.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from optistyle.pictures import ifds
from optistyle.pictures.ifds import Directory

#: The notes, by name, in the order in which they are written.
NOTES = ("date", "author", "copyright")
_LONGEST = 1000  # characters of a note
_MAIN = {"author": ifds.ARTIST, "copyright": ifds.COPYRIGHT}
_ASCII, _LONG = 2, 4


def from_exif(main: Directory, details: Directory) -> dict[str, str]:
    """Return the notes in an EXIF block.

    The date is that of the photograph, else of its scan, else of the file's last change.
    """
    found = {
        "date": details.text(ifds.DATE_ORIGINAL)
        or details.text(ifds.DATE_DIGITIZED)
        or main.text(ifds.DATE),
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
    line = " ".join(printable.split()).strip("; ")[:_LONGEST]
    return "" if line.replace(":", "").strip() == "" else line  # cameras without a clock: "  :  :"


def to_exif(notes: Mapping[str, str]) -> bytes:
    """Return an EXIF block (little-endian, without "Exif\\0\\0") that holds the notes alone.

    Args:
        notes: Some of `NOTES`.  Empty ones are left out.

    Returns:
        The block, or no bytes where there are no notes.  The same notes give the same bytes.

    Raises:
        ValueError: A note has another name.
    """
    unknown = set(notes) - set(NOTES)
    if unknown:
        raise ValueError(f"unknown notes {sorted(unknown)} (allowed: {', '.join(NOTES)})")
    texts = {name: encoded(notes[name]) for name in NOTES if clean(notes.get(name, ""))}
    if not texts:
        return b""
    main: list[tuple[int, bytes | None]] = [(_MAIN[n], texts[n]) for n in _MAIN if n in texts]
    if "date" in texts:
        main = sorted([*main, (ifds.EXIF_IFD, None)], key=lambda entry: entry[0])
    block = struct.pack("<2sHI", b"II", 42, 8) + _directory(main, 8)
    return block + date_directory(notes["date"], len(block)) if "date" in texts else block


def date_directory(date: str, start: int) -> bytes:
    """Return an Exif directory of the date alone, to stand at `start`."""
    return _directory([(ifds.DATE_ORIGINAL, encoded(date))], start)


def encoded(note: str) -> bytes:
    """Return a note as EXIF stores it: UTF-8 and a zero byte."""
    return clean(note).encode("utf-8", "replace") + b"\0"


def _directory(entries: list[tuple[int, bytes | None]], start: int) -> bytes:
    """Pack texts, and a pointer to what follows this directory for None, into a directory."""
    table, data = struct.pack("<H", len(entries)), b""
    behind = start + 2 + 12 * len(entries) + 4
    total = sum(len(text) + len(text) % 2 for _, text in entries if text and len(text) > 4)
    for tag, text in entries:
        if text is None:
            table += struct.pack("<HHII", tag, _LONG, 1, behind + total)
        elif len(text) <= 4:
            table += struct.pack("<HHI4s", tag, _ASCII, len(text), text)
        else:
            table += struct.pack("<HHII", tag, _ASCII, len(text), behind + len(data))
            data += text + b"\0" * (len(text) % 2)
    return table + struct.pack("<I", 0) + data
