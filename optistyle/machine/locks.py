"""One process at a time for an output: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from optistyle.errors import InputError

#: Bytes of a name that all file systems take, and where a holder's line ends in a lock file.
_LONGEST, _END = 200, b"\n"


@contextlib.contextmanager
def held(path: Path, what: str = "") -> Iterator[None]:
    """Hold the lock of a file or a folder that is to be written.

    The lock is on a hidden file beside it, ``.NAME.lock``, which is removed at the end. The system
    releases the lock of a killed process; the file that is left then stops nobody. Where a lock
    cannot be had, as in a folder that may not be written to or on a file system without locks, the
    work goes on without one.

    Args:
        path: what is to be written; it need not exist.
        what: its name in the message; the path by default.

    Raises:
        InputError: another process holds the lock.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with held(Path(folder, "out.png")):
    ...         sorted(path.name for path in Path(folder).iterdir())
    ['.out.png.lock']
    """
    file = _beside(path)
    try:
        taken = _taken(file)
    except _HeldError as error:
        raise InputError(
            f"{what or path} is being written by {error}: wait for its end, or choose another "
            "output with -o"
        ) from None
    try:
        yield
    finally:
        if taken is not None:
            _release(taken, file)


class _HeldError(Exception):
    """Another process holds a lock; its name."""


def _beside(path: Path) -> Path:
    path = path.resolve()
    name = path.name
    if len(os.fsencode(name)) > _LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.lock") if name else path / ".lock"


def _taken(file: Path) -> int | None:
    """The descriptor of the locked file; None where locks do not work."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError:
            return None
        try:
            _lock(descriptor)
            # Its last holder may have removed it between the two calls: another one has its name.
            if not os.path.samestat(os.fstat(descriptor), os.stat(file)):
                raise FileNotFoundError
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} {socket.gethostname()}".encode() + _END)
            return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, 1000)
            os.close(descriptor)
            raise _HeldError(_named(holder)) from None
        except FileNotFoundError:
            os.close(descriptor)
        except OSError:
            os.close(descriptor)
            return None


def _release(descriptor: int, file: Path) -> None:
    with contextlib.suppress(OSError):
        if os.name == "nt":  # an open file cannot be removed there
            os.close(descriptor)
            file.unlink()
        else:
            file.unlink()
            os.close(descriptor)


def _named(holder: bytes) -> str:
    process, _, host = holder.partition(_END)[0].decode("utf-8", "replace").partition(" ")
    if not process:
        return "another process"
    return f"process {process}" + (f" on {host}" if host != socket.gethostname() else "")


if os.name == "nt":
    import msvcrt

    def _lock(descriptor: int) -> None:
        """Lock a byte behind the text, which others may read."""
        os.lseek(descriptor, 2**20, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError as error:
            raise BlockingIOError from error
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        """Lock the file, or raise `BlockingIOError`."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
