"""Files as LabelMe, VIA and ImageJ write them, made by hand: every kind of shape is read, the rest is refused."""

import base64
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import roifile
from PIL import Image

from cellseg_d2.errors import DatasetError

from .convert_cases import HEIGHT, SQUARE, WIDTH, box, to_coco


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def png64(mask: np.ndarray) -> str:
    content = BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


# LabelMe


def shape(kind: str, points: list, label: str = "cell", group: int | None = None, mask: str | None = None) -> dict:
    return {
        "label": label, "points": points, "group_id": group, "description": "", "shape_type": kind, "flags": {},
        "mask": mask,
    }  # fmt: skip


def labelme(folder: Path, shapes: list[dict], name: str = "a", **more) -> Path:
    folder.mkdir(exist_ok=True)
    content = {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"..\\images\\{name}.png", "imageData": None,
        "imageHeight": HEIGHT, "imageWidth": WIDTH, **more,
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_labelme_shapes(images, capsys):
    ring = np.ones((4, 5), bool)
    ring[1:3, 1:3] = False
    folder = labelme(
        images.parent / "json",
        [
            shape("polygon", SQUARE),
            shape("rectangle", [[30, 20], [20, 10]], "dead"),
            shape("circle", [[40, 20], [44, 23]]),
            shape("mask", [[50, 1], [54, 4]], mask=png64(ring)),
            shape("polygon", [[0, 30], [4, 30], [4, 34], [0, 34]], group=7),
            shape("polygon", [[6, 30], [9, 30], [9, 34], [6, 34]], group=7),
            shape("mask", [[12, 30], [12, 30]], group=7, mask=png64(np.ones((1, 1), bool))),
            shape("rectangle", [[20, 30], [22, 32]], "dead", group=7),  # another class: another cell
            shape("point", [[1, 1]]), shape("line", [[1, 1], [2, 2]]), shape("linestrip", [[1, 1], [2, 2]]),
            shape("polygon", [[1, 1], [2, 2]]), shape("rectangle", [[70, 10], [80, 20]]),
        ],
    )  # fmt: skip
    labelme(folder, [], "b")
    cells, coco, code = to_coco("labelme", folder, images)
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[1:5, 50:55] = ring
    three = box(0, 30, 4, 34) | box(6, 30, 9, 34) | box(12, 30, 13, 31)
    expected = [box(2, 3, 12, 9), box(20, 10, 30, 20), disc(40, 20, 5), inside, three, box(20, 30, 22, 32)]
    assert all((cell["mask"] == mask).all() for cell, mask in zip(cells, expected, strict=True))
    assert [cell["class"] for cell in cells] == ["cell", "dead", "cell", "cell", "cell", "dead"]
    assert [cell.get("label") for cell in cells] == [None] * 4 + [7, 7]
    assert cells[0]["segmentation"] == [[2, 3, 12, 3, 12, 9, 2, 9]] and [c["area"] for c in cells[:2]] == [60, 100]
    told = capsys.readouterr().out
    for kind in ("point", "line", "linestrip"):
        assert f"1 shapes of type {kind} are" in told
    for text in ("1 polygons have fewer than three", "1 outlines cover no pixel", "note: 1 images have no cell"):
        assert text in told
    assert code == 1 and len(coco["images"]) == 2


def test_labelme_finds_the_image_that_it_names(images):
    folder = labelme(images.parent / "json", [shape("polygon", SQUARE)], imagePath="..\\images\\b.png")
    (folder / "a.json").rename(folder / "0001.json")
    _, coco, code = to_coco("labelme", folder, images, "--skip-unannotated")
    assert [image["file_name"] for image in coco["images"]] == ["b.png"] and code == 0


@pytest.mark.parametrize(
    ("shapes", "more", "message"),
    [
        ([shape("spline", SQUARE)], {}, r"a.json: shapes\[0\] has shape_type 'spline'"),
        ([shape("line", []), shape("polygon", [[1, 2], [3, "x"], [4, 5]])], {}, r"shapes\[1\]: \[3, 'x'\] is not 2"),
        ([shape("polygon", SQUARE, label="")], {}, r"shapes\[0\] has no 'label'"),
        ([shape("circle", SQUARE)], {}, "a circle has two points, not 4"),
        ([shape("circle", [[4, 4], [4, 4]])], {}, "with radius 0"),
        ([shape("mask", [[1, 1], [2, 2]], mask="!!")], {}, "'mask' is not a PNG in base64"),
        ([shape("mask", [[1, 1], [2, 2]])], {}, "'mask' is not a PNG in base64"),
        ([shape("mask", [[1, 1], [2, 2]], mask=png64(np.ones((3, 2))))], {}, "mask has 2 x 3 pixels, its box 2 x 2"),
        ([shape("polygon", SQUARE)], {"imageHeight": 41}, "drawn on an image of 60 x 41 pixels, but it has 60 x 40"),
        (None, {}, "a.json: not a LabelMe file"),
        ([shape("point", [[1, 1]])], {}, "none of the 1 images has a cell"),
    ],
)  # fmt: skip
def test_labelme_files_that_are_wrong(images, shapes, more, message):
    folder = labelme(images.parent / "json", shapes, **more)
    with pytest.raises(DatasetError, match=message):
        to_coco("labelme", folder, images, "--skip-unannotated")


# VIA


def via(path: Path, regions: list | dict, name: str = "a.png", project: bool = False, **more) -> Path:
    entries = {
        f"{name}123": {"filename": name, "size": 123, "regions": regions, "file_attributes": {}},
        "b.png99": {"filename": "b.png", "size": 99, "regions": [], "file_attributes": {}}, **more,
    }  # fmt: skip
    whole = {"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {"region": {}, "file": {}}}
    path.write_text(json.dumps(whole if project else entries))
    return path


def region(attributes: dict | None = None, **numbers) -> dict:
    return {"shape_attributes": numbers, "region_attributes": attributes or {}}


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize("numbered", [True, False])
def test_via_regions(images, capsys, project, numbered):
    xs, ys = zip(*SQUARE)
    regions = [
        region({"type": "live", "label": "12"}, name="polygon", all_points_x=xs, all_points_y=ys),
        region({"kind": {"dead": True}}, name="rect", x=20, y=10, width=10, height=5),
        region(name="circle", cx=40, cy=20, r=5),
        region({"a": "x", "b": "y"}, name="ellipse", cx=20, cy=30, rx=6, ry=3, theta=np.pi / 2),
        region(name="ellipse", cx=50, cy=30, rx=4, ry=4),
        region(name="point", cx=1, cy=1),
        region(name="polyline", all_points_x=[1, 2], all_points_y=[1, 2]),
    ]
    if numbered:
        regions = {str(number): value for number, value in enumerate(regions)}
    cells, _, code = to_coco("vgg", via(images.parent / "via.json", regions, project=project), images)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    oval = ((columns - 20) / 3) ** 2 + ((rows - 30) / 6) ** 2 <= 1
    expected = [box(2, 3, 12, 9), box(20, 10, 30, 15), disc(40, 20, 5), oval, disc(50, 30, 4)]
    assert all((cell["mask"] == mask).all() for cell, mask in zip(cells, expected, strict=True))
    assert [cell["class"] for cell in cells] == ["live", "dead", "cell", "cell", "cell"]
    assert [cell.get("label") for cell in cells] == [12, None, None, None, None]
    told = capsys.readouterr().out
    assert "1 regions of type point" in told and "1 regions of type polyline" in told and code == 1


@pytest.mark.parametrize(
    ("regions", "more", "message"),
    [
        ([region(name="star")], {}, r"a.png: regions\[0\] has the shape 'star'"),
        ([region(name="circle", cx=1, cy=1)], {}, r"regions\[0\]: a circle without its numbers"),
        ([region(name="polygon", all_points_x=[1, 2, 3], all_points_y=[1, 2])], {}, "a polygon without its numbers"),
        ([region(name="ellipse", cx=1, cy=1, rx=0, ry=2)], {}, "radius 0"),
        ([{}], {}, "no 'shape_attributes'"),
        ([], {"c": {"filename": "c.png", "regions": []}}, "1 images are not in .*: c.png"),
        ([], {"c": {"filename": "a.png", "regions": []}}, "two entries are of a.png"),
        ([], {"c": {"x": 1}}, "not a JSON file of VIA 2"),
    ],
)
def test_via_files_that_are_wrong(images, regions, more, message):
    path = via(images.parent / "via.json", regions, **more)
    with pytest.raises(DatasetError, match=message):
        to_coco("vgg", path, images)


def test_via_lists_images_that_it_does_not_know(images):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(images / "z.png")
    path = via(images.parent / "via.json", [region(name="rect", x=20, y=10, width=10, height=5)])
    with pytest.raises(DatasetError, match="does not list 1 images: z.png"):
        to_coco("vgg", path, images)
    _, coco, code = to_coco("vgg", path, images, "--skip-unannotated")
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.png"] and code == 0


# ImageJ


def test_rois_of_the_roi_manager(images):
    (images.parent / "rois").mkdir()
    square = roifile.ImagejRoi.frompoints(SQUARE, name="0006-0007")
    rectangle = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=4, top=10, right=8, bottom=13, name="r")
    rectangle.props = "class: dead\nlabel: 3\n"
    roifile.roiwrite(images.parent / "rois" / "a_rois.zip", [square, rectangle])  # as Cellpose names them
    cells, _, code = to_coco("rois", images.parent / "rois", images, "--skip-unannotated", "--class", "live")
    assert (cells[0]["mask"] == box(2, 3, 12, 9)).all() and (cells[1]["mask"] == box(4, 10, 8, 13)).all()
    assert [(cell["class"], cell.get("label")) for cell in cells] == [("live", None), ("dead", 3)] and code == 0


def test_a_point_among_rois_is_an_error(images):
    (images.parent / "rois").mkdir()
    point = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.POINT, name="seed")
    roifile.roiwrite(images.parent / "rois" / "a.zip", [roifile.ImagejRoi.frompoints(SQUARE), point])
    with pytest.raises(DatasetError, match="'seed' is not the outline of an area but point"):
        to_coco("rois", images.parent / "rois", images, "--skip-unannotated")
