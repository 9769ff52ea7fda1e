"""Label maps: drawn from annotations, cut by seams and frames, and turned into instances."""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from pycocotools import mask as mask_util

from cellseg_d2.data.instances import transform_instances
from cellseg_d2.data.label_maps import (
    drop_slivers,
    instances_from_labels,
    rasterise,
    separate_at_seam,
    transform_labels,
)
from cellseg_d2.data.roll_and_rotate import RollTransform, RotateTransform, transform_map
from cellseg_d2.data.transforms import Rot90Transform


def box_map(*boxes: tuple[int, int, int, int], height: int = 100, width: int = 120) -> np.ndarray:
    """Rectangles (row, column, height, width) with labels 1, 2, ..."""
    labels = np.zeros((height, width), np.int32)
    for label, (row, column, rows, columns) in enumerate(boxes, start=1):
        labels[row : row + rows, column : column + columns] = label
    return labels


def encoded(mask: np.ndarray, **more: int) -> dict:
    """An annotation with compressed run lengths."""
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}, "category_id": 0, **more}


def areas(labels: np.ndarray) -> list[int]:
    """Pixels of labels 1, 2, ..."""
    return np.bincount(labels[labels > 0])[1:].tolist()


def test_annotations_become_labels():
    labels = box_map((5, 5, 20, 20), (30, 10, 6, 40), (90, 100, 10, 20))
    annotations = [encoded(labels == k) for k in (1, 2, 3)]
    drawn = rasterise(annotations, 100, 120)
    assert drawn.dtype == np.int32 and drawn.flags.c_contiguous and (drawn == labels).all()
    annotations[1] = {"segmentation": [[10, 30, 50, 30, 50, 36, 10, 36]], "iscrowd": 0}
    assert (rasterise(annotations, 100, 120) == labels).all()
    two_pieces = {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4], [10, 10, 14, 10, 14, 14, 10, 14]]}
    assert areas(rasterise([two_pieces], 20, 20)) == [32]
    assert not rasterise([], 7, 9).any() and rasterise([], 7, 9).shape == (7, 9)
    with pytest.raises(ValueError, match="run lengths of"):
        rasterise(annotations, 120, 100)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_smaller_cells_are_on_top_and_crowds_below(order):
    large, small, crowd = np.zeros((3, 30, 30), bool)
    large[:20, :20], small[5:9, 5:9], crowd[15:, 15:] = True, True, True
    both = [encoded(large), encoded(small)]
    labels = rasterise([*(both[i] for i in order), encoded(crowd, iscrowd=1)], 30, 30)
    assert (labels[5:9, 5:9] == order.index(1) + 1).all()
    assert np.count_nonzero(labels == order.index(0) + 1) == 400 - 16
    assert np.count_nonzero(labels == -1) == 15 * 15 - 5 * 5
    assert labels.max() == 2


def test_a_cell_across_both_seams_becomes_four():
    labels = box_map((40, 50, 20, 30), (0, 0, 12, 12))
    roll = RollTransform(100, 120, 48, 55)  # from row 52 and column 65 on it comes in at the other side
    moved, owners = transform_labels(labels, roll)
    assert sorted(areas(moved)) == sorted([144, 12 * 15, 12 * 15, 8 * 15, 8 * 15])
    assert owners.tolist().count(0) == 4 and owners.tolist().count(1) == 1
    assert ((moved > 0) == (roll.apply_segmentation(labels) > 0)).all()
    for label in range(1, 6):
        rows, columns = np.nonzero(moved == label)
        assert (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1) == len(rows)
    back = roll.inverse().apply_segmentation(moved)
    assert (np.append(owners + 1, 0)[back - 1] == labels).all()


def test_pieces_keep_the_largest_label_and_no_other_cell_changes():
    labels = box_map((40, 50, 20, 30), (40, 0, 10, 12), (70, 90, 10, 12))
    moved, parents = separate_at_seam(RollTransform(100, 120, 45, 0).apply_segmentation(labels), 45, 0)
    assert parents.tolist() == [0, 1, 2, 3, 1]
    assert areas(moved) == [15 * 30, 120, 120, 5 * 30]
    untouched = RollTransform(100, 120, 20, 10).apply_segmentation(labels)
    same, parents = separate_at_seam(untouched, 20, 10)
    assert (same == untouched).all() and parents.tolist() == [0, 1, 2, 3]


def test_slivers_at_a_seam_and_at_a_crop():
    labels = box_map((80, 20, 20, 20))
    moved, owners = transform_labels(labels, RollTransform(100, 120, 1, 0))  # a row of 20 pixels: 5 %
    assert areas(moved) == [380] and owners.tolist() == [0]
    assert transform_labels(labels, T.CropTransform(0, 0, 120, 81))[1].tolist() == []
    assert areas(transform_labels(labels, T.CropTransform(0, 0, 120, 82))[0]) == [40]  # 10 %
    small = box_map((10, 10, 4, 4), (30, 30, 3, 3))
    crop = T.CropTransform(11, 0, 60, 60)
    assert areas(transform_labels(small, crop)[0]) == [12, 9]  # below 10 pixels, but whole
    assert transform_labels(small, T.CropTransform(12, 0, 60, 60))[1].tolist() == [1]
    assert (drop_slivers(small, np.array([0, 16, 9])) == small).all()
    assert areas(drop_slivers(small, np.array([0, 16, 90]), cut=np.array([False, False, True]))) == [16]


def test_crops_keep_what_the_polygon_path_keeps():
    rng = np.random.default_rng(0)
    for _ in range(20):
        boxes = [(row, column, *rng.integers(4, 15, 2)) for row in range(0, 80, 20) for column in range(0, 100, 20)]
        labels = box_map(*boxes)
        annotations = [encoded(labels == k) for k in range(1, len(boxes) + 1)]
        x, y = rng.integers(0, 60, 2).tolist()
        transforms = T.TransformList([T.CropTransform(x, y, 50, 40), T.HFlipTransform(50), Rot90Transform(40, 50, 1)])
        moved, owners = transform_labels(labels, transforms)
        mine = instances_from_labels(moved, np.arange(len(boxes))[owners])
        theirs = transform_instances(
            [a | {"category_id": k} for k, a in enumerate(annotations)], transforms, (50, 40), "bitmask"
        )
        assert (mine.gt_classes == theirs.gt_classes).all() and len(mine) > 0
        assert (mine.gt_masks.tensor == theirs.gt_masks.tensor).all()
        assert (mine.gt_boxes.tensor == theirs.gt_boxes.tensor).all()


def test_small_cells_inside_of_a_turned_image_stay():
    labels = box_map(*((row, column, 3, 3) for row in range(20, 80, 8) for column in range(20, 100, 8)))
    labels[0, 5:100] = 1000  # along the frame, which the turn moves out
    for degrees in (7, 45, -100):
        moved, owners = transform_labels(labels, RotateTransform(100, 120, degrees))
        everything = RotateTransform(100, 120, degrees).apply_segmentation(labels)
        inside = RotateTransform(100, 120, degrees).apply_coords(np.argwhere(labels)[:, ::-1] + 0.5)
        inside = ((inside > 0) & (inside < [120, 100])).all(axis=1)
        values = labels[labels > 0]
        whole = set(np.unique(values).tolist()) - set(values[~inside].tolist())
        assert len(whole) > 40 and whole <= set((owners + 1).tolist())
        assert ((moved == -1) == (everything == -1)).all()


def test_what_a_turn_leaves_of_a_cell():
    labels = box_map((0, 0, 10, 10), (45, 55, 10, 10), height=101, width=101)  # 1: in a corner, which 45 degrees lose
    labels[49:51, 0:40] = 3
    moved, owners = transform_labels(labels, RotateTransform(101, 101, 45))
    assert owners.tolist() == [1, 2]
    assert abs(areas(moved)[0] - 100) <= 10 and abs(areas(moved)[1] - 80) <= 10
    moved, owners = transform_labels(labels, RotateTransform(101, 101, 45, window=(50, 0, 51, 101)))
    assert owners.tolist() == [1] and (moved == -1).any()


def test_labels_through_a_whole_training_chain():
    rng = np.random.default_rng(0)
    labels = box_map(*((row, column, 9, 11) for row in range(2, 90, 12) for column in range(1, 105, 14)))
    labels[60:70, 60:90] = -1
    for _ in range(20):
        turn = RotateTransform(100, 120, float(rng.uniform(-180, 180)))
        corner = rng.integers(0, 36, 2).tolist()
        transforms = T.TransformList(
            [
                RollTransform(100, 120, *rng.integers(0, 100, 2).tolist()),
                turn.cropped(T.CropTransform(*corner, 64, 64)),
                T.ResizeTransform(64, 64, 80, 80),
                T.HFlipTransform(80),
                Rot90Transform(80, 80, 1),
                T.BlendTransform(1.0, 0.5, 0.5),
            ]
        )
        moved, owners = transform_labels(labels, transforms)
        assert moved.shape == (80, 80) and moved.dtype == np.int32
        assert np.unique(moved[moved > 0]).tolist() == list(range(1, len(owners) + 1))
        assert (np.diff(np.sort(owners)) >= 0).all() and owners.min() >= 0 and owners.max() < labels.max()
        plain = labels
        for transform in transforms.transforms:
            plain = transform_map(plain, transform)
        kept = moved > 0
        assert (plain[kept] == owners[moved[kept] - 1] + 1).all() and ((plain < 0) == (moved < 0)).all()
        assert np.count_nonzero(kept) > 0.8 * np.count_nonzero(plain > 0)


def test_instances():
    labels = box_map((5, 6, 20, 10), (0, 0, 2, 2), (50, 60, 4, 7))
    labels[labels == 2] = -1
    instances = instances_from_labels(labels, [4, 5, 6])
    assert instances.image_size == (100, 120) and instances.gt_classes.tolist() == [4, 6]
    assert instances.gt_boxes.tensor.tolist() == [[6, 5, 16, 25], [60, 50, 67, 54]]
    assert (instances.gt_masks.tensor == torch.from_numpy(np.stack([labels == 1, labels == 3]))).all()
    assert (instances.gt_masks.get_bounding_boxes().tensor == instances.gt_boxes.tensor).all()
    assert len(instances_from_labels(np.full((9, 9), -1, np.int32), [])) == 0
    with pytest.raises(ValueError, match="labels up to 3, but there are 2 classes"):
        instances_from_labels(labels, [0, 0])
