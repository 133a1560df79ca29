"""CUDA graphs: a GPU is given a function of an image as a whole, not kernel by kernel.

A graph cannot hold anything that waits for the GPU, such as reading losses. Nor does it hold the
solver, whose history grows and turns with the steps: the GPU gets the solver's step while it is
still busy with the gradient.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], tuple[Tensor, ...]]


class Replayed:
    """A function of images of one shape on one GPU, recorded and replayed.

    The first call rehearses, the second records, and later calls replay the record. All other
    tensors that the function reads must stay where they are. A function that waits for the GPU, or
    does what a graph cannot hold, is called as it is. The record has its own memory, as much as the
    function takes, until this object is dropped.
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


#: torch keeps for the whole process whether waiting is an error: one thread at a time forbids it.
_rehearsing = threading.Lock()


def rehearse(function: Function, image: Tensor) -> tuple[Tensor, ...]:
    """Call a function once, and find out that it does not wait for the GPU.

    Libraries are ready for a record afterwards. Meanwhile no thread of the process may wait for a
    GPU: torch has no such check for a single thread.

    Raises:
        RuntimeError: the function waits. In the middle of a record it would be too late: torch's
            allocator would not recover.
    """
    side, current = _side(image.device), torch.cuda.current_stream(image.device)
    side.wait_stream(current)
    with torch.cuda.stream(side), _rehearsing:
        before = torch.cuda.get_sync_debug_mode()
        _hush()
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = function(image)
        finally:
            torch.cuda.set_sync_debug_mode(before)
    current.wait_stream(side)
    return tuple(x.clone() for x in found)


def record(function: Function, place: Tensor) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """Record a function of the tensor ``place``.

    Returns:
        A function that replays the record, and the results, which every replay overwrites.
    """
    graph = torch.cuda.CUDAGraph()
    # Other threads may wait for the GPU in the meantime: those that write snapshots do.
    with torch.cuda.graph(graph, stream=_side(place.device), capture_error_mode="thread_local"):
        results = function(place)
    return graph.replay, results


@functools.cache
def _side(device: torch.device) -> torch.cuda.Stream:
    """Where graphs of a device are made: one, for libraries keep workspaces for every stream."""
    return torch.cuda.Stream(device)


@functools.cache
def _hush() -> None:
    """Let torch say once, unheard, that its check for waiting is a prototype; it does so once.

    Filters of warnings are the whole process's: they are changed this one time only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode(torch.cuda.get_sync_debug_mode())


@functools.cache
def _say(line: str) -> None:
    """Once, however many scales a run has."""
    warnings.warn(line, stacklevel=2)
