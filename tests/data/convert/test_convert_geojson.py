"""GeoJSON of QuPath and ours: exact there and back, what QuPath makes of it, and what is no outline."""

import json

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from cellseg_d2.data.convert.geojson import _segmentation, geometry
from cellseg_d2.data.convert.records import Notes
from cellseg_d2.errors import DatasetError

from .convert_cases import HEIGHT, SQUARE, WIDTH, box, run, to_coco


def write(images, features, name="a.geojson", collection=True):
    folder = images.parent / "geojson"
    folder.mkdir(exist_ok=True)
    content = {"type": "FeatureCollection", "features": features} if collection else features
    (folder / name).write_text(json.dumps(content))
    return folder


def feature(coordinates, kind="Polygon", plane=None, **properties) -> dict:
    shape = {"type": kind, "coordinates": coordinates} | ({"plane": plane} if plane else {})
    return {"type": "Feature", "geometry": shape, "properties": properties}


CLOSED = [*SQUARE, SQUARE[0]]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.03, 0.3, 0.6, 0.9]), st.integers(0, 2**32 - 1))
def test_any_mask_is_valid_and_exact(height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    mask.flat[seed % mask.size] = True
    counts = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    written = geometry({"size": [height, width], "counts": counts})
    shape = shapely.from_geojson(json.dumps(written))
    assert shape.is_valid and shape.area == mask.sum()
    notes = Notes()
    assert (mask_util.decode(_segmentation(written, height, width, "here", notes)) == mask).all()
    assert not notes.warnings


def test_cells_and_classes_there_and_back(images):
    (images / "b.png").unlink()
    ring = [[20, 20], [30, 20], [30, 30], [20, 30], [20, 20]]
    hole = [[22, 22], [22, 25], [25, 25], [25, 22], [22, 22]]
    folder = write(
        images,
        [
            feature([CLOSED], name="17", classification={"name": "dead cell", "color": [1, 2, 3]}),
            feature([ring, hole], objectType="detection", classification=None),
            feature([[CLOSED], [ring, hole]], "MultiPolygon", classification={"names": ["Tumor", "Positive"]}),
            feature([[[x + 0.3, y - 0.2] for x, y in CLOSED]], name="the big one"),
        ],
    )
    cells, coco, code = to_coco("geojson", folder, images)
    assert code == 0 and [cell["class"] for cell in cells] == ["dead cell", "cell", "Tumor: Positive", "cell"]
    first, second = box(2, 3, 12, 9), box(20, 20, 30, 30) & ~box(22, 22, 25, 25)
    for cell, mask in zip(cells, [first, second, first | second, first], strict=True):
        assert (cell["mask"] == mask).all()
    assert [cell.get("label") for cell in cells] == [17, None, None, None]
    written = images.parent / "coco" / "annotations.json"
    assert run("--to", "geojson", "--json", written, "--images", images, "--output", images.parent / "geo") == 0
    written.unlink()
    again, _, _ = to_coco("geojson", images.parent / "geo", images)
    for cell, other in zip(cells, again, strict=True):
        assert (cell["mask"] == other["mask"]).all() and cell["class"] == other["class"]
        assert cell.get("label") == other.get("label")


def test_lists_of_features_and_single_ones(images):
    write(images, [feature([CLOSED])], collection=False)
    folder = write(images, feature([CLOSED]), "b.geojson", collection=False)
    cells, _, _ = to_coco("geojson", folder, images, "--class", "nucleus")
    assert [cell["image_id"] for cell in cells] == [1, 2] and cells[0]["class"] == "nucleus"


def test_what_is_no_outline_is_left_out_and_said(images, capsys):
    outside = [[x + 500, y] for x, y in CLOSED]
    features = [
        feature([1, 2], "Point"), feature([[0, 0], [5, 5]], "LineString"), feature([CLOSED[:2]]), feature([outside]),
        feature([CLOSED]),
        {"type": "Feature", "geometry": None, "properties": None},
    ]  # fmt: skip
    (images / "b.png").unlink()
    cells, _, code = to_coco("geojson", write(images, features), images)
    told = capsys.readouterr().out
    assert code == 1 and len(cells) == 1 and (cells[0]["mask"] == box(2, 3, 12, 9)).all()
    for text in ("type Point", "type LineString", "type None", "fewer than three corners", "cover no pixel"):
        assert f"1 {'features of ' * ('type' in text)}" in told and text in told


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([feature([[["x", 1], [2, 3], [4, 5]]])], r"features\[0\]: \['x', 1\] is not 2 numbers"),
        ([feature([7])], r"features\[0\]: 7 is no outline"),
        ([feature([])], r"features\[0\] has no coordinates"),
        ([feature(None)], r"features\[0\] has no coordinates"),
        ([{"type": "Point"}], "not GeoJSON of QuPath"),
        ([feature([CLOSED], plane={"c": -1, "z": 0, "t": t}) for t in range(2)], "2 planes of a stack"),
    ],
)
def test_damaged_files_are_refused(images, features, message):
    (images / "b.png").unlink()
    folder = write(images, features)
    with pytest.raises(DatasetError, match=message):
        to_coco("geojson", folder, images)


def test_planes_beyond_the_stack(tmp_path):
    (tmp_path / "images").mkdir()
    tifffile.imwrite(
        tmp_path / "images" / "a.tif", np.zeros((3, HEIGHT, WIDTH), np.uint8), imagej=True, metadata={"axes": "TYX"}
    )
    folder = write(tmp_path / "images", [feature([CLOSED], plane={"t": 3})])
    with pytest.raises(DatasetError, match="t = 3, but .*a.tif has 3 frames"):
        to_coco("geojson", folder, tmp_path / "images")
