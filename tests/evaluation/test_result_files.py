"""Files are whole or not there; overlays draw where the outlines are."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest

from cellseg_d2.evaluation.overlay import ANNOTATED, PREDICTED, draw_outlines, write_overlay
from cellseg_d2.files import atomic_write, finite_or_none, write_json


def square(size, start, stop):
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[start:stop, start:stop] = 1
    return mask_util.encode(np.asfortranarray(mask))


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = atomic_write(tmp_path / "sub" / "file.bin", lambda stream: stream.write(b"old"))

    def fail(stream):
        stream.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, fail)
    assert path.read_bytes() == b"old"
    assert [item.name for item in path.parent.iterdir()] == ["file.bin"]


def test_json_is_strict(tmp_path):
    scores = {"AP": float("nan"), "list": [1.0, float("inf")]}
    assert finite_or_none(scores) == {"AP": None, "list": [1.0, None]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "scores.json", scores)
    assert not list(tmp_path.iterdir())


def test_outlines_lie_on_the_border_of_the_mask():
    canvas = draw_outlines(np.zeros((20, 20, 3), dtype=np.uint8), [square(20, 5, 15)], (1, 2, 3))
    drawn = (canvas == (1, 2, 3)).all(axis=2)
    expected = np.zeros((20, 20), dtype=bool)
    expected[5:15, 5:15] = True
    expected[6:14, 6:14] = False
    np.testing.assert_array_equal(drawn, expected)


def test_overlay_shows_predictions_over_annotations_and_leaves_the_image_alone(tmp_path):
    image = np.full((20, 20, 3), 50, dtype=np.uint8)
    path = write_overlay(tmp_path / "a.png", image, [square(20, 2, 8)], [square(20, 2, 8), square(20, 10, 18)])
    picture = cv2.imread(str(path))[:, :, ::-1]
    assert tuple(picture[2, 2]) == PREDICTED and tuple(picture[10, 10]) == ANNOTATED
    assert (image == 50).all() and tuple(picture[5, 5]) == (50, 50, 50)


def test_masks_of_another_size_are_an_error():
    with pytest.raises(ValueError, match="does not fit"):
        draw_outlines(np.zeros((10, 20, 3), dtype=np.uint8), [square(20, 2, 8)], (1, 2, 3))
