"""Files of YOLO made by hand, names and kinds of label images, and what the command refuses."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellseg_d2.data.convert import FORMATS
from cellseg_d2.errors import DatasetError

from .convert_cases import HEIGHT, SQUARE, WIDTH, box, run, to_coco

# YOLO


def yolo(folder: Path, lines: str, classes: str | None = None, yaml: str | None = None) -> Path:
    (folder / "labels").mkdir()
    (folder / "labels" / "a.txt").write_text(lines)
    (folder / "labels" / "b.txt").write_text("")
    if classes is not None:
        (folder / "labels" / "classes.txt").write_text(classes)
    if yaml is not None:
        (folder / "data.yaml").write_text(yaml)
    return folder / "labels"


LINE = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in SQUARE)  # as Ultralytics and Label Studio print it


@pytest.mark.parametrize(
    "names",
    [{"classes": "live\ndead\n"}, {"yaml": "names: [live, dead]\n"}, {"yaml": "names:\n  0: live\n  1: dead\n"}],
)  # fmt: skip
def test_yolo_lines(images, names):
    cells, coco, code = to_coco("yolo", yolo(images.parent, f"1 {LINE}\n\n0 0 0 0.5 0 0.5 1\n", **names), images)
    assert (cells[0]["mask"] == box(2, 3, 12, 9)).all() and cells[0]["class"] == "dead" and code == 0
    assert coco["categories"] == [{"id": 1, "name": "live"}, {"id": 2, "name": "dead"}]
    assert abs(cells[1]["area"] - HEIGHT * WIDTH / 4) < 40 and len(coco["images"]) == 2


def test_yolo_without_classes_and_without_text_files(images, capsys):
    folder = yolo(images.parent, f"0 {LINE}\n")
    (folder / "b.txt").unlink()
    cells, coco, _ = to_coco("yolo", folder, images, "--class", "nucleus")
    assert [cell["class"] for cell in cells] == ["nucleus"] and len(coco["images"]) == 2
    assert "note: 1 images have no text file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (f"0 {LINE}\n2 {LINE}\n", {"classes": "x\ny\n"}, r"a.txt, line 2: class 2, but there are 2 classes"),
        (f"1 {LINE}\n", {}, "line 1: class 1, but there are 1 classes, from 0; put all names into classes.txt"),
        (f"-1 {LINE}\n", {}, "line 1: class -1"),
        ("0 0.5 0.5 0.1 0.1\n", {}, "line 1: a box"),
        ("0 0.5 0.5 0.1\n", {}, "line 1: 3 coordinates"),
        ("0 0.5 0.5 0.1 0.1 0.2 0.2 0.3\n", {}, "line 1: 7 coordinates"),
        ("cell 0.5 0.5 0.1 0.1 0.2 0.2\n", {}, "line 1: not a class index and numbers: cell"),
        ("0 0.5 0.5 10 0.1 0.2 0.2\n", {}, "line 1: coordinate 10 is no share"),
        ("0 0.5 0.5 nan 0.1 0.2 0.2\n", {}, "line 1: coordinate nan is no share"),
        ("", {}, "none of the 2 images has a cell"),
        (f"0 {LINE}\n", {"classes": "x\nx\n"}, "two classes have one name"),
        (f"0 {LINE}\n", {"yaml": "names: {0: a, 2: b}"}, r"'names' has the indices \[0, 2\]"),
        (f"0 {LINE}\n", {"yaml": "names: [a"}, "data.yaml: not a readable YAML file"),
    ],
)
def test_yolo_files_that_are_wrong(images, lines, options, message):
    with pytest.raises(DatasetError, match=message):
        to_coco("yolo", yolo(images.parent, lines, **options), images)


# Names of files


def labels(folder: Path, *names: str, shape: tuple[int, ...] = (HEIGHT, WIDTH)) -> Path:
    folder.mkdir(exist_ok=True)
    values = np.zeros(shape, np.uint16)
    values[3:9, 2:12] = 5
    for name in names:
        tifffile.imwrite(folder / name, values, photometric="rgb" if len(shape) == 3 else "minisblack")
    return folder


@pytest.mark.parametrize("mark", ["", "_mask", "_masks", "_cp_masks", "_seg", "_label", "_LABELS", ".labels"])
def test_names_of_masks(images, mark):
    cells, coco, _ = to_coco("labels", labels(images.parent / "m", f"a{mark}.tif", f"b{mark}.tif"), images)
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.png"]
    assert [cell["area"] for cell in cells] == [60, 60]


def test_masks_beside_their_images_as_cellpose_writes_them(images):
    labels(images, "a_cp_masks.tif", "b_cp_masks.tif")
    _, coco, _ = to_coco("labels", images, images)
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.png"]


def test_one_file_of_labels_for_one_of_several_images(images):
    _, coco, _ = to_coco("labels", labels(images.parent / "m", "b_mask.tif") / "b_mask.tif", images)
    assert [image["file_name"] for image in coco["images"]] == ["b.png"]


def frames(images: Path, *names: str) -> None:
    """Black images in the place of a.png and b.png."""
    for name in ("a.png", "b.png"):
        (images / name).unlink()
    for name in names:
        Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(images / name)


def test_numbers_pair_the_frames_of_a_film_of_which_some_are_labelled(images, capsys):
    frames(images, "t003.png", "t007.png", "t012.png")
    folder = labels(images.parent / "m", "man_seg7.tif", "man_seg012.tif")  # as the Cell Tracking Challenge
    _, coco, code = to_coco("labels", folder, images, "--skip-unannotated")
    assert [image["file_name"] for image in coco["images"]] == ["t007.png", "t012.png"] and code == 0
    said = capsys.readouterr().out
    assert "note: 1 images without annotations, left out" in said
    assert "note: 2 files were given to images by the last number in their names" in said
    labels(folder, "man_seg99.tif")
    (images.parent / "coco" / "annotations.json").unlink()
    with pytest.raises(DatasetError, match="no image in .* for 1 files: man_seg99.tif"):
        to_coco("labels", folder, images, "--skip-unannotated")


def test_numbers_do_not_pair_files_of_other_images(images):
    frames(images, "a_001.png", "b_002.png")
    with pytest.raises(DatasetError, match="no image in .* for 1 files: c_002_mask.tif"):
        to_coco("labels", labels(images.parent / "m", "a_001_mask.tif", "c_002_mask.tif"), images)
    (images.parent / "labels").mkdir()
    (images.parent / "labels" / "c_002.txt").write_text(f"0 {LINE}\n")
    with pytest.raises(DatasetError, match="no image in .* for 1 files: c_002.txt"):
        to_coco("yolo", images.parent / "labels", images)


def test_a_folder_in_two_spellings_is_one(images):
    labels(images, "a_mask.tif", "b_mask.tif")
    _, coco, code = to_coco("labels", images / ".." / "images", images)
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.png"] and code == 0


def test_yolo_names_two_folders_up(images):
    (images.parent / "data.yaml").write_text("\ufeffnames: [live]\n", encoding="utf-8")
    folder = images.parent / "labels" / "train"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text(f"0 {LINE}\n")
    cells, _, _ = to_coco("yolo", folder, images)
    assert [cell["class"] for cell in cells] == ["live"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.tif"], "nothing belongs to 1 of 2 images: b.png"),
        (["a.tif", "b.tif", "c.tif", "d_mask.tif"], "no image in .* for 2 files: c.tif, d_mask.tif"),
        (["a.tif", "b.tif", "b_mask.tif"], "several files belong to one image: b.tif, b_mask.tif"),
        ([], "has no file that ends in .tif"),
    ],
)
def test_files_without_partner_are_listed(images, names, message):
    with pytest.raises(DatasetError, match=message):
        to_coco("labels", labels(images.parent / "m", *names), images)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((HEIGHT, WIDTH - 1), np.uint8), "a.tif has 59 x 40 pixels, but its image has 60 x 40"),
        (np.random.default_rng(0).integers(0, 9, (HEIGHT, WIDTH, 3), np.uint8), "a colour image is not a mask"),
        (np.full((HEIGHT, WIDTH), 0.5, np.float32), "not whole numbers"),
        (np.full((2, HEIGHT, WIDTH), 0.5, np.float32), "no pages and its image|2 pages and its image"),
        (np.zeros((HEIGHT, WIDTH), np.uint8), "none of the 1 images has a cell"),
    ],
)
def test_label_images_that_are_wrong(images, values, message):
    (images.parent / "m").mkdir()
    colours = {"photometric": "rgb" if values.shape[-1] == 3 else "minisblack"}
    tifffile.imwrite(images.parent / "m" / "a.tif", values, **colours)
    with pytest.raises(DatasetError, match=message):
        to_coco("labels", images.parent / "m", images, "--skip-unannotated")


def test_labels_are_no_masks_and_masks_are_told_from_labels(images, capsys):
    folder = labels(images.parent / "m", "a.tif")
    values = tifffile.imread(folder / "a.tif")
    values[20:30, 20:30] = 255
    tifffile.imwrite(folder / "a.tif", values)
    with pytest.raises(DatasetError, match="a.tif: not an image of two values"):
        to_coco("masks", folder, images, "--skip-unannotated")
    tifffile.imwrite(folder / "a.tif", np.where(values > 0, 255, 0).astype(np.uint8))
    _, _, code = to_coco("labels", folder, images, "--skip-unannotated")
    assert code == 1 and "are they masks? (--from masks)" in capsys.readouterr().out


# The command


def back_options(images: Path) -> tuple:
    return ("--json", images.parent / "coco" / "annotations.json", "--images", images, "--output", images.parent / "o")


def test_nothing_is_replaced_and_a_broken_off_run_goes_on(images):
    folder = labels(images.parent / "m", "a.tif", "b.tif")
    to_coco("labels", folder, images)
    with pytest.raises(DatasetError, match="annotations.json is there already"):
        to_coco("labels", folder, images)
    options = back_options(images)
    for kind, name in (
        ("labels", "b.tif"),
        ("masks", "b.png"),
        ("rois", "b.zip"),
        ("labelme", "b.json"),
        ("yolo", "b.txt"),
    ):
        run("--to", kind, *options)
        first = (images.parent / "o" / name).read_bytes()
        (images.parent / "o" / name).unlink()
        run("--to", kind, *options)
        assert (images.parent / "o" / name).read_bytes() == first
        (images.parent / "o" / name).write_bytes(b"mine")
        with pytest.raises(DatasetError, match=f"{name} is there already, with another content"):
            run("--to", kind, *options)
        assert (images.parent / "o" / name).read_bytes() == b"mine"


@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_without_cells_stays(images, capsys, kind):
    folder = labels(images.parent / "m", "a.tif", "b.tif")
    tifffile.imwrite(folder / "b.tif", np.zeros((HEIGHT, WIDTH), np.uint8))
    to_coco("labels", folder, images)
    run("--to", kind, *back_options(images))
    (images.parent / "coco" / "annotations.json").unlink()
    cells, coco, code = to_coco(kind, images.parent / "o", images)
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.png"] and code == 0
    assert [(cell["image_id"], cell["area"]) for cell in cells] == [(1, 60)]
    assert capsys.readouterr().out.count("note: 1 images have no cell") == 2


def test_images_that_are_not_those_of_the_json(images):
    to_coco("labels", labels(images.parent / "m", "a.tif", "b.tif"), images)
    options = back_options(images)
    Image.fromarray(np.zeros((HEIGHT, WIDTH + 1), np.uint8)).save(images / "b.png")
    with pytest.raises(DatasetError, match="b.png has 61 x 40 pixels, but the JSON says 60 x 40"):
        run("--to", "rois", *options)
    (images / "b.png").unlink()
    with pytest.raises(DatasetError, match="1 of 2 images of .* are not there, first .*b.png"):
        run("--to", "rois", *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "labels"], "--input is missing"),
        (["--to", "labels"], "--json is missing"),
        (["--to", "labels", "--json", "x", "--class", "y"], "--class has no meaning together with --to"),
        (["--from", "labels", "--input", "x", "--json", "y"], "--json has no meaning together with --from"),
        (["--from", "labelme", "--input", "x", "--class", "y"], "--class has no meaning together with labelme"),
        (["--from", "labels", "--input", "nowhere"], "nowhere: there is no such file or folder"),
        (["--from", "yolo", "--input", "x", "--images", "gone"], "gone: there is no such image folder"),
    ],
)
def test_options_that_do_not_fit(images, options, message):
    with pytest.raises(DatasetError, match=message):
        run("--images", images, "--output", images.parent / "o", *options)


@pytest.mark.parametrize("options", [[], ["--from", "labels", "--to", "rois"], ["--from", "pdf"]])
def test_exactly_one_known_format(images, options, capsys):
    with pytest.raises(SystemExit) as stop:
        run("--images", images, "--output", images.parent / "o", *options)
    assert stop.value.code == 2 and "--from" in capsys.readouterr().err
