"""Run lengths: the same as pycocotools, and outlines that give the mask back."""

import numpy as np
import pytest
from pycocotools import mask as mask_util
from scipy import ndimage

from cellseg_d2.data.rle import decode_columns, rle_to_polygons, run_lengths


def _encode(mask: np.ndarray) -> dict:
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


@pytest.mark.parametrize("seed", range(30))
def test_decoding_equals_pycocotools(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 300, 2)) < rng.choice([0.001, 0.1, 0.5, 0.99])
    mask[-1, -1] |= seed % 2 == 0
    mask.flat[rng.integers(mask.size)] = True
    rle = _encode(mask)
    columns, first = decode_columns(rle)
    assert run_lengths(rle["counts"]).sum() == mask.size
    assert run_lengths(rle["counts"]).tolist() == run_lengths(rle["counts"].decode()).tolist()
    assert (columns == mask[:, first : first + columns.shape[1]]).all() and columns.sum() == mask.sum()


def _smooth(seed: int) -> np.ndarray:
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).random((70, 90)), 3) > 0.5
    return ndimage.binary_fill_holes(mask)


@pytest.mark.parametrize("seed", range(10))
def test_outlines_give_the_mask_back(seed):
    mask = _smooth(seed)
    polygons = rle_to_polygons(_encode(mask))
    filled = mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, *mask.shape)))
    assert (filled == mask).all()
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons])
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert points.min(axis=0).tolist() == [columns[0], rows[0]]
    assert points.max(axis=0).tolist() == [columns[-1] + 1, rows[-1] + 1]


def test_single_pixels_and_holes():
    mask = np.zeros((9, 9))
    mask[8, 0] = 1
    assert sorted(map(tuple, np.reshape(rle_to_polygons(_encode(mask))[0], (-1, 2)))) == [
        (0, 8),
        (0, 9),
        (1, 8),
        (1, 9),
    ]
    mask[1:6, 3:8] = 1
    mask[3, 5] = 0
    pieces = rle_to_polygons(_encode(mask))
    assert sorted(len(piece) for piece in pieces) == [8, 8]
    filled = mask_util.decode(mask_util.merge(mask_util.frPyObjects(pieces, 9, 9)))
    mask[3, 5] = 1
    assert (filled == mask).all()
