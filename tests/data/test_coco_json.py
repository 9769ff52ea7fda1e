"""COCO files: what is kept, what is left out, and one clear error for each thing that can be wrong."""

import json
import logging

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from cellseg_d2.data.datasets import DatasetError, MissingDataError, load, register_coco
from cellseg_d2.data.datasets.coco_json import read_coco, to_dataset_dicts


def test_records_keep_ids_areas_and_boxes(tmp_path, discs, written):
    coco = discs(images=2)
    coco["images"].append({"id": 9, "file_name": "sub/empty.tif", "height": 48, "width": 64})
    coco["categories"] = [{"id": 7, "name": "dead"}, {"id": 1, "name": "cell"}]
    coco["annotations"][0]["category_id"] = 7
    json_file, images = written(tmp_path, coco)
    register_coco("t_records", json_file, images)
    records = load("t_records")
    metadata = MetadataCatalog.get("t_records")
    assert metadata.thing_classes == ["cell", "dead"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 7: 1}
    assert metadata.evaluator_type == "coco" and metadata.json_file == str(json_file)
    assert [record["image_id"] for record in records] == [1, 2, 9]
    assert records[2]["file_name"] == str(images / "sub/empty.tif") and records[2]["annotations"] == []
    ours = [annotation for record in records for annotation in record["annotations"]]
    for one, source in zip(ours, coco["annotations"], strict=True):
        assert {key: one[key] for key in ("id", "area", "bbox", "segmentation", "iscrowd")} == {
            key: source[key] for key in ("id", "area", "bbox", "segmentation", "iscrowd")
        }
        assert one["bbox_mode"] == BoxMode.XYWH_ABS
        assert one["category_id"] == {1: 0, 7: 1}[source["category_id"]]


def test_polygons_and_both_kinds_of_run_lengths_in_one_file(tmp_path, discs, written):
    coco = discs(images=1, cells=3)
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[10:20, 30:45] = 1
    flat = mask.reshape(-1, order="F")
    plain = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])).tolist()
    packed = mask_util.encode(np.asfortranarray(mask))
    coco["annotations"][1]["segmentation"] = {"size": [48, 64], "counts": plain}
    coco["annotations"][2]["segmentation"] = {"size": [48, 64], "counts": packed["counts"].decode()}
    for annotation in coco["annotations"][1:]:
        del annotation["bbox"], annotation["area"]
    json_file, images = written(tmp_path, coco)
    register_coco("t_mixed", json_file, images)
    polygon, *run_lengths = load("t_mixed")[0]["annotations"]
    assert isinstance(polygon["segmentation"], list)
    for annotation in run_lengths:
        assert (mask_util.decode(annotation["segmentation"]) == mask).all()
        assert annotation["bbox"] == [30, 10, 15, 10] and annotation["area"] == 150


def test_annotations_without_outline_are_left_out_and_counted(tmp_path, discs, written, caplog):
    coco = discs(images=1, cells=4)
    coco["annotations"][0]["segmentation"] = [[1, 1, 5, 5]]
    coco["annotations"][1]["segmentation"] = []
    coco["annotations"][2]["segmentation"].append([1, 2, 3, 4])
    json_file, images = written(tmp_path, coco)
    register_coco("t_left_out", json_file, images)
    with caplog.at_level(logging.WARNING):
        (record,) = load("t_left_out")
    assert [annotation["id"] for annotation in record["annotations"]] == [3, 4]
    assert len(record["annotations"][0]["segmentation"]) == 1
    assert "2 annotations without a valid outline and 2 polygons" in caplog.text
    assert not hasattr(MetadataCatalog.get("t_left_out"), "json_file")


def test_no_word_on_crowds_is_no_crowd(tmp_path, discs, written):
    coco = discs(images=1)
    coco["annotations"][0]["iscrowd"] = None
    records, _ = to_dataset_dicts(read_coco(written(tmp_path, coco)[0]), lambda name: name)
    assert [annotation["iscrowd"] for annotation in records[0]["annotations"]] == [0, 0, 0]


def test_annotations_as_dict(tmp_path, discs, written):
    coco = discs(images=1)
    listed = coco["annotations"]
    coco["annotations"] = {str(annotation["id"]): annotation for annotation in listed}
    json_file, _ = written(tmp_path, coco)
    records, left_out = to_dataset_dicts(read_coco(json_file), lambda name: name)
    assert [annotation["id"] for annotation in records[0]["annotations"]] == [1, 2, 3] and left_out == 0


def test_registering_again_replaces(tmp_path, discs, written):
    one = written(tmp_path / "one", discs(images=1))
    coco = discs(images=2) | {"categories": [{"id": 1, "name": "nucleus"}]}
    two = written(tmp_path / "two", coco)
    register_coco("t_again", *one)
    assert len(load("t_again")) == 1
    register_coco("t_again", *two)
    assert len(load("t_again")) == 2
    assert MetadataCatalog.get("t_again").thing_classes == ["nucleus"]
    assert MetadataCatalog.get("t_again").json_file == str(two[0])


def _doubled_annotation(coco: dict) -> None:
    coco["annotations"][1]["id"] = coco["annotations"][0]["id"]


def _wrong_size(coco: dict) -> None:
    coco["annotations"][1]["segmentation"] = {"size": [64, 48], "counts": [64 * 48]}


def _runs(coco: dict, counts: object) -> None:
    coco["annotations"][0]["segmentation"] = {"size": [48, 64], "counts": counts}


def _wrong_sum(coco: dict) -> None:
    coco["annotations"][1]["segmentation"] = {"size": [48, 64], "counts": [5, 5]}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda coco: coco.pop("images"), "no 'images'"),
        (lambda coco: coco["categories"].clear(), "'categories' is empty"),
        (lambda coco: coco["images"][1].pop("height"), r"images\[1\] has no 'height'"),
        (lambda coco: coco["images"][1].update(height=0), "has height 0"),
        (lambda coco: coco["images"][1].update(id=1), "1 ids in 'images' are used more than once, first 1"),
        (lambda coco: coco["annotations"][2].pop("image_id"), r"annotations\[2\] has no 'image_id'"),
        (lambda coco: coco["annotations"][2].update(image_id=77), "annotation 3 with image_id 77"),
        (lambda coco: coco["annotations"][2].update(category_id=5), "annotation 3 with category_id 5"),
        (lambda coco: coco["annotations"][2].update(segmentation=[[1, 2, 3, "x", 5, 6]]), "annotation 3 has values"),
        (lambda coco: coco["annotations"][2].update(segmentation=[[1, 2, 3, np.nan, 5, 6]]), "annotation 3 has values"),
        (_doubled_annotation, "1 ids in 'annotations'"),
        (_wrong_size, r"annotation 2 cannot be used: they have the size .* in an image of \[48, 64\]"),
        (_wrong_sum, "annotation 2 .* add up to 10 pixels, the image has 3072"),
        (lambda coco: coco["annotations"][0].update(segmentation=[1, 1, 5, 1, 5, 5]), "annotation 1 is neither a list"),
        (lambda coco: _runs(coco, "a~"), "annotation 1 .* are damaged"),
        (lambda coco: _runs(coco, None), "annotation 1 .* are damaged"),
    ],
)
def test_one_clear_error(tmp_path, discs, written, damage, message):
    coco = discs(images=2)
    json_file, images = written(tmp_path, coco)
    damage(coco)
    json_file.write_text(json.dumps(coco))
    with pytest.raises(DatasetError, match=message) as caught:
        register_coco("t_damaged", json_file, images)
        load("t_damaged")
    assert str(json_file) in str(caught.value)


def test_boxes_alone_are_an_error(tmp_path, discs, written):
    coco = discs(images=1)
    for annotation in coco["annotations"]:
        annotation.pop("segmentation")
    register_coco("t_boxes", *written(tmp_path, coco))
    with pytest.raises(DatasetError, match="none of the 3 annotations has an outline"):
        load("t_boxes")


def test_truncated_json_names_the_byte(tmp_path, discs, written):
    json_file, images = written(tmp_path, discs())
    content = json_file.read_bytes()
    json_file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=rf"at byte \d+ of {len(content) // 2}"):
        register_coco("t_truncated", json_file, images)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\xff\xd8", b"not json", b"[]"])
def test_not_a_coco_file(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=str(path)):
        register_coco("t_other", path, tmp_path)


def test_missing_files(tmp_path, discs, written):
    json_file, images = written(tmp_path, discs(images=6))
    with pytest.raises(FileNotFoundError, match="no such annotation file"):
        register_coco("t_missing", tmp_path / "no.json", images)
    with pytest.raises(FileNotFoundError, match="image folder"):
        register_coco("t_missing", json_file, tmp_path / "no")
    for number in (2, 3, 5, 6):
        (images / f"image{number}.tif").unlink()
    register_coco("t_missing", json_file, images)
    with pytest.raises(MissingDataError, match="4 of 6 images") as caught:
        load("t_missing")
    text = str(caught.value)
    assert str(images) in text and "image5.tif" in text and "image6.tif" not in text
