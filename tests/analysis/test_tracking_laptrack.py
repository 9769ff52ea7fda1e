"""LapTrack on our costs: the same tracks as ours in plain films, and nearly the annotated ones of a real film."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util

from cellseg_d2.analysis.tracking import LINKERS, link, link_by_laptrack
from cellseg_d2.data.datasets import roots
from cellseg_d2.errors import DatasetError

SIZE = (160, 200)


def cell(x, y, radius=10.0):
    return as_cell(cv2.circle(np.zeros(SIZE, np.uint8), (round(x), round(y)), round(radius), 1, cv2.FILLED))


def as_cell(mask):
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"category_id": 0, "bbox": mask_util.toBbox(rle).tolist(), "score": 0.9, "segmentation": rle}


def same(ours, theirs):
    ids = len(ours.ids) == len(theirs.ids) and all((a == b).all() for a, b in zip(ours.ids, theirs.ids))
    return ids and ours.table.tolist() == theirs.table.tolist() and ours.max_distance == theirs.max_distance


def dividing():
    """A mother in frames 0..3, daughters of half her area from frame 4 on."""
    daughters = [[cell(93 - 2 * t, 80), cell(109 + 2 * t, 80)] for t in range(5)]
    return [[cell(100, 80, 14)]] * 4 + daughters


FILMS = {
    "moving": [[cell(20 + 6 * t, 30), cell(180 - 6 * t, 90), cell(100, 140)] for t in range(8)],
    "crossing": [[cell(20 + 8 * t, 60), cell(180 - 8 * t, 82)] for t in range(20)],
    "without overlap": [[cell(20 + 9 * t, 60, 5), cell(20 + 9 * t, 100, 5)] for t in range(6)],
    "gap of 2": [[] if 3 <= t < 5 else [cell(60 + 3 * t, 60)] for t in range(9)],
    "gap of 3": [[] if 3 <= t < 6 else [cell(60 + 3 * t, 60)] for t in range(9)],
    "division": dividing(),
    "enter and leave": [[cell(100, 80)], [cell(100, 80), cell(5, 20)], [cell(100, 80), cell(15, 20)], [cell(25, 20)]],
    "no frame": [],
    "empty frame": [[]],
    "empty frames": [[], [], []],
    "empty, then one cell": [[], [cell(50, 50)]],
    "single frame": [[cell(50, 50), cell(90, 50)]],
}


@pytest.mark.parametrize("name", FILMS)
def test_same_tracks_as_ours(name):
    for options in ({}, {"max_gap": 0}, {"divisions": False}):
        assert same(link(FILMS[name], **options), link_by_laptrack(FILMS[name], **options)), options


def test_what_they_are():
    assert LINKERS == {"overlap": link, "laptrack": link_by_laptrack}
    assert link_by_laptrack(FILMS["division"]).table.tolist() == [[1, 0, 3, 0], [2, 4, 8, 1], [3, 4, 8, 1]]
    assert len(link_by_laptrack(FILMS["gap of 2"])) == 1 and len(link_by_laptrack(FILMS["gap of 3"])) == 2


def test_errors_are_ours():
    with pytest.raises(ValueError, match="max_distance"):
        link_by_laptrack(FILMS["moving"], max_distance=0)
    with pytest.raises(ValueError, match="max_gap"):
        link_by_laptrack(FILMS["moving"], max_gap=-1)
    with pytest.raises(DatasetError, match="cell 1 of frame 1"):
        link_by_laptrack([[{"bbox": [0, 0, 1, 1]}]])


def test_annotated_film_is_linked_as_annotated():
    """Labels of the truth against track ids; the masks are the truth's, so that each is matched with itself."""
    representations = pytest.importorskip("ctc_metrics.utils.representations", reason="py-ctcmetrics is missing")
    import tifffile
    from ctc_metrics.metrics import lnk, tra

    folder = roots.find("psc_phase_ctc")
    if folder is None:
        pytest.skip(f"psc_phase_ctc is in none of {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    maps = [tifffile.imread(path) for path in sorted((folder / "02_ST" / "SEG").glob("*.tif"))[:12]]
    names = [np.unique(labels[labels > 0]) for labels in maps]
    film = [[as_cell(labels == name) for name in own] for labels, own in zip(maps, names)]
    tracks = link_by_laptrack(film, divisions=False, max_gap=0)  # the truth lists no parents; there are no gaps
    spans = {}
    for t, labels in enumerate(names):
        for name in labels.tolist():
            spans.setdefault(name, [t, t])[1] = t
    truth = np.array([[name, first, last, 0] for name, (first, last) in spans.items()])
    matched = [own.tolist() for own in names], [own.tolist() for own in tracks.ids]
    present = [[sorted(own) for own in side] for side in matched]
    counts = representations.count_acyclic_graph_correction_operations(truth, tracks.table, *present, *matched)
    assert tra(**counts)[0] >= 0.97 and lnk(**counts) >= 0.97
