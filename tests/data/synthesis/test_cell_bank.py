"""The bank's file: what was cut out comes back, which cells are used, and files that are no bank."""

import json
import pickle

import numpy as np
import pytest

from cellseg_d2.data.synthesis.background import Background
from cellseg_d2.data.synthesis.bank_build import build_bank
from cellseg_d2.data.synthesis.cell_bank import BankImage, BankWriter, CellBank, Origin
from cellseg_d2.data.synthesis.cutout import cut_out
from cellseg_d2.errors import DatasetError, MissingDataError

LEVEL, SIZE = 1000.0, 400


@pytest.fixture
def image(paint_disc):
    """``image(radii)``: what the writer takes of an image of discs in a row, one of each radius."""

    def make(radii, contrast=30.0, name="a.tif"):
        rng = np.random.default_rng(len(radii))
        shape = (60, SIZE)
        pixels = rng.normal(LEVEL, 2, shape).astype(np.float32)
        masks = []
        for k, radius in enumerate(radii):
            full = paint_disc(shape, 30, 40 + 50 * k, radius)
            pixels += np.float32(contrast + 5 * rng.random()) * full
            rows, columns = np.nonzero(full)
            top, left = int(rows.min()), int(columns.min())
            masks.append((full[top : rows.max() + 1, left : columns.max() + 1], top, left))
        smooth = np.full(shape, LEVEL, np.float32) + np.linspace(-3, 3, SIZE, dtype=np.float32)
        background = Background(smooth, (pixels - smooth) * 0.1, 0.5, 2.0)
        cells = list(cut_out(pixels, masks, smooth, background.residual))
        entry = BankImage(name, 1, "", None, *shape, "<f4", len(cells), 0.1, LEVEL, 2.0, contrast, 300.0, 0.5)
        return entry, background, cells, [Origin(k + 1, 0) for k in range(len(cells))]

    return make


def write(path, *parts):
    """A bank of these images."""
    with BankWriter(path, [{"id": 7, "name": "cell"}], {"json": "of a test"}) as writer:
        for part in parts:
            writer.add(*part)
        counts = writer.close_tables()
    return CellBank(path), counts


def test_cells_and_backgrounds_come_back(tmp_path, image):
    first, second = image([8, 9, 10]), image([7, 11], name="b.tif")
    bank, counts = write(tmp_path / "b.bank", first, second)
    assert [entry.file_name for entry in bank.images] == ["a.tif", "b.tif"] and sum(counts.values()) == 0
    assert bank.cells["image"].tolist() == [0, 0, 0, 1, 1] and bank.cells["source"].tolist() == [1, 2, 3, 1, 2]
    assert bank.categories == [{"id": 7, "name": "cell"}] and bank.info["json"] == "of a test"
    for place, cutout in enumerate(first[2] + second[2]):
        delta, distance = bank.patch(place)
        row = bank.cells[place]
        assert np.abs(delta - cutout.delta).max() <= 0.51 * row["scale"] < 0.01
        assert (distance == cutout.distance).all()
        for name in ("top", "left", "area", "gap", "contact", "crowding", "overlapped", "solidity", "contrast"):
            assert row[name] == pytest.approx(getattr(cutout, name), rel=1e-6), name
        assert row["usable"] == 1 and row["at_border"] == 0
    for place, (_, background, _, _) in enumerate((first, second)):
        smooth, residual = bank.background(place)
        assert smooth.dtype == residual.dtype == np.float32
        assert np.abs(smooth - background.smooth).max() < 0.01
        assert np.abs(residual - background.residual).max() < 0.01


def test_the_file_is_mapped_and_pickled_by_its_name(tmp_path, image):
    bank, _ = write(tmp_path / "b.bank", image([8, 9]))
    base = bank.cells
    while not isinstance(base, np.memmap):
        base = base.base
    text = pickle.dumps(bank)
    assert len(text) < 500 and str(bank.path).encode() in text
    again = pickle.loads(text)
    assert (again.cells == bank.cells).all() and (again.patch(1)[0] == bank.patch(1)[0]).all()
    with pytest.raises(ValueError, match="read-only"):
        bank.cells["area"][0] = 1


def test_odd_cells_are_in_the_file_but_not_used(phantoms, tmp_path, edited):
    def change(content):
        one, *_ = [a for a in content["annotations"] if 20 < a["bbox"][0] < 120 and 20 < a["bbox"][1] < 120]
        copy = {**one, "id": 10_000}  # the same cell twice: both are overlapped
        box = [60, 60, 60, 60]
        giant = {**one, "id": 10_001, "bbox": box, "area": 3600, "image_id": content["images"][-1]["id"]}
        giant["segmentation"] = [[60, 60, 120, 60, 120, 120, 60, 120]]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != giant["image_id"]]
        content["annotations"] += [copy, giant]
        change.one = one["id"]

    bank = build_bank(edited(change), phantoms[1], tmp_path / "b.bank")
    rows = {row["source"]: row for row in bank.cells}
    for source in (change.one, 10_000):
        assert rows[source]["overlapped"] == 1 and rows[source]["usable"] == 0
    assert rows[10_001]["usable"] == 0 and rows[10_001]["overlapped"] == 0 and rows[10_001]["at_border"] == 0
    assert bank.info["left_out"] == {
        "at the border of the image": int(bank.cells["at_border"].sum()),
        "overlapped by others": 2, "outliers in size or contrast": 1,
    }  # fmt: skip
    assert bank.cells["at_border"].sum() > 0 and not bank.cells["usable"][bank.cells["at_border"] == 1].any()
    assert len(bank.cells) == bank.cells["usable"].sum() + sum(bank.info["left_out"].values())


def test_crowds_are_neither_cells_nor_background(phantoms, tmp_path, edited, bank):
    def change(content):
        box = {"bbox": [0, 0, 80, 160], "area": 80 * 160, "iscrowd": 1}
        runs = {"size": [160, 160], "counts": [0, 80 * 160, 80 * 160]}  # the left half
        crowd = {"id": 10_000, "image_id": content["images"][0]["id"], "category_id": 1, "segmentation": runs, **box}
        content["annotations"].append(crowd)

    other = build_bank(edited(change), phantoms[1], tmp_path / "b.bank")
    assert 10_000 not in other.cells["source"] and len(other.cells) == len(bank.cells)
    assert other.images[0].free < 0.6 * bank.images[0].free
    assert other.images[1].free == bank.images[1].free


@pytest.mark.parametrize("bad", ["seven", 1.5, None, True, 2**70])
def test_ids_that_are_no_whole_numbers(phantoms, tmp_path, edited, bad):
    path = edited(lambda content: content["annotations"][0].update(id=bad))
    with pytest.raises(DatasetError, match="whole numbers|id"):
        build_bank(path, phantoms[1], tmp_path / "b.bank")
    assert not list(tmp_path.glob("*.bank*")) and not list(tmp_path.glob(".*.bank*"))


def test_what_fails_midway_leaves_nothing(tmp_path, image):
    (tmp_path / "b.bank").write_bytes(b"the old one")
    with pytest.raises(KeyboardInterrupt):
        with BankWriter(tmp_path / "b.bank", [], {}) as writer:
            writer.add(*image([8]))
            raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["b.bank"]
    assert (tmp_path / "b.bank").read_bytes() == b"the old one"


def test_a_missing_bank(tmp_path):
    with pytest.raises(MissingDataError, match="no such cell bank"):
        CellBank(tmp_path / "b.bank")


def is_refused(path):
    """One clear error, which names the file."""
    with pytest.raises(DatasetError) as caught:
        CellBank(path)
    return str(path) in str(caught.value) and "make it again" in str(caught.value)


def test_a_bank_that_breaks_off(bank, tmp_path):
    whole, path = bank.path.read_bytes(), tmp_path / "b.bank"
    for length in {0, 10, 32, 40, 48, 100, len(whole) // 2, *range(len(whole) - 40, len(whole)), len(whole) - 5000}:
        path.write_bytes(whole[:length])
        assert is_refused(path), length


@pytest.mark.parametrize("change", [{"cells": 10**9}, {"cells": "x"}, {"images": [{"x": 1}]}, {"images": None}, None])
def test_a_bank_with_a_damaged_header(bank, tmp_path, change):
    whole, path = bank.path.read_bytes(), tmp_path / "b.bank"
    text = whole[int.from_bytes(whole[-8:], "little") : -16]
    wrong = [] if change is None else {**json.loads(text), **change}
    path.write_bytes(whole[: -16 - len(text)] + json.dumps(wrong).encode() + whole[-16:])
    assert is_refused(path)


@pytest.mark.parametrize("tables", [-1, 10**12, 2**62])
def test_a_bank_with_a_damaged_end(bank, tmp_path, tables):
    whole, path = bank.path.read_bytes(), tmp_path / "b.bank"
    path.write_bytes(whole[:-16] + tables.to_bytes(8, "little", signed=True) + whole[-8:])
    assert is_refused(path)


def test_a_foreign_file(phantoms, tmp_path):
    (tmp_path / "b.bank").write_bytes(phantoms[0].read_bytes())
    assert is_refused(tmp_path / "b.bank") and is_refused(phantoms[0])


def test_no_usable_cell_is_an_error_with_the_reasons(phantoms, tmp_path, edited):
    def change(content):
        content["annotations"] = [a for a in content["annotations"] if a["bbox"][0] <= 0 or a["bbox"][1] <= 0]

    with pytest.raises(DatasetError, match=r"no cell that can be cut out \(\d+ at the border of the image\)"):
        build_bank(edited(change), phantoms[1], tmp_path / "b.bank")
    with pytest.raises(DatasetError, match="there is no annotation"):
        build_bank(edited(lambda content: content["annotations"].clear()), phantoms[1], tmp_path / "b.bank")
    assert not list(tmp_path.glob("*.bank*")) and not list(tmp_path.glob(".*.bank*"))


def test_damaged_and_resized_images(phantoms, tmp_path, edited):
    name = json.loads(phantoms[0].read_text())["images"][0]["file_name"]
    path = edited(lambda content: content["images"][0].update(height=150))
    with pytest.raises(DatasetError, match="160 x 160 pixels, but the JSON says 160 x 150"):
        build_bank(path, phantoms[1], tmp_path / "b.bank")
    for source in phantoms[1].iterdir():
        cut = -3000 if source.name == name else None
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / source.name).write_bytes(source.read_bytes()[:cut])
    with pytest.raises(DatasetError, match=f"{name}.*copy it again"):
        build_bank(phantoms[0], tmp_path / "images", tmp_path / "b.bank")
