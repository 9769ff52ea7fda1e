"""Zip archives from outside: nothing leaves the folder, nothing half-written stays."""

import errno
import stat
import zipfile

import pytest

from cellseg_d2.data.datasets import livecell
from cellseg_d2.data.download import unpack as module
from cellseg_d2.data.download import wanted_files
from cellseg_d2.data.download.unpack import missing_members, unpack
from cellseg_d2.errors import DatasetError


def write_zip(path, files, mode=stat.S_IFREG | 0o644):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", [
    "../out.txt", "a/../../out.txt", "/etc/out.txt", "..\\out.txt", "C:\\out.txt", "C:out.txt", "a\\b.txt",
])  # fmt: skip
def test_names_that_lead_elsewhere(tmp_path, name):
    archive = write_zip(tmp_path / "x.zip", {"good.txt": b"1", name: b"2"})
    with pytest.raises(DatasetError, match="x.zip: nothing is unpacked.*lead elsewhere"):
        unpack(archive, tmp_path / "in" / "side")
    assert everything(tmp_path) == ["x.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(tmp_path, kind):
    archive = write_zip(tmp_path / "x.zip", {"link": b"/etc/passwd"}, kind | 0o777)
    with pytest.raises(DatasetError, match="links.*: link"):
        unpack(archive, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_a_bomb_is_measured_before_it_is_unpacked(tmp_path):
    archive = write_zip(tmp_path / "x.zip", {"a": bytes(600), "b": bytes(600)})
    with pytest.raises(DatasetError, match="nothing is unpacked, as it would take"):
        unpack(archive, tmp_path / "in", most=1199)
    assert unpack(archive, tmp_path / "in", most=1200) == {"a": 600, "b": 600}


def test_a_size_that_is_a_lie_does_not_get_further_than_it_says(tmp_path):
    archive = write_zip(tmp_path / "x.zip", {"a": bytes(10**6)})
    raw = archive.read_bytes()
    archive.write_bytes(raw.replace((10**6).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(DatasetError, match="cut off or damaged"):
        unpack(archive, tmp_path / "in", most=1000)
    assert everything(tmp_path) == ["x.zip"]


def test_files_with_the_right_size_are_left_and_others_written(tmp_path):
    archive = write_zip(tmp_path / "x.zip", {"d/a": b"new", "d/b": b"new", "__MACOSX/d/._a": b"?", "e/": b""})
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"old")
    (tmp_path / "d" / "b").write_bytes(b"n")
    assert missing_members(tmp_path, {"d/a": 3, "d/b": 3, "d/c": 0}) == ["d/b", "d/c"]
    steps = []
    assert unpack(archive, tmp_path, lambda done, total: steps.append((done, total))) == {"d/a": 3, "d/b": 3}
    assert ((tmp_path / "d" / "a").read_bytes(), (tmp_path / "d" / "b").read_bytes()) == (b"old", b"new")
    assert everything(tmp_path) == ["d/a", "d/b", "x.zip"] and steps == [(0, 6), (3, 6), (6, 6)]


def test_a_damaged_member_and_one_after_a_good_one(tmp_path):
    archive = write_zip(tmp_path / "x.zip", {"a": b"good", "b": b"b" * 50})
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"b", 40) + 3] ^= 0xFF  # in the data of b, whose header ends with its name
    archive.write_bytes(bytes(raw))
    with pytest.raises(DatasetError, match="cut off or damaged"):
        unpack(archive, tmp_path / "in")
    assert everything(tmp_path / "in") == ["a"]


def test_a_full_disk(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "x.zip", {"a": b"good"})

    def full(source, stream):
        stream.write(b"go")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    with pytest.raises(DatasetError, match="a: the disk is full"):
        unpack(archive, tmp_path / "in")
    assert everything(tmp_path) == ["x.zip"]


def test_the_wanted_files_are_those_that_the_data_sets_look_for():
    files = wanted_files("all", more=("single-cells", "sizes"))
    looked_for = {
        pattern.format(split=split, cell_type=cell_type, number=number, percent=percent)
        for pattern in (*livecell._WHOLE, *livecell._SINGLE, livecell._PART)
        for split in livecell.SPLITS
        for cell_type in livecell.CELL_TYPES
        for number, percent in enumerate(livecell.PERCENTS)
    }
    assert len(files) == len(set(files)) == 3 + 8 * 3 + 5 + 1
    assert set(files) - looked_for == {"images.zip"}
    assert wanted_files("images", ["val"]) == ["images.zip"]
    assert wanted_files("annotations", ["test"], ["single-cells"])[1].endswith("LIVECell_single_cells/a172/test.json")
