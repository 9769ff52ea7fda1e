"""Names of models: local folders, published ones from a server on this machine, and what is refused."""

import http.server
import json
import re
import threading
from functools import partial
from pathlib import Path

import pytest

from cellseg_d2 import model_zoo
from cellseg_d2.data.download import Transfer
from cellseg_d2.model_zoo import ModelZooError, add_model, available, cache_folder, catalogue, find_model, store


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache folder."""
    monkeypatch.setenv("CELLSEG_MODELS", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    """What passes for a model folder."""
    path = tmp_path / "unet"
    path.mkdir()
    (path / "model.json").write_text(json.dumps({"class": "CellSegmentor", "sha256": "ab" * 32}))
    (path / "model.pth").write_bytes(b"weights")
    return path


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A published model on a server of this machine."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "weights.pth").write_bytes(b"published weights")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "site")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/weights.pth"
        entry = catalogue.ZooEntry("made-up", "centermask_v99.yaml", url, "terms of use", "a model")
        monkeypatch.setitem(store.PUBLISHED, "made-up", entry)
        yield entry
        server.shutdown()


def test_catalogue_has_the_nine_models_of_livecell():
    assert len(catalogue.PUBLISHED) == 9 and {"livecell", "livecell-skov3"} <= catalogue.PUBLISHED.keys()
    for name, entry in catalogue.PUBLISHED.items():
        assert entry.name == name and re.fullmatch(
            r"https://\S+/Anchor_free/\w+/LIVECell_anchor_free_\w+\.pth", entry.url
        )
        assert (store.CONFIGS / entry.config).is_file() and "CC BY-NC" in entry.licence


def test_folders_and_files(folder, tmp_path):
    assert find_model(folder) == model_zoo.ModelFiles(str(folder), folder=folder)
    assert find_model(folder).sha256 == "ab" * 32
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(ModelZooError, match="neither a model folder"):
        find_model(run)
    (run / "config.yaml").write_text("")
    with pytest.raises(ModelZooError, match="model_best.pth or model_final.pth"):
        find_model(run)
    (run / "model_final.pth").write_bytes(b"final")
    assert find_model(run).weights == run / "model_final.pth"
    (run / "model_best.pth").write_bytes(b"best")
    assert find_model(run).weights == run / "model_best.pth"
    assert find_model(run, run / "model_final.pth").weights == run / "model_final.pth"
    assert find_model(run / "config.yaml", run / "model_best.pth").config == run / "config.yaml"


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("livecel", None, "did you mean livecell"),
        ("nothing/like/it", None, "no such file or folder"),
        ("zebra", None, "there are livecell"),
        ("unet", "other.pth", "has its own weights"),
        ("unet/model.pth", None, "is no configuration"),
        ("c.yaml", None, "--weights FILE"),
        ("c.yaml", "none.pth", "no such file"),
    ],
)
def test_what_is_no_model_is_an_error_and_never_another_one(folder, tmp_path, monkeypatch, name, weights, words):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("")
    with pytest.raises(ModelZooError, match=re.escape(words)):
        find_model(name, weights)


def test_a_published_model_is_downloaded_once_and_compared_each_time(published, cache):
    said = []
    files = find_model("Made-Up", transfer=Transfer(said.append, tries=1))
    assert files.weights.read_bytes() == b"published weights" and files.licence == "terms of use"
    assert "terms of use" in said[0] and files.config.name == "centermask_v99.yaml"
    said.clear()
    assert find_model("made-up", transfer=Transfer(said.append)).weights == files.weights and not said
    assert "downloaded" in available()["made-up"] and "not downloaded" not in available()["made-up"]
    files.weights.write_bytes(b"something else")
    with pytest.raises(ModelZooError, match="changed or damaged"):
        find_model("made-up")


def test_a_download_with_a_wrong_hash_is_refused(published, monkeypatch, cache):
    wrong = catalogue.ZooEntry("made-up", published.config, published.url, "terms", "a model", "00" * 32)
    monkeypatch.setitem(store.PUBLISHED, "made-up", wrong)
    with pytest.raises(ValueError, match="SHA-256"):
        find_model("made-up", transfer=Transfer(tries=1))
    assert not list(cache.rglob("*.pth"))


def test_own_models_get_names(folder):
    target = add_model("psc", folder)
    assert target == cache_folder() / "psc" and (target / "model.pth").read_bytes() == b"weights"
    assert find_model("psc").folder == target and "CellSegmentor" in available()["psc"]
    for name, words in (("psc", "is there already"), ("livecell", "cannot be called"), ("../x", "cannot be called")):
        with pytest.raises(ModelZooError, match=words):
            add_model(name, folder)
    with pytest.raises(ModelZooError, match="no model folder"):
        add_model("other", folder.parent)
    assert {path.name for path in cache_folder().iterdir()} == {"psc"}
