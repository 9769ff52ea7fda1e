"""Large COCO files by their index: the same records as those of a file that is read whole, its cache, and workers."""

import gzip
import json
import logging
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from cellseg_d2.data.datasets import DatasetError, columns, index_file, load, register_coco, roots
from cellseg_d2.data.datasets.coco_json import CocoFile, read_coco, to_dataset_dicts
from cellseg_d2.data.datasets.columns import IndexedCoco, open_coco
from cellseg_d2.data.datasets.records import (
    class_ids,
    dataset_dicts,
    has_cells,
    heads,
    join,
    shared,
    with_cells,
    without_annotations,
)
from cellseg_d2.data.loader import build_test_loader, build_train_loader


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch, tmp_path):
    """Files of any size go by their index, and the user's cache folder is a temporary one."""
    monkeypatch.setattr(columns, "SMALL", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(columns, "_opened", {})


def _mixed(discs) -> dict:
    """Polygons, plain and compressed run lengths, crowds, two classes, what is left out, images in another order."""
    coco = discs(images=5, cells=4)
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[10:20, 30:45] = 1
    flat = mask.reshape(-1, order="F")
    plain = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])).tolist()
    annotations = coco["annotations"]
    annotations[1]["segmentation"] = {"size": [48, 64], "counts": plain}
    annotations[2]["segmentation"] = {
        "size": [48, 64],
        "counts": mask_util.encode(np.asfortranarray(mask))["counts"].decode(),
    }
    annotations[3]["segmentation"] = {"size": [48, 64], "counts": [48 * 64]}  # empty
    annotations[4]["segmentation"] = [[1, 1, 5, 5]]
    annotations[5]["segmentation"] = []
    annotations[6]["segmentation"].append([1, 2, 3, 4])
    annotations[7]["segmentation"] = [[1e-1, 2.5e0, 9, 3, 4, 20]]
    annotations[8]["segmentation"] = None
    for annotation in annotations[1:3] + annotations[9:11]:
        del annotation["bbox"], annotation["area"]
    annotations[12]["iscrowd"] = 1
    annotations[13]["iscrowd"] = True
    annotations[14]["note"] = {"by": 'a "µ" } ]', "list": [[1, {"segmentation": 2}], -0.5e3]}
    annotations[17]["category_id"] = 7
    coco["categories"] = [{"id": 7, "name": "dead"}, {"id": 1, "name": "cell"}]
    coco["images"].append({"id": 9, "file_name": "sub/empty.tif", "height": 48, "width": 64, "cell_type": "A172"})
    coco["annotations"] = annotations[::-1]
    return coco


def _locate(file_name: str) -> str | None:
    return None if file_name == "image4.tif" else "/images/" + file_name


def _same(path: Path, locate=_locate) -> IndexedCoco:
    """By index and read whole, the file gives the same."""
    coco = open_coco(path)
    assert isinstance(coco, IndexedCoco)
    whole = read_coco(path)
    expected, left_out = to_dataset_dicts(whole, locate)
    records, ours = dataset_dicts(coco, locate)
    assert list(records) == expected and ours == left_out
    assert (coco.classes, coco.contiguous_ids) == (whole.classes, whole.contiguous_ids)
    return coco


@pytest.mark.parametrize("layout", ["list", "dict", "indented", "byte order mark", "unicode"])
def test_records_equal_those_of_the_whole_file(tmp_path, discs, layout):
    coco = _mixed(discs)
    if layout == "dict":
        coco["annotations"] = {str(entry["id"]): entry for entry in coco["annotations"]}
    text = json.dumps(coco, indent=2 if layout == "indented" else None, ensure_ascii=layout != "unicode")
    path = tmp_path / "set.json"
    path.write_text(text, encoding="utf-8-sig" if layout == "byte order mark" else "utf-8")
    _same(path)
    columns._opened.clear()
    assert (tmp_path / "set.json.cellseg-cache").is_file()
    _same(path)  # from the cache


numbers = st.integers(-999, 999) | st.floats(-1e4, 1e4) | st.floats(allow_nan=False, allow_infinity=False, width=32)
polygons = st.lists(st.lists(numbers, max_size=40), max_size=3)
entries = st.lists(
    st.fixed_dictionaries(
        {"image_id": st.integers(1, 3), "segmentation": polygons | st.none()},
        optional={"iscrowd": st.sampled_from([0, 1, True, False]), "x": st.text() | polygons | st.booleans()},
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(entries, st.sampled_from([None, 1]), st.booleans())
def test_any_polygons(tmp_path_factory, annotations, indent, ascii_only):
    path = tmp_path_factory.mktemp("any") / "set.json"
    filled = [
        {"id": n, "category_id": 1, "area": 1.5, "bbox": [0, 0, 1, 1], **entry} for n, entry in enumerate(annotations)
    ]
    filled.append({"id": -1, "category_id": 1, "image_id": 2, "segmentation": [[0, 0, 1, 0, 1, 1]]})
    images = [{"id": n, "file_name": f"{n}.tif", "height": 20, "width": 20} for n in (3, 1, 2)]
    content = {"annotations": filled, "images": images, "categories": [{"id": 1, "name": "cell"}]}
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    _same(path, str)


@pytest.mark.parametrize(
    ("name", "json_file", "part"),
    [
        ("livecell", "livecell_coco_test.json", 1),
        ("livecell", "livecell_coco_val.json", 1),
        ("dsb2018", "instances_stage1_train_rle.json", 9),
        ("dsb2018", "instances_stage1_train.json", 9),
        ("t98g_phase_usiigaci", "instances_val.json", 1),
    ],
)
def test_real_files(name, json_file, part):
    """Of large ones, every ninth image is compared."""
    folder = roots.find(name)
    if folder is None or not (folder / json_file).is_file():
        pytest.skip(f"no {name}/{json_file} in {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    _same(folder / json_file, lambda file_name: file_name if sum(file_name.encode()) % part == 0 else None)


@pytest.mark.parametrize("damage", ["cut", "text ids", "fraction", "NaN", "missing key", "trailing", "gzip", "latin"])
def test_what_is_out_of_the_ordinary_is_read_whole(tmp_path, discs, damage):
    coco, path = discs(images=2), tmp_path / "set.json"
    if damage == "text ids":
        for entry in coco["images"]:
            entry["id"] = str(entry["id"])
        for entry in coco["annotations"]:
            entry["image_id"] = str(entry["image_id"])
    if damage == "fraction":
        coco["annotations"][0]["id"] = 1.0
    if damage == "NaN":
        coco["annotations"][0]["area"] = float("nan")
    if damage == "missing key":
        del coco["annotations"][1]["image_id"]
    raw = json.dumps(coco).encode()
    raw = {"cut": raw[:-40], "trailing": raw + b"x", "gzip": gzip.compress(raw)}.get(damage, raw)
    if damage == "latin":
        raw = raw.replace(b'"iscrowd"', b'"n": "\xb5", "iscrowd"', 1)
    path.write_bytes(raw)
    expected = "at byte|no 'image_id'|is not text"
    if damage in ("text ids", "fraction", "NaN", "gzip"):
        assert isinstance(open_coco(path), CocoFile)
    else:
        with pytest.raises(DatasetError, match=expected):
            open_coco(path)
    assert not (tmp_path / "set.json.cellseg-cache").exists()


def test_every_cut_is_an_error(tmp_path, discs):
    raw, path = json.dumps(_mixed(discs)).encode(), tmp_path / "set.json"
    for length in range(1, len(raw) - 1, len(raw) // 40):
        path.write_bytes(raw[:length])
        with pytest.raises(DatasetError):
            open_coco(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "1 annotations have a image_id .* annotation 3 with image_id 77"),
        ({"category_id": 5}, "annotation 3 with category_id 5"),
        ({"id": 1}, "1 ids in 'annotations' are used more than once, first 1"),
        ({"segmentation": [[1, 2, 3, "x", 5, 6]]}, "annotation 3 has values that are not numbers"),
        ({"segmentation": [[1, 2, 3, "HUGE", 5, 6]]}, "annotation 3 has values that are not numbers"),
        ({"segmentation": {"size": [64, 48], "counts": [64 * 48]}}, "annotation 3 .* they have the size"),
        ({"segmentation": {"size": [48, 64], "counts": [5, 5]}}, "annotation 3 .* add up to 10 pixels"),
    ],
)
def test_errors_are_those_of_the_whole_file(tmp_path, discs, change, message):
    coco, path = discs(images=2), tmp_path / "set.json"
    coco["annotations"][2].update(change)
    path.write_text(json.dumps(coco).replace('"HUGE"', "1e999"))
    with pytest.raises(DatasetError, match=message) as caught:
        open_coco(path)
    with pytest.raises(DatasetError) as whole:
        to_dataset_dicts(read_coco(path), str)
    assert str(caught.value) == str(whole.value)


def test_boxes_alone_are_an_error(tmp_path, discs, written, caplog):
    coco = discs(images=1)
    for annotation in coco["annotations"][1:]:
        annotation.pop("segmentation")
    register_coco("t_boxes", *written(tmp_path / "one", coco))
    with caplog.at_level(logging.WARNING):
        assert len(load("t_boxes")[0]["annotations"]) == 1
    assert "2 annotations without a valid outline and 0 polygons" in caplog.text
    assert not hasattr(MetadataCatalog.get("t_boxes"), "json_file")
    coco["annotations"][0].pop("segmentation")
    register_coco("t_boxes", *written(tmp_path / "two", coco))
    with pytest.raises(DatasetError, match="none of the 3 annotations has an outline"):
        load("t_boxes")


def test_a_damaged_number_shows_when_it_is_used(tmp_path, discs):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(discs(images=1)).replace("[[", "[[1.2.3, 0, ", 1))
    records, _ = dataset_dicts(open_coco(path), str)
    with pytest.raises(DatasetError, match=r"set\.json: not a valid JSON file, it is damaged between bytes \d+"):
        records[0]


def _scans(monkeypatch) -> list[Path]:
    """Every file that is scanned from now on."""
    scanned, build = [], columns._build
    monkeypatch.setattr(columns, "_build", lambda path, mapped: scanned.append(path) or build(path, mapped))
    return scanned


def _later(path: Path) -> None:
    """Make the file look as if nobody had touched it for a while when its cache was made."""
    columns._opened.clear()
    place = path.with_name(path.name + ".cellseg-cache")
    header, rows = place.read_bytes()[:4096], place.read_bytes()[4096:]
    entries = json.loads(header.rstrip(b"\0")) | {"read_at": time.time_ns() + 10**11}
    place.write_bytes(json.dumps(entries).encode().ljust(4096, b"\0") + rows)


def test_the_cache_is_used_and_belongs_to_one_content(tmp_path, discs, monkeypatch):
    path, scanned = tmp_path / "set.json", _scans(monkeypatch)
    path.write_text(json.dumps(discs(images=2)))
    _same(path)
    _same(path)
    assert scanned == [path]
    columns._opened.clear()
    _same(path)
    assert scanned == [path]
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)  # another file of the same content, as a copy is
    columns._opened.clear()
    _same(path)
    assert scanned == [path]
    _later(path)
    before = path.stat()
    changed = content.replace(b'"image_id": 1', b'"image_id": 2')
    path.write_bytes(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time of modification
    _same(path)
    assert scanned == [path, path] and len(changed) == len(content)


def test_a_trusted_cache_is_opened_without_reading_the_file(tmp_path, discs, monkeypatch):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(discs(images=2)))
    asked, checksum = [], index_file.checksum
    monkeypatch.setattr(index_file, "checksum", lambda stream: asked.append(1) or checksum(stream))
    _same(path)
    columns._opened.clear()
    _same(path)
    assert len(asked) == 2  # the file is a moment old: a change within one tick of the clock would not show
    _later(path)
    _same(path)
    assert len(asked) == 2


@pytest.mark.parametrize("damage", [b"", b"no header at all", None, "rows"])
def test_a_damaged_cache_is_made_again(tmp_path, discs, monkeypatch, damage):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(discs(images=2)))
    _same(path)
    place, scanned = tmp_path / "set.json.cellseg-cache", _scans(monkeypatch)
    sound = place.read_bytes()
    if damage is None:
        place.write_bytes(sound[:-5])
    elif damage == "rows":
        place.write_bytes(sound[:-20] + bytes(20))
    else:
        place.write_bytes(damage)
    columns._opened.clear()
    _same(path)
    assert scanned == [path] and len(place.read_bytes()) == len(sound)


def test_a_folder_that_cannot_be_written(tmp_path, discs, monkeypatch, caplog):
    path, write = tmp_path / "set.json", index_file.atomic_write
    path.write_text(json.dumps(discs(images=2)))

    def refuse(place: Path, fill) -> Path:
        if place.parent in refused:
            raise PermissionError(13, "Permission denied", str(place))
        return write(place, fill)

    refused = {tmp_path}
    monkeypatch.setattr(index_file, "atomic_write", refuse)
    scanned = _scans(monkeypatch)
    for _ in range(2):
        columns._opened.clear()
        _same(path)
    assert scanned == [path]
    (cache,) = (tmp_path / "user" / "cellseg_d2").iterdir()
    cache.unlink()
    refused.add(cache.parent)
    columns._opened.clear()
    with caplog.at_level(logging.INFO):
        coco = _same(path)
    assert "no cache could be written" in caplog.text
    records, _ = dataset_dicts(coco, str)
    assert list(pickle.loads(pickle.dumps(records))) == list(records)


def test_pickled_records_open_their_files_again(tmp_path, discs):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(discs(images=300, cells=10)))
    records, _ = dataset_dicts(open_coco(path), str)
    text = pickle.dumps(records)
    assert len(text) < 60_000 < index_file.ROW.itemsize * 3000
    assert list(pickle.loads(text)) == list(records)
    path.write_text(path.read_text() + " ")
    with pytest.raises(DatasetError, match="was changed since"):
        pickle.loads(text)
    with pytest.raises(DatasetError, match="was changed since"):
        records[0]


def test_a_file_that_is_replaced_stays_the_old_one_for_this_process(tmp_path, discs):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(discs(images=2)))
    records, _ = dataset_dicts(open_coco(path), str)
    before = list(records)
    (tmp_path / "new.json").write_text(json.dumps(discs(images=3, seed=1)))
    os.replace(tmp_path / "new.json", path)
    assert list(records) == before
    assert len(open_coco(path).images) == 3


def test_a_sequence(tmp_path, discs):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(_mixed(discs)))
    records, _ = dataset_dicts(open_coco(path), _locate)
    expected, _ = to_dataset_dicts(read_coco(path), _locate)
    assert records[-1] == expected[-1] == records[np.int64(len(expected) - 1)] and records[1:3] == expected[1:3]
    with pytest.raises(IndexError):
        records[len(expected)]
    joined = join([records, expected, records])
    assert list(joined) == expected * 3 == list(shared(joined)) and joined[-1] == expected[-1]
    assert class_ids(records) == class_ids(expected) == {0, 1}
    assert list(with_cells(records)) == with_cells(expected) != expected
    assert has_cells(records) and has_cells(joined) and not has_cells(expected[-1:])
    assert without_annotations(joined) == [{**record, "annotations": []} for record in expected * 3]
    assert [head["file_name"] for head in heads(joined)] == [record["file_name"] for record in expected * 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loaders_give_the_same_samples(cfg, tmp_path, discs, written, monkeypatch, workers):
    coco = discs(images=5)
    coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] != 2]
    json_file, images = written(tmp_path, coco)
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 2, workers
    seen = []
    for small in (0, 1 << 30):
        monkeypatch.setattr(columns, "SMALL", small)
        register_coco("t_columns", json_file, images)
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("t_columns", "t_columns"), ("t_columns",)
        train, test = iter(build_train_loader(cfg, seed=3)), build_test_loader(cfg, "t_columns")
        items = [item for _ in range(4) for item in next(train)]
        seen.append(
            [(item["image_id"], item["instances"].gt_boxes.tensor.tolist()) for item in items]
            + [item["image_id"] for batch in test for item in batch]
        )
    assert seen[0] == seen[1]
