"""Circular shifts and turns: what goes in comes out elsewhere, the same for images, labels, classes and weights."""

import numpy as np
import pytest
from detectron2.data import transforms as T

from cellseg_d2.data.label_maps import transform_labels
from cellseg_d2.data.polygons import PolygonSet
from cellseg_d2.data.roll_and_rotate import (
    RandomRoll,
    RandomRotate,
    RollTransform,
    RotateTransform,
    flat_list,
    transform_classes,
    transform_map,
    transform_weights,
)
from cellseg_d2.data.transforms import Rot90Transform, build_augmentations

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 40, 56
LABELS = RNG.integers(0, 99, (HEIGHT, WIDTH), dtype=np.int32)


def disc(x: float, y: float, radius: float, size: int = 101) -> np.ndarray:
    """uint8 map of a disc about the continuous point (x, y)."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    return ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2).astype(np.uint8)


def centre(mask: np.ndarray) -> np.ndarray:
    """Mean x and y of the pixels of a mask, in continuous coordinates."""
    return np.argwhere(mask)[:, ::-1].mean(axis=0) + 0.5


@pytest.mark.parametrize(
    "transform",
    [
        RollTransform(HEIGHT, WIDTH, 13, -9),
        Rot90Transform(HEIGHT, WIDTH, 3),
        T.HFlipTransform(WIDTH),
        T.VFlipTransform(HEIGHT),
        T.CropTransform(5, 7, 30, 20),
        T.NoOpTransform(),
        T.TransformList([RollTransform(HEIGHT, WIDTH, 1, 2), T.CropTransform(5, 7, 30, 20), T.HFlipTransform(30)]),
    ],
)
def test_all_maps_move_as_the_image(transform):
    moved = transform.apply_image(LABELS.astype(np.float32))
    assert (transform_classes(LABELS.astype(np.uint8), transform) == moved).all()
    weights = transform_weights(LABELS.astype(np.float32), transform)
    assert weights.dtype == np.float32 and (weights == moved).all() and weights.flags.c_contiguous
    single = transform.transforms if isinstance(transform, T.TransformList) else [transform]
    labels = LABELS
    for each in single:
        labels = transform_map(labels, each)
    assert labels.dtype == np.int32 and (labels == moved).all()


def test_brightness_leaves_the_maps():
    blend = T.BlendTransform(src_image=100.0, src_weight=0.5, dst_weight=0.5)
    assert (transform_classes(LABELS.astype(np.uint8), blend) == LABELS).all()
    assert (transform_weights(LABELS.astype(np.float32), blend) == LABELS).all()


@pytest.mark.parametrize("size", [(20, 28), (80, 112), (33, 71)])
def test_resizing_keeps_labels_classes_and_weights_together(size):
    resize = T.ResizeTransform(HEIGHT, WIDTH, *size)
    classes, labels = transform_classes(LABELS.astype(np.uint8), resize), transform_map(LABELS, resize)
    assert classes.shape == size and (classes == labels).all()
    ramp = np.tile(np.arange(WIDTH, dtype=np.float32), (HEIGHT, 1))
    inner = np.s_[2:-2, 2:-2]
    assert np.allclose(transform_weights(ramp, resize)[inner], resize.apply_image(ramp)[inner], atol=1e-3)
    assert np.abs(transform_map(ramp.astype(np.int32), resize) - resize.apply_image(ramp))[inner].max() <= 0.51


@pytest.mark.parametrize(("down", "right"), [(0, 0), (0, 5), (39, 55), (-1, 200)])
def test_roll_and_back(down, right):
    roll = RollTransform(HEIGHT, WIDTH, down, right)
    image = RNG.random((HEIGHT, WIDTH, 3), dtype=np.float32)
    rolled = roll.apply_image(image)
    assert (rolled == np.roll(image, (down, right), (0, 1))).all()
    assert (roll.inverse().apply_image(rolled) == image).all()
    points = RNG.uniform(0, [WIDTH, HEIGHT], (30, 2))
    moved = roll.apply_coords(points)
    assert np.allclose(roll.inverse().apply_coords(moved), points)
    x, y = points.astype(int).T
    new_x, new_y = moved.astype(int).T
    assert (rolled[new_y, new_x] == image[y, x]).all()


def test_polygons():
    polygons = PolygonSet.from_instances([[[30, 30, 50, 30, 50, 40, 30, 40]]])
    with pytest.raises(NotImplementedError, match="PolygonSet.transformed"):
        RollTransform(101, 101, 3, 4).apply_polygons([polygons.points])
    turned = polygons.transformed(RotateTransform(101, 101, 30))
    assert np.allclose(turned.areas(1), 200)
    mask = np.zeros((101, 101), np.uint8)
    mask[30:40, 30:50] = 1
    moved = RotateTransform(101, 101, 30).apply_segmentation(mask)
    assert np.allclose(turned.points.mean(axis=0), centre(moved == 1), atol=0.2)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_are_turns_by_90_degrees(turns):
    image = RNG.random((64, 64), dtype=np.float32)
    turned = RotateTransform(64, 64, 90 * turns).apply_image(image)
    exact = Rot90Transform(64, 64, turns)
    assert np.abs(turned - exact.apply_image(image))[1:-1, 1:-1].max() < 1e-5
    labels = RNG.integers(0, 99, (64, 64), dtype=np.int32)
    moved = RotateTransform(64, 64, 90 * turns).apply_segmentation(labels)
    assert (moved == exact.apply_segmentation(labels))[1:-1, 1:-1].all()


@pytest.mark.parametrize("degrees", [-170.0, -33.3, 12.0, 45.0])
def test_image_maps_and_points_turn_together(degrees):
    turn = RotateTransform(101, 101, degrees)
    mask = disc(62, 30, 7)
    expected = turn.apply_coords(np.array([[62.0, 30.0]]))[0]
    for moved in (turn.apply_image(mask.astype(np.float32)) > 0.5, turn.apply_segmentation(mask) == 1):
        assert np.linalg.norm(centre(moved) - expected) < 0.3
        assert abs(np.count_nonzero(moved) - mask.sum()) < 10
    assert (turn.apply_segmentation(mask.astype(np.int32)) == 1).sum() == (turn.apply_segmentation(mask) == 1).sum()
    points = RNG.uniform(0, 101, (20, 2))
    assert np.allclose(turn.inverse().apply_coords(turn.apply_coords(points)), points)
    assert np.linalg.norm(centre(turn.inverse().apply_image(turn.apply_image(mask)) > 0) - [62, 30]) < 0.3
    counter_clockwise = RotateTransform(101, 101, 90).apply_coords(np.array([[90.5, 50.5]]))
    assert np.allclose(counter_clockwise, [[50.5, 10.5]])


def test_outside_is_ignored_and_only_that():
    height, width = 60, 90
    turn = RotateTransform(height, width, 40)
    rows, columns = np.mgrid[:height, :width] + 0.5
    sources = turn.inverse().apply_coords(np.stack([columns, rows], axis=-1).reshape(-1, 2)).reshape(height, width, 2)
    margin = np.stack([sources, [width, height] - sources]).min(axis=(0, 3))  # how far inside of the frame
    inside, outside = margin > 0.1, margin < -0.1
    classes = turn.apply_segmentation(np.ones((height, width), np.uint8))
    labels = turn.apply_segmentation(np.full((height, width), 5, np.int32))
    weights = turn.apply_weights(np.full((height, width), 3, np.float32))
    assert (classes[outside] == 255).all() and (classes[inside] == 1).all()
    assert (labels[outside] == -1).all() and (labels[inside] == 5).all()
    assert (weights[margin < -0.6] == 0).all() and np.allclose(weights[margin > 0.6], 3)
    assert (turn.apply_image(np.full((height, width), 9, np.uint8)) == 9).all()  # a reflection, no black corners
    with pytest.raises(TypeError, match="not float32"):
        turn.apply_segmentation(weights)


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_outside_may_be_the_median_instead_of_a_reflection(channels):
    image = np.full((60, 90, *channels), 100, np.uint8)
    image[:, :20] = 200  # bright cells at the left, which a reflection would double
    np.random.seed(0)
    plain, filled = RandomRotate(40.0), RandomRotate(40.0, outside="median")
    for _ in range(10):
        seed = int(np.random.randint(1000))
        np.random.seed(seed)
        turn = plain.get_transform(image)
        np.random.seed(seed)
        other = filled.get_transform(image)
        assert other.degrees == turn.degrees and turn.fill is None and set(other.fill) == {100.0}
        outside = turn.apply_segmentation(np.ones((60, 90), np.uint8)) == 255
        deep = np.lib.stride_tricks.sliding_window_view(np.pad(outside, 1, mode="edge"), (3, 3)).all(axis=(2, 3))
        assert (other.apply_image(image)[deep] == 100).all()
        assert (other.apply_image(image) > 150).sum() <= (turn.apply_image(image) > 150).sum()
        assert other.cropped(T.CropTransform(1, 1, 9, 9)).fill == other.inverse().fill == other.fill
    with pytest.raises(ValueError, match="outside = 'black'"):
        RandomRotate(40.0, outside="black")


@pytest.mark.parametrize("shape", [(50, 70), (50, 70, 1), (50, 70, 3)])
def test_turn_and_crop_in_one_step(shape):
    image = np.random.default_rng(1).random(shape, dtype=np.float32)
    turn, crop = RotateTransform(50, 70, 25), T.CropTransform(11, 8, 30, 20)
    both = turn.cropped(crop)
    assert both.apply_image(image).shape == (20, 30, *shape[2:])
    assert np.abs(both.apply_image(image) - crop.apply_image(turn.apply_image(image))).max() < 0.05  # 1/32 of a pixel
    points = RNG.uniform(0, 50, (5, 2))
    assert np.allclose(both.apply_coords(points), turn.apply_coords(points) - [11, 8])
    with pytest.raises(NotImplementedError):
        both.inverse()


def test_wrong_sizes():
    for transform in (RollTransform(50, 70, 1, 1), RotateTransform(50, 70, 1)):
        with pytest.raises(ValueError, match="is for 70 x 50 pixels, the image has 71 x 50"):
            transform.apply_image(np.zeros((50, 71)))


def test_random_values_stay_in_their_range():
    np.random.seed(0)
    image = np.zeros((4, 6), np.float32)
    rolls = [RandomRoll().get_transform(image) for _ in range(300)]
    assert {(roll.down, roll.right) for roll in rolls} == {(y, x) for y in range(4) for x in range(6)}
    angles = [RandomRotate(20).get_transform(image).degrees for _ in range(300)]
    assert -20 <= min(angles) < -18 and 18 < max(angles) <= 20
    for degrees in (0, -3, 181):
        with pytest.raises(ValueError, match="INPUT.RANDOM_ROTATION"):
            RandomRotate(degrees)


def test_config(cfg):
    cfg.INPUT.RANDOM_ROLL, cfg.INPUT.RANDOM_ROTATION = True, 30.0
    roll, turn = build_augmentations(cfg, is_train=True)
    assert type(roll) is RandomRoll and (type(turn), turn.outside) == (RandomRotate, "median")
    cfg.INPUT.MAPPER, cfg.MODEL.META_ARCHITECTURE = "SemanticMapper", "CellSegmentor"
    assert build_augmentations(cfg, is_train=True)[1].outside == "reflect"
    assert build_augmentations(cfg, is_train=False) == []
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [16, 24]
    np.random.seed(0)
    for zoom in ((1.0, 1.0), (0.9, 1.2)):
        cfg.INPUT.RANDOM_ZOOM = zoom
        image = RNG.random((50, 70, 1), dtype=np.float32)
        moved = T.AugInput(image)
        transforms = T.AugmentationList(build_augmentations(cfg, is_train=True))(moved)
        labels, owners = transform_labels((image[:, :, 0] > 0.5).astype(np.int32), transforms)
        classes = transform_classes(np.ones((50, 70), np.uint8), transforms)
        assert moved.image.shape == (16, 24, 1) and labels.shape == classes.shape == (16, 24)
        assert ((labels == -1) == (classes == 255)).all()
    cfg.INPUT.RANDOM_ROTATION = -5.0
    with pytest.raises(ValueError, match="INPUT.RANDOM_ROTATION"):
        build_augmentations(cfg, is_train=True)


def test_lists_may_hold_lists():
    roll, flip, turn = RollTransform(40, 56, 1, 2), T.HFlipTransform(56), Rot90Transform(40, 56, 1)
    assert flat_list(T.TransformList([roll, T.TransformList([flip, turn])])) == [roll, flip, turn]
    assert flat_list(roll) == [roll]
