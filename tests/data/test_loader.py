"""Loaders: the same samples for any number of workers and processes, resume, shards, corrupt files."""

import itertools
import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils import comm

from cellseg_d2.data.datasets import DatasetError, register_coco
from cellseg_d2.data.image_io import CorruptImageError
from cellseg_d2.data.loader import (
    BatchPositions,
    build_test_loader,
    build_train_loader,
    build_truth_loader,
    build_val_loss_loader,
)


@pytest.fixture
def config(cfg, tmp_path, discs, written):
    """Five images of discs with every random augmentation, in batches of four."""
    register_coco("t_loader", *written(tmp_path, discs(images=5)))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("t_loader",), ("t_loader",)
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.RANDOM_ROT90, cfg.INPUT.INTENSITY_JITTER = "horizontal", True, 0.3
    cfg.INPUT.RANDOM_ZOOM = (0.8, 1.3)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [32, 32]
    return cfg


@pytest.fixture
def rank_of(monkeypatch):
    """Pretend to be one of several processes."""

    def pretend(rank: int, world: int) -> None:
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world)

    return pretend


def _take(loader, batches: int) -> list[list[dict]]:
    return list(itertools.islice(iter(loader), batches))


def _same(one: list[list[dict]], two: list[list[dict]]) -> bool:
    pairs = [(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True)]
    return all(
        a["image_id"] == b["image_id"]
        and torch.equal(a["image"], b["image"])
        and torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
        for a, b in pairs
    )


def _damage(config, number: int) -> str:
    path = f"{_folder(config)}/image{number}.tif"
    with open(path, "r+b") as file:
        file.truncate(200)
    return path


def _folder(config) -> str:
    from detectron2.data import MetadataCatalog

    return MetadataCatalog.get(config.DATASETS.TRAIN[0]).image_root


def test_each_epoch_is_a_permutation():
    batches = itertools.islice(BatchPositions(size=6, batch=4, seed=1), 9)
    pairs = list(itertools.chain.from_iterable(batches))
    assert [position for position, _ in pairs] == list(range(36))
    epochs = [tuple(index for _, index in pairs[begin : begin + 6]) for begin in range(0, 36, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs) and len(set(epochs)) > 1
    other = itertools.islice(BatchPositions(size=6, batch=4, seed=2), 9)
    assert list(itertools.chain.from_iterable(other)) != pairs


def test_a_batch_larger_than_the_data_set():
    (batch,) = itertools.islice(BatchPositions(size=2, batch=5, seed=0), 1)
    assert len(batch) == 5 and {index for _, index in batch} == {0, 1}


@pytest.mark.parametrize("world", [2, 4])
def test_processes_together_see_what_one_would(world):
    alone = list(itertools.islice(BatchPositions(7, 8, seed=3, start_iter=2), 5))
    ranks = [itertools.islice(BatchPositions(7, 8, 3, 2, rank, world), 5) for rank in range(world)]
    together = [list(itertools.chain.from_iterable(parts)) for parts in zip(*ranks, strict=True)]
    assert together == alone


def test_workers_do_not_change_the_samples(config):
    alone = _take(build_train_loader(config, seed=7), 4)
    for workers in (1, 2):
        config.DATALOADER.NUM_WORKERS = workers
        assert _same(alone, _take(build_train_loader(config, seed=7), 4))
    assert not _same(alone, _take(build_train_loader(config, seed=8), 4))
    shown = [item["image"].sum().item() for batch in alone for item in batch if item["image_id"] == 1]
    assert len(set(shown)) > 1  # the same image, augmented differently each time


def test_resume_sees_what_the_uninterrupted_run_sees(config):
    whole = _take(build_train_loader(config, seed=7), 6)
    assert _same(whole[4:], _take(build_train_loader(config, start_iter=4, seed=7), 2))


def test_the_shards_of_two_processes_make_up_the_batch(config, rank_of):
    whole = _take(build_train_loader(config, seed=7), 3)
    shards = []
    for rank in range(2):
        rank_of(rank, 2)
        shards.append(_take(build_train_loader(config, seed=7), 3))
    assert _same(whole, [one + two for one, two in zip(*shards, strict=True)])
    rank_of(0, 3)
    with pytest.raises(DatasetError, match="SOLVER.IMS_PER_BATCH 4 cannot be shared equally by 3 processes"):
        build_train_loader(config)


def test_global_random_states_are_left_alone(config):
    def draw() -> tuple:
        return random.random(), np.random.rand(), torch.rand(1).item()

    def seed() -> None:
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)

    seed()
    expected = draw()
    loader = build_train_loader(config, seed=7)
    seed()
    _take(loader, 2)
    assert draw() == expected


def test_seed_of_the_config(config):
    config.SEED = 11
    assert _same(_take(build_train_loader(config), 2), _take(build_train_loader(config, seed=11), 2))


def test_images_without_annotations(config, tmp_path, discs, written):
    coco = discs(images=3)
    coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] != 2]
    for one in coco["annotations"]:
        one["iscrowd"] = int(one["image_id"] == 3)
    register_coco("t_empty", *written(tmp_path / "empty", coco))
    config.DATASETS.TRAIN = ("t_empty",)
    shown = {item["image_id"] for batch in _take(build_train_loader(config, seed=0), 4) for item in batch}
    assert shown == {1}
    config.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    batches = _take(build_train_loader(config, seed=0), 4)
    assert {item["image_id"] for batch in batches for item in batch} == {1, 2, 3}
    config.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
    coco["annotations"].clear()
    register_coco("t_empty", *written(tmp_path / "empty", coco))
    with pytest.raises(DatasetError, match="no image to train on .* all are without annotations"):
        build_train_loader(config)
    config.DATASETS.TRAIN = ()
    with pytest.raises(DatasetError, match="name a data set"):
        build_train_loader(config)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_stops_with_its_name(config, workers):
    path = _damage(config, 3)
    config.DATALOADER.NUM_WORKERS = workers
    for loader in (build_train_loader(config, seed=0), build_test_loader(config, "t_loader")):
        with pytest.raises(CorruptImageError, match="image3.tif.*DATALOADER.SKIP_CORRUPT_IMAGES") as caught:
            _take(loader, 5)
        assert caught.value.file_name == path


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_skipped_counted_and_logged_if_allowed(config, workers, caplog):
    path = _damage(config, 3)
    config.DATALOADER.SKIP_CORRUPT_IMAGES, config.DATALOADER.NUM_WORKERS = True, workers
    loader = build_train_loader(config, seed=0)
    with caplog.at_level(logging.WARNING):
        batches = _take(loader, 5)  # 20 samples, four epochs
    assert all(len(batch) == 4 for batch in batches)
    assert 3 not in {item["image_id"] for batch in batches for item in batch}
    assert loader.skipped == [path] * 4 and caplog.text.count("Skipped") == 1
    test = build_test_loader(config, "t_loader")
    assert [item["image_id"] for (item,) in test] == [1, 2, 4, 5] and test.skipped == [path]
    assert len(list(build_val_loss_loader(config, "t_loader"))) == 5


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_vanishes_is_named_or_skipped(config, workers):
    config.DATALOADER.NUM_WORKERS = workers
    train, test = build_train_loader(config, seed=0), build_test_loader(config, "t_loader")
    config.DATALOADER.SKIP_CORRUPT_IMAGES = True
    skipping = build_test_loader(config, "t_loader")
    path = Path(_folder(config)) / "image2.tif"
    path.unlink()
    for loader in (train, test):
        with pytest.raises(CorruptImageError, match=r"image2\.tif.*No such file.*SKIP_CORRUPT_IMAGES") as caught:
            _take(loader, 5)
        assert caught.value.file_name == str(path)
    assert [item["image_id"] for (item,) in skipping] == [1, 3, 4, 5] and skipping.skipped == [str(path)]


def test_wrong_percentiles_are_refused_before_the_first_image(config):
    config.INPUT.STRETCH_PERCENTILES = (99.0, 1.0)
    with pytest.raises(ValueError, match="INPUT.STRETCH_PERCENTILES"):
        build_train_loader(config)


def test_nothing_but_corrupt_images(config):
    for number in range(1, 6):
        _damage(config, number)
    config.DATALOADER.SKIP_CORRUPT_IMAGES = True
    with pytest.raises(DatasetError, match="none of the 5 images can be used"):
        _take(build_train_loader(config, seed=0), 1)


def test_test_loader_shards(config, rank_of):
    config.INPUT.MIN_SIZE_TEST = 24
    shown = []
    for rank in range(2):
        rank_of(rank, 2)
        loader = build_test_loader(config, "t_loader")
        batches = list(loader)
        assert len(loader) == len(batches) and all(len(batch) == 1 for batch in batches)
        assert "instances" not in batches[0][0] and batches[0][0]["image"].shape == (3, 24, 32)
        shown.append([item["image_id"] for (item,) in batches])
    assert shown == [[1, 2, 3], [4, 5]]


def test_validation_loss_loader_is_not_random_and_even(config, rank_of):
    one, two = (list(build_val_loss_loader(config, "t_loader")) for _ in range(2))
    assert _same(one, two) and [batch[0]["image_id"] for batch in one] == [1, 2, 3, 4, 5]
    assert one[0][0]["image"].shape == (3, 48, 64) and len(one[0][0]["instances"]) == 3
    shown = []
    for rank in range(2):
        rank_of(rank, 2)
        shown.append([item["image_id"] for (item,) in build_val_loss_loader(config, "t_loader")])
    assert shown == [[1, 3, 5], [2, 4, 1]]  # as many on each, or the processes would wait for each other


@pytest.mark.parametrize(("limit", "expected"), [(4, [0, 8, 4]), (1, [0, 4]), (50, [0, 1, 2, 3, 5, 6, 7, 8, 4])])
def test_truth_is_looked_at_of_each_cell_type(cfg, tmp_path, discs, written, limit, expected):
    coco = discs(images=9)
    for place, image in enumerate(coco["images"]):
        image["cell_type"] = "rare" if place == 4 else "common"
    register_coco(f"t_types_{limit}", *written(tmp_path, coco))
    ids = [image["id"] for image in coco["images"]]
    taken = [ids.index(batch[0]["image_id"]) for batch in build_truth_loader(cfg, f"t_types_{limit}", limit)]
    assert taken == expected


def test_crowds_alone_are_nothing_to_learn_from(cfg, tmp_path, discs, written):
    coco = discs(images=2)
    for annotation in coco["annotations"]:
        annotation["iscrowd"] = 1
    register_coco("t_crowds", *written(tmp_path, coco))
    cfg.DATASETS.TRAIN, cfg.INPUT.MAPPER = ("t_crowds",), "SemanticMapper"
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    with pytest.raises(DatasetError, match="none of the 2 images has a cell"):
        build_train_loader(cfg)
