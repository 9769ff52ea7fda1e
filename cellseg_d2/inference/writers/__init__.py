"""What is written of the cells found in images, for other programs and for people; every file in one step.

======================  ==========================================================
:mod:`.labels`          label images (TIFF), which napari, ImageJ and CellProfiler read
:mod:`.rois`            outlines for ImageJ's ROI Manager (zip)
:mod:`.geojson`         objects for QuPath
:mod:`.tables`          measurements (CSV, Parquet)
:mod:`.images`          probability maps (TIFF)
:mod:`.overlay`         pictures (PNG)
:mod:`.coco`            a COCO data set, or COCO results (JSON)
======================  ==========================================================
"""

from .coco import CocoWriter, ResultsWriter, write_results
from .geojson import write_geojson
from .images import write_probability
from .labels import label_image, write_labels
from .overlay import write_overlay
from .rois import write_rois
from .tables import TableWriter

__all__ = [
    "CocoWriter", "ResultsWriter", "TableWriter", "label_image", "write_geojson", "write_labels", "write_overlay",
    "write_probability", "write_results", "write_rois",
]  # fmt: skip
