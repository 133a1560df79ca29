"""CUDA graphs: a function of an image that a GPU is given as a whole, not kernel by kernel.

What waits for the GPU cannot be in one: reading losses. The solver is not either: its history grows
and turns with the steps. The GPU is given its step while it is still busy with the gradient.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], tuple[Tensor, ...]]


class Replayed:
    """A function of images of one shape, all on one GPU; nothing else of what it reads may move.

    The first call rehearses, the second records, and from then on the record is replayed. A
    function that waits for the GPU, or does what a graph cannot hold, is called as it is. The
    record has memory of its own, as much as the function takes, until this object is dropped.
    """

    def __init__(self, function: Function) -> None:
        self._function, self._rehearsed = function, False
        self._ready: Function | None = None

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        if self._ready is None:
            try:
                if not self._rehearsed:
                    found = rehearse(self._function, image)
                    self._rehearsed = True
                    return found
                self._ready = _replaying(self._function, image.clone())
            except RuntimeError as error:
                why, *_ = str(error).split("\n")
                _say(f"without a CUDA graph, which is slower: {why}")
                self._ready = self._function
        return self._ready(image)


def _replaying(function: Function, place: Tensor) -> Function:
    """The recorded function: images are put in place, and results are copied from theirs."""
    replay, results = record(function, place)

    def call(image: Tensor) -> tuple[Tensor, ...]:
        place.copy_(image)
        replay()
        return tuple(x.clone() for x in results)

    return call


def rehearse(function: Function, image: Tensor) -> tuple[Tensor, ...]:
    """The results, where the function does not wait for the GPU; libraries are ready afterwards.

    Raises:
        RuntimeError: it waits. Found out in the middle of a record, torch's allocator would not
            recover.
    """
    side, current = _side(image.device), torch.cuda.current_stream(image.device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        before = torch.cuda.get_sync_debug_mode()
        _forbid_waiting("error")
        try:
            found = function(image)
        finally:
            _forbid_waiting(before)
    current.wait_stream(side)
    return tuple(x.clone() for x in found)


def record(function: Function, place: Tensor) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """What repeats the function of whatever is in ``place``, and its results, written anew each
    time."""
    graph = torch.cuda.CUDAGraph()
    # Other threads may wait for the GPU in the meantime: those that write snapshots do.
    with torch.cuda.graph(graph, stream=_side(place.device), capture_error_mode="thread_local"):
        results = function(place)
    return graph.replay, results


@functools.cache
def _side(device: torch.device) -> torch.cuda.Stream:
    """Where graphs of a device are made: one, for libraries keep workspaces for every stream."""
    return torch.cuda.Stream(device)


def _forbid_waiting(mode: int | str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is said to be a prototype
        torch.cuda.set_sync_debug_mode(mode)


@functools.cache
def _say(line: str) -> None:
    """Once, however many scales a run has."""
    warnings.warn(line, stacklevel=2)
