"""Cells added to training images as they are read."""

import numpy as np
import pytest
from detectron2.config import get_cfg

from cellseg_d2.config import add_cellseg_config
from cellseg_d2.data.dataset_mapper import CellDatasetMapper
from cellseg_d2.data.datasets import load, register_coco
from cellseg_d2.data.image_io import read_image
from cellseg_d2.data.label_maps import rasterise
from cellseg_d2.data.semantic_mapper import SemanticMapper
from cellseg_d2.data.synthesis.on_the_fly import AddCells


@pytest.fixture
def records(phantoms):
    register_coco("t_on_the_fly", *phantoms)
    return load("t_on_the_fly")


def _config(bank):
    cfg = get_cfg()
    add_cellseg_config(cfg)
    cfg.INPUT.EXTENSION.BANK, cfg.INPUT.EXTENSION.PROBABILITY = str(bank.path), 1.0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (0,), "none"
    return cfg


def test_own_cells_stay_and_added_ones_lie_beside_them(bank, records):
    grown = 0
    for seed, record in enumerate(records):
        np.random.seed(seed)
        image = read_image(record["file_name"])
        more, annotations = AddCells(bank, 1.0, 1.0)(image, record["annotations"])
        own = len(record["annotations"])
        assert annotations[:own] == record["annotations"]
        before = rasterise(record["annotations"], *image.shape[:2]) > 0
        added = rasterise(annotations[own:], *image.shape[:2]) > 0
        assert not (before & added).any()
        changed = (more != image).any(axis=2)
        assert changed[added].mean() > 0.7 and (more[..., 0] == more[..., 2]).all()
        grown += len(annotations) - own
    assert grown > 5


def test_the_same_seed_adds_the_same_cells(bank, records):
    results = []
    for seed in (3, 3, 4):
        np.random.seed(seed)
        results.append(AddCells(bank, 1.0)(read_image(records[0]["file_name"]), records[0]["annotations"]))
    assert (results[0][0] == results[1][0]).all() and results[0][1] == results[1][1]
    assert (results[0][0] != results[2][0]).any()


def test_the_mapper_trains_on_added_cells(bank, records):
    mapper, plain = CellDatasetMapper(_config(bank), is_train=True), CellDatasetMapper(_config(bank), is_train=False)
    assert plain.extend is None
    more = 0
    for seed, record in enumerate(records):
        np.random.seed(seed)
        item = mapper(record)
        assert set(item["instances"].gt_classes.tolist()) <= {0}
        more += len(item["instances"]) - len(record["annotations"])
    assert more > 0


def test_images_are_stretched_afterwards(bank, records):
    cfg = _config(bank)
    plain = CellDatasetMapper(cfg, is_train=True)
    cfg.INPUT.STRETCH_PERCENTILES = (1.0, 99.0)
    stretched = CellDatasetMapper(cfg, is_train=True)
    np.random.seed(5)
    before = plain(records[0])
    np.random.seed(5)
    after = stretched(records[0])
    assert len(after["instances"]) == len(before["instances"]) > len(records[0]["annotations"])
    assert after["image"].max() == 255 and after["image"].float().std() > before["image"].float().std()


def test_images_stay_as_they_are(bank, records):
    image = read_image(records[0]["file_name"])
    coloured = image.copy()
    coloured[:, :, 0] //= 2
    same = [
        (AddCells(bank, 0.0), image, records[0]["annotations"]),
        (AddCells(bank, 1.0), image, []),
        (AddCells(bank, 1.0), coloured, records[0]["annotations"]),
        (AddCells(bank, 1.0), image // 8, records[0]["annotations"]),  # another kind
    ]
    for add, picture, annotations in same:
        found, kept = add(picture, annotations)
        assert (found == picture).all() and kept == annotations


def test_bad_options(bank):
    for options in ((1.5, 1.0), (-0.1, 1.0), (0.5, 0.0)):
        with pytest.raises(ValueError, match="INPUT.EXTENSION"):
            AddCells(bank, *options)
    cfg = _config(bank)
    with pytest.raises(ValueError, match="CellDatasetMapper"):
        SemanticMapper(cfg, is_train=True)
