"""Time lapse: cells followed over frames, their lineage, and how the population grows."""

from .files import write_ctc, write_tracks
from .growth import Doubling, growth
from .lineage import frames_table, lineage_table, points_table
from .linking import link
from .plots import plot_growth
from .tracks import Tracks, tracked

__all__ = [
    "Doubling", "Tracks", "frames_table", "growth", "lineage_table", "link", "plot_growth", "points_table", "tracked",
    "write_ctc", "write_tracks",
]  # fmt: skip
