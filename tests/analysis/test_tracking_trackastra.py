"""Trackastra's graphs as our tracks, its models from folders, and the command line with it."""

import importlib
import logging

import cv2
import networkx as nx
import numpy as np
import pytest
import yaml
from pycocotools import mask as mask_util

from cellseg_d2.analysis.tracking import link_by_trackastra, load_trackastra
from cellseg_d2.analysis.tracking.by_trackastra import TrackastraError, tracks_of_graph
from cellseg_d2.analysis.tracking.detections import detections_of

SIZE = (90, 120)


def cell(x, y, radius=8, score=0.9):
    mask = cv2.circle(np.zeros(SIZE, np.uint8), (x, y), radius, 1, cv2.FILLED)
    rle = mask_util.encode(np.asfortranarray(mask))
    return {"category_id": 0, "bbox": mask_util.toBbox(rle).tolist(), "score": score, "segmentation": rle}


def film(frames=5):
    """Two cells that move, a third one in the middle of the film, and in the last frame one under another."""
    cells = [[cell(20 + 4 * t, 20), cell(100 - 4 * t, 60)] for t in range(frames)]
    cells[2].append(cell(60, 80))
    cells[-1].append(cell(20 + 4 * (frames - 1), 20, radius=5, score=0.1))
    return cells


def images(frames=5):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, SIZE).astype(np.uint8) for _ in range(frames)]


class ByDistance:
    """Stands in for a Trackastra model: it links each label to those of the next frame whose centres are near."""

    def __init__(self, reach):
        self.reach, self.given = reach, None

    def track(self, grey, labels, **options):
        self.given = grey, labels, options
        graph, centres = nx.DiGraph(), {}
        for t, plane in enumerate(labels):
            for label in np.unique(plane[plane > 0]).tolist():
                centres[t, label] = np.argwhere(plane == label).mean(axis=0)
                graph.add_node((t, label), time=t, label=label)
        for one, here in centres.items():
            for other, there in centres.items():
                if other[0] == one[0] + 1 and np.hypot(*(here - there)) < self.reach:
                    graph.add_edge(one, other)
        return graph, labels


def test_links_become_tracks():
    model = ByDistance(10)
    tracks = link_by_trackastra(film(), images(), model)
    assert [ids.tolist() for ids in tracks.ids] == [[1, 2], [1, 2], [1, 2, 3], [1, 2], [1, 2, 4]]
    assert tracks.table.tolist() == [[1, 0, 4, 0], [2, 0, 4, 0], [3, 2, 2, 0], [4, 4, 4, 0]]
    grey, labels, options = model.given
    assert grey.dtype == np.float32 and grey.shape == labels.shape == (5, *SIZE) and options["mode"] == "greedy"
    assert (grey == np.stack(images())).all() and labels[4].max() == 2  # the covered cell is in no label image


def test_two_successors_are_daughters():
    frames = [[cell(60, 40, 12)], [cell(50, 40), cell(70, 40)], [cell(46, 40), cell(74, 40)]]
    tracks = link_by_trackastra(frames, images(3), ByDistance(15), divisions=True)
    assert tracks.table.tolist() == [[1, 0, 0, 0], [2, 1, 2, 1], [3, 1, 2, 1]]
    model = ByDistance(5)
    link_by_trackastra(frames, images(3), model, divisions=False)
    assert model.given[2]["mode"] == "greedy_nodiv"


@pytest.mark.parametrize("frames", [[], [[]], [[], []], [[cell(20, 20)]], [[cell(20, 20)], []]])
def test_films_without_links_ask_nobody(frames):
    tracks = link_by_trackastra(frames, images(len(frames)), None)
    assert len(tracks) == sum(map(len, frames)) and len(tracks.ids) == len(frames)


def test_a_graph_without_edges():
    cells = detections_of(film())
    assert len(tracks_of_graph(cells, nx.DiGraph())) == len(cells)


def test_images_of_another_film():
    with pytest.raises(ValueError, match="5 frames of"):
        link_by_trackastra(film(), images(4), None)
    with pytest.raises(ValueError, match="images of"):
        link_by_trackastra(film(), [np.zeros((10, 10))] * 5, None)


def test_without_trackastra(monkeypatch):
    monkeypatch.setitem(importlib.import_module("sys").modules, "trackastra.model", None)
    with pytest.raises(TrackastraError, match=r"pip install 'cellseg_d2\[trackastra\]'"):
        load_trackastra("general_2d")


@pytest.fixture
def folder(tmp_path):
    """An untrained model as Trackastra saves its own."""
    model = pytest.importorskip("trackastra.model", reason="Trackastra is not installed")
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    model.TrackingTransformer(coord_dim=2, feat_dim=7, d_model=32, nhead=2, window=3).save(tmp_path)
    (tmp_path / "train_config.yaml").write_text(yaml.safe_dump({"features": "wrfeat"}))
    return tmp_path


def test_a_model_from_a_folder(folder):
    handlers = list(logging.getLogger().handlers)
    model = load_trackastra(folder, "cpu")
    assert logging.getLogger().handlers == handlers
    tracks = link_by_trackastra(film(), images(), model)
    assert [len(ids) for ids in tracks.ids] == [2, 2, 3, 2, 3]
    cells = np.concatenate([np.stack([ids, np.full(len(ids), t)], axis=1) for t, ids in enumerate(tracks.ids)])
    assert len(np.unique(cells, axis=0)) == len(cells)  # a track has one cell in a frame
    for track, first, last, mother in tracks.table.tolist():
        frames = cells[cells[:, 0] == track, 1]
        assert frames.tolist() == list(range(first, last + 1))  # no gaps
        assert mother == 0 or tracks.table[mother - 1, 2] == first - 1


def test_no_such_model(folder):
    (folder / "model.pt").unlink()
    with pytest.raises(TrackastraError, match="--tracker-model .*model.pt"):
        load_trackastra(folder, "cpu")
    with pytest.raises(TrackastraError, match="general_2d"):  # the names there are
        load_trackastra("no such name", "cpu")
