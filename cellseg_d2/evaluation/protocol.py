"""LIVECell's scoring protocol, as data."""

from dataclasses import dataclass

import numpy as np

__all__ = ["LIVECELL", "Protocol"]


@dataclass(frozen=True)
class Protocol:
    """Limits of a COCO-style evaluation.

    Attributes:
        max_dets: numbers of detections an image at which recall is reported, ascending; AP is taken at the last.
        area_ranges: name -> (lowest, highest) area of an object in original pixels, both ends included. The name is
            the suffix of the metric ("s" gives APs); the empty name is the range of AP, AP50 and AP75.
        iou_thresholds: intersection over union from which a prediction counts as a hit, ascending.
    """

    max_dets: tuple[int, ...]
    area_ranges: tuple[tuple[str, tuple[float, float]], ...]
    iou_thresholds: tuple[float, ...]

    def iou_index(self, threshold: float) -> int:
        """Position of ``threshold`` in :attr:`iou_thresholds`; a ``ValueError`` where it is absent."""
        matches = np.flatnonzero(np.isclose(self.iou_thresholds, threshold))
        if not len(matches):
            raise ValueError(f"IoU {threshold} is none of the protocol's thresholds {self.iou_thresholds}")
        return int(matches[0])

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics of one task (boxes or masks), in the order of the tables.

        >>> LIVECELL.metrics
        ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'AR100', 'AR500', 'AR2000')
        """
        sizes = tuple(f"AP{name}" for name, _ in self.area_ranges if name)
        return ("AP", "AP50", "AP75", *sizes, *(f"AR{limit}" for limit in self.max_dets))


LIVECELL = Protocol(
    max_dets=(100, 500, 2000),
    area_ranges=(
        ("", (0, 1e10)),
        ("s", (0, 18**2)),
        ("m", (18**2, 31**2)),
        ("l", (31**2, 1e10)),
    ),
    iou_thresholds=tuple(np.linspace(0.5, 0.95, 10).tolist()),  # pycocotools' own floats, to the last bit
)
