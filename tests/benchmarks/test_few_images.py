"""benchmarks/few_images.py: which images are chosen, what stays together, and what the tables say."""

import csv
import importlib.util
import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


data, table = load("few_images_data"), load("few_images_table")


@pytest.fixture
def few_images(monkeypatch):
    """The script, which imports the other two by their names."""
    monkeypatch.setitem(sys.modules, "few_images_data", data)
    monkeypatch.setitem(sys.modules, "few_images_table", table)
    return load("few_images")


def row(size: int, seed: int, ap: float | None, extend: str | None = None) -> dict:
    """A row; ``extend`` None is the plain arm."""
    arm = {"arm": "plain", "extend": ""} if extend is None else {"arm": "extended", "extend": extend}
    scores = {"AP": ap, "AP50": ap, "AP75": ap, "AFNR": 50.0, "bbox_AP": ap}
    return {"size": size, "seed": seed, "train_images": size, "train_cells": 9, **arm, **scores, "seconds": 1.0}


# Choice of images


def test_order_is_seeded_and_complete():
    groups = np.array([0, 0, 0, 1, 2, 2, 3, 0])
    orders = {tuple(data.order_of(groups, seed)) for seed in range(8)}
    assert len(orders) > 1 and all(sorted(order) == list(range(8)) for order in orders)
    assert data.order_of(groups, 3).tolist() == data.order_of(groups, 3).tolist()


def test_first_images_are_of_different_groups():
    groups = np.repeat(np.arange(5), [20, 5, 3, 1, 1])
    for seed in range(10):
        order = data.order_of(groups, seed)
        assert len(set(groups[order[:5]])) == 5
        assert len(set(groups[order[5:8]])) == 3
        assert set(groups[order[8:11]]) == {0, 1, 2}


def test_moved_field_is_the_same_field():
    rng = np.random.default_rng(0)
    big = cv2.GaussianBlur(rng.normal(size=(400, 400)).astype(np.float32), (0, 0), 3)
    other = cv2.GaussianBlur(rng.normal(size=(256, 256)).astype(np.float32), (0, 0), 3)
    groups = data.fields([big[:256, :256], other, big[30:286, 50:306], np.full((256, 256), 7.0)])
    assert groups[0] == groups[2] and len(set(groups.tolist())) == 3


def test_annotation_is_scaled():
    source = {"id": 5, "segmentation": [[0, 0, 8, 0, 8, 4]], "bbox": [0, 0, 8, 4], "area": 16.0, "iscrowd": 0}
    found = data.scaled(source, 0.5, 0.25)
    assert found["segmentation"] == [[0, 0, 4, 0, 4, 1]] and found["bbox"] == [0, 0, 4, 1] and found["area"] == 2
    assert found["id"] == 5 and found["iscrowd"] == 0


def test_train_and_test_of_two_parts(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    parts = []
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        images = [{"id": k, "file_name": f"{part}{k}.png", "height": 60, "width": 80} for k in (1, 2, 3)]
        for image in images:
            cv2.imwrite(str(tmp_path / part / image["file_name"]), rng.integers(0, 255, (60, 80), dtype=np.uint8))
        cell = {"segmentation": [[8, 8, 24, 8, 24, 24]], "bbox": [8, 8, 16, 16], "area": 128, "iscrowd": 0}
        cells = [{"id": k, "image_id": k, "category_id": 1, **cell} for k in (1, 2, 3)]
        content = {"images": images, "annotations": cells, "categories": [{"id": 1, "name": "cell"}]}
        (tmp_path / part / "truth.json").write_text(json.dumps(content))
        parts += ["--part", str(tmp_path / part / "truth.json"), str(tmp_path / part)]
    options = [*parts, "--scale", "0.5", "--hold-out", "2", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["few_images_data.py", *options])
    data.main()
    train, test = (json.loads((tmp_path / "out" / f"{side}.json").read_text()) for side in ("train", "test"))
    assert (len(train["images"]), len(test["images"]), len(test["annotations"])) == (4, 2, 2)
    assert not {i["field"] for i in train["images"]} & {i["field"] for i in test["images"]}
    for image in train["images"] + test["images"]:
        assert cv2.imread(str(tmp_path / "out" / "images" / image["file_name"])).shape[:2] == (30, 40)
        assert (image["height"], image["width"]) == (30, 40)
    assert test["annotations"][0]["bbox"] == [4, 4, 8, 8]


# Tables


def test_mean_and_deviation():
    rows = [row(4, 0, 10.0), row(4, 1, 14.0), row(4, 2, None), row(8, 0, 20.0), row(4, 0, 15.0, "--factor 5")]
    found = table.summarise(rows, "AP")
    assert found[4, ("plain", "")] == (2, 12.0, pytest.approx(math.sqrt(8)))
    assert found[8, ("plain", "")][:2] == (1, 20.0) and math.isnan(found[8, ("plain", "")].sd)
    assert found[4, ("extended", "--factor 5")].mean == 15.0


def test_differences_are_of_the_same_size_and_seed():
    rows = [row(4, 0, 10.0), row(4, 1, 14.0), row(8, 0, 30.0)]
    rows += [row(4, 1, 15.0, "x"), row(4, 0, 13.0, "x"), row(4, 2, 99.0, "x"), row(8, 0, 29.0, "y")]
    found = table.paired(rows, "AP")
    assert found == {(4, ("extended", "x")): {0: 3.0, 1: 1.0}, (8, ("extended", "y")): {0: -1.0}}


def test_tables_are_printed():
    rows = [row(4, 0, 10.0), row(4, 1, 14.0), row(4, 0, 13.0, "--factor 5"), row(4, 1, 16.0, "--factor 5")]
    console = Console(width=140)
    with console.capture() as capture:
        for each in table.tables(rows):
            console.print(each)
    text = capture.get()
    assert "12.0 ± 2.8 (2)" in text and "extended --factor 5" in text and "+2.5 ± 0.7 (2)" in text
    assert len(table.tables(rows[:2])) == 1


def test_rows_become_one_file(tmp_path):
    for k, each in enumerate([row(8, 0, 20.0), row(4, 0, 13.0, "--factor 5"), row(4, 0, None)]):
        (tmp_path / str(k)).mkdir()
        (tmp_path / str(k) / "row.json").write_text(json.dumps(each))
    assert len(table.write_csv(tmp_path)) == 3
    with open(tmp_path / "results.csv", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [(r["size"], r["arm"], r["AP"]) for r in found] == [
        ("4", "plain", ""),
        ("4", "extended", "13.0"),
        ("8", "plain", "20.0"),
    ]


# The command


def test_extension_gets_the_chosen_images_alone(few_images, monkeypatch, tmp_path):
    images = [{"id": k, "file_name": f"{k}.png", "height": 8, "width": 8} for k in range(5)]
    cells = [{"id": k, "image_id": k, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]} for k in range(5)]
    content = {"images": images, "annotations": cells, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "all.json").write_text(json.dumps(content))
    for image in images:
        (tmp_path / image["file_name"]).touch()
    given = []

    def extend(command, log, threads, good):
        given.extend(command)
        (tmp_path / "case" / "extension" / "images").mkdir(parents=True)
        made = tmp_path / "case" / "extension" / "images" / "s.png"
        made.touch()
        synthetic = {**content, "images": [{**images[0], "file_name": "s.png"}], "annotations": cells[:1]}
        (tmp_path / "case" / "extension" / "annotations.json").write_text(json.dumps(synthetic))

    monkeypatch.setattr(few_images, "call", extend)
    args = few_images.argparse.Namespace(json=tmp_path / "all.json", images=tmp_path, threads=1)
    case = {"size": 2, "seed": 7, "arm": "extended", "extend": "--factor 5 --note 'a b'"}
    truth, folder = few_images.training_set(args, np.array([3, 1, 0, 2, 4]), case, tmp_path / "case")
    subset = json.loads((tmp_path / "case" / "subset.json").read_text())
    assert [i["id"] for i in subset["images"]] == [1, 3] and [a["id"] for a in subset["annotations"]] == [1, 3]
    assert given[-6:] == ["--seed", "7", "--factor", "5", "--note", "a b"]
    assert str(tmp_path / "case" / "subset.json") in given and str(args.json) not in given
    made = tmp_path / "case" / "extension"  # which has the chosen images, too
    assert truth == made / "annotations.json" and folder == made / "images"
    plain = few_images.training_set(args, np.array([3, 1, 0, 2, 4]), {**case, "arm": "plain"}, tmp_path / "case")
    assert plain == (tmp_path / "case" / "subset.json", tmp_path)


def test_other_settings_need_another_folder(few_images, tmp_path):
    path = tmp_path / "data.json"
    path.write_text("{}")
    make = few_images.argparse.Namespace
    args = make(json=path, test_json=path, config=path, opts=[], output=tmp_path / "out")
    few_images.check_same(args)
    few_images.check_same(args)
    args.opts = ["SOLVER.MAX_ITER", "3"]
    with pytest.raises(ValueError, match="other options"):
        few_images.check_same(args)


def test_failed_call_says_its_last_line(few_images, tmp_path):
    with pytest.raises(few_images.CaseFailed, match=r"^it broke \(exit code 3"):
        few_images.call(["-c", "print('it broke'); raise SystemExit(3)"], tmp_path / "log.txt", 1)


def test_files_that_are_missing_are_an_error(few_images, monkeypatch, capsys):
    paths = [
        "--json",
        "none.json",
        "--images",
        ".",
        "--test-json",
        "none.json",
        "--test-images",
        ".",
        "--output",
        "out",
    ]
    monkeypatch.setattr(sys, "argv", ["few_images.py", *paths])
    with pytest.raises(SystemExit):
        few_images.parse()
    assert "--json" in capsys.readouterr().err
