"""Which location of the pyramid is responsible for which box."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["FCOSTargets", "assign_targets", "centerness_targets", "level_locations", "size_ranges"]


@dataclass(frozen=True)
class FCOSTargets:
    """Targets of P locations: class labels (P,) int64, distances (P, 4) in strides, index of the box (P,), -1 if none.

    Background carries the label ``num_classes`` and zero distances.
    """

    labels: Tensor
    distances: Tensor
    box_index: Tensor


def level_locations(height: int, width: int, stride: int, device: torch.device | str = "cpu") -> Tensor:
    """Image positions (x, y) of a feature map's cells, row by row: (H * W, 2) float32.

    >>> level_locations(1, 2, 8).tolist()
    [[4.0, 4.0], [12.0, 4.0]]
    """
    x = torch.arange(width, device=device, dtype=torch.float32) * stride + stride // 2
    y = torch.arange(height, device=device, dtype=torch.float32) * stride + stride // 2
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)


def size_ranges(sizes_of_interest: list[float]) -> list[tuple[float, float]]:
    """Closed ranges of max(l, t, r, b), in pixels, one a level.

    >>> size_ranges([64, 128])
    [(-1.0, 64.0), (64.0, 128.0), (128.0, inf)]
    """
    ends = [-1.0, *map(float, sizes_of_interest), float("inf")]
    return list(zip(ends[:-1], ends[1:]))


def centerness_targets(distances: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of distances (P, 4) > 0: (P,)."""
    horizontal, vertical = distances[:, [0, 2]], distances[:, [1, 3]]
    ratio = horizontal.amin(1) / horizontal.amax(1) * (vertical.amin(1) / vertical.amax(1))
    return ratio.sqrt()


def assign_targets(
    level_hw: list[tuple[int, int]],
    boxes: Tensor,
    classes: Tensor,
    *,
    strides: list[int],
    sizes_of_interest: list[float],
    num_classes: int,
    radius: float | None,
) -> FCOSTargets:
    """Targets of one image, all locations of all levels in order.

    A location is positive for a box when it lies strictly inside the region, which is the box, or with a ``radius``
    the part of the box within ``radius * stride`` of its centre, and when the largest of its distances to the box
    sides is in the level's size range. Of several boxes the one of smallest area wins.

    Only locations inside a region are ever paired with its box: memory grows with the cells' area on the grid, not
    with locations times cells.

    Args:
        level_hw: height and width of each feature map.
        boxes: (N, 4) float, x0, y0, x1, y1 in pixels of the network input.
        classes: (N,) int64.
        strides: stride of each level.
        sizes_of_interest: upper ends of the size ranges, one fewer than levels.
        num_classes: the label of background.
        radius: radius of the centre region in strides; None: the whole box.
    """
    parts = [
        _assign_level(hw, boxes, classes, stride, bounds, num_classes, radius)
        for hw, stride, bounds in zip(level_hw, strides, size_ranges(sizes_of_interest))
    ]
    return FCOSTargets(
        torch.cat([p.labels for p in parts]),
        torch.cat([p.distances for p in parts]),
        torch.cat([p.box_index for p in parts]),
    )


def _assign_level(hw, boxes, classes, stride, bounds, num_classes, radius) -> FCOSTargets:
    """Targets of one level."""
    height, width = hw
    locations = level_locations(height, width, stride, boxes.device)
    labels = torch.full((height * width,), num_classes, dtype=torch.int64, device=boxes.device)
    distances = boxes.new_zeros(height * width, 4)
    winner = torch.full_like(labels, -1)

    location, box = _candidates(height, width, boxes, stride, radius)
    xy, b = locations[location], boxes[box]
    ltrb = torch.cat([xy - b[:, :2], b[:, 2:] - xy], dim=1)
    largest = ltrb.amax(1)
    valid = (largest >= bounds[0]) & (largest <= bounds[1])
    location, box, ltrb = location[valid], box[valid], ltrb[valid]

    # Lexicographic minimum of (area, index of the box) at each location, by two scatters.
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    smallest = boxes.new_full((height * width,), float("inf")).scatter_reduce(0, location, areas[box], "amin")
    tied = areas[box] == smallest[location]
    first = torch.full_like(labels, len(boxes)).scatter_reduce(0, location[tied], box[tied], "amin")
    chosen = box == first[location]

    location, box = location[chosen], box[chosen]
    winner[location] = box
    labels[location] = classes[box]
    distances[location] = ltrb[chosen] / stride
    return FCOSTargets(labels, distances, winner)


def _candidates(height: int, width: int, boxes: Tensor, stride: int, radius: float | None) -> tuple[Tensor, Tensor]:
    """All pairs (location, box) with the location strictly inside the box's region: two index vectors."""
    region = boxes
    if radius is not None:
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        low = torch.maximum(centre - stride * radius, boxes[:, :2])
        high = torch.minimum(centre + stride * radius, boxes[:, 2:])
        region = torch.cat([low, high], dim=1)
    # Columns and rows that may lie inside, one too many on either side: the exact test follows.
    limit = torch.tensor([width, height], device=boxes.device)
    low = (((region[:, :2] - stride // 2) / stride).floor().long()).clamp(min=0).minimum(limit)
    high = (((region[:, 2:] - stride // 2) / stride).ceil().long() + 1).clamp(min=0).minimum(limit)
    size = (high - low).clamp(min=0)
    count = size.prod(1)
    box = torch.repeat_interleave(torch.arange(len(boxes), device=boxes.device), count)
    within = torch.arange(len(box), device=boxes.device) - (count.cumsum(0) - count)[box]
    columns = size[box, 0].clamp(min=1)
    x, y = low[box, 0] + within % columns, low[box, 1] + within // columns
    px, py = x * stride + stride // 2, y * stride + stride // 2
    r = region[box]
    inside = (px > r[:, 0]) & (px < r[:, 2]) & (py > r[:, 1]) & (py < r[:, 3])
    return (y * width + x)[inside], box[inside]
