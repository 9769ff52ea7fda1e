"""Made-up annotations and results with the statistics of LIVECell's test set, to measure scoring on."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import NormalDist
from typing import IO, Any

import msgspec
import numpy as np
import pycocotools.mask as mask_util

from cellseg_d2.files import atomic_write

__all__ = ["write_scenes"]

HEIGHT, WIDTH = 520, 704
TYPES = ("A172", "BT474", "BV2", "Huh7", "MCF7", "SHSY5Y", "SkBr3", "SKOV3")
POINTS = (25, 60)  # of an outline, lowest and highest
MOST = 3000  # cells in an image
LARGEST, CONFLUENCE = 900.0, 0.75  # median area of a cell, unless that many cells would cover more than this share
WAVES = np.arange(2, 6)


@dataclass(frozen=True)
class Cells:
    """N star-shaped cells of an image: centres (N, 2), radii, elongations, directions and irregularities (N, 4)."""

    centre: np.ndarray
    radius: np.ndarray
    stretch: np.ndarray
    angle: np.ndarray
    waves: np.ndarray
    phases: np.ndarray

    def __len__(self) -> int:
        return len(self.radius)

    def take(self, index: np.ndarray) -> "Cells":
        """The cells at the places ``index``."""
        return Cells(*(getattr(self, column.name)[index] for column in fields(self)))

    def outlines(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(N, 60, 2) points in the image to 2 decimals, and (N,) how many there are; more repeat the first."""
        counts = generator.integers(POINTS[0], POINTS[1] + 1, len(self))
        step = np.arange(POINTS[1])
        turn = 2 * np.pi * np.where(step < counts[:, None], step, 0) / counts[:, None]
        ripple = np.cos(turn[:, :, None] * WAVES + self.phases[:, None])
        radius = self.radius[:, None] * (1 + np.einsum("npw,nw->np", ripple, self.waves))
        along = radius * np.cos(turn) * np.sqrt(self.stretch)[:, None]
        across = radius * np.sin(turn) / np.sqrt(self.stretch)[:, None]
        cos, sin = np.cos(self.angle)[:, None], np.sin(self.angle)[:, None]
        points = np.stack([along * cos - across * sin, along * sin + across * cos], axis=-1) + self.centre[:, None]
        return np.round(np.clip(points, 0, (WIDTH, HEIGHT)), 2), counts


def write_scenes(
    folder: str | Path, images: int = 1564, mean_cells: float = 295, seed: int = 0, spread: float = 0.85
) -> tuple[Path, Path]:
    """Write ``gt.json`` (polygons) and ``results.json`` (compressed run lengths) of made-up images into ``folder``.

    Args:
        spread: standard deviation of the logarithm of the images' numbers of cells; 0: all images have the mean.
    """
    truth, results = Path(folder) / "gt.json", Path(folder) / "results.json"
    counts = _counts(images, mean_cells, seed, spread)

    def write(gt: IO[bytes]) -> None:
        atomic_write(results, lambda found: _write(gt, found, counts, seed))

    atomic_write(truth, write)
    return truth, results


def _counts(images: int, mean: float, seed: int, spread: float) -> np.ndarray:
    """Cells of each image: the quantiles of a log-normal distribution, shuffled."""
    normal = NormalDist()
    counts = np.exp(spread * np.array([normal.inv_cdf((i + 0.5) / images) for i in range(images)]))
    for _ in range(20):  # what the limit cuts off goes to the other images
        counts = np.clip(counts * mean / counts.mean(), 1, MOST)
    return np.random.default_rng(seed).permutation(np.round(counts).astype(int))


def _write(gt: IO[bytes], found: IO[bytes], counts: np.ndarray, seed: int) -> None:
    """Stream both files, image by image."""
    entries = [_image_entry(place) for place in range(len(counts))]
    gt.write(b'{"images":' + msgspec.json.encode(entries) + b',"annotations":[')
    found.write(b"[")
    first, comma = 1, b""
    for entry, count in zip(entries, counts):
        generator = np.random.default_rng([seed, entry["id"]])
        cells = _cells(generator, int(count))
        gt.write(comma + msgspec.json.encode(list(_annotations(generator, cells, entry["id"], first)))[1:-1])
        found.write(comma + msgspec.json.encode(list(_results(generator, cells, entry["id"])))[1:-1])
        first, comma = first + len(cells), b",\n"
    gt.write(b'],"categories":[{"id":1,"name":"cell","supercategory":"cell"}]}')
    found.write(b"]")


def _image_entry(place: int) -> dict[str, Any]:
    """COCO's entry of an image, with a file name of LIVECell's scheme."""
    series, well = divmod(place, len(TYPES))
    hour = 4 * (series // 12)
    moment = f"{hour // 24:02d}d{hour % 24:02d}h00m"
    name = f"{TYPES[well]}_Phase_{'ABCDEFGH'[well]}{1 + series % 12}_{1 + series % 2}_{moment}_{1 + series % 4}.tif"
    return {"id": place + 1, "file_name": name, "height": HEIGHT, "width": WIDTH}


def _cells(generator: np.random.Generator, count: int) -> Cells:
    """Cells on a shaken grid, the smaller the more there are."""
    columns = int(np.ceil(np.sqrt(1.1 * count * WIDTH / HEIGHT)))
    rows = int(np.ceil(1.1 * count / columns))
    places = np.sort(generator.permutation(columns * rows)[:count])
    pitch = np.array([WIDTH / columns, HEIGHT / rows])
    at = np.stack([places % columns, places // columns], axis=1) + 0.5 + generator.normal(0, 0.15, (count, 2))
    area = min(LARGEST, CONFLUENCE * HEIGHT * WIDTH / count) * np.exp(generator.normal(0, 0.35, count))
    return Cells(
        np.clip(at * pitch, 2, (WIDTH - 2, HEIGHT - 2)),
        np.sqrt(area / np.pi),
        generator.uniform(1, 1.7, count),
        generator.uniform(0, np.pi, count),
        generator.normal(0, 0.2, (count, len(WAVES))) / WAVES,
        generator.uniform(0, 2 * np.pi, (count, len(WAVES))),
    )


def _annotations(generator: np.random.Generator, cells: Cells, image: int, first: int) -> Iterator[dict[str, Any]]:
    """COCO's entries of annotated cells."""
    points, counts = cells.outlines(generator)
    x, y = points[:, :, 0], points[:, :, 1]
    areas = np.abs((x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)) / 2
    low, size = points.min(axis=1), np.ptp(points, axis=1)
    rows = points.reshape(len(cells), -1).tolist(), counts.tolist(), areas.tolist(), np.hstack([low, size]).tolist()
    for n, (row, count, area, box) in enumerate(zip(*rows)):
        entry = {"id": first + n, "image_id": image, "category_id": 1, "iscrowd": 0, "area": area, "bbox": box}
        yield entry | {"segmentation": [row[: 2 * count]]}


def _results(generator: np.random.Generator, cells: Cells, image: int) -> Iterator[dict[str, Any]]:
    """COCO results: most cells with jitter, some missed, doubled or merged with the next one, and false ones."""
    fate = generator.random(len(cells))
    found, again = np.flatnonzero(fate > 0.12), np.flatnonzero(fate > 0.93)
    merged = np.flatnonzero(fate[:-1] < 0.03)
    joined, step = cells.take(merged), cells.centre[merged + 1] - cells.centre[merged]
    length = np.hypot(*step.T)
    longer = 1 + np.minimum(length / 2 / joined.radius, 2)
    radius, angle = joined.radius * np.sqrt(longer), np.arctan2(step[:, 1], step[:, 0])
    joined = replace(joined, centre=joined.centre + step / 2, radius=radius, stretch=longer, angle=angle)
    false = cells.take(generator.integers(0, len(cells), 3 + len(cells) // 7))
    false = replace(false, centre=generator.uniform(0, (WIDTH, HEIGHT), (len(false), 2)), radius=0.8 * false.radius)
    parts = [cells.take(found), cells.take(again), joined, false]
    drop = np.repeat([0.0, 1.0, 0.5, 2.0], [len(part) for part in parts])
    cells = Cells(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(Cells)))
    error = 0.08 * np.exp(generator.normal(0, 0.7, len(cells)))
    shaken = cells.centre + generator.normal(0, 1, (len(cells), 2)) * (error * cells.radius)[:, None]
    radius = cells.radius * np.exp(error * generator.normal(0, 1, len(cells)))
    waves = cells.waves + 0.3 * error[:, None] * generator.normal(0, 1, cells.waves.shape)
    points, counts = replace(cells, centre=shaken, radius=radius, waves=waves).outlines(generator)
    scores = 1 / (1 + np.exp(drop + 8 * error - 2.5 + generator.normal(0, 0.7, len(cells))))
    yield from _encode(generator, image, points, counts, scores, error)


def _encode(
    generator: np.random.Generator,
    image: int,
    points: np.ndarray,
    counts: np.ndarray,
    scores: np.ndarray,
    error: np.ndarray,
) -> Iterator[dict[str, Any]]:
    """COCO's entries of predicted outlines, numbers as float32 models give them."""
    low, high = points.min(axis=1), points.max(axis=1)
    corners = np.hstack([low, high - low]) + generator.normal(0, 0.3, (len(points), 4))
    boxes = np.maximum(corners, 0.0).astype(np.float32).tolist()
    mask_scores = scores * np.clip(1 - 2 * error + generator.normal(0, 0.05, len(points)), 0.05, 1)
    rows = [row[: 2 * count] for row, count in zip(points.reshape(len(points), -1).tolist(), counts.tolist())]
    masks = mask_util.frPyObjects(rows, HEIGHT, WIDTH)
    columns = boxes, scores.astype(np.float32).tolist(), mask_scores.astype(np.float32).tolist(), masks
    for box, score, mask_score, mask in zip(*columns):
        entry = {"image_id": image, "category_id": 1, "bbox": box, "score": score, "mask_score": mask_score}
        yield entry | {"segmentation": {"size": mask["size"], "counts": mask["counts"].decode("ascii")}}
