"""Images larger than a network takes: planning of tiles, statistics they share, and merging at the seams."""
