"""3x3 convolutions on a CPU with a fraction of the multiplications, in float32: Winograd's.

F(4x4, 3x3) takes 36 products where a convolution takes 144 (Lavin & Gray, "Fast algorithms for
convolutional neural networks", CVPR 2016, section 4.3), at an error of about 1e-6 relative. The
kernels are ncnn's (the extra ``fast``), which chooses the form by size. torch's own stay for what
is narrow, where the transforms cost more than they save.

The derivative with respect to the input is a convolution with the filters flipped and transposed:
the same kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Channels on the narrower and on the wider side from which on it pays.
NARROW, WIDE = 64, 128
#: What channels must be a multiple of: the most numbers that a register holds.
PACK = 16
#: Bytes of transformed filters, there and back, per byte of weights; and floats beside input and
#: output per float of either: themselves packed, and their tiles of 36 for 16.
FILTERS, WORKSPACE = 12, 1 + 36 / 16


def available() -> bool:
    """Whether ncnn is installed."""
    return find_spec("ncnn") is not None


def suits(weight: Tensor) -> bool:
    """Whether a convolution's weight (N_out, N_in, h, w) is 3x3, and wide enough to gain."""
    narrow, wide = sorted(weight.shape[:2])
    packs = narrow % PACK == wide % PACK == 0
    return weight.shape[2:] == (3, 3) and packs and narrow >= NARROW and wide >= WIDE


class Convolution:
    """A frozen convolution without padding, and its derivative with respect to its input.

    Args:
        weight: (N_out, N_in, 3, 3). bias: (N_out,).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.threads = torch.get_num_threads()
        self._forward = _net(weight, bias, 0)
        turned = weight.flip(2, 3).transpose(0, 1)
        self._backward = _net(turned, bias.new_zeros(len(turned)), 2)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, N_in, H + 2, W + 2) -> (B, N_out, H, W)."""
        found: Tensor = _Apply.apply(x, self)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return _run(self._forward, x)

    def backward(self, gradient: Tensor) -> Tensor:
        """(B, N_out, H, W) -> (B, N_in, H + 2, W + 2)."""
        return _run(self._backward, gradient)


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, convolution: Convolution) -> Tensor:
        ctx.convolution = convolution
        return convolution.forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.convolution.backward(gradients[0]), None


def _net(weight: Tensor, bias: Tensor, border: int) -> Any:
    """A network of one convolution, with zeros around its input."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    net.opt.blob_allocator = net.opt.workspace_allocator = _pool()
    for half in ("use_fp16_storage", "use_fp16_arithmetic", "use_fp16_packed"):
        setattr(net.opt, half, False)
    # ncnn's numbers: 0 outputs, 1 side of the kernel, 4 zeros around, 5 bias, 6 weights.
    layer = f"0={len(weight)} 1=3 4={border} 5=1 6={weight.numel()}"
    net.load_param_mem(f"7767517\n2 2\nInput in 0 1 in\nConvolution conv 1 1 in out {layer}\n")
    parts = (np.zeros(1), weight.contiguous().numpy(), bias.numpy())  # 0: weights are float32
    net.load_model_mem(b"".join(part.astype(np.float32).tobytes() for part in parts))
    return net


@functools.cache
def _pool() -> Any:
    """What networks take their memory from; by itself each would keep what it ever had."""
    import ncnn

    return ncnn.PoolAllocator()


def _run(net: Any, x: Tensor) -> Tensor:
    found = x.new_empty(0)
    for number, image in enumerate(x.detach()):
        planes, extractor = _packed(image), net.create_extractor()
        extractor.input("in", _mat(planes, image.shape[-2:]))  # does not hold what it looks at
        failed, result = extractor.extract("out", 1)  # 1: packed, as it is computed
        if failed:  # its only reason: its allocator had no more
            raise MemoryError(f"a convolution of {tuple(x.shape)} does not fit into memory")
        if not number:
            channels = result.c * result.elempack
            found = x.new_empty((len(x), result.h, result.w, channels))
        _unpack(result, found[number])
        del result, extractor
        _pool().clear()
    return found.permute(0, 3, 1, 2)


# What ncnn computes on is packed: (N, H, W) as (N / p, H, W, p), where p numbers fill a register.
# It is made here, in blocks of p numbers; ncnn wants channels first, and packs by single numbers,
# which takes longer than all else but the products. Python can neither make nor read a packed
# matrix: it is made and read as one of p columns, and its fields are set to the other view.


def _packed(image: Tensor) -> Tensor:
    """(N, H, W), channels last in memory, to (N / p, H W, p)."""
    return (
        image.permute(1, 2, 0)
        .flatten(0, 1)
        .unflatten(1, (-1, _lanes()))
        .transpose(0, 1)
        .contiguous()
    )


def _mat(packed: Tensor, size: Sequence[int]) -> Any:
    import ncnn

    mat, lanes = ncnn.Mat(packed.numpy()), packed.shape[-1]
    mat.elempack, mat.elemsize = lanes, 4 * lanes
    (mat.h, mat.w), mat.cstep = size, packed.shape[1]
    return mat


def _unpack(mat: Any, pixels: Tensor) -> None:
    """A packed matrix into (H, W, N)."""
    lanes, positions = mat.elempack, mat.cstep
    mat.elempack, mat.elemsize = 1, 4
    mat.h, mat.w, mat.cstep = positions, lanes, positions * lanes
    packed = torch.from_numpy(np.asarray(mat))
    pixels.flatten(0, 1).unflatten(1, (-1, lanes)).copy_(packed.transpose(0, 1))


def _lanes() -> int:
    """Numbers in a register of this processor."""
    return {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 4)
