"""Which tracks start as a daughter: two cells in their mother's place that are together about as large as she was."""

import numpy as np

from .assignment import assign
from .detections import Detections, near_pairs, pair_ious

__all__ = ["SPREAD", "division_cost", "find_divisions"]

CUTOFF = 2.1  # a perfect division costs less than 1
LATE = 1.0  # cost of each frame that one daughter is found later than the other
SPREAD = 2.0  # times the largest distance of a link: daughters move apart


def find_divisions(cells: Detections, successor: np.ndarray, reach: float, max_gap: int) -> dict[int, int]:
    """The starts of tracks that are second daughters.

    Any cell that goes on and is near a start, at most ``max_gap`` missed frames before it, may be its mother; what she
    goes on as is the first daughter. The assignment takes the plausible ones: a mother divides once.

    Args:
        successor: (N,) int64, the cell that each cell goes on as, or -1.
        reach: pixels, largest distance of a link from a frame to the next.

    Returns:
        second daughter -> mother, places in ``cells``; the mother's successor is the first daughter.
    """
    starts = np.setdiff1d(np.flatnonzero(cells.frame > 0), successor)
    mothers = np.flatnonzero(successor >= 0)
    found = []
    for lag in range(1, max_gap + 2):
        pairs = near_pairs(cells, mothers, starts, lag, SPREAD * reach * np.sqrt(lag))
        one = successor[pairs.first]
        late = np.abs(cells.frame[one] - cells.frame[pairs.second])
        found.append((pairs.first, pairs.second, division_cost(cells, pairs.first, one, pairs.second) + LATE * late))
    first, second, cost = map(np.concatenate, zip(*found))
    chosen = assign(first, second, cost, CUTOFF)
    return dict(zip(second[chosen].tolist(), first[chosen].tolist()))


def division_cost(cells: Detections, mother: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """(P,) float64: how little two cells look like the daughters of a third, from about 0.3; a doubtful pair has 2.

    The sum of

    * the distance from the daughters' common centre of mass to the mother's centre, in median equivalent diameters;
    * half of log2 of their common area over hers, and half of log2 of one's area over the other's, without sign;
    * 1 minus what the second daughter adds to the overlap: IoU of the mother with both minus IoU with the first. A cell
      that stays as it was while another appears beside it loses overlap by this, a mother gains.

    Args:
        mother, one, two: (P,) places in ``cells``; the daughters are taken as apart from each other.
    """
    m, a, b = (np.maximum(cells.area[own], 1).astype(np.float64) for own in (mother, one, two))
    middle = (a[:, None] * cells.centre[one] + b[:, None] * cells.centre[two]) / (a + b)[:, None]
    apart = np.linalg.norm(middle - cells.centre[mother], axis=1) / cells.diameter
    alone, other = pair_ious(cells, mother, one), pair_ious(cells, mother, two)
    common = alone * (m + a) / (1 + alone) + other * (m + b) / (1 + other)
    gain = common / (m + a + b - common) - alone
    return apart + np.abs(np.log2((a + b) / m)) / 2 + np.abs(np.log2(a / b)) / 2 + 1 - gain
