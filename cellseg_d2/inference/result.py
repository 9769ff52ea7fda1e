"""The cells of an image in the forms that people use."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.convert.outline import rings
from ..files import atomic_write
from .measures.cells import measure_cells
from .records import FrameCells
from .writers import label_image, write_geojson, write_labels, write_overlay, write_rois
from .writers.overlay import overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SegmentedImage"]

_WRITERS = {".tif": write_labels, ".tiff": write_labels, ".zip": write_rois, ".geojson": write_geojson}


@dataclass(frozen=True)
class SegmentedImage(FrameCells):
    """What :class:`.segmenter.CellSegmenter` finds in one image; see :class:`.records.FrameCells` for its fields."""

    def __len__(self) -> int:
        return len(self.cells)

    def to_coco(self, image_id: int = 1) -> dict[str, Any]:
        """A COCO data set of the image: ``images``, ``annotations`` (with ``score``) and ``categories`` (from 1)."""
        height, width = self.frame.size
        frame = self.frame
        file_name = f"{frame.name}.tif" if frame.place else frame.path.name or "image"
        image = {"id": image_id, "file_name": file_name, "height": height, "width": width, **frame.place}
        annotations = [
            {**cell, "id": number, "image_id": image_id, "category_id": cell["category_id"] + 1, "iscrowd": 0,
             "area": area}
            for number, (cell, area) in enumerate(zip(self.cells, self.areas()), start=1)
        ]  # fmt: skip
        categories = [{"id": number, "name": name} for number, name in enumerate(self.classes, start=1)]
        return {"images": [image], "annotations": annotations, "categories": categories}

    def areas(self) -> list[int]:
        """Pixels of each cell."""
        import pycocotools.mask as mask_util

        return [int(mask_util.area(cell["segmentation"])) for cell in self.cells]

    def labels(self, overlap: str = "score") -> np.ndarray:
        """(H, W) uint16 or uint32: 0 background, 1..N the cells in their order; see :func:`.writers.label_image`."""
        return label_image(self.cells, *self.frame.size, overlap)

    def polygons(self) -> list[list[np.ndarray]]:
        """Of each cell its outlines, (K, 2) corners x, y in pixels along pixel edges: pieces and holes."""
        return [[ring for piece in rings(cell["segmentation"]) for ring in piece] for cell in self.cells]

    def table(self) -> pd.DataFrame:
        """Measurements, a row a cell; see :func:`.measure.measure_cells`."""
        return measure_cells(self)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the image with outlines; returns the axes of Matplotlib."""
        from matplotlib import pyplot

        ax = ax or pyplot.subplots()[1]
        ax.imshow(overlay(self))
        ax.set_axis_off()
        return ax

    def save(self, path: str | Path) -> Path:
        """Write the cells: .tif labels, .zip ImageJ outlines, .geojson QuPath, .png overlay, .csv measurements.

        Raises:
            ValueError: another ending.
        """
        path = Path(path)
        suffix, alone = path.suffix.lower(), replace(self, frame=replace(self.frame, place={}))
        if suffix == ".png":
            write_overlay(path, self)
        elif suffix == ".csv":
            text = self.table().to_csv(index=False)
            atomic_write(path, lambda stream: stream.write(text.encode()))
        elif suffix in _WRITERS:
            _WRITERS[suffix](path, [alone])
        else:
            raise ValueError(f"{path}: cells are saved as .tif, .zip, .geojson, .png or .csv")
        return path
