"""What an extension says of its cells: outlines that are what is seen, and where each cell comes from."""

import json

import cv2
import numpy as np
import pytest
import tifffile
from pycocotools import mask as mask_util

from cellseg_d2.data.check import survey
from cellseg_d2.data.datasets import load, register_coco
from cellseg_d2.data.datasets.columns import open_coco
from cellseg_d2.data.synthesis.generate import annotate, generate
from cellseg_d2.data.synthesis.placement_loops import LEAST_VISIBLE
from cellseg_d2.data.synthesis.recipe import Plan
from cellseg_d2.data.synthesis.render import Scene, Target

ACCEPTED = {"nested_contours", "tiny_instances"}  # within a bent cell; cut by the frame


@pytest.fixture(scope="module")
def content(extended):
    """The JSON of the extension."""
    return json.loads((extended / "annotations.json").read_text())


@pytest.fixture(scope="module")
def synthetic(content):
    """Pairs of each synthetic image's entry and its annotations."""
    return [
        (image, [a for a in content["annotations"] if a["image_id"] == image["id"]])
        for image in content["images"] if "provenance" in image
    ]  # fmt: skip


def decoded(annotation, image):
    """H x W bool."""
    rles = mask_util.frPyObjects(annotation["segmentation"], image["height"], image["width"])
    return mask_util.decode(mask_util.merge(rles)).astype(bool)


def seen_through(plane, affine, shape, mode=cv2.INTER_LINEAR):
    """A plane moved by a map between continuous pixel coordinates, where pixel (0, 0) has its middle at (0.5, 0.5)."""
    matrix = np.array(affine, float).reshape(2, 3)
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(plane.astype(np.float32), matrix, shape[::-1], flags=mode)


def test_synthetic_cells_are_their_sources_seen_through_the_map(content, synthetic, phantoms, extended):
    sources = {a["id"]: a for a in content["annotations"]}
    entries = {image["id"]: image for image in content["images"]}
    overlaps, likeness = [], []
    for image, annotations in synthetic:
        shape = image["height"], image["width"]
        pixels = tifffile.imread(extended / "images" / image["file_name"])
        for annotation in annotations:
            said = annotation["provenance"]
            source = sources[said["source"]]
            home = entries[source["image_id"]]
            assert said["source_image"] == home["file_name"] and "provenance" not in source
            assert source["category_id"] == annotation["category_id"]
            mask, original = decoded(annotation, image), decoded(source, home)
            x, y, w, h = annotation["bbox"]
            if min(x, y) <= 0 or x + w >= shape[1] or y + h >= shape[0]:
                continue
            expected = seen_through(original, said["transform"], shape) > 0.5
            if expected.sum() > 1.03 * mask.sum():
                continue  # partly hidden
            overlaps.append((mask & expected).sum() / (mask | expected).sum())
            there = tifffile.imread(phantoms[1] / home["file_name"])
            moved = seen_through(there, said["transform"], shape, cv2.INTER_CUBIC)
            likeness.append(np.corrcoef(moved[expected], pixels[expected])[0, 1])
    assert len(overlaps) > 0.3 * sum(len(annotations) for _, annotations in synthetic)
    assert min(overlaps) > 0.9
    assert np.median(likeness) > 0.95 and min(likeness) > 0.7


def test_outlines_boxes_and_areas_are_those_of_what_is_seen(synthetic):
    for image, annotations in synthetic:
        total = np.zeros((image["height"], image["width"]), int)
        for annotation in annotations:
            mask = decoded(annotation, image)
            rows, columns = np.nonzero(mask)
            assert annotation["area"] == mask.sum() > 0 and annotation["iscrowd"] == 0
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == box
            total += mask
        assert total.max() == 1  # a pixel shows one cell


def test_polygons_filled_are_the_label_image(bank, recipe):
    plan = Plan(bank, recipe)
    background = bank.background(plan.sources[0])
    scene = Scene(*background, reach=45.0)
    target = Target(cells=45)
    scene.fill(bank, plan.draw(plan.sources[0], target), target, "free", np.random.default_rng(0))
    size = {"height": background[0].shape[0], "width": background[0].shape[1]}
    seen = np.zeros(background[0].shape, bool)
    annotations = annotate(scene, bank, 0)
    assert len(annotations) == 45
    for annotation in annotations:
        mask = decoded(annotation, size)
        assert len(np.unique(scene.labels[mask])) == 1
        seen |= mask
    labels, pixels = np.unique(scene.labels, return_counts=True)
    shown = labels[(pixels >= LEAST_VISIBLE) & (labels > 0)]
    missed = np.isin(scene.labels, shown) & ~seen
    assert cv2.connectedComponentsWithStats(missed.astype(np.uint8))[2][1:, 4].max(initial=0) < 4  # specks only


def test_ids_and_names_are_unique(content, phantoms):
    images, annotations = content["images"], content["annotations"]
    for entries, key in ((images, "id"), (images, "file_name"), (annotations, "id")):
        assert len({entry[key] for entry in entries}) == len(entries)
    original = json.loads(phantoms[0].read_text())
    assert images[:5] == original["images"] and content["categories"] == original["categories"]
    assert annotations[: len(original["annotations"])] == original["annotations"]


def test_the_result_is_a_data_set_like_any_other(extended, content, phantoms):
    coco = open_coco(extended / "annotations.json")
    assert len(coco.images) == len(content["images"]) == 5 + round(1.5 * 5)
    register_coco("an_extension_of_a_test", extended / "annotations.json", extended / "images")
    records = load("an_extension_of_a_test")
    assert len(records) == len(content["images"])
    assert sum(len(record["annotations"]) for record in records) == len(content["annotations"])
    found = survey(extended / "annotations.json", extended / "images").findings.by_kind()
    before = survey(*phantoms).findings.by_kind()
    assert set(found) <= ACCEPTED | set(before), {kind: [item.where for item in found[kind]] for kind in found}


def test_an_image_without_cells(bank, recipe):
    made = generate(bank, Plan(bank, recipe), recipe, 0, Target(cells=0))
    assert made.annotations == [] and made.reached and made.image.std() < 10
