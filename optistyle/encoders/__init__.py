"""Encoders: an image in, named features out, from weights on this disk."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from optistyle import files
from optistyle.choices import ENCODERS
from optistyle.encoders import formats, modules, weights
from optistyle.encoders.base import Encoder, Features, check
from optistyle.encoders.kernels import check as check_kernels
from optistyle.encoders.kernels import fastest
from optistyle.encoders.procedural import calibration_images
from optistyle.encoders.vgg import VGG, mean_activations, normalise
from optistyle.errors import InputError, unknown
from optistyle.machine import devices

__all__ = ["ENCODERS", "VGG", "Encoder", "Features", "announcement", "check", "choose", "load"]

#: Part of the cache's file names: raise it when the calibration pictures change.
_CALIBRATION = 2


def choose(name: str) -> str:
    """The encoder that ``name`` stands for: ``auto`` is the best one whose weights are here.

    Raises:
        InputError: an unknown name.
    """
    if name not in ENCODERS:
        raise unknown("encoder", name, ENCODERS)
    if name != "auto":
        return name
    for best in ("vgg19", "vgg19-torchvision"):
        with contextlib.suppress(InputError):
            weights.locate(best)
            return best
    return "slim"


def announcement(asked: str, chosen: str) -> str:
    """One line that says which encoder paints, and how to get the other one.

    Args:
        asked: the recipe's ``encoder``. chosen: what `choose` made of it.
    """
    if asked != "auto":
        return f"encoder {chosen}"
    if chosen == "slim":
        return (
            "encoder slim, because VGG-19, which paints better, is not installed: "
            'pip install "optistyle[vgg19]"'
        )
    return f"encoder {chosen} (the fast one, which paints less well: --encoder slim)"


def load(
    name: str | nn.Module = "slim",
    *,
    file: str | Path | None = None,
    pooling: str = "average",
    padding: str = "reflect",
    precision: str = "float32",
    kernels: str = "auto",
    device: torch.device | str = "cpu",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> VGG:
    """Load a mean-normalised encoder, ready to use. Nothing is downloaded.

    Args:
        name: ``slim``, ``vgg19``, ``vgg19-torchvision`` or ``auto``; or a ``torch.nn.Module``:
            torchvision's ``vgg16()`` or ``vgg19()``, a ``torch.nn.Sequential`` of 3x3 convolutions,
            ReLU and pooling, or a module whose convolutions are called ``conv1_1``, ``conv1_2``, …
        file: a file of VGG-19 or VGG-16 weights to use instead of the named encoder's own.
        pooling: ``average``, ``max`` or ``l2``.
        padding: ``reflect`` or ``zeros``.
        precision: of the convolutions: ``float32``, ``tf32`` or ``bfloat16``.
        kernels: ``torch``, ``winograd``, or ``auto``, which times both once per machine.
        device: the device that computes.
        mean, std: three numbers each, for a network of your own: it was trained on
            (x - mean) / std, x being RGB in [0, 1]. ImageNet's by default, as in torchvision.

    Returns:
        The encoder. Each filter's mean activation on the calibration pictures is 1
        (Gatys et al. 2016, section 2).

    Raises:
        InputError: an unknown name, weights that are not there or do not match, a module that is
            not built like a VGG, a precision or kernels that the device does not have.

    >>> import torch
    >>> from optistyle import load_encoder
    >>> encoder = load_encoder("slim")
    >>> encoder(torch.rand(1, 3, 64, 64), ["relu4_1"])["relu4_1"].shape[-2:]
    torch.Size([8, 8])

    torchvision's VGG-16, or a network of your own:

    >>> import torchvision
    >>> network = torchvision.models.vgg16(weights="DEFAULT")  # doctest: +SKIP
    >>> load_encoder(network).layers[-1]  # doctest: +SKIP
    'relu5_3'
    """
    device = torch.device(device)
    devices.check(device, precision)
    check_kernels(kernels, precision, device)
    found, digest = _weights(name, file, mean, std)
    encoder = VGG(
        found.convolutions,
        mean=found.mean,
        pooling=pooling,
        padding=padding,
        precision=precision,
        name=found.name,
    ).to(device)
    if found.calibrated_for != pooling:
        means = _cached_means(encoder, f"{digest or encoder.digest()[:16]}-{pooling}-{padding}")
        encoder = normalise(encoder, means)
    encoder.kernels = fastest(encoder) if kernels == "auto" else kernels
    return encoder


def _weights(
    name: str | nn.Module,
    file: str | Path | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> tuple[formats.Weights, str]:
    """The weights in one form, and the beginning of their file's SHA-256; without a file ""."""
    if isinstance(name, VGG):
        raise InputError(f"encoder {name.name} is loaded already: use it as it is")
    if isinstance(name, nn.Module):
        if file is not None:
            raise InputError(f"got a network and the file {file}; give one of them")
        return modules.read(name, mean, std), ""
    if not isinstance(name, str):
        raise InputError(
            f"encoder: got a {type(name).__name__}; give one of {', '.join(ENCODERS)}, or a "
            "torch.nn.Module such as torchvision's vgg16()"
        )
    if not (mean is None and std is None):
        raise InputError("mean and std belong to a torch.nn.Module; named weights have their own")
    if file is None:
        path, digest = weights.verify(choose(name))
    else:
        path, digest = Path(file), files.digest(file)
    return formats.recognise(*weights.load_tensors(path), str(path)), digest[:16]


#: What the package calls `load`, beside functions that read pictures.
load_encoder = load


def _cached_means(encoder: VGG, key: str) -> dict[str, Tensor]:
    """Mean activations on the calibration pictures, measured once per weights, pooling, padding."""
    folder = files.cache()
    path = None if folder is None else folder / f"means-{_CALIBRATION}-{key}.safetensors"
    if path is not None:
        with contextlib.suppress(InputError, OSError):
            means, _ = weights.load_tensors(path)
            if set(means) == set(encoder.layers):
                return means
    # Measured in float32 on the CPU, so that the same file gives the same numbers everywhere.
    device, precision = encoder.device, encoder.precision
    encoder.to("cpu").precision = "float32"
    means = mean_activations(encoder, calibration_images())
    encoder.to(device).precision = precision
    # A cache that cannot be written only costs time.
    if path is not None:
        with contextlib.suppress(OSError, SafetensorError):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, safetensors.save(means))
    return means
