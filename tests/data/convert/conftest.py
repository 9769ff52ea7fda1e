"""Two images to be annotated."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .convert_cases import HEIGHT, WIDTH


@pytest.fixture
def images(tmp_path) -> Path:
    """images/ with a.png and b.png, black, of 60 x 40."""
    (tmp_path / "images").mkdir()
    for name in "ab":
        Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "images" / f"{name}.png")
    return tmp_path / "images"
