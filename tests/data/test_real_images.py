"""The data layer on real annotated images, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util

from cellseg_d2.data.dataset_mapper import CellDatasetMapper
from cellseg_d2.data.datasets import load, register_coco, roots
from cellseg_d2.data.image_io import read_image


def _folder(name: str) -> Path:
    folder = roots.find(name)
    if folder is None:
        pytest.skip(f"{name} is in none of {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    return folder


def _register(name: str, json_file: str) -> list[dict]:
    folder = _folder(name)
    if not (folder / json_file).is_file():
        pytest.skip(f"{folder} has no {json_file}")
    register_coco(f"t_real_{name}", folder / json_file, folder / "images")
    return load(f"t_real_{name}")


def test_livecell_sample(cfg):
    if not list(_folder("livecell").rglob("livecell_coco_test.json")):
        pytest.skip("no test annotations of LIVECell")
    records = load("livecell_test")
    assert all(record["height"] == 520 and record["width"] == 704 for record in records)
    mapper = CellDatasetMapper(cfg, is_train=True)
    for record in records[:3]:
        item = mapper(record)
        instances = item["instances"]
        assert len(instances) == len(record["annotations"])
        assert item["image"].shape == (3, 520, 704)
        annotated = torch.tensor([annotation["bbox"] for annotation in record["annotations"]])
        annotated[:, 2:] += annotated[:, :2]
        assert (instances.gt_boxes.tensor - annotated).abs().max() < 0.02
        areas = torch.tensor([annotation["area"] for annotation in record["annotations"]])
        assert torch.allclose(instances.gt_masks.area().float(), areas, rtol=0.01, atol=1)


def test_livecell_cell_types_make_up_the_whole():
    if not list(_folder("livecell").rglob("livecell_coco_test.json")):
        pytest.skip("no test annotations of LIVECell")
    whole = {record["image_id"] for record in load("livecell_test")}
    skov3 = {record["image_id"] for record in load("livecell_skov3_test")}
    assert skov3 and skov3 < whole


@pytest.mark.parametrize("json_file", ["instances_stage1_train.json", "instances_stage1_train_rle.json"])
def test_dsb2018(cfg, json_file):
    records = _register("dsb2018", json_file)
    assert len(records) > 500
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [192, 192]
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.RANDOM_ROT90 = "horizontal", True
    mapper = CellDatasetMapper(cfg, is_train=True)
    np.random.seed(0)
    kept = 0
    for record in records[::25]:
        item = mapper(record)
        kept += len(item["instances"])
        assert item["image"].shape[1] <= 192 and item["image"].shape[2] <= 192
        assert (item["instances"].gt_boxes.area() > 0).all()
    assert kept > 100


def test_dsb2018_outlines_of_run_lengths_are_exact(cfg):
    records = _register("dsb2018", "instances_stage1_train_rle.json")
    mapper, same, total = CellDatasetMapper(cfg, is_train=True), 0, 0
    for record in records[::60]:
        instances = mapper(record)["instances"]
        for annotation, polygons in zip(record["annotations"], instances.gt_masks.polygons, strict=True):
            size = record["height"], record["width"]
            filled = mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, *size)))
            same += (filled == mask_util.decode(annotation["segmentation"])).all()
            total += 1
    assert same >= 0.99 * total > 50  # nuclei with a hole are filled


def test_t98g(cfg):
    records = _register("t98g_phase_usiigaci", "instances_val.json")
    assert len(records) == 3 and "/val/" in records[0]["file_name"]
    mapper = CellDatasetMapper(cfg, is_train=True)
    assert sum(len(mapper(record)["instances"]) for record in records) == 203


@pytest.mark.parametrize(("name", "pattern"), [("hela_n2dl", "images/*.tif"), ("stardist_demo2d", "img2d.tif")])
def test_deep_images_use_the_whole_range(name, pattern):
    path = sorted(_folder(name).glob(pattern))[0]
    image = read_image(path)
    assert image.dtype == np.uint8 and image.min() == 0 and image.max() == 255
    assert 1 < image.std() < 120
