"""A model that was saved is the same when loaded; a folder that is none says what is wrong."""

import json
import shutil

import pytest
import torch
import yaml

from cellseg_d2.engine.errors import ConfigError
from cellseg_d2.files import sha256
from cellseg_d2.inference import model_folder
from cellseg_d2.inference.model_folder import ModelFolderError, load_model, read_record, save_model
from cellseg_d2.modeling.checkpoint import WeightsError


@pytest.fixture
def copied(folder, tmp_path):
    """A folder of a model that a test may spoil."""
    return shutil.copytree(folder, tmp_path / "model")


def test_everything_comes_back(make_model, tmp_path):
    cfg, model = make_model("INPUT.STRETCH_PERCENTILES", (2.0, 99.0), "INPUT.GAMMA", 0.5)
    model.set_threshold(0.25)
    save_model(tmp_path / "new" / "model", cfg, model.train(), {"choice": "youden"})
    loaded_cfg, loaded = load_model(tmp_path / "new" / "model")
    assert yaml.safe_load(loaded_cfg.dump()) == yaml.safe_load(cfg.dump()) and loaded_cfg.is_frozen()
    assert not loaded.training and type(loaded) is type(model)
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys() >= {"threshold", "normalization"}
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert loaded.threshold == 0.25 and loaded.normalization.tolist() == pytest.approx([2.0, 99.0, 0.5])


def test_record_says_what_predictions_depend_on(folder):
    record = json.loads((folder / "model.json").read_text())
    assert record == read_record(folder)
    assert record["class"] == "CellSegmentor" and record["choice"] == "f1"
    assert record["threshold"] == 0.375
    assert record["normalization"] == {"percentiles": [1.0, 99.8], "gamma": 1.0}
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]


def test_record_of_an_ensemble_has_all_thresholds(make_model, tmp_path):
    cfg, model = make_model("MODEL.ENSEMBLE.CELL_TYPES", ["huh7", "bv2"], config="unet_ensemble.yaml")
    model.members["bv2"].set_threshold(0.25)
    record = read_record(save_model(tmp_path, cfg, model, {}))
    assert record["thresholds"] == {"huh7": 0.5, "bv2": 0.25} and record["threshold"] == 0.375
    assert load_model(tmp_path)[1].members["bv2"].threshold == 0.25


def test_numbers_that_json_lacks_become_null(make_model, tmp_path):
    assert read_record(save_model(tmp_path, *make_model(), {"roc": {"AUC": float("nan")}}))["roc"] == {"AUC": None}


def test_saving_again_replaces_all_of_the_older_model(make_model, copied):
    (copied / "network-0123456789abcdef.onnx").write_bytes(b"of the older weights")
    cfg, model = make_model(seed=1)
    save_model(copied, cfg, model, {})
    assert sorted(path.name for path in copied.iterdir()) == ["config.yaml", "model.json", "model.pth"]
    assert torch.equal(load_model(copied)[1].threshold, model.threshold)


def test_info_cannot_replace_what_is_recorded(make_model, copied):
    before = (copied / "model.json").read_text()
    with pytest.raises(ValueError, match="threshold"):
        save_model(copied, *make_model(), {"threshold": 0.1})
    assert (copied / "model.json").read_text() == before


@pytest.mark.parametrize("name", ["config.yaml", "model.pth", "model.json"])
def test_incomplete_folders_say_what_is_missing(copied, name):
    with pytest.raises(ModelFolderError, match="give the folder"):
        load_model(copied / name)
    (copied / name).unlink()
    with pytest.raises(ModelFolderError, match=f"it lacks {name}"):
        load_model(copied)


def test_no_folder(tmp_path):
    with pytest.raises(ModelFolderError, match="nothing: there is no such model folder"):
        load_model(tmp_path / "nothing")


def test_other_weights_are_noticed(copied):
    content = bytearray((copied / "model.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (copied / "model.pth").write_bytes(content)
    with pytest.raises(ModelFolderError, match="model.pth was changed or damaged"):
        load_model(copied)


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("WIDTH: 4", "WIDTH: 8", WeightsError, "shape"),
        ("WIDTH: 4", "BREADTH: 4", ConfigError, "MODEL.UNET.BREADTH"),
        ("VARIANT: unet", "VARIANT: vnet", ConfigError, "MODEL.UNET.VARIANT"),
    ],
)
def test_configurations_of_other_models(copied, old, new, error, words):
    text = (copied / "config.yaml").read_text()
    assert old in text
    (copied / "config.yaml").write_text(text.replace(old, new))
    with pytest.raises(error, match=words):
        load_model(copied)


@pytest.mark.parametrize("text", ["[]", "{"])
def test_damaged_records(copied, text):
    (copied / "model.json").write_text(text)
    with pytest.raises((ModelFolderError, ValueError), match="model.json"):
        load_model(copied)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpus_that_are_not_there(folder):
    with pytest.raises(ModelFolderError, match="use the device cpu"):
        load_model(folder, "cuda")


class Evil:
    """Unpickled, it runs something."""

    def __reduce__(self):
        return print, ("ran",)


def test_a_folder_cannot_make_its_own_weights_trusted(make_model, tmp_path, capsys):
    cfg, model = make_model("MODEL.TRUST_WEIGHTS", True)
    folder = save_model(tmp_path / "model", cfg, model, {})
    configuration = (folder / "config.yaml").read_text()
    assert "TRUST_WEIGHTS: false" in configuration
    (folder / "config.yaml").write_text(configuration.replace("TRUST_WEIGHTS: false", "TRUST_WEIGHTS: true"))
    torch.save({"model": model.state_dict(), "more": Evil()}, folder / "model.pth")
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | {"sha256": sha256(folder / "model.pth")}))
    with pytest.raises(WeightsError):
        load_model(folder)
    assert "ran" not in capsys.readouterr().out


def test_the_model_is_built_with_its_weights_and_their_path_forgotten(make_model, tmp_path, monkeypatch):
    seen = []
    build = model_folder.build_model
    monkeypatch.setattr(model_folder, "build_model", lambda cfg: seen.append(cfg.MODEL.WEIGHTS) or build(cfg))
    folder = save_model(tmp_path / "model", *make_model(), {})
    cfg, _ = load_model(folder)
    assert seen == [str(folder / "model.pth")] and cfg.MODEL.WEIGHTS == ""
