"""Checking real data: what is known to be odd is found, little else is, and defects that are put in are."""

import json
from pathlib import Path

import pytest

from cellseg_d2.data.check import survey
from cellseg_d2.data.datasets import roots

# Kinds that each data set really has: cells on top of others (seen), specks, outlines whose holes were filled
KNOWN = [
    ("livecell", "livecell_coco_val.json", "images", {"nested_contours": 2}),
    ("livecell", "livecell_coco_test.json", "images", {"nested_contours": 4}),
    ("t98g_phase_usiigaci", "instances_val.json", "images", {}),
    ("hela_n2dl", "instances.json", "images", {"area_differs": 1}),
    ("mes_gowt1", "instances.json", "images", {}),
    ("stardist_demo2d", "instances.json", ".", {}),
]


def place(name: str, json_file: str) -> Path:
    folder = roots.find(name)
    if folder is None or not (folder / json_file).is_file():
        pytest.skip(f"{name}/{json_file} is in none of {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    return folder


def counts(json_file: Path, images: Path, **options) -> dict[str, int]:
    found = survey(json_file, images, **options).findings.by_kind()
    return {kind: len(items) for kind, items in found.items()}


@pytest.mark.parametrize(("name", "json_file", "images", "known"), KNOWN)
def test_no_false_alarms(name, json_file, images, known):
    folder = place(name, json_file)
    assert counts(folder / json_file, folder / images) == known


def test_splits_of_livecell_do_not_leak_and_a_set_into_itself_does():
    folder = place("livecell", "livecell_coco_test.json")
    val, test = (folder / f"livecell_coco_{split}.json" for split in ("val", "test"))
    assert "leakage" not in counts(val, folder / "images", against=test)
    assert counts(val, folder / "images", against=val)["leakage"] == 5


@pytest.mark.parametrize("name", ["livecell", "psc_phase_ctc"])
def test_an_image_with_almost_no_annotation(tmp_path, name):
    """LIVECell's known defect: all but a few outlines of one image are taken away."""
    json_file, images = {
        "livecell": ("livecell_coco_test.json", "images"), "psc_phase_ctc": ("instances_02_st.json", "02"),
    }[name]  # fmt: skip
    folder = place(name, json_file)
    coco = json.loads((folder / json_file).read_text())
    coco["images"] = coco["images"][:12]
    kept = {image["id"] for image in coco["images"]}
    hit = coco["images"][3]
    own = [a["id"] for a in coco["annotations"] if a["image_id"] == hit["id"]]
    gone = set(own[: int(0.94 * len(own))])
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept and a["id"] not in gone]
    (tmp_path / "thinned.json").write_text(json.dumps(coco))
    found = survey(tmp_path / "thinned.json", folder / images).findings.by_kind()["few_annotations"]
    assert [item.where.split(":")[0] for item in found] == [hit["file_name"]]
