"""The C library's memory: whether it keeps what is freed, which is faster, or gives it back."""

from __future__ import annotations

import contextlib
import ctypes
import sys

#: Bytes of the largest blocks that are kept.
KEPT = 2**27
#: glibc's numbers of what its mallopt can be told: blocks of up to so many bytes are kept; so many
#: bytes of them; so many are asked for beyond what is needed.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2


def keep() -> bool:
    """Have the C library keep what is freed, for the next iteration to take again.

    glibc gives blocks of 32 MB or more back to the system at once, and page after page of the next
    one is a fault: a quarter to two fifths of losses and gradient with VGG-19 at 512 px
    (`python -m benchmarks parts`). What is kept lies scattered, and with yet larger blocks, as of
    whole pictures, would take up to twice the memory.

    Returns whether it does: glibc before 2.35 refuses so large blocks, other libraries know no such
    wish. Nothing is lost there but the time.
    """
    try:
        told = ctypes.CDLL(None).mallopt if sys.platform == "linux" else None
    except AttributeError:  # not glibc
        told = None
    if not told or not told(_MMAP_THRESHOLD, KEPT):
        return False  # without it, the others would leave the threshold at its least
    return bool(told(_TRIM_THRESHOLD, 2**31 - 1) and told(_TOP_PAD, 2**26))


def give_back() -> None:
    """Give what is kept, and nothing uses, back to the system."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
