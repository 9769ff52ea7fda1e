"""Label images and probabilities come back as they were written."""

import numpy as np
import pytest
import tifffile

from cellseg_d2.data.image_io import read_raw
from cellseg_d2.data.label_files import read_labels
from cellseg_d2.inference.writers.images import write_label_array, write_probability


def label_map(seed, shape=(40, 60)):
    """Five rectangles that do not overlap."""
    generator, labels = np.random.default_rng(seed), np.zeros(shape, np.int32)
    for number in range(1, 6):
        y, left = generator.integers(0, 20), (number - 1) * shape[1] // 5
        labels[y : y + generator.integers(4, 18), left : left + generator.integers(3, 12)] = number
    return labels


@pytest.mark.parametrize("highest, dtype", [(0, "uint16"), (65535, "uint16"), (65536, "uint32")])
def test_labels_come_back(tmp_path, highest, dtype):
    labels = label_map(0)
    labels[3, 4] = highest
    path = write_label_array(tmp_path / "new" / "labels.tif", labels)
    assert (read_labels(path) == labels).all()
    with tifffile.TiffFile(path) as tif:
        (page,) = tif.pages
        assert (page.dtype, page.compression.name, page.shape) == (dtype, "ADOBE_DEFLATE", labels.shape)
    assert [p.name for p in path.parent.iterdir()] == ["labels.tif"]


def test_probability_comes_back(tmp_path):
    probability = np.random.default_rng(0).random((33, 47), np.float32)
    probability[0, :2] = 0, 1
    back = read_raw(write_probability(tmp_path / "p.tif", probability))
    assert back.dtype == np.float32 and (back == probability).all()


def test_same_input_same_file(tmp_path):
    one, two = (write_label_array(tmp_path / name, label_map(2)).read_bytes() for name in ("a.tif", "b.tif"))
    assert one == two


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([[-1, 1]]), "-1..1 .*ignore"),
        (np.zeros((2, 3)), "integers, not .* float64"),
        (np.zeros((2, 3, 3), int), "integers, not"),
        (np.zeros((0, 3), int), "integers, not"),
    ],
)
def test_what_is_no_label_map(tmp_path, labels, words):
    path = tmp_path / "l.tif"
    path.write_text("older")
    with pytest.raises(ValueError, match=words):
        write_label_array(path, labels)
    assert path.read_text() == "older"


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5])
def test_what_is_no_probability(tmp_path, value):
    with pytest.raises(ValueError, match="0..1"):
        write_probability(tmp_path / "p.tif", [[0.5, value]])
    with pytest.raises(ValueError, match="one value a pixel"):
        write_probability(tmp_path / "p.tif", np.zeros((3, 4, 5)))
    assert not list(tmp_path.iterdir())
