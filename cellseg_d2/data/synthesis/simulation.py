"""One simulated phase-contrast image with its ground truth."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from .epithelium import sheet
from .interior import Shape
from .morphology import MORPHOLOGIES, ROUNDED, Morphology, draw
from .optics import photograph
from .records import Phantom, PhantomCell, PhantomSpec
from .scene import Dish

__all__ = ["PlacementError", "simulate"]

SPOTS_A_SHAPE, SHAPES_A_CELL = 6, 8  # positions tried with one shape, and shapes tried before the dish counts as full


class PlacementError(ValueError):
    """The cells asked for do not fit into the image."""


def simulate(spec: PhantomSpec, seed: int | np.random.SeedSequence, cell_type: str | None = None) -> Phantom:
    """Simulate one image; the same arguments give the same bytes.

    ``cell_type`` is one of ``spec.cell_types``; None draws one. Raises PlacementError where fewer than
    ``spec.cells[0]`` cells fit.
    """
    rng = np.random.default_rng(seed)
    drawn = spec.cell_types[rng.integers(len(spec.cell_types))]
    cell_type = drawn if cell_type is None else cell_type
    if cell_type not in MORPHOLOGIES:
        raise ValueError(f"unknown cell type {cell_type!r}: choose one of {', '.join(MORPHOLOGIES)}")
    wanted = int(rng.integers(spec.cells[0], spec.cells[1] + 1))
    dish = Dish(spec.height, spec.width, spec.overlap)
    dish.litter(spec.debris, rng)
    _populate(dish, MORPHOLOGIES[cell_type], spec, wanted, rng)
    if dish.count < spec.cells[0]:
        raise PlacementError(
            f"only {dish.count} of {wanted} cells of type {cell_type} fit into {spec.height} x {spec.width} pixels: "
            f"ask for at most {dish.count} cells, a smaller scale, more overlap or a larger image"
        )
    image = photograph(dish.phase, spec.optics, rng)[dish.frame]
    return Phantom(np.ascontiguousarray(image), _visible_cells(dish.labels[dish.frame]), cell_type)


def _populate(dish: Dish, morphology: Morphology, spec: PhantomSpec, wanted: int, rng: np.random.Generator) -> None:
    """Lay cells on the dish until ``wanted`` lie there or no more fit."""
    rounded = int(rng.binomial(wanted, spec.rounded))
    if morphology.outline is None:
        _spread(dish, morphology, spec, wanted - rounded, rng)
    else:
        _settle(dish, morphology, spec, wanted - rounded, rng)
    _settle(dish, ROUNDED, spec, wanted, rng)


def _spread(dish: Dish, morphology: Morphology, spec: PhantomSpec, wanted: int, rng: np.random.Generator) -> None:
    """Let islands of a tessellation grow, until ``wanted`` cells lie on the dish or no more fit."""
    failures = 0
    while dish.count < wanted and failures < SHAPES_A_CELL:
        before = dish.count
        cells = sheet(*dish.labels.shape, wanted - before, morphology.diameter, morphology.look, spec.scale, rng)
        for shape, y, x in cells:
            dish.place(shape, y, x)
        failures = failures + 1 if dish.count == before else 0


def _settle(dish: Dish, morphology: Morphology, spec: PhantomSpec, wanted: int, rng: np.random.Generator) -> None:
    """Draw cells and lay each beside another one or into free space, until ``wanted`` lie there or no more fit."""
    clumping = morphology.clumping if spec.clumping is None else spec.clumping
    failures = 0
    while dish.count < wanted and failures < SHAPES_A_CELL:
        shape = draw(morphology, rng, spec.scale)
        placed = any(dish.place(shape, *spot) for spot in _spots(dish, shape, clumping, rng))
        failures = 0 if placed else failures + 1


def _spots(dish: Dish, shape: Shape, clumping: float, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Positions to try for one shape."""
    for _ in range(SPOTS_A_SHAPE):
        if dish.count and rng.random() < clumping:
            yield dish.beside(shape, rng)
        else:
            spot = dish.free_spot(shape.radius, rng)
            if spot is not None:
                yield spot


def _visible_cells(labels: np.ndarray) -> tuple[PhantomCell, ...]:
    """Cut every label's region out of the map (H x W int32), in the order of the labels."""
    return tuple(
        PhantomCell(rows.start, cols.start, labels[rows, cols] == number)
        for number, (rows, cols) in enumerate(ndimage.find_objects(labels), 1)
    )
