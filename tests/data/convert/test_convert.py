"""Conversion there and back: the cells of a label image survive every format that can hold them, pixel by pixel."""

import json
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util
from skimage.draw import polygon as fill_centres

from cellseg_d2.commands import convert
from cellseg_d2.data.convert import FORMATS
from cellseg_d2.data.convert.outline import ellipse, one_polygon, polygons, rings
from cellseg_d2.data.datasets import load, register_coco, roots
from cellseg_d2.data.image_io import read_raw
from cellseg_d2.data.label_files import read_labels
from cellseg_d2.data.rle import as_rle
from cellseg_d2.data.roi_files import read_rois

EXACT = ("labels", "rois", "labelme", "vgg", "yolo")  # all but masks, which do not part cells that touch


def run(*options) -> int:
    parser = ArgumentParser()
    convert.add_arguments(parser)
    return convert.run(parser.parse_args([str(option) for option in options]))


def to_coco(source, images, output, kind="labels", *more) -> dict:
    run("--from", kind, "--input", source, "--images", images, "--output", output, *more)
    return json.loads((output / "annotations.json").read_text())


def from_coco(json_file, images, output, kind) -> int:
    return run("--to", kind, "--json", json_file, "--images", images, "--output", output)


def masks_of(coco: dict, image_id: int) -> list[np.ndarray]:
    size = next((image["height"], image["width"]) for image in coco["images"] if image["id"] == image_id)
    own = [annotation for annotation in coco["annotations"] if annotation["image_id"] == image_id]
    return [mask_util.decode(as_rle(annotation["segmentation"], *size)) for annotation in own]


def hard_labels() -> np.ndarray:
    """Holes, holes in islands in holes, pieces, pixels that touch at corners, single pixels, the image's corners."""
    labels = np.zeros((40, 50), np.int32)
    labels[2:12, 2:12], labels[4:10, 4:10], labels[6:8, 6:8], labels[6, 6] = 7, 0, 7, 0
    labels[5, 5] = 9  # a cell in another one's hole
    labels[15:20, 3:9], labels[15:20, 9:15] = 3, 4  # touch
    labels[17, 5] = 0
    labels[25, 25], labels[0, 49], labels[39, 0] = 100, 70_000, 65_535
    for k in range(6):
        labels[25 + k, 30 + k], labels[30 - k, 40 + k] = 12, 12
    labels[35:, 45:], labels[0, 0], labels[20:23, 20:23] = 5, 5, 5
    labels[21, 21] = 0
    return labels


@pytest.fixture
def folder(tmp_path) -> Path:
    """images/ and masks/ with a.tif of hard labels and sub/b.tif of random ones."""
    rng = np.random.default_rng(0)
    for name, labels in (("a", hard_labels()), ("sub/b", rng.integers(0, 6, (13, 9), np.int32) * 3)):
        for kind, values in (("images", rng.integers(0, 255, labels.shape, np.uint8)), ("masks", labels)):
            path = tmp_path / kind / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, values)
    return tmp_path


# Outlines


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.03, 0.3, 0.6, 0.9]), st.integers(0, 2**32 - 1))
def test_outlines_fill_to_their_mask(height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    mask.flat[seed % mask.size] = True
    counts = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    rle = {"size": [height, width], "counts": counts}
    corners = [ring for piece in rings(rle) for ring in piece]
    parity = np.zeros(mask.shape, bool)
    for ring in corners:
        parity[fill_centres(ring[:, 1] - 0.5, ring[:, 0] - 0.5, mask.shape)] ^= True
    assert (parity == mask).all()
    single = one_polygon(rle, height, width)
    for outlines in ([single], polygons(rle, height, width)):
        assert (mask_util.decode(as_rle(outlines, height, width)).astype(bool) == mask).all()
    points, centres = np.reshape(single, (-1, 2)), np.zeros(mask.shape, bool)
    centres[fill_centres(points[:, 1] - 0.5, points[:, 0] - 0.5, mask.shape)] = True
    assert (centres == mask).all()
    assert (np.diff(points, axis=0) == 0).any(axis=1).all()  # bridges, too, follow pixel edges


def test_ellipse_covers_the_pixels_with_their_centre_inside():
    decoded = mask_util.decode(ellipse((10, 8), (6, 3), np.pi / 2, 20, 30))
    y, x = np.mgrid[:20, :30] + 0.5
    assert (decoded == (((x - 10) / 3) ** 2 + ((y - 8) / 6) ** 2 <= 1)).all() and decoded.sum() > 40
    assert mask_util.area(ellipse((100, 8), (6, 6), 0, 20, 30)) == 0  # beside the image
    assert mask_util.decode(ellipse((0, 0), (2, 2), 0, 20, 30)).sum() == 3  # a quarter


# There and back


def test_labels_are_the_same_again(folder):
    coco = to_coco(folder / "masks", folder / "images", folder / "coco")
    assert [image["file_name"] for image in coco["images"]] == ["a.tif", "sub/b.tif"]
    assert all(isinstance(annotation["segmentation"], dict) for annotation in coco["annotations"])
    labels = hard_labels()
    own = {a["label"]: a["area"] for a in coco["annotations"] if a["image_id"] == 1}
    assert own == {label: int((labels == label).sum()) for label in np.unique(labels[labels > 0]).tolist()}
    assert from_coco(folder / "coco" / "annotations.json", folder / "images", folder / "back", "labels") == 0
    for name in ("a.tif", "sub/b.tif"):
        assert (read_labels(folder / "back" / name) == read_labels(folder / "masks" / name)).all()
    written = [tifffile.TiffFile(folder / "back" / name).pages[0] for name in ("a.tif", "sub/b.tif")]
    assert [page.dtype for page in written] == [np.uint32, np.uint16] and written[0].compression > 1


@pytest.mark.parametrize("kind", EXACT)
def test_every_format_gives_the_same_cells_back(folder, kind):
    coco = to_coco(folder / "masks", folder / "images", folder / "coco")
    from_coco(folder / "coco" / "annotations.json", folder / "images", folder / kind, kind)
    again = to_coco(folder / kind, folder / "images", folder / "again", kind)
    assert [image["file_name"] for image in again["images"]] == [image["file_name"] for image in coco["images"]]
    for image in coco["images"]:
        before, after = masks_of(coco, image["id"]), masks_of(again, image["id"])
        assert len(before) == len(after) and all((x == y).all() for x, y in zip(before, after))
    for key in ("area", "bbox", *(["label"] if FORMATS[kind].holds_labels else [])):
        assert [a[key] for a in again["annotations"]] == [a[key] for a in coco["annotations"]]
    register_coco(f"t_convert_{kind}", folder / "again" / "annotations.json", folder / "images")
    assert sum(len(record["annotations"]) for record in load(f"t_convert_{kind}")) == len(coco["annotations"])


@pytest.mark.parametrize("kind", ["rois", "labelme", "vgg", "yolo"])
def test_class_names_and_polygons_stay(written, discs, tmp_path, kind):
    coco = discs(images=2)
    coco["categories"] = [{"id": 1, "name": "cell"}, {"id": 2, "name": "dead cell"}]
    for number, annotation in enumerate(coco["annotations"]):
        annotation["category_id"] = 1 + number % 2
    json_file, images = written(tmp_path, coco)
    assert from_coco(json_file, images, tmp_path / kind, kind) == 0
    again = to_coco(tmp_path / kind, images, tmp_path / "again", kind)
    assert [c["name"] for c in again["categories"]] == ["cell", "dead cell"]
    assert [a["category_id"] for a in again["annotations"]] == [a["category_id"] for a in coco["annotations"]]
    assert not any("label" in annotation for annotation in again["annotations"])
    for image_id in (1, 2):
        assert all((x == y).all() for x, y in zip(masks_of(coco, image_id), masks_of(again, image_id), strict=True))
    if kind != "rois":
        ours = [a["segmentation"][0] for a in again["annotations"]]
        np.testing.assert_allclose(ours, [a["segmentation"][0] for a in coco["annotations"]], rtol=0, atol=1e-9)


def test_images_in_sub_folders_that_the_json_does_not_name(folder):
    """As LIVECell's lie."""
    coco = to_coco(folder / "masks" / "sub", folder / "images" / "sub", folder / "coco")
    assert [image["file_name"] for image in coco["images"]] == ["b.tif"]
    (folder / "images" / "a.tif").unlink()
    assert from_coco(folder / "coco" / "annotations.json", folder / "images", folder / "rois", "rois") == 0
    assert [path.name for path in (folder / "rois").iterdir()] == ["b.zip"]
    again = to_coco(folder / "rois", folder / "images", folder / "again", "rois")
    assert again["images"][0]["file_name"] == "sub/b.tif"
    assert [a["area"] for a in again["annotations"]] == [a["area"] for a in coco["annotations"]]


def test_masks_part_what_does_not_touch(tmp_path, capsys):
    labels = np.zeros((20, 30), np.int32)
    labels[2:6, 3:9], labels[10:14, 3:9], labels[10:14, 20:25], labels[11, 22] = 1, 2, 3, 0
    (tmp_path / "images").mkdir(), (tmp_path / "masks").mkdir()
    for kind in ("images", "masks"):
        tifffile.imwrite(tmp_path / kind / "a.tif", labels.astype(np.uint8))
    coco = to_coco(tmp_path / "masks", tmp_path / "images", tmp_path / "coco")
    for annotation in coco["annotations"]:
        del annotation["label"]
    (tmp_path / "c.json").write_text(json.dumps(coco))
    assert from_coco(tmp_path / "c.json", tmp_path / "images", tmp_path / "png", "masks") == 0
    image = read_raw(tmp_path / "png" / "a.png")
    assert image.dtype == np.uint8 and (image == np.where(labels > 0, 255, 0)).all()
    again = to_coco(tmp_path / "png", tmp_path / "images", tmp_path / "again", "masks", "--class", "nucleus")
    assert sorted(a["area"] for a in again["annotations"]) == [19, 24, 24]
    assert again["categories"] == [{"id": 1, "name": "nucleus"}]
    labels[6:10, 3:9] = 4  # cells 1, 2 and 4 touch now
    tifffile.imwrite(tmp_path / "masks" / "a.tif", labels.astype(np.uint8))
    to_coco(tmp_path / "masks", tmp_path / "images", tmp_path / "touch")
    capsys.readouterr()
    assert from_coco(tmp_path / "touch" / "annotations.json", tmp_path / "images", tmp_path / "png2", "masks") == 1
    assert "warning: 3 cells touch others" in capsys.readouterr().out


def test_overlap_goes_to_the_smaller_cell_and_is_counted(written, discs, tmp_path, capsys):
    coco = discs(images=1, cells=0)
    squares = [[5, 5, 25, 5, 25, 25, 5, 25], [20, 20, 30, 20, 30, 30, 20, 30], [6, 6, 8, 6, 8, 8, 6, 8]]
    coco["annotations"] = [
        {"id": k, "image_id": 1, "category_id": 1, "segmentation": [square], "label": label}
        for k, (square, label) in enumerate(zip(squares, (9, 9, 2)))
    ]
    json_file, images = written(tmp_path, coco)
    assert from_coco(json_file, images, tmp_path / "labels", "labels") == 1
    told = capsys.readouterr().out
    assert "warning: 29 pixels lie in several cells" in told and "1 cells repeat a label" in told
    values, counts = np.unique(read_labels(tmp_path / "labels" / "image1.tif"), return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist())) == {0: 48 * 64 - 475, 1: 100, 2: 4, 9: 371}


def test_crowds_are_left_out_and_said(written, discs, tmp_path, capsys):
    coco = discs(images=1)
    coco["annotations"][0]["iscrowd"] = 1
    json_file, images = written(tmp_path, coco)
    assert from_coco(json_file, images, tmp_path / "out", "yolo") == 1
    assert "warning: 1 crowd annotations" in capsys.readouterr().out
    assert len((tmp_path / "out" / "image1.txt").read_text().splitlines()) == 2


# Real data


def _folder(name: str) -> Path:
    folder = roots.find(name)
    if folder is None:
        pytest.skip(f"{name} is in none of {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    return folder


def test_gowt1_masks_there_and_back(tmp_path):
    folder = _folder("mes_gowt1")
    coco = to_coco(folder / "masks", folder / "images", tmp_path / "coco")
    assert len(coco["images"]) == 5
    from_coco(tmp_path / "coco" / "annotations.json", folder / "images", tmp_path / "rois", "rois")
    for image in coco["images"]:
        number = image["file_name"].removeprefix("t").removesuffix(".tif")
        labels = read_labels(folder / "masks" / f"man_seg{number}.tif")
        present = np.unique(labels[labels > 0]).tolist()
        assert [a["label"] for a in coco["annotations"] if a["image_id"] == image["id"]] == present
        drawn = read_rois(tmp_path / "rois" / f"t{number}.zip", *labels.shape)
        assert all((mask_util.decode(rle) == (labels == k)).all() for k, rle in zip(present, drawn, strict=True))


def test_t98g_outlines_agree_with_the_annotations(tmp_path):
    folder = _folder("t98g_phase_usiigaci")
    image = folder / "images" / "val" / "set48.png"
    coco = to_coco(folder / "rois" / "set48.zip", image, tmp_path / "coco", "rois")
    truth = json.loads((folder / "instances_val.json").read_text())
    (number,) = (i["id"] for i in truth["images"] if i["file_name"] == "val/set48.png")
    theirs = [as_rle(a["segmentation"], 1022, 1024) for a in truth["annotations"] if a["image_id"] == number]
    ious = mask_util.iou([a["segmentation"] for a in coco["annotations"]], theirs, [0] * len(theirs))
    assert np.median(ious.max(axis=0)) > 0.9 and (ious.max(axis=0) > 0.5).mean() > 0.9
