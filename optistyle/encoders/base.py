"""What the rest of the toolkit asks of an encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from optistyle.errors import InputError

#: Layer name -> (1, N, H, W) activations; the names of `layers.PIXELS` stand for the image itself.
Features = Mapping[str, Tensor]


class Encoder(Protocol):
    """A frozen network: an image in, named feature maps out. `vgg.VGG` is one.

    Layers are named as in VGG-19 (``relu4_1``), because the loss terms take the scale of their
    formulas from those names (see `layers.CHANNELS`). An encoder may have fewer layers.

    Attributes:
        name: what manifests and messages call the encoder.
    """

    name: str

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where images have to be."""

    @property
    def taps(self) -> tuple[str, ...]:
        """The names of all layers that can be read, in the order of the network."""

    def channels(self, layer: str) -> int:
        """Return the number of feature maps N at a layer."""

    def halvings(self, layer: str) -> int:
        """Return how often the image is halved before a layer.

        A map has (H >> halvings, W >> halvings) positions.
        """

    def reach(self, layers: Iterable[str]) -> int:
        """Return how many pixels beyond itself a position of the deepest layer depends on."""

    def workspace(self, layers: Iterable[str]) -> tuple[int, float]:
        """Return the memory that the computation takes beside the feature maps.

        Args:
            layers: the names to be read.

        Returns:
            Bytes that do not depend on the image and are not allocated yet, and floats per pixel of
            the image; (0, 0.0) where convolutions need neither.
        """

    def settings(self) -> Mapping[str, str]:
        """Return the choices that change the features, by name, for manifests."""

    def digest(self) -> str:
        """Return the SHA-256 of the weights, in hexadecimal."""

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return a context in which features and their derivatives have the intended precision."""

    def __call__(self, image: Tensor, layers: Iterable[str]) -> Features:
        """Return the features at the given layers.

        Args:
            image: (B, 3, H, W), RGB in [0, 1]; values outside are allowed.
            layers: names of `taps` or `layers.PIXELS`.

        Returns:
            Layer -> (B, N, H >> halvings, W >> halvings), differentiable with respect to the image.

        Raises:
            InputError: a layer that this encoder lacks, or an image too small for it.
        """


#: The names that an encoder must have.
MEMBERS = tuple(x for x in (*Encoder.__annotations__, *vars(Encoder)) if not x.startswith("_"))


def check(encoder: object) -> None:
    """Raise `InputError` where an object lacks anything that `Encoder` asks for."""
    missing = [name for name in MEMBERS if not hasattr(encoder, name)]
    if missing or not callable(encoder):
        raise InputError(
            f"encoder: got a {type(encoder).__name__}, which has no "
            f"{', '.join(missing) or '__call__'}; give what optistyle.load_encoder returns "
            "(it takes torchvision's VGG-16 and VGG-19 and nn.Sequential), "
            "or an object that meets optistyle.encoders.Encoder"
        )
