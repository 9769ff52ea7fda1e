"""Going on in a folder: with the same configuration, images and outlines only."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg_d2.data.datasets import resolve
from cellseg_d2.engine.errors import ConfigError
from cellseg_d2.engine.same_run import require_same_run
from cellseg_d2.engine.setup import load_config

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "mes_demo.yaml"


@pytest.fixture
def frames(tmp_path):
    """Three frames with a cell each."""
    for name in "abc":
        write(tmp_path, name, side=9)
    return tmp_path


def write(folder, name, side):
    labels = np.zeros((32, 40), np.uint16)
    labels[5 : 5 + side, 6 : 6 + side] = 1
    for kind, content in (("images", 20 * labels), ("masks", labels)):
        (folder / kind).mkdir(exist_ok=True)
        tifffile.imwrite(folder / kind / f"{name}.tif", content)


def config(folder, *options):
    data = ["DATASETS.MES.IMAGES", str(folder / "images"), "DATASETS.MES.MASKS", str(folder / "masks")]
    cfg = load_config(str(CONFIG), [*data, "OUTPUT_DIR", str(folder / "out"), *options])
    resolve(cfg)
    return cfg


@pytest.fixture
def trained(frames):
    """The folder after a run."""
    cfg = config(frames)
    require_same_run(cfg)
    (frames / "out" / "config.yaml").write_text(cfg.dump())
    (frames / "out" / "last_checkpoint").write_text("model_final.pth")
    return frames


def test_the_same_goes_on(trained):
    require_same_run(config(trained))
    require_same_run(config(trained, "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cuda"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("SOLVER.BASE_LR", "0.5"), ("TEST.ROC_CHOICE", "youden"), ("DATASETS.MES.MARGIN", "3"), ("SEED", "7")],
)
def test_another_configuration_does_not(trained, key, value):
    with pytest.raises(ConfigError, match=f"a run with other {key} "):
        require_same_run(config(trained, key, value))


@pytest.mark.parametrize("change", ["outline", "image", "new frame", "frame gone"])
def test_other_data_do_not(trained, change):
    if change == "outline":
        tifffile.imwrite(trained / "masks" / "a.tif", np.eye(32, 40, dtype=np.uint16) * 2)
    elif change == "image":
        tifffile.imwrite(trained / "images" / "a.tif", np.full((32, 40), 3, np.uint16))
    elif change == "new frame":
        write(trained, "d", side=4)
    else:
        for kind in ("images", "masks"):
            (trained / kind / "a.tif").unlink()
    with pytest.raises(ConfigError, match="other images or outlines .* such as .*[acd].tif"):
        require_same_run(config(trained))


@pytest.mark.parametrize("name", ["config.yaml", "data.json"])
def test_checkpoints_of_something_unknown(trained, name):
    (trained / "out" / name).unlink()
    with pytest.raises(ConfigError, match=f"has checkpoints, but no {name} to say"):
        require_same_run(config(trained))


def test_a_folder_without_a_checkpoint_begins_anew(frames):
    require_same_run(config(frames))
    write(frames, "d", side=5)
    require_same_run(config(frames))
