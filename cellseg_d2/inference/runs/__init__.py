"""A run over many images: workers and engines, its parts on disk, and their collection into the outputs."""
