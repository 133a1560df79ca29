"""Feed-forward models: one pass in place of hundreds of iterations. Baselines and warm starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from optistyle import encoders, files
from optistyle.baselines import adjustable, johnson, magenta, published
from optistyle.baselines.adaattn import AdaAttN
from optistyle.baselines.adain import AdaIN, MultiAdaIN
from optistyle.baselines.base import Baseline, fill
from optistyle.baselines.codec import Decoder, Transfer
from optistyle.baselines.sanet import SANet
from optistyle.encoders.vgg import VGG
from optistyle.encoders.weights import load_tensors
from optistyle.errors import InputError, unknown

DATA = Path(__file__).parent / "data"
_KEY = "optistyle-baseline"


@dataclass(frozen=True)
class Model:
    """A model by name.

    Attributes:
        source: of the method.
        make: the untrained model, from a frozen encoder, the generator of its initial weights (None
            leaves them 0) and, for a model with one style, a painting; None for models that are
            only read from published files.
        one_style: whether a network has one style, learned from that painting.
        schedule: of `train.Settings`, where it is not the default one.
        licence: of the weights: packaged ones, or where there are none, the published ones.
        read: for models whose weights another package installs: reads them; it takes the numbers
            of styles where the model has those.
        numbered: how many styles it has by number.
    """

    source: str
    make: Callable[..., Baseline] | None = None
    one_style: bool = False
    schedule: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "optistyle's own"
    read: Callable[..., Baseline] | None = None
    numbered: int = 0

    @property
    def takes_paintings(self) -> bool:
        """Whether it paints in the style of any paintings that it is given."""
        return not (self.one_style or self.numbered)


def _adain(encoder: VGG, generator: torch.Generator | None) -> Transfer:
    return AdaIN(encoder, Decoder(_widths(encoder), None, generator))


def _multiadain(encoder: VGG, generator: torch.Generator | None) -> Transfer:
    joins = {layer: encoder.channels(layer) for layer in ("relu3_1", "relu2_1")}
    return MultiAdaIN(encoder, Decoder(_widths(encoder), joins, generator))


def _sanet(encoder: VGG, generator: torch.Generator | None) -> Transfer:
    return SANet(encoder, Decoder(_widths(encoder), None, generator), generator)


def _adaattn(encoder: VGG, generator: torch.Generator | None) -> Transfer:
    joins = {"relu3_1": encoder.channels("relu3_1")}
    return AdaAttN(encoder, Decoder(_widths(encoder), joins, generator), generator)


def _widths(encoder: VGG) -> tuple[int, ...]:
    """Of the decoder: VGG-19's own, half of them behind the slim encoder."""
    part = 2 if encoder.name == "slim" else 1
    return (64 // part, 128 // part, 256 // part, encoder.channels("relu4_1"))


_MAGENTA = "Apache-2.0 (Magenta); the package that installs them: MIT"

_ATTENTION = {"batch": 4, "learning_rate": 5e-4}
_ONE_STYLE = {"warm_up_steps": 300, "batch": 4}

MODELS: Mapping[str, Model] = {
    "adain": Model("Huang & Belongie, ICCV 2017", _adain),
    "multiadain": Model("report 001: AdaIN at relu2_1, relu3_1 and relu4_1", _multiadain),
    "sanet": Model("Park & Lee, CVPR 2019", _sanet, schedule=_ATTENTION),
    "adaattn": Model("Liu et al., ICCV 2021", _adaattn, schedule=_ATTENTION),
    "adjustable": Model(
        "Babaeizadeh & Ghiasi 2018: one style, of a strength by layer",
        adjustable.untrained,
        True,
        _ONE_STYLE,
    ),
    "microast": Model("Wang et al., AAAI 2023: published files only", licence="MIT"),
    "johnson": Model(
        "Johnson, Alahi & Fei-Fei, ECCV 2016: one style", johnson.untrained, True, _ONE_STYLE
    ),
    "magenta": Model("Ghiasi et al., BMVC 2017", licence=_MAGENTA, read=magenta.read),
    "magenta26": Model(
        f"Dumoulin, Shlens & Kudlur, ICLR 2017: {magenta.COUNT} styles by number",
        licence=_MAGENTA,
        read=magenta.read_numbered,
        numbered=magenta.COUNT,
    ),
}


def make(name: str, encoder: VGG, seed: int = 0, painting: Tensor | None = None) -> Baseline:
    """Make a model to train.

    Args:
        name: a key of `MODELS`.
        encoder: frozen; the losses are measured in it, too.
        seed: of the initial weights.
        painting: (1, 3, H, W) in [0, 1], for a model with one style.

    Raises:
        InputError: an unknown name, a model that is not trained here, or a painting too many or
            too few.
    """
    entry = named(name)
    if entry.make is None:
        raise InputError(f"{name} cannot be trained here; its published weights are read")
    if entry.one_style != (painting is not None):
        wants = "learns one painting: give it" if entry.one_style else "learns no single painting"
        raise InputError(f"{name} {wants}")
    generator = torch.Generator().manual_seed(seed)
    given = () if painting is None else (painting,)
    model = entry.make(encoder, generator, *given).to(encoder.device)
    if isinstance(model, Transfer):
        model.decoder.upsampling = "bilinear"
    return model


def _empty(name: str, encoder: VGG) -> Baseline:
    """A model of any style, to be filled with weights."""
    entry = named(name)
    assert entry.make is not None
    return entry.make(encoder, None).to(encoder.device)


def named(name: str) -> Model:
    """The entry of `MODELS`, or an `InputError` with the nearest name."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]


def packaged(name: str) -> Path:
    """Where the weights of a model are or would be, in this package or the one that has them."""
    found = magenta.find(name) if named(name).read else None
    return found or DATA / f"{name}.safetensors"


def remedy(name: str) -> str:
    """How to get the weights of a model that are not here."""
    entry = named(name)
    if entry.read is not None:
        return magenta.REMEDY
    if entry.make is not None:
        return f"make them with optistyle train {name}"
    return "name its published files (--weights)"


def load(
    name: str = "adain",
    *,
    files: Sequence[Path] = (),
    numbers: Sequence[int] = (),
    device: torch.device | str = "cpu",
) -> Baseline:
    """Load a trained model, ready to use.

    Args:
        name: a key of `MODELS`.
        files: in place of the packaged weights: a file that `save` wrote, or published files, or a
            folder of them (see `published` and `johnson`).
        numbers: of the styles to paint in, for a model that has them by number.
        device: where to.

    Raises:
        InputError: an unknown name, weights that are not there, or another model's.
    """
    entry = named(name)
    if numbers and not entry.numbered:
        raise InputError(f"{name} has no styles by number; leave --style-number out")
    if not files and not packaged(name).is_file():
        raise InputError(f"no weights of {name} are here; {remedy(name)}")
    if entry.read is not None:
        if files:
            raise InputError(f"{name} reads installed weights; leave --weights out")
        model = entry.read(numbers) if entry.numbered else entry.read()
        return model.to(device).requires_grad_(False).eval()
    if name == "johnson" and len(files) > 1:
        raise InputError(f"a network of johnson is one file or folder; {len(files)} were given")
    path = files[0] if files else packaged(name)
    known = facts(path) if len(files) < 2 and not path.is_dir() else {}
    if name == "johnson" and known.get("model", name) == name:
        model = johnson.read(path)
    elif not known and name in published.NAMES:
        model = published.read(name, files, lambda encoder: _empty(name, encoder))
    elif known.get("model") != name:
        held = known.get("model", "weights of something else")
        raise InputError(f"{path} holds {held}, not {name}")
    elif name == "adjustable":
        model = adjustable.from_tensors(load_tensors(path)[0], str(path))
    else:
        encoder = encoders.load(known["encoder"], device=device)
        model = fill(_empty(name, encoder), load_tensors(path)[0], str(path))
        if isinstance(model, Transfer):  # older files do not name it
            model.decoder.upsampling = known.get("upsampling", "nearest")
    return model.to(device).requires_grad_(False).eval()


def facts(path: Path) -> dict[str, Any]:
    """What `save` noted of weights: model, encoder, how they were trained; empty for others'."""
    _, metadata = load_tensors(path)
    return dict(json.loads(metadata.get(_KEY, "{}")))


def start_from(model: Baseline, file: Path) -> list[str]:
    """Give a model what fits of another one's weights: a decoder that can already paint.

    Where only a convolution's inputs differ in number, those that both have are taken and further
    ones begin at zero: what the decoder is given in addition counts for nothing yet.

    Returns:
        The keys that were found.
    """
    tensors, _ = load_tensors(file)
    wanted, found = model.learned(), {}
    for key, tensor in tensors.items():
        if key not in wanted:
            continue
        goal = torch.zeros_like(wanted[key])
        common = tuple(slice(min(a, b)) for a, b in zip(goal.shape, tensor.shape, strict=True))
        goal[common] = tensor[common].to(goal)
        if goal.shape[0] == tensor.shape[0]:
            found[key] = goal
    if not found:
        raise InputError(f"{file} holds nothing that a {type(model).__name__} could start from")
    model.restore(found)
    return list(found)


def save(model: Baseline, name: str, path: Path, notes: Mapping[str, object] | None = None) -> None:
    """Write what a model has learned as float16 safetensors; the encoder is named, not stored.

    Args:
        notes: what is to be known of it besides, such as how it was trained.
    """
    tensors = {
        key: x.detach().half().contiguous()
        for key, x in model.learned().items()
        if key not in model.scaffold
    }
    encoder = getattr(model, "encoder", None)
    known = {"model": name, **({"encoder": encoder.name} if encoder else {}), **(notes or {})}
    if isinstance(model, Transfer):
        known["upsampling"] = model.decoder.upsampling
    # One key: safetensors writes several in any order, and bytes are to repeat.
    data = safetensors.save(tensors, {_KEY: json.dumps(known)})
    files.write_whole(path.resolve(), data)
