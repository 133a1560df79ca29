"""Published checkpoints, unchanged: recognised by their keys, checked, and given our names.

- **adain** (naoto0804/pytorch-AdaIN): ``decoder.pth`` and ``vgg_normalised.pth``.
- **sanet** (GlebSBrykin/SANET): ``decoder_iter_*.pth``, ``transformer_iter_*.pth`` and
  ``vgg_normalised.pth``.
- **adaattn** (Huage001/AdaAttN): ``latest_net_adaattn_3.pth``, ``latest_net_transformer.pth``,
  ``latest_net_decoder.pth`` and ``vgg_normalised.pth``.
- **microast** (EndyWon/MicroAST): ``content_encoder_*``, ``style_encoder_*``, ``modulator_*`` and
  ``decoder_*``.

(The networks of Johnson et al. have layouts of their own: see `johnson`.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from optistyle.baselines.base import Baseline, fill
from optistyle.baselines.codec import CONVOLUTIONS
from optistyle.baselines.microast import MicroAST
from optistyle.encoders import formats
from optistyle.encoders.vgg import VGG
from optistyle.encoders.weights import load_tensors
from optistyle.errors import InputError, unknown

#: A file's key -> the model's.
Keys = Mapping[str, str]

_SUFFIXES = (".pth", ".pt", ".tar", ".safetensors")
_ENCODER = "vgg_normalised"


def _convolutions(names: Mapping[str, str]) -> dict[str, str]:
    return {f"{a}.{part}": f"{b}.{part}" for a, b in names.items() for part in ("weight", "bias")}


def _decoder(numbers: Sequence[str]) -> dict[str, str]:
    ours = (f"decoder.{name}" for name in CONVOLUTIONS)
    return _convolutions(dict(zip(numbers, ours, strict=True)))


_SEQUENTIAL = tuple(map(str, (1, 5, 8, 11, 14, 18, 21, 25, 28)))
_SPLIT = ("decoder_layer_1.1", *(f"decoder_layer_2.{i}" for i in (1, 4, 7, 10, 14, 17, 21, 24)))
_MERGE = {"merge_conv": "merge_conv"}


def _attention(theirs: str, ours: str, parts: str) -> dict[str, str]:
    """``sanet4_1.{f,g,h,out_conv}`` and their like."""
    dot = "." if theirs else ""
    return _convolutions({f"{theirs}{dot}{part}": f"{ours}.{part}" for part in parts.split()})


def _own(model: Baseline, prefix: str) -> dict[str, str]:
    """Keys that are ours, less a prefix."""
    return {k.removeprefix(prefix): k for k in model.learned() if k.startswith(prefix)}


_SANET = _convolutions(_MERGE) | {
    k: x
    for layer in ("4_1", "5_1")
    for k, x in _attention(f"sanet{layer}", f"sanet{layer}", "f g h out_conv").items()
}
_TRANSFORMER = _convolutions(_MERGE) | {
    k: x
    for layer in ("4_1", "5_1")
    for k, x in _attention(f"attn_adain_{layer}", f"adaattn{layer}", "f g h").items()
}

_FILES: Mapping[str, Mapping[str, Keys]] = {
    "adain": {"decoder": _decoder(_SEQUENTIAL)},
    "sanet": {"decoder": _decoder(_SEQUENTIAL), "transformer": _SANET},
    "adaattn": {
        "adaattn_3": _attention("", "adaattn3_1", "f g h"),
        "transformer": _TRANSFORMER,
        "decoder": _decoder(_SPLIT),
    },
}
#: The models whose published files are read here.
NAMES = (*_FILES, "microast")


@functools.cache
def parts_of(name: str) -> Mapping[str, Keys]:
    """A model's files, by the word in their names that tells apart those of the same keys."""
    if name != "microast":
        return _FILES[name]
    model = MicroAST()
    names = ("content_encoder", "style_encoder", "modulator", "decoder")
    return {part: _own(model, f"{part}.") for part in names}


def read(name: str, files: Sequence[Path], make: Callable[[VGG], Baseline]) -> Baseline:
    """A model from its published files.

    Args:
        name: one of `NAMES`.
        files: all of them, or one folder that holds them.
        make: the untrained model on an encoder.

    Raises:
        InputError: a file is missing, too much, or of something else; the key at fault is named.
    """
    found: dict[str, Tensor] = {}
    origins: dict[str, tuple[Path, str]] = {}
    parts, encoder = dict(parts_of(name)), None
    for file in _listed(files):
        tensors, metadata = load_tensors(file)
        if name != "microast" and "0.weight" in tensors:
            encoder = formats.recognise(tensors, metadata, str(file))
            continue
        part = _part(tensors, parts, file, name)
        keys = parts.pop(part)
        found |= _renamed(tensors, keys, str(file))
        origins |= {ours: (file, theirs) for theirs, ours in keys.items()}
    lacking = [*parts, *([_ENCODER] if name != "microast" and encoder is None else [])]
    if lacking:
        raise InputError(
            f"published weights of {name}: {', '.join(lacking)} missing; name all its files "
            f"({', '.join([*parts_of(name), *([_ENCODER] if name != 'microast' else [])])}), "
            "or a folder of them"
        )
    model: Baseline = MicroAST()
    if encoder is not None:
        # As they were trained: max pooling, no normalisation of our own.
        model = make(VGG(encoder.convolutions, mean=encoder.mean, pooling="max", name=encoder.name))
    for key, tensor in model.learned().items():
        file, theirs = origins[key]
        if found[key].shape != tensor.shape:
            raise InputError(
                f"{file}: {theirs!r} has shape {tuple(found[key].shape)}; "
                f"{name} needs {tuple(tensor.shape)}"
            )
    return fill(model, found, name)


def _listed(files: Sequence[Path]) -> list[Path]:
    """The files, those of folders in their place."""
    listed = []
    for path in files:
        inside = [p for p in path.iterdir() if p.suffix in _SUFFIXES] if path.is_dir() else [path]
        if not inside:
            raise InputError(f"no weights in {path} (allowed: {', '.join(_SUFFIXES)})")
        listed += sorted(inside)
    return listed


def _part(tensors: Mapping[str, Tensor], parts: Mapping[str, Keys], file: Path, name: str) -> str:
    """The part that shares most keys with a file; among equals, the one that its name holds."""
    common = {part: len(set(keys) & set(tensors)) for part, keys in parts.items()}
    most = max(common.values(), default=0)
    best = [part for part, count in common.items() if count == most]
    if most == 0:
        sample = ", ".join(list(tensors)[:3])
        left = ", ".join(parts) or "nothing more"
        raise InputError(f"{file} holds {sample} …: no part of {name} that is looked for ({left})")
    named = [part for part in best if part in file.name]
    if len(best) > 1 and len(named) != 1:
        raise InputError(
            f"{file} may be {' or '.join(best)}, whose keys are the same: put which into its name"
        )
    return (named or best)[0]


def _renamed(tensors: Mapping[str, Tensor], keys: Keys, file: str) -> dict[str, Tensor]:
    for key in keys:
        if key not in tensors:
            others = {k: x for k, x in tensors.items() if k not in keys}
            raise formats.missing(key, others, file)
    for key in tensors:
        if key not in keys:
            raise unknown(f"key in {file}", key, keys)
    return {ours: tensors[theirs] for theirs, ours in keys.items()}
