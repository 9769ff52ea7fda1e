"""Looking into networks: answers by construction for projection, saliency and spread; hooks that leave no trace."""

import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from cellseg_d2.analysis.explain import ExplainError, Subject, cell_mask, explain, recorded
from cellseg_d2.analysis.page import curves, write_page
from cellseg_d2.analysis.projection import Stage, feature_map, heat, paste_map, principal_components, project, stages
from cellseg_d2.analysis.saliency import (
    Location,
    SaliencyOptions,
    aligned_window,
    find_location,
    frozen,
    gradient,
    smooth_gradient,
    spread,
    view_cell,
)  # fmt: skip
from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.setup import load_config
from cellseg_d2.modeling.roi_heads.sag_mask import SpatialAttention
from cellseg_d2.modeling.semantic import foreground_logit, foreground_probability

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CPU = ["MODEL.DEVICE", "cpu"]
CENTERMASK = ["INPUT.MIN_SIZE_TEST", 0, "MODEL.FCOS.INFERENCE_TH_TEST", 0.009, "MODEL.FCOS.POST_NMS_TOPK_TEST", 12]
UNET = ["MODEL.UNET.WIDTH", 2]
FEW = SaliencyOptions(samples=2)


def make_subject(config: str, *options) -> Subject:
    """An untrained model with thresholds so low that it finds something."""
    torch.manual_seed(0)
    cfg = load_config(str(CONFIGS / config), [*CPU, *options])
    return Subject(config, build_model(cfg).eval(), cfg)


@pytest.fixture(scope="module")
def centermask():
    return make_subject("centermask_v19_slim_dw.yaml", *CENTERMASK)


@pytest.fixture(scope="module")
def unet(image_file):
    """An untrained U-Net to which a third of the image is cell."""
    subject = make_subject("unet.yaml", *UNET)
    (seen,) = explain([subject], image_file, options=FEW)
    subject.model.set_threshold(float(np.quantile(seen.probability, 2 / 3)))
    return subject


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "cells.png"
    cv2.imwrite(str(path), simulate(PhantomSpec(height=90, width=130, cells=(4, 8)), seed=0).image)
    return path


@pytest.fixture(scope="module")
def explanations(centermask, unet, image_file):
    return explain([centermask, unet], image_file, options=FEW, min_score=0.0)


# Principal components


def test_a_map_of_rank_one_is_its_own_component():
    pattern = torch.rand(7, 9, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([0.5, -3.0, 1.0, 0.0])
    maps, shares = principal_components(weights[:, None, None] * pattern + 5)
    assert shares == pytest.approx([1, 0, 0]) and shares[1:] == [0, 0]
    # the largest loading is that of the channel of weight -3, and positive: the component falls with the pattern
    expected = -weights.norm() * (pattern - pattern.mean())
    assert maps[0] == pytest.approx(expected.numpy(), abs=1e-5) and not maps[1:].any()
    picture = project(weights[:, None, None] * pattern).image
    assert picture[:, :, 0].min() == 0 and picture[:, :, 0].max() == 255 and (picture[:, :, 1:] == 128).all()


def test_orthogonal_channels_are_the_components_by_falling_variance():
    waves = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]).view(3, 2, 2)
    features = torch.cat([torch.full((1, 2, 2), 7.0), 1 * waves[:1], -4 * waves[1:2], 2 * waves[2:]])
    maps, shares = principal_components(features)
    assert maps == pytest.approx(features[[2, 3, 1]].numpy(), abs=1e-5)
    assert shares == pytest.approx([16 / 21, 4 / 21, 1 / 21])


def test_the_order_of_channels_does_not_change_the_picture():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(6, 12, 10, generator=generator) * torch.tensor([1.0, 2, 3, 4, 5, 6])[:, None, None]
    order = torch.randperm(6, generator=generator)
    first, second = (principal_components(x)[0] for x in (features, features[order]))
    assert first == pytest.approx(second, abs=1e-4)


def test_few_or_constant_channels():
    maps, shares = principal_components(torch.arange(6.0).view(1, 2, 3))
    assert maps.shape == (3, 2, 3) and shares == pytest.approx([1, 0, 0])
    assert (project(torch.ones(5, 2, 3)).image == 128).all() and project(torch.ones(5, 2, 3)).shares == (0, 0, 0)


@pytest.mark.parametrize("features", [torch.full((2, 3, 3), torch.nan), torch.zeros(2, 3), torch.zeros(2, 0, 3)])
def test_features_that_are_none_are_refused(features):
    with pytest.raises(ValueError, match="NaN|feature map"):
        principal_components(features)


def test_padding_is_no_part_of_the_picture():
    features = torch.zeros(1, 2, 4, 4)
    features[:, :, 2:] = 100  # on the padding
    features[:, 0, 0, 0] = 1
    found = feature_map(Stage("x", nn.Identity(), divisibility=32), (16, 31), features)
    assert found.size == (2, 2, 4) and found.stride == 8
    assert found.picture.image[0, 0, 0] == 255 and not found.picture.image[0, 1:, 0].any()


# Saliency


def test_saliency_of_a_linear_model_is_its_weights():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-8, 9, (3, 5, 6), generator=generator).float()
    colour, grey = torch.rand(3, 5, 6, generator=generator), torch.rand(1, 5, 6, generator=generator).expand(3, 5, 6)

    def score(image):
        return (weights * image).sum()

    value, found = gradient(score, colour)
    assert value == pytest.approx(float((weights * colour).sum()), rel=1e-5)
    assert torch.equal(found, weights.abs().amax(0))
    assert torch.equal(gradient(score, grey)[1], weights.sum(0).abs())
    assert torch.equal(smooth_gradient(score, colour, samples=4, sigma=9), weights.abs().amax(0))


def test_smoothgrad_follows_from_its_seed():
    image = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))

    def score(image):
        return image.pow(3).sum()

    first, again, other = (smooth_gradient(score, image, 3, 0.5, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(smooth_gradient(score, image, 1, 0.0), gradient(score, image)[1])
    with pytest.raises(ValueError, match="samples"):
        smooth_gradient(score, image, 0)


def test_frozen_gives_back_what_it_took():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(RuntimeError), frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
        raise RuntimeError
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, False]


def test_foreground_logit_is_the_log_odds_of_the_probability():
    for classes in (1, 3):
        logits = torch.randn(classes, 3, 4, generator=torch.Generator().manual_seed(classes))
        assert torch.allclose(foreground_logit(logits).sigmoid(), foreground_probability(logits), atol=1e-6)


def test_spread_of_known_maps():
    mask = np.zeros((21, 31), bool)
    mask[8:12, 10:15] = True
    all_inside = spread(mask * 2.0, mask)
    assert all_inside.inside == pytest.approx(1) and not any(all_inside.rings) and all_inside.radius(0.9) == 0
    even = spread(np.ones(mask.shape), mask)
    assert even.curve == pytest.approx(even.area) and even.inside == pytest.approx(mask.mean())
    assert even.inside + sum(even.rings) == pytest.approx(1) and even.curve[-1] == pytest.approx(1)
    spot = np.zeros(mask.shape)
    spot[10, 20] = 1  # six pixels from the column 14
    for scale, ring in ((1, 1), (2, 0)):  # 6 and 3 pixels of the file
        found = spread(spot, mask, scale)
        assert found.rings[ring] == 1 and found.radius(0.5) == 6 / scale
    assert np.isnan(spread(np.zeros(mask.shape), mask).inside)
    with pytest.raises(ValueError, match="does not fit"):
        spread(spot, np.zeros(mask.shape, bool))


@pytest.mark.parametrize("place", [(0, 0), (150, 290), (299, 399), (70, 5)])
def test_windows_hold_the_cell_and_keep_the_grid(place):
    mask = np.zeros((300, 400), bool)
    mask[max(place[0] - 10, 0) : place[0] + 10, max(place[1] - 10, 0) : place[1] + 10] = True
    window = aligned_window(mask, 64, 32)
    assert mask[window].sum() == mask.sum() and mask[window].size < mask.size
    for part, length, middle in zip(window, mask.shape, place):
        assert part.start % 32 == 0 and (part.stop % 32 == 0 or part.stop == length)
        assert part.start <= max(middle - 30, 0) and part.stop >= min(middle + 30, length)
    assert aligned_window(mask, 0, 32) == (slice(0, 300), slice(0, 400))


def test_a_window_changes_neither_score_nor_gradient_of_a_unet(unet):
    """Beyond its receptive field: four levels reach 70 pixels far."""
    image = torch.rand(1, 320, 320, generator=torch.Generator().manual_seed(0))
    mask = np.zeros((320, 320), bool)
    mask[150:160, 155:162] = True
    whole, part = (view_cell(unet.model, image, mask, None, SaliencyOptions(1, 0, 0, side)) for side in (0, 240))
    assert part.maps["gradient"].shape < whole.maps["gradient"].shape == mask.shape
    assert part.score == pytest.approx(whole.score, rel=1e-4)
    assert part.maps["gradient"] == pytest.approx(whole.maps["gradient"][part.window], abs=1e-5)


def test_the_location_of_a_box_is_found():
    distances = [torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(k)) + 0.1 for k in range(2)]
    left, top, right, bottom = (16 * distances[1][:, 2, 3]).tolist()
    x, y = 3 * 16 + 8, 2 * 16 + 8
    found = find_location(distances, [8, 16], torch.tensor([x - left, y - top, x + right, y + bottom]), 0)
    assert (found.level, found.row, found.column, found.stride) == (1, 2, 3, 16)
    with pytest.raises(ValueError, match="no location"):
        find_location(distances, [8, 16], torch.tensor([0.0, 0, 900, 900]), 0)


class LocalDetector(nn.Module):
    """A detector whose class logit at each location is the mean of its own 8 x 8 pixels."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(8)
        self.proposal_generator = SimpleNamespace(
            strides=[8], in_features=["p3"], fcos_head=lambda maps: (maps, None, None)
        )
        self.backbone = lambda image: {"p3": self.pool(image)}
        self.backbone.size_divisibility = 32

    def preprocess_image(self, inputs):
        return SimpleNamespace(tensor=inputs[0]["image"][None])


@pytest.mark.parametrize("side", [0, 64])
def test_the_location_moves_with_the_window(side):
    image = torch.rand(1, 256, 320, generator=torch.Generator().manual_seed(0))
    mask = np.zeros((256, 320), bool)
    mask[160:170, 200:212] = True
    view = view_cell(LocalDetector(), image, mask, Location(0, 20, 25, 0, 8), SaliencyOptions(3, window=side))
    assert view.score == pytest.approx(float(image[0, 160:168, 200:208].mean()), rel=1e-5)
    assert (view.window == (slice(0, 256), slice(0, 320))) == (side == 0)
    expected = np.zeros((256, 320), np.float32)
    expected[160:168, 200:208] = 1 / 64
    for values in view.maps.values():
        assert values == pytest.approx(expected[view.window])
    assert view.spreads["gradient"].inside == pytest.approx(1)


# Hooks


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_hooks_record_and_are_removed():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True))
    with recorded({"conv": (model[0], lambda output: output.min().item())}) as seen:
        for value in (-1.0, 1.0):
            model(torch.full((1, 1, 2, 2), value))
    assert len(seen["conv"]) == 2 and min(seen["conv"]) < 0  # before the relu that works in place
    assert hooks(model) == 0
    with pytest.raises(RuntimeError), recorded({"conv": (model[0], float)}):
        model(torch.zeros(1, 9, 2, 2))
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("config", "options", "names"),
    [
        ("centermask_v19_slim_dw.yaml", [], "stem stage2 stage3 stage4 stage5 p3 p4 p5 p6 p7"),
        ("googlenet_fcn.yaml", [], "conv2 inception3b inception4e inception5b"),
        ("unet_expanded.yaml", UNET, "down_1 down_2 down_3 down_4 down_5 up_4 up_3 up_2 up_1"),
    ],
)
def test_stages_of_every_kind_of_network(config, options, names):
    model = make_subject(config, *options).model
    found = stages(model)
    assert [stage.name.replace(" ", "_") for stage in found] == names.split()
    assert all(any(stage.module is module for module in model.modules()) for stage in found)


# Whole explanations


def test_features_of_all_stages(explanations):
    for e in explanations:
        assert [f.name for f in e.features] == [s.name for s in stages(e.subject.model)]
        for f in e.features:
            assert f.picture.image.shape == (*f.size[1:], 3)
            assert f.size[1:] == (-(-90 // int(f.stride)), -(-130 // int(f.stride)))
            assert 0 < sum(f.picture.shares) <= 1 + 1e-6
        assert hooks(e.subject.model) == 0 and e.display.shape == (90, 130, 3)


def test_attention_is_that_of_the_cells(explanations):
    first, second = explanations
    attention = first.cells.attention
    assert 0 < len(attention) == len(first.cells) == len(first.cells.pred_rles)
    assert attention.shape[1:] == (14, 14) and 0 <= attention.min() < attention.max() <= 1
    assert not first.no_attention and "no spatial attention" in second.no_attention


def test_attention_is_what_the_head_multiplies_by():
    module, x = SpatialAttention(), torch.rand(3, 8, 14, 14)
    with recorded({"attention": (module.conv, torch.sigmoid)}) as seen:
        multiplied = module(x)
    assert torch.equal(multiplied, x * seen["attention"][0])


def test_both_models_explain_the_same_place(explanations):
    masks = [cell_mask(e.cells, e.index) for e in explanations]
    assert explanations[0].index == 0 and (masks[0] & masks[1]).any()
    for e, mask in zip(explanations, masks):
        assert (e.view.mask == mask).all()
        assert e.view.score == pytest.approx(e.whole_score, abs=1e-4)  # the image is smaller than the window
        assert all(values.shape == mask.shape and values.any() for values in e.view.maps.values())
    logit = torch.from_numpy(explanations[1].probability).logit()[torch.from_numpy(masks[1])].mean()
    assert float(logit) == pytest.approx(explanations[1].whole_score, abs=1e-3)


def test_the_explained_logit_gave_the_detection(explanations):
    """score = sqrt(sigmoid(z) * sigmoid(centerness)) is at most sqrt(sigmoid(z))."""
    first = explanations[0]
    assert float(first.cells.scores[first.index]) < torch.tensor(first.whole_score).sigmoid().sqrt()


def test_a_cell_is_found_by_its_pixel(centermask, unet, image_file, explanations):
    e = explanations[1]
    y, x = np.argwhere(cell_mask(e.cells, len(e.cells) - 1))[0]
    (found,) = explain([unet], image_file, (float(x), float(y)), FEW)
    assert found.index == len(e.cells) - 1
    (same,) = explain([unet], image_file, (x + 0.9, y + 0.9), FEW)  # in the same pixel
    assert same.index == found.index
    with pytest.raises(ExplainError, match="outside the image.*x from 0 to 129, y from 0 to 89"):
        explain([unet], image_file, (130, 5))
    y, x = np.argwhere(~np.any([cell_mask(e.cells, i) for i in range(len(e.cells))], axis=0))[0]
    with pytest.raises(ExplainError, match=f"no cell at {x},{y}; the middle of the nearest is at"):
        explain([unet], image_file, (float(x), float(y)), FEW)


def test_without_cells_the_features_remain(centermask, image_file, tmp_path):
    (found,) = explain([centermask], image_file, (5, 5), FEW, min_score=1.0)
    assert len(found.features) == 10 and found.view is None and "no cell" in found.no_view
    text = write_page(tmp_path / "page.html", "cells.png", [found], FEW).read_text()
    assert text.count("The model finds no cell in this image.") == 2  # attention and saliency
    assert "inception" not in text and "stage5" in text


@pytest.mark.parametrize(
    ("config", "options", "last_stage"),
    [
        ("unet.yaml", [*UNET, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3, "MODEL.SEMANTIC.THRESHOLD", 0.01], "up 1"),
        ("centermask_v19_slim_dw.yaml", [*CENTERMASK, "MODEL.MASK_ON", False, "MODEL.MASKIOU_ON", False], "p7"),
        ("centermask_googlenet.yaml", CENTERMASK, "semantic branch, inception5b"),
    ],
)
def test_further_kinds_of_models(config, options, last_stage, image_file, tmp_path):
    subject = make_subject(config, *options)
    (found,) = explain([subject], image_file, options=SaliencyOptions(samples=1), min_score=0.0)
    assert found.features[-1].name == last_stage and found.view is not None
    assert (found.probability is None) == (found.view.location is not None and "googlenet" not in config)
    assert found.view.score == pytest.approx(found.whole_score, abs=1e-4)
    assert hooks(subject.model) == 0
    text = write_page(tmp_path / "page.html", "cells.png", [found], SaliencyOptions(samples=1)).read_text()
    assert last_stage in text and 'class="plot"' in text


# The page


def test_the_page_needs_nothing_from_outside(explanations, tmp_path):
    text = write_page(tmp_path / "page.html", "<b>cells</b>.png", explanations, FEW, cells=3).read_text()
    links = re.findall(r"(?:src|href)=\"([^\"]*)", text)
    assert len(links) > 20 and all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"https?:|url\(|@import|<script|<link (?!rel=\"icon\" href=\"data:)", text)
    assert "<b>cells</b>" not in text and "&lt;b&gt;cells" in text
    assert text.count('class="pair"') == min(3, len(explanations[0].cells))
    rows = [text.index(f'id="{name}"') for name in ("prediction", "features", "attention", "saliency")]
    assert rows == sorted(rows)
    for uri in re.findall(r"src=\"data:image/png;base64,([^\"]*)", text)[:4]:
        assert uri.startswith("iVBORw0KGgo")


def test_a_map_is_pasted_where_its_box_is():
    canvas = np.zeros((20, 30, 3), np.uint8)
    paste_map(canvas, np.full((14, 14, 3), 200, np.uint8), np.array([4.0, -3.0, 12.0, 5.0]))
    assert (canvas[:5, 4:12] == 140).all()
    canvas[:5, 4:12] = 0
    assert not canvas.any()
    paste_map(canvas, np.full((14, 14, 3), 200, np.uint8), np.array([40.0, 3.0, 50.0, 5.0]))  # outside
    assert not canvas.any()
    quarters = np.zeros((2, 2, 3), np.uint8)
    quarters[0, 1] = 200
    paste_map(canvas, quarters, np.array([0.0, 0.0, 20.0, 20.0]))
    assert canvas[2, 17, 0] == 140 and canvas[2, 2, 0] == canvas[17, 17, 0] == 0


def test_colours_and_curves():
    flat, low = (heat(np.full((2, 2), value), value, 1, cv2.COLORMAP_VIRIDIS) for value in (1.0, 0.0))
    assert (flat == low).all()
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    found = curves({"gradient": spread(mask * 1.0, mask)}, reach=4)
    assert found["ticks"] == [(25.0 * k, k) for k in range(5)]
    assert [style for style, _ in found["lines"]] == ["area", "step0"]
    assert found["lines"][1][1].startswith("M0.00 0.00L25.00 0.00")
