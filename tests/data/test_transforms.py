"""Augmentations: exact turns, and what each option of the config does."""

import numpy as np
import pytest
from detectron2.data import transforms as T

from cellseg_d2.data.transforms import RandomRot90, RandomZoom, Rot90Transform, build_augmentations


def _box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, -1])
def test_turns_move_boxes_as_masks_and_go_back(turns):
    mask = np.zeros((11, 17), dtype=np.uint8)
    mask[2:5, 3:12] = 1
    turn = Rot90Transform(11, 17, turns)
    turned = turn.apply_segmentation(mask)
    assert (turned == np.rot90(mask, turns)).all()
    assert turn.apply_box(np.array([_box(mask)], dtype=float)).tolist() == [_box(turned)]
    corners = np.array([[3, 2], [12, 2], [12, 5], [3, 5]], dtype=float)
    moved = turn.apply_polygons([corners.copy()])[0]
    assert [*moved.min(axis=0), *moved.max(axis=0)] == _box(turned)
    back = turn.inverse()
    assert (back.apply_image(turned) == mask).all()
    assert (back.apply_coords(moved) == corners).all()


def test_turns_keep_colour_channels():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    turned = Rot90Transform(5, 7, 1).apply_image(image)
    assert turned.shape == (7, 5, 3) and turned.flags.c_contiguous
    assert (turned[0, :, :] == image[:, 6, :]).all()


def test_all_turns_occur():
    np.random.seed(0)
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    assert {RandomRot90().get_transform(image).turns for _ in range(50)} == {0, 1, 2, 3}


def test_zoom_stays_in_its_range():
    np.random.seed(0)
    image = np.zeros((100, 200, 3), dtype=np.uint8)
    shapes = {RandomZoom(0.5, 1.5).get_transform(image).apply_image(image).shape[:2] for _ in range(100)}
    heights = [height for height, _ in shapes]
    assert 50 <= min(heights) < 60 and 140 < max(heights) <= 150
    assert all(abs(width - 2 * height) <= 1 for height, width in shapes)
    with pytest.raises(ValueError, match="INPUT.RANDOM_ZOOM"):
        RandomZoom(1.5, 0.5)


def _output(cfg, is_train: bool, shape: tuple[int, int] = (60, 90)) -> np.ndarray:
    np.random.seed(3)
    image = T.AugInput(np.random.default_rng(0).integers(60, 90, (*shape, 3), dtype=np.uint8))
    T.AugmentationList(build_augmentations(cfg, is_train))(image)
    return image.image


def test_nothing_configured_is_nothing_done(cfg):
    assert build_augmentations(cfg, is_train=True) == [] == build_augmentations(cfg, is_train=False)


def test_sizes(cfg):
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 120, 0
    assert _output(cfg, is_train=False).shape == (120, 180, 3)
    cfg.INPUT.MAX_SIZE_TEST = 150
    assert _output(cfg, is_train=False).shape == (100, 150, 3)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (30, 40), "range"
    assert 30 <= _output(cfg, is_train=True).shape[0] <= 40
    cfg.INPUT.MIN_SIZE_TRAIN = (30,)
    assert _output(cfg, is_train=True).shape == (30, 45, 3)


def test_crops(cfg):
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [32.0, 200]
    assert _output(cfg, is_train=True).shape == (32, 90, 3)
    assert _output(cfg, is_train=False).shape == (60, 90, 3)
    cfg.INPUT.CROP.SIZE = [0.5, 0.5]
    with pytest.raises(ValueError, match="are not pixels"):
        build_augmentations(cfg, is_train=True)
    cfg.INPUT.CROP.TYPE = "relative"
    assert _output(cfg, is_train=True).shape == (30, 45, 3)
    cfg.INPUT.CROP.SIZE = [192, 192]
    with pytest.raises(ValueError, match="set it to 'absolute'"):
        build_augmentations(cfg, is_train=True)


def test_zoom_comes_before_the_crop(cfg):
    cfg.INPUT.RANDOM_ZOOM = (2.0, 2.5)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [100, 100]
    assert _output(cfg, is_train=True).shape == (100, 100, 3)


def test_flip_options(cfg):
    cfg.INPUT.RANDOM_FLIP = "vertical"
    (flip,) = build_augmentations(cfg, is_train=True)
    assert flip.vertical and not flip.horizontal
    cfg.INPUT.RANDOM_FLIP = "sideways"
    with pytest.raises(ValueError, match="INPUT.RANDOM_FLIP: 'sideways'"):
        build_augmentations(cfg, is_train=True)


def test_jitter_changes_grey_values_only_a_little(cfg):
    plain = _output(cfg, is_train=True).astype(int)
    cfg.INPUT.INTENSITY_JITTER = 0.2
    image = _output(cfg, is_train=True)
    assert image.dtype == np.uint8 and image.shape == plain.shape
    assert (image != plain).any() and (np.abs(image - plain) <= 0.45 * plain + 1).all()
    cfg.INPUT.INTENSITY_JITTER = 1.5
    with pytest.raises(ValueError, match="INPUT.INTENSITY_JITTER"):
        build_augmentations(cfg, is_train=True)
