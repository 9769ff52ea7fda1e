"""The COCO data set and the list of results: valid, complete, atomic, and read by the evaluation."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_util

from cellseg_d2.data.datasets.coco_json import read_coco
from cellseg_d2.evaluation.reading import read_ground_truth, read_results
from cellseg_d2.inference.writers import CocoWriter, ResultsWriter, write_results


def image(name: str, **more) -> dict:
    return {"file_name": name, "height": 40, "width": 60, **more}


def test_a_data_set_of_several_images(tmp_path, make_result, masks):
    path, result = tmp_path / "out" / "cells.json", make_result(masks, ("cell", "dead"), tracks=range(11, 18))
    result.cells[0]["mask_score"] = np.float32(0.5)
    with CocoWriter(path, result.classes, {"model": "m"}) as writer:
        ids = [writer.add(image("a.tif", labels="labels/a.tif"), result.cells), writer.add(image("b.tif"), [])]
        ids.append(writer.add(image("c.tif", id=9), result.cells[:2]))
        ids.append(writer.add(image("d.tif"), make_result([masks[0], 0 * masks[0]]).cells))
        assert not path.exists()
    content = json.loads(path.read_text())
    assert ids == [1, 2, 9, 10] and [entry["id"] for entry in content["images"]] == ids
    assert content["images"][0]["labels"] == "labels/a.tif" and content["info"]["model"] == "m"
    assert content["categories"] == [{"id": 1, "name": "cell"}, {"id": 2, "name": "dead"}]
    annotations = content["annotations"]
    assert [a["id"] for a in annotations] == list(range(1, 11)) and writer.annotations == 10
    assert [a["image_id"] for a in annotations] == [1] * 7 + [9] * 2 + [10]
    for annotation, mask, cell in zip(annotations, masks, result.cells):
        assert (mask_util.decode(annotation["segmentation"]) == mask).all()
        assert annotation["area"] == mask.sum() and annotation["bbox"] == cell["bbox"] and not annotation["iscrowd"]
        assert annotation["score"] == cell["score"] and annotation["track_id"] == cell["track_id"]
        assert annotation["category_id"] == cell["category_id"] + 1
    assert annotations[0]["mask_score"] == 0.5 and "mask_score" not in annotations[1]
    assert len(read_coco(path).annotations) == 10


def test_the_evaluation_reads_both(tmp_path, make_result, masks):
    cells = make_result(masks).cells
    with CocoWriter(tmp_path / "cells.json") as writer:
        number = writer.add(image("a.tif", id=5), cells)
    write_results(tmp_path / "results.json", [(number, cells)])
    truth = read_ground_truth(tmp_path / "cells.json")
    for name in ("cells.json", "results.json"):
        table = read_results(tmp_path / name, truth)
        np.testing.assert_allclose(table.scores, [cell["score"] for cell in cells])
        assert not table.notes


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_of_few_and_many_images(tmp_path, make_result, masks, count):
    with ResultsWriter(tmp_path / "r.json") as writer:
        for number in range(count):
            writer.add(number, make_result(masks[:number]).cells)
    results = json.loads((tmp_path / "r.json").read_text())
    assert [r["image_id"] for r in results] == [n for n in range(count) for _ in range(n)]
    assert all(r["category_id"] == 1 and {"bbox", "score", "segmentation"} <= r.keys() for r in results)


def test_nothing_found_is_valid_too(tmp_path):
    with CocoWriter(tmp_path / "cells.json"):
        pass
    content = json.loads((tmp_path / "cells.json").read_text())
    assert content["images"] == content["annotations"] == [] and list(content)[1:] == [
        "images", "annotations", "categories",
    ]  # fmt: skip


def test_bad_images_leave_the_others(tmp_path, make_result, masks):
    good = make_result(masks).cells
    with CocoWriter(tmp_path / "cells.json") as writer:
        writer.add(image("a.tif"), good)
        for entry, cells, message in (
            (image("b.tif", id=1), good, "another image"),
            ({"file_name": "b.tif"}, good, "without height, width"),
            (image("b.tif"), [*good, make_result(masks[:, 1:]).cells[0]], "another size"),
            (image("b.tif"), [*good, good[0] | {"category_id": 1}], "category 1"),
        ):
            with pytest.raises(ValueError, match=message):
                writer.add(entry, cells)
        assert writer.add(image("c.tif"), good[:1]) == 2
    content = json.loads((tmp_path / "cells.json").read_text())
    assert [a["id"] for a in content["annotations"]] == list(range(1, 9)) and len(content["images"]) == 2


def test_a_failure_leaves_the_older_file(tmp_path, make_result, masks):
    for name, writer, key in (("c.json", CocoWriter, image("a.tif")), ("r.json", ResultsWriter, 1)):
        (tmp_path / name).write_text("old")
        with pytest.raises(KeyError, match="stop"), writer(tmp_path / name) as open_writer:
            open_writer.add(key, make_result(masks).cells)
            raise KeyError("stop")
        assert (tmp_path / name).read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
