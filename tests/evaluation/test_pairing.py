"""Data sets of results with image ids of their own are scored on the images of their names."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_util

from cellseg_d2.errors import DatasetError
from cellseg_d2.evaluation.evaluate import evaluate
from cellseg_d2.evaluation.options import Options, Threshold
from cellseg_d2.evaluation.pairing import pair_images
from cellseg_d2.evaluation.reading import read_ground_truth, read_results

SIZE = {"height": 30, "width": 40}


def outline(row):
    mask = np.zeros((30, 40), np.uint8)
    mask[row : row + 6, 5:15] = 1
    rle = mask_util.encode(np.asfortranarray(mask))
    return {"size": [30, 40], "counts": rle["counts"].decode()}


def cell(number, image, row, **more):
    about = {"id": number, "image_id": image, "category_id": 1, "bbox": [5, row, 10, 6]}
    return about | {"segmentation": outline(row)} | more


def names(*file_names):
    return [{"id": number, "file_name": name, **SIZE} for number, name in enumerate(file_names, 1)]


@pytest.fixture
def write(tmp_path):
    def to_file(name, images, annotations):
        path = tmp_path / name
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
        path.write_text(json.dumps(content))
        return path

    return to_file


@pytest.fixture
def truth(write):
    """A cell in image 1 (b.tif) and another one, elsewhere, in image 2 (a.tif)."""
    cells = [cell(1, 1, 4, area=60, iscrowd=0), cell(2, 2, 20, area=60, iscrowd=0)]
    return read_ground_truth(write("truth.json", names("plate/b.tif", "plate/a.tif"), cells))


def scored(results, truth):
    return evaluate(truth, results, Options(bootstrap=0)).metrics["segm"]["AP"]


def test_ids_of_the_same_numbers_mean_other_images(write, truth):
    cells = [cell(1, 1, 20, score=0.9), cell(2, 2, 4, score=0.8)]
    results = read_results(write("results.json", names("a.tif", "b.tif"), cells), truth)
    assert scored(results, truth) == 100 and results.image.tolist() == [1, 0]
    listed = write("list.json", [], [])
    listed.write_text(json.dumps(cells))  # a list of results has ids of the ground truth
    assert scored(read_results(listed, truth), truth) == 0


def test_images_of_one_side_only_are_noted(write, truth):
    cells = [cell(1, 1, 20, score=0.9), cell(2, 2, 4, score=0.8)]
    results = read_results(write("results.json", names("a.tif", "c.tif"), cells), truth)
    assert len(results) == 1 and results.image.tolist() == [1]
    assert any("1 images of" in note and "1 results" in note for note in results.notes)
    assert any("has no results of 1 images" in note for note in results.notes)


def test_results_that_fit_no_image(write, truth):
    with pytest.raises(DatasetError, match=r"none of its 1 images is in .*truth.json .*'c.tif', there: 'plate/b.tif'"):
        read_results(write("results.json", names("c.tif"), [cell(1, 1, 4, score=0.9)]), truth)
    with pytest.raises(DatasetError, match=r"annotations\[0\]: there is no image with id 7"):
        read_results(write("results.json", names("a.tif"), [cell(1, 7, 4, score=0.9)]), truth)


def test_the_last_parts_of_a_path_decide():
    ours = ["x/plate1/a.tif", "x/plate2/a.tif", "x/plate1/b.tif", "deep\\er\\c.tif"]
    entries = names("plate2/a.tif", "b.tif", "/else/where/x/plate1/a.tif", "c.tif") + [{"id": 9}]
    assert pair_images(entries, [10, 20, 30, 40], ours, "r") == ({1: 20, 2: 30, 3: 10, 4: 40}, "")
    with pytest.raises(DatasetError, match="a.tif may be image 10 or 20"):
        pair_images(names("a.tif"), [10, 20], ours[:2], "r")
    with pytest.raises(DatasetError, match="p/b.tif and p/b.tif both are image 30"):
        pair_images(names("p/b.tif", "p\\b.tif"), [30], ["b.tif"], "r")


def test_images_of_other_folders_are_other_images():
    entries = names("in/plate1/a.png", "in/plate2/a.png")
    assert pair_images(entries, [10], ["plate1/a.png"], "r") == ({1: 10}, "")  # and plate2's is none
    assert pair_images(entries, [10], ["plate3/b.png"], "r") == ({}, "")
    with pytest.raises(DatasetError, match="both are image 10"):
        pair_images(entries, [10], ["plate3/a.png"], "r")
    assert pair_images(entries, [10, 20], ["gt/plate2/a.png", "gt/plate1/a.png"], "r")[0] == {1: 20, 2: 10}
    found, note = pair_images(names("plate1/a.png"), [10], ["plate2/a.png"], "r")
    assert found == {1: 10} and "plate1/a.png is taken for plate2/a.png" in note


def test_ids_are_each_images_own():
    with pytest.raises(DatasetError, match="image id 1 is used more than once"):
        pair_images([*names("a.tif"), *names("b.tif")], [1, 2], ["a.tif", "b.tif"], "r")
    with pytest.raises(DatasetError, match=r"image 'a.tif' has id \[1\]"):
        pair_images([{"id": [1], "file_name": "a.tif"}], [1], ["a.tif"], "r")


def test_cells_kept_by_score_are_not_lost_to_a_threshold_without_a_word(write, truth):
    cells = [cell(1, 1, 20, score=0.9, mask_score=0.4), cell(2, 2, 4, score=0.6, mask_score=0.7)]
    results = read_results(write("results.json", names("a.tif", "b.tif"), cells), truth)
    words = "all 2 results have a score of 0.5 or more"
    notes = evaluate(truth, results, Options(bootstrap=0)).notes
    assert any(words in note and "but 1 a mask score" in note for note in notes)
    for threshold in (0, 0.65):
        options = Options(bootstrap=0, threshold=Threshold(threshold, "given"))
        assert not any("a mask score below" in note for note in evaluate(truth, results, options).notes)
