"""Several COCO data sets as one: new numbers, shared categories, files that are still found."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from cellseg_d2.data.datasets import DatasetError, MissingDataError, check_cell_types, register_coco
from cellseg_d2.data.merge import Part, merge

TOOL = Path(__file__).resolve().parents[2] / "tools" / "dataset.py"


def write_part(folder, count, category, **more):
    """A data set of ``count`` images, the k-th with k cells, whose ids begin at 7."""
    (folder / "images").mkdir(parents=True)
    for k in range(count):
        cv2.imwrite(str(folder / "images" / f"{k}.png"), np.full((32, 32), k, np.uint8))
    entry = {"height": 32, "width": 32, **more}
    images = [{"id": 7 + k, "file_name": f"{k}.png", **entry} for k in range(count)]
    square = {"bbox": [1, 1, 9, 9], "segmentation": [[1, 1, 10, 1, 10, 10, 1, 10]], "area": 81, "iscrowd": 0}
    owners = [7 + k for k in range(count) for _ in range(k)]
    cells = [{"id": 7 + i, "image_id": owner, "category_id": 5, **square} for i, owner in enumerate(owners)]
    content = {"images": images, "annotations": cells, "categories": [{"id": 5, "name": category}]}
    (folder / "all.json").write_text(json.dumps(content))
    return [str(folder / "all.json"), str(folder / "images")]


def run(output, *parts):
    options = [option for part in parts for option in ("--part", *part)]
    command = [sys.executable, str(TOOL), "merge", *options, "--output", str(output)]
    return subprocess.run(command, capture_output=True, text=True)


def test_everything_keeps_its_place(tmp_path):
    a, b = write_part(tmp_path / "a", 3, "cell"), write_part(tmp_path / "b", 4, "nucleus")
    output = tmp_path / "out" / "both.json"
    done = run(output, ("huh7", *a), ("bv2", *b))
    assert done.returncode == 0, done.stderr
    assert "7 images (huh7 3, bv2 4), 9 cells" in " ".join(done.stdout.split())
    register_coco("merged_test", output, output.parent)
    records = DatasetCatalog.get("merged_test")
    assert [r["cell_type"] for r in records] == ["huh7"] * 3 + ["bv2"] * 4
    assert [len(r["annotations"]) for r in records] == [0, 1, 2, 0, 1, 2, 3]
    assert [cv2.imread(r["file_name"])[0, 0, 0] for r in records] == [0, 1, 2, 0, 1, 2, 3]
    assert [{a["category_id"] for a in r["annotations"]} for r in records] == [set(), {0}, {0}, set(), {1}, {1}, {1}]


def test_one_category_of_one_name_and_other_keys_stay(tmp_path):
    a, b = (write_part(tmp_path / name, 2, "cell", well="A3", cell_type="old") for name in "ab")
    run(tmp_path / "both.json", ("", *a), ("new", *b))
    merged = json.loads((tmp_path / "both.json").read_text())
    assert merged["categories"] == [{"id": 1, "name": "cell"}]
    assert {i["well"] for i in merged["images"]} == {"A3"}
    assert [i["cell_type"] for i in merged["images"]] == ["old", "old", "new", "new"]
    assert [i["file_name"] for i in merged["images"]] == [f"{p}/images/{k}.png" for p in "ab" for k in range(2)]


@pytest.mark.parametrize("content", ["[]", '{"images": []}', "{"])
def test_a_file_that_is_no_data_set_is_named_and_nothing_is_written(tmp_path, content):
    good = write_part(tmp_path / "a", 2, "cell")
    (tmp_path / "bad.json").write_text(content)
    done = run(tmp_path / "both.json", ("x", *good), ("y", str(tmp_path / "bad.json"), str(tmp_path)))
    assert done.returncode == 2 and "bad.json" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "both.json").exists()


def test_paths_lead_to_the_images_from_behind_a_link(tmp_path):
    json_file, images = write_part(tmp_path / "a", 2, "cell")
    (tmp_path / "deep" / "er" / "out").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "deep" / "er" / "out")
    merged = merge([Part("x", Path(json_file), Path(images))], tmp_path / "out")
    assert [(tmp_path / "out" / image["file_name"]).is_file() for image in merged["images"]] == [True, True]


def test_images_that_are_not_there(tmp_path):
    json_file, _ = write_part(tmp_path / "a", 2, "cell")
    with pytest.raises(MissingDataError, match="2 of 2 images of .*all.json are not below .*first 0.png"):
        merge([Part("x", Path(json_file), tmp_path)], tmp_path)


def test_types_that_an_ensemble_has_no_model_for(tmp_path, cfg, caplog):
    records = [{"file_name": f"{name}.tif", "cell_type": name} for name in ("HuH7", "bv2", None)]
    check_cell_types(cfg, records)  # other models do not ask
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ENSEMBLE.CELL_TYPES = "CellTypeEnsemble", ["huh7", "BV2", "a172"]
    check_cell_types(cfg, records[:2])
    assert "of the cell type a172" in caplog.text
    with pytest.raises(DatasetError, match="1 of 3 training images.*huh7, bv2, a172.*None.tif: not given"):
        check_cell_types(cfg, records)
    with pytest.raises(DatasetError, match="1 of 3 test images"):
        check_cell_types(cfg, records, training=False)
    cfg.MODEL.ENSEMBLE.UNKNOWN = "average"
    check_cell_types(cfg, records, training=False)
    cfg.MODEL.ENSEMBLE.CELL_TYPES = ["huh7"]
    with pytest.raises(DatasetError, match="2 of 3 .*bv2.tif: bv2"):
        check_cell_types(cfg, records)
