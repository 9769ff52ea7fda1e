"""3x3 convolutions on the CPU with a quarter of the multiplications: Winograd's F(4x4, 3x3) in float32.

Of tiles d of 6x6 pixels and a filter g, 4x4 outputs are Y = A^T [(G g G^T) * (B^T d B)] A (Lavin & Gray, Fast
Algorithms for Convolutional Neural Networks, CVPR 2016). The product * is one by one in the 36 places of a tile and a
sum over channels, so that all tiles together are 36 matrix products. The points of interpolation are 0, +-1/sqrt 2,
+-sqrt 2 and infinity: with them the rounding error is half of that with the usual 0, +-1, +-2.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from math import sqrt

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - what computes np.dot in compiled loops; it is to be there for the limit
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from numba import njit
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from ...modeling.layers import DeformableConv2d

__all__ = ["Winograd", "one_product_one_thread", "use_winograd"]

LEAST_CHANNELS, LEAST_TILES = 64, 24  # below either the plain convolution is as fast
MOST_FILTERS = 1 << 17  # of more, four times the memory of their weights gains little
_A, _B = np.float32(sqrt(0.5)), np.float32(sqrt(2))  # points of interpolation
_LIMIT = threading.Lock()
_NO_LEAST = np.float32(-np.inf)
_HALF, _TWO, _FIVE_HALVES = np.float32(0.5), np.float32(2), np.float32(2.5)  # of their squares: product and sum


class Winograd:
    """What a 3x3 convolution computes, and a relu after it, in as many threads as PyTorch has.

    Args:
        conv: float32, with stride, padding and dilation of 1, and one group.
        relu: what is negative becomes zero.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        points = np.array([0, _A, -_A, _B, -_B], dtype=np.float64)
        norms = np.array([1, -1.5, -1.5, 6, 6])  # products of a point's distances to the others
        g = torch.from_numpy(np.vstack([points[:, None] ** np.arange(3) / norms[:, None], [0, 0, 1]]))
        weight = conv.weight.detach()
        taps = weight.permute(2, 3, 1, 0).flatten(0, 1).flatten(1).double()
        filters = torch.empty(36, conv.in_channels, conv.out_channels, dtype=torch.float32)
        for p in range(6):  # not all at once: they are nine times the memory of the weights
            filters[6 * p : 6 * p + 6] = (torch.kron(g[p : p + 1], g) @ taps).view(6, *filters.shape[1:])
        self.filters = filters.numpy()
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        self.plain, self.bias, self.least = (weight, conv.bias), bias.numpy(), np.float32(0 if relu else -np.inf)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) float32 -> (N, K, H, W) float32, contiguous as channels_last.

        What it is not made for, such as other types under autocast, goes to PyTorch's convolution."""
        n, channels, height, width = x.shape
        tiles = n * -(-height // 4) * -(-width // 4)
        if tiles < LEAST_TILES or channels != self.filters.shape[1] or x.dtype != torch.float32:
            y = F.conv2d(x, *self.plain, padding=1)
            return y if np.isinf(self.least) else y.relu_()
        pixels = x.permute(0, 2, 3, 1).contiguous().numpy()
        result = torch.empty(n, height, width, self.filters.shape[2], dtype=torch.float32)
        threads = torch.get_num_threads()
        ends = [tiles * k // threads for k in range(threads + 1)]

        def run(first: int, stop: int) -> None:
            _convolve(first, stop, pixels, self.filters, self.bias, self.least, result.numpy())

        if threads == 1:
            run(0, tiles)
        else:
            list(_pool(threads).map(run, ends[:-1], ends[1:]))
        return result.permute(0, 3, 1, 2)


@contextmanager
def one_product_one_thread() -> Iterator[None]:
    """While it lasts, matrix products of NumPy and SciPy take one thread: the tiles are what is shared out.

    The limit is the process's, so that one thread at a time is inside.
    """
    with _LIMIT, _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="winograd")


def use_winograd(module: nn.Module) -> nn.Module:
    """Compute a module's suitable convolutions in this way from now on, where it pays; ``module`` is returned.

    Args:
        module: on the CPU; what is float32 of it is meant. Its weights are taken as they are now.
    """
    parts = [] if numba.config.DISABLE_JIT else list(module.modules())
    deformed = {part.conv for part in parts if isinstance(part, DeformableConv2d)}  # weights for something else
    for part in parts:
        if type(part) is nn.Conv2d and part not in deformed and _suits(part):
            part.forward = Winograd(part)
        elif isinstance(part, Conv2d) and part.norm is None and _suits(part):
            relu = isinstance(part.activation, nn.ReLU) or part.activation is F.relu
            if relu or part.activation is None:
                part.forward = Winograd(part, relu)
    return module


def _suits(conv: nn.Conv2d) -> bool:
    form = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode
    narrow = min(conv.in_channels, conv.out_channels) < LEAST_CHANNELS
    wide = conv.in_channels * conv.out_channels > MOST_FILTERS
    plain = form == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros") and conv.weight.dtype == torch.float32
    return plain and not narrow and not wide


@njit(cache=True, nogil=True)
def _convolve(start, stop, pixels, filters, bias, least, result):
    """The tiles from ``start`` to ``stop``, some at a time: what lies between the steps stays in the caches."""
    block = max(48, 3 * filters.shape[1] // 8)
    # One tile more than is used: rows at distances of powers of two would fall into the same places of the caches
    spread = np.empty((36, block + 1, filters.shape[1]), np.float32)
    product = np.empty((36, block + 1, filters.shape[2]), np.float32)
    for first in range(start, stop, block):
        count = min(block, stop - first)
        _spread(count, pixels, first, spread)
        for k in range(36):
            np.dot(spread[k, :count], filters[k], product[k, :count])
        _gather(count, product, bias, least, first, result)


@njit(cache=True, fastmath={"contract"})
def _spread(count, pixels, first, spread):
    """B^T d B of ``count`` tiles from ``first``: pixels (N, H, W, C) -> spread (36, tiles, C)."""
    _, height, width, channels = pixels.shape
    rows, columns = (height + 3) // 4, (width + 3) // 4
    outside = np.zeros(channels, np.float32)
    half = np.empty((6, 6, channels), np.float32)
    for k in range(count):
        image, place = divmod(first + k, rows * columns)
        top, left = 4 * (place // columns) - 1, 4 * (place % columns) - 1
        for j in range(6):
            x = left + j
            inside = 0 <= x < width
            _transform_input(
                pixels[image, top, x] if inside and top >= 0 else outside,
                pixels[image, top + 1, x] if inside else outside,
                pixels[image, top + 2, x] if inside and top + 2 < height else outside,
                pixels[image, top + 3, x] if inside and top + 3 < height else outside,
                pixels[image, top + 4, x] if inside and top + 4 < height else outside,
                pixels[image, top + 5, x] if inside and top + 5 < height else outside,
                half[0, j], half[1, j], half[2, j], half[3, j], half[4, j], half[5, j],
            )  # fmt: skip
        for i in range(6):
            row, to = half[i], 6 * i
            _transform_input(
                row[0], row[1], row[2], row[3], row[4], row[5], spread[to, k], spread[to + 1, k], spread[to + 2, k],
                spread[to + 3, k], spread[to + 4, k], spread[to + 5, k],
            )  # fmt: skip


@njit(cache=True, fastmath={"contract"})
def _transform_input(d0, d1, d2, d3, d4, d5, to0, to1, to2, to3, to4, to5):
    """Six vectors times B^T."""
    for c in range(len(d0)):
        even, odd = d4[c] - _TWO * d2[c], _A * (d3[c] - _TWO * d1[c])
        even_, odd_ = d4[c] - _HALF * d2[c], _B * (d3[c] - _HALF * d1[c])
        to0[c] = d0[c] - _FIVE_HALVES * d2[c] + d4[c]
        to1[c], to2[c] = even + odd, even - odd
        to3[c], to4[c] = even_ + odd_, even_ - odd_
        to5[c] = d1[c] - _FIVE_HALVES * d3[c] + d5[c]


@njit(cache=True, fastmath={"contract"})
def _gather(count, product, bias, least, first, result):
    """A^T m A of ``count`` tiles from ``first``: product (36, tiles, K) -> result (N, H, W, K)."""
    _, height, width, channels = result.shape
    rows, columns = (height + 3) // 4, (width + 3) // 4
    half, tile = np.empty((4, 6, channels), np.float32), np.empty((4, channels), np.float32)
    none = np.zeros(channels, np.float32)
    for k in range(count):
        image, place = divmod(first + k, rows * columns)
        top, left = 4 * (place // columns), 4 * (place % columns)
        for j in range(6):
            _transform_output(
                product[j, k], product[6 + j, k], product[12 + j, k], product[18 + j, k], product[24 + j, k],
                product[30 + j, k], none, _NO_LEAST, half[0, j], half[1, j], half[2, j], half[3, j],
            )  # fmt: skip
        for i in range(min(4, height - top)):
            row, to = half[i], result[image, top + i]
            _transform_output(
                row[0], row[1], row[2], row[3], row[4], row[5], bias, least,
                to[left],
                to[left + 1] if left + 1 < width else tile[1],
                to[left + 2] if left + 2 < width else tile[2],
                to[left + 3] if left + 3 < width else tile[3],
            )  # fmt: skip


@njit(cache=True, fastmath={"contract"})
def _transform_output(m0, m1, m2, m3, m4, m5, bias, least, to0, to1, to2, to3):
    """Six vectors times A^T, and the bias; at least ``least``."""
    for c in range(len(m0)):
        even, odd = m1[c] + m2[c], _A * (m1[c] - m2[c])
        even_, odd_ = m3[c] + m4[c], _B * (m3[c] - m4[c])
        to0[c] = max(m0[c] + even + even_ + bias[c], least)
        to1[c] = max(odd + odd_ + bias[c], least)
        to2[c] = max(_HALF * even + _TWO * even_ + bias[c], least)
        to3[c] = max(_HALF * odd + _TWO * odd_ + m5[c] + bias[c], least)
