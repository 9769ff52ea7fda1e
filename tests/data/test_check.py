"""Checking a data set: each defect that is put into a clean one is found, alone, and mended where that is safe."""

import json
from argparse import ArgumentParser

import cv2
import numpy as np
import pytest
import tifffile
from pycocotools import mask as mask_util

from cellseg_d2.commands import check
from cellseg_d2.data.check import KINDS, fix, survey
from cellseg_d2.data.datasets.coco_json import read_coco, to_dataset_dicts
from cellseg_d2.errors import DatasetError, MissingDataError

HEIGHT, WIDTH, RADIUS = 60, 90, 9
ANGLES = np.arange(24) * 2 * np.pi / 24


def disc(x, y, radius):
    """A polygon around (x, y)."""
    return np.stack([x + radius * np.cos(ANGLES), y + radius * np.sin(ANGLES)], axis=1).reshape(-1).tolist()


def cell(number, image, x, y, radius=RADIUS):
    """An annotation without defect."""
    box = [x - radius, y - radius, 2 * radius, 2 * radius]
    entry = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": box}
    return entry | {"area": np.pi * radius**2, "segmentation": [disc(x, y, radius)]}


def runs(annotation):
    """Plain run lengths of an annotation's polygons."""
    mask = mask_util.decode(mask_util.merge(mask_util.frPyObjects(annotation["segmentation"], HEIGHT, WIDTH)))
    flat = mask.T.reshape(-1)
    bounds = np.flatnonzero(np.diff(flat, prepend=0, append=0))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(bounds, prepend=0, append=flat.size).tolist()}


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


@pytest.fixture
def coco():
    """Six images of 2 x 3 cells that touch nothing; ids of images are 1..6, of cells 1..36."""
    images = [{"id": i, "file_name": f"im{i}.tif", "height": HEIGHT, "width": WIDTH} for i in range(1, 7)]
    places = [(x, y) for y in (15, 45) for x in (15, 45, 75)]
    cells = [cell(6 * i + k + 1, i + 1, x, y) for i in range(6) for k, (x, y) in enumerate(places)]
    return {"images": images, "annotations": cells, "categories": [{"id": 1, "name": "cell"}]}


@pytest.fixture
def folder(tmp_path):
    """The images of ``coco``."""
    (tmp_path / "images").mkdir()
    for i in range(1, 7):
        tifffile.imwrite(tmp_path / "images" / f"im{i}.tif", pixels(i))
    return tmp_path


def counts(folder, coco, name="set", **options):
    """Kind -> how often it was found, and the survey."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(coco))
    found = survey(path, folder / "images", **options)
    return {kind: len(items) for kind, items in found.findings.by_kind().items()}, found


def test_clean(folder, coco):
    coco["annotations"][3]["segmentation"] = runs(coco["annotations"][3])  # beside polygons
    coco["annotations"][4].pop("bbox")
    found, result = counts(folder, coco)
    assert found == {}
    content, log = fix(result)
    assert content == coco and log == []


change = dict.update


def outline(entry, *polygons):
    entry["segmentation"] = [list(polygon) for polygon in polygons]


def double(c, source, **values):
    c["annotations"].append({**c["annotations"][source], "id": 99, **values})


SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]
BOW_TIE = [10, 10, 20, 20, 20, 10, 10, 20]
# kind, what is done to the tables and the folder, whether --fix mends it, cells that are left of 36
DEFECTS = [
    ("broken_entries", lambda c, a, f: c["annotations"].append("a text"), True, 36),
    ("broken_entries", lambda c, a, f: a.pop("id"), True, 36),
    ("broken_entries", lambda c, a, f: c["images"].append({"id": 70}), True, 36),
    ("broken_entries", lambda c, a, f: c["categories"].append({"id": 2}), True, 36),
    ("no_categories", lambda c, a, f: c.pop("categories"), False, 36),
    ("doubled_image_ids", lambda c, a, f: c["images"].append(c["images"][0]), True, 36),
    ("doubled_image_ids", lambda c, a, f: c["images"].append({**c["images"][0], "file_name": "x.tif"}), True, 30),
    ("doubled_annotation_ids", lambda c, a, f: change(a, id=2), True, 36),
    ("doubled_category_ids", lambda c, a, f: c["categories"].append({"id": 1, "name": "cell"}), True, 36),
    ("doubled_category_ids", lambda c, a, f: c["categories"].append({"id": 1, "name": "dirt"}), False, 36),
    ("unknown_image", lambda c, a, f: change(a, image_id=500), True, 35),
    ("unknown_image", lambda c, a, f: change(a, image_id=[1]), True, 35),
    ("wrong_category", lambda c, a, f: change(a, category_id=7), True, 35),
    ("missing_image", lambda c, a, f: (f / "im2.tif").unlink(), True, 30),
    ("corrupt_image", lambda c, a, f: (f / "im2.tif").write_bytes(b"II*\0 and no more"), True, 30),
    ("image_size", lambda c, a, f: change(c["images"][0], height=WIDTH, width=HEIGHT), True, 36),
    ("image_size", lambda c, a, f: c["images"][0].pop("width"), True, 36),
    ("image_size", lambda c, a, f: change(c["images"][0], height=2 * HEIGHT, width=2 * WIDTH), False, 36),
    ("duplicate_images", lambda c, a, f: tifffile.imwrite(f / "im4.tif", pixels(1).astype(np.uint16)), True, 30),
    ("no_outline", lambda c, a, f: a.pop("segmentation"), True, 35),
    ("no_outline", lambda c, a, f: change(a, segmentation=[]), True, 35),
    ("bad_coordinates", lambda c, a, f: a["segmentation"][0].append(3.0), True, 35),
    ("bad_coordinates", lambda c, a, f: a["segmentation"][0].__setitem__(4, float("nan")), True, 35),
    ("bad_coordinates", lambda c, a, f: outline(a, map(str, a["segmentation"][0])), True, 36),
    ("bad_coordinates", lambda c, a, f: change(a, segmentation=a["segmentation"][0]), True, 36),
    ("bad_coordinates", lambda c, a, f: outline(a, ["a", None]), True, 35),
    ("few_points", lambda c, a, f: a["segmentation"].append([1, 2, 3, 4]), True, 36),
    ("few_points", lambda c, a, f: outline(a, [10, 10, 20, 20, 10, 10]), True, 35),
    ("zero_area", lambda c, a, f: outline(a, [10, 10, 20, 20, 30, 30]), True, 35),
    ("zero_area", lambda c, a, f: change(a, segmentation={"size": [60, 90], "counts": [5400]}), True, 35),
    ("self_crossing", lambda c, a, f: outline(a, BOW_TIE), True, 36),
    ("bad_run_lengths", lambda c, a, f: change(a, segmentation={**runs(a), "size": [WIDTH, HEIGHT]}), True, 35),
    ("bad_run_lengths", lambda c, a, f: change(a, segmentation={"size": [60, 90], "counts": [9, 9]}), True, 35),
    ("bad_run_lengths", lambda c, a, f: change(a, segmentation={"size": [60, 90], "counts": "no~"}), True, 35),
    ("outside_image", lambda c, a, f: outline(a, [v + 200 for v in SQUARE]), True, 35),
    ("partly_outside", lambda c, a, f: outline(a, [v - 14 for v in SQUARE]), True, 36),
    ("partly_outside", lambda c, a, f: a["segmentation"].append([v + 200 for v in SQUARE]), True, 36),
    ("bbox_differs", lambda c, a, f: change(a, bbox=[6, 6, 24, 24]), True, 36),  # x1, y1 instead of w, h
    ("bbox_differs", lambda c, a, f: change(a, bbox="none"), True, 36),
    ("area_differs", lambda c, a, f: change(a, area=4 * a["area"]), True, 36),
    ("duplicate_contours", lambda c, a, f: double(c, 8), True, 36),
    ("duplicate_contours", lambda c, a, f: double(c, 8, segmentation=runs(c["annotations"][8])), True, 36),
    ("nested_contours", lambda c, a, f: c["annotations"].append(cell(99, 2, 15, 15, 4)), False, 37),
    ("tiny_instances", lambda c, a, f: c["annotations"].append(cell(99, 2, 30, 30, 1.3)), False, 37),
    ("no_annotations", lambda c, a, f: c["annotations"].__delitem__(slice(6, 12)), False, 30),
    ("few_annotations", lambda c, a, f: c["annotations"].__delitem__(slice(6, 11)), False, 31),
]


@pytest.mark.parametrize(("kind", "damage", "mended", "left"), DEFECTS)
def test_each_defect_alone(folder, coco, kind, damage, mended, left):
    damage(coco, coco["annotations"][0], folder / "images")
    before = json.dumps(coco)
    found, result = counts(folder, coco)
    assert found == {kind: 1}
    content, log = fix(result)
    assert json.dumps(coco) == before == (folder / "set.json").read_text()
    assert len(content["annotations"]) == left
    assert log and {entry["kind"] for entry in log} == {kind}
    assert {entry["action"] for entry in log} <= ({"dropped", "changed"} if mended else {"left"})
    again, result = counts(folder, content, "clean")
    assert again == ({} if mended else {kind: 1})
    if mended:
        records, left_out = to_dataset_dicts(read_coco(folder / "clean.json"), str)
        assert left_out == 0 and sum(len(record["annotations"]) for record in records) == left


def test_every_kind_has_a_defect():
    elsewhere = {"leakage", "huge_instances"}
    assert {kind for kind, *_ in DEFECTS} | elsewhere == set(KINDS)


def test_all_defects_of_different_places_at_once(folder, coco):
    """What is reported does not stop at the first, and what is mended leaves only what cannot be."""
    annotations = coco["annotations"]
    change(annotations[0], category_id=7)
    outline(annotations[6], BOW_TIE)
    outline(annotations[13], [v + 200 for v in SQUARE])
    annotations[19].update(image_id=500)
    change(annotations[25], bbox=[0, 0, 1, 1], area=1)
    double(coco, 30)
    (folder / "images" / "im6.tif").unlink()
    found, result = counts(folder, coco)
    once = ("wrong_category", "self_crossing", "outside_image", "unknown_image", "bbox_differs", "area_differs")
    assert found == dict.fromkeys((*once, "duplicate_contours", "missing_image"), 1)
    content, _ = fix(result)
    assert counts(folder, content, "clean")[0] == {}
    assert len(content["images"]) == 5 and len(content["annotations"]) == 30 - 3


def test_what_mending_makes_of_outlines(folder, coco):
    outline(coco["annotations"][0], BOW_TIE)
    outline(coco["annotations"][1], [v - 14 for v in SQUARE])
    content, _ = fix(counts(folder, coco)[1])
    bow, cut = content["annotations"][:2]
    assert len(bow["segmentation"]) == 2 and bow["area"] == pytest.approx(50) and bow["bbox"] == [10, 10, 10, 10]
    assert cut["area"] == pytest.approx(36) and cut["bbox"] == [0, 0, 6, 6]


def test_the_same_pixels_in_another_format_and_in_colour(folder, coco):
    grey = pixels(1)
    cv2.imwrite(str(folder / "images" / "copy.png"), np.repeat(grey[:, :, None], 3, axis=2))
    coco["images"][3]["file_name"] = "copy.png"
    del coco["annotations"][0]
    found, result = counts(folder, coco)
    assert found == {"duplicate_images": 1}
    content, _ = fix(result)
    assert [image["id"] for image in content["images"]] == [2, 3, 4, 5, 6]  # 4 has more annotations than 1


def test_two_classes_of_one_outline_are_left(folder, coco):
    coco["categories"].append({"id": 2, "name": "nucleus"})
    double(coco, 8, category_id=2)
    found, result = counts(folder, coco)
    content, log = fix(result)
    assert found == {"duplicate_contours": 1} and len(content["annotations"]) == 37
    assert [entry["action"] for entry in log] == ["left"]


def test_huge_beside_the_others(tmp_path):
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.zeros((400, 400), np.uint8))
    images = [{"id": 1, "file_name": "a.tif", "height": 400, "width": 400}]
    cells = [cell(k, 1, 10 + 15 * k, 10, 5) for k in range(25)] + [cell(99, 1, 200, 210, 80)]
    coco = {"images": images, "annotations": cells, "categories": [{"id": 1, "name": "cell"}]}
    found, result = counts(tmp_path, coco)
    assert found == {"huge_instances": 1} and "annotation 99" in result.findings.items[0].where


def test_crowds_are_neither_nested_nor_huge(folder, coco):
    whole = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    crowd = {"id": 99, "image_id": 1, "category_id": 1, "iscrowd": 1, "segmentation": whole}
    coco["annotations"].append(crowd)
    assert counts(folder, coco)[0] == {}


def test_fields_with_few_cells_are_not_hardly_annotated_ones(tmp_path):
    """Cells that stand out: of two images with one annotation the one is found whose other cells can be seen."""
    (tmp_path / "images").mkdir()
    rng, size, places = np.random.default_rng(0), 240, [(40 + 80 * (k % 3), 40 + 80 * (k // 3)) for k in range(9)]
    images, cells = [], []
    for i in range(8):
        image = rng.normal(100, 2, (size, size))
        seen, outlined = (1, 1) if i == 3 else (9, 1) if i == 5 else (9, 9)
        for k, (x, y) in enumerate(places[:seen]):
            image[y - 20 : y + 20, x - 20 : x + 20] += rng.normal(0, 30, (40, 40))
            if k < outlined:
                cells.append(cell(len(cells) + 1, i, x, y, 22))
        tifffile.imwrite(tmp_path / "images" / f"{i}.tif", image.clip(0, 255).astype(np.uint8))
        images.append({"id": i, "file_name": f"{i}.tif", "height": size, "width": size})
    coco = {"images": images, "annotations": cells, "categories": [{"id": 1, "name": "cell"}]}
    found, result = counts(tmp_path, coco)
    assert found == {"few_annotations": 1} and result.findings.items[0].where.startswith("5.tif")


def arguments(*options):
    parser = ArgumentParser()
    check.add_arguments(parser)
    return parser.parse_args([str(option) for option in options])


def test_command(folder, coco, capsys):
    outline(coco["annotations"][0], BOW_TIE)
    double(coco, 8)
    (folder / "set.json").write_text(json.dumps(coco))
    given_ = ("--json", folder / "set.json", "--images", folder / "images")
    out, report = folder / "out", folder / "report.json"
    assert check.run(arguments(*given_, "--report", report, "--fix", "--output", out)) == 1
    content = json.loads(report.read_text())
    assert content["images"] == 6 and content["annotations"] == 37
    assert [(f["kind"], f["count"], len(f["where"]), f["fixable"]) for f in content["findings"]] == [
        ("self_crossing", 1, 1, 1), ("duplicate_contours", 1, 1, 1),
    ]  # fmt: skip
    assert "annotations 9 and 99 in im2.tif" in content["findings"][1]["where"][0]
    assert sorted(path.name for path in out.iterdir()) == [
        "duplicate_contours.png", "self_crossing.png", "set_clean.json", "set_fixes.json",
    ]  # fmt: skip
    picture = cv2.imread(str(out / "duplicate_contours.png")).astype(int)
    assert (np.ptp(picture, axis=2) > 60).sum() > 100  # coloured outlines on grey
    assert {entry["id"] for entry in json.loads((out / "set_fixes.json").read_text())} == {1, 99}
    text = capsys.readouterr().out
    assert "self_crossing: 1." in text and "36 annotations; 2 changes, 0 findings are left" in text
    assert check.run(arguments("--json", out / "set_clean.json", *given_[2:])) == 0
    assert "nothing was found" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["[]", "{", '{"images": []}', '{"images": [], "annotations": []}'])
def test_unusable_files(folder, content):
    (folder / "bad.json").write_text(content)
    with pytest.raises(DatasetError, match="bad.json"):
        survey(folder / "bad.json", folder / "images")


def test_wrong_options(folder, coco):
    (folder / "set.json").write_text(json.dumps(coco))
    given_ = ("--json", folder / "set.json", "--images", folder / "images")
    with pytest.raises(DatasetError, match="--output"):
        check.run(arguments(*given_, "--fix"))
    with pytest.raises(DatasetError, match="--against"):
        check.run(arguments(*given_, "--against-images", folder))
    with pytest.raises(MissingDataError, match="nowhere"):
        check.run(arguments(*given_[:3], folder / "nowhere"))
    (folder / "empty").mkdir()  # a wrong folder never makes an empty data set
    with pytest.raises(DatasetError, match="none of its 6 images"):
        check.run(arguments(*given_[:3], folder / "empty", "--fix", "--output", folder / "out"))
    assert not (folder / "out" / "set_clean.json").exists()
