"""Files that cannot be used end in one error that names the entry; files that can, in notes that say what was done."""

import gzip
import json

import numpy as np
import pycocotools.mask as mask_util
import pytest

from cellseg_d2.errors import DatasetError
from cellseg_d2.evaluation.evaluate import Options, evaluate
from cellseg_d2.evaluation.objects import ranked
from cellseg_d2.evaluation.reading import read_ground_truth, read_results

BOX = [10.0, 20.0, 8.0, 6.0]
POLYGON = [[10, 20, 18, 20, 18, 26, 10, 26]]


def rle(height=50, width=60):
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[20:26, 10:18] = 1
    encoded = mask_util.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def truth_content():
    images = [{"id": n, "file_name": f"image_{n}.tif", "height": 50, "width": 60} for n in (3, 1)]
    annotations = [
        {"id": n, "image_id": image, "category_id": 1, "bbox": BOX, "area": 48.0, "iscrowd": 0, "segmentation": POLYGON}
        for n, image in ((1, 3), (2, 1))
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}


def result(**changes):
    return {"image_id": 3, "category_id": 1, "bbox": BOX, "score": 0.9, "segmentation": rle()} | changes


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def truth(tmp_path):
    return read_ground_truth(write(tmp_path / "gt.json", truth_content()))


def read(tmp_path, truth, *rows):
    return read_results(write(tmp_path / "pred.json", list(rows)), truth)


def test_images_are_sorted_by_id_and_masks_are_the_polygons(truth):
    assert truth.images.ids == [1, 3] and truth.images.file_names == ["image_1.tif", "image_3.tif"]
    assert truth.objects.image.tolist() == [1, 0]
    assert truth.objects.masks.areas().tolist() == [48, 48]


def test_annotations_may_be_a_dict_and_gzipped_and_have_a_byte_order_mark(tmp_path, truth):
    content = truth_content()
    content["annotations"] = {str(a["id"]): a for a in content["annotations"]}
    path = tmp_path / "gt.json.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(content).encode()))
    again = read_ground_truth(path)
    assert again.objects.masks.begin.tolist() == truth.objects.masks.begin.tolist()
    (tmp_path / "half.gz").write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatasetError, match=r"half\.gz: this gzip file breaks off"):
        read_ground_truth(tmp_path / "half.gz")


def test_boxes_and_areas_may_be_missing(tmp_path):
    content = truth_content()
    for annotation in content["annotations"]:
        del annotation["bbox"], annotation["area"], annotation["iscrowd"]
    truth = read_ground_truth(write(tmp_path / "gt.json", content))
    assert truth.objects.boxes.tolist() == [BOX, BOX]
    assert ranked(truth.objects, truth.images, "segm").areas.tolist() == [48, 48]


@pytest.mark.parametrize("text", ['[{"image_id": 3, "cat', "[", ""])
def test_truncated_json_says_at_which_byte(tmp_path, truth, text):
    with pytest.raises(DatasetError, match=rf"pred\.json: not a valid JSON file.* at byte \d+ of {len(text)}"):
        read_results(write(tmp_path / "pred.json", text), truth)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 77}, r"results\[1\] \(image 77\).*no image with id 77 .*1 of 2 objects"),
        ({"score": float("nan")}, r"results\[1\] \(image 3\) has score nan"),
        ({"bbox": [1, 2, float("inf"), 3]}, r"results\[1\] \(image 3\) has bbox \[1, 2, inf, 3\]"),
        ({"segmentation": rle(60, 50)}, r"results\[1\] .* mask of size \[60, 50\].* its image has \[50, 60\]"),
        (
            {"segmentation": {"size": [50, 60], "counts": "123"}},
            r"results\[1\] .*add up to \d+ pixels, the image has 3000",
        ),
        ({"segmentation": {"size": [50, 60], "counts": [10, 20]}}, r"results\[1\] .*add up to 30, the image has 3000"),
        ({"segmentation": {"counts": "123"}}, r"results\[1\]\.segmentation: .*`size`"),
        (
            {"segmentation": [[1, 2, "x", 4, 5, 6]]},
            r"results\[1\]\.segmentation\[0\]\[2\]: Expected `float`, got `str`",
        ),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, r"results\[1\]\.segmentation\[0\]: Expected `array`, got `int`"),
        ({"segmentation": [[0, 0, 1e30, 0, 5, 5]]}, r"results\[1\] .*which is in no image"),
        ({"segmentation": None, "bbox": None}, r"results\[1\] .*neither a 'bbox' nor a 'segmentation'"),
        ({"score": None}, r"results\[1\]\.score: Expected `float`, got `null`"),
        ({"category_id": "cell"}, r"results\[1\]\.category_id: Expected `int`, got `str`"),
    ],
)
def test_bad_results_are_named(tmp_path, truth, changes, message):
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, truth, result(), result(**changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][1].update(id=1), "annotation id 1 is used more than once"),
        (lambda c: c["images"][1].update(id=3), "image id 3 is used more than once"),
        (lambda c: c["images"][1].update(id="one"), "some image ids are numbers and some are text"),
        (lambda c: c["images"][0].pop("height"), r"images\[0\] has no 'height'"),
        (lambda c: c["images"][0].update(width=0), "image_3.tif has width 0"),
        (lambda c: c["annotations"][1].update(image_id=9), "annotation 2: there is no image with id 9"),
        (lambda c: c["annotations"][1].pop("category_id"), "category_id"),
        (lambda c: c.pop("annotations"), "not a COCO data set.*annotations"),
    ],
)
def test_bad_ground_truth_is_named(tmp_path, change, message):
    content = truth_content()
    change(content)
    with pytest.raises(DatasetError, match=message):
        read_ground_truth(write(tmp_path / "gt.json", content))


def test_a_file_that_is_not_there_or_the_wrong_one(tmp_path, truth):
    with pytest.raises(DatasetError, match="there is no such"):
        read_ground_truth(tmp_path / "gone.json")
    with pytest.raises(DatasetError, match="not a COCO data set"):
        read_ground_truth(write(tmp_path / "list.json", [result()]))
    with pytest.raises(DatasetError, match=r"gt\.json: annotations\[0\].*`score`; a result needs image_id"):
        read_results(tmp_path / "gt.json", truth)


def test_unknown_categories_and_strange_scores_count_and_are_noted(tmp_path, truth):
    table = read(tmp_path, truth, result(category_id=0), result(image_id=1, score=7.5))
    assert any("1 results have a category" in note and "results[0]" in note for note in table.notes)
    assert any("1 scores lie outside 0..1" in note and "results[1]" in note for note in table.notes)
    scores = evaluate(truth, table, Options(bootstrap=0)).metrics
    assert scores["segm"]["AP"] == scores["bbox"]["AP"] == pytest.approx(100)


def test_empty_results_score_zero_and_say_so(tmp_path, truth):
    evaluation = evaluate(truth, read(tmp_path, truth), Options(bootstrap=10))
    for task in ("segm", "bbox"):
        assert evaluation.metrics[task]["AP"] == evaluation.metrics[task]["AR2000"] == 0
    assert evaluation.metrics["segm"]["AFNR"] == 100 and evaluation.metrics["segm"]["instance_F1_50"] == 0
    assert any("has no results" in note for note in evaluation.notes)


def test_ground_truth_without_annotations_has_no_scores_and_says_why(tmp_path):
    content = truth_content() | {"annotations": []}
    truth = read_ground_truth(write(tmp_path / "gt.json", content))
    evaluation = evaluate(truth, read(tmp_path, truth, result()), Options(bootstrap=10))
    assert all(np.isnan(evaluation.metrics["segm"][name]) for name in ("AP", "APs", "AR2000", "AFNR", "SEG"))
    assert any("no annotated cell" in note for note in evaluation.notes)


def test_metrics_without_a_value_are_explained(tmp_path, truth):
    evaluation = evaluate(truth, read(tmp_path, truth, result()), Options(bootstrap=0))
    (note,) = [note for note in evaluation.notes if "do not exist" in note]
    assert "APl (no annotated large cell)" in note and "APs" not in note


def test_results_without_masks_score_boxes_only(tmp_path, truth):
    rows = [{key: value for key, value in result(image_id=i).items() if key != "segmentation"} for i in (1, 3)]
    evaluation = evaluate(truth, read(tmp_path, truth, *rows), Options(bootstrap=0))
    assert evaluation.metrics["segm"] == {} and evaluation.metrics["bbox"]["AP"] == pytest.approx(100)
    assert any("only boxes are scored" in note for note in evaluation.notes)


def test_what_the_cap_costs(tmp_path, truth):
    rows = [result(score=0.9 - n / 10000, segmentation=[[0, 0, 4, 0, 4, 4]], bbox=[0, 0, 4, 4]) for n in range(2000)]
    evaluation = evaluate(truth, read(tmp_path, truth, *rows, result(score=0.1)), Options(bootstrap=0))
    (note,) = [note for note in evaluation.notes if note.startswith("segm")]
    assert "1 of 2 images have more than 2000 results; the 1 lowest" in note
    assert "recall 50.00 instead of 0.00" in note
