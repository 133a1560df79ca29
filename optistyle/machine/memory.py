"""Memory: what is free on a device, what this program holds, and whether it ran out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

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
    return min([room, *_rooms(Path("/"))])


def held(device: torch.device) -> int:
    """Bytes of a device that this program takes now; 0 where that cannot be known."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        return _fields("/proc/self/status")["VmRSS:"] * 1024
    except (OSError, KeyError):
        return 0


def _rooms(root: Path) -> Iterator[int]:
    """What each control group that this process is in, and each group around it, leaves in bytes.

    Args:
        root: the folder that holds proc and sys; another one in tests.
    """
    for place, version in _groups(root):
        limit, used = (
            ("memory.max", "anon") if version == 2 else ("memory.limit_in_bytes", "total_rss")
        )
        with contextlib.suppress(OSError, KeyError, ValueError):  # "max", or the topmost group
            most = int((place / limit).read_text())
            yield max(0, most - _fields(str(place / "memory.stat"))[used])


def _groups(root: Path) -> Iterator[tuple[Path, int]]:
    """The folders of this process's memory groups up to the topmost, and their version, 1 or 2.

    A mount shows a part of all groups, from the one that mountinfo(5) names as its root: in a
    container, often the container's own.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    inside = {}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            inside[2] = path
        elif "memory" in controllers.split(","):
            inside[1] = path
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        version = {"cgroup2": 2, "cgroup": 1}.get(kind)
        if version not in inside or (version == 1 and "memory" not in options.split(" ")[-1]):
            continue
        top, mounted = (_unescaped(text) for text in before.split(" ")[3:5])
        place = root / mounted.lstrip("/")
        yield place, version
        with contextlib.suppress(ValueError):  # a group outside of what the mount shows
            for name in PurePosixPath(inside[version]).relative_to(top).parts:
                place = place / name
                yield place, version


def _unescaped(text: str) -> str:
    """A path of mountinfo, in which spaces and the like are octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _fields(path: str) -> dict[str, int]:
    rows = (line.split() for line in Path(path).read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch's CPU allocator has no type for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in ("not enough memory", "can't allocate", "out of memory"))
