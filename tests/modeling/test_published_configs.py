"""LIVECell's published configuration files merge unmodified and build the published model."""

from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from cellseg_d2 import add_cellseg_config

FILES = sorted((Path(__file__).resolve().parents[1] / "published").glob("*.yaml"))


def published(path):
    cfg = get_cfg()
    add_cellseg_config(cfg)
    cfg.merge_from_file(str(path))
    return cfg


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_merges(path):
    cfg = published(path)
    assert cfg.MODEL.VOVNET.CONV_BODY == "V-99-eSE"
    assert cfg.MODEL.FCOS.POST_NMS_TOPK_TEST == 3000
    assert cfg.MODEL.ROI_MASK_HEAD.ASSIGN_CRITERION == "ratio"


def test_all_nine_are_here():
    assert len(FILES) == 9


def test_our_configuration_is_the_published_model(make_cfg):
    """Same names and shapes, so that the published checkpoint loads into ours."""
    theirs = published(FILES[0])
    theirs.MODEL.DEVICE = "cpu"
    ours = make_cfg("centermask_v99.yaml")
    a, b = (build_model(c).state_dict() for c in (theirs, ours))
    assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}
    for key in ("FCOS", "PIXEL_MEAN", "PIXEL_STD", "ROI_MASK_HEAD", "ROI_MASKIOU_HEAD", "ROI_HEADS"):
        assert theirs.MODEL[key] == ours.MODEL[key], key
