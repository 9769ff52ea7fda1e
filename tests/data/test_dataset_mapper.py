"""The mapper: the same as Detectron2's way, image and outlines together, crowds and corrupt files."""

import copy
import itertools

import numpy as np
import pytest
import tifffile
import torch
from detectron2.data import transforms as T
from detectron2.data.detection_utils import annotations_to_instances, transform_instance_annotations
from detectron2.structures import BitMasks, PolygonMasks, polygons_to_bitmask
from fvcore.transforms.transform import CropTransform
from pycocotools import mask as mask_util

from cellseg_d2.data.dataset_mapper import CellDatasetMapper
from cellseg_d2.data.datasets import load, register_coco
from cellseg_d2.data.image_io import CorruptImageError
from cellseg_d2.data.instances import transform_instances
from cellseg_d2.data.loader import build_train_loader
from cellseg_d2.data.transforms import RandomRot90, Rot90Transform, build_augmentations


@pytest.fixture
def records(tmp_path, discs, written):
    register_coco("t_mapper", *written(tmp_path, discs(images=2, cells=5)))
    return load("t_mapper")


def _as_rle(record: dict) -> dict:
    record = copy.deepcopy(record)
    size = record["height"], record["width"]
    for annotation in record["annotations"]:
        annotation["segmentation"] = mask_util.merge(mask_util.frPyObjects(annotation["segmentation"], *size))
    return record


@pytest.mark.parametrize(
    "transforms",
    [
        [],
        [T.HFlipTransform(64)],
        [T.VFlipTransform(48)],
        [T.ResizeTransform(48, 64, 97, 131)],
        [Rot90Transform(48, 64, 1)],
        [T.ResizeTransform(48, 64, 72, 96), T.HFlipTransform(96), Rot90Transform(72, 96, 3)],
    ],
)
@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_equals_detectron2(records, transforms, mask_format):
    transforms = T.TransformList(transforms)
    size = transforms.apply_image(np.zeros((48, 64, 3), dtype=np.uint8)).shape[:2]
    annotations = records[0]["annotations"]
    ours = transform_instances(annotations, transforms, size, mask_format)
    theirs = annotations_to_instances(
        [transform_instance_annotations(copy.deepcopy(one), transforms, size) for one in annotations], size, mask_format
    )
    assert ours.image_size == theirs.image_size and torch.equal(ours.gt_classes, theirs.gt_classes)
    if mask_format == "polygon":
        torch.testing.assert_close(ours.gt_boxes.tensor, theirs.gt_boxes.tensor, rtol=0, atol=1e-3)
        for one, other in zip(ours.gt_masks.polygons, theirs.gt_masks.polygons, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)
    else:
        assert torch.equal(ours.gt_masks.tensor, theirs.gt_masks.tensor)
        assert torch.equal(ours.gt_boxes.tensor, theirs.gt_masks.get_bounding_boxes().tensor)


def test_outlines_follow_the_image_through_all_augmentations(tmp_path, cfg):
    """Bright discs on black: what the image shows bright and what the masks say must be the same pixels."""
    yy, xx = np.mgrid[:120, :160] + 0.5
    angles = np.arange(64) * 2 * np.pi / 64
    image, annotations = np.zeros((120, 160), dtype=np.uint8), []
    for x, y, radius in [(30, 30, 14), (80, 60, 20), (130, 90, 17), (40, 95, 12)]:
        image[(xx - x) ** 2 + (yy - y) ** 2 < radius**2] = 200
        outline = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1).reshape(-1)
        annotations.append({"category_id": 0, "segmentation": [outline.tolist()]})
    tifffile.imwrite(tmp_path / "discs.tif", image)
    record = {"file_name": str(tmp_path / "discs.tif"), "image_id": 1, "height": 120, "width": 160}
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP, cfg.INPUT.RANDOM_ROT90 = (120, 180), "horizontal", True
    cfg.INPUT.RANDOM_ZOOM, cfg.INPUT.INTENSITY_JITTER = (0.8, 1.4), 0.2
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [100, 100]
    cfg.INPUT.MASK_FORMAT = "bitmask"
    mapper = CellDatasetMapper(cfg, is_train=True)
    for seed in range(12):
        np.random.seed(seed)
        item = mapper({**record, "annotations": annotations})
        bright = item["image"][0].float() > item["image"].float().max() / 2
        masked = item["instances"].gt_masks.tensor.any(dim=0)
        union = (bright | masked).sum().item()
        assert not union or (bright & masked).sum().item() / union > 0.93


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_polygons_and_run_lengths_give_the_same_instances(records, mask_format):
    """Three discs: the crop takes a part of the first two, and leaves a sliver of the third."""
    angles = np.arange(32) * 2 * np.pi / 32
    discs = [(15 + 7 * np.cos(angles), 15 + 7 * np.sin(angles)), (40 + 7 * np.cos(angles), 20 + 7 * np.sin(angles))]
    discs.append((50 + 6 * np.cos(angles), 35 + 6 * np.sin(angles)))
    plain = {**records[0], "annotations": []}
    for disc in discs:
        outline = np.stack(disc, axis=1).reshape(-1).tolist()
        plain["annotations"].append({"category_id": 0, "segmentation": [outline]})
    mixed = copy.deepcopy(plain)
    mixed["annotations"][1] = _as_rle(plain)["annotations"][1]
    transforms = T.TransformList([CropTransform(12, 5, 33, 35), T.HFlipTransform(33)])
    results = [
        transform_instances(record["annotations"], transforms, (35, 33), mask_format)
        for record in (plain, _as_rle(plain), mixed)
    ]
    for result in results:
        assert type(result.gt_masks) is {"polygon": PolygonMasks, "bitmask": BitMasks}[mask_format]
        assert len(result) == 2
        assert (result.gt_boxes.tensor - torch.tensor([[23.0, 3, 33, 17], [0, 8, 12, 22]])).abs().max() <= 1
        area = result.gt_masks.area() if mask_format == "polygon" else result.gt_masks.tensor.sum(dim=(1, 2))
        ratio = torch.as_tensor(area).float() / torch.tensor([117.0, 139.7])
        assert ((ratio > 0.93) & (ratio < 1.07)).all()


def test_boxes_are_those_of_the_cropped_masks(cfg, records):
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [24, 24]
    mapper = CellDatasetMapper(cfg, is_train=True)
    for seed in range(10):
        np.random.seed(seed)
        instances = mapper(records[0])["instances"]
        assert torch.equal(instances.gt_boxes.tensor, instances.gt_masks.get_bounding_boxes().tensor)
        assert (instances.gt_boxes.tensor >= 0).all() and (instances.gt_boxes.tensor <= 24).all()
        assert (instances.gt_masks.area() >= 10 - 1e-6).all()


def test_crowds_are_left_out(cfg, records):
    record = _as_rle(records[0])
    record["annotations"][2]["iscrowd"] = 1
    assert len(CellDatasetMapper(cfg, is_train=True)(record)["instances"]) == 4


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_an_image_without_cells(cfg, records, mask_format):
    cfg.INPUT.MASK_FORMAT = mask_format
    instances = CellDatasetMapper(cfg, is_train=True)({**records[0], "annotations": []})["instances"]
    assert len(instances) == 0 and instances.gt_boxes.tensor.shape == (0, 4) and len(instances.gt_masks) == 0
    assert instances.gt_classes.dtype == torch.int64


def test_outlines_beyond_the_image_are_clipped_or_dropped(cfg, records):
    outlines = [[-5, 10, 8, 10, 8, 20, -5, 20]], [[-9, -9, -2, -9, -2, -2]]
    annotations = [{"category_id": 0, "segmentation": outline} for outline in outlines]
    instances = CellDatasetMapper(cfg, is_train=True)({**records[0], "annotations": annotations})["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[0, 10, 8, 20]]


def test_modes(cfg, records):
    cfg.INPUT.MIN_SIZE_TEST = 96
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    before = copy.deepcopy(records[0])
    test = CellDatasetMapper(cfg, is_train=False)(records[0])
    assert set(test) == {"image", "file_name", "image_id", "height", "width"}
    assert test["image"].dtype == torch.uint8 and test["image"].shape == (3, 96, 128)
    assert (test["height"], test["width"]) == (48, 64)
    loss = CellDatasetMapper(cfg, is_train=False, with_instances=True)
    one, two = loss(records[0]), loss(records[0])
    assert torch.equal(one["image"], test["image"]) and len(one["instances"]) == 5
    assert torch.equal(one["instances"].gt_boxes.tensor, two["instances"].gt_boxes.tensor)
    assert records[0] == before


def test_colour_order(cfg, tmp_path):
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[..., 0] = 200  # red in the file
    tifffile.imwrite(tmp_path / "red.tif", image, photometric="rgb")
    record = {"file_name": str(tmp_path / "red.tif"), "image_id": 1, "height": 8, "width": 8}
    assert CellDatasetMapper(cfg, is_train=False)(record)["image"][:, 0, 0].tolist() == [0, 0, 200]
    cfg.INPUT.FORMAT = "RGB"
    assert CellDatasetMapper(cfg, is_train=False)(record)["image"][:, 0, 0].tolist() == [200, 0, 0]
    cfg.INPUT.FORMAT = "L"
    with pytest.raises(ValueError, match="INPUT.FORMAT: 'L'"):
        CellDatasetMapper(cfg, is_train=False)
    cfg.INPUT.FORMAT, cfg.INPUT.MASK_FORMAT = "BGR", "rle"
    with pytest.raises(ValueError, match="INPUT.MASK_FORMAT: 'rle'"):
        CellDatasetMapper(cfg, is_train=False)


def test_size_that_disagrees_with_the_annotations(cfg, records):
    tifffile.imwrite(records[0]["file_name"], np.zeros((64, 48), dtype=np.uint8))
    with pytest.raises(CorruptImageError, match="image1.tif: it has 48 x 64 pixels, its annotations say 64 x 48"):
        CellDatasetMapper(cfg, is_train=True)(records[0])


def _everything(cfg) -> None:
    """All augmentations of the config."""
    cfg.INPUT.RANDOM_ROLL, cfg.INPUT.RANDOM_ROTATION, cfg.INPUT.RANDOM_ZOOM = True, 30.0, (0.9, 1.3)
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.RANDOM_ROT90 = "horizontal", True
    cfg.INPUT.INTENSITY_JITTER, cfg.INPUT.DEFOCUS_JITTER = 0.2, 1.5
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [32, 40]
    cfg.INPUT.CROP.FAVOUR_CELLS = 0.5


@pytest.mark.parametrize("kind", ["polygons", "runs"])
@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_the_same_samples_with_any_number_of_workers(cfg, tmp_path, discs, written, kind, mask_format):
    coco = discs(images=3, cells=6)
    if kind == "runs":
        for one in coco["annotations"]:
            rle = mask_util.merge(mask_util.frPyObjects([one["segmentation"][0]], 48, 64))
            one["segmentation"] = {"size": [48, 64], "counts": rle["counts"].decode()}
    register_coco(f"t_mapper_{kind}_{mask_format}", *written(tmp_path, coco))
    cfg.DATASETS.TRAIN, cfg.SOLVER.IMS_PER_BATCH = (f"t_mapper_{kind}_{mask_format}",), 4
    cfg.INPUT.MASK_FORMAT = mask_format
    _everything(cfg)

    def samples(workers: int, seed: int) -> list[tuple]:
        cfg.DATALOADER.NUM_WORKERS = workers
        batches = itertools.islice(iter(build_train_loader(cfg, seed=seed)), 4)
        found = [(item["image"].numpy().tobytes(), item["instances"]) for batch in batches for item in batch]
        masks = [
            own.gt_masks.polygons if mask_format == "polygon" else own.gt_masks.tensor.tolist() for _, own in found
        ]
        numbers = [[[p.tolist() for p in polygons] for polygons in m] if mask_format == "polygon" else m for m in masks]
        return [(image, own.gt_boxes.tensor.tolist(), m) for (image, own), m in zip(found, numbers)]

    alone = samples(0, seed=3)
    assert alone == samples(2, seed=3)
    assert alone != samples(0, seed=4) and len({image for image, _, _ in alone}) == 16
    assert sum(len(boxes) for _, boxes, _ in alone) > 16


def test_grey_images_are_the_same_through_one_channel_as_through_three(cfg, records):
    class Custom(RandomRot90):
        """Not known to treat each channel alone."""

    _everything(cfg)
    plain = build_augmentations(cfg, is_train=True)
    custom = [Custom() if type(one) is RandomRot90 else one for one in plain]
    narrow, wide = (CellDatasetMapper(augmentations=each, with_instances=True) for each in (plain, custom))
    assert narrow.channelwise and not wide.channelwise
    for seed in range(12):
        np.random.seed(seed)
        one = narrow(records[0])
        np.random.seed(seed)
        two = wide(records[0])
        assert (one["image"].int() - two["image"].int()).abs().max() <= 1 and one["image"].shape == two["image"].shape
        assert torch.equal(one["instances"].gt_boxes.tensor, two["instances"].gt_boxes.tensor)


def test_colour_images_keep_their_channels(cfg, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "colour.tif", image, photometric="rgb")
    record = {"file_name": str(tmp_path / "colour.tif"), "image_id": 1, "height": 48, "width": 64, "annotations": []}
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    shown = CellDatasetMapper(cfg, is_train=True)(record)["image"].numpy()
    expected = image[:, :, ::-1].transpose(2, 0, 1)
    assert (shown == expected).all() or (shown == expected[:, :, ::-1]).all()


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_cells_that_are_added_before_the_augmentations(cfg, records, mask_format):
    """A white square: wherever image and instances go, they are together."""
    seen = []

    def add(image: np.ndarray, annotations: list[dict]) -> tuple[np.ndarray, list[dict]]:
        seen.append((image.shape, image.dtype, len(annotations)))
        image = image // 2
        image[10:26, 20:40] = 255
        annotations.append({"category_id": 7, "segmentation": [[20, 10, 40, 10, 40, 26, 20, 26]]})
        return image, annotations

    _everything(cfg)
    cfg.INPUT.MASK_FORMAT, cfg.INPUT.INTENSITY_JITTER, cfg.INPUT.DEFOCUS_JITTER = mask_format, 0.0, 0.0
    before, mapper, shares = copy.deepcopy(records[0]), CellDatasetMapper(cfg, is_train=True, extend=add), []
    for seed in range(20):
        np.random.seed(seed)
        item = mapper(records[0])
        added = item["instances"][item["instances"].gt_classes == 7]
        size = item["image"].shape[1:]
        if mask_format == "polygon":
            masks = [polygons_to_bitmask(own, *size) for own in added.gt_masks.polygons]
            masks = np.any([np.zeros(size, bool), *masks], axis=0)
        else:
            masks = added.gt_masks.tensor.any(dim=0).numpy()
        white = item["image"][0].numpy() > 190
        if white.sum() > 50:
            shares.append((white & masks).sum() / (white | masks).sum())
    assert set(seen) == {((48, 64, 3), np.dtype(np.uint8), 5)} and records[0] == before
    assert len(shares) > 10 and min(shares) > 0.8
    CellDatasetMapper(cfg, is_train=False, extend=add)(records[0])
    assert len(seen) == 20  # without instances there is nothing to extend
