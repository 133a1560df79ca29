"""3x3 convolutions on a CPU with a fraction of the multiplications, in float32: Winograd's.

F(4x4, 3x3) takes 36 products where a convolution takes 144 (Lavin & Gray, "Fast algorithms for
convolutional neural networks", CVPR 2016, section 4.3), at an error of about 1e-6 relative. The
kernels are ncnn's (the extra ``fast``), which chooses the form by size. torch's own stay for what
is narrow, where the transforms cost more than they save. They get a band of rows at a time, so that
the transformed tiles stay in the processor's caches.

The derivative with respect to the input is a convolution with the filters flipped and transposed:
the same kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Channels from which on it pays.
NARROW = 64
#: What channels must be a multiple of: the most numbers that a register holds.
PACK = 16
#: Rows of ncnn's tiles, which are of 2, 4 or 6, that all of them divide.
_TILES = 12
#: Floats of input and output in one call of ncnn's: the transformed tiles, 36 numbers for 16, then
#: stay in the processor's caches. Whole maps take up to twice the time.
_BAND = 2**22
#: Bytes of transformed filters, there and back, per byte of weights; floats beside input and output
#: per float of either: themselves packed; and bytes of a band's tiles.
FILTERS, WORKSPACE, TILES = 12, 1, 4 * _BAND * 36 // 16


def available() -> bool:
    """Whether ncnn is installed."""
    return find_spec("ncnn") is not None


def suits(weight: Tensor) -> bool:
    """Whether a convolution's weight (N_out, N_in, h, w) is 3x3, and wide enough to gain."""
    channels = weight.shape[:2]
    packs = all(count % PACK == 0 for count in channels)
    return weight.shape[2:] == (3, 3) and packs and min(channels) >= NARROW


class Convolution:
    """A frozen convolution with a border of one pixel, its rectifier, and their derivative.

    Args:
        weight: (N_out, N_in, 3, 3). bias: (N_out,). padding: one of `choices.PADDINGS`.
    """

    def __init__(self, weight: Tensor, bias: Tensor, padding: str) -> None:
        self.threads, self.padding = torch.get_num_threads(), padding
        self._forward = _Net(weight, bias, rectified=True)
        turned = weight.flip(2, 3).transpose(0, 1)
        self._backward = _Net(turned, bias.new_zeros(len(turned)), rectified=False)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, N_in, H, W) -> (B, N_out, H, W), of two pixels or more each way."""
        found: Tensor = _Apply.apply(x, self)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return _each(self._forth, x, self._forward.channels)

    def backward(self, gradient: Tensor) -> Tensor:
        """(B, N_out, H, W) -> (B, N_in, H, W)."""
        return _each(self._back, gradient, self._backward.channels)

    def _forth(self, image: Tensor, result: Tensor) -> None:
        planes = _packed(image, 1)
        if self.padding == "reflect":
            _reflect(planes)
        for rows, band in self._forward(planes):
            _unpack(band, result[rows])

    def _back(self, image: Tensor, result: Tensor) -> None:
        bands = self._backward(_packed(image, 2))  # with the derivatives of the border
        if self.padding == "reflect":
            _fold([band for _, band in bands])
        for rows, band in bands:
            own = slice(max(rows.start, 1), min(rows.stop, len(result) + 1))
            inside = band[:, own.start - rows.start : own.stop - rows.start, 1:-1]
            _unpack(inside, result[own.start - 1 : own.stop - 1])


def _each(compute: Callable[[Tensor, Tensor], None], x: Tensor, channels: int) -> Tensor:
    """(B, N, H, W) -> (B, channels, H, W), image by image, with nothing left in ncnn's memory."""
    found = x.new_empty((len(x), *x.shape[2:], channels))
    for image, result in zip(x.detach(), found, strict=True):
        compute(image, result)
        _pool().clear()
    return found.permute(0, 3, 1, 2)


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, convolution: Convolution) -> Tensor:
        found = convolution.forward(x)
        ctx.convolution = convolution
        ctx.save_for_backward(found)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (found,) = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradients[0], found, 0)
        return ctx.convolution.backward(gradient), None


class _Net:
    """A network of ncnn's of one convolution without padding.

    Attributes:
        channels: of its output.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, rectified: bool) -> None:
        import ncnn

        self.channels = len(weight)
        self._net = net = ncnn.Net()
        net.opt.num_threads = torch.get_num_threads()
        net.opt.blob_allocator = net.opt.workspace_allocator = _pool()
        for half in ("use_fp16_storage", "use_fp16_arithmetic", "use_fp16_packed"):
            setattr(net.opt, half, False)
        # ncnn's numbers: 0 outputs, 1 side of the kernel, 5 bias, 6 weights, 9 rectifier.
        layer = f"0={len(weight)} 1=3 5=1 6={weight.numel()} 9={rectified:d}"
        net.load_param_mem(f"7767517\n2 2\nInput in 0 1 in\nConvolution conv 1 1 in out {layer}\n")
        parts = (np.zeros(1), weight.contiguous().numpy(), bias.numpy())  # 0: float32 weights
        net.load_model_mem(b"".join(part.astype(np.float32).tobytes() for part in parts))

    def __call__(self, planes: Tensor) -> list[tuple[slice, Tensor]]:
        """From packed planes (see `_packed`) of (H + 2, W + 2) those of (H, W).

        In bands: their rows, and the packed planes of these, in ncnn's memory.
        """
        # One band after another, with nothing of torch's between: its threads and ncnn's are not
        # the same, and those that wait take the processor from those that compute.
        height, width = planes.shape[1] - 2, planes.shape[2] - 2
        channels = len(planes) * planes.shape[3] + self.channels
        # In whole tiles of any of ncnn's forms, which are 2, 4 or 6 rows high.
        most = max(_TILES, _BAND // (channels * width) // _TILES * _TILES)
        tops = range(0, max(1, height - most // 2), most)
        rows = [slice(top, top + most) for top in tops[:-1]] + [slice(tops[-1], height)]
        return [(x, self._convolved(planes[:, x.start : x.stop + 2])) for x in rows]

    def _convolved(self, planes: Tensor) -> Tensor:
        extractor = self._net.create_extractor()
        extractor.input("in", _mat(planes))  # does not hold what it looks at
        failed, mat = extractor.extract("out", 1)  # 1: packed, as it is computed
        if failed:  # its only reason: its allocator had no more
            raise MemoryError(f"a convolution of {tuple(planes.shape)} does not fit into memory")
        height, width, lanes = mat.h, mat.w, mat.elempack
        mat.elempack, mat.elemsize = 1, 4
        mat.h, mat.w, mat.cstep = height * width, lanes, height * width * lanes
        return torch.from_numpy(np.asarray(mat)).unflatten(1, (height, width))


@functools.cache
def _pool() -> Any:
    """What networks take their memory from; by itself each would keep what it ever had."""
    import ncnn

    return ncnn.PoolAllocator()


# What ncnn computes on is packed: (N, H, W) as (N / p, H, W, p), where p numbers fill a register.
# It is made here, in blocks of p numbers; ncnn wants channels first, and packs by single numbers,
# which takes longer than all else but the products. Python can neither make nor read a packed
# matrix: it is made and read as one of p columns, and its fields are set to the other view.


def _packed(image: Tensor, border: int) -> Tensor:
    """(N, H, W), channels last in memory, as (N / p, H + 2 border, W + 2 border, p), 0 around."""
    pixels = image.permute(1, 2, 0).unflatten(2, (-1, _lanes())).permute(2, 0, 1, 3)
    groups, height, width, lanes = pixels.shape
    planes = image.new_empty((groups, height + 2 * border, width + 2 * border, lanes))
    planes[:, border:-border, border:-border] = pixels
    for edge in (slice(border), slice(-border, None)):
        planes[:, edge], planes[:, :, edge] = 0, 0
    return planes


def _reflect(planes: Tensor) -> None:
    """Fill the border of one pixel with what lies inside of it."""
    for edge, inside in ((0, 2), (-1, -3)):
        planes[:, 1:-1, edge] = planes[:, 1:-1, inside]
    for edge, inside in ((0, 2), (-1, -3)):
        planes[:, edge] = planes[:, inside]


def _fold(bands: Sequence[Tensor]) -> None:
    """The derivative of `_reflect`, but for what remains in the border."""
    bands[0][:, 2] += bands[0][:, 0]
    bands[-1][:, -3] += bands[-1][:, -1]
    for band in bands:
        for edge, inside in ((0, 2), (-1, -3)):
            band[:, :, inside] += band[:, :, edge]


def _mat(planes: Tensor) -> Any:
    """Of planes, or of some rows of planes."""
    import ncnn

    mat, (_, height, width, lanes) = ncnn.Mat(planes.flatten(1, 2).numpy()), planes.shape
    mat.elempack, mat.elemsize = lanes, 4 * lanes
    mat.h, mat.w, mat.cstep = height, width, planes.stride(0) // lanes
    return mat


def _unpack(planes: Tensor, pixels: Tensor) -> None:
    """Packed planes into (H, W, N)."""
    pixels.unflatten(2, (len(planes), -1)).copy_(planes.permute(1, 2, 0, 3))


def _lanes() -> int:
    """Numbers in a register of this processor."""
    return {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 4)
