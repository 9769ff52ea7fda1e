"""Class and weight maps: doctests, and the definitions evaluated pixel by pixel."""

import doctest

import numpy as np
import pytest
from scipy import ndimage

from cellseg_d2.data import weight_maps
from cellseg_d2.data.weight_maps import class_map, edge_weights, unet_weights


def scene(seed: int = 0, size: int = 60, cells: int = 12) -> np.ndarray:
    """Overlapping discs, one of them in two pieces, and an ignored corner."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    labels = np.zeros((size, size), dtype=np.int32)
    for label in [*range(1, cells + 1), 3]:
        y, x, radius = *rng.integers(0, size, 2), rng.integers(3, 9)
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = label
    labels[:7, -9:] = -1
    return labels


def steps_to_others(labels: np.ndarray, ignored_counts: bool) -> np.ndarray:
    """Distance of each pixel to the nearest pixel of another label; infinite where there is none."""
    distance = np.full(labels.shape, np.inf)
    for label in np.unique(labels):
        own = labels == label
        others = ~own if ignored_counts else ~own & (labels >= 0)
        if others.any():
            distance[own] = ndimage.distance_transform_edt(~others)[own]
    return distance


def test_examples():
    assert doctest.testmod(weight_maps, extraglobs={"np": np}).failed == 0


def test_classes():
    labels = scene()
    cells = labels > 0
    one, three = class_map(labels, 1), class_map(labels, 3, edge_width=2)
    assert one.dtype == three.dtype == np.uint8
    assert ((one == 1) == cells).all() and ((one == 255) == (labels < 0)).all()
    assert ((three == 255) == (labels < 0)).all() and (((three == 1) | (three == 2)) == cells).all()
    distance = steps_to_others(labels, ignored_counts=True)
    assert (three[cells & (distance <= 1)] == 2).all()  # beside something else
    assert (three[cells & (distance > 2)] == 1).all()
    straight = np.zeros((20, 20), np.int32)
    straight[:, 5:] = 1
    for width in (1, 2, 3, 7):
        edge = class_map(straight, 3, edge_width=width) == 2
        assert edge[:, 5 : 5 + width].all() and edge.sum() == 20 * width  # and the frame of the image is no border


@pytest.mark.parametrize(("width", "each_side"), [(0.5, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (9, 5)])
def test_edge_weights_on_both_sides_of_a_straight_border(width, each_side):
    labels = np.zeros((30, 30), np.int32)
    labels[15:], labels[15:, 20:] = 1, 2
    weights = edge_weights(labels, weight=7, width=width)
    expected = np.ones((30, 30))
    expected[15 - each_side : 15 + each_side] = 7
    expected[15:, 20 - each_side : 20 + each_side] = 7
    corner = np.s_[15 - each_side : 16, 20 - each_side : 20 + each_side]
    weights[corner] = expected[corner]
    assert weights.dtype == np.float32 and (weights == expected).all()


def test_edge_weights_of_a_scene():
    labels = scene(1)
    weights = edge_weights(labels, weight=5, width=5)
    assert ((weights == 0) == (labels < 0)).all()
    known = labels >= 0
    distance = steps_to_others(labels, ignored_counts=False)
    assert (weights[known & (distance <= 1)] == 5).all()
    assert (weights[known & (distance > 3)] == 1).all()
    beside_ignored = np.full((9, 20), 4, np.int32)
    beside_ignored[:, 10:] = -1
    assert (edge_weights(beside_ignored, 5, 5)[:, :10] == 1).all()


def reference_unet(labels: np.ndarray, weight: float, sigma: float) -> np.ndarray:
    """Equation 2 with one distance map of the whole image for each cell."""
    ids = np.unique(labels[labels > 0])
    expected = np.ones(labels.shape)
    if len(ids) > 1:
        distances = np.sort([ndimage.distance_transform_edt(labels != label) for label in ids], axis=0)
        term = weight * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
        expected += np.where(labels == 0, term, 0)
    expected[labels < 0] = 0
    return expected


@pytest.mark.parametrize(("weight", "sigma"), [(10, 5), (3, 1.5), (10, 30)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_unet_weights_are_equation_2(weight, sigma, seed):
    labels = scene(seed)
    weights = unet_weights(labels, weight, sigma)
    assert weights.dtype == np.float32
    assert np.abs(weights - reference_unet(labels, weight, sigma)).max() < 1.1e-4


def test_unet_weights_of_few_cells():
    for labels in (np.zeros((9, 9), np.int32), np.ones((9, 9), np.int32), np.full((9, 9), -1, np.int32)):
        assert (unet_weights(labels, 10, 5) == (labels >= 0)).all()
        assert (edge_weights(labels, 10, 5) == (labels >= 0)).all()
    one = np.zeros((9, 9), np.int32)
    one[2:5, 3:6] = 7
    assert (unet_weights(one, 10, 5) == 1).all() and (unet_weights(scene(), 0, 5) == (scene() >= 0)).all()


def test_wrong_options():
    labels = scene()
    for call, message in (
        (lambda: class_map(labels, 2), "neither 1 .* nor 3"),
        (lambda: class_map(labels, 3, 0), "edge_width: 0"),
        (lambda: edge_weights(labels, 5, 0), "EDGE_WIDTH"),
        (lambda: unet_weights(labels, 5, 0), "UNET_SIGMA"),
        (lambda: unet_weights(labels, -1, 5), "UNET_WEIGHT"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
