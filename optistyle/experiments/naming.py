"""Names of files: for people, unique and printable; for folders, short enough to be created."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from optistyle.files import fitted


def printable(text: str) -> str:
    """The text with U+FFFD in place of each byte of a file name that is not UTF-8.

    Python keeps such bytes as lone surrogates (PEP 383), which UTF-8 cannot encode.

    >>> printable("caf\\udce9.jpg") == "caf\\N{REPLACEMENT CHARACTER}.jpg"
    True
    """
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def labels(paths: Iterable[Path], *, suffix: bool = False) -> dict[Path, str]:
    """A short, printable name for each file; no two files get the same.

    Files whose names clash get their suffix or their parent folder as well, and a number where
    that is not enough.

    Args:
        paths: any files; they need not exist.
        suffix: whether names have their suffix even where they are unique without it.

    >>> list(labels([Path("a/cat.png"), Path("b/cat.png"), Path("b/dog.png")]).values())
    ['a/cat', 'b/cat', 'dog']
    """
    ways: Sequence[Callable[[Path], str]] = (
        *(() if suffix else (lambda path: path.stem,)),
        lambda path: path.name,
        *(() if suffix else (lambda path: f"{path.absolute().parent.name}/{path.stem}",)),
        lambda path: f"{path.absolute().parent.name}/{path.name}",
    )
    every = list(dict.fromkeys(paths))
    by_way = [{path: printable(way(path)) for path in every} for way in ways]
    groups: dict[str, list[Path]] = {}
    for path, name in by_way[0].items():
        groups.setdefault(name, []).append(path)
    names: dict[Path, str] = {}
    used: set[str] = set()
    for group in groups.values():
        way = next((w for w in by_way if _unique([w[path] for path in group], used)), by_way[-1])
        for path in group:
            name, number = way[path], 1
            while name in used:
                number += 1
                name = f"{way[path]} ({number})"
            used.add(name)
            names[path] = name
    return {path: names[path] for path in every}


def _unique(names: Sequence[str], used: set[str]) -> bool:
    return len({*names}) == len(names) and not used & {*names}


def folder_name(text: str, digest: str, *, suffix: str = "") -> str:
    """``text-digest`` as the name of a file or folder: printable, and short enough for a disk.

    Args:
        text: for people; `files.fitted` shortens it where the name would be too long.
        digest: what makes the name unique; kept whole.
        suffix: the longest suffix that will be added to the name.
    """
    return fitted(printable(text), f"-{digest}{suffix}").removesuffix(suffix)
