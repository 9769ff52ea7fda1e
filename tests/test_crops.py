"""Run lengths of windows are those of the whole image, as pycocotools writes them."""

import numpy as np
import pycocotools.mask as mask_util
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_d2.crops import encode_crop, encode_crops


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_crops_are_encoded_as_whole_images(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 300))
    h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    count = data.draw(st.integers(0, 4))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    crops = generator.random((count, h, w)) < generator.choice([0, 0.05, 0.5, 0.95, 1], (count, 1, 1))
    origins = np.stack([generator.integers(0, width - w + 1, count), generator.integers(0, height - h + 1, count)], 1)
    expected = []
    for crop, (x, y) in zip(crops, origins):
        whole = np.zeros((height, width), dtype=np.uint8, order="F")
        whole[y : y + h, x : x + w] = crop
        rle = mask_util.encode(whole)
        expected.append({"size": rle["size"], "counts": rle["counts"].decode("ascii")})
    assert encode_crops(crops, origins, height, width) == expected
    assert [encode_crop(c, o.tolist(), height, width) for c, o in zip(crops, origins)] == expected
