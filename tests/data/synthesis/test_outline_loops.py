"""Outlines of label images: filled by pycocotools they are the labels again, and they are those of single masks."""

import numpy as np
import pytest
from pycocotools import mask as mask_util
from scipy import ndimage

from cellseg_d2.data.rle import rle_to_polygons
from cellseg_d2.data.synthesis.outline_loops import trace_outlines

EIGHT = np.ones((3, 3))


def traced(labels):
    """Label -> list of (polygon, area)."""
    corners, starts, owners, areas = trace_outlines(labels.astype(np.int32))
    result = {}
    for outline, owner, area in zip(np.split(corners, starts[1:]), owners.tolist(), areas.tolist()):
        result.setdefault(owner, []).append((outline.astype(float).reshape(-1).tolist(), area))
    return result


def filled(polygons, shape):
    """H x W bool, as pycocotools fills them."""
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, *shape))).astype(bool)


def without_holes(mask):
    """Fill what cannot be reached from outside by steps along rows and columns."""
    return ndimage.binary_fill_holes(mask)


def canonical(polygon):
    """The corners from the smallest on, in one direction, without those on straight lines."""
    points = np.array(polygon).reshape(-1, 2)
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    points = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]].tolist()
    first = points.index(min(points))
    points = points[first:] + points[:first]
    return tuple(map(tuple, min(points, points[:1] + points[:0:-1])))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kinds", [2, 3, 6])
def test_random_labels_come_back(seed, kinds):
    """Noise is the hardest: corners that touch, holes in holes, pieces of one pixel, pieces at the frame."""
    labels = np.random.default_rng(seed).integers(0, kinds, (23, 31))
    found = traced(labels)
    assert set(found) == set(np.unique(labels)) - {0}
    for label, outlines in found.items():
        mask = labels == label
        assert (filled([polygon for polygon, _ in outlines], labels.shape) == without_holes(mask)).all()
        pieces, count = ndimage.label(mask, EIGHT)
        areas = [int(without_holes(pieces == piece).sum()) for piece in range(1, count + 1)]
        assert sorted(area for _, area in outlines) == sorted(areas)
        for polygon, area in outlines:
            assert filled([polygon], labels.shape).sum() == area


@pytest.mark.parametrize("seed", range(6))
def test_outlines_are_those_of_single_masks(seed):
    noise = np.random.default_rng(seed).normal(0, 1, (48, 64))
    smooth = ndimage.gaussian_filter(noise, 2)
    labels = np.digitize(smooth, [0.0, 0.1, 0.2]).astype(np.int32)
    found = traced(labels)
    for label in (1, 2, 3):
        rle = mask_util.encode(np.asfortranarray((labels == label).astype(np.uint8)))
        expected = {canonical(polygon) for polygon in rle_to_polygons(rle)}
        ours = {canonical(polygon) for polygon, _ in found[label]}
        assert expected <= ours
        inner = ours - expected  # pieces in holes of others of the same label, which the reference leaves out
        outer = filled([np.ravel(one).tolist() for one in expected], labels.shape)
        for one in inner:
            assert not (filled([np.ravel(one).tolist()], labels.shape) & ~outer).any()


def test_corners_and_areas_of_a_known_shape():
    labels = np.zeros((6, 7), np.int32)
    labels[1:4, 2:5] = 5
    labels[2, 3] = 0  # a hole
    corners, starts, owners, areas = trace_outlines(labels)
    assert corners.tolist() == [[5, 1], [5, 4], [2, 4], [2, 1]]
    assert (starts.tolist(), owners.tolist(), areas.tolist()) == ([0], [5], [9])


def test_pixels_that_touch_at_a_corner_are_one_piece():
    labels = np.eye(4, dtype=np.int32) + 2 * np.eye(4, dtype=np.int32)[::-1]
    found = traced(labels)
    assert {label: [area for _, area in outlines] for label, outlines in found.items()} == {1: [4], 2: [4]}
    for label, outlines in found.items():
        assert (filled([outlines[0][0]], labels.shape) == (labels == label)).all()


def test_a_label_within_another_one_keeps_its_outline():
    labels = np.ones((9, 9), np.int32)
    labels[3:6, 3:6] = 2
    labels[4, 4] = 1
    found = traced(labels)
    assert sorted((label, area) for label, outlines in found.items() for _, area in outlines) == [
        (1, 1), (1, 81), (2, 9)
    ]


def test_many_corners_and_none():
    board = np.indices((150, 150)).sum(axis=0) % 2
    labels = (board * (np.arange(150 * 150).reshape(150, 150) + 1)).astype(np.int32)  # more corners than fit at first
    corners, starts, owners, areas = trace_outlines(labels)
    assert len(starts) == board.sum() and len(corners) == 4 * board.sum()
    assert (areas == 1).all() and (owners == labels[labels > 0]).all()
    corners, starts, owners, areas = trace_outlines(np.zeros((5, 5), np.int32))
    assert [len(part) for part in (corners, starts, owners, areas)] == [0, 0, 0, 0]
