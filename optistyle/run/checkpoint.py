"""Where a run stands between two steps, in memory and in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optistyle.errors import InputError
from optistyle.files import fitted
from optistyle.optimise.scale import Progress
from optistyle.optimise.solvers import State

#: One evaluation: scale (from 0), iteration (from 1), and the weighted losses by name.
TraceRow = dict[str, float]


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands between two steps: all that it needs to go on from there.

    Attributes:
        scale: which one, from 0.
        progress: the optimisation's state at this scale.
        trace: all evaluations so far.
        seconds: of computing so far, by scale, over resumptions.
        warnings: a line for every divergence so far.
        retunes: the changes of weights so far, see `Run.retune`.
        threads: of this process, with which sums round as they do.
    """

    scale: int
    progress: Progress
    trace: tuple[TraceRow, ...] = ()
    seconds: tuple[float, ...] = (0.0,)
    warnings: tuple[str, ...] = ()
    retunes: tuple[Mapping[str, Any], ...] = ()
    threads: int = field(default_factory=torch.get_num_threads)

    def save(self, path: Path, identity: str) -> None:
        """Write a file, whole or not at all, of tensors and plain values only.

        Args:
            path: the file.
            identity: a text that stands for the run's inputs and settings.

        Raises:
            InputError: the disk refuses.
        """
        content = {
            **vars(self),
            "progress": {**vars(self.progress), "state": _compact(self.progress.state)},
            "retunes": [dict(retune) for retune in self.retunes],
            "identity": identity,
        }
        part = _part(path)
        try:
            try:
                torch.save(content, part)
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # torch has its own words for a full disk
            reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
            raise InputError(f"the checkpoint {path} cannot be written: {reason}") from error

    @staticmethod
    def discard(path: Path) -> None:
        """Remove a file that `save` wrote, and what a killed process may have left of one."""
        path.unlink(missing_ok=True)
        _part(path).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, identity: str, device: torch.device) -> Checkpoint:
        """Read a file that `save` wrote.

        To go on to the same bytes, compute with as many ``threads`` as it says: sums in another
        order round differently.

        Raises:
            InputError: it cannot be read, is damaged, or is of another run.
        """
        try:
            content = torch.load(path, weights_only=True, map_location=device)
            written = content.pop("identity")
            progress = content.pop("progress")
            progress["state"] = State(progress["state"])
            content["retunes"] = tuple(content["retunes"])
            checkpoint = cls(progress=Progress(**progress), **content)
        except Exception as error:  # whatever torch finds wrong with it
            raise InputError(
                f"{path} is not a checkpoint that can be read; delete it to start over"
            ) from error
        if written != identity:
            raise InputError(
                f"the checkpoint {path} is of a run with other inputs or settings, or of another "
                "version of optistyle; repeat those, or delete it to start over"
            )
        return checkpoint


def _part(path: Path) -> Path:
    return path.with_name(fitted(path.name, ".part"))


def _compact(state: State) -> dict[str, Any]:
    """The state without the memory that its tensors are parts of, which torch.save would write."""
    return {
        name: value.clone()
        if isinstance(value, Tensor) and value.nbytes < value.untyped_storage().nbytes()
        else value
        for name, value in state.items()
    }
