"""What is there already, archives, and the command."""

import hashlib
import json
from argparse import ArgumentParser

import pytest

from cellseg_d2.commands import download
from cellseg_d2.errors import DatasetError

from .download_cases import CONTENT, zipped

VAL = "annotations/LIVECell/livecell_coco_val.json"


def test_files_that_were_there_before(server, get, tmp_path):
    (tmp_path / "a.json").write_bytes(CONTENT)
    assert get()["a.json"].fetched is False
    assert [method for method, _, _ in server.asked] == ["HEAD"]
    server.files["b.json"] = b"published"
    for other, message in ((b"mine", "has 4 bytes"), (b"nineteen!", "its MD5")):
        (tmp_path / "b.json").write_bytes(other)
        with pytest.raises(DatasetError, match=f"b.json.*{message}.* move it away"):
            get("b.json")
        assert (tmp_path / "b.json").read_bytes() == other


def test_archives_are_unpacked_deleted_and_known_to_be_there(server, get, tmp_path, lines):
    server.files["images.zip"] = zipped(a=b"one", b=b"three")
    assert get("images.zip")["images.zip"].unpacked == {"images/a.tif": 3, "images/b.tif": 5}
    assert (tmp_path / "images" / "b.tif").read_bytes() == b"three" and not (tmp_path / "images.zip").exists()
    server.asked.clear()
    get("images.zip")
    assert server.asked == []
    (tmp_path / "images" / "b.tif").write_bytes(b"thr")  # as an unpacking by hand that broke off
    get("images.zip", keep_zip=False)
    assert (tmp_path / "images" / "b.tif").read_bytes() == b"three" and not (tmp_path / "images.zip").exists()
    assert any("1 of its 2 files are gone or changed: images/b.tif" in line for line in lines)


def test_archives_of_the_user_and_kept_ones_stay(server, get, tmp_path):
    server.files["images.zip"] = server.files["more.zip"] = zipped(a=b"one")
    (tmp_path / "images.zip").write_bytes(server.files["images.zip"])
    get("images.zip")
    get("more.zip", keep_zip=True)
    get("images.zip", "more.zip")
    assert {path.name for path in tmp_path.glob("*.zip")} == {"images.zip", "more.zip"}


def test_an_archive_that_is_cut_off_on_the_server(server, get, tmp_path):
    server.files["images.zip"] = zipped(a=b"one" * 100)[:150]
    with pytest.raises(DatasetError, match="images.zip: not a zip archive, cut off or damaged.*delete it"):
        get("images.zip")
    assert not (tmp_path / "images").exists()


def command(server, folder, *options):
    parser = ArgumentParser()
    download.add_arguments(parser)
    return download.run(parser.parse_args(["--base-url", server.url, "--output", str(folder), *options]))


def test_command(server, tmp_path, capsys):
    content = json.dumps({"images": []}).encode()
    server.files = {VAL: content, "images.zip": zipped(a=b"one")}
    (tmp_path / "hashes").write_text(f"{hashlib.sha256(content).hexdigest()}  ./{VAL}\n")
    assert command(server, tmp_path / "data", "--splits", "val", "--sha256", str(tmp_path / "hashes")) == 0
    assert (tmp_path / "data" / "livecell" / VAL).read_bytes() == content
    assert (tmp_path / "data" / "livecell" / "images" / "a.tif").read_bytes() == b"one"
    shown = capsys.readouterr().out
    assert shown.index("CC BY-NC 4.0") < shown.index("livecell_coco_val.json: got") and "known SHA-256" in shown
    assert command(server, tmp_path / "data", "--splits", "val", "--part", "annotations") == 0
    assert "is there, with the SHA-256" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, message", [("", "line 1"), ("abc  a.json", "line 1 is not"), ("0" * 64 + "  x", "none")]
)
def test_hash_files(server, tmp_path, text, message):
    (tmp_path / "hashes").write_text(text)
    with pytest.raises(DatasetError, match=message):
        command(server, tmp_path / "data", "--sha256", str(tmp_path / "hashes"))
    assert server.asked == []


def test_stopped_command(server, tmp_path, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "collect", stop)
    assert command(server, tmp_path) == 130 and "goes on with it" in capsys.readouterr().out


def test_a_list_of_another_program(server, get, tmp_path):
    (tmp_path / "download.json").write_text("[1]")
    with pytest.raises(DatasetError, match="download.json: not a list of downloaded files"):
        get()
