"""Ranks: processes that share one picture.

Every rank runs the same program on the same inputs. It evaluates its share of the tiles only; sums
and gradients are added up over all ranks, so that every rank takes the same steps on the same
picture. A run is given its ranks: `ALONE`, or what `torchrun.group` yields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from optistyle.errors import InputError

if TYPE_CHECKING:  # the command line asks who it is before it needs torch
    from torch import Tensor

Item = TypeVar("Item")
Key = TypeVar("Key", str, tuple[str, str])


class LostError(Exception):
    """A rank is gone, and the run with it: one line that names the rank.

    It is no RuntimeError, so that nobody takes another rank's failure for a lack of memory here.
    """


class Ranks(Protocol):
    """This process among those that share a picture."""

    @property
    def rank(self) -> int:
        """Which one this is, from 0."""
        ...

    @property
    def count(self) -> int:
        """How many share the picture."""
        ...

    @property
    def lost(self) -> bool:
        """Whether the group has come apart, so that nothing can be shared any more."""
        ...

    @property
    def neighbours(self) -> int:
        """How many of them share this machine's memory, this one included."""
        ...

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's part of the items: every ``count``-th."""
        ...

    def joined(self, parts: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
        """The sums of tensors over all ranks, name by name, without derivatives.

        Names, shapes and types are the same on every rank; the order of names may differ. The
        parts may be overwritten. There is one collective for every type: sums in float64 stay so.
        """
        ...

    def gathered(self, value: Any) -> list[Any]:
        """A JSON value of every rank, by rank."""
        ...


class Alone:
    """One process that shares nothing."""

    rank, count, lost, neighbours = 0, 1, False, 1

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        return items

    def joined(self, parts: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
        return dict(parts)

    def gathered(self, value: Any) -> list[Any]:
        return [value]


ALONE: Ranks = Alone()


def match(ranks: Ranks, record: Mapping[str, Any]) -> None:
    """Raise `InputError`, on every rank, where a named JSON value is not the same on all."""
    first, *others = ranks.gathered(record)
    for other, theirs in enumerate(others, 1):
        names = [x for x in {**first, **theirs} if first.get(x) != theirs.get(x)]
        if names:
            raise InputError(
                f"ranks do not match: rank {other} differs from rank 0 in {', '.join(names)}; "
                "start all with the same command, inputs and versions"
            )
