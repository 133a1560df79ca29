"""What all feed-forward models have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from optistyle.encoders.formats import missing
from optistyle.errors import InputError, unknown

#: One number for all levels, or one by level.
Alpha = float | Mapping[str, float]


class Baseline(nn.Module):
    """A feed-forward model: a picture from a content and its styles in one pass."""

    #: Layers at which strength can be set one by one; none where there is only the whole.
    levels: tuple[str, ...] = ()
    #: What of `learned` only training needs: it is in checkpoints, not in files of weights.
    scaffold: frozenset[str] = frozenset()
    #: Of the style's share in the training's losses.
    style_weight: float = 1.0
    #: The styles that it paints in, by number; none where styles are paintings or its only one.
    numbers: tuple[int, ...] = ()

    def stylize(
        self,
        content: Tensor,
        styles: Sequence[Tensor],
        *,
        shares: Sequence[float] | None = None,
        alpha: Alpha = 1.0,
    ) -> Tensor:
        """Paint in one pass.

        Args:
            content: (1, 3, H, W) in [0, 1].
            styles: the same, of any sizes; none for a model with a style of its own.
            shares: of each style, sum 1; equal by default.
            alpha: strength in [0, 1], 0 being the content.

        Returns:
            (1, 3, H, W) in [0, 1].
        """
        raise NotImplementedError

    def learned(self) -> dict[str, Tensor]:
        """The state that training changes: everything but the frozen encoder."""
        return {k: x for k, x in self.state_dict().items() if not k.startswith("encoder.")}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `learned` gave, or a part of it."""
        self.load_state_dict(tensors, strict=False)

    def warm_up(self, image: Tensor) -> dict[str, Tensor]:
        """The losses of giving an image back, (B, 3, H, W): where training begins."""
        raise NotImplementedError

    def losses(
        self, content: Tensor, style: Tensor | None, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """The training's losses of a batch, (B, 3, H, W) each, to be summed.

        Args:
            content: photographs. style: paintings; None for a model with a style of its own.
            rng: for models that draw what they are to do.
        """
        raise NotImplementedError


def check_sides(image: Tensor, least: int) -> None:
    """Raise `InputError` where a side of (B, 3, H, W) is below ``least`` px."""
    height, width = image.shape[-2:]
    if min(height, width) < least:
        raise InputError(f"an image of {width}x{height} px is too small; {least} px a side or more")


def mirrored(image: Tensor, grid: int, least: int) -> Tensor:
    """(B, 3, H, W), its right and lower borders mirrored up to a multiple of ``grid`` px."""
    check_sides(image, least)
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % grid, 0, -height % grid), mode="reflect")


def same(x: Tensor, side: int, stride: int) -> Tensor:
    """Pad (B, N, H, W) with zeros as TensorFlow's SAME does for a kernel of ``side`` px.

    Where the padding of an axis is odd, the right or lower border has one pixel more.
    """
    spare = []
    for extent in (x.shape[-1], x.shape[-2]):
        total = max(0, (-(-extent // stride) - 1) * stride + side - extent)
        spare += [total // 2, total - total // 2]
    return F.pad(x, spare)


def by_level(alpha: Alpha, levels: Sequence[str]) -> dict[str, float]:
    """Strength at every level, checked; levels that a mapping leaves out have 1."""
    given = alpha if isinstance(alpha, Mapping) else dict.fromkeys(levels, alpha)
    for layer, value in given.items():
        if layer not in levels:
            raise unknown("level of this model", layer, levels)
        if not 0 <= value <= 1:
            raise InputError(f"alpha is {value} at {layer}; it must be from 0 to 1")
    return {layer: float(given.get(layer, 1.0)) for layer in levels}


def whole(alpha: Alpha) -> float:
    """The strength of a model without levels, checked."""
    if isinstance(alpha, Mapping):
        raise InputError("this model has no levels: give one --alpha")
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}; it must be from 0 to 1")
    return float(alpha)


def no_style(styles: Sequence[Tensor], shares: Sequence[float] | None, name: str) -> None:
    """For models with one style, their own."""
    if styles or shares:
        raise InputError(f"a network of {name} has one style, its own: give no STYLE image")


def equal_shares(shares: Sequence[float] | None, count: int) -> list[float]:
    """The shares of ``count`` styles, checked; equal where there are none."""
    if not count:
        raise InputError("give one or more STYLE images")
    shares = [1 / count] * count if shares is None else list(shares)
    if len(shares) != count:
        raise InputError(
            f"style weights: got {len(shares)} for {count} style image{'s' * (count != 1)}; "
            "give one for each"
        )
    return shares


def fill(model: Baseline, tensors: Mapping[str, Tensor], file: str) -> Baseline:
    """Give a model the weights that it learns; every one has to be there, and no other."""
    wanted = {k: x for k, x in model.learned().items() if k not in model.scaffold}
    for key, tensor in wanted.items():
        if key not in tensors:
            raise missing(key, tensors, file)
        if tensors[key].shape != tensor.shape:
            raise InputError(
                f"{file}: {key!r} has shape {tuple(tensors[key].shape)}; "
                f"{type(model).__name__} here needs {tuple(tensor.shape)}"
            )
    for key in tensors:
        if key not in wanted:
            raise unknown(f"key in {file}", key, wanted)
    model.restore({key: x.float() for key, x in tensors.items()})
    return model
