"""The fast path gives pycocotools' arrays to the last bit, and any whole-number weighting of images is what it says."""

import contextlib
import copy
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cellseg_d2.evaluation.instances import instance_sums
from cellseg_d2.evaluation.metrics import TaskMetrics
from cellseg_d2.evaluation.outcomes import outcome_sums, outcomes
from cellseg_d2.evaluation.protocol import LIVECELL
from cellseg_d2.evaluation.reading import read_ground_truth, read_results
from cellseg_d2.evaluation.scoring import TaskScore, score_task
from cellseg_d2.evaluation.semantic import pixel_sums

TASKS = ("segm", "bbox")
SMALL = replace(LIVECELL, max_dets=(2, 5, 9))
HEIGHT, WIDTH = 36, 44


def examples(count: int):
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # each example writes its files anew
    return settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=checks)


# Scenes


def rle(mask: np.ndarray) -> dict:
    encoded = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def plain_rle(mask: np.ndarray) -> dict:
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()}


# Areas of 324 = 18^2 and 961 = 31^2 lie on the limits of the size bins; a 1 x 2 polygon may have no pixel
SIDES = [(4, 4), (6, 9), (18, 18), (18, 17), (31, 31), (31, 32), (12, 20), (1, 2)]
KINDS = ["polygon", "polygons", "compressed", "plain"]


def outline(x: float, y: float, w: float, h: float) -> list[float]:
    return [float(v) for v in (x, y, x + w, y, x + w, y + h, x, y + h)]


def segmentation(kind: str, x: int, y: int, w: int, h: int, cut: int) -> list | dict:
    """A rectangle that may lack ``cut`` rows at one corner, and may reach beyond the image."""
    if kind == "polygon":
        return [outline(x, y, w, h - cut / 2)]
    if kind == "polygons":
        return [outline(x, y, w / 2, h), outline(x + w / 3, y, w / 2, h - cut)]
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + h, x : x + w] = True
    mask[y : y + cut, x : x + w // 2] = False
    return rle(mask) if kind == "compressed" else plain_rle(mask)


@st.composite
def scenes(draw, distinct_scores: bool = False) -> tuple[dict, list[dict]]:
    """Ground truth and results: few places and sizes, so that overlaps, doubles and ties are many."""
    count = draw(st.integers(1, 4))
    ids = draw(st.permutations([3, 7, 11, 20]))[:count]
    images = [{"id": i, "file_name": f"{i}.tif", "height": HEIGHT, "width": WIDTH} for i in ids]
    shape = st.tuples(
        st.sampled_from(KINDS), st.sampled_from([0, 1, 2, 7]), st.sampled_from([0, 0, 1, 5]), st.sampled_from(SIDES),
        st.sampled_from([0, 0, 1, 3]),
    )  # fmt: skip
    cell = st.tuples(
        st.sampled_from(ids), st.sampled_from([1, 2, 5]), shape, st.sampled_from([False] * 5 + [True]),
        st.sampled_from([None, None, 324, 324.5, 961, 3000, 10]), st.booleans(),
    )  # fmt: skip
    cells = draw(st.lists(cell, max_size=9))
    cells += cells[: draw(st.sampled_from([0, 0, 2]))]  # cells annotated twice
    annotations = []
    for number, (image, category, (kind, x, y, (w, h), cut), crowd, area, has_box) in enumerate(cells, start=1):
        entry = {
            "id": number, "image_id": image, "category_id": category, "iscrowd": int(crowd),
            "segmentation": segmentation(kind, x, y, w, h, cut),
        }  # fmt: skip
        # Where area or box are not given, the mask's are meant
        entry |= {"area": area} if area is not None else {}
        entry |= {"bbox": [x + 0.25, y, w, h + 0.5]} if has_box else {}
        annotations.append(entry)
    truth = {"images": images, "annotations": annotations, "categories": [{"id": i, "name": str(i)} for i in (5, 1, 2)]}
    score = st.sampled_from([0.2, 0.5, 0.5, 0.75, 1.0])
    result = st.tuples(
        st.sampled_from(ids), st.sampled_from([1, 2, 5]), shape, score, st.one_of(st.none(), score), st.booleans()
    )
    drawn = draw(st.lists(result, min_size=1, max_size=14))
    if distinct_scores:  # in an image; across images they may be equal
        drawn = [(image, c, s, (90 - n // 2) / 100, None, b) for n, (image, c, s, _, _, b) in enumerate(drawn)]
        seen: set = set()
        drawn = [r for r in drawn if (r[0], r[3]) not in seen and not seen.add((r[0], r[3]))]
    results = []
    for image, category, (kind, x, y, (w, h), cut), value, mask_score, has_box in drawn:
        entry = {"image_id": image, "category_id": category, "score": value}
        entry |= {"segmentation": segmentation(kind, x, y, w, h, cut)}
        entry |= {"bbox": [x + 0.5, y, w, h]} if has_box else {}
        # null and absent both mean that there is none
        entry |= {"mask_score": mask_score} if mask_score is not None or has_box else {}
        results.append(entry)
    return truth, results


# The two ways


def fast(folder, truth: dict, results: list[dict], task: str, protocol=LIVECELL) -> TaskScore:
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    ground = read_ground_truth(folder / "truth.json")
    return score_task(ground.images, ground.objects, read_results(folder / "results.json", ground), task, protocol)


def slow(truth: dict, results: list[dict], task: str, protocol=LIVECELL) -> dict[str, np.ndarray]:
    """pycocotools' own arrays, its traps avoided."""
    truth, results = copy.deepcopy(truth), copy.deepcopy(results)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    ground = COCO()
    ground.dataset = truth
    with contextlib.redirect_stdout(io.StringIO()):
        ground.createIndex()
        for entry in truth["annotations"]:
            mask = ground.annToRLE(entry)
            entry.setdefault("bbox", mask_util.toBbox(mask).tolist())
            own = int(mask_util.area(mask)) if task == "segm" else entry["bbox"][2] * entry["bbox"][3]
            entry.setdefault("area", own)
        for entry in results:
            mask = as_rle(entry["segmentation"], *sizes[entry["image_id"]])
            mask_score = entry.pop("mask_score", None)
            if task == "bbox":
                entry.setdefault("bbox", mask_util.toBbox(mask).tolist())
                del entry["segmentation"]
            else:
                entry.pop("bbox", None)  # with a box, loadRes sizes the mask by the box
                entry["segmentation"] = mask
                entry["score"] = entry["score"] if mask_score is None else mask_score
        evaluation = COCOeval(ground, ground.loadRes(results), task)
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(protocol.max_dets)
        evaluation.params.iouThrs = np.array(protocol.iou_thresholds)
        evaluation.params.areaRng = [list(limits) for _, limits in protocol.area_ranges]
        evaluation.params.areaRngLbl = [name for name, _ in protocol.area_ranges]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval


def as_rle(segmentation: list | dict, height: int, width: int) -> dict:
    """loadRes takes compressed run lengths only."""
    if isinstance(segmentation, list):
        return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask_util.frPyObjects(segmentation, height, width)
    return segmentation


def assert_identical(folder, truth: dict, results: list[dict], task: str, protocol=LIVECELL) -> None:
    expected = slow(truth, results, task, protocol)
    for m in range(len(protocol.max_dets)):
        score = fast(folder, truth, results, task, replace(protocol, max_dets=protocol.max_dets[: m + 1]))
        precision, scores = score.ranking.precision()
        # pycocotools: thresholds, recall levels, categories, ranges, max_dets
        assert np.array_equal(precision, expected["precision"][:, :, 0, :, m].transpose(2, 0, 1))
        assert np.array_equal(scores, expected["scores"][:, :, 0, :, m].transpose(2, 0, 1))
        objects = score.matching.counted[0].sum()
        recall = score.recalled.sum(axis=2) / objects if objects else np.full(score.recalled.shape[:2], -1.0)
        assert np.array_equal(recall, expected["recall"][:, 0, 0, : m + 1].T)
        assert (score.ranking.objects.sum(axis=1) > 0).tolist() == (precision[:, 0, 0] > -1).tolist()


# Parity


@pytest.mark.parametrize("task", TASKS)
@examples(40)
@given(scenes(), st.booleans())
def test_small_scenes(tmp_path, task, scene, few):
    assert_identical(tmp_path, *scene, task, SMALL if few else replace(LIVECELL, max_dets=(1, 2000)))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(2))
def test_busy_scenes(tmp_path, task, seed):
    # Ten cells and forty results in a heap on each of five images, one of them without results, one without cells
    rng = np.random.default_rng(seed)

    def pick(options):
        return options[rng.integers(len(options))]

    def heap(count, images):
        for _ in range(count):
            x, y, w, h, cut = rng.integers([0, 0, 4, 4, 0], [20, 16, 20, 20, 4]).tolist()
            box = [x + round(rng.random(), 2), y, w, h]
            segment = segmentation(pick(KINDS), x, y, w, h, cut)
            category = int(rng.integers(1, 3))
            yield {"image_id": pick(images), "category_id": category, "bbox": box, "segmentation": segment}

    images = [{"id": i, "file_name": f"{i}.tif", "height": HEIGHT, "width": WIDTH} for i in (5, 4, 3, 2, 1)]
    cells = [
        {**entry, "id": n, "area": pick([40, 324, 500, 961.0, 961.5]), "iscrowd": int(rng.random() < 0.1)}
        for n, entry in enumerate(heap(50, [1, 2, 3, 4]), start=1)
    ]
    # Two results in five follow a cell closely; scores have one decimal
    results = [{**entry, "score": round(rng.random(), 1)} for entry in heap(120, [1, 2, 3, 5])]
    for cell in (cell for cell in cells * 2 if cell["image_id"] != 4):
        kept = {key: cell[key] for key in ("image_id", "category_id", "segmentation", "bbox")}
        results.append({**kept, "score": round(rng.random(), 1), "mask_score": round(rng.random(), 1)})
    rng.shuffle(results)
    truth = {"images": images, "annotations": cells, "categories": [{"id": 2}, {"id": 1}]}
    assert_identical(tmp_path, truth, results, task, replace(LIVECELL, max_dets=(3, 20, 45)))


@pytest.mark.parametrize("task", TASKS)
def test_a_dense_image_at_livecells_caps(tmp_path, task):
    # 2,300 results on 700 cells: the last 300 must not count, and do where the cap is not kept (they fit best)
    rng = np.random.default_rng(3)
    height, width, pitch = 500, 560, 20
    corners = [(x, y) for x in range(0, width, pitch) for y in range(0, height, pitch)]

    def square(x, y, w, h):
        mask = np.zeros((height, width), np.uint8, order="F")
        mask[y : y + h, x : x + w] = 1
        return {"category_id": 1, "image_id": 1, "segmentation": rle(mask), "bbox": [x, y, w, h]}

    cells = [square(x, y, *rng.integers(9, 19, 2).tolist()) for x, y in corners]
    results = []
    for n in range(2300):
        x, y, w, h = cells[n % len(cells)]["bbox"]
        dx, dy = rng.integers(0, 3 if n < 2000 else 1, 2).tolist()
        # many ties; the best fits have the lowest scores
        results.append({**square(x + dx, y + dy, w, h), "score": (2300 - n // 3 * 3) / 2300})
    annotations = [{**cell, "id": n, "iscrowd": 0, "area": cell["bbox"][2] * cell["bbox"][3]}
                   for n, cell in enumerate(cells, start=1)]  # fmt: skip
    truth = {
        "images": [{"id": 1, "file_name": "1.tif", "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": 1}],
    }
    rng.shuffle(results)
    protocol = replace(LIVECELL, iou_thresholds=(0.5, 0.9), area_ranges=LIVECELL.area_ranges[:1])
    expected = slow(truth, results, task, protocol)
    score = fast(tmp_path, truth, results, task, protocol)
    assert len(score.results) == 2000
    precision, scores = score.ranking.precision()
    assert np.array_equal(precision, expected["precision"][:, :, 0, :, -1].transpose(2, 0, 1))
    assert np.array_equal(scores, expected["scores"][:, :, 0, :, -1].transpose(2, 0, 1))
    assert np.array_equal(score.recalled.sum(axis=2) / len(cells), expected["recall"][:, 0, 0, :].T)
    free = fast(tmp_path, truth, results, task, replace(protocol, max_dets=(100, 500, 2300)))
    assert free.recalled[-1, -1].sum() > score.recalled[-1, -1].sum()


@pytest.mark.parametrize("task", TASKS)
def test_equal_overlaps_go_to_the_later_category(tmp_path, task):
    # The first result has IoU 90 / 110 with both cells and takes the one of category 2, though it comes first in the
    # file; the second result overlaps that one with .8, and the other with .5 only
    def entry(x, w, category, **more):
        shape = {"segmentation": segmentation("plain", x, 3, w, 10, 0), "bbox": [x, 3, w, 10]}
        return {"image_id": 1, "category_id": category, **shape, **more}

    cells = [entry(0, 10, 2, id=1, area=100, iscrowd=0), entry(2, 10, 1, id=2, area=100, iscrowd=0)]
    images = [{"id": 1, "file_name": "1.tif", "height": HEIGHT, "width": WIDTH}]
    truth = {"images": images, "annotations": cells, "categories": [{"id": 1}, {"id": 2}]}
    results = [entry(1, 10, 1, score=0.9), entry(0, 8, 1, score=0.8)]
    assert_identical(tmp_path, truth, results, task)
    recalled = fast(tmp_path, truth, results, task).recalled[-1, :, 0]
    assert recalled[[0, 1]].tolist() == [2, 1]  # at IoU .5 and .55


def test_nothing_to_find_and_nothing_found(tmp_path):
    # No object: -1 at every level, as in pycocotools; no result: 0
    images = [{"id": 1, "file_name": "1.tif", "height": HEIGHT, "width": WIDTH}]
    cell = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": segmentation("plain", 2, 2, 9, 9, 0)}
    result = {**cell, "score": 0.5}
    empty = {"images": images, "annotations": [], "categories": [{"id": 1}]}
    full = {**empty, "annotations": [{**cell, "area": 81, "iscrowd": 0}]}
    crowd = {**empty, "annotations": [{**cell, "area": 81, "iscrowd": 1}]}
    for task in TASKS:
        for truth in (empty, crowd):
            assert_identical(tmp_path, truth, [result], task)
            assert (fast(tmp_path, truth, [result], task).ranking.precision()[0] == -1).all()
        score = fast(tmp_path, full, [], task)
        assert (score.ranking.precision()[0][0] == 0).all() and score.recalled.sum() == 0
        assert (fast(tmp_path, full, [result], task).ranking.precision()[0][0] > 0.999).all()


# Weights


def assert_close(first: np.ndarray, second: np.ndarray) -> None:
    np.testing.assert_allclose(first, second, rtol=1e-11, atol=1e-13)


@examples(25)
@given(scenes(), st.integers(0, 2**32 - 1), st.sampled_from(TASKS))
def test_average_precision_is_the_mean_of_precision(tmp_path, scene, seed, task):
    score = fast(tmp_path, *scene, task, SMALL)
    rng = np.random.default_rng(seed)
    # More resamples than are computed side by side, one of no image at all, one of every image once
    weights = rng.integers(0, 4, (19, len(scene[0]["images"]))).astype(float)
    weights[3], weights[4] = 0, 1
    values = score.ranking.average_precision(weights)
    for row, value in zip(weights, values):
        precision, _ = score.ranking.precision(row)
        expected = np.where(precision[..., 0] < 0, np.nan, precision.mean(axis=-1))
        assert_close(value, expected)
    assert np.array_equal(score.ranking.precision(weights[4])[0], score.ranking.precision()[0])
    # Sets of objects score as ranges do
    limits = [limits for _, limits in SMALL.area_ranges]
    inside = [np.array([(o.areas >= a) & (o.areas <= b) for a, b in limits]) for o in (score.truth, score.results)]
    assert_close(score.average_precision(*inside), 100 * values[4].mean(axis=-1))
    # Neither threads nor the other resamples change a value
    assert np.array_equal(score.ranking.average_precision(weights, threads=2), values, equal_nan=True)
    assert np.array_equal(score.ranking.average_precision(weights[7:8], ranges=2), values[7:8, :2], equal_nan=True)


def copies(truth: dict, results: list[dict], weights: dict[int, int]) -> tuple[dict, list[dict]]:
    """Each image as often as its weight says; copies of an image are neighbours in the order of ids."""

    def repeated(entries, key):  # noqa: E306
        for entry in entries:
            for copy_ in range(weights[entry[key]]):
                yield {**entry, key: 100 * entry[key] + copy_}

    annotations = [{**entry, "id": n} for n, entry in enumerate(repeated(truth["annotations"], "image_id"), start=1)]
    images = list(repeated(truth["images"], "id"))
    return {**truth, "images": images, "annotations": annotations}, list(repeated(results, "image_id"))


@pytest.mark.parametrize("task", TASKS)
@examples(20)
@given(scenes(distinct_scores=True), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_a_weight_of_n_is_n_copies(tmp_path, task, scene, drawn):
    ids = sorted(image["id"] for image in scene[0]["images"])
    weights = dict(zip(ids, drawn))
    score = fast(tmp_path, *scene, task, SMALL)
    precision, scores = score.ranking.precision(np.array([weights[i] for i in ids], dtype=float))
    truth, results = copies(*scene, weights)
    explicit = fast(tmp_path, truth, results, task, SMALL) if truth["images"] else None
    if explicit is None:
        assert (precision == -1).all()
        return
    for ours, theirs in zip((precision, scores), explicit.ranking.precision()):
        assert np.array_equal(ours, theirs)


def metrics_of(folder, truth: dict, results: list[dict], task: str) -> TaskMetrics:
    score = fast(folder, truth, results, task, SMALL)
    sums = instance_sums(score, 0.5)
    if task == "segm":
        images = read_ground_truth(folder / "truth.json").images
        sums |= pixel_sums(images, score.truth, score.results, score.results.scores >= 0.5)
    return TaskMetrics(score, sums | outcome_sums(score, outcomes(score, 0.5)))


@pytest.mark.parametrize("task", TASKS)
@examples(20)
@given(scenes(), st.lists(st.booleans(), min_size=4, max_size=4))
def test_a_group_is_a_ground_truth_of_its_images(tmp_path, task, scene, members):
    truth, results = scene
    ids = sorted(image["id"] for image in truth["images"])
    chosen = {i for i, member in zip(ids, members) if member}
    everything = metrics_of(tmp_path, truth, results, task)
    weights = np.array([[float(i in chosen) for i in ids], np.ones(len(ids))])
    group = {name: column[0] for name, column in everything(weights).items()}
    part = {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in chosen],
        "annotations": [entry for entry in truth["annotations"] if entry["image_id"] in chosen],
    }
    if not chosen:
        assert all(np.isnan(value) for value in group.values())
        return
    alone = metrics_of(tmp_path, part, [entry for entry in results if entry["image_id"] in chosen], task)
    expected = alone(np.ones((1, len(chosen))))
    assert group.keys() == expected.keys()
    for name, value in group.items():
        np.testing.assert_allclose(value, expected[name][0], rtol=1e-11, atol=1e-11, err_msg=name)
