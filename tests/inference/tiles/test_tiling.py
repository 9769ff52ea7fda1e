"""Tiles cover the image as they should, and maps are put together without a seam."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_d2.inference.tiles.tiling import Stitcher, plan_tiles, stitch, tile_for

lengths = st.integers(1, 300)


@st.composite
def plans(draw):
    """Height, width, tile and overlap."""
    tile = draw(st.integers(1, 80))
    return (
        draw(lengths),
        draw(lengths),
        tile,
        draw(st.integers(max(tile - 40, 0), tile - 1) if tile > 40 else st.just(0)),
    )


@settings(max_examples=60, deadline=None)
@given(plans())
def test_cores_part_the_image_and_lie_in_their_tiles(plan):
    height, width, side, overlap = plan
    seen = np.zeros((height, width), int)
    for tile in plan_tiles(height, width, side, overlap):
        y0, x0, y1, x1 = tile.core
        assert 0 <= tile.y0 <= y0 < y1 <= tile.y1 <= height and 0 <= tile.x0 <= x0 < x1 <= tile.x1 <= width
        assert tile.size == (min(side, height), min(side, width))
        seen[tile.core_slices] += 1
    assert (seen == 1).all()


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(2, 80), st.data())
def test_neighbours_share_at_least_the_overlap(length, side, data):
    overlap = data.draw(st.integers(0, side - 1))
    tiles = plan_tiles(length, 1, side, overlap)
    for tile, following in zip(tiles, tiles[1:]):
        assert tile.y0 < following.y0 and tile.y1 - following.y0 >= overlap
    assert all(tile.y1 - following.y0 == overlap for tile, following in zip(tiles, tiles[1:-1]))
    assert len(tiles) == max(-(-(length - overlap) // (side - overlap)), 1)


def test_an_image_no_larger_than_a_tile_is_one_tile():
    for size in ((512, 512), (100, 512), (3, 4)):
        (tile,) = plan_tiles(*size, tile=512, overlap=128)
        assert tile.size == size and tile.core == (0, 0, *size) and tile.slices == tile.core_inside


def test_the_border_of_two_cores_is_in_the_middle_of_their_overlap():
    tiles = plan_tiles(10, 200, 80, 20)
    assert [(tile.x0, tile.x1) for tile in tiles] == [(0, 80), (60, 140), (120, 200)]
    assert [tile.core[1::2] for tile in tiles] == [(0, 70), (70, 130), (130, 200)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((100, 100, 32, 32), "choose 0 to 31"),
        ((100, 100, 32, -1), "overlap by -1"),
        ((0, 100, 32, 8), "1 or more"),
        ((100, 100, 0, 0), "1 or more"),
    ],
)
def test_impossible_plans(arguments, words):
    with pytest.raises(ValueError, match=words):
        plan_tiles(*arguments)


@pytest.mark.parametrize("cell_size", [0.5, 16, 16.1, 64, 300])
def test_tiles_for_cells(cell_size):
    tile, overlap = tile_for(cell_size)
    assert overlap >= 2 * cell_size and overlap - 32 < 2 * cell_size and tile >= max(1024, 4 * overlap)
    assert tile % 32 == overlap % 32 == 0


@pytest.mark.parametrize("cell_size", [0, -3, float("nan"), float("inf")])
def test_cells_without_a_size(cell_size):
    with pytest.raises(ValueError, match="must be positive"):
        tile_for(cell_size)


def test_stitch_takes_each_pixel_from_its_core():
    tiles = plan_tiles(90, 140, 64, 16)
    whole = np.random.default_rng(0).random((90, 140))
    parts = (whole[tile.slices] for tile in tiles)
    stitched = stitch(tiles, parts)
    assert stitched.dtype == np.float32 and np.array_equal(stitched, whole.astype(np.float32))
    numbers = stitch(tiles, [np.full(tile.size, k) for k, tile in enumerate(tiles)])
    assert all((numbers[tile.core_slices] == k).all() for k, tile in enumerate(tiles))


def test_stitching_what_does_not_fit():
    tiles = plan_tiles(90, 140, 64, 16)
    with pytest.raises(ValueError, match="map of .64, 63. pixels"):
        Stitcher(90, 140).add(tiles[0], np.zeros((64, 63)))
    with pytest.raises(ValueError):
        stitch(tiles, [np.zeros((64, 64))])
