"""Compile the loops of scoring and reading, once, into numba's cache: python -m cellseg_d2.evaluation.warm_up (make
setup does)."""

import numpy as np

from ..data.coco_scan import scan_coco
from .evaluate import Options, compare, evaluate
from .reading import GroundTruth, results_table
from .tables import image_table, object_table

__all__ = ["warm_up"]


def warm_up() -> None:
    """Score one cell in all ways, and scan a COCO file."""
    scan_coco(np.frombuffer(b'{"annotations": []}', np.uint8))
    images = image_table([{"id": 1, "file_name": "warm_up.tif", "height": 8, "width": 8}], "warm-up")
    polygon, compressed = b"[[1,1,5,1,5,5,1,5],[2,2,4,2,4,4]]", {"size": [8, 8], "counts": "94400000g0"}
    values = {"image_ids": [1], "categories": [1], "boxes": [[1.0, 1.0, 4.0, 4.0]]}
    cells = object_table(images, str, segmentations=[polygon], areas=[16.0], **values)
    truth = GroundTruth("warm-up", images, cells, frozenset([1]))
    row = {"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [1, 1, 4, 4], "segmentation": compressed}
    evaluation = evaluate(truth, results_table([row], truth, "warm-up"), Options(bootstrap=2))
    compare(evaluation, evaluation)
    evaluation.main.score.ranking.precision(np.ones(1))


if __name__ == "__main__":
    warm_up()
