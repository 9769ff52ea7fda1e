"""Metrics at a score threshold against plain references on label images; outcomes of cells; intervals."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_util
from scipy.optimize import linear_sum_assignment

from cellseg_d2.evaluation import bootstrap
from cellseg_d2.evaluation.instances import best_threshold, instance_sums, kept_results
from cellseg_d2.evaluation.metrics import TaskMetrics
from cellseg_d2.evaluation.outcomes import RESULT_OUTCOMES, TRUTH_OUTCOMES, error_budget, outcome_sums, outcomes
from cellseg_d2.evaluation.protocol import LIVECELL
from cellseg_d2.evaluation.reading import read_ground_truth, read_results
from cellseg_d2.evaluation.scoring import TaskScore, score_task
from cellseg_d2.evaluation.semantic import pixel_sums
from cellseg_d2.evaluation.tables import ImageTable

THRESHOLD = 0.5
SHAPE = (60, 72)


# Building scenes


def rle(mask: np.ndarray) -> dict:
    encoded = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def score_masks(folder, truth: list[list], results: list[list], task: str = "segm") -> TaskScore:
    """Score images given as lists of annotated (mask, is_crowd) and of predicted (mask, score)."""
    annotations = [
        {"image_id": image, "category_id": 1, "segmentation": rle(mask), "area": int(mask.sum()), "iscrowd": int(crowd)}
        for image, cells in enumerate(truth)
        for mask, crowd in cells
    ]
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.tif", "height": SHAPE[0], "width": SHAPE[1]} for n in range(len(truth))
        ],
        "annotations": [{**annotation, "id": n} for n, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": 1, "name": "cell"}],
    }
    found = [
        {"image_id": image, "category_id": 1, "segmentation": rle(mask), "score": float(score)}
        for image, cells in enumerate(results)
        for mask, score in cells
    ]
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(found))
    ground = read_ground_truth(folder / "truth.json")
    table = read_results(folder / "results.json", ground)
    return score_task(ground.images, ground.objects, table, task, LIVECELL)


def images_of(folder) -> ImageTable:
    return read_ground_truth(folder / "truth.json").images


def all_sums(folder, score: TaskScore, threshold: float = THRESHOLD) -> dict[str, np.ndarray]:
    sums = instance_sums(score, threshold) | outcome_sums(score, outcomes(score, threshold))
    if score.task == "segm":
        sums |= pixel_sums(images_of(folder), score.truth, score.results, score.results.scores >= threshold)
    return sums


def overall(score: TaskScore, sums: dict[str, np.ndarray]) -> dict[str, float]:
    weights = np.ones((1, len(score.truth.starts) - 1))
    return {name: float(column[0]) for name, column in TaskMetrics(score, sums)(weights).items()}


def rectangle(x: int, y: int, w: int, h: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[y : y + h, x : x + w] = True
    return mask


def random_labels(rng: np.random.Generator, count: int) -> np.ndarray:
    """Cells as ellipses painted one over the other: disjoint, some of them only a rest."""
    labels = np.zeros(SHAPE, np.int32)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for label in range(1, count + 1):
        y, x = rng.random(2) * SHAPE
        a, b = rng.uniform(3, 9, 2)
        labels[((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 < 1] = label
    return labels


def segmented(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """What a mediocre model makes of ``labels``: moved, eaten into, merged, split, lost, and some made up."""
    found = np.zeros_like(labels)
    for label in np.unique(labels[labels > 0]):
        fate = rng.random()
        mask = np.roll(labels == label, rng.integers(-1, 2, 2) * (fate < 0.7), axis=(0, 1))
        number = label if fate > 0.1 else max(label - 1, 1)
        if 0.75 < fate < 0.85:
            mask &= rng.random(SHAPE) < 0.8
        if fate < 0.9:
            found[mask] = number
        elif fate < 0.95:
            found[mask & (np.arange(SHAPE[1]) % 7 < 3)] = 100 + label
            found[mask & (np.arange(SHAPE[1]) % 7 >= 3)] = 200 + label
    strays = random_labels(rng, 3)
    return np.where((found == 0) & (strays > 0), 300 + strays, found)


def masks_of(labels: np.ndarray) -> list[np.ndarray]:
    return [labels == label for label in np.unique(labels[labels > 0])]


class Scene:
    """Six images of disjoint cells; the last three lack annotated cells, predicted cells, or both.

    ``kept`` holds, for each image, the predicted masks with a score from 0.5 up, best first.
    """

    def __init__(self, folder, seed: int, decimals: int = 6):
        rng = np.random.default_rng(seed)
        labels = [random_labels(rng, int(rng.integers(5, 25))) for _ in range(3)]
        found = [segmented(rng, image) for image in labels]
        nothing = np.zeros(SHAPE, np.int32)
        labels += [nothing, random_labels(rng, 4), nothing]
        found += [random_labels(rng, 4), nothing, nothing]
        self.truth = [masks_of(image) for image in labels]
        self.results = []
        for image in found:
            masks = masks_of(image)
            scores = np.round(rng.uniform(0.2, 1, len(masks)), decimals)
            scores[:1] = 0.9  # one at least is kept
            self.results.append(sorted(zip(masks, scores), key=lambda pair: -pair[1]))
        shuffled = [[image[n] for n in rng.permutation(len(image))] for image in self.results]
        self.score = score_masks(folder, [[(mask, False) for mask in image] for image in self.truth], shuffled)
        self.table = images_of(folder)
        self.sums = all_sums(folder, self.score)
        self.metrics = overall(self.score, self.sums)
        self.images = list(zip(self.truth, self.keep(THRESHOLD)))

    def keep(self, threshold: float) -> list[list[np.ndarray]]:
        return [[mask for mask, score in image if score >= threshold] for image in self.results]


@pytest.fixture(scope="module", params=range(6))
def scene(request, tmp_path_factory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"), request.param)


# References


def tables(truth: list[np.ndarray], found: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in common and IoU of every pair, by NumPy on whole images."""
    common = np.array([[(g & d).sum() for d in found] for g in truth], dtype=float).reshape(len(truth), len(found))
    union = np.array([[(g | d).sum() for d in found] for g in truth], dtype=float).reshape(len(truth), len(found))
    return common, common / np.maximum(union, 1)


def matches(iou: np.ndarray, threshold: float) -> int:
    """True positives of the best one-to-one assignment, as StarDist and Cellpose count them."""
    if not iou.size:
        return 0
    hits = iou >= threshold
    rows, columns = linear_sum_assignment(-hits.astype(float) - iou / (2 * min(iou.shape)))
    return int(hits[rows, columns].sum())


def aji_of(truth: list[np.ndarray], found: list[np.ndarray]) -> float:
    """Kumar et al. 2017, algorithm 1, line by line."""
    above, below, used = 0, 0, set()
    _, iou = tables(truth, found)
    for i, g in enumerate(truth):
        j = int(np.argmax(iou[i])) if found else -1
        if j < 0 or iou[i, j] == 0:
            below += g.sum()
            continue
        above += (g & found[j]).sum()
        below += (g | found[j]).sum()
        used.add(j)
    below += sum(d.sum() for j, d in enumerate(found) if j not in used)
    return above / below if below else 0.0


def seg_of(truth: list[np.ndarray], found: list[np.ndarray]) -> list[float]:
    """Cell Tracking Challenge: Jaccard index with the result that covers more than half of the cell, else 0."""
    common, iou = tables(truth, found)
    values = []
    for i, g in enumerate(truth):
        partners = [j for j in range(len(found)) if common[i, j] > 0.5 * g.sum()]
        assert len(partners) <= 1  # masks are disjoint
        values.append(iou[i, partners[0]] if partners else 0.0)
    return values


def test_scenes_are_worth_testing(scene):
    # Disjoint masks, and none of the numbers is trivial
    for truth, found in scene.images:
        for masks in (truth, found):
            assert not masks or np.sum(masks, axis=0).max() == 1
    for name in ("mSA", "SA50", "PQ", "SQ", "RQ", "SEG", "AJI", "pixel_F1", "instance_F1_50"):
        assert 5 < scene.metrics[name] < 95, name


def test_segmentation_accuracy(scene):
    per_image = []
    for truth, found in scene.images:
        true = np.array([matches(tables(truth, found)[1], t) for t in LIVECELL.iou_thresholds])
        whole = len(truth) + len(found) - true
        per_image.append(true / whole if whole.all() else np.zeros(len(true)))
    scored = np.array([bool(truth or found) for truth, found in scene.images])
    assert scored.tolist() == [True] * 5 + [False] == scene.sums["scored"].astype(bool).tolist()
    assert scene.sums["accuracy"] == pytest.approx(np.mean(per_image, axis=1))
    assert scene.metrics["mSA"] == pytest.approx(100 * np.mean(per_image, axis=1)[scored].mean())
    assert scene.metrics["SA50"] == pytest.approx(100 * np.array(per_image)[scored, 0].mean())


def test_panoptic_quality(scene):
    ious = [tables(truth, found)[1] for truth, found in scene.images]
    matched = np.concatenate([iou[iou > 0.5] for iou in ious])  # disjoint masks: each is in one pair at most
    false = sum(len(found) for _, found in scene.images) - len(matched)
    missed = sum(len(truth) for truth, _ in scene.images) - len(matched)
    recognised = len(matched) / (len(matched) + false / 2 + missed / 2)
    assert scene.metrics["SQ"] == pytest.approx(100 * matched.mean())
    assert scene.metrics["RQ"] == pytest.approx(100 * recognised)
    assert scene.metrics["PQ"] == pytest.approx(100 * matched.mean() * recognised)


def test_seg(scene):
    values = [seg_of(*image) for image in scene.images]
    assert scene.sums["seg"] == pytest.approx([sum(image) for image in values])
    assert scene.metrics["SEG"] == pytest.approx(100 * np.mean(sum(values, [])))


def test_aggregated_jaccard(scene):
    values = [aji_of(*image) for image in scene.images]
    assert scene.sums["aji"] == pytest.approx(values)
    assert scene.metrics["AJI"] == pytest.approx(100 * np.mean(values[:5]))  # the last image has no cells at all


def test_pixels(scene):
    pairs = [[np.any([np.zeros(SHAPE, bool), *masks], axis=0) for masks in image] for image in scene.images]
    truth, found = (np.stack(side) for side in zip(*pairs))
    true = (truth & found).sum()
    assert scene.metrics["pixel_precision"] == pytest.approx(100 * true / found.sum())
    assert scene.metrics["pixel_recall"] == pytest.approx(100 * true / truth.sum())
    assert scene.metrics["pixel_F1"] == pytest.approx(200 * true / (found.sum() + truth.sum()))
    assert scene.sums["pixel_missed"].tolist() == (truth & ~found).sum(axis=(1, 2)).tolist()
    assert scene.sums["pixel_false"].tolist() == (found & ~truth).sum(axis=(1, 2)).tolist()


def test_counts(scene):
    truth, found = np.array([[len(masks) for masks in image] for image in scene.images]).T
    assert scene.metrics["count_MAE"] == pytest.approx(np.abs(found - truth).mean())
    assert scene.metrics["count_bias"] == pytest.approx((found - truth).mean())
    unexplained = ((found - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert scene.metrics["count_R2"] == pytest.approx(1 - unexplained)


def test_instance_f1(scene):
    true = sum(matches(tables(*image)[1], 0.5) for image in scene.images)
    found, objects = sum(len(found) for _, found in scene.images), sum(len(truth) for truth, _ in scene.images)
    assert scene.metrics["instance_F1_50"] == pytest.approx(200 * true / (found + objects))
    assert scene.metrics["instance_precision_50"] == pytest.approx(100 * true / found)
    assert scene.metrics["instance_recall_50"] == pytest.approx(100 * true / objects)


@pytest.mark.parametrize("decimals", [6, 1])  # one decimal: many equal scores, which a threshold cannot divide
@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_is_the_best_of_all(tmp_path, seed, decimals):
    scene = Scene(tmp_path, 20 + seed, decimals)
    objects = sum(len(truth) for truth in scene.truth)
    values = {}
    for threshold in sorted({float(score) for image in scene.results for _, score in image}):
        kept = scene.keep(threshold)
        true = sum(matches(tables(*pair)[1], 0.5) for pair in zip(scene.truth, kept))
        values[threshold] = 2 * true / (sum(map(len, kept)) + objects)
    threshold, f1 = best_threshold(scene.score)
    assert f1 == pytest.approx(max(values.values())) and f1 == pytest.approx(values[threshold])
    sums = all_sums(tmp_path, scene.score, threshold)
    assert overall(scene.score, sums)["instance_F1_50"] == pytest.approx(100 * f1)


def test_perfect_results(tmp_path):
    truth = masks_of(random_labels(np.random.default_rng(5), 12))
    score = score_masks(tmp_path, [[(mask, False) for mask in truth]], [[(mask, 0.9) for mask in truth]])
    metrics = overall(score, all_sums(tmp_path, score))
    perfect = ["AP", "AR2000", "mSA", "SA50", "PQ", "SQ", "RQ", "SEG", "AJI", "pixel_F1", "instance_F1_50",
               "share_found"]  # fmt: skip
    assert [metrics[name] for name in perfect] == pytest.approx([100] * len(perfect))
    assert metrics["AFNR"] == pytest.approx(0) and metrics["count_MAE"] == 0
    assert np.isnan(metrics["count_R2"])  # one image: nothing varies
    assert best_threshold(score) == (0.9, 1.0)


def test_no_results_and_no_cells(tmp_path):
    cell = rectangle(5, 5, 10, 10)
    score = score_masks(tmp_path, [[(cell, False)]], [[]])
    metrics = overall(score, all_sums(tmp_path, score))
    zeros = ["AP", "mSA", "RQ", "PQ", "SEG", "AJI", "pixel_F1", "instance_F1_50", "share_found"]
    assert [metrics[name] for name in zeros] == [0] * len(zeros)
    assert np.isnan(metrics["SQ"]) and np.isnan(metrics["instance_precision_50"]) and metrics["share_missed"] == 100
    assert np.isnan(best_threshold(score)).all()
    score = score_masks(tmp_path, [[]], [[(cell, 0.9)]])
    metrics = overall(score, all_sums(tmp_path, score))
    assert np.isnan([metrics[name] for name in ("AP", "AR2000", "AFNR", "SEG", "share_found")]).all()
    assert [metrics[name] for name in ("mSA", "AJI", "pixel_F1", "instance_F1_50")] == [0] * 4
    assert metrics["count_bias"] == 1 and np.isnan(best_threshold(score)).all()


# Outcomes: each scene is (cells, results, outcomes of the cells, outcomes of the results), as rectangles x, y, w, h

A, B = (2, 2, 10, 10), (13, 2, 10, 10)
SCENES = {
    "found": ([A], [(2, 2, 10, 9)], ["found"], ["true"]),
    "half is enough": ([A], [(2, 2, 5, 10)], ["found"], ["true"]),  # IoU .5
    # 100 of 210 pixels: IoU .48 with each, both covered whole
    "one result over two": ([A, B], [(2, 2, 21, 10)], ["merged", "merged"], ["merging"]),
    # 90 of 200 pixels each: IoU .45
    "two results in one": ([(2, 2, 20, 10)], [(2, 2, 9, 10), (13, 2, 9, 10)], ["split"], ["fragment", "fragment"]),
    # 50 of 150 pixels: IoU .33
    "shifted": ([A], [(7, 2, 10, 10)], ["inaccurate"], ["inaccurate"]),
    "nothing there": ([A], [], ["missed"], []),
    "stray": ([], [A], [], ["false"]),
    # 10 of 190 pixels: IoU .05, too little to mean the same cell
    "a touch": ([A], [(11, 2, 10, 10)], ["missed"], ["false"]),
    # 20 of 180 pixels: IoU .11
    "more than a touch": ([A], [(10, 2, 10, 10)], ["inaccurate"], ["inaccurate"]),
    # IoU .9 with the one beside a fragment: a match comes first
    "found with a crumb": ([A], [(2, 2, 9, 10), (11, 2, 1, 10)], ["found"], ["true", "fragment"]),
    # 100 of 190 pixels of A: IoU .53, while 60 of B are covered
    "true, but over the next": ([A, (12, 2, 10, 10)], [(2, 2, 18, 10)], ["found", "merged"], ["true"]),
    # the second on a cell that is taken
    "twice": ([A], [(2, 2, 10, 10), (2, 2, 10, 9)], ["found"], ["true", "fragment"]),
    # a result that holds the whole small cell and much more: IoU 16 / 144 = .11
    "too large": ([(6, 6, 4, 4)], [(2, 2, 12, 12)], ["inaccurate"], ["inaccurate"]),
}


def names(score: TaskScore, threshold: float = THRESHOLD) -> tuple[list[str], list[str]]:
    """Outcomes in the order of the files."""
    found = outcomes(score, threshold)
    named = []
    for objects, codes, words in (
        (score.truth, found.truth, TRUTH_OUTCOMES), (score.results, found.results, RESULT_OUTCOMES),
    ):  # fmt: skip
        by_row = dict(zip(objects.rows.tolist(), codes.tolist()))
        named.append([words[by_row[row]] for row in sorted(by_row)])
    return tuple(named)


@pytest.mark.parametrize("task", ["segm", "bbox"])
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_outcomes(tmp_path, scene, task):
    cells, results, of_cells, of_results = scene
    truth = [(rectangle(*cell), False) for cell in cells]
    found = [(rectangle(*result), 0.9 - 0.01 * n) for n, result in enumerate(results)]
    assert names(score_masks(tmp_path, [truth], [found], task)) == (of_cells, of_results)


def test_outcomes_of_many_images_do_not_mix(tmp_path):
    truth = [[(rectangle(*cell), False) for cell in cells] for cells, *_ in SCENES.values()]
    found = [[(rectangle(*r), 0.9 - 0.01 * n) for n, r in enumerate(results)] for _, results, *_ in SCENES.values()]
    score = score_masks(tmp_path, truth, found)
    expected = [sum((scene[side] for scene in SCENES.values()), []) for side in (2, 3)]
    assert names(score) == tuple(expected)
    sums = outcome_sums(score, outcomes(score, THRESHOLD))
    for image, (_, _, of_cells, of_results) in enumerate(SCENES.values()):
        for name in TRUTH_OUTCOMES[:-1]:
            assert sums[f"cells_{name}"][image] == of_cells.count(name)
        for name in RESULT_OUTCOMES[:-1]:
            assert sums[f"results_{name}"][image] == of_results.count(name)


def test_results_below_the_threshold_are_left_out(tmp_path):
    truth = [(rectangle(*A), False)]
    found = [(rectangle(*A), 0.4), (rectangle(*B), 0.9)]
    score = score_masks(tmp_path, [truth], [found])
    assert names(score) == (["missed"], ["left out", "false"])
    assert names(score, 0.4) == (["found"], ["true", "false"])  # a threshold keeps what reaches it


def test_outcomes_of_boxes_go_by_boxes(tmp_path):
    # Thin diagonal cells: masks of 39 pixels in boxes of 400. The result's box shares 120 and 80 with them: under half
    # of each box, and IoU 120 / 500 and 80 / 540
    diagonal = np.zeros(SHAPE, bool)
    for n in range(20):
        diagonal[2 + n, 2 + n], diagonal[2 + n, min(3 + n, 21)] = True, True
    truth = [(diagonal, False), (np.roll(diagonal, 22, axis=1), False)]
    score = score_masks(tmp_path, [truth], [[(rectangle(10, 2, 22, 10), 0.9)]], "bbox")
    assert names(score) == (["inaccurate", "inaccurate"], ["inaccurate"])


@pytest.mark.parametrize("task", ["segm", "bbox"])
def test_crowds_count_nowhere(tmp_path, task):
    # A crowd with three results in it beside a plain scene: nothing but the place of the objects changes
    cells = [rectangle(*A), rectangle(*B), rectangle(24, 2, 10, 10)]
    found = [(rectangle(3, 2, 10, 10), 0.9), (rectangle(13, 2, 5, 9), 0.8), (rectangle(2, 40, 6, 6), 0.7)]
    plain = score_masks(tmp_path, [[(mask, False) for mask in cells]], [found], task)
    expected = all_sums(tmp_path, plain)
    crowd = [(rectangle(40, 10, 30, 30), True)]
    inside = [(rectangle(42, 12, 6, 6), 0.95), (rectangle(44, 14, 20, 20), 0.85), (rectangle(45, 11, 3, 3), 0.55)]
    score = score_masks(tmp_path, [crowd + [(mask, False) for mask in cells]], [inside + found], task)
    sums = all_sums(tmp_path, score)
    assert sums.keys() == expected.keys()
    for name in sums:
        assert sums[name].tolist() == expected[name].tolist(), name
    assert kept_results(score, THRESHOLD).sum() == 3
    assert best_threshold(score) == best_threshold(plain)
    before, after = overall(plain, expected), overall(score, sums)
    assert after == pytest.approx(before, nan_ok=True)
    of_cells, of_results = names(score)
    assert of_cells == ["crowd", *names(plain)[0]] and of_results == ["left out"] * 3 + names(plain)[1]


def test_every_cell_has_one_outcome(scene):
    found = outcomes(scene.score, THRESHOLD)
    assert len(found.truth) == sum(map(len, scene.truth)) and found.truth.max() < TRUTH_OUTCOMES.index("crowd")
    cells = sum(scene.sums[f"cells_{name}"] for name in TRUTH_OUTCOMES[:-1])
    assert cells.tolist() == scene.sums["objects"].tolist() == [len(image) for image in scene.truth]
    results = sum(scene.sums[f"results_{name}"] for name in RESULT_OUTCOMES[:-1])
    assert results.tolist() == scene.sums["found"].tolist() == [len(kept) for _, kept in scene.images]
    assert scene.sums["cells_found"].tolist() == scene.sums["results_true"].tolist() == scene.sums["true"].tolist()
    shares = [scene.metrics[f"share_{name}"] for name in TRUTH_OUTCOMES[:-1]]
    assert sum(shares) == pytest.approx(100)


def test_bins_of_the_budget_add_up(scene):
    budget = error_budget(scene.table, scene.score, outcomes(scene.score, THRESHOLD))
    columns = ["cells", *TRUTH_OUTCOMES[:-1], "false"]
    parts = {by: part[columns].sum().tolist() for by, part in budget.groupby("by")}
    assert parts["all"] == parts["size"] == parts["density"]
    assert parts["all"][0] == sum(map(len, scene.truth))
    assert budget["AP"][0] == pytest.approx(scene.metrics["AP"])
    assert budget["AP"][1:4].tolist() == pytest.approx([scene.metrics[f"AP{s}"] for s in "sml"], nan_ok=True)


# Bootstrap


def mean_of(values: np.ndarray):
    return lambda weights: {"mean": weights @ values / weights.sum(axis=1)}


def test_resamples_draw_members_only():
    members = np.array([True, False, True, True, False])
    weights = bootstrap.resamples(members, 500, 0)
    assert weights.shape == (500, 5) and (weights.sum(axis=1) == 3).all() and (weights[:, ~members] == 0).all()
    assert weights[:, members].mean(axis=0) == pytest.approx([1, 1, 1], abs=0.15)  # each is drawn once on average
    assert (bootstrap.resamples(np.zeros(3, bool), 4, 0) == 0).all()


def test_the_same_seed_gives_the_same_intervals():
    metric, members = mean_of(np.random.default_rng(0).random(30)), np.ones(30, bool)
    first, again, other = (bootstrap.intervals(metric, members, 200, seed) for seed in (7, 7, 8))
    assert first == again != other


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_of_a_mean(seed):
    # Contains the mean, and is as wide as the normal approximation says: 2 x 1.96 standard errors
    values = np.random.default_rng(seed).normal(50, 10, 200)
    low, high = bootstrap.intervals(mean_of(values), np.ones(200, bool), 2000, seed)["mean"]
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.1)
    members = np.arange(200) < 60
    low, high = bootstrap.intervals(mean_of(values), members, 500, seed)["mean"]
    assert low < values[members].mean() < high


def test_intervals_of_few_images():
    # Of 0 and 1, resampled means are 0, .5 and 1, a quarter each at the ends
    values = np.array([0.0, 1.0])
    assert bootstrap.intervals(mean_of(values), np.ones(2, bool), 400, 0) == {"mean": (0.0, 1.0)}
    assert np.isnan(bootstrap.intervals(mean_of(values), np.array([True, False]), 400, 0)["mean"]).all()
    assert bootstrap.intervals(mean_of(values), np.ones(2, bool), 0, 0) == {}


def test_resamples_without_a_value_are_left_out():
    # Only image 0 has cells; where it is not drawn the metric does not exist
    def metric(weights):
        return {"share": np.where(weights[:, 0] > 0, 0.25, np.nan), "none": np.full(len(weights), np.nan)}

    limits = bootstrap.intervals(metric, np.ones(4, bool), 300, 0)
    assert limits["share"] == (0.25, 0.25) and np.isnan(limits["none"]).all()


def test_a_constant_lead():
    values = np.random.default_rng(1).random(40)
    row = bootstrap.compare(mean_of(values + 0.1), mean_of(values), 40, 300, 0)["mean"]
    assert row["difference"] == pytest.approx(0.1) and row["interval"] == pytest.approx([0.1, 0.1])
    assert row["first_higher"] == 1.0
    assert bootstrap.compare(mean_of(values), mean_of(values + 0.1), 40, 300, 0)["mean"]["first_higher"] == 0.0


def test_a_model_against_itself_and_against_a_worse_one(tmp_path):
    # On every image, the better model's outlines have an IoU of .9 and the worse one's of .6 or less
    truth, better, worse = [], [], []
    for image in range(6):
        cells = [(4 + 14 * n, 5 + 3 * image, 10, 10) for n in range(1 + image % 4)]
        truth.append([(rectangle(*cell), False) for cell in cells])
        better.append([(rectangle(x, y, w, h - 1), 0.9) for x, y, w, h in cells])
        worse.append([(rectangle(x, y, w - 4 - n % 2, h), 0.9) for n, (x, y, w, h) in enumerate(cells)])
    metrics = []
    for results in (better, worse):
        score = score_masks(tmp_path, truth, results)
        metrics.append(TaskMetrics(score, all_sums(tmp_path, score)))
    for row in bootstrap.compare(metrics[0], metrics[0], len(truth), 100, 0).values():
        if np.isfinite(row["first"]):
            assert row["difference"] == 0 and row["interval"] == [0, 0] and row["first_higher"] == 0.5
    table = bootstrap.compare(metrics[0], metrics[1], len(truth), 100, 0)
    for name in ("AP", "mSA", "SQ", "PQ", "SEG", "AJI", "pixel_F1", "AR2000"):
        row = table[name]
        assert row["first"] > row["second"] and row["interval"][0] > 0 and row["first_higher"] == 1.0, name
        assert row["difference"] == row["first"] - row["second"]
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]
    assert table["AFNR"]["first_higher"] == 0.0  # lower is better
    assert table["count_MAE"]["difference"] == 0 and table["count_MAE"]["first_higher"] == 0.5
