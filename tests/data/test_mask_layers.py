"""Layers of masks: run lengths read all at once, packing, and stacks of which little is written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from cellseg_d2.data.lazy_zeros import lazy_zeros
from cellseg_d2.data.mask_layers import Foreground, foreground_pixels, pack_layers, stack_masks


def encoded(mask: np.ndarray) -> dict:
    """Compressed run lengths as pycocotools makes them (bytes)."""
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.lists(st.sampled_from([0.0, 0.02, 0.5, 0.97, 1.0]), max_size=6),
    st.integers(0, 999),
)
def test_pixels_are_those_of_pycocotools(height, width, densities, seed):
    rng = np.random.default_rng(seed)
    masks = [rng.random((height, width)) < density for density in densities]
    rles = [encoded(mask) for mask in masks]
    rles = [rle if k % 2 else {**rle, "counts": rle["counts"].decode()} for k, rle in enumerate(rles)]
    pixels, counts = foreground_pixels(rles, height, width)
    assert counts.tolist() == [int(mask.sum()) for mask in masks]
    expected = [np.flatnonzero(mask.T) for mask in masks]
    assert (pixels == np.concatenate([np.zeros(0, int), *expected])).all()
    layers = pack_layers(pixels, counts, height, width)
    for number, mask in enumerate(masks, start=1):
        holders = [layer for layer in layers if (layer == number).any()]
        assert len(holders) == mask.any() and all(((layer == number) == mask).all() for layer in holders)


def test_damaged_run_lengths():
    rle = encoded(np.eye(6))
    with pytest.raises(ValueError, match=r"run lengths of \[6, 6\] pixels in an image of \[6, 7\]"):
        foreground_pixels([rle], 6, 7)
    with pytest.raises(ValueError, match="do not add up to 6 x 7 pixels"):
        foreground_pixels([{**rle, "size": [6, 7]}], 6, 7)


def test_as_few_layers_as_needed():
    def layers(*bars: tuple[int, int]) -> int:
        masks = [
            np.repeat((np.arange(30) >= first) & (np.arange(30) < last), 4).reshape(30, 4).T for first, last in bars
        ]
        return len(pack_layers(*foreground_pixels([encoded(mask) for mask in masks], 4, 30), 4, 30))

    assert layers() == 1 and layers((0, 5), (5, 9), (20, 30)) == 1
    assert layers((0, 6), (5, 12), (11, 20), (19, 30)) == 2
    assert layers((0, 30), (3, 8), (5, 20), (7, 9)) == 4
    assert layers((0, 30), (3, 8), (10, 20), (20, 30)) == 2


def test_stack_is_ordered_by_annotation_and_leaves_out_what_is_empty():
    labels = np.zeros((9, 12), np.int32)
    labels[1:4, 2:5], labels[6:8, 10:] = 3, 1
    labels[0, 0] = -1
    other = np.where(labels == 3, np.int32(1), np.int32(0))
    parts = [Foreground.of_layer(labels, np.array([-1, 7, 5, 2])), Foreground.of_layer(other, np.array([-1, 4]))]
    sources, boxes, masks = stack_masks(parts, 9, 12)
    assert sources.tolist() == [2, 4, 7]
    assert boxes.tolist() == [[2, 1, 5, 4], [2, 1, 5, 4], [10, 6, 12, 8]]
    assert (masks.tensor.numpy() == np.stack([labels == 3, labels == 3, labels == 1])).all()
    sources, boxes, masks = stack_masks([], 9, 12)
    assert sources.shape == (0,) and boxes.shape == (0, 4) and masks.tensor.shape == (0, 9, 12)


@pytest.mark.parametrize("shape", [(0, 5, 7), (3, 5, 7), (4,)])
def test_lazy_zeros(shape):
    one, two = lazy_zeros(shape), lazy_zeros(shape)
    assert one.shape == shape and one.dtype == bool and not one.any() and one.flags.writeable
    one[...] = True
    assert one.all() and not two.any()


def test_lazy_zeros_take_no_memory_until_written():
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large = lazy_zeros((1000, 1000, 1000))  # 1 GB
    large[:, 500, 500] = True
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
