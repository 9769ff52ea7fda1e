"""Time lapse: cells followed over frames, their lineage, and how the population grows.

``LINKERS`` are the ways to follow them by their masks alone, by name: functions of one signature,
:func:`.linking.link`'s. :func:`.by_trackastra.link_by_trackastra` looks at the images too.
"""

from .by_laptrack import link_by_laptrack
from .by_trackastra import link_by_trackastra, load_trackastra
from .files import write_ctc, write_tracks
from .growth import Doubling, growth
from .lineage import frames_table, lineage_table, points_table
from .linking import link
from .plots import plot_growth
from .tracks import Tracks, numbered_from, tracked

__all__ = [
    "LINKERS", "Doubling", "Tracks", "frames_table", "growth", "lineage_table", "link", "link_by_laptrack",
    "link_by_trackastra", "load_trackastra", "numbered_from", "plot_growth", "points_table", "tracked",
    "write_ctc", "write_tracks",
]  # fmt: skip

LINKERS = {"overlap": link, "laptrack": link_by_laptrack}
