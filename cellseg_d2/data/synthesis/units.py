"""Lengths that the parts of synthesis agree on, in pixels unless said."""

__all__ = ["CROWD", "FADED", "FAR", "KEPT", "MARGIN", "NEAR", "PAD", "UNIT"]

MARGIN = 12  # around a cell that are cut out with it: its halo, which fades to nothing at the end
KEPT, FADED = 2.0, 6.0  # outside of a cell up to which all grain is its own image's, and from which on none is
FAR = 24  # neighbours farther away are none
NEAR = FAR - MARGIN  # around a patch in which distances to its cell are known
CROWD = 3.0  # neighbours are counted in a square of so many median diameters to each side
PAD = 32  # around a synthetic image, so that cells may be cut by the frame
UNIT = 4  # parts of a pixel in which distances are kept
