"""Few outlined images: names that belong together, four kinds of outlines, and what is held out."""

import doctest
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from cellseg_d2.data.datasets import DatasetError, MissingDataError, check_num_classes, load, mes, resolve, roots
from cellseg_d2.data.datasets.coco_json import read_coco, to_dataset_dicts
from cellseg_d2.data.datasets.mes import leave_one_out, match_names, register_mes
from cellseg_d2.data.datasets.outlines import ignore_margin
from cellseg_d2.data.image_io import read_raw
from cellseg_d2.data.label_maps import rasterise
from cellseg_d2.evaluation.evaluate import evaluate
from cellseg_d2.evaluation.options import Options
from cellseg_d2.evaluation.reading import results_table
from cellseg_d2.evaluation.records import ground_truth

RNG = np.random.default_rng(0)
LABELS = np.zeros((40, 50), np.uint16)
LABELS[5:15, 5:20], LABELS[15:25, 5:20], LABELS[30:, 40:] = 3, 4, 9
TOUCHING = np.zeros((40, 50), np.uint8)
TOUCHING[14:16, 5:20] = 255  # between labels 3 and 4


@pytest.fixture
def write(tmp_path):
    """``write("images", {"t1.tif": array, ...})``: a folder of images below the test's."""

    def write_folder(name: str, images: dict[str, np.ndarray]) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        for file_name, image in images.items():
            tifffile.imwrite(tmp_path / name / file_name, image)
        return tmp_path / name

    return write_folder


@pytest.fixture
def frames(write):
    """A folder of five images t2, t9, t10, t11 and t100, all of one size."""
    return write("images", {f"t{n}.tif": RNG.integers(0, 99, LABELS.shape, np.uint8) for n in (2, 9, 10, 11, 100)})


def paths(*names: str) -> list[Path]:
    return [Path("folder") / name for name in names]


def cells(record: dict) -> np.ndarray:
    """N x H x W bool masks of a dataset dict."""
    return np.stack([mask_util.decode(a["segmentation"]) for a in record["annotations"]]).astype(bool)


def stems(name: str) -> list[str]:
    return [Path(record["file_name"]).stem for record in load(name)]


# Names


def test_partners_by_name_and_by_number():
    assert match_names(paths("a.png", "b.png"), paths("b.tif", "a.tif")) == paths("a.tif", "b.tif")
    images = paths("t2.tif", "t10.tif", "x2_t7.tif")
    masks = paths("man_seg010.tif", "man_seg07.tif", "man_seg002.tif")
    assert [path.name for path in match_names(images, masks)] == ["man_seg002.tif", "man_seg010.tif", "man_seg07.tif"]
    mixed = match_names(paths("t2.tif", "other.tif"), paths("other.zip", "mask_2.zip"))
    assert mixed == paths("mask_2.zip", "other.zip")


def test_partners_that_are_missing_doubled_or_too_many(caplog):
    with pytest.raises(DatasetError, match=r"2 of 3 images: a1.tif, b1.tif. Left over: m1.tif"):
        match_names(paths("a1.tif", "b1.tif", "c2.tif"), paths("m1.tif", "m2.tif"))
    with pytest.raises(DatasetError, match="Left over: no file"):
        match_names(paths("a.tif", "b.tif"), paths("a.tif"))
    with pytest.raises(DatasetError, match="several files are named a, with different endings"):
        match_names(paths("a.tif"), paths("a.tif", "a.zip"))
    with caplog.at_level(logging.WARNING):
        assert match_names(paths("t1.tif"), paths("m1.tif", "m2.tif", "m3.tif")) == paths("m1.tif")
    assert "no image for 2 files, first m2.tif" in caplog.text


def test_leave_one_out_holds_each_image_out_once():
    assert doctest.testmod(mes).failed == 0
    folds = list(leave_one_out("abcde"))
    assert [test for _, test in folds] == [("a",), ("b",), ("c",), ("d",), ("e",)]
    assert all(set(train) | set(test) == set("abcde") and len(train) == 4 for train, test in folds)


# Kinds of outlines


def test_label_images(frames, write):
    masks = write("masks", {f"man_seg{n:03d}.tif": np.roll(LABELS, n, axis=1) for n in (2, 9, 10, 11, 100)})
    register_mes(frames, masks, hold_out=["t9"])
    records = load("mes_train")
    assert [Path(record["file_name"]).stem for record in records] == ["t2", "t10", "t11", "t100"]
    assert [record["image_id"] for record in records] == [1, 3, 4, 5]
    for record, shift in zip(records, (2, 10, 11, 100)):
        shifted = np.roll(LABELS, shift, axis=1)
        assert (record["height"], record["width"]) == (40, 50)
        assert (cells(record) == np.stack([shifted == k for k in (3, 4, 9)])).all()
        for annotation, mask in zip(record["annotations"], cells(record)):
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == box and annotation["area"] == mask.sum()
            assert annotation["category_id"] == annotation["iscrowd"] == 0
    ids = [annotation["id"] for record in records for annotation in record["annotations"]]
    assert len(set(ids)) == len(ids) == 12
    assert MetadataCatalog.get("mes_train").thing_classes == ["cell"]


@pytest.mark.parametrize("value", [1, 255])
def test_binary_masks_with_and_without_edges(frames, write, value):
    names = [path.name for path in frames.iterdir()]
    masks = write("masks", {name: (LABELS > 0).astype(np.uint8) * value for name in names})
    edges = write("edges", {name: TOUCHING for name in names})
    register_mes(frames, masks)
    assert all(len(record["annotations"]) == 2 for record in load("mes_train"))
    register_mes(frames, masks, edges)
    for record in load("mes_train"):
        assert (cells(record) == np.stack([LABELS == k for k in (3, 4, 9)])).all()


def test_one_cell_in_some_files_does_not_make_masks_of_labels(frames, write):
    images = {path.name: LABELS for path in frames.iterdir()}
    one = np.zeros_like(LABELS)
    one[3:5, 3:5], one[30:35, 30:35] = 1, 1
    register_mes(frames, write("masks", {**images, "t2.tif": one}), hold_out="0")
    ((record,),) = (load("mes_test"),)
    assert (cells(record) == one[None]).all()


def test_imagej_outlines(frames, tmp_path):
    roifile = pytest.importorskip("roifile")
    (tmp_path / "rois").mkdir()
    for path in frames.iterdir():
        square = roifile.ImagejRoi.frompoints([[5, 5], [20, 5], [20, 15], [5, 15]], name="square")
        roifile.roiwrite(tmp_path / "rois" / f"{path.stem}.zip", [square], mode="w")
    register_mes(frames, tmp_path / "rois")
    assert all((cells(record) == (LABELS == 3)).all() for record in load("mes_test"))


def test_coco_json(tmp_path, discs, written):
    coco = discs(images=12)
    for image in coco["images"][:2]:
        image["cell_type"] = "MES"
    json_file, images = written(tmp_path, coco)
    register_mes(images, json_file, hold_out=["image2", "11"])
    assert stems("mes_test") == ["image2", "image12"] and len(load("mes_train")) == 10
    assert [record.get("cell_type") for record in load("mes_test")] == ["mes", None]
    (images / "image3.tif").unlink()
    with pytest.raises(MissingDataError, match=r"1 of 12 images of .* first .*image3\.tif"):
        load("mes_train")
    coco["images"][0]["cell_type"] = 3
    json_file.write_text(json.dumps(coco))
    with pytest.raises(DatasetError, match="image1.tif has cell_type 3"):
        to_dataset_dicts(read_coco(json_file), str)


# Held out


def test_held_out_images(frames, write, caplog):
    masks = write("masks", {path.name: LABELS for path in frames.iterdir()})
    with caplog.at_level(logging.INFO):
        register_mes(frames, masks)
        assert stems("mes_test") == ["t100"] and stems("mes_train") == ["t2", "t9", "t10", "t11"]
    assert "t100, the last of 5 images, is mes_test" in caplog.text
    register_mes(frames, masks, hold_out=("t9", 0, "3"))
    assert stems("mes_test") == ["t2", "t9", "t11"] and stems("mes_train") == ["t10", "t100"]
    register_mes(frames, masks, hold_out=["t3"])
    with pytest.raises(DatasetError, match="HOLD_OUT: 't3' is neither .* 0 t2, 1 t9, 2 t10, 3 t11, 4 t100"):
        load("mes_train")
    register_mes(frames, masks, hold_out=["5"])
    with pytest.raises(DatasetError, match="HOLD_OUT: '5'"):
        load("mes_test")


def test_a_name_goes_before_a_number_and_one_image_is_not_held_out(write):
    folder = write("images", {f"{n}.tif": LABELS for n in (0, 1, 2)})
    masks = write("masks", {f"{n}.tif": LABELS for n in (0, 1, 2)})
    (folder / "0.tif").unlink()
    register_mes(folder, masks, hold_out=["1"])
    assert stems("mes_test") == ["1"]
    (folder / "1.tif").unlink()
    register_mes(folder, masks)
    assert stems("mes_train") == ["2"]
    with pytest.raises(DatasetError, match="mes_test: .*2.tif is the only image"):
        load("mes_test")


# Wrong input


def test_images_without_cells(frames, write, caplog):
    names = [path.name for path in frames.iterdir()]
    masks = write("masks", dict.fromkeys(names, LABELS))
    write("masks", {"t9.tif": LABELS * 0})
    register_mes(frames, masks)
    with caplog.at_level(logging.WARNING):
        assert [len(record["annotations"]) for record in load("mes_train")] == [3, 0, 3, 3]
    assert "t9.tif has no cell" in caplog.text
    write("masks", dict.fromkeys(names, LABELS * 0))
    with pytest.raises(DatasetError, match="none of the 5 files has a cell"):
        load("mes_train")


def test_files_that_do_not_fit(frames, write, tmp_path):
    names = [path.name for path in frames.iterdir()]
    masks = write("masks", dict.fromkeys(names, LABELS))
    write("masks", {"t10.tif": LABELS[:30]})
    register_mes(frames, masks)
    with pytest.raises(DatasetError, match=r"masks.t10\.tif has 50 x 30 pixels, but its image .*t10\.tif has 50 x 40"):
        load("mes_test")
    write("masks", {"t10.tif": LABELS + 1})
    with pytest.raises(DatasetError, match="t10.tif: label 1 covers"):
        load("mes_test")
    edges = write("edges", dict.fromkeys(names, TOUCHING))
    register_mes(frames, masks, edges)
    with pytest.raises(DatasetError, match="holds labels; leave EDGES empty"):
        load("mes_test")
    write("masks", dict.fromkeys(names, TOUCHING))
    write("edges", {"t2.tif": TOUCHING[:9]})
    with pytest.raises(DatasetError, match="edges.t2.tif has 50 x 9 pixels"):
        load("mes_test")
    (tmp_path / "empty").mkdir()
    register_mes(frames, tmp_path / "empty")
    with pytest.raises(MissingDataError, match="DATASETS.MES.MASKS: .* has no file that ends in .tif"):
        load("mes_test")
    for arguments, message in (
        ((frames, tmp_path / "gone"), "DATASETS.MES.MASKS: .*gone is not there"),
        ((tmp_path / "gone", masks), "DATASETS.MES.IMAGES"),
        ((frames, masks, tmp_path / "gone"), "DATASETS.MES.EDGES"),
        ((frames, frames), "need a folder each"),
    ):
        with pytest.raises(DatasetError, match=message):
            register_mes(*arguments)


# The config


def test_config(cfg, frames, write, monkeypatch, tmp_path):
    masks = write("masks", {path.name: LABELS for path in frames.iterdir()})
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("mes_train",), ("mes_test",)
    monkeypatch.setattr(roots, "find", lambda name: None)
    with pytest.raises(DatasetError, match="name mes_train but DATASETS.MES.IMAGES is empty"):
        resolve(cfg)
    cfg.DATASETS.MES.IMAGES = str(frames)
    with pytest.raises(DatasetError, match="DATASETS.MES.MASKS is empty"):
        resolve(cfg)
    cfg.DATASETS.MES.MASKS, cfg.DATASETS.MES.HOLD_OUT = str(masks), ["t9", "0"]
    cfg.freeze()
    resolve(cfg)
    resolve(cfg)  # as each process of a run does
    assert stems("mes_test") == ["t2", "t9"]
    monkeypatch.setattr(roots, "find", lambda name: tmp_path)  # which has images and masks
    monkeypatch.setattr(mes, "EXAMPLE_MARGIN", 2)
    cfg.defrost()
    cfg.DATASETS.MES.IMAGES, cfg.DATASETS.MES.MASKS, cfg.DATASETS.MES.HOLD_OUT = "", "", ()
    resolve(cfg)
    assert stems("mes_test") == ["t100"]
    assert sum(annotation["iscrowd"] for annotation in DatasetCatalog.get("mes_test")[0]["annotations"]) == 4


def test_a_folder_that_nothing_uses(cfg, frames, caplog):
    cfg.DATASETS.MES.IMAGES, cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = str(frames), (), ()
    with caplog.at_level(logging.WARNING):
        resolve(cfg, training=False)
        assert not caplog.text
        resolve(cfg)
    assert "DATASETS.MES.IMAGES is set, but" in caplog.text
    cfg.DATASETS.TRAIN = ("mes_trian",)
    with pytest.raises(DatasetError, match="did you mean mes_train"):
        resolve(cfg)


def test_semantic_models_take_any_number_of_classes(cfg, tmp_path, discs, written):
    coco = discs(images=2)
    coco["categories"] = [{"id": 1, "name": "live"}, {"id": 2, "name": "dead"}]
    json_file, images = written(tmp_path, coco)
    register_mes(images, json_file)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("mes_train",), ()
    cfg.MODEL.FCOS.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    with pytest.raises(DatasetError, match="the numbers of classes disagree"):
        check_num_classes(cfg)
    for name in ("SemanticSegmentor", "CellSegmentor", "CellTypeEnsemble"):
        cfg.MODEL.META_ARCHITECTURE = name
        check_num_classes(cfg)


# Cells that were left out at the frame


def square(corner, side, **more):
    """An annotation of side x side pixels."""
    mask = np.zeros((40, 60), np.uint8, order="F")
    mask[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = 1
    return {"segmentation": mask_util.encode(mask), "iscrowd": 0, "category_id": 0, **more}


def test_the_margin_is_ignored_but_for_outlined_cells():
    record = {"file_name": "a.tif", "height": 40, "width": 60, "annotations": [square((2, 2), 12), square((15, 30), 9)]}
    assert ignore_margin(record, 0) is record
    labels = rasterise(ignore_margin(record, 8)["annotations"], 40, 60)
    expected = np.full((40, 60), -1)
    expected[8:32, 8:52] = 0
    expected[2:14, 2:14], expected[15:24, 30:39] = 1, 2
    assert (labels == expected).all()
    assert len(record["annotations"]) == 2


def test_what_is_found_beside_the_margin_counts_in_boxes_as_in_masks():
    """By falling score: a prediction in the margin, which is ignored, a false one inside of it, and a true one."""
    record = {"file_name": "a.tif", "image_id": 1, "height": 40, "width": 60}
    record["annotations"] = [square((15, 30), 9, id=1, area=81, bbox=[30, 15, 9, 9], bbox_mode=BoxMode.XYWH_ABS)]
    corners = {0.9: (20, 0), 0.8: (12, 14), 0.7: (15, 30)}
    found = [
        {"image_id": 1, "category_id": 1, "score": score, "bbox": [column, row, 9, 9]}
        | {"segmentation": square((row, column), 9)["segmentation"]}
        for score, (row, column) in corners.items()
    ]
    truth = ground_truth([ignore_margin(record, 9)], {0: 1}, "one frame")
    scores = evaluate(truth, results_table(found, truth, "made up"), Options(bootstrap=0)).metrics
    assert [scores[task]["AP50"] for task in ("bbox", "segm")] == pytest.approx([50, 50])


def test_a_cell_on_the_whole_margin_leaves_nothing_to_ignore():
    whole = {"segmentation": mask_util.encode(np.ones((40, 60), np.uint8, order="F")), "iscrowd": 0, "category_id": 0}
    record = {"file_name": "a.tif", "height": 40, "width": 60, "annotations": [whole]}
    assert len(ignore_margin(record, 5)["annotations"]) == 1


@pytest.mark.parametrize("margin", [-1, 20, 100])
def test_a_margin_that_leaves_nothing(margin):
    record = {"file_name": "a.tif", "height": 40, "width": 60, "annotations": []}
    with pytest.raises(DatasetError, match=f"MARGIN {margin} .*a.tif of 60 x 40"):
        ignore_margin(record, margin)


# Real images


def _example(name: str) -> Path:
    folder = roots.find(name)
    if folder is None:
        pytest.skip(f"{name} is in none of {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    return folder


def test_gowt1():
    folder = _example("mes_gowt1")
    register_mes(folder / "images", folder / "masks", hold_out=["t52"])
    assert stems("mes_test") == ["t52"] and stems("mes_train") == ["t21", "t31", "t39", "t72"]
    for record in DatasetCatalog.get("mes_train"):
        number = Path(record["file_name"]).stem[1:]
        labels = read_raw(folder / "masks" / f"man_seg{number}.tif")
        present = np.unique(labels[labels > 0])
        drawn = rasterise(record["annotations"], record["height"], record["width"])
        assert (np.append(0, present)[drawn] == labels).all()


def test_gowt1_outlines_no_cell_that_stays_within_50_pixels_of_the_frame():
    folder = _example("mes_gowt1")
    register_mes(folder / "images", folder / "masks", margin=50)
    for record in (*load("mes_train"), *load("mes_test")):
        height, width = record["height"], record["width"]
        cells = [annotation for annotation in record["annotations"] if not annotation["iscrowd"]]
        reach = [min(x + w, y + h, width - x, height - y) for x, y, w, h in (cell["bbox"] for cell in cells)]
        assert len(record["annotations"]) == len(cells) + 4 and min(reach) > 50


def test_gowt1_as_json_has_the_same_foreground():
    folder = _example("mes_gowt1")
    foregrounds = []
    for masks in (folder / "masks", folder / "instances.json"):
        register_mes(folder / "images", masks)
        ((record,),) = (load("mes_test"),)
        assert record["file_name"].endswith("t72.tif")
        foregrounds.append(rasterise(record["annotations"], record["height"], record["width"]) > 0)
    assert (foregrounds[0] != foregrounds[1]).sum() < 0.02 * foregrounds[0].sum()


def test_t98g_outlines():
    pytest.importorskip("roifile")
    folder = _example("t98g_phase_usiigaci")
    register_mes(folder / "images" / "val", folder / "rois")
    assert [len(record["annotations"]) for record in (*load("mes_train"), *load("mes_test"))] == [57, 84, 62]


def test_livecell_records_know_their_cell_type():
    if not list(_example("livecell").rglob("livecell_coco_test.json")):
        pytest.skip("no test annotations of LIVECell")
    types = {record["cell_type"] for record in load("livecell_test")}
    assert types <= {"a172", "bt474", "bv2", "huh7", "mcf7", "shsy5y", "skbr3", "skov3"} and len(types) > 1
