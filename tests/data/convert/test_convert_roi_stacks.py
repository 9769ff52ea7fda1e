"""Zips of ImageJ outlines that belong to stacks: each outline goes to its page."""

from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile
from pycocotools import mask as mask_util

from cellseg_d2.data.convert.rois import imagej_roi
from cellseg_d2.errors import DatasetError
from cellseg_d2.inference.records import Frame, FrameCells
from cellseg_d2.inference.writers import write_rois

from .convert_cases import HEIGHT, WIDTH, box, to_coco

SQUARE = [[np.array([[2, 3], [12, 3], [12, 9], [2, 9]])]]


def write_stack(folder: Path, axes: str) -> Path:
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (3, HEIGHT, WIDTH), np.uint8)
    tifffile.imwrite(folder / "images" / "film.tif", pixels, imagej=True, metadata={"axes": axes})
    (folder / "rois").mkdir()
    return folder / "images"


@pytest.mark.parametrize("channels", [1, 2], ids=["stack", "hyperstack"])
@pytest.mark.parametrize("axis", ["t", "z"])
def test_what_was_predicted_comes_back_on_its_page(tmp_path, axis, channels):
    """With channels ImageJ has a hyperstack, whose outlines have a time or a depth in the place of a slice."""
    ring = box(20, 20, 32, 34) & ~box(24, 24, 28, 28)
    pages = [[box(2, 3, 12, 9), ring], [], [ring | box(50, 5, 53, 8), box(2, 3, 12, 9), box(55, 36, 60, 40)]]
    images, results = write_stack(tmp_path, f"{axis.upper()}YX"), []
    for number, masks in enumerate(pages):
        rles = [mask_util.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
        cells = [{"category_id": 0, "segmentation": rle, "track_id": 7 + k} for k, rle in enumerate(rles)]
        pixels = np.zeros((HEIGHT, WIDTH, channels)[: 1 + channels], np.uint16)
        results.append(FrameCells(Frame(images / "film.tif", "film", pixels, place={axis: number}), cells, ("cell",)))
    write_rois(tmp_path / "rois" / "film.zip", results)
    annotations, coco, code = to_coco("rois", tmp_path / "rois", images)
    assert code == 0 and [image["file_name"] for image in coco["images"]] == [f"film_{axis}00{k}.tif" for k in range(3)]
    for number, masks in enumerate(pages, start=1):
        own = [a for a in annotations if a["image_id"] == number]
        assert [a["label"] for a in own] == list(range(7, 7 + len(masks)))
        assert all((a["mask"] == mask).all() for a, mask in zip(own, masks, strict=True))


@pytest.mark.parametrize(
    ("position", "message"),
    [
        ({}, r"film.zip: outline 'b' lies on no slice of its own \(position 0\), but .*film.tif is a stack of 3 pages"),
        ({"position": 4}, "'b' lies on slice 4, but"),
        ({"z_position": 2}, "'b' lies on no slice of its own"),
    ],
)
def test_outlines_on_no_page_are_an_error(tmp_path, position, message):
    images = write_stack(tmp_path, "TYX")
    rois = [imagej_roi(SQUARE, name) for name in "ab"]
    rois[0].position = 2
    for field, value in position.items():
        setattr(rois[1], field, value)
    roifile.roiwrite(tmp_path / "rois" / "film.zip", rois)
    with pytest.raises(DatasetError, match=message):
        to_coco("rois", tmp_path / "rois", images)


def test_several_slices_and_a_single_image(images):
    (images.parent / "rois").mkdir()
    rois = [imagej_roi(SQUARE, name) for name in "ab"]
    rois[0].position, rois[1].position = 1, 2
    roifile.roiwrite(images.parent / "rois" / "a.zip", rois)
    with pytest.raises(DatasetError, match=r"a\.zip: outlines of 2 slices of a stack"):
        to_coco("rois", images.parent / "rois", images, "--skip-unannotated")
