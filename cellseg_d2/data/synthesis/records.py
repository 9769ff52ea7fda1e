"""What a phantom is: the options that describe it, and the image with its cells."""

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from skimage.measure import find_contours

from .morphology import MORPHOLOGIES
from .optics import Optics

__all__ = ["Phantom", "PhantomCell", "PhantomSpec"]

MAX_CELLS = 65535  # labels are uint16


@dataclass(frozen=True)
class PhantomSpec:
    """What to simulate.

    ``cells``: lowest and highest number of cells an image; ``overlap``: largest share of a cell that other cells may
    hide (0: cells touch but never overlap); ``clumping``: share of cells that settle against a neighbour, None: as
    usual for the cell type; ``scale``: factor on the size of the cells; ``rounded``: share of cells that have rounded
    up to divide; ``debris``: specks per 10,000 pixels. Raises ValueError for impossible values.
    """

    height: int = 256
    width: int = 256
    cell_types: tuple[str, ...] = tuple(MORPHOLOGIES)
    cells: tuple[int, int] = (20, 60)
    overlap: float = 0.15
    clumping: float | None = None
    scale: float = 1.0
    rounded: float = 0.05
    debris: float = 1.5
    optics: Optics = field(default_factory=Optics)

    def __post_init__(self) -> None:
        unknown = [name for name in self.cell_types if name not in MORPHOLOGIES]
        if unknown or not self.cell_types:
            raise ValueError(f"unknown cell types {unknown}: choose one or more of {', '.join(MORPHOLOGIES)}")
        if min(self.height, self.width) < 32:
            raise ValueError(f"an image of {self.height} x {self.width} pixels is too small: use 32 x 32 or more")
        low, high = self.cells
        if not 0 <= low <= high <= MAX_CELLS:
            raise ValueError(f"cells = ({low}, {high}): give two numbers with 0 <= lowest <= highest <= {MAX_CELLS}")
        shares = {"overlap": self.overlap, "clumping": self.clumping or 0.0, "rounded": self.rounded}
        for name, value in shares.items():
            if not 0 <= value <= (0.6 if name == "overlap" else 1.0):
                raise ValueError(f"{name} = {value}: a share from 0 to {0.6 if name == 'overlap' else 1.0} is needed")
        if self.scale < 0.3 or self.debris < 0:
            raise ValueError(f"scale = {self.scale} must be 0.3 or more, debris = {self.debris} 0 or more")


@dataclass(frozen=True)
class PhantomCell:
    """The visible region of one cell: ``mask`` (h x w bool, one part without holes, tight) at pixel (y0, x0)."""

    y0: int
    x0: int
    mask: np.ndarray

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    @property
    def bbox(self) -> list[int]:
        """[x, y, width, height] in pixels."""
        return [self.x0, self.y0, self.mask.shape[1], self.mask.shape[0]]

    @cached_property
    def polygon(self) -> list[float]:
        """Outline as COCO's [x0, y0, x1, y1, ...]: marching squares at 0.5, simplified at 0.3 pixels."""
        contours = find_contours(np.pad(self.mask, 1).astype(np.float32), 0.5, fully_connected="high")
        outline = max(contours, key=len)[:-1].astype(np.float32)
        simple = cv2.approxPolyDP(outline, 0.3, closed=True).reshape(-1, 2)
        points = simple if len(simple) >= 3 else outline
        # the padding moves positions by one pixel; the middle of pixel (0, 0) is (0.5, 0.5) in COCO's coordinates
        xy = points[:, ::-1].astype(np.float64) - 0.5 + [self.x0, self.y0]
        return np.round(xy, 2).ravel().tolist()


@dataclass(frozen=True)
class Phantom:
    """A simulated image: ``image`` (H x W uint8), its ``cells`` (visible regions, disjoint) and their ``cell_type``."""

    image: np.ndarray
    cells: tuple[PhantomCell, ...]
    cell_type: str

    @cached_property
    def labels(self) -> np.ndarray:
        """Label map, H x W uint16: 0 is background, cell i has label i + 1."""
        labels = np.zeros(self.image.shape, np.uint16)
        for number, cell in enumerate(self.cells, 1):
            h, w = cell.mask.shape
            labels[cell.y0 : cell.y0 + h, cell.x0 : cell.x0 + w][cell.mask] = number
        return labels

    @property
    def confluence(self) -> float:
        """Share of the image that cells cover."""
        return sum(cell.area for cell in self.cells) / self.image.size
