"""Annotations of other programs <-> COCO, without a changed pixel wherever the other format can hold the cells.

:data:`FORMATS` has a row for each format. Reading gives :class:`~.records.Source` objects, which :func:`.to_coco`
turns into a data set; :func:`.pictures` gives the images of a data set to a format's writer.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .from_coco import pictures
from .geojson import geojson_sources, write_geojson
from .labelme import labelme_sources, write_labelme
from .labels import label_sources, mask_sources, write_labels, write_masks
from .records import Cell, Notes, Picture, Request, Source
from .rois import roi_sources, write_rois
from .to_coco import image_root, to_coco
from .vgg import vgg_sources, write_vgg
from .yolo import class_names, write_yolo, yolo_sources

__all__ = [
    "FORMATS", "Cell", "Format", "Notes", "Picture", "Request", "Source", "image_root", "pictures", "to_coco",
]  # fmt: skip


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        title: for people.
        sources: request, notes -> the images with their annotations.
        write: images, folder, class names, notes -> number of images written.
        holds_classes, holds_labels: whether files of it keep class names, and the numbers of the cells.
        names: request -> class names in the order that the format gives them.
    """

    title: str
    sources: Callable[[Request, Notes], list[Source]]
    write: Callable[[Iterable[Picture], Path, Sequence[str], Notes], int]
    holds_classes: bool = True
    holds_labels: bool = True
    names: Callable[[Request], list[str]] = lambda request: []


FORMATS = {
    "labels": Format("label images", label_sources, write_labels, holds_classes=False),
    "masks": Format("binary masks", mask_sources, write_masks, holds_classes=False, holds_labels=False),
    "rois": Format("ImageJ ROI zips", roi_sources, write_rois),
    "geojson": Format("GeoJSON of QuPath", geojson_sources, write_geojson),
    "labelme": Format("LabelMe JSON", labelme_sources, write_labelme),
    "vgg": Format("VIA JSON", vgg_sources, write_vgg),
    "yolo": Format("YOLO segmentation", yolo_sources, write_yolo, holds_labels=False, names=class_names),
}
