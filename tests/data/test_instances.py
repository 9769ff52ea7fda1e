"""Image and instances together: any chain of transforms, for polygons and masks, against masks that move one by one."""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances, polygons_to_bitmask
from fvcore.transforms.transform import CropTransform, Transform, TransformList
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from cellseg_d2.data.instances import CellOutlines, transform_instances
from cellseg_d2.data.rle import rle_to_polygons
from cellseg_d2.data.roll_and_rotate import RollTransform, RotateTransform, flat_list, transform_map
from cellseg_d2.data.transforms import Rot90Transform

HEIGHT, WIDTH = 48, 64


def encoded(mask: np.ndarray) -> dict:
    """Compressed run lengths."""
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def cells(rng: np.random.Generator, count: int, overlap: bool) -> np.ndarray:
    """N x H x W bool: each cell two crossing bars, one piece without holes; some at the frame."""
    masks = np.zeros((count, HEIGHT, WIDTH), bool)
    for mask in masks:
        row, column = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        up, down, left, right = rng.integers(1, 10, 4)
        mask[max(row - up, 0) : row + down, column : column + 3] = True
        mask[row : row + 3, max(column - left, 0) : column + right] = True
    if not overlap:
        masks = _apart(masks)
    return np.array([mask for mask in masks if mask.any()]).reshape(-1, HEIGHT, WIDTH)


def _apart(masks: np.ndarray) -> list[np.ndarray]:
    """Those masks that overlap none before."""
    kept, taken = [], np.zeros((HEIGHT, WIDTH), bool)
    for mask in masks:
        if not (mask & taken).any():
            kept.append(mask)
            taken |= mask
    return kept


def annotations(masks: np.ndarray, kind: str) -> list[dict]:
    """Dataset annotations; the class of each is its number."""
    rles = [encoded(mask) for mask in masks]
    outlines = [
        rle_to_polygons(rle) if kind == "polygons" or (kind == "mixed" and k % 2) else rle for k, rle in enumerate(rles)
    ]
    return [{"category_id": k, "segmentation": outline} for k, outline in enumerate(outlines)]


def chain(rng: np.random.Generator, kinds: list[str]) -> TransformList:
    """Lossless transforms of these kinds."""
    (height, width), transforms = (HEIGHT, WIDTH), []
    for kind in kinds:
        if kind == "roll":
            step = RollTransform(height, width, int(rng.integers(height)), int(rng.integers(width)))
        elif kind == "flip":
            step = T.HFlipTransform(width) if rng.random() < 0.5 else T.VFlipTransform(height)
        elif kind == "turn":
            step = Rot90Transform(height, width, int(rng.integers(4)))
        else:
            h, w = int(rng.integers(height // 2, height + 1)), int(rng.integers(width // 2, width + 1))
            step = CropTransform(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
        height, width = step.apply_image(np.zeros((height, width), np.uint8)).shape
        transforms.append(step)
    return TransformList(transforms)


def is_sliver(mask: np.ndarray, before: int) -> bool:
    """The rule, in words: less than 10 pixels or less than a tenth."""
    return mask.sum() < 10 or mask.sum() < 0.1 * before


def one_by_one(mask: np.ndarray, transforms: Transform) -> list[np.ndarray]:
    """What becomes of a single mask, by slicing and NumPy alone: the pieces, in any order."""
    pieces = [mask]
    for step in flat_list(transforms):
        moved = []
        for piece in pieces:
            if isinstance(step, RollTransform):
                height, width = piece.shape
                upper, left = np.arange(height) < height - step.down, np.arange(width) < width - step.right
                parts = [piece & rows[:, None] & columns for rows in (upper, ~upper) for columns in (left, ~left)]
                parts = [np.roll(part, (step.down, step.right), (0, 1)) for part in parts if part.any()]
                moved += [p for p in parts if len(parts) == 1 or not is_sliver(p, piece.sum())]
            elif isinstance(step, CropTransform):
                part = piece[step.y0 : step.y0 + step.h, step.x0 : step.x0 + step.w]
                whole = part.sum() == piece.sum()
                moved += [part] if part.any() and (whole or not is_sliver(part, piece.sum())) else []
            else:
                moved.append(step.apply_image(piece.astype(np.uint8)) > 0)
        pieces = moved
    return pieces


def stack(instances: Instances) -> np.ndarray:
    """N x H x W bool of either kind of masks."""
    if hasattr(instances.gt_masks, "polygons"):
        filled = [polygons_to_bitmask(own, *instances.image_size) for own in instances.gt_masks.polygons]
        return np.array(filled, dtype=bool).reshape(-1, *instances.image_size)
    return instances.gt_masks.tensor.numpy()


def keyed(classes: list[int], masks: list[np.ndarray]) -> list[tuple[int, bytes]]:
    """For a comparison that does not mind the order of an annotation's pieces."""
    return sorted((number, np.ascontiguousarray(mask).tobytes()) for number, mask in zip(classes, masks, strict=True))


KINDS = st.lists(st.sampled_from(["roll", "flip", "turn", "crop"]), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("kind", "mask_format"),
    [("polygons", "polygon"), ("polygons", "bitmask"), ("runs", "polygon"), ("runs", "bitmask"), ("mixed", "bitmask")],
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), kinds=KINDS, overlap=st.booleans())
def test_lossless_transforms_are_exact(kind, mask_format, seed, kinds, overlap):
    rng = np.random.default_rng(seed)
    masks, transforms = cells(rng, 12, overlap), chain(rng, kinds)
    size = transforms.apply_image(np.zeros((HEIGHT, WIDTH), np.uint8)).shape
    found = transform_instances(annotations(masks, kind), transforms, size, mask_format)
    expected = [(k, piece) for k, mask in enumerate(masks) for piece in one_by_one(mask, transforms)]
    moved, classes = stack(found), found.gt_classes.tolist()
    assert keyed(classes, moved) == keyed(*([list(side) for side in zip(*expected)] or ([], [])))
    assert classes == sorted(classes)
    boxes = [[*np.argwhere(m)[:, ::-1].min(0), *(np.argwhere(m)[:, ::-1].max(0) + 1)] for m in moved]
    assert found.gt_boxes.tensor.tolist() == boxes
    if not overlap:  # the image below each instance is that of its own cell
        image = transforms.apply_image(
            (masks * np.arange(1, len(masks) + 1)[:, None, None]).sum(axis=0).astype(np.uint8)
        )
        assert all((image[mask] == number + 1).all() for number, mask in zip(classes, moved))


def discs(rng: np.random.Generator, count: int) -> tuple[list[dict], np.ndarray]:
    """Annotations (32 corners each) of overlapping discs, their class the number, and N x H x W masks."""
    angles = np.arange(32) * 2 * np.pi / 32
    found = []
    for number in range(count):
        centre, radius = rng.uniform(15, [185, 135]), rng.uniform(8, 14)
        corners = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        found.append({"category_id": number, "segmentation": [corners.reshape(-1).tolist()]})
    return found, np.array([polygons_to_bitmask([np.array(a["segmentation"][0])], 150, 200) for a in found])


LOSSY = {
    "turn": [RotateTransform(150, 200, 33, fill=(0.0,))],
    "zoom in": [T.ResizeTransform(150, 200, 210, 280)],
    "zoom out": [T.ResizeTransform(150, 200, 110, 147)],
    "all": [
        RollTransform(150, 200, 70, 90),
        RotateTransform(150, 200, -110, window=(20, 10, 160, 130), fill=(0.0,)),
        T.ResizeTransform(130, 160, 169, 208),
        CropTransform(11, 7, 180, 140),
    ],
}


@pytest.mark.parametrize("name", LOSSY)
def test_masks_that_share_layers_are_what_each_alone_would_be(name):
    transforms = TransformList(LOSSY[name])
    _, masks = discs(np.random.default_rng(1), 40)
    several = [{"category_id": k, "segmentation": encoded(mask)} for k, mask in enumerate(masks)]
    image = transforms.apply_image(masks[0].astype(np.uint8))
    together = transform_instances(several, transforms, image.shape, "bitmask")
    classes, moved = together.gt_classes.tolist(), stack(together)
    assert len(moved) > 20 and (masks.sum(axis=0) > 1).any()
    alone = [
        (k, mask)
        for k, one in enumerate(several)
        for mask in stack(transform_instances([one], transforms, image.shape, "bitmask"))
    ]
    assert keyed(classes, moved) == keyed(*(list(side) for side in zip(*alone)))
    for number in set(classes):
        warped = masks[number].astype(np.int32)
        for step in transforms.transforms:
            warped = transform_map(warped, step)
        own = moved[np.array(classes) == number].any(axis=0)
        assert not (own & (warped != 1)).any()
        assert (own == (warped == 1)).all() or name == "all"  # a seam may leave slivers


@pytest.mark.parametrize("name", LOSSY)
def test_polygons_follow_turns_and_zooms(name):
    """Against each disc drawn and warped as an image, linearly: intersection over union above 0.9, 0.95 on average."""
    transforms = TransformList(LOSSY[name])
    several, masks = discs(np.random.default_rng(2), 12)
    overlaps = []
    for one, mask in zip(several, masks):
        image = transforms.apply_image(mask.astype(np.float32)) > 0.5
        for mask_format in ("polygon", "bitmask"):
            own = stack(transform_instances([one], transforms, image.shape, mask_format)).any(axis=0)
            if own.sum() > 60:
                overlaps.append((own & image).sum() / (own | image).sum())
    assert len(overlaps) >= 8 and min(overlaps) > 0.9 and np.mean(overlaps) > 0.95


@pytest.mark.parametrize("kind", ["polygons", "runs"])
@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_a_cell_across_both_seams_becomes_four(kind, mask_format):
    masks = np.zeros((2, HEIGHT, WIDTH), bool)
    masks[0, 20:32, 30:46], masks[1, 1:9, 1:9] = True, True
    several = annotations(masks, kind)
    several[0]["category_id"], several[1]["category_id"] = 5, 3
    found = transform_instances(several, RollTransform(HEIGHT, WIDTH, 20, 24), (HEIGHT, WIDTH), mask_format)
    assert found.gt_classes.tolist() == [5, 5, 5, 5, 3]
    expected = [[0, 0, 6, 4], [54, 0, 64, 4], [0, 40, 6, 48], [54, 40, 64, 48]]
    assert sorted(found.gt_boxes.tensor[:4].tolist()) == sorted(expected)
    assert found.gt_boxes.tensor[4].tolist() == [25, 21, 33, 29]
    assert sorted(stack(found).sum(axis=(1, 2)).tolist()) == [24, 40, 48, 64, 80]


def test_pieces_in_one_part_stay_one_instance():
    """A U whose arms lie beyond the seam, and an instance of two polygons on both sides of another."""
    u_shape = [10, 10, 13, 10, 13, 30, 20, 30, 20, 10, 23, 10, 23, 34, 10, 34]
    two = [[40, 20, 46, 20, 46, 26, 40, 26], [52, 20, 58, 20, 58, 26, 52, 26]]
    several = [{"category_id": 0, "segmentation": [u_shape]}, {"category_id": 1, "segmentation": two}]
    for mask_format in ("polygon", "bitmask"):
        found = transform_instances(several, RollTransform(HEIGHT, WIDTH, 28, 0), (HEIGHT, WIDTH), mask_format)
        assert found.gt_classes.tolist() == [0, 0, 1]  # seam at row 20: arms together; the squares only touch it
        found = transform_instances(several, RollTransform(HEIGHT, WIDTH, 0, 15), (HEIGHT, WIDTH), mask_format)
        assert found.gt_classes.tolist() == [0, 1, 1]  # seam at column 49, between the squares
        assert sorted(stack(found).sum(axis=(1, 2)).tolist()) == [36, 36, 172]


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_slivers_of_a_shift(mask_format):
    apart = [[40, 20, 43, 20, 43, 23, 40, 23], [52, 20, 55, 20, 55, 23, 52, 23]]  # 9 pixels on each side
    beyond = [[-20, 10, 0.9, 10, 0.9, 20, -20, 20]]  # 9 of 209 pixels are in the image
    small = [[30, 30, 33, 30, 33, 33, 30, 33]]  # 9 pixels, whole
    several = [{"category_id": k, "segmentation": outline} for k, outline in enumerate((apart, beyond, small))]
    found = transform_instances(several, RollTransform(HEIGHT, WIDTH, 5, 15), (HEIGHT, WIDTH), mask_format)
    assert found.gt_classes.tolist() == [2] and found.gt_boxes.tensor.tolist() == [[45, 35, 48, 38]]
    together = transform_instances(several[:1], RollTransform(HEIGHT, WIDTH, 5, 5), (HEIGHT, WIDTH), mask_format)
    assert len(together) == 1  # 18 pixels in one part


def test_turned_polygons_end_at_the_frame():
    several, _ = discs(np.random.default_rng(3), 60)
    turn = RotateTransform(150, 200, 70)
    found = transform_instances(several, turn, (150, 200), "polygon")
    points = np.concatenate([polygon.reshape(-1, 2) for own in found.gt_masks.polygons for polygon in own])
    assert points.min() == 0 and (points <= [200, 150]).all() and 20 < len(found) < 60
    assert torch.equal(found.gt_boxes.tensor, found.gt_masks.get_bounding_boxes().tensor)
    assert found.gt_masks.area().min() >= 10
    # What lies beyond the frame is in no image: it does not come in with the turn
    beyond = [{"category_id": 0, "segmentation": [[-40, 70, 30, 70, 30, 80, -40, 80]]}]
    slight = RotateTransform(150, 200, 10)
    assert transform_instances(beyond, slight, (150, 200), "polygon").gt_masks.area().sum() == pytest.approx(300)


def test_centres():
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[0, 4:10, 20:30], masks[1, 40:42, 2:6] = True, True
    outlines = CellOutlines.of(annotations(masks[:2], "mixed") + annotations(masks[2:], "runs"), as_polygons=False)
    assert sorted(outlines.centres().tolist()) == [[4, 41], [25, 7]]
    assert CellOutlines.of([], as_polygons=True).centres().shape == (0, 2)


def test_run_lengths_of_another_size():
    several = [{"category_id": 0, "segmentation": encoded(np.ones(shape, bool))} for shape in ((20, 30), (30, 20))]
    with pytest.raises(ValueError, match=r"run lengths of \[30, 20\] pixels in an image of \[20, 30\]"):
        transform_instances(several, TransformList([]), (20, 30), "bitmask")


def test_masks_can_be_written_to():
    found = transform_instances(
        annotations(np.ones((1, HEIGHT, WIDTH), bool), "runs"), T.NoOpTransform(), (HEIGHT, WIDTH), "bitmask"
    )
    found.gt_masks.tensor[0, :, :10] = False
    assert torch.equal(found.gt_masks.get_bounding_boxes().tensor, torch.tensor([[10.0, 0, 64, 48]]))
