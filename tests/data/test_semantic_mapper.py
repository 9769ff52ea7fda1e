"""The mapper of semantic models: image, classes, weights and instances stay together; grey values keep their depth."""

import numpy as np
import pytest
import tifffile
import torch
from detectron2.data import transforms as T

from cellseg_d2.data.datasets import load, register_coco
from cellseg_d2.data.image_io import CorruptImageError
from cellseg_d2.data.normalize import Normalization
from cellseg_d2.data.semantic_mapper import SemanticMapper
from cellseg_d2.data.transforms import RandomRot90
from cellseg_d2.engine.setup import load_config

PLAIN = Normalization((0, 100))


@pytest.fixture
def record(tmp_path, discs, written):
    """An image whose grey values are its own class map."""
    json_file, images = written(tmp_path, discs(images=1, cells=4))
    register_coco("t_semantic", json_file, images)
    (record,) = load("t_semantic")
    truth = SemanticMapper(augmentations=[], normalization=PLAIN)(record)["sem_seg"][0].numpy()
    tifffile.imwrite(record["file_name"], (truth * 4000).astype(np.uint16))
    return record


def make(*augmentations, **options):
    return SemanticMapper(augmentations=augmentations, normalization=PLAIN, **options)


def roll_flip_turn_crop():
    words = [
        "INPUT.MAPPER", "SemanticMapper", "INPUT.RANDOM_ROLL", "True", "INPUT.RANDOM_ROT90", "True",
        "INPUT.MIN_SIZE_TRAIN", "(0,)", "INPUT.CROP.ENABLED", "True",
        "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "[30, 40]", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "1",
    ]  # fmt: skip
    return load_config("", [*words, "MODEL.PIXEL_MEAN", "[0.0]", "MODEL.PIXEL_STD", "[1.0]"])


def test_image_and_truth_move_together(record):
    cfg = roll_flip_turn_crop()
    cfg.INPUT.STRETCH_PERCENTILES = (0.0, 100.0)
    mapper = SemanticMapper(cfg, is_train=True)
    shapes = set()
    for seed in range(20):
        np.random.seed(seed)
        item = mapper(record)
        shapes.add(tuple(item["image"].shape[1:]))
        assert torch.equal(item["image"][0], item["sem_seg"][0])
    assert shapes == {(30, 40), (40, 30)}


def test_same_seed_same_sample(record):
    mapper = SemanticMapper(roll_flip_turn_crop(), is_train=True)
    items = []
    for seed in (3, 3, 4):
        np.random.seed(seed)
        items.append(mapper(record)["image"])
    assert torch.equal(items[0], items[1]) and not torch.equal(items[0], items[2])


def test_instances_are_the_foreground(record):
    item = make(T.RandomFlip(prob=1.0), RandomRot90(), num_classes=3, with_instances=True)(record)
    masks = item["instances"].gt_masks.tensor
    assert len(masks) == len(record["annotations"]) and (masks.sum(0) <= 1).all()
    assert torch.equal(masks.any(0), item["sem_seg"][0] > 0)
    assert set(item["sem_seg"][0].unique().tolist()) == {0, 1, 2}


@pytest.mark.parametrize("rotation", [0.0, 20.0])
def test_crops_with_cells(record, rotation):
    """Of crops of a sixteenth of the image most have no cell, unless background is limited."""
    cfg = roll_flip_turn_crop()
    cfg.INPUT.CROP.SIZE, cfg.INPUT.RANDOM_ROTATION = [12, 16], rotation
    shares = {}
    for limit in (1.0, 0.7):
        cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = limit
        mapper = SemanticMapper(cfg, is_train=True)
        np.random.seed(0)
        shares[limit] = np.mean([float((mapper(record)["sem_seg"][0] == 1).float().mean()) for _ in range(60)])
    assert shares[0.7] > 1.5 * shares[1.0] > 0


def test_crowds_are_ignored_and_weigh_nothing(record):
    record["annotations"][0]["iscrowd"] = 1
    classes, weights = make()(record)["sem_seg"]
    assert (classes == 255).any() and (weights[classes == 255] == 0).all() and (weights[classes != 255] > 0).all()


def test_three_channels_and_no_truth(record):
    item = make(channels=3, with_truth=False)(record)
    assert item["image"].shape == (3, record["height"], record["width"]) and item["image"].dtype == torch.float32
    assert set(item) == {"image", "file_name", "image_id", "height", "width"}


def test_cell_type_travels_along(record):
    assert make()({**record, "cell_type": "a172"})["cell_type"] == "a172"


def test_frames_are_read_once(record, monkeypatch):
    mapper = make(keep_frames=True)
    reads = []
    monkeypatch.setattr(mapper, "_read", lambda r, read=mapper._read: reads.append(r["image_id"]) or read(r))
    mapper(record)["image"].zero_()  # what becomes of a sample does not touch the frame
    assert mapper(record)["image"].any() and len(reads) == 1


def test_cache_is_bounded(record, monkeypatch):
    mapper = make(keep_frames=True)
    monkeypatch.setattr("cellseg_d2.data.semantic_mapper.CACHED_BYTES", 1)
    for number in range(3):
        mapper({**record, "image_id": number})
    assert len(mapper._frames) == 1


def test_image_of_another_size_is_refused(record):
    with pytest.raises(CorruptImageError, match="its annotations say 65 x 48"):
        make()({**record, "width": 65})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["INPUT.WEIGHT_MAP.KIND", "border"], "INPUT.WEIGHT_MAP.KIND: 'border' is not one of edge, unet, none"),
        (["MODEL.PIXEL_MEAN", "[0.0, 0.0]"], "1 or 3 channels"),
    ],
)
def test_odd_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SemanticMapper(load_config("", ["INPUT.MAPPER", "SemanticMapper", *options]), is_train=False)
