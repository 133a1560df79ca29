"""Where jobs run: processes of this machine, or a Ray cluster. Both survive the loss of a worker.

An engine is a function that takes jobs and yields an `Event` for each change of a job's state.
Workers return bytes and write no files; the process that started the sweep writes them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from optistyle.errors import InputError
from optistyle.experiments import processes
from optistyle.experiments.grid import FILES, Job
from optistyle.experiments.processes import ATTEMPTS, Lost, lost
from optistyle.experiments.work import Failure, Outcome, attempt
from optistyle.files import digest, write_whole
from optistyle.machine import heap
from optistyle.recipes import changed

#: Seconds in which a Ray cluster must answer.
PATIENCE = 20.0


@dataclass(frozen=True)
class Event:
    """What a job reports: the share of it that is done, its outcome or its failure."""

    job: Job
    news: float | Outcome | Failure


Engine = Callable[[Sequence[Job]], Iterator[Event]]

_log = logging.getLogger(__name__)


def local(workers: int | None = None, threads: int | None = None) -> Engine:
    """Run jobs in processes of this machine.

    Args:
        workers: how many processes, 1 or more; by default one per processor, or one where there is
            a GPU.
        threads: torch threads of each, 1 or more; by default the processors divided by the
            workers, so that they do not compete for processors.

    Raises:
        InputError: a number below 1.
    """
    processors = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # only those that this process may use
        processors = len(os.sched_getaffinity(0))
    if workers is None:
        workers = 1 if torch.cuda.is_available() else processors
    for name, number in (("workers", workers), ("threads", 1 if threads is None else threads)):
        if number < 1:
            raise InputError(f"{name} is {number}; give 1 or more")

    def run(jobs: Sequence[Job]) -> Iterator[Event]:
        count = min(workers, len(jobs))
        share = threads or max(1, processors // max(1, count))
        for job, news in processes.spread(attempt, jobs, workers=count, threads=share):
            yield Event(job, Failure(news.message) if isinstance(news, Lost) else news)

    return run


def ray(address: str | None = None, *, threads: int = 1, gpus: float | None = None) -> Engine:
    """Run jobs on a Ray cluster. Pictures travel with the jobs: machines need not share a disk.

    Args:
        address: ``host:port``, ``ray://host:port`` or ``auto`` (the cluster of this machine, or of
            RAY_ADDRESS); None starts a cluster on this machine, and stops it at the end.
        threads: processors of each job, 1 or more.
        gpus: GPUs of each job, 0 or more; 0.5 lets two jobs share one. By default 1 where the
            cluster has any.

    Raises:
        InputError: Ray is not installed, or a number out of range; and, when the engine is used,
            an address that does not answer.
    """
    try:
        import ray as library
    except ImportError as error:
        raise InputError('--engine ray needs Ray: pip install "optistyle[ray]"') from error
    if threads < 1 or (gpus is not None and gpus < 0):
        raise InputError(
            f"threads is {threads} and gpus {gpus}; give 1 thread or more, and 0 GPUs or more"
        )

    def run(jobs: Sequence[Job]) -> Iterator[Event]:
        started = not library.is_initialized()
        if started:
            _connect(library, address)
        try:
            yield from _run_on_cluster(library, jobs, threads, gpus)
        finally:
            if started:
                library.shutdown()

    return run


def _connect(library: Any, address: str | None) -> None:
    """Join or start a cluster; `InputError` where none answers within `PATIENCE` seconds."""
    if address is None:  # starting a cluster may take longer than one takes to answer
        try:
            library.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            raise InputError(f"Ray cannot be started here: {_first_line(error)}") from error
        return
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=PATIENCE / 2).close()
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Ray cluster answers at {address} ({error}); give host:port of a running one, "
                "'auto', or no address to start one here"
            ) from error
    failed: list[BaseException] = []

    def join() -> None:
        try:
            library.init(address=address, log_to_driver=False, logging_level="ERROR")
        except BaseException as error:  # raised in the calling thread, below
            failed.append(error)

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(PATIENCE / 2)
    if thread.is_alive() or failed:
        reason = _first_line(failed[0]) if failed else "no answer"
        raise InputError(f"no Ray cluster answers at {address}: {reason}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _run_on_cluster(
    library: Any, jobs: Sequence[Job], threads: int, gpus: float | None
) -> Iterator[Event]:
    from ray.util.queue import Empty, Queue

    if gpus is None:
        gpus = 1.0 if library.cluster_resources().get("GPU", 0) else 0.0
    news = Queue(actor_options={"num_cpus": 0})
    # Ray ends a worker after one job on a GPU unless max_calls is 0.
    remote = library.remote(num_cpus=threads, num_gpus=gpus, max_retries=ATTEMPTS - 1, max_calls=0)(
        _on_cluster
    )
    stored: dict[str, Any] = {}
    pending = {}
    for index, job in enumerate(jobs):
        try:
            for path, sha in job.digests.items():
                if sha not in stored:
                    stored[sha] = library.put(path.read_bytes())
        except OSError as error:
            yield Event(job, Failure(f"{error.filename} cannot be read: {error.strerror or error}"))
            continue
        files = {sha: stored[sha] for sha in job.digests.values()}
        pending[remote.remote(index, job, list(files), threads, news, *files.values())] = job
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
                _log.warning("%s was lost on the cluster: %s", job.folder, _first_line(error))
                yield Event(job, Failure(lost(_first_line(error)).message))


def _on_cluster(
    index: int, job: Job, names: Sequence[str], threads: int, news: Any, *contents: bytes
) -> Outcome | Failure:
    """One job in a Ray worker."""
    torch.set_num_threads(threads)
    heap.keep()
    try:
        here = _unpacked(job, dict(zip(names, contents, strict=True)))
    except OSError as error:
        return Failure(f"its files cannot be unpacked: {error}")
    outcome = attempt(here, lambda share: news.put((index, share)))
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
    """The job with files of this machine: the same paths, or copies in a folder of the user's.

    Args:
        contents: SHA-256 -> bytes, of all files of the job.
    """
    # The user's number and not its name: in a container it may have none.
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir()) / f"optistyle{user}"

    def located(path: Path) -> Path:
        sha = job.digests[path]
        copy = folder / f"{sha}{path.suffix}"
        for there in (path, copy):
            if there.is_file() and digest(there) == sha:
                return there
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
    """A manifest's inputs, under their paths on the machine where the sweep was started."""

    def entry(path: Path) -> dict[str, str]:
        return {"path": str(path.resolve()), "sha256": job.digests[path]}

    named = [name for name in FILES if name in inputs]
    files = {name: entry(Path(getattr(job.recipe, name))) for name in named}
    return {"content": entry(job.content), "styles": [entry(s) for s in job.styles], **files}
