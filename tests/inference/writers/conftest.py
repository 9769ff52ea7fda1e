"""Cells of every kind: touching, overlapping, in pieces, with holes, of one pixel, at the frame's border."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_util

from cellseg_d2.inference.records import Frame, FrameCells

HEIGHT, WIDTH = 40, 60


def encode(mask: np.ndarray) -> dict:
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


@pytest.fixture
def make_result():
    """Masks, and keys of the frame -> a frame's cells, scores falling."""

    def make(masks, classes=("cell",), tracks=None, pixels=None, probability=None, **frame) -> FrameCells:
        masks = np.asarray(masks, dtype=bool)
        pixels = np.zeros(masks.shape[1:], np.uint16) if pixels is None else pixels
        cells = [
            {"category_id": k % len(classes), "score": 1 - k / (len(masks) + 1), "segmentation": encode(mask)}
            for k, mask in enumerate(masks)
        ]
        for cell, track in zip(cells, tracks or [None] * len(cells)):
            cell |= {"bbox": mask_util.toBbox(cell["segmentation"]).tolist()} | ({"track_id": track} if track else {})
        frame = {"path": Path("in/film.tif"), "name": "film", "pixels": pixels} | frame
        return FrameCells(Frame(**frame), cells, classes, probability)

    return make


@pytest.fixture
def masks() -> np.ndarray:
    """(7, 40, 60) bool; only 0 and 1 overlap."""
    masks = np.zeros((7, HEIGHT, WIDTH), bool)
    masks[0, 5:15, 5:15], masks[1, 10:22, 10:22] = True, True
    masks[2, :4, 50:], masks[3, 39, 0] = True, True  # at the border, one pixel
    masks[4, 25:35, 5:20], masks[4, 28:31, 8:12], masks[4, 29, 9] = True, False, True  # an island in a hole
    for k in range(4):
        masks[5, 25 + k, 30 + k] = True  # joined at corners
    masks[6, 10:14, 40:44], masks[6, 12:16, 48:52], masks[6, 11:13, 41:43] = True, True, False  # two pieces
    masks[6, 15, 47] = True
    return masks
