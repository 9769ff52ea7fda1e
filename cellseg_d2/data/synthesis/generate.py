"""One synthetic image of an extension, as its file and its entries in the COCO JSON."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .cell_bank import BankImage, CellBank
from .density import parse_density
from .outline_loops import trace_outlines
from .recipe import Plan, Recipe
from .render import Scene, Target
from .units import CROWD

__all__ = ["Synthetic", "annotate", "generate"]

_LEAST_PIECE = 4  # pixels; smaller pieces of a half covered cell are not worth an outline


@dataclass(frozen=True)
class Synthetic:
    """A synthetic image.

    Attributes:
        image: H x W, of its background's type.
        source: the image that it was made for, ``background`` the one that it stands on.
        annotations: COCO annotations without ids.
        target: what was asked for, and ``reached``: whether so many cells found a place.
    """

    image: np.ndarray
    source: BankImage
    background: BankImage
    annotations: list[dict[str, Any]]
    target: Target
    reached: bool


def generate(bank: CellBank, plan: Plan, recipe: Recipe, index: int, target: Target | None = None) -> Synthetic:
    """The ``index``-th synthetic image; the same for the same bank, recipe and index.

    Args:
        bank, plan, recipe: what it is made of.
        index: from 0 on.
        target: another density than the recipe's.
    """
    rng = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(index,)))
    source = plan.sources[index % len(plan.sources)]
    like = bank.images[source]
    drawn = parse_density(recipe.density).draw(like, plan.alike(source, index // len(plan.sources)), index, rng)
    target = target or drawn
    ground = plan.background(source, rng)
    scene = Scene(*_background(bank, ground, rng), reach=CROWD * float(np.sqrt(like.area)))
    reached = scene.fill(bank, plan.draw(source, target), target, recipe.turn, rng)
    image = scene.picture(bank.images[ground].dtype)
    return Synthetic(image, like, bank.images[ground], annotate(scene, bank, recipe.seed), target, reached)


def annotate(scene: Scene, bank: CellBank, seed: int) -> list[dict[str, Any]]:
    """COCO annotations (without ids) of a scene's visible cells, with their provenance.

    Outlines go along pixel edges, so that they are filled to exactly the pixels that are seen; ``transform`` is the
    affine map [a, b, c, d, e, f] from the source image, x' = a x + b y + c, y' = d x + e y + f. ``shape`` is there for
    a cell whose shape is between its own and that of the annotation ``towards``.
    """
    found = _outlines(np.ascontiguousarray(scene.labels))
    shown = [cell for cell in scene.placed if cell.label in found]
    if not shown:
        return []
    rows = bank.cells[[cell.cell for cell in shown]]
    columns = (rows[name].tolist() for name in ("category", "source", "image", "towards", "share"))
    transforms = np.round([cell.affine for cell in shown], 4).reshape(-1, 6).tolist()
    result = []
    for cell, transform, category, source, image, towards, share in zip(shown, transforms, *columns, strict=True):
        outlines, area, (left, top, right, bottom) = found[cell.label]
        result.append({
            "category_id": bank.categories[category]["id"], "segmentation": outlines, "area": area,
            "bbox": [left, top, right - left, bottom - top], "iscrowd": 0,
            "provenance": {
                "source": source, "source_image": bank.images[image].file_name, "transform": transform, "seed": seed,
                **({"shape": {"towards": towards, "share": round(share, 6)}} if share else {}),
            },
        })  # fmt: skip
    return result


def _outlines(labels: np.ndarray) -> dict[int, tuple[list[list[int]], int, list[int]]]:
    """Of each label: COCO polygons, pixels inside, and the box (left, top, right, bottom), without tiny pieces."""
    corners, starts, owners, areas = trace_outlines(labels)
    if not len(starts):
        return {}
    boxes = np.concatenate([np.minimum.reduceat(corners, starts), np.maximum.reduceat(corners, starts)], axis=1)
    flat, ends = corners.reshape(-1).tolist(), [*(2 * starts[1:]).tolist(), corners.size]
    found: dict[int, tuple[list[list[int]], int, list[int]]] = {}
    for begin, end, label, area, box in zip(
        (2 * starts).tolist(), ends, owners.tolist(), areas.tolist(), boxes.tolist(), strict=True
    ):
        if area >= _LEAST_PIECE:
            pieces, before, (left, top, right, bottom) = found.get(label, ([], 0, box))
            whole = [min(left, box[0]), min(top, box[1]), max(right, box[2]), max(bottom, box[3])]
            found[label] = [*pieces, flat[begin:end]], before + area, whole
    return found


def _background(bank: CellBank, place: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A background, mirrored at random, with its noise moved along."""
    smooth, residual = bank.background(place)
    shift = int(rng.integers(residual.shape[0])), int(rng.integers(residual.shape[1]))
    residual = np.roll(residual, shift, (0, 1))
    for axis in (0, 1):
        if rng.random() < 0.5:
            smooth, residual = np.flip(smooth, axis), np.flip(residual, axis)
    return np.ascontiguousarray(smooth), np.ascontiguousarray(residual)
