"""Crops around cells, and the centres that go through the augmentations before them."""

import numpy as np
import pytest
from detectron2.data import transforms as T

from cellseg_d2.data.cell_crops import CellInput, RandomCellCrop
from cellseg_d2.data.defocus import DefocusTransform, RandomDefocus
from cellseg_d2.data.roll_and_rotate import RandomRoll, RandomRotate
from cellseg_d2.data.transforms import RandomRot90, RandomZoom, build_augmentations

IMAGE = np.zeros((100, 200, 3), np.uint8)


def draws(favour: float, centres: list[list[float]], count: int = 400) -> list[tuple[CellInput, T.Transform]]:
    """Crops of 20 x 30 pixels of an image of 100 x 200."""
    np.random.seed(0)
    crop, result = RandomCellCrop("absolute", (20, 30), favour), []
    for _ in range(count):
        given = CellInput(IMAGE, np.array(centres, dtype=float).reshape(-1, 2))
        transform = crop(given)
        assert given.image.shape == (20, 30, 3)
        result.append((given, transform))
    return result


def inside(given: CellInput) -> np.ndarray:
    """The centres that are in the image."""
    height, width = given.image.shape[:2]
    return given.centres[((given.centres >= 0) & (given.centres < [width, height])).all(axis=1)]


def test_the_share_of_crops_with_a_cell():
    shares = [
        np.mean([len(inside(given)) > 0 for given, _ in draws(favour, [[150.5, 60.2]])]) for favour in (1, 0.5, 1e-9)
    ]
    assert shares[0] == 1 and 0.4 < shares[1] < 0.62 and shares[2] < 0.12


def test_the_cell_lies_anywhere_in_the_crop():
    places = np.array([inside(given)[0] for given, _ in draws(1, [[150.5, 60.2]], 1500)])
    assert set(places[:, 0].astype(int)) == set(range(30)) and set(places[:, 1].astype(int)) == set(range(20))


@pytest.mark.parametrize("centre", [[0, 0], [199.9, 99.9], [2.5, 97]])
def test_cells_at_the_frame(centre):
    for given, transform in draws(1, [centre], 50):
        assert len(inside(given)) == 1
        assert 0 <= transform.x0 <= 170 and 0 <= transform.y0 <= 80


def test_areas_are_drawn_in_proportion_to_their_cells():
    crowd = [[20 + x, 20 + y] for x in range(3) for y in range(3)]
    corners = [transform.x0 for _, transform in draws(1, [*crowd, [180, 80]], 1000)]
    assert 0.86 < np.mean(np.array(corners) < 100) < 0.94


def test_without_a_cell_anywhere():
    for centres in ([], [[-3, 50], [250, 50]]):
        corners = np.array([[transform.x0, transform.y0] for _, transform in draws(1, centres)])
        assert corners[:, 0].min() < 10 and corners[:, 0].max() > 160
        assert corners[:, 1].min() < 5 and corners[:, 1].max() > 75


def test_centres_go_through_what_comes_before():
    """A single bright pixel at the centre of each cell stays below it, whatever moves the image."""
    rng = np.random.default_rng(0)
    augmentations = [
        RandomRoll(),
        RandomRotate(40.0, outside="median"),
        RandomZoom(1.0, 2.0),
        T.RandomFlip(),
        RandomRot90(),
    ]
    crop, found = RandomCellCrop("absolute", (40, 50), 1.0), 0
    np.random.seed(1)
    for _ in range(60):
        image = np.zeros((100, 200), np.float32)
        pixels = np.stack([rng.integers(5, 195, 12), rng.integers(5, 95, 12)], axis=1)
        for x, y in pixels:
            image[y - 1 : y + 2, x - 1 : x + 2] = 255
        given = CellInput(image, pixels + 0.5)
        T.AugmentationList([*augmentations, crop])(given)
        kept = inside(given)
        assert len(kept)
        far = kept[((kept > 2) & (kept < np.array(given.image.shape[::-1]) - 2)).all(axis=1)]
        found += len(far)
        assert all(given.image[int(y), int(x)] > 100 for x, y in far)
    assert found > 40


def test_config(cfg):
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [16, 24]
    assert type(build_augmentations(cfg, is_train=True)[0]) is T.RandomCrop
    cfg.INPUT.CROP.FAVOUR_CELLS = 0.3
    (crop,) = build_augmentations(cfg, is_train=True)
    assert (crop.favour, crop.crop_type, crop.crop_size) == (0.3, "absolute", (16, 24))
    cfg.INPUT.RANDOM_ROTATION = 10.0
    assert [type(a) for a in build_augmentations(cfg, is_train=True)] == [RandomRotate, RandomCellCrop]
    for value in (-0.1, 1.5):
        cfg.INPUT.CROP.FAVOUR_CELLS = value
        with pytest.raises(ValueError, match="INPUT.CROP.FAVOUR_CELLS"):
            build_augmentations(cfg, is_train=True)
    cfg.INPUT.CROP.FAVOUR_CELLS, cfg.INPUT.MAPPER = 0.3, "SemanticMapper"
    with pytest.raises(ValueError, match="FAVOUR_CELLS above 0 needs INPUT.MAPPER 'CellDatasetMapper'"):
        build_augmentations(cfg, is_train=True)


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 1), (40, 50, 3)])
def test_defocus_blurs_the_image_and_nothing_else(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    spread = [DefocusTransform(sigma).apply_image(image).std() for sigma in (0, 0.5, 1, 2)]
    assert spread[0] == image.std() and spread[0] > spread[1] > spread[2] > spread[3]
    blur = DefocusTransform(1.5)
    assert blur.apply_image(image).shape == shape and blur.apply_image(image).dtype == np.uint8
    labels, points = np.eye(40, 50, dtype=np.int32), np.array([[3.5, 4]])
    assert (blur.apply_segmentation(labels) == labels).all() and (blur.apply_coords(points) == points).all()
    dot = np.zeros((41, 41), np.float32)
    dot[20, 20] = 1
    blurred = blur.apply_image(dot)
    assert np.isclose((blurred.sum(axis=0) * (np.arange(41) - 20) ** 2).sum(), 1.5**2, rtol=0.05)


def test_defocus_option(cfg):
    cfg.INPUT.DEFOCUS_JITTER = 2.0
    (blur,) = build_augmentations(cfg, is_train=True)
    np.random.seed(0)
    sigmas = [blur.get_transform(IMAGE).sigma for _ in range(300)]
    assert type(blur) is RandomDefocus and 0 <= min(sigmas) < 0.05 and 1.95 < max(sigmas) <= 2
    cfg.INPUT.DEFOCUS_JITTER = -1.0
    with pytest.raises(ValueError, match="INPUT.DEFOCUS_JITTER: -1.0"):
        build_augmentations(cfg, is_train=True)
