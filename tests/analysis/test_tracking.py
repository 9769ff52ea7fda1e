"""Linking of cells in time: answers known by construction, and annotated masks scored as the Challenge does."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util

from cellseg_d2.analysis.tracking import LINKERS, link, tracked
from cellseg_d2.data.datasets import roots
from cellseg_d2.errors import DatasetError
from cellseg_d2.inference.records import Frame, FrameCells

SIZE = (160, 200)


def cell(x, y, radius=10.0, **more):
    mask = cv2.circle(np.zeros(SIZE, np.uint8), (round(x), round(y)), round(radius), 1, cv2.FILLED)
    rle = mask_util.encode(np.asfortranarray(mask))
    box = mask_util.toBbox(rle).tolist()
    rle = {"size": list(SIZE), "counts": rle["counts"].decode("ascii")}
    return {"category_id": 0, "bbox": box, "score": 0.9, "segmentation": rle, **more}


def results_of(frames):
    return [FrameCells(Frame(None, f"t{t}", np.zeros(SIZE)), cells) for t, cells in enumerate(frames)]


def ids(tracks):
    return [frame.tolist() for frame in tracks.ids]


def test_moving_discs():
    tracks = link([[cell(20 + 6 * t, 30), cell(180 - 6 * t, 90), cell(100, 140)] for t in range(8)])
    assert ids(tracks) == [[1, 2, 3]] * 8
    assert tracks.table.tolist() == [[1, 0, 7, 0], [2, 0, 7, 0], [3, 0, 7, 0]]
    assert tracks.max_distance == pytest.approx(20, abs=1)


def test_discs_that_pass_each_other_keep_their_ids():
    frames = [[cell(20 + 8 * t, 60), cell(180 - 8 * t, 82)] for t in range(20)]
    assert ids(link(frames)) == [[1, 2]] * 20


def test_small_cells_without_overlap_take_the_distance():
    frames = [[cell(20 + 14 * t, 60, 5), cell(20 + 14 * t, 100, 5)] for t in range(6)]
    assert len(link(frames, divisions=False)) == 12  # further than a diameter
    assert ids(link(frames, max_distance=20)) == [[1, 2]] * 6


@pytest.mark.parametrize(("gap", "max_gap", "count"), [(1, 2, 1), (2, 2, 1), (3, 2, 2), (1, 0, 2)])
def test_gaps(gap, max_gap, count):
    frames = [[cell(60 + 3 * t, 60)] if not 3 <= t < 3 + gap else [] for t in range(9)]
    tracks = link(frames, max_gap=max_gap)
    assert len(tracks) == count and (tracks.table[:, 3] == 0).all()
    assert tracks.table[0].tolist() == [1, 0, 8 if count == 1 else 2, 0]


def dividing(late=0):
    """A mother in frames 0..3, daughters of half her area from frame 4 on, the second ``late`` frames later."""
    frames = [[cell(100, 80, 14)] for _ in range(4)]
    for t in range(4, 9):
        both = [cell(92 - 2 * (t - 4), 80), cell(108 + 2 * (t - 4), 80)]
        frames.append(both if t >= 4 + late else both[:1])
    return frames


def test_division():
    tracks = link(dividing())
    assert tracks.table.tolist() == [[1, 0, 3, 0], [2, 4, 8, 1], [3, 4, 8, 1]]
    assert tracks.daughters(1) == [2, 3] and tracks.daughters(2) == []
    assert link(dividing(), divisions=False).table[:, 3].tolist() == [0, 0]


def test_division_with_the_mother_unseen_in_the_frame_before():
    frames = dividing()
    frames[3] = []
    assert link(frames).table.tolist() == [[1, 0, 2, 0], [2, 4, 8, 1], [3, 4, 8, 1]]


def test_a_newcomer_beside_a_cell_is_no_daughter():
    frames = [[cell(60, 60)] if t < 4 else [cell(60, 60), cell(78, 60, 7)] for t in range(8)]
    assert link(frames).table.tolist() == [[1, 0, 7, 0], [2, 4, 7, 0]]


def test_cells_enter_and_leave():
    frames = [[cell(100, 80)], [cell(100, 80), cell(5, 20)], [cell(100, 80), cell(15, 20)], [cell(25, 20)], []]
    tracks = link(frames)
    assert tracks.table.tolist() == [[1, 0, 2, 0], [2, 1, 3, 0]] and ids(tracks)[3:] == [[2], []]


@pytest.mark.parametrize("frames", [[], [[]], [[], [], []], [[cell(50, 50), cell(90, 50)]]])
def test_little_to_link(frames):
    tracks = link(frames)
    assert len(tracks) == sum(map(len, frames)) and len(tracks.ids) == len(frames)
    assert tracks.table.shape == (len(tracks), 4)


def test_an_empty_mask_is_a_track_of_its_own_place():
    rle = mask_util.encode(np.asfortranarray(np.zeros(SIZE, np.uint8)))
    empty = cell(50, 50) | {"segmentation": {"size": list(SIZE), "counts": rle["counts"].decode("ascii")}}
    assert ids(link([[empty, cell(120, 49)]] * 2)) == [[2, 1]] * 2


@pytest.mark.parametrize("follow", LINKERS.values(), ids=LINKERS)
def test_order_of_cells_does_not_matter(follow):
    generator = np.random.default_rng(0)
    places = generator.uniform(10, 150, (25, 2))
    frames = []
    for _ in range(6):
        places = np.clip(places + generator.normal(0, 4, places.shape), 8, 150)
        frames.append([cell(x, y, 8) for x, y in places[generator.random(25) > 0.1]])
    tracks, orders = follow(frames), [generator.permutation(len(cells)) for cells in frames]
    again = follow([[cells[k] for k in order] for cells, order in zip(frames, orders)])
    assert (again.table == tracks.table).all()
    assert all((ids[order] == other).all() for ids, order, other in zip(tracks.ids, orders, again.ids))


def test_tracked_leaves_what_came():
    results = results_of(dividing())
    tracks = link([result.cells for result in results])
    found = tracked(results, tracks)
    assert [[c["track_id"] for c in result.cells] for result in found] == ids(tracks)
    assert "track_id" not in results[0].cells[0]
    with pytest.raises(ValueError, match="another film"):
        tracked(results[:-1], tracks)


def test_what_cannot_be_linked_is_said():
    other = cell(20, 20) | {"segmentation": {"size": [10, 10], "counts": "d1"}}
    with pytest.raises(DatasetError, match="cell 2 of frame 3 has a mask of size"):
        link([[cell(20, 20)], [], [cell(20, 20), other]])
    with pytest.raises(DatasetError, match="cell 1 of frame 1 has no run lengths"):
        link([[{"bbox": [0, 0, 5, 5], "score": 1.0}]])
    for wrong in ({"max_distance": 0}, {"max_distance": float("nan")}, {"max_gap": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            link([[cell(20, 20)]], **wrong)


# Annotated masks


def real_film(count):
    tifffile = pytest.importorskip("tifffile")
    folder = roots.find("psc_phase_ctc")
    if folder is None:
        pytest.skip(f"psc_phase_ctc is in none of {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    maps = [tifffile.imread(path) for path in sorted((folder / "02_ST" / "SEG").glob("*.tif"))[:count]]
    return [np.unique(labels[labels > 0]) for labels in maps], [cells_of(labels) for labels in maps]


def cells_of(labels):
    """COCO results of a label map, by label."""
    flat, cells = labels.ravel(order="F"), []
    order = np.argsort(flat, kind="stable")
    for pixels in np.split(order, np.flatnonzero(np.diff(flat[order])) + 1)[1:]:  # the first are background
        breaks = np.flatnonzero(np.diff(pixels) > 1)
        begin, end = pixels[np.append(0, breaks + 1)], pixels[np.append(breaks, -1)] + 1
        bounds = np.concatenate([[0], np.stack([begin, end], axis=1).ravel(), [flat.size]])
        size = list(labels.shape)
        rle = mask_util.frPyObjects({"size": size, "counts": np.diff(bounds).tolist()}, *size)
        cells.append({"bbox": mask_util.toBbox(rle).tolist(), "score": 1.0, "segmentation": rle})
    return cells


def test_annotated_film_is_linked_as_annotated():
    """Labels of the truth against track ids; the masks are the truth's, so that each is matched with itself."""
    representations = pytest.importorskip("ctc_metrics.utils.representations", reason="py-ctcmetrics is missing")
    from ctc_metrics.metrics import lnk, tra

    names, film = real_film(20)
    tracks = link(film, divisions=False, max_gap=0)  # the truth lists no parents; the Challenge knows no gaps
    spans = {}
    for t, labels in enumerate(names):
        for name in labels.tolist():
            spans.setdefault(name, [t, t])[1] = t
    truth = np.array([[name, first, last, 0] for name, (first, last) in spans.items()])
    matched = [own.tolist() for own in names], [own.tolist() for own in tracks.ids]
    present = [[sorted(own) for own in side] for side in matched]
    counts = representations.count_acyclic_graph_correction_operations(truth, tracks.table, *present, *matched)
    assert tra(**counts)[0] >= 0.99 and lnk(**counts) >= 0.97
    mothers = {int(parent) for parent in link(film).table[:, 3] if parent}
    assert len(mothers) == 3  # labels 830, 779 and 914 end where two others start
