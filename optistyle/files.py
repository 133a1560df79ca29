"""Files: written whole or not at all, told by their SHA-256, and never over an input."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from optistyle.errors import InputError

AnyPath = str | os.PathLike[str]

#: The most bytes of a file's name, on nearly every file system.
LONGEST = 255


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: under another name in its folder, then moved."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def fitted(stem: str, ending: str = "") -> str:
    """``stem + ending`` as the name of a file, of at most `LONGEST` bytes.

    Where it would be longer, a part of the stem's SHA-256 takes the place of the stem's end, so
    that different stems still give different names.

    Args:
        stem: for example the name of another file.
        ending: kept whole.

    >>> fitted("picture", ".json")
    'picture.json'
    >>> fitted("a" * 255, ".json")[-17:]
    'aaa-b0f3323e.json'
    """
    if len(os.fsencode(stem + ending)) <= LONGEST:
        return stem + ending
    ending = f"-{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{ending}"
    while len(os.fsencode(stem + ending)) > LONGEST:
        stem = stem[:-1]
    return stem + ending


def check_name(path: AnyPath) -> Path:
    """Return an output's path.

    Raises:
        InputError: It names no file: it is empty, a folder by its form (".", "/", "a/..") or
            impossible.
    """
    text = os.fspath(path)
    if not text:
        raise InputError("the output has an empty name: name a file, such as out.png")
    if "\0" in text:
        raise InputError(f"the output {text!r} has a zero byte in its name: choose another name")
    path = Path(path)
    if path.name in ("", ".."):
        raise InputError(f"{path} is a folder: name a file in it, such as {path / 'out.png'}")
    return path


def check_place(path: AnyPath, inputs: Iterable[AnyPath] = ()) -> None:
    """Check that a file can be written, over no input.

    Raises:
        InputError: It cannot; the message says why and what to do.
    """
    path = check_name(path)
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(
                f"the name {_shortened(path.name)} of the output has {len(os.fsencode(path.name))} "
                "bytes, or its folders' names too many: choose a shorter one (most file systems "
                "take 255)"
            ) from error
        if error.errno == errno.ELOOP:
            raise InputError(f"{path} is a link that leads in a circle: choose another") from error
    folder = path.resolve().parent
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    if not folder.is_dir():
        raise InputError(f"the folder {folder} of the output does not exist: create it first")
    for needed in (folder, path):
        if needed.exists() and not os.access(needed, os.W_OK):
            raise InputError(f"{needed} may not be written to: choose another output")
    for source in inputs:
        if os.path.exists(path) and os.path.exists(source) and path.samefile(source):
            raise InputError(f"{path} is the input {source} as well: choose another output")


def check_new(path: AnyPath) -> None:
    """Check that an output would overwrite nothing.

    Raises:
        InputError: It exists.
    """
    if os.path.exists(path):
        raise InputError(
            f"{path} exists already: choose another output with -o, or overwrite it with --force"
        )


def cache() -> Path | None:
    """The folder of what is remembered from run to run; None for a user without a home."""
    try:
        folder = Path(platformdirs.user_cache_dir("optistyle"))
    except RuntimeError:
        return None
    # Older versions of platformdirs return a home that is not known as it is spelled.
    return folder if folder.is_absolute() else None


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:30]}…{name[-9:]}"


def digest(path: AnyPath) -> str:
    """Return the SHA-256 of a file of any size, in hexadecimal.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"{path} is not a file: check its name and folder")
    sha = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                sha.update(piece)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; check it") from error
    return sha.hexdigest()
