"""Feed-forward models: one pass in place of hundreds of iterations. Baselines and warm starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from optistyle import encoders
from optistyle.baselines import johnson
from optistyle.baselines.adain import AdaIN, MultiAdaIN
from optistyle.baselines.codec import WIDTHS, Decoder, Transfer
from optistyle.encoders.vgg import VGG
from optistyle.encoders.weights import load_tensors
from optistyle.errors import InputError, unknown

DATA = Path(__file__).parent / "data"
_KEY = "optistyle-baseline"


class Baseline(Protocol):
    """What all models can do."""

    def stylize(
        self,
        content: Tensor,
        styles: Sequence[Tensor],
        *,
        shares: Sequence[float] | None = None,
        alpha: float | Mapping[str, float] = 1.0,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Model:
    """A model by name.

    Attributes:
        source: of the method.
        make: from a frozen encoder, with a decoder of random weights, to train it; None for models
            that are only read from published files.
    """

    source: str
    make: Callable[[VGG], Transfer] | None = None


def _adain(encoder: VGG) -> AdaIN:
    return AdaIN(encoder, Decoder(_widths(encoder)))


def _multiadain(encoder: VGG) -> MultiAdaIN:
    joins = {layer: encoder.channels(layer) for layer in ("relu3_1", "relu2_1")}
    return MultiAdaIN(encoder, Decoder(_widths(encoder), joins))


def _widths(encoder: VGG) -> tuple[int, ...]:
    *narrow, _ = WIDTHS["slim" if encoder.name == "slim" else "vgg19"]
    return (*narrow, encoder.channels("relu4_1"))


MODELS: Mapping[str, Model] = {
    "adain": Model("Huang & Belongie, ICCV 2017", _adain),
    "multiadain": Model("report 001: AdaIN at relu2_1, relu3_1 and relu4_1", _multiadain),
    "johnson": Model("Johnson, Alahi & Fei-Fei, ECCV 2016: a network per style (--weights)"),
}


def make(name: str, encoder: VGG, seed: int = 0) -> Transfer:
    """A model to train, its decoder's weights random."""
    entry = _entry(name)
    if entry.make is None:
        raise InputError(f"{name} cannot be trained here; its published files are read")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the initial weights of nn.Conv2d have no other source
        return entry.make(encoder).to(encoder.device)


def _entry(name: str) -> Model:
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]


def packaged(name: str) -> Path:
    """Where the packaged weights of a model are."""
    _entry(name)
    return DATA / f"{name}.safetensors"


def load(
    name: str = "adain", *, file: Path | None = None, device: torch.device | str = "cpu"
) -> Baseline:
    """A trained model, ready to use.

    Args:
        name: a key of `MODELS`. file: weights that `save` wrote, in place of the packaged ones; for
            ``johnson`` a published file or folder (see `johnson`).
        device: where to.

    Raises:
        InputError: an unknown name, weights that are not there, or another model's.
    """
    path = file or packaged(name)
    if name == "johnson":
        if file is None:
            raise InputError("johnson has a network for every style: name its file with --weights")
        return johnson.read(path).to(device)
    if file is None and not path.is_file():
        raise InputError(f"no weights of {name} are here; make them with optistyle train {name}")
    tensors, metadata = load_tensors(path)
    facts = json.loads(metadata.get(_KEY, "{}"))
    found = facts.get("model", "weights of something else")
    if found != name:
        raise InputError(f"{path} holds {found}, not {name}")
    model = make(name, encoders.load(facts["encoder"], device=device))
    wanted = model.decoder.state_dict()
    for key, tensor in wanted.items():
        if key not in tensors:
            raise InputError(f"{path}: {key!r} is missing")
        if tensors[key].shape != tensor.shape:
            raise InputError(
                f"{path}: {key!r} has shape {tuple(tensors[key].shape)}, "
                f"{name} on {facts['encoder']} needs {tuple(tensor.shape)}"
            )
    model.decoder.load_state_dict({key: tensors[key].float() for key in wanted})
    model.decoder.requires_grad_(False)
    return model.eval()


def save(model: Transfer, name: str, path: Path) -> None:
    """Write a model's decoder as float16 safetensors; the encoder is named, not stored."""
    tensors: dict[str, Tensor] = {
        key: x.detach().half().contiguous() for key, x in model.decoder.state_dict().items()
    }
    # One key: safetensors writes several in any order, and bytes are to repeat.
    metadata = {_KEY: json.dumps({"model": name, "encoder": model.encoder.name})}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata)
    part.replace(path)
