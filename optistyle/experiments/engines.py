"""Where jobs run: processes of this machine, or a Ray cluster. Both survive the loss of a worker.

An engine is a function of jobs that yields an `Event` whenever there is news. Workers hand back
bytes and write nothing; only the process that started the sweep does.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import itertools
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from optistyle.errors import InputError
from optistyle.experiments.grid import FILES, Job
from optistyle.experiments.work import Failure, Outcome, Worker
from optistyle.files import digest, write_whole
from optistyle.recipes import changed

#: How often a job is tried whose worker dies.
ATTEMPTS = 3
#: Seconds in which a Ray cluster must answer.
PATIENCE = 20.0


@dataclass(frozen=True)
class Event:
    """News of a job: the share of it that is done, or how it ended."""

    job: Job
    news: float | Outcome | Failure


Engine = Callable[[Sequence[Job]], Iterator[Event]]


def local(workers: int | None = None, threads: int | None = None) -> Engine:
    """Processes of this machine.

    Args:
        workers: how many; by default one per processor, or one where there is a GPU.
        threads: of each; by default the processors divided by the workers, so that they do not
            fight for them.
    """
    processors = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # of these, the ones that we may use
        processors = len(os.sched_getaffinity(0))
    if workers is None:
        workers = 1 if torch.cuda.is_available() else processors
    for name, number in (("workers", workers), ("threads", 1 if threads is None else threads)):
        if number < 1:
            raise InputError(f"{name} is {number}; it must be 1 or more")

    def run(jobs: Sequence[Job]) -> Iterator[Event]:
        count = min(workers, len(jobs))
        share = threads or max(1, processors // max(1, count))
        waiting = deque((job, 1) for job in jobs)
        busy: dict[Connection, tuple[_Process, Job, int]] = {}
        idle: list[_Process] = []
        try:
            while waiting or busy:
                while waiting and len(busy) < count:
                    process = idle.pop() if idle else _Process(share)
                    job, attempt = waiting.popleft()
                    process.connection.send(job)
                    busy[process.connection] = process, job, attempt
                for connection in wait(list(busy)):
                    assert isinstance(connection, Connection)
                    process, job, attempt = busy[connection]
                    try:
                        news = connection.recv()
                    except (EOFError, OSError):
                        del busy[connection]
                        code = process.stop()
                        if attempt < ATTEMPTS:
                            waiting.append((job, attempt + 1))
                        else:
                            yield Event(job, Failure(_lost(attempt, f"exit code {code}")))
                        continue
                    if not isinstance(news, float):
                        del busy[connection]
                        idle.append(process)
                    yield Event(job, news)
        finally:
            for process in [*idle, *(process for process, _, _ in busy.values())]:
                process.stop()

    return run


def _lost(attempts: int, how: str) -> str:
    return f"its worker died {attempts} times ({how}); out of memory, perhaps: try fewer workers"


class _Process:
    """A worker in a process of its own, and our end of the line to it."""

    def __init__(self, threads: int) -> None:
        # Spawned, not forked: a fork would inherit torch's threads in an unknown state.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, threads), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is noticed at ours

    def stop(self) -> int | None:
        self.connection.close()
        self._process.terminate()
        self._process.join()
        return self._process.exitcode


def _serve(connection: Connection, threads: int) -> None:
    """Jobs in; shares, and an outcome or a failure each, out; until the line is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started us
    torch.set_num_threads(threads)
    worker = Worker()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            connection.send(worker.attempt(connection.recv(), connection.send))


def ray(address: str | None = None, *, threads: int = 1, gpus: float | None = None) -> Engine:
    """A Ray cluster. Pictures travel with the jobs: machines need not share a disk.

    Args:
        address: ``host:port``, ``ray://host:port`` or ``auto`` (the cluster of this machine, or of
            RAY_ADDRESS); None starts one here, and stops it at the end.
        threads: processors that each job takes.
        gpus: that each job takes, 0.5 to let two share one; by default 1 where the cluster has any.

    Raises:
        InputError: Ray is not installed, or the address does not answer.
    """
    try:
        import ray as library
        from ray.util.queue import Empty, Queue
    except ImportError as error:
        raise InputError('--engine ray needs Ray: pip install "optistyle[ray]"') from error
    if threads < 1 or (gpus is not None and gpus < 0):
        raise InputError(f"threads is {threads} and gpus {gpus}; allowed: 1 or more, 0 or more")

    def run(jobs: Sequence[Job]) -> Iterator[Event]:
        started = not library.is_initialized()
        if started:
            _connect(library, address)
        try:
            wanted = gpus
            if wanted is None:
                wanted = 1.0 if library.cluster_resources().get("GPU", 0) else 0.0
            news = Queue(actor_options={"num_cpus": 0})
            # Ray ends a worker after one job on a GPU unless max_calls is 0.
            remote = library.remote(
                num_cpus=threads, num_gpus=wanted, max_retries=ATTEMPTS - 1, max_calls=0
            )(_on_cluster)
            paths = dict(itertools.chain.from_iterable(job.digests.items() for job in jobs))
            files = {sha: library.put(path.read_bytes()) for path, sha in paths.items()}
            pending = {}
            for index, job in enumerate(jobs):
                own = {sha: files[sha] for sha in job.digests.values()}
                pending[remote.remote(index, job, list(own), threads, news, *own.values())] = job
            while pending:
                ready, _ = library.wait(list(pending), num_returns=1, timeout=0.5)
                with contextlib.suppress(Empty):
                    for index, share in news.get_nowait_batch(news.qsize()):
                        yield Event(jobs[index], share)
                for reference in ready:
                    job = pending.pop(reference)
                    try:
                        yield Event(job, library.get(reference))
                    except library.exceptions.RayError as error:
                        reason = str(error).strip().splitlines()[0]
                        yield Event(job, Failure(_lost(ATTEMPTS, reason)))
        finally:
            if started:
                library.shutdown()

    return run


def _connect(library: Any, address: str | None) -> None:
    """Join or start a cluster, or say within `PATIENCE` seconds that it does not answer."""
    if address not in (None, "auto"):
        host, _, port = str(address).removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=PATIENCE / 2).close()
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Ray cluster answers at {address} ({error}); give host:port of a running one, "
                "'auto', or no address to start one here"
            ) from error
    failed: list[BaseException] = []
    own: dict[str, Any] = {"include_dashboard": False} if address is None else {}

    def join() -> None:
        try:
            library.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
        except BaseException as error:  # told below
            failed.append(error)

    if address is None:
        join()  # starting one may take longer than a cluster takes to answer
        if failed:
            raise InputError(f"Ray cannot be started here: {failed[0]}") from failed[0]
        return
    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(PATIENCE / 2)
    if thread.is_alive() or failed:
        reason = str(failed[0]).strip().splitlines()[0] if failed else "no answer"
        raise InputError(f"no Ray cluster answers at {address}: {reason}")


@functools.cache
def _worker() -> Worker:
    """This process's own, kept from job to job."""
    return Worker()


def _on_cluster(
    index: int, job: Job, names: Sequence[str], threads: int, news: Any, *contents: bytes
) -> Outcome | Failure:
    """One job in a Ray worker, which keeps its encoder for the next one."""
    torch.set_num_threads(threads)
    here = _unpacked(job, dict(zip(names, contents, strict=True)))
    outcome = _worker().attempt(here, lambda share: news.put((index, share)))
    if isinstance(outcome, Outcome):
        manifest = dict(outcome.manifest)
        manifest["inputs"] = _renamed(manifest["inputs"], job)
        manifest["recipe"] = {
            **manifest["recipe"],
            **{name: getattr(job.recipe, name) for name in FILES},
        }
        return replace(outcome, manifest=manifest)
    return outcome


def _unpacked(job: Job, contents: Mapping[str, bytes]) -> Job:
    """The job with its files on this machine: where they are, or unpacked from what came along."""
    folder = Path(tempfile.gettempdir()) / f"optistyle-{getpass.getuser()}"

    def located(path: Path) -> Path:
        sha = job.digests[path]
        if path.is_file() and digest(path) == sha:
            return path
        copy = folder / f"{sha}{path.suffix}"
        if not copy.is_file():
            folder.mkdir(mode=0o700, exist_ok=True)
            write_whole(copy, contents[sha])
        return copy

    new = {path: located(path) for path in job.digests}
    named = {
        name: str(new[Path(value)])
        for name in FILES
        if (value := getattr(job.recipe, name)) and Path(value) in new
    }
    return replace(
        job,
        content=new[job.content],
        styles=tuple(new[style] for style in job.styles),
        recipe=changed(job.recipe, named),
        digests={new[path]: sha for path, sha in job.digests.items()},
    )


def _renamed(inputs: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """A manifest's inputs under the names they have where the sweep was started."""

    def entry(path: Path) -> dict[str, str]:
        return {"path": str(path.resolve()), "sha256": job.digests[path]}

    named = [name for name in FILES if name in inputs]
    files = {name: entry(Path(getattr(job.recipe, name))) for name in named}
    return {"content": entry(job.content), "styles": [entry(s) for s in job.styles], **files}
