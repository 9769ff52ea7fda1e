"""GeoJSON for QuPath: exact outlines, planes, measurements; corrected ones come back."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pycocotools import mask as mask_util

from cellseg_d2.data.convert import Notes, Request
from cellseg_d2.data.convert.geojson import geojson_sources
from cellseg_d2.inference.writers import write_geojson


def features(path: Path) -> list[dict]:
    content = json.loads(path.read_text())
    assert content["type"] == "FeatureCollection"
    return content["features"]


def test_features_of_a_frame(tmp_path, make_result, masks):
    result = make_result(masks, ("cell", "dead"), pixel_size=0.5)
    result.cells[0]["mask_score"] = float("nan")
    write_geojson(tmp_path / "film.geojson", [result])
    found = features(tmp_path / "film.geojson")
    assert [item["properties"]["name"] for item in found] == [str(k) for k in range(1, 8)]
    assert found[1]["properties"] == {
        "objectType": "annotation", "classification": {"name": "dead"}, "name": "2",
        "measurements": {"Score": 0.875, "Area px^2": 144.0, "Area µm^2": 36.0},
    }  # fmt: skip
    assert "Mask score" not in found[0]["properties"]["measurements"]
    assert found[2]["geometry"] == {"type": "Polygon", "coordinates": [[[50, 0], [50, 4], [60, 4], [60, 0], [50, 0]]]}
    kinds = [item["geometry"]["type"] for item in found]
    assert kinds == ["Polygon"] * 4 + ["MultiPolygon"] * 3 and not any("plane" in item["geometry"] for item in found)
    assert [len(polygon) for polygon in found[4]["geometry"]["coordinates"]] in ([1, 2], [2, 1])
    write_geojson(tmp_path / "film.geojson", [result], "detection")
    assert features(tmp_path / "film.geojson")[0]["properties"]["objectType"] == "detection"


@pytest.mark.parametrize("axis", ["t", "z"])
def test_a_stack_comes_back_page_by_page(tmp_path, make_result, masks, axis):
    frames = [make_result(masks[k:], tracks=range(20 + k, 27), place={axis: k}) for k in (0, 1, 3)]
    write_geojson(tmp_path / "film.geojson", frames)
    planes = [item["geometry"]["plane"] for item in features(tmp_path / "film.geojson")]
    assert planes[0] == {"c": -1, "z": 0, "t": 0} and planes[-1] == {"c": -1, "z": 0, "t": 0} | {axis: 3}
    stack = np.zeros((4, 40, 60), np.uint16)
    tifffile.imwrite(tmp_path / "film.tif", stack, imagej=True, metadata={"axes": f"{axis.upper()}YX"})
    sources = geojson_sources(Request(tmp_path / "film.geojson", tmp_path / "film.tif"), Notes())
    assert [source.page for source in sources] == [0, 1, 2, 3]
    pages = [source.read(40, 60, Notes()) for source in sources]
    assert [len(cells) for cells in pages] == [7, 6, 0, 4]
    for page in (0, 1, 3):
        assert [cell.label for cell in pages[page]] == list(range(20 + page, 27))
        for cell, mask in zip(pages[page], masks[page:], strict=True):
            assert (mask_util.decode(cell.segmentation) == mask).all()


def test_no_cells_and_cells_without_pixels(tmp_path, make_result, masks):
    write_geojson(tmp_path / "a.geojson", [make_result(np.zeros((0, 4, 4)))])
    assert features(tmp_path / "a.geojson") == []
    write_geojson(tmp_path / "a.geojson", [make_result([masks[0], 0 * masks[0], masks[1]])])
    assert [item["properties"]["name"] for item in features(tmp_path / "a.geojson")] == ["1", "3"]


def test_a_failure_leaves_the_older_file(tmp_path, make_result, masks):
    write_geojson(tmp_path / "a.geojson", [make_result(masks)])
    before = (tmp_path / "a.geojson").read_bytes()
    result = make_result(masks)
    result.cells[-1]["category_id"] = 7
    with pytest.raises(IndexError):
        write_geojson(tmp_path / "a.geojson", [result])
    assert (tmp_path / "a.geojson").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
