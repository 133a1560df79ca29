"""Memory: what is free on a device, what this program holds, and whether it ran out."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from optistyle.machine import heap


def free(device: torch.device) -> int | None:
    """Bytes free on a device; None where that cannot be known."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    heap.give_back()
    try:
        room = _fields("/proc/meminfo")["MemAvailable:"] * 1024
    except (OSError, KeyError):
        return None
    with contextlib.suppress(OSError, KeyError, ValueError):  # a container may have less
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        room = min(room, limit - _fields("/sys/fs/cgroup/memory.stat")["anon"])
    return room


def held(device: torch.device) -> int:
    """Bytes of a device that this program takes now; 0 where that cannot be known."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        return _fields("/proc/self/status")["VmRSS:"] * 1024
    except (OSError, KeyError):
        return 0


def _fields(path: str) -> dict[str, int]:
    rows = (line.split() for line in Path(path).read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch's CPU allocator has no type for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in ("not enough memory", "can't allocate", "out of memory"))
