"""tools/dataset.py stats: tables of whole data sets, groups, files, errors, and real images."""

import json
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from cellseg_d2.commands import stats as command
from cellseg_d2.data.datasets import DatasetError, MissingDataError, roots
from cellseg_d2.data.datasets.columns import open_coco
from cellseg_d2.data.stats import cell_table, group_column, image_table, measure, summarise

NAMES = ("A172_Phase_B1_1_01d00h00m_1.tif", "A172_Phase_B2_1_00d04h00m_1.tif", "BV2_Phase_B2_1_00d04h00m_2.tif")


@pytest.fixture
def livecell_like(discs, written, tmp_path):
    """JSON and folder of three images with 1, 2 and 0 cells, a crowd in the last one."""
    coco = discs(images=3)
    for image, name in zip(coco["images"], NAMES):
        image["file_name"] = name
    coco["annotations"] = [a for k, a in enumerate(coco["annotations"]) if k in (0, 3, 4, 6)]
    coco["annotations"][-1]["iscrowd"] = 1
    return written(tmp_path, coco)


def run(json_file, images, *options) -> int:
    parser = ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(["--json", str(json_file), "--images", str(images), *map(str, options)]))


def change(json_file, act):
    coco = json.loads(json_file.read_text())
    act(coco)
    json_file.write_text(json.dumps(coco))


def test_tables(livecell_like):
    coco = open_coco(livecell_like[0])
    cells, images = cell_table(coco, livecell_like[1]), image_table(coco, livecell_like[1])
    assert images["image"].tolist() == list(NAMES) and images["cells"].tolist() == [1, 2, 0]
    assert cells["image"].tolist() == [NAMES[0], NAMES[1], NAMES[1]] and cells["cell"].tolist() == [1, 4, 5]
    assert cells["cell_type"].tolist() == ["a172"] * 3 and set(cells["category"]) == {"cell"}
    assert images["well"].tolist() == ["B1", "B2", "B2"]
    pixels = [mask_util.area(mask_util.frPyObjects(coco.annotations[k]["segmentation"], 48, 64))[0] for k in range(3)]
    assert cells["area"].tolist() == pixels
    assert images["density"].tolist() == pytest.approx([n / 48 / 64 * 1e6 for n in (1, 2, 0)])


def test_groups(livecell_like):
    tables = measure(open_coco(livecell_like[0]), livecell_like[1])
    counts = {
        by: {name: (part["images"], part["cells"]) for name, part in summarise(tables, by)["groups"].items()}
        for by in ("cell_type", "well", "time")
    }
    assert counts["cell_type"] == {"a172": (2, 3), "bv2": (1, 0)}
    assert counts["well"] == {"B1": (1, 1), "B2": (2, 2)}
    assert list(counts["time"].items()) == [("00d04h00m", (2, 2)), ("01d00h00m", (1, 1))]
    assert group_column(tables, None) == "cell_type" and group_column(tables, "well") == "well"


def test_entries_say_more_than_names_and_some_say_nothing(livecell_like):
    def act(coco):
        coco["images"][0]["cell_type"], coco["images"][1]["well"] = "HuH7", 12

    change(livecell_like[0], act)
    (livecell_like[1] / NAMES[2]).rename(livecell_like[1] / "a.tif")
    change(livecell_like[0], lambda coco: coco["images"][2].update(file_name="a.tif"))
    tables = measure(open_coco(livecell_like[0]), livecell_like[1])
    assert list(summarise(tables, "cell_type")["groups"]) == ["a172", "huh7", "unknown"]
    assert list(summarise(tables, "well")["groups"]) == ["12", "B1", "unknown"]


def test_files(livecell_like, tmp_path, capsys):
    assert run(*livecell_like, "--by", "time", "--output", tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert "3 images, 3 cells" in text and "00d04h00m" in text and max(map(len, text.splitlines()[:20])) <= 80
    numbers = json.loads((tmp_path / "out" / "stats.json").read_text(), parse_constant=pytest.fail)
    assert numbers["by"] == "time" and numbers["overall"]["nearest"]["count"] == 2
    assert numbers["groups"]["01d00h00m"]["nearest"]["median"] is None
    tables = measure(open_coco(livecell_like[0]), livecell_like[1])
    for name in ("cells", "images"):
        read = pd.read_csv(tmp_path / "out" / f"{name}.csv")
        pd.testing.assert_frame_equal(read, getattr(tables, name), check_dtype=False, rtol=1e-5)
    with Image.open(tmp_path / "out" / "stats.png") as picture:
        assert picture.width == 2130 and len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(command.FILES)


def test_a_data_set_without_cells(livecell_like, tmp_path, capsys):
    change(livecell_like[0], lambda coco: coco.update(annotations=[]))
    assert run(*livecell_like, "--output", tmp_path / "out") == 0
    assert "3 images, 0 cells" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert numbers["overall"]["sizes"]["small"] is None and numbers["overall"]["confluence"]["max"] == 0
    assert (tmp_path / "out" / "cells.csv").read_text().startswith("image,image_id,cell,category,cell_type")


def test_outlines_without_a_pixel_are_counted(livecell_like, caplog):
    speck = [5.1, 5.1, 5.2, 5.1, 5.2, 5.2]
    change(livecell_like[0], lambda coco: coco["annotations"][1].update(segmentation=[speck]))
    tables = measure(open_coco(livecell_like[0]), livecell_like[1])
    assert tables.left_out == 1 and tables.images["cells"].tolist() == [1, 1, 0]
    assert "left out 1 annotations whose outlines cover no pixel" in caplog.text


def _damage(folder):
    path = folder / NAMES[1]
    path.write_bytes(path.read_bytes()[:300])


def _resize(folder):
    Image.fromarray(np.zeros((48, 65), np.uint8)).save(folder / NAMES[1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(_damage, "cannot use image .*B2_1_00d04h00m_1"), (_resize, "65 x 48 pixels, but the JSON says 64 x 48")],
)
def test_images_that_cannot_be_used(livecell_like, tmp_path, spoil, message):
    spoil(livecell_like[1])
    with pytest.raises(DatasetError, match=message):
        run(*livecell_like, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_images_are_counted(livecell_like):
    for name in NAMES[1:]:
        (livecell_like[1] / name).unlink()
    with pytest.raises(MissingDataError, match="2 of 3 images of .* are not below .*first A172_Phase_B2"):
        run(*livecell_like)


@pytest.mark.parametrize(
    ("act", "options", "message"),
    [
        (lambda coco: [image.update(file_name=5) for image in coco["images"]], (), "file_name 5"),
        (lambda coco: coco.update(images=[], annotations=[]), (), "'images' is empty"),
    ],
)
def test_json_that_cannot_be_used(livecell_like, act, options, message):
    change(livecell_like[0], act)
    with pytest.raises(DatasetError, match=message):
        run(*livecell_like, *options)


def test_no_image_has_what_is_asked_for(discs, written, tmp_path):
    place = written(tmp_path, discs(images=2))
    assert run(*place) == 0
    with pytest.raises(DatasetError, match="no image has a well: .*'well'"):
        run(*place, "--by", "well")


def test_the_input_is_never_replaced(livecell_like):
    json_file = livecell_like[0].rename(livecell_like[0].with_name("stats.json"))
    before = json_file.read_bytes()
    with pytest.raises(DatasetError, match="the input itself"):
        run(json_file, livecell_like[1], "--output", json_file.parent)
    assert json_file.read_bytes() == before


def test_livecell():
    folder = roots.find("livecell")
    path = (folder or Path()) / "livecell_coco_val.json"
    if folder is None or not path.is_file():
        pytest.skip(f"livecell is in none of {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    coco = open_coco(path)
    tables = measure(coco, folder / "images")
    assert len(tables.cells) == len(coco.annotations) == tables.images["cells"].sum() and not tables.left_out
    said = pd.Series({a["id"]: a["area"] for a in coco.annotations})[tables.cells["cell"]].to_numpy()
    assert np.allclose(tables.cells["area"], said, rtol=0.1, atol=5)  # of pixels and of polygons
    assert tables.images["confluence"].between(0.05, 0.95).all()
    assert (tables.cells["foreground_sd"].median() > tables.images["background_sd"]).all()  # phase contrast: texture
    sizes = tables.cells.groupby("cell_type")["diameter"].median()
    assert sizes["huh7"] > sizes["bt474"] > sizes["mcf7"]
