"""Predict, correct by hand, convert, train further, predict: the command lines, with corrections that are known.

What the model finds is replaced by the truth with two cells taken for one and one cell cut in two, so that the files
are those of tools/predict.py, and each correction has an exact answer.
"""

import importlib.util
import json
import logging
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import roifile
import shapely
import tifffile
from detectron2.data import DatasetCatalog
from detectron2.engine import default_argument_parser
from pycocotools import mask as mask_util

from cellseg_d2.data.rle import as_rle
from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.errors import OutputError
from cellseg_d2.files import sha256
from cellseg_d2.inference.detectors import Found, InstanceDetector

ROOT = Path(__file__).resolve().parents[2]
SIZE = 96
SPEC = PhantomSpec(height=SIZE, width=SIZE, cells=(6, 8), cell_types=("PHRound",), overlap=0, scale=0.8)
TINY = """
    MODEL.DEVICE cpu INPUT.MIN_SIZE_TRAIN (0,) INPUT.MIN_SIZE_TEST 0 INPUT.CROP.ENABLED False SOLVER.IMS_PER_BATCH 2
    SOLVER.WARMUP_ITERS 2 SOLVER.BASE_LR 0.002 DATALOADER.NUM_WORKERS 0 TEST.VAL_LOSS True TEST.EVAL_PERIOD 3
    MODEL.FCOS.POST_NMS_TOPK_TRAIN 50 MODEL.FCOS.POST_NMS_TOPK_TEST 50
""".split()
FORMS = {"labels": ".tif", "rois": ".zip", "geojson": ".geojson"}


def load(name):
    spec = importlib.util.spec_from_file_location(f"loop_{name}", ROOT / "tools" / f"{name}.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


PREDICT, DATASET, TRAIN = load("predict"), load("dataset"), load("train_net")


def call(tool, *arguments):
    """The exit code of a tool that runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{tool.__name__}.py", *map(str, arguments)])
        patch.setattr(sys, "stdout", sys.__stdout__)
        try:
            return tool.main()
        except SystemExit as stop:
            return stop.code


def train(config, json_file, images, output, *more):
    """tools/train_net.py, evaluated on what it is trained on; logging and data sets are left as they were."""
    custom = [f"DATASETS.CUSTOM.{split}_{kind}" for split in ("TRAIN", "VAL") for kind in ("JSON", "IMAGES")]
    data = [word for key, value in zip(custom, [json_file, images] * 2) for word in (key, value)]
    words = map(str, ["--config-file", config, *TINY, *data, "OUTPUT_DIR", output, *more])
    loggers = [logging.getLogger(name) for name in ("cellseg_d2", "detectron2", "fvcore")]
    before = [(log.level, log.propagate, list(log.handlers)) for log in loggers]
    try:
        TRAIN.main(default_argument_parser().parse_args(list(words)))
    finally:
        for log, (level, propagate, handlers) in zip(loggers, before, strict=True):
            log.level, log.propagate, log.handlers = level, propagate, handlers
        for name in {"custom_train", "custom_val"} & set(DatasetCatalog.list()):
            DatasetCatalog.remove(name)


def mistaken(truth):
    """The truth with cells 1 and 2 as one, and cell 3 cut in two."""
    wrong = np.where(truth == 2, 1, truth)
    columns = np.nonzero(truth == 3)[1]
    return np.where((truth == 3) & (np.arange(SIZE) > np.median(columns)), truth.max() + 1, wrong)


def parts_of(labels):
    """The masks of a label image, each as the text of its run lengths, and how often it occurs."""
    masks = [np.asfortranarray(labels == number, np.uint8) for number in np.unique(labels) if number]
    return Counter(mask_util.encode(mask)["counts"].decode() for mask in masks)


def converted(folder, image):
    """The cells of an image in a data set that was converted: masks as in parts_of, and names of classes."""
    coco = json.loads((folder / "annotations.json").read_text())
    (number,) = [entry["id"] for entry in coco["images"] if entry["file_name"] == image]
    cells = [annotation for annotation in coco["annotations"] if annotation["image_id"] == number]
    masks = [mask_util.decode(as_rle(cell["segmentation"], SIZE, SIZE)) for cell in cells]
    found = Counter(mask_util.encode(np.asfortranarray(mask))["counts"].decode() for mask in masks)
    return found, {category["name"] for category in coco["categories"]}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Images of two plates, two of one name, a film, and the truth of each frame."""
    folder = tmp_path_factory.mktemp("loop")
    phantoms = [simulate(SPEC, seed=seed) for seed in range(5)]
    for name, phantom in zip(("plate1/a.tif", "plate2/a.tif", "plate2/b.tif"), phantoms):
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / "images" / name, phantom.image)
    (folder / "films").mkdir()
    film = np.stack([phantom.image for phantom in phantoms[3:]])
    tifffile.imwrite(folder / "films" / "film.tif", film, imagej=True, metadata={"axes": "TYX"})
    names = ("plate1_a", "plate2_a", "b", "film_0", "film_1")
    return folder, {name: phantom.labels.astype(int) for name, phantom in zip(names, phantoms)}


@pytest.fixture(scope="module")
def model(work):
    """The output folder of a short training on the first image; its class is called nucleus."""
    folder, truths = work
    masks = [truths["plate1_a"] == number for number in range(1, truths["plate1_a"].max() + 1)]
    cells = [mask_util.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": mask_util.toBbox(cell).tolist(),
         "area": int(mask_util.area(cell)), "segmentation": {**cell, "counts": cell["counts"].decode()}}
        for k, cell in enumerate(cells, start=1)
    ]  # fmt: skip
    images = [{"id": 1, "file_name": "plate1/a.tif", "height": SIZE, "width": SIZE}]
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "nucleus"}]}
    (folder / "first.json").write_text(json.dumps(coco))
    options = ["SOLVER.MAX_ITER", 3]
    train(ROOT / "configs" / "few_images.yaml", folder / "first.json", folder / "images", folder / "first", *options)
    return folder / "first"


@pytest.fixture(scope="module")
def predicted(work, model):
    """What the tool writes of the plates, in OUT, and of the film, in FILM, where the model makes the mistakes."""
    folder, truths = work
    left = iter(truths.values())

    def detect(self, regions, scale):
        found = []
        for _ in regions:
            masks = [mask_util.encode(np.asfortranarray(m, np.uint8)) for m in _masks(mistaken(next(left)))]
            found.append(Found([
                {"category_id": 0, "bbox": mask_util.toBbox(mask).tolist(), "score": 0.9,
                 "segmentation": {**mask, "counts": mask["counts"].decode()}}
                for mask in masks
            ]))  # fmt: skip
        return found

    options = ["--model", model, "--save", "coco,labels,rois,geojson"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InstanceDetector, "__call__", detect)
        inputs = [folder / "images" / "plate1", folder / "images" / "plate2"]
        assert call(PREDICT, *inputs, *options, "--output", folder / "images" / "out") == 0
        assert call(PREDICT, folder / "films", *options, "--output", folder / "film-out") == 0
    return folder / "images" / "out", folder / "film-out"


def _masks(labels):
    return [labels == number for number in np.unique(labels) if number]


def test_prediction_makes_the_mistakes(work, predicted):
    _, truths = work
    for name in ("plate1_a", "plate2_a", "b"):
        for kind, suffix in FORMS.items():
            assert (predicted[0] / kind / f"{name}{suffix}").is_file()
        labels = tifffile.imread(predicted[0] / "labels" / f"{name}.tif")
        assert parts_of(labels) == parts_of(mistaken(truths[name])) != parts_of(truths[name])


def places_of_halves(truth):
    """The numbers that prediction gives the halves of cell 3: cells of equal scores stay in their order."""
    wrong = mistaken(truth)
    return np.searchsorted(np.unique(wrong), np.unique(wrong[truth == 3])).tolist()


def painted(labels, truth):
    """The corrections of a user with a brush: the second of the merged cells gets a new number, the halves one."""
    result = labels.copy()
    assert len(np.unique(labels[(truth == 1) | (truth == 2)])) == 1 and len(np.unique(labels[truth == 3])) == 2
    result[truth == 2] = labels.max() + 1
    result[truth == 3] = labels[truth == 3][0]
    return result


@pytest.fixture(scope="module")
def corrected(work, predicted):
    """The data set of corrected label images; they were corrected where they are."""
    folder, truths = work
    for name in ("plate1_a", "plate2_a", "b"):
        path = predicted[0] / "labels" / f"{name}.tif"
        tifffile.imwrite(path, painted(tifffile.imread(path), truths[name]), compression="zlib")
    # The folder of the images also holds what prediction wrote
    options = ["--input", predicted[0] / "labels", "--images", folder / "images", "--class", "nucleus"]
    assert call(DATASET, "convert", "--from", "labels", *options, "--output", folder / "coco") == 0
    return folder / "coco"


def test_label_images(work, corrected):
    _, truths = work
    for name, image in (("plate1_a", "plate1/a.tif"), ("plate2_a", "plate2/a.tif"), ("b", "plate2/b.tif")):
        assert converted(corrected, image) == (parts_of(truths[name]), {"nucleus"})


def test_corrected_files_are_not_replaced(work, model, predicted, corrected, capsys):
    folder, _ = work
    before = (predicted[0] / "labels" / "b.tif").read_bytes()
    inputs = [folder / "images" / "plate1", folder / "images" / "plate2"]
    for more in ([], ["--resume"]):
        assert call(PREDICT, *inputs, "--model", model, "--output", predicted[0], *more) == 2
        assert "corrected by hand" in capsys.readouterr().err
    assert (predicted[0] / "labels" / "b.tif").read_bytes() == before


@pytest.fixture
def convert(work, tmp_path):
    """``convert(kind, folder, ...)``: the plates' data set."""

    def run(kind, source, *more, images=work[0] / "images"):
        status = call(DATASET, "convert", "--from", kind, "--input", source, "--images", images, "--output", tmp_path,
                      *more)  # fmt: skip
        assert status == 0
        return tmp_path

    return run


def test_stacks(work, predicted, tmp_path):
    folder, truths = work
    stack = tifffile.imread(predicted[1] / "labels" / "film.tif")
    assert stack.shape == (2, SIZE, SIZE)
    films = [truths["film_0"], truths["film_1"]]
    better = np.stack([painted(frame, truth) for frame, truth in zip(stack, films)])
    (tmp_path / "painted").mkdir()
    tifffile.imwrite(tmp_path / "painted" / "film.tif", better, photometric="minisblack")  # as napari saves a stack
    for kind, source, wanted in (
        ("labels", tmp_path / "painted", films),
        ("rois", predicted[1] / "rois", map(mistaken, films)),
        ("geojson", predicted[1] / "geojson", map(mistaken, films)),
    ):
        options = ["--input", source, "--images", folder / "films", "--output", tmp_path / kind]
        assert call(DATASET, "convert", "--from", kind, *options) == 0
        for frame, truth in enumerate(wanted):
            assert converted(tmp_path / kind, f"film_t{frame:03d}.tif")[0] == parts_of(truth)


def test_outlines_of_imagej(work, predicted, convert):
    """The halves are deleted, and a box is drawn in their place."""
    _, truths = work
    path = predicted[0] / "rois" / "plate2_a.zip"
    truth, rois = truths["plate2_a"], roifile.roiread(path)
    names = {f"{place:04d}" for place in places_of_halves(truth)}
    kept = [roi for roi in rois if roi.name not in names]
    assert len(kept) == len(rois) - 2
    rows, columns = np.nonzero(truth == 3)
    (x0, x1), (y0, y1) = ((int(v.min()), int(v.max()) + 1) for v in (columns, rows))
    drawn = roifile.ImagejRoi.frompoints([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], name="drawn")
    path.unlink()
    roifile.roiwrite(path, [*kept, drawn])
    expected = parts_of(np.where(truth == 3, 0, mistaken(truth)))
    box = np.zeros((SIZE, SIZE), np.uint8)
    box[y0:y1, x0:x1] = 1
    found, classes = converted(convert("rois", predicted[0] / "rois"), "plate2/a.tif")
    assert found == expected + parts_of(box) and classes == {"nucleus"}  # what is drawn is of the class of the others


def test_outlines_of_qupath(work, predicted, convert):
    """The halves become one by QuPath's Merge, and a new annotation has no class."""
    _, truths = work
    path = predicted[0] / "geojson" / "b.geojson"
    content, truth = json.loads(path.read_text()), truths["b"]
    names = {f"{place}" for place in places_of_halves(truth)}
    halves = [item for item in content["features"] if item["properties"]["name"] in names]
    assert len(halves) == 2
    union = shapely.union_all([shapely.from_geojson(json.dumps(item["geometry"])) for item in halves])
    halves[0]["geometry"] = json.loads(shapely.to_geojson(union))
    content["features"].remove(halves[1])
    square = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 3], [0, 3], [0, 0]]]}
    content["features"].append({"type": "Feature", "geometry": square, "properties": {"objectType": "annotation"}})
    path.write_text(json.dumps(content))
    found, classes = converted(convert("geojson", predicted[0] / "geojson"), "plate2/b.tif")
    new = np.zeros((SIZE, SIZE), np.uint8)
    new[:3, :4] = 1
    assert found == parts_of(np.where(truth == 2, 1, truth)) + parts_of(new) and classes == {"nucleus"}


def test_training_goes_on_from_the_model(work, model, corrected, tmp_path):
    folder, _ = work
    start = model / "model_final.pth"
    options = ["MODEL.WEIGHTS", start, "SOLVER.MAX_ITER", 9]
    data = model / "config.yaml", corrected / "annotations.json", folder / "images"
    with pytest.raises(OutputError, match="the model would be replaced"):
        train(*data, model, *options)
    train(*data, tmp_path / "second", *options)
    log = (tmp_path / "second" / "log.txt").read_text()
    loaded, total = re.search(rf"{start}: (\d+) of (\d+) tensors loaded", log).groups()
    assert loaded == total and "not in the file" not in log and "other shape" not in log
    losses = [float(loss) for loss in re.findall(r"val/total_loss (\S+)", log)]  # after 3, 6 and 9 steps
    assert len(losses) > 2 and losses[-1] < 0.85 * losses[0]
    options = ["--model", tmp_path / "second", "--output", tmp_path / "out", "--min-score", 0, "--max-cells", 20]
    assert call(PREDICT, folder / "images" / "plate1", folder / "images" / "plate2", *options) == 0
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {image["name"] for image in run["images"]} == {"plate1_a", "plate2_a", "b"}
    assert run["model"]["sha256"] in {sha256(tmp_path / "second" / f"model_{kind}.pth") for kind in ("best", "final")}
    assert json.loads((tmp_path / "out" / "cells.json").read_text())["categories"][0]["name"] == "nucleus"
