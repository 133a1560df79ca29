"""Spread items of work over processes of this machine. Losing a process costs time, not results."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any, Generic, TypeVar

import torch

from optistyle.machine import heap

#: How often an item is tried whose process dies.
ATTEMPTS = 3

Item = TypeVar("Item")
Result = TypeVar("Result")
#: Takes the share of an item that is done, in [0, 1].
Report = Callable[[float], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lost:
    """An item that ended every process which tried it, and why nothing came of it."""

    message: str


def lost(reason: str) -> Lost:
    """The result of an item whose process died `ATTEMPTS` times."""
    return Lost(
        f"its worker died {ATTEMPTS} times ({reason}); out of memory, perhaps: try fewer workers"
    )


def spread(
    perform: Callable[[Item, Report], Result],
    items: Sequence[Item],
    *,
    workers: int,
    threads: int,
) -> Iterator[tuple[Item, float | Result | Lost]]:
    """Perform every item in one of several processes, and yield whatever they report.

    A process that dies is replaced, and its item is tried again, `ATTEMPTS` times in all. The
    processes ignore Ctrl-C and SIGHUP, which are for the caller; they end when the iterator is
    closed and when the calling process ends, even by SIGKILL.

    On Linux the processes are forked from multiprocessing's fork server, which loads torch once: a
    process then starts in milliseconds, where a new interpreter needs 4 s of a processor, and all
    of them share the memory that the libraries take. Python has one fork server a process, and
    this function sets which modules it loads, unless the caller has started it before.

    Args:
        perform: a function of a module, which may raise nothing. It gets an item and a function
            that reports the share of it which is done.
        items: what to perform; each must be picklable, and so must its result.
        workers: how many processes, 1 or more; no more are started than there are items.
        threads: torch threads of each process.

    Yields:
        (item, share) at every report, with the share as a float; (item, result) once at its end,
        or (item, `Lost`).
    """
    waiting = deque((item, 1) for item in items)
    busy: dict[Connection, tuple[_Process, Item, int]] = {}
    idle: list[_Process] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                process = idle.pop() if idle else _Process(perform, threads)
                if process.start(waiting[0][0]):
                    busy[process.connection] = process, *waiting.popleft()
                else:
                    _log.warning("an idle worker was lost (exit code %s)", process.stop())
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                process, item, attempt = busy[connection]
                try:
                    news = connection.recv()
                except (EOFError, OSError):
                    del busy[connection]
                    reason = f"exit code {process.stop()}"
                    _log.warning("a worker was lost (%s), attempt %d of its item", reason, attempt)
                    if attempt < ATTEMPTS:
                        waiting.append((item, attempt + 1))
                    else:
                        yield item, lost(reason)
                    continue
                if not isinstance(news, float):
                    del busy[connection]
                    idle.append(process)
                yield item, news
    finally:
        for process in [*idle, *(process for process, _, _ in busy.values())]:
            process.stop()


class _Process(Generic[Item]):
    """A worker process, and this process's end of the pipe to it."""

    def __init__(self, perform: Callable[[Item, Report], Any], threads: int) -> None:
        context = _context()
        self.connection, theirs = context.Pipe()
        arguments = perform, theirs, threads, dict(os.environ)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the worker closes the pipe

    def start(self, item: Item) -> bool:
        """Send an item; False where the process is dead."""
        try:
            self.connection.send(item)
        except OSError:
            return False
        return True

    def stop(self) -> int | None:
        self.connection.close()
        self._process.terminate()
        self._process.join()
        return self._process.exitcode


def _context() -> SpawnContext | ForkServerContext:
    """How processes start. Never by a fork of this one, whose threads of torch would be missing."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # It imports modules and computes nothing: it has no threads, and CUDA is not initialised.
    context.set_forkserver_preload(["optistyle.experiments.work"])
    return context


def _serve(
    perform: Callable[[Item, Report], object],
    connection: Connection,
    threads: int,
    environment: Mapping[str, str],
) -> None:
    """Receive items; send shares and one result for each; until the pipe is closed."""
    for name in ("SIGINT", "SIGHUP"):  # the caller decides, and ends this process
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # The fork server's is of the time when it started.
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(threads)
    heap.keep()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            connection.send(perform(connection.recv(), connection.send))
