"""The C library's memory: whether it keeps what is freed, which is faster, or gives it back."""

from __future__ import annotations

import contextlib
import ctypes
import sys

#: Bytes of the largest blocks that are kept.
KEPT = 2**27
#: What its mallopt is told, by its numbers: M_MMAP_THRESHOLD, blocks of up to so many bytes are
#: kept; M_TRIM_THRESHOLD, so many of them; M_TOP_PAD, so many are asked for beyond what is needed.
_KEEPING = {-3: KEPT, -1: 2**31 - 1, -2: 2**26}


def keep() -> None:
    """Have the C library keep what is freed, for the next iteration to take again.

    glibc gives blocks of 32 MB or more back to the system at once, and page after page of the next
    one is a fault: a fifth of an iteration's time with VGG-19 at 512 px. What is kept lies
    scattered, and with yet larger blocks, as of whole pictures, would take up to twice the memory.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # not glibc
            for name, value in _KEEPING.items():
                ctypes.CDLL(None).mallopt(name, value)


def give_back() -> None:
    """Give what is kept, and nothing uses, back to the system."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
