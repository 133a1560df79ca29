"""The ranks that torchrun starts, over `torch.distributed`; for the command line.

The command line enters `group` and passes what it yields to the run. The functions `leads`, `lost`,
`leave` and `end` concern this process as a whole: what it prints and how it exits.

Ranks fail, and the others must not hang on a dead one. Every rank increments a counter in the store
that torchrun keeps, twice a second. A rank that waits for others watches these counters: it waits
as long as they grow, and gives up on a rank whose counter stands still.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from optistyle.errors import InputError
from optistyle.machine.ranks import ALONE, Item, Key, LostError, Ranks

if TYPE_CHECKING:  # the command line asks who it is before torch is needed
    import torch
    from torch import Tensor

#: Seconds between two pulses, and without any after which a rank counts as gone where there is
#: reason to think so.
_PULSE, _STILL = 0.5, 3.0
#: Seconds that a failing rank waits to be heard before it exits: torchrun ends all others with it.
_HEARD = 5.0
#: Slow ranks are waited for by torch as well; who is gone, the pulses tell.
_PATIENCE = timedelta(days=7)
#: What a rank leaves that was interrupted.
_INTERRUPTED = "interrupted"


def several() -> bool:
    """Whether torchrun has started this process as one of several."""
    size, own = (os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK"))
    return size.isdecimal() and own.isdecimal() and int(size) > 1


def leads() -> bool:
    """Whether this rank writes and speaks: rank 0, or where it was lost the first one left."""
    if _group:
        return _group.rank == _group.first
    return not several() or os.environ["RANK"] == "0"


def lost() -> bool:
    """Whether the group has come apart, and nothing can be shared any more."""
    return _group is not None and _group.over


def leave(reason: str = "") -> None:
    """End this rank's part: no more sharing. A reason ends the others too, and is told."""
    if _group:
        _group.leave(reason)


def interrupt() -> None:
    """End this rank's part, and the others', as Ctrl-C does."""
    leave(_INTERRUPTED)


@contextlib.contextmanager
def group(device: str = "auto", timeout: float = 60.0) -> Iterator[Ranks]:
    """Join the ranks that torchrun has started; `ranks.ALONE` where it has not.

    On CPUs by gloo; on GPUs, one each, by NCCL.

    Args:
        device: as in `recipes.Recipe`.
        timeout: seconds without a heartbeat after which a rank counts as lost, also at the start.

    Raises:
        InputError: a device that ranks cannot share.
        LostError: a rank did not come; or inside, from whatever is shared, one went.
    """
    global _group
    if not several():
        yield ALONE
        return
    if not (math.isfinite(timeout) and timeout > 0):
        raise InputError(f"--rank-timeout is {timeout:g} seconds; it must be more than 0")
    if _group:
        raise RuntimeError("this process is in a group of ranks already")
    _group = _Group(device, timeout)
    try:
        yield _group
        _group.leave()
    except LostError:
        raise
    except (KeyboardInterrupt, SystemExit):
        _group.leave(_INTERRUPTED)
        raise
    except BaseException as error:
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        _group.leave(" ".join(text.split()))
        raise
    finally:
        _group.restore()
        if not _group.over:
            _group = None


def end(code: int) -> NoReturn:
    """Exit, as a process among several does.

    A rank that fails lets rank 0 say so first, for torchrun ends all as soon as one has ended. And
    what libraries wait for at an exit never comes in a group that has come apart.
    """
    if code and not leads():
        if _group:
            _group.be_heard()
        else:
            time.sleep(_HEARD)
    sys.stdout.flush()
    sys.stderr.flush()
    if lost():
        os._exit(code)
    sys.exit(code)


class _Group:
    """This process among the others.

    Attributes:
        rank, count: which of how many.
        first: the one that speaks.
        over: whether it ended before its time.
    """

    def __init__(self, device: str, timeout: float) -> None:
        import torch.distributed as dist

        self._dist = dist
        self.rank, self.count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.first, self.over, self._left, self._said = 0, False, False, 0
        self._timeout, self._terminated = timeout, signal.getsignal(signal.SIGTERM)
        try:
            self._meet(device)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise LostError(
                f"the {self.count} ranks did not meet within {timeout:g} s ({_line(error)})"
            ) from error

    def _meet(self, device: str) -> None:
        from torch.distributed.rendezvous import rendezvous

        dist, timeout = self._dist, timedelta(seconds=self._timeout)
        store, *_ = next(iter(rendezvous("env://", timeout=timeout)))
        self._store = dist.PrefixStore("optistyle", store)
        threading.Thread(target=self._live, daemon=True).start()
        self._on_terminate(self._terminate)
        try:
            gpu = _place(device)
        except InputError as error:
            self.leave(str(error))
            raise
        self._wait(lambda: all(map(self._pulse, self._others)), "did not come")
        dist.init_process_group(
            "nccl" if gpu else "gloo",
            store=dist.PrefixStore("torch", store),
            rank=self.rank,
            world_size=self.count,
            timeout=_PATIENCE,
            device_id=gpu,
        )

    @property
    def _others(self) -> list[int]:
        return [other for other in range(self.count) if other != self.rank]

    # --- sharing ---

    @property
    def lost(self) -> bool:
        return self.over

    @property
    def neighbours(self) -> int:
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        return items[self.rank :: self.count]

    def joined(self, parts: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
        import torch

        whole: dict[Key, Tensor] = {}
        # In an order that is the same everywhere: that of sets of names differs by process.
        names = sorted(parts)
        for kind in sorted({x.dtype for x in parts.values()}, key=str):
            own = {name: parts[name].detach() for name in names if parts[name].dtype == kind}
            flat = [x.contiguous().flatten() for x in own.values()]
            buffer = flat[0] if len(flat) == 1 else torch.cat(flat)
            self._reduce(buffer)
            sizes = [x.numel() for x in own.values()]
            for (name, x), found in zip(own.items(), buffer.split(sizes), strict=True):
                whole[name] = found.view(x.shape)
        return {name: whole[name] for name in parts}

    def _reduce(self, buffer: Tensor) -> None:
        try:
            work = self._dist.all_reduce(buffer, async_op=True)
            assert work is not None
            self._wait(work.is_completed)
            work.wait()
        except RuntimeError as error:
            raise self._loss(f"the ranks lost one another ({_line(error)})") from error

    def gathered(self, value: Any) -> list[Any]:
        self._said += 1
        said, read = (
            [f"{word}/{self._said}/{other}" for other in range(self.count)]
            for word in ("said", "read")
        )
        with self._storing():
            self._store.set(said[self.rank], json.dumps(value))
        self._wait(lambda: self._store.check(said))
        with self._storing():
            values = [json.loads(self._store.get(key)) for key in said]
            self._store.set(read[self.rank], "")
        if not self.rank:  # which may keep the store, and end because of what it read
            self._wait(lambda: self._store.check(read))
        return values

    # --- failing ---

    def _live(self) -> None:
        with contextlib.suppress(RuntimeError):  # the store is gone: others will notice
            while not self._left:
                self._store.add(f"pulse/{self.rank}", 1)
                time.sleep(_PULSE)

    def _pulse(self, other: int) -> int:
        return self._store.add(f"pulse/{other}", 0)

    def _word(self, other: int) -> str:
        """Why a rank left; nothing where it did not."""
        key = f"left/{other}"
        return self._store.get(key).decode() if self._store.check([key]) else ""

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        """Whoever keeps the store is gone where it does not answer: torchrun, or rank 0."""
        try:
            yield
        except RuntimeError as error:
            if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" or not self.rank:
                raise self._gone([], "torchrun was lost") from error
            raise self._gone([0], "rank 0 was lost") from error

    def _wait(self, done: Callable[[], bool], silence: str = "gave no sign") -> None:
        """Until done, or until a rank is gone."""
        pause, looked = 1e-5, time.monotonic()
        seen: dict[int, tuple[int, float]] = {}
        while True:
            with self._storing():
                if done():
                    return
            time.sleep(pause)
            pause = min(1.5 * pause, 2e-3)
            now = time.monotonic()
            if now - looked < 2 * _PULSE:
                continue
            looked = now
            with self._storing():
                if any(self._word(other) for other in self._others):
                    raise self._loss("")
                for other in self._others:
                    pulse = self._pulse(other)
                    if other not in seen or seen[other][0] != pulse:
                        seen[other] = pulse, now
                silent = [x for x, (_, when) in seen.items() if now - when > self._timeout]
            if silent:
                line = f"{_ranks(silent)} {silence} for {self._timeout:g} s"
                raise self._gone(silent, line)

    def _loss(self, otherwise: str) -> LostError:
        """Who is gone: who has left a word, or who is still for long and has not noticed either."""
        self._on_terminate(signal.SIG_IGN)
        with self._storing():
            self._store.set(f"noticed/{self.rank}", "")
            before, began = {x: self._pulse(x) for x in self._others}, time.monotonic()
            while True:
                for other in self._others:
                    if word := self._word(other):
                        if word == _INTERRUPTED:
                            self.over = True
                            raise KeyboardInterrupt
                        return self._gone([], f"rank {other} failed: {word}")
                still = [x for x in self._others if self._pulse(x) == before[x]]
                if not still or time.monotonic() - began > _STILL:
                    break
                time.sleep(0.1)
            gone = [x for x in still if not self._store.check([f"noticed/{x}"])]
        were = "was" if len(gone) == 1 else "were"
        return self._gone(gone, f"{_ranks(gone)} {were} lost" if gone else otherwise)

    def _gone(self, gone: Sequence[int], line: str) -> LostError:
        self._on_terminate(signal.SIG_IGN)
        self.over = True
        self.first = min(x for x in range(self.count) if x not in gone)
        return LostError(line)

    def _terminate(self, *_: object) -> None:
        raise self._loss("the run was told to end (SIGTERM)")

    def leave(self, reason: str = "") -> None:
        if self._left:
            return
        self._left = True
        if reason and not self.over:
            self.over = True
            with contextlib.suppress(RuntimeError):
                self._store.set(f"left/{self.rank}", reason)
                self._store.set(f"noticed/{self.rank}", "")
        self._on_terminate(signal.SIG_IGN)  # what is left to do is to write
        if not self.over:
            self._dist.destroy_process_group()

    def _on_terminate(self, handler: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)

    def be_heard(self) -> None:
        began = time.monotonic()
        with contextlib.suppress(RuntimeError):
            while time.monotonic() - began < _HEARD and not self._store.check(["noticed/0"]):
                time.sleep(0.1)

    def restore(self) -> None:
        self._left = True
        if not self.over:
            self._on_terminate(self._terminated)


_group: _Group | None = None


def _place(device: str) -> torch.device | None:
    """This rank's GPU, from now on what ``cuda`` means; None for the CPU."""
    import torch

    from optistyle.machine import devices

    if ":" in device:
        raise InputError(f"device {device!r}: every rank has a GPU of its own; give --device cuda")
    kind = devices.resolve(device).type
    if kind == "cpu":
        return None
    if kind != "cuda":
        raise InputError(f"device {kind!r} cannot be shared by ranks; give --device cpu")
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        raise InputError(
            f"there is no GPU for every rank: {there} here; give --nproc-per-node {there}"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _ranks(them: Sequence[int]) -> str:
    names = " and ".join(map(str, them))
    return f"rank {names}" if len(them) == 1 else f"ranks {names}"


def _line(error: BaseException) -> str:
    return str(error).split("\n")[0].strip()
