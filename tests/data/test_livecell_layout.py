"""LIVECell in its published layout, flat, partial and absent."""

import json
import logging

import numpy as np
import pytest
import tifffile
from detectron2.data import DatasetCatalog, MetadataCatalog

from cellseg_d2.data.datasets import DatasetError, MissingDataError, livecell, load, resolve, roots

NAMES = ["A172_Phase_A7_1_00d00h00m_1.tif", "SkBr3_Phase_E3_2_00d04h00m_1.tif", "A172_Phase_B7_2_00d00h00m_2.tif"]


def _json(discs) -> dict:
    coco = discs(images=3)
    for image, name in zip(coco["images"], NAMES, strict=True):
        image["file_name"] = name
    return coco


@pytest.fixture
def published(tmp_path, monkeypatch, discs):
    """The published layout, with sub-folders and the test annotations as a dict."""
    folder = tmp_path / "livecell"
    coco = _json(discs)
    as_dict = coco | {"annotations": {str(entry["id"]): entry for entry in coco["annotations"]}}
    path = folder / "annotations/LIVECell/livecell_coco_test.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(as_dict))
    for name in NAMES:
        place = folder / "images/livecell_test_images" / name.split("_")[0] / name
        place.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(place, np.zeros((48, 64), dtype=np.uint8))
    monkeypatch.setenv(roots.ENV_NAME, str(tmp_path))
    return folder


def test_all_names_are_registered():
    names = {f"livecell_{split}" for split in livecell.SPLITS}
    names |= {f"livecell_{kind}_{split}" for kind in livecell.CELL_TYPES for split in livecell.SPLITS}
    names |= {f"livecell_train_{percent}_percent" for percent in (2, 4, 5, 25, 50)}
    assert len(names) == 32 and names <= set(DatasetCatalog.list())
    assert all(MetadataCatalog.get(name).thing_classes == ["cell"] for name in names)


def test_published_layout(published):
    records = load("livecell_test")
    assert [record["file_name"].rsplit("/", 1)[1] for record in records] == NAMES
    assert all(len(record["annotations"]) == 3 for record in records)
    metadata = MetadataCatalog.get("livecell_test")
    assert metadata.json_file.endswith("livecell_coco_test.json")
    assert metadata.image_root == str(published / "images")


def test_a_root_may_be_the_data_set_itself(published, monkeypatch):
    monkeypatch.setenv(roots.ENV_NAME, str(published))
    assert len(load("livecell_test")) == 3


def test_one_cell_type_of_the_whole_file(published):
    records = load("livecell_a172_test")
    assert [record["image_id"] for record in records] == [1, 3]
    assert not hasattr(MetadataCatalog.get("livecell_a172_test"), "json_file")
    with pytest.raises(MissingDataError, match="none of the 3 images .* is of cell type bv2"):
        load("livecell_bv2_test")


@pytest.mark.parametrize("place", ["skbr3/test.json", "skbr3/livecell_skbr3_test.json"])
def test_a_cell_types_own_file_comes_first(published, discs, place):
    coco = _json(discs)
    coco["images"] = coco["images"][1:2]
    coco["annotations"] = [entry for entry in coco["annotations"] if entry["image_id"] == 2][:1]
    path = published / "annotations/LIVECell_single_cells" / place
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(coco))
    (record,) = load("livecell_skbr3_test")
    assert len(record["annotations"]) == 1
    assert MetadataCatalog.get("livecell_skbr3_test").json_file == str(path)


@pytest.fixture
def forgiving():
    """LIVECell's names as DATASETS.ALLOW_MISSING True registers them."""
    livecell.register_all(allow_missing=True)
    yield
    livecell.register_all()


def test_a_partial_copy_is_an_error_that_counts_and_names_the_switch(published):
    next(published.rglob(NAMES[1])).unlink()
    with pytest.raises(MissingDataError, match=r"1 of 3 images \(33.3%\) .*; DATASETS.ALLOW_MISSING True goes on"):
        load("livecell_test")
    assert len(load("livecell_a172_test")) == 2  # all that it needs are there


def test_a_partial_copy_works_when_asked_to(published, forgiving, caplog):
    next(published.rglob(NAMES[1])).unlink()
    with caplog.at_level(logging.WARNING):
        records = load("livecell_test")
    assert [record["image_id"] for record in records] == [1, 3]
    assert "1 of 3 images" in caplog.text
    assert not hasattr(MetadataCatalog.get("livecell_test"), "json_file")


def test_images_that_come_later_are_found(published):
    place = next(published.rglob(NAMES[1]))
    content = place.read_bytes()
    place.unlink()
    with pytest.raises(MissingDataError):
        load("livecell_test")
    place.write_bytes(content)
    assert len(load("livecell_test")) == 3


def test_the_switch_in_the_config(published, cfg):
    next(published.rglob(NAMES[1])).unlink()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), ("livecell_test",)
    cfg.DATASETS.ALLOW_MISSING = True
    resolve(cfg)
    assert len(load("livecell_test")) == 2
    cfg.DATASETS.ALLOW_MISSING = False
    resolve(cfg)
    with pytest.raises(MissingDataError, match="ALLOW_MISSING"):
        load("livecell_test")


def test_a_name_that_somebody_else_registered_stays(monkeypatch):
    own = DatasetCatalog["livecell_bv2_val"]
    DatasetCatalog.pop("livecell_bv2_val")
    DatasetCatalog.register("livecell_bv2_val", list)
    livecell.register_all(allow_missing=True)
    livecell.register_all()
    assert DatasetCatalog["livecell_bv2_val"] is list
    DatasetCatalog["livecell_bv2_val"] = own


def test_what_the_file_names_say_is_in_every_record(published):
    keys = ("cell_type", "well", "location", "time", "hours", "crop")
    said = [tuple(record[key] for key in keys) for record in load("livecell_test")]
    assert said == [
        ("a172", "A7", 1, "00d00h00m", 0.0, 1),
        ("skbr3", "E3", 2, "00d04h00m", 4.0, 1),
        ("a172", "B7", 2, "00d00h00m", 0.0, 2),
    ]


@pytest.mark.parametrize("folder", ["annotations/LIVECell_dataset_size_split/", ""])
@pytest.mark.parametrize(("number", "percent"), list(enumerate((2, 4, 5, 25, 50))))
def test_parts_of_the_training_images(published, discs, folder, number, percent):
    coco = _json(discs)
    coco["images"] = coco["images"][:2]
    coco["annotations"] = [entry for entry in coco["annotations"] if entry["image_id"] < 3]
    for k, other in enumerate((2, 4, 5, 25, 50)):
        path = published / f"{folder}{k}_train{other}percent.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(coco | {"images": coco["images"] if other == percent else []}))
    assert len(load(f"livecell_train_{percent}_percent")) == 2
    assert MetadataCatalog.get(f"livecell_train_{percent}_percent").json_file.endswith(
        f"{number}_train{percent}percent.json"
    )


def test_without_images_or_annotations(published):
    for name in NAMES:
        next(published.rglob(name)).unlink()
    with pytest.raises(FileNotFoundError, match="none of the 3 images .*datasets/README.md"):
        load("livecell_test")
    next(published.rglob("*.json")).unlink()
    (published / "livecell_coco_test.json").write_text("{}")
    with pytest.raises(DatasetError, match="livecell_coco_test.json: no 'images', 'annotations', 'categories'"):
        load("livecell_test")


def test_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(roots, "searched", lambda: [tmp_path])
    with pytest.raises(FileNotFoundError, match="CELLSEG_DATA.*datasets/README.md") as caught:
        load("livecell_train")
    assert str(tmp_path / "livecell") in str(caught.value)
    assert "annotations/LIVECell/livecell_coco_train.json" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cell_type"),
    [("A172", "a172"), ("BT-474", "bt474"), ("SK-OV-3", "skov3"), ("SH-SY5Y", "shsy5y"), ("SkBr3", "skbr3")],
)
def test_cell_type_names(text, cell_type):
    assert livecell.normalise_cell_type(text) == cell_type


def test_unknown_cell_type():
    with pytest.raises(DatasetError, match="'HeLa' is not one of LIVECell's types a172"):
        livecell.normalise_cell_type("HeLa")


def test_roots_in_order(tmp_path, monkeypatch):
    one, two, third = tmp_path / "one", tmp_path / "two", tmp_path / "detectron2"
    (two / "cells").mkdir(parents=True)
    one.mkdir()
    third.mkdir()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(third))
    monkeypatch.setenv(roots.ENV_NAME, f"{one}:{two}:{tmp_path / 'none'}")
    monkeypatch.chdir(tmp_path)
    assert roots.data_roots()[:3] == [one, two, third]
    assert roots.find("cells") == two / "cells"
    (tmp_path / "datasets" / "mine").mkdir(parents=True)
    assert roots.find("mine") == tmp_path / "datasets" / "mine"
    assert roots.find("no such data set") is None
