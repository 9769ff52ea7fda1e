"""Images on both sides of a split: the same pixels, file name, or exposure."""

import json

import numpy as np
import tifffile

from cellseg_d2.data.check import fix, survey


def leaks(folder, json_file, names):
    """What is found against a set of these file names, which lie in ``folder`` or nowhere."""
    folder.mkdir(exist_ok=True)
    images = [{"id": i, "file_name": name, "height": 48, "width": 64} for i, name in enumerate(names)]
    other = folder / "other.json"
    other.write_text(json.dumps({"images": images, "annotations": []}))
    found = survey(json_file, json_file.parent / "images", against=other, against_images=folder)
    assert len(fix(found)[0]["images"]) == len(found.tables.images)  # leakage is for people to mend
    return [item.where for item in found.findings.by_kind().get("leakage", [])]


def test_pixels_and_names(tmp_path, discs, written):
    """Another name, a file that is not there, another contrast; other pixels of one name are another image."""
    path, images = written(tmp_path, discs(images=6))
    other = tmp_path / "other"
    other.mkdir()
    tifffile.imwrite(other / "new.tif", tifffile.imread(images / "image2.tif"))
    tifffile.imwrite(other / "image4.tif", np.random.default_rng(9).integers(0, 256, (48, 64), dtype=np.uint8))
    tifffile.imwrite(other / "image5.tif", tifffile.imread(images / "image5.tif") // 2 + 100)
    assert leaks(other, path, ["new.tif", "image3.tif", "image4.tif", "image5.tif", "image9.tif"]) == [
        "image2.tif: the same pixels as new.tif",
        "image3.tif: the same file name as image3.tif",
        "image5.tif: the same file name as image5.tif",
    ]


def test_crops_of_one_livecell_exposure(tmp_path, discs, written):
    coco, base = discs(images=6), "SkBr3_Phase_E3_2_00d04h00m"
    coco["images"][0]["file_name"] = f"{base}_1.tif"
    path, _ = written(tmp_path, coco)
    (found,) = leaks(tmp_path / "other", path, [f"{base}_4.tif", "SkBr3_Phase_E3_2_00d08h00m_1.tif"])
    assert found == f"{base}_1.tif: the same well, location and time as {base}_4.tif"
