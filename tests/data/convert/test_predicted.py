"""Which image a file of prediction belongs to, and the classes of cells that were drawn anew."""

import json

import numpy as np
import pytest
import tifffile

from cellseg_d2.errors import DatasetError

from .convert_cases import HEIGHT, SQUARE, WIDTH, run


@pytest.fixture
def plates(tmp_path):
    """Black images of 60 x 40: x/A1/t1, y/A1/t1, y/B2/t1, y/B2/t2."""
    for name in ("x/A1/t1", "y/A1/t1", "y/B2/t1", "y/B2/t2"):
        path = tmp_path / "plates" / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.zeros((HEIGHT, WIDTH), np.uint8))
    return tmp_path / "plates"


def write(folder, **sides):
    """Label images with one square each, by which they are known."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, side in sides.items():
        labels = np.zeros((HEIGHT, WIDTH), np.uint16)
        labels[:side, :side] = 1
        tifffile.imwrite(folder / f"{name.replace('__', '-')}.tif", labels)
    return folder


def sides(images, source, output, *more):
    """Image -> side of its square."""
    assert run("--from", "labels", "--input", source, "--images", images, "--output", output, *more) == 0
    coco = json.loads((output / "annotations.json").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    return {names[cell["image_id"]]: cell["bbox"][2] for cell in coco["annotations"]}


def test_the_record_of_a_run_decides(plates, tmp_path):
    labels = write(plates / "out" / "labels", A1_t1=3, A1_t1__2=4, B2_t1=5, t2=6)
    write(plates / "out" / "overlays", t2=9)  # a result, no image
    names = {"x/A1/t1": "A1_t1-2", "y/A1/t1": "A1_t1", "y/B2/t1": "B2_t1", "y/B2/t2": "t2"}
    images = [{"file": str(plates / f"{image}.tif"), "name": name} for image, name in names.items()]
    (plates / "out" / "run.json").write_text(json.dumps({"images": images}))
    expected = {"x/A1/t1.tif": 4, "y/A1/t1.tif": 3, "y/B2/t1.tif": 5, "y/B2/t2.tif": 6}
    assert sides(plates, labels, tmp_path / "all") == expected
    assert sides(plates, labels / "A1_t1-2.tif", tmp_path / "one") == {"x/A1/t1.tif": 4}
    with pytest.raises(DatasetError, match="no image in .*B2 for 2 files: A1_t1-2.tif, A1_t1.tif"):
        sides(plates / "y" / "B2", labels, tmp_path / "some")
    (plates / "out" / "run.json").write_text('{"images": [1]}')
    with pytest.raises(DatasetError, match="run.json: not the record of a prediction"):
        sides(plates, labels, tmp_path / "damaged")


def test_a_folder_s_name_before_the_image_s(plates, tmp_path):
    copied = write(tmp_path / "mine", A1_t1=3, B2_t1=5, t2=6)
    assert sides(plates / "y", copied, tmp_path / "a") == {"A1/t1.tif": 3, "B2/t1.tif": 5, "B2/t2.tif": 6}
    copied = write(tmp_path / "few", B2_t1_labels=5)  # napari's name
    assert sides(plates / "y" / "B2", copied, tmp_path / "b", "--skip-unannotated") == {"t1.tif": 5}


def test_a_file_that_could_be_of_several_images_is_refused(plates, tmp_path):
    for number, name in enumerate(("t1", "A1_t1")):
        source = write(tmp_path / f"mine{number}", **{name: 3, "t2": 6})
        with pytest.raises(DatasetError, match=rf"{name}.tif could be of [23] images: .*t1.tif.*; rename"):
            sides(plates, source, tmp_path / "out", "--skip-unannotated")


def test_label_images_in_a_folder_of_the_images(plates, tmp_path):
    source = write(plates / "y" / "B2" / "masks", t1=5, t2=6)
    assert sides(plates / "y" / "B2", source, tmp_path / "out") == {"t1.tif": 5, "t2.tif": 6}


def features(*classes):
    return [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[*SQUARE, SQUARE[0]]]},
         "properties": {"classification": {"name": name}} if name else {}}
        for name in classes
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("drawn", "given", "classes", "said"),
    [
        (["nucleus", ""], [], ["nucleus", "nucleus"], ""),
        (["", ""], [], ["cell", "cell"], ""),
        (["nucleus", ""], ["cell"], ["nucleus", "cell"], ""),
        (["live", "dead", ""], [], ["live", "dead", "cell"], "1 cells have no class name and are 'cell' now"),
        (["dead", "live", ""], ["live", "dead"], ["dead", "live", "live"], "are 'live' now; there are live, dead"),
        (["dead"], ["live", "dead"], ["dead"], ""),
    ],
)
def test_classes_of_cells_that_were_drawn_anew(images, capsys, drawn, given, classes, said):
    source = images.parent / "a.geojson"
    source.write_text(json.dumps(features(*drawn)))
    options = ["--images", images / "a.png", "--output", images.parent / "out", *(["--class", *given] if given else [])]
    assert run("--from", "geojson", "--input", source, *options) == 0
    coco = json.loads((images.parent / "out" / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert [names[cell["category_id"]] for cell in coco["annotations"]] == classes
    shown = capsys.readouterr().out.replace("\n", " ")
    assert said in shown and ("no class name" in shown) == bool(said)
    if len(given) > 1:
        assert list(names.values()) == given  # in the model's order, also of those that no cell has
