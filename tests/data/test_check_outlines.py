"""Outlines of any quality: nothing stops the check, and what is mended stays mended."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from cellseg_d2.data.check.outlines import read_outlines
from cellseg_d2.data.rle import parse_runs

HEIGHT, WIDTH = 60, 90


def test_points_in_no_order_are_dropped_at_once():
    """Parting such a polygon into its pieces would take hours."""
    points = np.random.default_rng(0).uniform(0, 60, 600).round(2).tolist()
    (result,) = read_outlines([(0, {"segmentation": [points]})], (HEIGHT, WIDTH))
    assert result.rle is None and [kind for kind, _ in result.problems] == ["self_crossing"]


@pytest.mark.parametrize("shift, inside", [(0, True), (1, True), (3, False)])
def test_a_pixel_beyond_the_border_is_no_finding(shift, inside):
    entry = {"segmentation": [[v + dx for v, dx in zip([70, 20, 90, 20, 90, 40, 70, 40], [shift, 0] * 4)]]}
    assert (read_outlines([(0, entry)], (HEIGHT, WIDTH))[0].problems == []) is inside


values = st.one_of(st.floats(), st.integers(-(10**30), 10**30), st.text(max_size=3), st.none(), st.booleans())
run_texts = st.text(st.sampled_from([chr(c) for c in range(44, 116)]), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.one_of(values, st.lists(values, max_size=9), st.lists(st.lists(values, max_size=9), max_size=3)))
def test_no_outline_stops_the_check(segmentation):
    (result,) = read_outlines([(0, {"segmentation": segmentation})], (HEIGHT, WIDTH))
    assert (result.rle is None) <= bool(result.problems)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 110), st.integers(-20, 80)), min_size=3, max_size=9))
@example([(0, 43), (44, 37), (57, 80), (72, 67)])  # the image's border leaves a piece of a thousandth of a pixel
def test_a_mended_outline_has_no_problem_left(points):
    entry = {"segmentation": [[float(v) for point in points for v in point]]}
    (result,) = read_outlines([(0, entry)], (HEIGHT, WIDTH))
    if result.rle is not None:
        (again,) = read_outlines([(0, {"segmentation": result.segmentation()})], (HEIGHT, WIDTH))
        assert again.problems == [] and again.pixels == pytest.approx(result.pixels)


@settings(max_examples=150, deadline=None)
@given(st.one_of(run_texts, st.lists(st.integers(-2, 40), max_size=6)))
def test_run_lengths_are_whole_or_refused(run):
    rle, problem = parse_runs({"size": [5, 8], "counts": run}, (5, 8))
    assert (rle is None) == bool(problem)
    assert rle is None or 0 <= mask_util.area(rle) <= 40
