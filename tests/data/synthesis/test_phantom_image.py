"""One simulated image: counts, masks, overlap, grey values, and what cannot be simulated."""

from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage
from skimage.measure import regionprops

from cellseg_d2.data.synthesis.phantom import MORPHOLOGIES, Optics, PhantomSpec, PlacementError, simulate

TYPES = sorted(MORPHOLOGIES)


def place(cell, shape):
    """The cell's mask in the whole image."""
    full = np.zeros(shape, bool)
    h, w = cell.mask.shape
    assert cell.y0 >= 0 and cell.x0 >= 0 and cell.y0 + h <= shape[0] and cell.x0 + w <= shape[1]
    full[cell.y0 : cell.y0 + h, cell.x0 : cell.x0 + w] = cell.mask
    return full


def touching_pairs(labels):
    """Pairs of labels that are neighbours in a row or a column."""
    pairs = set()
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        meet = (a != b) & (a > 0) & (b > 0)
        pairs |= {tuple(sorted(p)) for p in zip(a[meet].tolist(), b[meet].tolist(), strict=True)}
    return pairs


@pytest.mark.parametrize("cell_type", TYPES)
def test_every_cell_is_one_region_inside_the_image_and_its_polygon_says_the_same(cell_type):
    spec = PhantomSpec(cells=(45, 45), overlap=0.3)
    phantom = simulate(spec, 3, cell_type)
    assert len(phantom.cells) == 45 and phantom.cell_type == cell_type
    assert phantom.image.shape == (256, 256) and phantom.image.dtype == np.uint8
    eight = np.ones((3, 3))
    total = np.zeros((256, 256), int)
    for number, cell in enumerate(phantom.cells, 1):
        full = place(cell, (256, 256))
        total += full
        assert (phantom.labels[full] == number).all()
        assert cell.area == full.sum() > 0
        assert ndimage.label(full, eight)[1] == 1 and (ndimage.binary_fill_holes(full) == full).all()
        ys, xs = np.nonzero(full)
        assert cell.bbox == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert len(cell.polygon) >= 6
        decoded = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([cell.polygon], 256, 256))).astype(bool)
        assert (decoded & full).sum() / (decoded | full).sum() > 0.9
    assert total.max() == 1  # visible regions are disjoint
    assert phantom.confluence == pytest.approx(total.mean())


def test_same_seed_same_bytes_and_another_seed_another_image():
    spec = PhantomSpec(height=96, width=128, cells=(4, 12))
    first, again, other = (simulate(spec, seed) for seed in (5, 5, 6))
    assert first.image.tobytes() == again.image.tobytes() and (first.labels == again.labels).all()
    assert first.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("cell_type", TYPES)
def test_more_cells_cover_more(cell_type):
    few, many = (simulate(PhantomSpec(cells=(n, n)), 1, cell_type) for n in (10, 50))
    assert (len(few.cells), len(many.cells)) == (10, 50)
    assert many.confluence > 2.5 * few.confluence


def test_the_number_of_cells_is_drawn_from_the_range():
    spec = PhantomSpec(height=96, width=96, cells=(2, 5))
    counts = {len(simulate(spec, seed, "PHRound").cells) for seed in range(20)}
    assert counts == {2, 3, 4, 5}


def test_the_types_look_different():
    """Extent of the bounding box that is filled: discs most, neurites least."""
    def filled(cell_type):
        cells = simulate(PhantomSpec(cells=(40, 40), clumping=0.0, rounded=0.0), 2, cell_type).cells
        return np.median([cell.mask.mean() for cell in cells])
    assert filled("PHRound") > 0.7 > filled("PHSpindle") > filled("PHNeurite")


def test_diameters_are_those_of_the_demo():
    for cell_type in TYPES:
        cells = simulate(PhantomSpec(height=320, width=320, cells=(30, 30)), 4, cell_type).cells
        assert 16 <= np.median([max(cell.mask.shape) for cell in cells]) <= 62


@pytest.mark.parametrize("cell_type", TYPES)
def test_grey_values_are_like_those_of_livecell(cell_type):
    phantoms = [simulate(PhantomSpec(), seed, cell_type) for seed in range(4)]
    assert np.mean([p.image.mean() for p in phantoms]) == pytest.approx(128, abs=1)
    assert 6 < np.mean([p.image.std() for p in phantoms]) < 17


def test_cells_have_a_bright_halo_and_a_dark_edge():
    phantom = simulate(PhantomSpec(cells=(12, 12), clumping=0.0, overlap=0.0, rounded=0.0), 8, "PHRound")
    cells = phantom.labels > 0
    outside = ndimage.binary_dilation(cells, iterations=2) & ~cells
    inside = ndimage.binary_erosion(cells, iterations=1) & ~ndimage.binary_erosion(cells, iterations=4)
    far = ~ndimage.binary_dilation(cells, iterations=15)
    assert phantom.image[outside].mean() > phantom.image[far].mean() + 8
    assert phantom.image[inside].mean() < phantom.image[far].mean() - 8
    assert phantom.image[far].std() < 4 < phantom.image[cells].std()


def test_cells_touch_when_they_clump_and_islands_touch_always():
    loose, clumped = (simulate(PhantomSpec(cells=(25, 25), clumping=c), 1, "PHRound") for c in (0.0, 1.0))
    assert len(touching_pairs(clumped.labels)) > 10 > 4 > len(touching_pairs(loose.labels))
    assert len(touching_pairs(simulate(PhantomSpec(cells=(25, 25)), 1, "PHEpithelial").labels)) > 20


def test_overlap_hides_parts_of_cells_only_where_it_is_allowed():
    """A cell with another one on it is less convex than a cell that only touches."""
    def solidity(overlap):
        spec = PhantomSpec(cells=(50, 50), overlap=overlap, clumping=1.0, rounded=0.0)
        regions = regionprops(simulate(spec, 2, "PHRound").labels)
        return np.percentile([region.solidity for region in regions], 5)
    assert solidity(0.0) > 0.88 > solidity(0.5)


def test_an_empty_image_has_background_only():
    phantom = simulate(PhantomSpec(height=64, width=80, cells=(0, 0), debris=0.0), 0)
    assert phantom.cells == () and phantom.confluence == 0 and phantom.labels.max() == 0
    assert phantom.image.shape == (64, 80) and 0 < phantom.image.std() < 4


def test_shading_and_noise_follow_the_optics():
    still = PhantomSpec(cells=(0, 0), debris=0.0, optics=Optics(shading=0.0, texture=0.0, noise=0.0))
    assert simulate(still, 0).image.std() == 0
    uneven = replace(still, optics=Optics(shading=30.0, texture=0.0, noise=0.0))
    shaded = simulate(uneven, 0).image
    assert shaded.std() > 2 and np.abs(np.diff(shaded.astype(int), axis=0)).max() <= 2


def test_two_thousand_cells_in_one_image():
    phantom = simulate(PhantomSpec(height=520, width=704, cells=(2000, 2000), scale=0.5), 1, "PHRound")
    assert len(phantom.cells) == phantom.labels.max() == 2000


def test_more_cells_than_fit_names_how_many_did():
    with pytest.raises(PlacementError, match=r"only \d+ of 500 cells of type PHSpindle fit into 96 x 96"):
        simulate(PhantomSpec(height=96, width=96, cells=(500, 500)), 0, "PHSpindle")
    # a range is kept by what fits, as long as it is enough
    assert 5 <= len(simulate(PhantomSpec(height=96, width=96, cells=(5, 500)), 0, "PHSpindle").cells) < 60


@pytest.mark.parametrize(("wrong", "message"), [
    ({"cell_types": ("PHRound", "HeLa")}, "unknown cell types .*HeLa.*PHRound"),
    ({"cell_types": ()}, "unknown cell types"),
    ({"cells": (9, 3)}, "lowest <= highest"),
    ({"cells": (0, 70000)}, "65535"),
    ({"overlap": 0.9}, "overlap = 0.9"),
    ({"clumping": -0.5}, "clumping = -0.5"),
    ({"height": 8}, "too small"),
    ({"scale": 0.0}, "scale"),
])
def test_impossible_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PhantomSpec(**wrong)


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="unknown cell type 'HeLa'"):
        simulate(PhantomSpec(), 0, "HeLa")
