"""Cells in a shape between their own and another one: size, place and brightness stay, the shape lies between."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg_d2.analysis.alignment import align
from cellseg_d2.analysis.morphs import Morphs
from cellseg_d2.analysis.shape_vae import VAEOptions, save_vae, train_vae
from cellseg_d2.data.synthesis.bank_build import build_bank
from cellseg_d2.data.synthesis.cutout import cut_out
from cellseg_d2.data.synthesis.generate import generate
from cellseg_d2.data.synthesis.phantom import PhantomSpec, write_dataset
from cellseg_d2.data.synthesis.recipe import Plan, Recipe
from cellseg_d2.errors import DatasetError, MissingDataError

SHAPE = (200, 260)
TOOL = str(Path(__file__).parents[2] / "tools" / "dataset.py")


def ellipse(aspect, area=500.0, angle=0.0, middle=(100, 130)):
    """H x W bool."""
    rows, columns = np.indices(SHAPE)
    down, right = rows - middle[0], columns - middle[1]
    along, across = np.cos(angle) * right + np.sin(angle) * down, np.cos(angle) * down - np.sin(angle) * right
    return along**2 / aspect + across**2 * aspect <= area / np.pi


def aspect(mask):
    """Of the axes of a mask's second moments."""
    points = np.argwhere(mask).T
    least, most = np.linalg.eigvalsh(np.cov(points))
    return float(np.sqrt(most / least))


def tight(mask):
    """Mask, row and column as :func:`cut_out` takes them."""
    there = np.argwhere(mask)
    (top, left), (bottom, right) = there.min(axis=0), there.max(axis=0) + 1
    return mask[top:bottom, left:right], int(top), int(left)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """An autoencoder of ellipses."""
    rng = np.random.default_rng(0)
    images = [align(ellipse(rng.uniform(1, 5), rng.uniform(300, 900), rng.uniform(0, 3))).image for _ in range(150)]
    folder = tmp_path_factory.mktemp("shapes")
    save_vae(train_vae(np.stack(images), VAEOptions(latent=2, hidden=30, epochs=60, batch=16)), folder)
    return Morphs(str(folder))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Two images: the JSON and the images' folder."""
    folder = tmp_path_factory.mktemp("phantoms")
    spec = PhantomSpec(height=200, width=260, cells=(20, 25), cell_types=("PHRound",), scale=0.8)
    return write_dataset(folder, spec, 2, seed=1), folder / "images"


@pytest.fixture(scope="module")
def cutouts():
    """A round and a long cell, both bright in the middle, and one at the border of the image."""
    masks = [ellipse(1.1, middle=(60, 60)), ellipse(3.5, angle=0.6, middle=(110, 170)), ellipse(2, middle=(199, 40))]
    depth = sum(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5) for mask in masks)
    zero = np.zeros(SHAPE, np.float32)
    return list(cut_out(20 + 3 * depth, [tight(mask) for mask in masks], zero, zero))


def test_shapes_lie_between_and_the_rest_stays(cutouts, shapes):
    made = shapes(cutouts, seed=0)
    assert [(morph.cell, morph.towards) for morph in made] == [(0, 1), (1, 0)]
    aspects = [aspect(cell.distance > 0) for cell in cutouts]
    for morph in made:
        before, after = cutouts[morph.cell], morph.cutout
        assert aspects[0] + 0.3 < aspect(after.distance > 0) < aspects[1] - 0.3
        assert after.area == pytest.approx(before.area, rel=0.03) and (after.distance > 0).sum() == after.area
        centres = [np.argwhere(cell.distance > 0).mean(axis=0) + (cell.top, cell.left) for cell in (before, after)]
        assert np.abs(centres[0] - centres[1]).max() < 1
        assert after.contrast == pytest.approx(before.contrast, rel=0.15)
        assert (after.gap, after.contact, after.crowding) == (before.gap, before.contact, before.crowding)


def test_brightness_goes_along_with_depth(cutouts, shapes):
    """The rim of the new shape is as dark as the old rim, its middle as bright as the old middle."""
    for morph in shapes(cutouts, seed=0):
        before, after = cutouts[morph.cell], morph.cutout
        for low, high in ((0, 4), (12, 100)):  # quarters of a pixel
            levels = [float(np.median(cell.delta[(cell.distance > low) & (cell.distance <= high)]))
                      for cell in (before, after)]  # fmt: skip
            assert levels[1] == pytest.approx(levels[0], rel=0.2)


def test_each_is_a_group_of_its_own_and_one_cell_has_no_other(cutouts, shapes):
    groups = [cell.group for cell in cutouts] + [morph.cutout.group for morph in shapes(cutouts, 0)]
    assert len(set(groups)) == len(groups)
    assert shapes(cutouts[:1], 0) == [] and shapes([], 0) == []


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
def test_shares_that_are_none(share):
    with pytest.raises(DatasetError, match="above 0"):
        Morphs("somewhere", share)


def test_a_bank_with_them(phantoms, shapes, tmp_path):
    one, two = (build_bank(*phantoms, tmp_path / f"{n}.bank", n, variants=shapes) for n in (1, 2))
    assert one.path.read_bytes() == two.path.read_bytes()
    new = one.cells["share"] > 0
    ids = {annotation["id"] for annotation in json.loads(phantoms[0].read_text())["annotations"]}
    assert 0.5 < new.sum() / (~new).sum() <= 1 and set(one.cells["towards"][new].tolist()) <= ids
    recipe = Recipe(factor=2)
    made = generate(one, Plan(one, recipe), recipe, 0).annotations
    told = [annotation["provenance"].get("shape") for annotation in made]
    assert any(told) and not all(told)
    assert all(shape["share"] == 0.5 and shape["towards"] in ids for shape in told if shape)


def test_no_network(phantoms, tmp_path):
    with pytest.raises(MissingDataError, match="vae"):
        build_bank(*phantoms, tmp_path / "a.bank", variants=Morphs(str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_a_share_without_shapes(phantoms, tmp_path):
    json_file, images = map(str, phantoms)
    args = ["bank", "--json", json_file, "--images", images, "--output", str(tmp_path / "a.bank"), "--share", "0.3"]
    done = subprocess.run([sys.executable, TOOL, *args], capture_output=True, text=True)
    assert done.returncode == 2 and "--shapes" in done.stderr and not list(tmp_path.iterdir())
