"""Names in the config: filled in, registered, checked against the model."""

import logging

import pytest
from detectron2.data import DatasetCatalog

from cellseg_d2.data.datasets import (
    DatasetError,
    check_num_classes,
    follow_num_classes,
    load,
    note_data,
    register_coco,
    resolve,
)


def test_cell_type_is_filled_in(cfg):
    cfg.DATASETS.TRAIN = ("livecell_{cell_type}_train",)
    cfg.DATASETS.TEST = ("livecell_{cell_type}_val", "livecell_test")
    cfg.DATASETS.CELL_TYPE = "SK-OV-3"
    resolve(cfg)
    assert cfg.DATASETS.TRAIN == ("livecell_skov3_train",)
    assert cfg.DATASETS.TEST == ("livecell_skov3_val", "livecell_test")
    before = cfg.clone()
    cfg.freeze()
    resolve(cfg)  # as each process of a run does
    assert cfg == before


def test_cell_type_without_a_place_and_the_other_way_round(cfg):
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("livecell_train",), ("livecell_val",)
    cfg.DATASETS.CELL_TYPE = "A172"
    with pytest.raises(DatasetError, match="no name in DATASETS.TRAIN/TEST"):
        resolve(cfg)
    cfg.DATASETS.CELL_TYPE, cfg.DATASETS.TRAIN = "", ("livecell_{cell_type}_train",)
    with pytest.raises(DatasetError, match="DATASETS.CELL_TYPE is empty"):
        resolve(cfg)


def test_unknown_names_get_close_ones(cfg):
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("livecell_trian",), ()
    with pytest.raises(DatasetError, match="DATASETS.TRAIN: .*'livecell_trian'; did you mean livecell_train"):
        resolve(cfg)
    with pytest.raises(DatasetError, match="no data set 'nothing of the kind'"):
        load("nothing of the kind")


def test_custom_data(cfg, tmp_path, discs, written, caplog):
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("custom_train",), ()
    with pytest.raises(DatasetError, match="DATASETS.CUSTOM.TRAIN_JSON is empty"):
        resolve(cfg)
    json_file, images = written(tmp_path, discs(images=2))
    cfg.DATASETS.CUSTOM.TRAIN_JSON, cfg.DATASETS.CUSTOM.TRAIN_IMAGES = str(json_file), str(images)
    cfg.DATASETS.CUSTOM.VAL_JSON = str(json_file)
    with caplog.at_level(logging.WARNING):
        resolve(cfg)
        resolve(cfg)
    assert len(load("custom_train")) == 2
    assert "custom_val" not in DatasetCatalog.list() and "DATASETS.CUSTOM.VAL_JSON is set, but" in caplog.text
    json_file.rename(images / "set.json")
    cfg.DATASETS.CUSTOM.TRAIN_JSON, cfg.DATASETS.CUSTOM.TRAIN_IMAGES = str(images / "set.json"), ""
    resolve(cfg)
    assert len(load("custom_train")) == 2


def test_without_training_its_data_is_not_asked_for(cfg, caplog):
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("custom_train", "livecell_{cell_type}_train"), ("livecell_test",)
    cfg.DATASETS.CUSTOM.TRAIN_JSON, cfg.DATASETS.CELL_TYPE = "gone.json", "a172"
    with caplog.at_level(logging.WARNING):
        resolve(cfg, training=False)
    assert cfg.DATASETS.TRAIN == () and not caplog.text
    cfg.DATASETS.TEST = ("custom_train",)
    with pytest.raises(DatasetError, match=r"gone\.json"):
        resolve(cfg, training=False)


def test_number_of_classes(cfg, tmp_path, discs, written):
    coco = discs(images=1)
    coco["categories"] = [{"id": 1, "name": "live"}, {"id": 2, "name": "dead"}]
    register_coco("t_two_classes", *written(tmp_path, coco))
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "FCOS"
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("t_two_classes",), ()
    cfg.MODEL.FCOS.NUM_CLASSES, cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2, 1
    with pytest.raises(DatasetError) as caught:
        check_num_classes(cfg)
    for part in (
        "MODEL.FCOS.NUM_CLASSES = 2",
        "MODEL.ROI_HEADS.NUM_CLASSES = 1",
        "t_two_classes: 2 (live, dead)",
        "set MODEL.FCOS.NUM_CLASSES 2 MODEL.ROI_HEADS.NUM_CLASSES 2",
    ):
        assert part in str(caught.value)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    check_num_classes(cfg)
    cfg.DATASETS.TEST = ("livecell_test",)
    with pytest.raises(DatasetError, match=r"livecell_test: 1 \(cell\).*use data sets with the same classes"):
        check_num_classes(cfg)


def test_the_number_of_classes_follows_from_the_data(cfg, tmp_path, discs, written):
    coco = discs(images=1)
    coco["categories"] = [{"id": 1, "name": "live"}, {"id": 2, "name": "dead"}]
    register_coco("t_follow", *written(tmp_path, coco))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("t_follow",), ()
    heads = cfg.MODEL.FCOS, cfg.MODEL.ROI_HEADS
    for given, found in (((1, 1), [2, 2]), ((3, 3), [3, 3]), ((1, 2), [1, 2])):
        heads[0].NUM_CLASSES, heads[1].NUM_CLASSES = given
        follow_num_classes(cfg)
        assert [head.NUM_CLASSES for head in heads] == found
    heads[1].NUM_CLASSES = 1
    cfg.DATASETS.TEST = ("livecell_test",)  # one class, so that no number is right
    follow_num_classes(cfg)
    assert [head.NUM_CLASSES for head in heads] == [1, 1]


def test_a_model_does_not_take_one_class_for_another(cfg, tmp_path, discs, written):
    coco = discs(images=1)
    coco["categories"] = [{"id": 1, "name": "live"}, {"id": 2, "name": "dead"}]
    register_coco("t_order", *written(tmp_path, coco))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.INPUT.MIN_SIZE_TEST = ("t_order",), (), 0
    for weights, before in (("", ("dead", "live")), ("model.pth", ()), ("model.pth", ("live", "dead")),
                            ("model.pth", ("cell",))):  # fmt: skip
        cfg.MODEL.WEIGHTS, cfg.DATASETS.CLASSES = weights, before
        note_data(cfg)
        assert cfg.DATASETS.CLASSES == ("live", "dead")
    cfg.DATASETS.CLASSES = ("dead", "live")
    with pytest.raises(DatasetError, match="classes are dead, live, but the data's live, dead: .* --class dead live"):
        note_data(cfg)


def test_a_data_set_without_images(tmp_path, discs, written):
    coco = discs(images=1) | {"images": [], "annotations": []}
    (tmp_path / "images").mkdir()
    register_coco("t_no_images", *written(tmp_path, coco))
    with pytest.raises(DatasetError, match="no images"):
        load("t_no_images")
