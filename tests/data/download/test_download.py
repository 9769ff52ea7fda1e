"""Files from a server that breaks off, changes files, or knows less than it should."""

import errno
import hashlib

import pytest

from cellseg_d2.data.download import Transfer, collect, transfer
from cellseg_d2.data.download.collect import read_manifest
from cellseg_d2.errors import DatasetError

from .download_cases import CONTENT


def test_a_file_comes_is_noted_and_is_not_asked_for_again(server, get, tmp_path):
    entry = get()["a.json"]
    assert (tmp_path / "a.json").read_bytes() == CONTENT
    assert entry.size == len(CONTENT) and entry.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert entry.checked == ["size", "MD5 of the server"] and read_manifest(tmp_path) == {"a.json": entry}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "download.json"]
    server.asked.clear()
    assert get()["a.json"] == entry and server.asked == []
    (tmp_path / "a.json").write_bytes(b"edited")
    with pytest.raises(DatasetError, match="a.json: is there, but its SHA-256 .* move it away"):
        get()
    assert (tmp_path / "a.json").read_bytes() == b"edited"


def test_broken_connections_are_gone_on_with(server, get, tmp_path, lines):
    server.breaks = [100_000, 100_000, 50_000]
    get()
    assert (tmp_path / "a.json").read_bytes() == CONTENT
    assert [wanted for _, _, wanted in server.asked] == [None, "bytes=100000-", "bytes=200000-", "bytes=250000-"]
    assert "ended after 100000 of 300000 bytes" in lines[0]


def test_a_later_call_goes_on_where_the_tries_ended(server, get, tmp_path):
    server.breaks = [100_000, 0, 0]
    with pytest.raises(DatasetError, match="3 times.*100000 bytes are kept, call again"):
        get()
    assert (tmp_path / "a.json.part").read_bytes() == CONTENT[:100_000] and not (tmp_path / "a.json").exists()
    server.asked.clear()
    get()
    assert (tmp_path / "a.json").read_bytes() == CONTENT and server.asked == [("GET", "a.json", "bytes=100000-")]
    assert not list(tmp_path.glob("*.part*"))


def test_a_stop_by_hand_leaves_the_part(server, get, tmp_path):
    def stop(name, done, total):
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(server.url, tmp_path, ["a.json"], Transfer(advance=stop))
    kept = (tmp_path / "a.json.part").stat().st_size
    assert 100_000 < kept < len(CONTENT)
    get()
    assert (tmp_path / "a.json").read_bytes() == CONTENT and server.asked[-1][2] == f"bytes={kept}-"


@pytest.mark.parametrize("ranges, believes", [(False, None), (True, "old")], ids=["no-ranges", "no-if-range"])
@pytest.mark.parametrize("changed", [False, True])
def test_what_cannot_be_gone_on_with_begins_anew(server, get, tmp_path, lines, ranges, believes, changed):
    server.breaks, server.ranges = [100_000], ranges
    server.statuses = [200, 404]
    with pytest.raises(DatasetError, match="404"):
        get()
    assert (tmp_path / "a.json.part").stat().st_size == 100_000
    if changed:
        server.files["a.json"] = CONTENT[::-1]
    server.believes = believes and f'"{hashlib.md5(CONTENT).hexdigest()}"'
    get()
    assert (tmp_path / "a.json").read_bytes() == server.files["a.json"]
    begun_anew = [line for line in lines if "from its beginning" in line]
    assert len(begun_anew) == (changed or not ranges)
    assert all(("not the one it was" in line) == changed for line in begun_anew)


def test_a_file_that_became_shorter_behind_an_old_if_range(server, get, tmp_path):
    server.breaks, server.etag = [200_000, 0, 0], '"same"'
    with pytest.raises(DatasetError, match="3 times"):
        get()
    server.files["a.json"] = CONTENT[:150_000]
    assert get()["a.json"].checked == ["size"]
    assert (tmp_path / "a.json").read_bytes() == CONTENT[:150_000]


@pytest.mark.parametrize("date", ["Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"])
def test_a_date_stands_in_for_an_etag(server, get, tmp_path, date):
    server.etag, server.date, server.breaks = "", "Mon, 01 Jan 2024 00:00:00 GMT", [100_000]
    server.statuses, server.believes = [200, 404], server.date
    with pytest.raises(DatasetError, match="404"):
        get()
    changed = date != server.date
    server.date, server.files["a.json"] = date, CONTENT[::-1] if changed else CONTENT
    get()
    assert (tmp_path / "a.json").read_bytes() == server.files["a.json"]
    assert [wanted for _, _, wanted in server.asked[2:]] == ["bytes=100000-"] + [None] * changed


def test_a_server_that_always_sends_less_than_it_says(server, get, tmp_path):
    server.breaks, server.ranges = [1000] * 9, False
    with pytest.raises(DatasetError, match="ended after 1000 of 300000 bytes, 3 times"):
        get()
    assert not (tmp_path / "a.json").exists() and len(server.asked) == 3


def test_trouble_of_the_server_is_waited_for(server, get, tmp_path):
    server.statuses = [503, 429]
    get()
    assert (tmp_path / "a.json").read_bytes() == CONTENT
    server.statuses = [500] * 3
    server.files["b.json"] = b"{}"
    with pytest.raises(DatasetError, match="answers 500 .*3 times"):
        get("b.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "download.json"]


@pytest.mark.parametrize("name, etag, kind, known, message", [
    ("b.json", None, "text/plain", "", "b.json: the server answers 404 .*--base-url"),
    ("a.json", None, "text/html", "", "log-in page"),
    ("a.json", None, "text/plain", "0" * 64, "its SHA-256 is .* deleted; call again"),
    ("a.json", f'"{"0" * 32}"', "text/plain", "", "its MD5 is .* ETag says 000.* deleted"),
])  # fmt: skip
def test_refusals_leave_nothing(server, get, tmp_path, name, etag, kind, known, message):
    server.etag, server.kind = etag, kind
    with pytest.raises(DatasetError, match=message):
        get(name, hashes={name: known})
    assert list(tmp_path.iterdir()) == [] and len(server.asked) == 1


@pytest.mark.parametrize("etag, server_name", [(f'"{"0" * 32}-17"', "AmazonS3"), (f'"{"0" * 32}"', "nginx")])
def test_an_etag_that_is_no_md5_is_not_taken_for_one(server, get, lines, etag, server_name):
    server.etag, server.name = etag, server_name
    assert get()["a.json"].checked == ["size"] and "no hash of it is known" in lines[-1]


def test_no_network(server, get, tmp_path):
    server.url = "http://127.0.0.1:9"
    with pytest.raises(DatasetError, match="no connection .* 3 times; check the network"):
        get()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DatasetError, match="not an address"):
        collect("file:///etc", tmp_path, ["passwd"], Transfer())


def test_one_process_at_a_time(server, get, tmp_path):
    with transfer._locked(tmp_path / "a.json.part") as stream:
        stream.write(b"theirs")
        with pytest.raises(DatasetError, match="a.json.part: another process is getting this file"):
            get()
    assert (tmp_path / "a.json.part").read_bytes() == b"theirs" and server.asked == []


def test_a_full_disk_keeps_the_part_and_not_the_name(server, get, tmp_path, monkeypatch):
    append = transfer._append

    def fill(response, stream, *more):
        class Full:
            def write(self, block):
                if stream.tell() >= 131_072:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return stream.write(block[:50_000])  # as a disk that is nearly full does

        append(response, Full(), *more)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_append", fill)
        with pytest.raises(DatasetError, match="a.json.part: the disk is full.*131072 bytes are kept"):
            get()
    assert (tmp_path / "a.json.part").read_bytes() == CONTENT[:131_072] and not (tmp_path / "a.json").exists()
    get()
    assert (tmp_path / "a.json").read_bytes() == CONTENT and server.asked[-1][2] == "bytes=131072-"
