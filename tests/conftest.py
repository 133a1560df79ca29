"""A tiny, seeded encoder, small pictures, and processes that start fast.

The tests run in one process per processor (pytest-xdist). Every process has one torch thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interpreters import Interpreter
from torch import Tensor
from torch.nn import functional as F

from optistyle import encoders, pictures
from optistyle.encoders import kernels, weights
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.errors import InputError
from optistyle.layers import RELUS
from optistyle.machine import devices

# One thread: pictures here are tiny, and threads that wait for one another on a busy machine are
# slower than one. Set in the environment too, for the commands that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

#: For tests that ask for a precision that this machine may refuse.
bfloat16 = pytest.mark.skipif(
    not devices.computes(torch.device("cpu"), "bfloat16"), reason="not on this CPU"
)

#: Tests whose subject needs the forecast of a run's time; all others are told a number at once.
FORECAST = {
    "test_the_time_grows_with_the_work",
    "test_ctrl_c_before_the_first_step",
    "test_ctrl_c_saves_and_resume_goes_on",
    "test_plan_writes_nothing",
    "test_run_writes_picture_and_manifest",
}

STYLES = Path(__file__).parent.parent / "examples" / "styles"

#: Feature maps per block of the tiny encoder.
WIDTHS = (6, 8, 12, 16, 16)


def make_picture(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, height, width) in [0, 1]: smooth patches of colour with some grain."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 2 + height // 8, 2 + width // 8, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    grain = 0.1 * torch.randn(1, 3, height, width, generator=generator)
    return (smooth + grain).clamp(0, 1)


def random_convolutions(
    widths: tuple[int, ...] = WIDTHS, deepest: str = "relu5_1", seed: int = 0
) -> dict[str, Tensor]:
    """Random convolutions as `VGG` takes them, from conv1_1 to ``deepest``; every filter fires.

    Filters sum to 0: behind a rectifier the inputs' common level would decide alone, and many die.
    """
    generator = torch.Generator().manual_seed(seed)
    convolutions, source = {}, 3
    for layer in RELUS[: RELUS.index(deepest) + 1]:
        width = widths[int(layer[4]) - 1]
        weight = torch.randn(width, source, 3, 3, generator=generator) * (2 / (9 * source)) ** 0.5
        convolutions[f"conv{layer[4:]}.weight"] = weight - weight.mean((1, 2, 3), keepdim=True)
        convolutions[f"conv{layer[4:]}.bias"] = 0.1 * torch.rand(width, generator=generator)
        source = width
    return convolutions


def make_tiny(**options: str) -> VGG:
    """The tiny encoder before normalisation; ``options`` are `VGG`'s."""
    mean = torch.tensor((0.485, 0.456, 0.406))
    return VGG(random_convolutions(), mean=mean, **{"name": "tiny", **options})


@pytest.fixture(scope="session")
def _tiny() -> VGG:
    encoder = make_tiny()
    return normalise(
        encoder, mean_activations(encoder, [make_picture(64, 64, s) for s in range(4)])
    )


@pytest.fixture
def tiny(_tiny: VGG) -> VGG:
    """A mean-normalised VGG of narrow, random, seeded layers to relu5_1; the test's own copy."""
    return VGG(_tiny.convolutions(), mean=_tiny.mean, name="tiny")


@pytest.fixture
def picture() -> Callable[..., Tensor]:
    """``picture(height, width, seed=0)``: a small random image, (1, 3, height, width) in [0, 1]."""
    return make_picture


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of random numbers of the test's own."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with content.png and style.png."""
    pictures.write(tmp_path / "content.png", picture(40, 60, 1))
    pictures.write(tmp_path / "style.png", picture(50, 44, 2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_vgg19(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which slim is the only encoder."""
    others = {name: source for name, source in weights.SOURCES.items() if name != "slim"}
    for name, source in others.items():
        monkeypatch.setitem(weights.SOURCES, name, replace(source, find=lambda: None))


# --- processes, caches and forecasts ---


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests caches of their own. The processes of pytest-xdist share them."""
    if hasattr(config, "workerinput"):
        return
    folder = tempfile.mkdtemp(prefix="optistyle-tests-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["XDG_CACHE_HOME"] = folder
    _fill_caches("slim", *(["vgg19"] if getattr(config.option, "numprocesses", None) else []))


def _fill_caches(*names: str) -> None:
    """Measure, once for all processes, what encoders measure when they are loaded.

    Kernels are not timed but said to be torch's: the time is worth it in longer runs only, and on
    a busy machine it is chance which ones are found to be faster.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_timed", lambda _: "torch")
        for name in names:
            with contextlib.suppress(InputError):  # vgg19's weights are an extra
                encoder = encoders.load(name)
                for threads in range(1, 1 + (os.cpu_count() or 1)):  # each has an entry of its own
                    torch.set_num_threads(threads)
                    kernels.fastest(encoder)
            torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no process is left with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape names that are not UTF-8 in captured output, which pytest-xdist cannot send."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report


@pytest.fixture
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Interpreter]]:
    """``interpreter("-m", "optistyle", ...)``: Python with these arguments; it is ended after."""
    folder = tmp_path_factory.mktemp("interpreters")
    started: list[Interpreter] = []

    def start(*arguments: object, environment: dict[str, str] | None = None) -> Interpreter:
        started.append(Interpreter(arguments, folder, environment=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def _forecast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare most tests the forecast of a run's time, which times the encoder for half a second."""
    if getattr(request.node, "originalname", None) not in FORECAST:
        monkeypatch.setattr("optistyle.run.plan.timing.seconds", lambda *_: 1.0)
