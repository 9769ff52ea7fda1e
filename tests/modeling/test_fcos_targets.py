"""Assignment of locations to boxes against the definition, written out location by location."""

import math

import pytest
import torch

from cellseg_d2.modeling.proposal_generator.fcos_targets import assign_targets, centerness_targets, level_locations

OPTIONS = {"strides": [8, 16, 32], "sizes_of_interest": [32, 64], "num_classes": 5}
LEVELS = [(12, 16), (6, 8), (3, 4)]


def by_definition(boxes, classes, radius):
    """Labels and box indices, one location and one box at a time."""
    labels, index = [], []
    ends = [-1, *OPTIONS["sizes_of_interest"], math.inf]
    for level, ((h, w), stride) in enumerate(zip(LEVELS, OPTIONS["strides"])):
        for x, y in level_locations(h, w, stride).tolist():
            best, best_area = -1, math.inf
            for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
                cx, cy, r = (x0 + x1) / 2, (y0 + y1) / 2, math.inf if radius is None else radius * stride
                inside = max(x0, cx - r) < x < min(x1, cx + r) and max(y0, cy - r) < y < min(y1, cy + r)
                fits = ends[level] <= max(x - x0, y - y0, x1 - x, y1 - y) <= ends[level + 1]
                area = (x1 - x0) * (y1 - y0)
                if inside and fits and area < best_area:
                    best, best_area = i, area
            index.append(best)
            labels.append(5 if best < 0 else int(classes[best]))
    return labels, index


def some_boxes(n, seed):
    """Boxes on a half-pixel grid (ties happen), some beyond the image, some twice."""
    g = torch.Generator().manual_seed(seed)
    corner = torch.randint(-20, 240, (n, 2), generator=g) / 2
    size = torch.randint(1, 160, (n, 2), generator=g) / 2
    boxes = torch.cat([corner, corner + size], dim=1)
    return torch.cat([boxes, boxes[: n // 4]]), torch.randint(0, 5, (n + n // 4,), generator=g)


@pytest.mark.parametrize("radius", [None, 1.5, 2.5])
@pytest.mark.parametrize("n", [0, 1, 40])
def test_definition(n, radius):
    boxes, classes = some_boxes(n, seed=n)
    got = assign_targets(LEVELS, boxes, classes, radius=radius, **OPTIONS)
    labels, index = by_definition(boxes, classes, radius)
    assert got.labels.tolist() == labels
    assert got.box_index.tolist() == index
    positive = got.box_index >= 0
    assert (got.distances[positive] > 0).all() and not got.distances[~positive].any()


def test_distances_give_the_box_back():
    boxes, classes = some_boxes(40, seed=1)
    got = assign_targets(LEVELS, boxes, classes, radius=1.5, **OPTIONS)
    strides = torch.cat([torch.full((h * w, 1), s) for (h, w), s in zip(LEVELS, OPTIONS["strides"])])
    xy = torch.cat([level_locations(h, w, s) for (h, w), s in zip(LEVELS, OPTIONS["strides"])])
    positive = got.box_index >= 0
    ltrb = (got.distances * strides)[positive]
    found = torch.cat([xy[positive] - ltrb[:, :2], xy[positive] + ltrb[:, 2:]], dim=1)
    assert torch.equal(found, boxes[got.box_index[positive]])


def test_centerness():
    assert centerness_targets(torch.tensor([[2.0, 3.0, 2.0, 3.0]])).item() == 1
    assert centerness_targets(torch.tensor([[1.0, 1.0, 4.0, 1.0]])).item() == pytest.approx(0.5)


def test_three_thousand_cells_need_no_dense_table():
    """22,000 locations times 3,000 boxes as float32 would be 264 MB a table; pairs of a region are few."""
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(3000, 2, generator=g) * torch.tensor([1060.0, 780.0])
    boxes = torch.cat([corner, corner + 8 + 16 * torch.rand(3000, 2, generator=g)], dim=1)
    hw = [(100, 136), (50, 68), (25, 34), (13, 17), (7, 9)]
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        got = assign_targets(
            hw, boxes, torch.zeros(3000, dtype=torch.int64), strides=[8, 16, 32, 64, 128],
            sizes_of_interest=[64, 128, 256, 512], num_classes=1, radius=1.5,
        )  # fmt: skip
    assert (got.box_index >= 0).sum() > 3000
    largest = max(e.cpu_memory_usage for e in profile.events())
    assert largest < 8 << 20, f"one operation took {largest} bytes"
