"""Models on images: read, predict in tiles, measure, write. :class:`.segmenter.CellSegmenter` is the one call."""
