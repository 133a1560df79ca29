"""Which device computes."""

from __future__ import annotations

import torch

from optistyle.errors import InputError, unknown

DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is a GPU where there is one.

    ``cuda:1`` and the like name one of several GPUs.
    """
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and (kind != "cuda" or not index.isdecimal())):
        raise unknown("device", name, DEVICES)
    present = available()
    if kind == "auto":
        return torch.device(present[-1])
    if kind not in present:
        raise InputError(
            f"device {name!r} is not available here (there is: {', '.join(present)}); "
            "use --device auto"
        )
    if index and int(index) >= torch.cuda.device_count():
        raise InputError(
            f"device {name!r}: there are {torch.cuda.device_count()} GPUs, from cuda:0"
        )
    return torch.device(name)


def available() -> list[str]:
    """The kinds of device here, the fastest last."""
    kinds = ["cpu"]
    if torch.backends.mps.is_available():
        kinds.append("mps")
    if torch.cuda.is_available():
        kinds.append("cuda")
    return kinds
