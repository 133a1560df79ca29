"""Files: written whole or not at all, told by their SHA-256, and never over an input."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from optistyle.errors import InputError

AnyPath = str | os.PathLike[str]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: under another name in its folder, then moved."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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


def digest(path: AnyPath) -> str:
    """Return the SHA-256 of a file of any size, in hexadecimal.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file: check its name and folder")
    sha = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                sha.update(piece)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; check it") from error
    return sha.hexdigest()
