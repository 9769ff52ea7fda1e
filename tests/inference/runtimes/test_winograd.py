"""Winograd's convolutions give what PyTorch's give, at all sizes, and stand in for those that they can compute."""

import copy
import itertools
import threading
import time

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import nn

from cellseg_d2.inference.runtimes import winograd
from cellseg_d2.inference.runtimes.winograd import Winograd, one_product_one_thread, use_winograd
from cellseg_d2.modeling.layers import DeformableConv2d


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
    for value in (np.nan, np.inf):
        x[0, 3, 20, 20] = value
        for relu in (False, True):
            with torch.inference_mode():
                y = Winograd(conv, relu)(x)
            assert not y[0, :, 20, 20].isfinite().all() and y[0, :, :10].isfinite().all()


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


def test_the_weights_of_deformable_convolutions_are_left_alone():
    layer = use_winograd(DeformableConv2d(64, 64, modulated=False))
    assert not any("forward" in vars(part) for part in layer.modules())


def test_what_it_is_not_made_for_goes_to_pytorch():
    conv, x = nn.Conv2d(64, 64, 3, padding=1), torch.rand(1, 64, 40, 40)
    fast = use_winograd(copy.deepcopy(conv))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(x.bfloat16()), conv(x)) and torch.allclose(fast(x), conv(x).float(), atol=0.02)
    for channels in (32, 65, 4096):
        with pytest.raises(RuntimeError, match="to have 64 channels"):
            fast(torch.rand(1, channels, 40, 40))
    assert not isinstance(use_winograd(conv.double()).forward, Winograd)


def test_the_limit_of_threads_is_there_inside_and_gone_after_the_last():
    def limits():
        return [library["num_threads"] for library in winograd._libraries().select(user_api="blas").info()]

    outside, inside = limits(), []

    def predict():
        with one_product_one_thread():
            inside.append(limits())
            time.sleep(0.02)

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 4 and set(sum(inside, [])) == {1} and limits() == outside


def test_nothing_changes_where_nothing_compiles(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    conv = use_winograd(nn.Conv2d(64, 64, 3, padding=1))
    assert not isinstance(conv.forward, Winograd)
