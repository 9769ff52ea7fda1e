"""Labels, probabilities and COCO files come back as they were written, through the readers of this package."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
import tifffile

from cellseg_d2.data.datasets.coco_json import read_coco, to_dataset_dicts
from cellseg_d2.data.image_io import read_raw
from cellseg_d2.data.label_files import read_labels
from cellseg_d2.evaluation.evaluate import evaluate
from cellseg_d2.evaluation.options import Options
from cellseg_d2.evaluation.reading import read_ground_truth, results_table
from cellseg_d2.evaluation.records import instances_to_results
from cellseg_d2.inference.label_writers import write_coco, write_labels, write_probability
from cellseg_d2.modeling.semantic.cells import labels_to_instances


def label_map(seed, shape=(40, 60)):
    """Five rectangles that do not overlap."""
    generator, labels = np.random.default_rng(seed), np.zeros(shape, np.int32)
    for number in range(1, 6):
        y, left = generator.integers(0, 20), (number - 1) * shape[1] // 5
        labels[y : y + generator.integers(4, 18), left : left + generator.integers(3, 12)] = number
    return labels


def results_of(labels, image_id):
    probability = np.random.default_rng(1).random(labels.shape, np.float32)
    return instances_to_results(labels_to_instances(labels, probability), image_id, "a.tif")


# TIFF


@pytest.mark.parametrize("highest, dtype", [(0, "uint16"), (65535, "uint16"), (65536, "uint32")])
def test_labels_come_back(tmp_path, highest, dtype):
    labels = label_map(0)
    labels[3, 4] = highest
    path = write_labels(tmp_path / "new" / "labels.tif", labels)
    assert (read_labels(path) == labels).all()
    with tifffile.TiffFile(path) as tif:
        (page,) = tif.pages
        assert (page.dtype, page.compression.name, page.shape) == (dtype, "ADOBE_DEFLATE", labels.shape)
    assert [p.name for p in path.parent.iterdir()] == ["labels.tif"]


def test_probability_comes_back(tmp_path):
    probability = np.random.default_rng(0).random((33, 47), np.float32)
    probability[0, :2] = 0, 1
    back = read_raw(write_probability(tmp_path / "p.tif", probability))
    assert back.dtype == np.float32 and (back == probability).all()


def test_same_input_same_file(tmp_path):
    one, two = (write_labels(tmp_path / name, label_map(2)).read_bytes() for name in ("a.tif", "b.tif"))
    assert one == two


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([[-1, 1]]), "-1..1 .*ignore"),
        (np.zeros((2, 3)), "integers, not .* float64"),
        (np.zeros((2, 3, 3), int), "integers, not"),
        (np.zeros((0, 3), int), "integers, not"),
    ],
)
def test_what_is_no_label_map(tmp_path, labels, words):
    path = tmp_path / "l.tif"
    path.write_text("older")
    with pytest.raises(ValueError, match=words):
        write_labels(path, labels)
    assert path.read_text() == "older"


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5])
def test_what_is_no_probability(tmp_path, value):
    with pytest.raises(ValueError, match="0..1"):
        write_probability(tmp_path / "p.tif", [[0.5, value]])
    with pytest.raises(ValueError, match="one value a pixel"):
        write_probability(tmp_path / "p.tif", np.zeros((3, 4, 5)))
    assert not list(tmp_path.iterdir())


# COCO

IMAGES = [
    {"file_name": "a.tif", "height": 40, "width": 60, "cell_type": "mes"},
    {"file_name": "b.tif", "height": np.int64(40), "width": 60},
    {"file_name": "empty.tif", "height": 7, "width": 9},
]


@pytest.mark.parametrize("ids", [None, (7, 3, 12)])
def test_coco_comes_back(tmp_path, ids):
    images = IMAGES if ids is None else [{**image, "id": i} for image, i in zip(IMAGES, ids)]
    maps = {"a.tif": label_map(3), "b.tif": label_map(4)}
    results = [r for name, labels in maps.items() for r in results_of(labels, name)]
    path = write_coco(tmp_path / "cells.json", images, results)

    coco = read_coco(path)
    assert [image["id"] for image in coco.images] == list(ids or (1, 2, 3))
    assert coco.images[0]["cell_type"] == "mes"
    assert (coco.classes, set(coco.contiguous_ids)) == (["cell"], {1})
    names = {image["id"]: image["file_name"] for image in coco.images}
    assert [a["id"] for a in coco.annotations] == list(range(1, 11))
    for annotation, result in zip(coco.annotations, results, strict=True):
        mask = mask_util.decode(annotation["segmentation"]).astype(bool)
        assert names[annotation["image_id"]] == result["image_id"]
        (number,) = np.unique(maps[result["image_id"]][mask])
        assert (mask == (maps[result["image_id"]] == number)).all()
        assert annotation["area"] == mask.sum() and annotation["score"] == result["score"]
        assert annotation["bbox"] == mask_util.toBbox(annotation["segmentation"]).tolist()
        assert (annotation["category_id"], annotation["iscrowd"]) == (1, 0)
    records, left_out = to_dataset_dicts(coco, lambda name: name)
    assert left_out == 0 and [len(record["annotations"]) for record in records] == [5, 5, 0]


def test_what_is_written_scores_itself_perfectly(tmp_path):
    results = [{**r, "image_id": 1} for r in results_of(label_map(5), "a.tif")]
    truth = read_ground_truth(write_coco(tmp_path / "truth.json", IMAGES, results))
    assert len(truth.images) == 3 and len(truth.objects) == 5
    content = json.loads((tmp_path / "truth.json").read_text())
    table = results_table(content["annotations"], truth, "own annotations")
    assert not any("category" in note for note in table.notes)
    assert evaluate(truth, table, Options(bootstrap=0)).metrics["segm"]["AP"] == 100


def test_box_and_scores_are_optional(tmp_path):
    (full, *_) = results_of(label_map(6), 2)
    bare = {key: full[key] for key in ("image_id", "segmentation")}
    bare["segmentation"] = {**full["segmentation"], "counts": full["segmentation"]["counts"].encode()}
    path = write_coco(tmp_path / "c.json", IMAGES, [bare, {**full, "mask_score": np.float32(0.5)}])
    first, second = json.loads(path.read_text())["annotations"]
    assert first["bbox"] == full["bbox"] and "score" not in first and "mask_score" not in first
    assert second["mask_score"] == 0.5
    assert first["segmentation"] == full["segmentation"] and first["image_id"] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": "c.tif"}, "result 1 is of image 'c.tif'"),
        ({"image_id": "empty.tif"}, r"result 1 .*size \[7, 9\], but has \[40, 60\]"),
        ({"segmentation": None}, "but has none"),
        ({"segmentation": [[0, 0, 4, 0, 4, 4]]}, "but has none"),
    ],
)
def test_results_that_do_not_fit(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        write_coco(tmp_path / "c.json", IMAGES, [{**results_of(label_map(7), "a.tif")[0], **change}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([IMAGES[0], IMAGES[0]], "2 images have the file_name 'a.tif'"),
        ([{**IMAGES[0], "id": 1}, {**IMAGES[1], "id": 1}], "2 images have the id 1"),
        ([{**IMAGES[0], "id": 2}, IMAGES[1]], "every image, or to none"),
        ([{**IMAGES[0], "id": "x"}], "whole numbers"),
        ([{"file_name": "a.tif", "height": 3}], r"images\[0\] has no width"),
    ],
)
def test_images_that_do_not_fit(tmp_path, images, words):
    with pytest.raises(ValueError, match=words):
        write_coco(tmp_path / "c.json", images, [])


def test_no_cells_at_all(tmp_path):
    path = write_coco(tmp_path / "c.json", IMAGES, [])
    assert len(read_ground_truth(path).objects) == 0 and read_coco(path).annotations == []
