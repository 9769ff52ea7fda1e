"""Shapes of cells: descriptors and alignment with answers by construction, films and what is wrong with them."""

import json
from math import pi

import cv2
import numpy as np
import pytest

from cellseg_d2.analysis.alignment import FIELD, SIDE, align, largest_piece, pixel_masks
from cellseg_d2.analysis.features import DESCRIPTORS, radial_harmonics, radial_outline, shape_descriptors, shape_table
from cellseg_d2.analysis.film import read_film
from cellseg_d2.analysis.shape_space import overlap
from cellseg_d2.errors import DatasetError


def ellipse(aspect: float, area: float = 900.0, turn: float = 0.0, shift: float = 0.0) -> np.ndarray:
    """A mask of an ellipse, in a window with room."""
    long, short = (area * aspect / pi) ** 0.5, (area / aspect / pi) ** 0.5
    side = int(2 * long + 8)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2 - shift
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return (u / long) ** 2 + (v / short) ** 2 <= 1


def tadpole(size: float, turn: float) -> np.ndarray:
    """A body with a tail to one side and a bump on the tail: no symmetry."""
    side = int(4 * size)
    y, x = (np.mgrid[:side, :side] - side / 2) / size
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    body, tail = (u + 0.4) ** 2 + (v / 0.8) ** 2 <= 0.25, (np.abs(v) < 0.2) & (u > -0.4) & (u < 1.2)
    return body | tail | ((u - 0.6) ** 2 + (v - 0.3) ** 2 < 0.06)


# Descriptors


@pytest.mark.parametrize("radius", [8, 15, 40])
def test_disc(radius):
    found = shape_descriptors(ellipse(1, pi * radius**2, shift=0.3))
    assert list(found) == list(DESCRIPTORS)
    assert found["area"] == pytest.approx(pi * radius**2, rel=0.03)
    assert found["perimeter"] == pytest.approx(2 * pi * radius, rel=0.03)
    assert found["form_factor"] == pytest.approx(1, abs=0.03)
    assert found["aspect_ratio"] == pytest.approx(1, abs=0.03)
    assert found["extent"] == pytest.approx(pi / 4, abs=0.04)
    assert found["hu1"] == pytest.approx(np.log10(1 / (2 * pi)), abs=0.01)
    assert max(found[f"fourier{k}"] for k in range(1, 7)) < 0.02


@pytest.mark.parametrize("turn", [0, 0.4, 1.1, 2.5])
def test_ellipse(turn):
    found = shape_descriptors(ellipse(2, 2000, turn))
    assert found["aspect_ratio"] == pytest.approx(2, rel=0.01)
    assert found["eccentricity"] == pytest.approx(0.75**0.5, rel=0.01)
    assert found["extent"] == pytest.approx(pi / 4, abs=0.04)
    harmonics = [found[f"fourier{k}"] for k in range(1, 7)]
    assert np.argmax(harmonics) == 1 and harmonics[1] > 0.1
    assert max(harmonics[0], harmonics[2], harmonics[4]) < 0.01


def test_rectangle():
    found = shape_descriptors(np.ones((10, 40), dtype=bool))
    assert found["area"] == 400 and found["solidity"] == found["extent"] == pytest.approx(1)
    assert found["aspect_ratio"] == pytest.approx(4)


def test_harmonics_of_a_wave():
    angles = np.arange(128) * 2 * pi / 128
    assert radial_harmonics(5 + 1.5 * np.cos(3 * angles + 1)) == pytest.approx([0, 0, 0.15, 0, 0, 0])


def test_outline_of_a_crescent_is_zero_where_there_is_no_cell():
    y, x = np.mgrid[:60, :60] - 30
    outline = radial_outline((np.hypot(x, y) < 25) & (np.hypot(x - 5, y) > 24))
    assert outline.min() == 0 and outline.max() > 20


# Alignment


@pytest.mark.parametrize("turn", [0.0, 0.7, 1.6, 2.9, 4.0, 5.5])
@pytest.mark.parametrize("size", [35, 45, 90])
def test_alignment_knows_neither_direction_nor_size(turn, size):
    reference, mask = align(tadpole(45, 0.0)), tadpole(size, turn)
    found = align(mask)
    assert found.image.shape == (SIDE, SIDE) and found.image.dtype == np.float32
    assert overlap(found.image[None], reference.image[None])[0] > 0.95
    assert found.scale == mask.sum() ** 0.5 and found.inside > 0.99
    assert abs(np.angle(np.exp(1j * (found.angle - turn)))) < 0.05 + abs(reference.angle)


def test_mirror_images_stay_apart():
    mask = tadpole(45, 0.3)
    assert overlap(align(mask).image[None], align(mask[:, ::-1]).image[None])[0] < 0.9


def test_aligned_area_is_the_same_for_all():
    areas = [align(ellipse(a, size)).image.sum() for a, size in ((1, 300), (3, 2000), (5, 9000))]
    assert areas == pytest.approx([(SIDE / FIELD) ** 2] * 3, rel=0.01)
    assert align(ellipse(30, 4000)).inside < 0.9


def test_back_to_pixels():
    masks = [ellipse(2, 400, 0.5), ellipse(3, 200), tadpole(60, 2.0)]
    ones = [align(mask) for mask in masks]
    back = pixel_masks(np.stack([one.image for one in ones]), [one.scale for one in ones])
    for mask, found, one in zip(masks, back, ones):
        assert found.dtype == bool and found.sum() == pytest.approx(mask.sum(), rel=0.06)
        assert found[0].any() and found[-1].any() and found[:, 0].any() and found[:, -1].any()
        assert overlap(align(found).image[None], one.image[None])[0] > 0.85  # 200 pixels are coarse
    with pytest.raises(ValueError, match="no pixel of at least 0.5"):
        pixel_masks(np.zeros((1, SIDE, SIDE)), [10.0])
    with pytest.raises(ValueError, match="positive"):
        pixel_masks(np.ones((1, SIDE, SIDE)), [0.0])


def test_largest_piece():
    masks = np.zeros((2, 8, 8), dtype=bool)
    masks[0, :2, :2] = masks[0, 4:, 4:] = True
    assert largest_piece(masks).sum(axis=(1, 2)).tolist() == [16, 0]


@pytest.mark.parametrize("act", [align, shape_descriptors])
def test_empty_masks_are_refused(act):
    with pytest.raises(ValueError, match="at least one pixel"):
        act(np.zeros((5, 5), dtype=bool))


# Films


def write_film(folder, images=4, change=lambda coco: None):
    """A film of two discs of different size that move; the second one begins in the second image."""
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    for k in range(images):
        coco["images"].append({"id": k, "file_name": f"t{k:03d}.tif", "width": 90, "height": 60})
        for label, (x, radius) in enumerate(((20 + 2 * k, 9), (60, 6))):
            if label and not k:
                continue
            points = cv2.ellipse2Poly((x, 30), (radius, radius), 0, 0, 360, 15)[:-1].reshape(-1).tolist()
            own = {"id": len(coco["annotations"]), "image_id": k, "category_id": 1, "label": 7 + label}
            coco["annotations"].append({**own, "segmentation": [points]})
    change(coco)
    (folder / "film.json").write_text(json.dumps(coco))
    return folder / "film.json"


def test_film(tmp_path):
    film = read_film(write_film(tmp_path))
    assert film.times.tolist() == [0, 1, 2, 3] and film.unit == "frames" and "file names" in film.source
    assert film.tracks == [7, 8] and film.tracked and film.counts.tolist() == [1, 2, 2, 2]
    table, aligned = shape_table(film)
    assert len(aligned) == len(table) == 7 and not table["at_border"].any()
    assert table["frame"].tolist() == [0, 1, 1, 2, 2, 3, 3]
    second = table[table["track"] == 8]
    assert second["age"].tolist() == [0, 1, 2] and table.loc[table["track"] == 7, "age"].isna().all()
    assert table["density"][0] == 0 and (table["density"][1:] > 0).any()
    alone = read_film(tmp_path / "film.json", track_key="")
    assert not alone.tracked and len(alone.tracks) == 7 and shape_table(alone)[0]["age"].isna().all()


def entry(name, values):
    def change(coco):
        for image, value in zip(coco["images"], values):
            image[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "times", "unit"),
    [
        (entry("hours", [0, 1.5, 3, 8]), [0, 1.5, 3, 8], "hours"),
        (entry("time", ["00d00h00m", "00d04h30m", "01d00h00m", "02d00h00m"]), [0, 4.5, 24, 48], "hours"),
        (entry("frame", [3, 2, 1, 0]), [3, 2, 1, 0], "frames"),
        (entry("file_name", [f"A172_Phase_A7_1_0{k}d00h00m_1.tif" for k in range(4)]), [0, 24, 48, 72], "hours"),
    ],
)
def test_where_times_come_from(tmp_path, change, times, unit):
    film = read_film(write_film(tmp_path, change=change))
    assert film.times.tolist() == times and film.unit == unit
    assert np.all(np.diff([film.times[cell.image] for cell in film.cells]) >= 0)


def doubled(coco):
    coco["annotations"][2]["label"] = 7


def half_labelled(coco):
    del coco["annotations"][0]["label"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (entry("file_name", ["dog.png", "cat.png", "cow.png", "pig.png"]), "have no time.*add 'frame'"),
        (entry("frame", [0, 1]), "2 of 4 images have none there"),
        (entry("hours", [5, 5, 5, 5]), "the same time"),
        (doubled, "the same 'label', 7; it is no track"),
        (half_labelled, "1 of 7 annotations have no 'label'"),
        (lambda coco: coco["annotations"][1].update(label=[1]), "a whole number or a text"),
        (lambda coco: coco["annotations"].clear(), "no cell of at least 30 pixels"),
    ],
)
def test_films_that_cannot_be_used(tmp_path, change, words):
    with pytest.raises(DatasetError, match=words):
        read_film(write_film(tmp_path, change=change))


def test_largest_piece_with_holes_filled_and_specks_left_out(tmp_path, caplog):
    def change(coco):
        mask = np.zeros((60, 90), dtype=np.uint8)
        mask[10:30, 10:30], mask[15:20, 15:20], mask[40:44, 40:44] = 1, 0, 1
        runs = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [0]])))
        counts = np.diff(np.concatenate([[0], runs, [mask.size]])).tolist()
        coco["annotations"][0]["segmentation"] = {"size": [60, 90], "counts": counts}
        coco["annotations"][1]["segmentation"] = [[50, 50, 53, 50, 53, 53, 50, 53]]

    film = read_film(write_film(tmp_path, change=change))
    assert film.cells[0].mask.all() and film.cells[0].mask.shape == (20, 20)
    assert (film.cells[0].left, film.cells[0].top) == (10, 10)
    assert film.left_out == 1 and "1 cells of fewer than 30 pixels" in caplog.text and film.counts[1] == 2
