"""Winograd's convolutions give what PyTorch's give, at all sizes, and stand in for those that they can compute."""

import itertools

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import nn

from cellseg_d2.inference.runtimes import winograd
from cellseg_d2.inference.runtimes.winograd import Winograd, use_winograd


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def always(monkeypatch):
    """No image is too small."""
    monkeypatch.setattr(winograd, "LEAST_TILES", 0)


def _difference(conv, ours, x, relu=False):
    """Largest difference from the convolution in float64, of its largest value."""
    exact = F.conv2d(x.double(), conv.weight.double(), None if conv.bias is None else conv.bias.double(), padding=1)
    exact = exact.relu() if relu else exact
    assert ours.shape == exact.shape and ours.dtype == torch.float32
    return float((ours - exact).abs().max() / exact.abs().max())


@pytest.mark.parametrize("size", [*itertools.product(range(1, 6), range(1, 6)), (14, 14), (17, 22), (8, 64)])
def test_all_sizes(always, size):
    conv, x = nn.Conv2d(5, 7, 3, padding=1), torch.randn(3, 5, *size)
    with torch.inference_mode():
        assert _difference(conv, Winograd(conv)(x), x) < 1e-5


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("threads", [1, 3])
def test_many_channels_blocks_and_threads(monkeypatch, relu, bias, form, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    conv, x = nn.Conv2d(129, 96, 3, padding=1, bias=bias), torch.rand(5, 129, 30, 33).to(memory_format=form)
    with torch.inference_mode():
        y = Winograd(conv, relu)(x)
        assert _difference(conv, y, x, relu) < 3e-6
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_tiles_take_the_plain_convolution(count):
    conv, x = nn.Conv2d(64, 64, 3, padding=1), torch.randn(count, 64, 9, 9)
    with torch.inference_mode():
        assert torch.equal(Winograd(conv, relu=True)(x), F.relu(conv(x)))


def test_an_impulse_comes_out_as_the_filter(always):
    conv, x = nn.Conv2d(1, 1, 3, padding=1, bias=False), torch.zeros(1, 1, 9, 10)
    for row, column in itertools.product(range(9), range(10)):
        x.zero_()[0, 0, row, column] = 1
        with torch.inference_mode():
            y = Winograd(conv)(x)
        assert torch.allclose(y, F.conv2d(x, conv.weight, padding=1), atol=2e-6)


def test_infinity_and_nan_are_not_hidden():
    conv, x = nn.Conv2d(64, 64, 3, padding=1), torch.randn(1, 64, 40, 40)
    x[0, 3, 20, 20] = np.nan
    with torch.inference_mode():
        y = Winograd(conv)(x)
    assert y[0, :, 20, 20].isnan().all() and not y[0, :, :10].isnan().any()


def test_what_stands_in_for_what():
    wide = {"groups": 1, "padding": 1}
    plain = [
        nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.Conv2d(64, 64, 3, padding=0),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2), nn.Conv2d(64, 64, 3, padding=1, groups=64),
        nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 4, 3, padding=1), nn.Conv2d(64, 2112, 3, padding=1),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
        Conv2d(64, 64, 3, padding=1, norm=nn.GroupNorm(32, 64)), Conv2d(64, 64, 3, padding=1, activation=torch.tanh),
    ]  # fmt: skip
    fast = [nn.Conv2d(64, 80, 3, **wide), Conv2d(64, 64, 3, **wide), Conv2d(64, 64, 3, **wide, activation=nn.ReLU()),
            Conv2d(64, 64, 3, **wide, activation=F.relu)]  # fmt: skip
    x = torch.randn(2, 64, 20, 24)
    with torch.inference_mode():
        expected = [conv(x[:, : conv.in_channels]) for conv in (*plain, *fast)]
        use_winograd(nn.ModuleList([*plain, *fast]))
        for conv, y in zip((*plain, *fast), expected):
            assert torch.allclose(conv(x[:, : conv.in_channels]), y, atol=1e-5)
    assert [isinstance(conv.forward, Winograd) for conv in (*plain, *fast)] == [False] * len(plain) + [True] * 4


def test_nothing_changes_where_nothing_compiles(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    conv = use_winograd(nn.Conv2d(64, 64, 3, padding=1))
    assert not isinstance(conv.forward, Winograd)
