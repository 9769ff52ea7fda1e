"""ImageJ's outlines there and back, and the slices that they lie on."""

import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import roifile
from PIL import Image
from pycocotools import mask as mask_util

from cellseg_d2.data.convert import Notes, Request
from cellseg_d2.data.convert.rois import roi_sources
from cellseg_d2.data.roi_files import read_rois
from cellseg_d2.errors import DatasetError
from cellseg_d2.inference.writers import write_rois


def test_convert_reads_the_same_cells(tmp_path, make_result, masks):
    write_rois(tmp_path / "film.zip", [make_result(masks, ("cell", "dead cell"))])
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(tmp_path / "film.png")
    notes = Notes()
    (source,) = roi_sources(Request(tmp_path / "film.zip", tmp_path / "film.png"), notes)
    cells = source.read(40, 60, notes)
    assert [cell.label for cell in cells] == list(range(1, 8)) and cells[1].category == "dead cell"
    assert all((mask_util.decode(c.segmentation) == mask).all() for c, mask in zip(cells, masks, strict=True))
    rois = roifile.roiread(tmp_path / "film.zip")
    assert [roi.name for roi in rois][:2] == ["0001", "0002"]
    assert {(roi.position, roi.c_position, roi.z_position, roi.t_position) for roi in rois} == {(0, 0, 0, 0)}


@pytest.mark.parametrize(
    ("place", "pixels", "position"),
    [
        ({"t": 4}, (40, 60), (5, 0, 0, 0)),
        ({"z": 2}, (40, 60), (3, 0, 0, 0)),
        ({"t": 4, "z": 2}, (40, 60), (0, 0, 3, 5)),
        ({"t": 4}, (40, 60, 2), (0, 0, 0, 5)),  # with channels ImageJ has a hyperstack
        ({}, (40, 60, 2), (0, 0, 0, 0)),
    ],
)
def test_slices_of_stacks(tmp_path, make_result, masks, place, pixels, position):
    first = dict.fromkeys(place, 0)
    frames = [
        make_result(masks, pixels=np.zeros(pixels, np.uint16), place=p) for p in ([first] if place else []) + [place]
    ]
    write_rois(tmp_path / "film.zip", frames)
    rois = roifile.roiread(tmp_path / "film.zip")[-7:]
    assert {(roi.position, roi.c_position, roi.z_position, roi.t_position) for roi in rois} == {position}
    prefix = "_".join(f"{axis}{place[axis]:03d}" for axis in "tz" if axis in place)
    assert rois[2].name == (f"{prefix}_0003" if prefix else "0003")
    for roi, mask in zip(rois, masks, strict=True):
        roi.tofile(tmp_path / "one.roi")
        assert (mask_util.decode(read_rois(tmp_path / "one.roi", 40, 60)[0]) == mask).all()


def test_tracks_name_their_rois(tmp_path, make_result, masks):
    frames = [make_result(masks[k:], tracks=range(50 + k, 57), place={"t": k}) for k in range(2)]
    write_rois(tmp_path / "film.zip", frames)
    names = zipfile.ZipFile(tmp_path / "film.zip").namelist()
    assert names[:2] == ["t000_0050.roi", "t000_0051.roi"] and names[7] == "t001_0051.roi"


def test_no_cells_and_cells_without_pixels(tmp_path, make_result, masks):
    write_rois(tmp_path / "a.zip", [make_result(np.zeros((0, 4, 4)))])
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == []
    write_rois(tmp_path / "a.zip", [make_result([masks[0], 0 * masks[0], masks[1]])])
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == ["0001.roi", "0003.roi"]


def test_too_large_for_imagej_leaves_the_older_file(tmp_path, make_result, masks):
    write_rois(tmp_path / "a.zip", [make_result(masks)])
    before = (tmp_path / "a.zip").read_bytes()
    huge = SimpleNamespace(frame=SimpleNamespace(size=(4, 70_000), path=Path("huge.tif")), cells=[])
    with pytest.raises(DatasetError, match="60535"):
        write_rois(tmp_path / "a.zip", [huge])
    write_rois(tmp_path / "a.zip", [make_result(masks)])
    assert (tmp_path / "a.zip").read_bytes() == before  # no date in it
