"""The command line as a user runs it: images in, label images, probabilities, overlays and COCO out."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import tifffile

from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.errors import MissingDataError
from cellseg_d2.inference.reading.sources import find_images, output_names
from cellseg_d2.inference.semantic import SemanticPredictor
from cellseg_d2.modeling.semantic import label_cells

ROOT = Path(__file__).resolve().parents[2]
EARLIER = '{"versions": {}, "model": {}, "outputs": {}, "images": []}'
TOOL = ROOT / "tools" / "predict.py"
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.UNET.WIDTH", 4, "MODEL.SEMANTIC.MIN_AREA", 0, "MODEL.SEMANTIC.HOLE_AREA", 0]
ENSEMBLE = [*SMALL, "MODEL.ENSEMBLE.CELL_TYPES", ["huh7", "bv2"]]


@pytest.fixture(scope="module")
def work(tmp_path_factory, save_untrained):
    """A folder with a model, an ensemble, and images in two folders, one of them twice under a name and one damaged."""
    folder = tmp_path_factory.mktemp("predict")
    save_untrained(folder / "model", "unet.yaml", SMALL)
    save_untrained(folder / "ensemble", "unet_ensemble.yaml", ENSEMBLE)
    for number, name in enumerate(["one/t1.tif", "one/t2.tif", "two/t1.tif"]):
        (folder / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(folder / name, simulate(PhantomSpec(height=72, width=90, cells=(3, 5)), seed=number).image)
    content = (folder / "one" / "t2.tif").read_bytes()
    (folder / "two" / "cut.tif").write_bytes(content[: len(content) // 2])
    (folder / "one" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def done(work):
    """The tool, run on all images as a process of its own, into a folder with an overlay of an earlier run."""
    stale = work / "out" / "overlays" / "cut.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier run")
    (work / "out" / "run.json").write_text(EARLIER)
    options = ["--model", work / "model", "--output", work / "out", "--runtime", "torch", "--min-area", "9"]
    command = [sys.executable, TOOL, work / "one", work / "tw?" / "*.tif", *options]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_a_bad_image_is_named_and_stops_no_other(work, done):
    assert done.returncode == 1, done.stderr
    assert "two/cut.tif" in done.stderr and "1 of 4 images could not be used" in done.stderr
    assert "Traceback" not in done.stderr
    run = json.loads((work / "out" / "run.json").read_text())
    assert [Path(image["file"]).name for image in run["images"]] == ["t1.tif", "t2.tif", "t1.tif"]
    assert [Path(failure["file"]).name for failure in run["failures"]] == ["cut.tif"]
    assert [path.parent.name for path in (work / "out").glob("*/cut.*")] == ["parts"]  # where it says why


def test_run_says_how_it_was_made(work, done):
    run = json.loads((work / "out" / "run.json").read_text())
    assert run["model"]["sha256"] == json.loads((work / "model" / "model.json").read_text())["sha256"]
    assert run["options"]["min_area"] == 9 and run["options"]["runtime"] == "torch" and "torch" in run["versions"]
    for image in run["images"]:
        assert image["seconds"] > image["steps"]["network"] > 0
        assert image["name"] in done.stdout and "1 frame of 72 x 90, uint8" in image["read"]


def test_files_hold_what_the_predictor_finds(work, done):
    predictor = SemanticPredictor.from_folder(work / "model", "eager", cells={"min_area": 9})
    for image, name in (("one/t1.tif", "one_t1"), ("one/t2.tif", "t2"), ("two/t1.tif", "two_t1")):
        labels = tifffile.imread(work / "out" / "labels" / f"{name}.tif")
        probability = tifffile.imread(work / "out" / "probabilities" / f"{name}.tif")
        assert labels.dtype == np.uint16 and probability.dtype == np.float32
        expected = label_cells(probability, predictor.member().options)
        pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)  # the same cells, the best first
        assert pairs.shape[1] == len(np.unique(labels)) == len(np.unique(expected)) and (pairs[:, 0] == 0).all()
        # Another process rounds otherwise
        assert np.abs(probability - predictor(work / image).probability).max() < 1e-5
        overlay = cv2.imread(str(work / "out" / "overlays" / f"{name}.png"))
        white = (overlay == 255).all(axis=2)
        assert overlay.shape == (72, 90, 3) and white.any() and not white[labels == 0].any()


def test_coco_file_has_every_cell(work, done):
    coco = json.loads((work / "out" / "cells.json").read_text())
    assert [Path(image["file_name"]).name for image in coco["images"]] == ["t1.tif", "t2.tif", "t1.tif"]
    assert len({image["file_name"] for image in coco["images"]}) == 3
    assert sum(len([a for a in coco["annotations"] if a["image_id"] == i["id"]]) for i in coco["images"]) > 0
    for image in coco["images"]:
        labels = tifffile.imread(work / "out" / image["labels"])
        cells = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        assert len(cells) == labels.max()
        covered = sum((mask_util.decode(a["segmentation"]) for a in cells), np.zeros((72, 90), np.uint8))
        assert np.array_equal(covered, labels > 0)
        assert all(0.1 <= a["score"] <= 1 for a in cells)


def test_ensembles_need_the_cell_type(work, predict):
    options = ["--model", work / "ensemble", "--output", work / "types"]
    code, said = predict(work / "one", *options)
    assert code == 2 and "huh7, bv2" in said
    assert predict(work / "one", *options, "--cell-type", "BV2")[0] == 0
    assert len(list((work / "types" / "labels").iterdir())) == 2


def test_unusable_input_is_one_line(work, predict):
    options = ["--model", work / "model", "--output", work / "nothing", "--runtime", "torch"]
    for images, more, words in (
        (["missing.tif"], [], "missing.tif"),
        ([work], [], "no file in this folder"),
        ([work / "one"], ["--model", work / "model" / "model.pth"], "is no configuration"),
        ([work / "one"], ["--model", work / "one"], "neither a model folder"),
        ([work / "one"], ["--model", "livecel"], "did you mean livecell"),
        ([work / "one"], ["--threshold", "7"], "7"),
        ([work / "one"], ["--min-area", "-1"], "MIN_AREA"),
        ([work / "one"], ["--split", "classes"], "split classes"),
        ([work / "one"], ["--cell-type", "bv2"], "--cell-type"),
        ([work / "one"], ["--output", work / "one" / "t1.tif"], "t1.tif"),
    ):
        code, said = predict(*images, *options, *more)
        assert code == 2 and words in said and said.count("\n") == 1, said


def test_find_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = ["one/t1.tif", "one/t2.TIF", "two/t1.png", "a[1].tif"]
    for name in (*images, "one/notes.txt", "one/.t3.tif", "out/labels/t1.tif"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")
    for arguments, expected in (
        (["two", "one/*", "two/t1.png"], ["two/t1.png", "one/notes.txt", "one/t1.tif", "one/t2.TIF"]),
        (["one"], ["one/t1.tif", "one/t2.TIF"]),
        (["**/t1.*"], ["one/t1.tif", "two/t1.png"]),  # not what an earlier run wrote
        (["out/labels/t1.tif"], ["out/labels/t1.tif"]),  # but where it is asked for by its name
        (["a[1].tif"], ["a[1].tif"]),  # a name that is a pattern too
    ):
        assert find_images(arguments, [tmp_path / "out" / "labels"]) == [Path(name) for name in expected]
    for wrong in ("three", "one/*.png", "out"):
        with pytest.raises(MissingDataError, match=wrong.partition("/")[0]):
            find_images(["one/t1.tif", wrong])


def test_output_names_differ():
    names = output_names([Path(p) for p in ("a/x.tif", "b/x.tif", "b/X.png", "c/y.tif", "c/b_x.tif", "d/b_x-2.tif")])
    assert names[:2] == ["a_x", "b_x"] and names[3] == "y"
    assert len({name.lower() for name in names}) == len(names)


def test_nobodys_own_labels_are_overwritten(work, predict, tmp_path):
    mine = tmp_path / "labels" / "t1.tif"
    mine.parent.mkdir()
    mine.write_bytes(b"outlined by hand")
    command = [work / "one" / "t1.tif", "--model", work / "model", "--output", tmp_path, "--runtime", "torch"]
    for _ in range(2):  # a refusal leaves nothing behind that would let the next call through
        status, said = predict(*command)
        assert status == 2 and "labels has files" in said and mine.read_bytes() == b"outlined by hand"
        assert [path.name for path in tmp_path.iterdir()] == ["labels"]
    (tmp_path / "run.json").write_text(EARLIER)
    status, said = predict(mine, *command[1:])
    assert status == 2 and "lies where results are written" in said and mine.read_bytes() == b"outlined by hand"


def test_what_was_corrected_by_hand_is_not_replaced(work, predict, tmp_path):
    options = ["--model", work / "model", "--output", tmp_path, "--runtime", "torch"]
    assert predict(work / "one", *options)[0] == 0
    coco = json.loads((tmp_path / "cells.json").read_text())
    (tmp_path / "cells.json").write_text(json.dumps(coco, indent=2))
    status, said = predict(work / "one", *options)
    assert status == 2 and "corrected by hand" in said and json.loads((tmp_path / "cells.json").read_text()) == coco
    for foreign in ("[]", '{"experiment": "of my own"}'):
        (tmp_path / "run.json").write_text(foreign)
        status, said = predict(work / "one", *options)
        assert status == 2 and "run.json was not written by predict.py" in said


def test_a_corrected_coco_file_is_not_overwritten(work, predict, tmp_path):
    (tmp_path / "cells.json").write_text("corrected")
    options = ["--model", work / "model", "--output", tmp_path, "--runtime", "torch"]
    status, said = predict(work / "one" / "t1.tif", *options)
    assert status == 2 and "cells.json exists" in said and (tmp_path / "cells.json").read_text() == "corrected"


def test_a_folder_has_the_results_of_one_list_of_images(work, predict, tmp_path):
    options = ["--model", work / "model", "--output", tmp_path / "out", "--runtime", "torch"]
    assert predict(work / "one" / "t1.tif", *options)[0] == 0
    labels = tmp_path / "out" / "labels" / "t1.tif"
    before = labels.read_bytes(), (tmp_path / "out" / "cells.json").read_bytes()
    status, said = predict(work / "two" / "t1.tif", *options)
    assert status == 2 and "results of 1 images that this run would not write" in said
    assert (labels.read_bytes(), (tmp_path / "out" / "cells.json").read_bytes()) == before
    assert predict(work / "one", *options)[0] == 0
    assert {p.name for p in (tmp_path / "out" / "labels").iterdir()} == {"t1.tif", "t2.tif"}
