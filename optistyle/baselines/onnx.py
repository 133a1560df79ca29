"""Read the tensors of an ONNX file, without the `onnx` package.

An ONNX file is a protocol buffer (https://protobuf.dev/programming-guides/encoding). Of the
messages in onnx.proto only ``GraphProto``, ``NodeProto`` and ``TensorProto`` are read, and of those
the fields that constants need. `onnx` itself would add 31 MB for these few lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: ``TensorProto.DataType`` -> how ``raw_data`` holds such numbers.
_TYPES = {1: "<f4", 3: "<i1", 6: "<i4", 7: "<i8"}


def read(data: bytes) -> dict[str, Tensor]:
    """Read the constants of a model.

    Args:
        data: the file's bytes.

    Returns:
        The initialisers by name. Quantised ones are there a second time in float32, (q - zero
        point) * scale, under the name of the output of their ``DequantizeLinear``. Scales and
        zero points are single numbers or one for each index of the first dimension.
    """
    tensors: dict[str, Tensor] = {}
    nodes: list[tuple[str, list[str], str]] = []
    (graph,) = _all(data, 7)
    for number, value in _fields(graph):
        if number == 1:
            nodes.append(_node(value))
        elif number == 5:
            tensors |= _tensor(value)
    for operation, inputs, output in nodes:
        if operation == "DequantizeLinear" and inputs[0] in tensors:
            codes, scale, zero = (tensors[name] for name in inputs)
            by_first = (-1, *[1] * (codes.ndim - 1))
            tensors[output] = (codes - zero.reshape(by_first).int()) * scale.reshape(by_first)
    return tensors


def _node(message: bytes) -> tuple[str, list[str], str]:
    """The operation, the inputs and the first output."""
    inputs = [name.decode() for name in _all(message, 1)]
    return _all(message, 4)[0].decode(), inputs, _all(message, 2)[0].decode()


def _tensor(message: bytes) -> dict[str, Tensor]:
    """Name -> tensor; nothing for one that has no ``raw_data``."""
    shape, kind, name, raw = [], 0, "", None
    for number, value in _fields(message):
        if number == 1:
            shape.append(value)
        elif number == 2:
            kind = value
        elif number == 8:
            name = value.decode()
        elif number == 9:
            raw = value
    if raw is None:
        return {}
    return {name: torch.from_numpy(np.frombuffer(raw, _TYPES[kind]).reshape(shape).copy())}


def _all(message: bytes, wanted: int) -> list[bytes]:
    return [value for number, value in _fields(message) if number == wanted]


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an integer, or bytes (also of fixed 4 and 8 bytes)."""
    position = 0
    while position < len(message):
        key, position = _integer(message, position)
        if key & 7 == 0:
            value, position = _integer(message, position)
            yield key >> 3, value
            continue
        length = {1: 8, 5: 4}.get(key & 7)
        if length is None:
            length, position = _integer(message, position)
        yield key >> 3, message[position : position + length]
        position += length


def _integer(message: bytes, position: int) -> tuple[int, int]:
    """A base-128 integer and the position after it."""
    value = shift = 0
    while message[position] >= 128:
        value |= (message[position] & 127) << shift
        position, shift = position + 1, shift + 7
    return value | message[position] << shift, position + 1
