"""The contract of every semantic model: learns, predicts at the size asked for, saves and loads; and its own tests."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from torch import nn
from torchvision.models import googlenet

from cellseg_d2 import add_cellseg_config
from cellseg_d2.modeling.backbone import VARIANTS, GoogLeNet, UNet
from cellseg_d2.modeling.checkpoint import WeightsError, load_weights
from cellseg_d2.modeling.semantic.ensemble import CellTypeEnsemble
from cellseg_d2.modeling.semantic.heads import PixelHead, SemanticHead, TransposedConvHead
from cellseg_d2.modeling.semantic.losses import SemanticLoss
from cellseg_d2.modeling.semantic.segmentor import CellSegmentor, foreground_probability

FCN = {
    "MODEL.BACKBONE.NAME": "build_googlenet_backbone",
    "MODEL.SEM_SEG_HEAD.NAME": "TransposedConvHead",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["inception5b"],
}
UNET = {
    "MODEL.BACKBONE.NAME": "build_unet_backbone",
    "MODEL.SEM_SEG_HEAD.NAME": "PixelHead",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["unet"],
    "MODEL.UNET.WIDTH": 8,
}
ENSEMBLE = {
    **UNET,
    "MODEL.META_ARCHITECTURE": "CellTypeEnsemble",
    "MODEL.ENSEMBLE.CELL_TYPES": ["huh7", "bv2"],
}


def make_model(*overrides: dict, channels: int = 1) -> nn.Module:
    """A model on the CPU; later overrides count more."""
    values = {
        "MODEL.META_ARCHITECTURE": "CellSegmentor",
        "MODEL.DEVICE": "cpu",
        "MODEL.PIXEL_MEAN": [0.0] * channels,
        "MODEL.PIXEL_STD": [1.0] * channels,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 1,
    }
    for override in overrides:
        values |= override
    cfg = get_cfg()
    add_cellseg_config(cfg)
    cfg.merge_from_list([x for item in values.items() for x in item])
    torch.manual_seed(0)
    return build_model(cfg)


def make_sample(seed: int = 0, size: tuple[int, int] = (64, 96), num_classes: int = 1, channels: int = 1) -> dict:
    """Two bright discs in noise; the outer three pixels are class 2 of three. Types take turns."""
    y, x = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    height, width = size
    depth = torch.maximum(
        0.25 * height - torch.hypot(y - 0.4 * height, x - 0.3 * width),
        0.2 * height - torch.hypot(y - 0.6 * height, x - 0.75 * width),
    )
    classes = (depth > 0).long() + ((depth > 0) & (depth < 3)).long() * (num_classes > 1)
    noise = torch.randn(channels, *size, generator=torch.Generator().manual_seed(seed))
    return {
        "image": 2.0 * (depth > 0) - 0.5 + 0.3 * noise,
        "sem_seg": torch.stack([classes.float(), torch.ones(size)]),
        "file_name": f"image_{seed}.png",
        "cell_type": ("huh7", "bv2")[seed % 2],
        "height": height,
        "width": width,
    }


def losses_of(model: nn.Module, batch: list[dict]) -> dict[str, torch.Tensor]:
    """Training losses after a backward pass."""
    model.train().zero_grad()
    losses = model(batch)
    sum(losses.values()).backward()
    return losses


def gradients(model: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def f1(predicted: torch.Tensor, truth: torch.Tensor) -> float:
    return 2 * (predicted & truth).sum().item() / (predicted.sum() + truth.sum()).item()


class SemanticContract:
    """Inherit and say what to change in the config: three lines a model."""

    base: dict = FCN
    overrides: dict = {}
    num_classes = 1

    def build(self, *more: dict, channels: int = 1) -> nn.Module:
        classes = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": self.num_classes}
        return make_model(self.base, classes, self.overrides, *more, channels=channels)

    def batch(self, *sizes: tuple[int, int], channels: int = 1) -> list[dict]:
        return [make_sample(i, size, self.num_classes, channels) for i, size in enumerate(sizes)]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_every_parameter_learns(self, channels):
        model = self.build(channels=channels)
        losses = losses_of(model, self.batch((64, 96), (64, 96), channels=channels))
        assert set(losses) == {"loss_sem_seg"} and 0 < losses["loss_sem_seg"] < 100
        assert [name for name, grad in gradients(model).items() if grad is None or not grad.any()] == []

    def test_odd_sizes_come_back(self):
        model, batch = self.build(), self.batch((75, 131), (64, 97), (33, 40))
        batch[2] |= {"height": 50, "width": 61}  # the output size asked for, not that of the input
        losses_of(model, batch)
        with torch.no_grad():
            outputs = model.eval()(batch)
        for x, output in zip(batch, outputs):
            size = (x["height"], x["width"])
            assert output["sem_seg"].shape == (self.num_classes, *size)
            assert torch.equal(output["probability"], foreground_probability(output["sem_seg"]))
            assert output["instances"].image_size == size

    def test_all_ignored(self):
        """The loss is 0 and every parameter has a gradient, else distributed training hangs."""
        model, batch = self.build(), self.batch((64, 64), (64, 64))
        for x in batch:
            x["sem_seg"][0] = 255
        assert losses_of(model, batch)["loss_sem_seg"] == 0
        assert all(grad is not None and not grad.any() for grad in gradients(model).values())

    def test_padding_does_not_count(self):
        """The loss of an image of an odd size is that of its own pixels; classes alone have weights of 1."""
        model, (x,) = self.build(), self.batch((75, 131))
        seen = []
        heads = [module for module in model.modules() if isinstance(module, SemanticHead)]
        for head in heads:
            head.predictor.register_forward_hook(lambda module, inputs, output: seen.append(output))
        loss = losses_of(model, [x])["loss_sem_seg"]
        (logits,) = seen
        assert logits.shape[2:] > (75, 131)
        assert torch.allclose(loss, heads[0].loss(logits[..., :75, :131], x["sem_seg"][None]))
        classes = losses_of(model, [{**x, "sem_seg": x["sem_seg"][0].long()}])["loss_sem_seg"]
        assert torch.equal(loss, classes)

    def test_mixed_precision(self):
        model, batch = self.build(), self.batch((64, 96), (64, 96))
        exact = losses_of(model, batch)["loss_sem_seg"].item()
        with torch.autocast("cpu", torch.bfloat16):
            loss = losses_of(model, batch)["loss_sem_seg"]
            with torch.no_grad():
                logits = model.eval()(batch)[0]["sem_seg"]
        assert loss.dtype == logits.dtype == torch.float32
        assert loss.item() == pytest.approx(exact, rel=0.1)
        assert all(torch.isfinite(grad).all() for grad in gradients(model).values())

    def test_saves_and_loads(self, tmp_path):
        model, batch = self.build(), self.batch((64, 96), (64, 96))
        losses_of(model, batch)  # moves the statistics of batch norm
        for parameter in model.parameters():
            parameter.data.mul_(1.1)
        torch.save(model.state_dict(), tmp_path / "model.pth")
        other = self.build()
        load_weights(other, str(tmp_path / "model.pth"), complete=True)
        with torch.no_grad():
            ours, theirs = (m.eval()(batch)[1]["sem_seg"] for m in (model, other))
        assert torch.equal(ours, theirs)

    def test_inside_detectron2(self):
        """Backbone and head fill Detectron2's own model, with the same losses and logits."""
        theirs = self.build({"MODEL.META_ARCHITECTURE": "SemanticSegmentor"})
        ours = self.build().to(memory_format=torch.contiguous_format)  # as theirs, so that roundings are the same
        batch = self.batch((75, 131), (64, 97))
        ours.load_state_dict(theirs.state_dict(), strict=False)
        losses = [losses_of(model, batch)["loss_sem_seg"] for model in (theirs, ours)]
        assert torch.equal(*losses)
        with torch.no_grad():
            outputs = [[output["sem_seg"] for output in model.eval()(batch)] for model in (theirs, ours)]
        assert all(torch.equal(*pair) for pair in zip(*outputs))

    def test_learns_two_discs_by_heart(self):
        model, batch = self.build(), self.batch((64, 64))
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for step in range(1, 61):
            losses_of(model, batch)
            optimizer.step()
            if step % 10 == 0:
                with torch.no_grad():
                    (output,) = model.eval()(batch)
                if f1(output["probability"] > 0.5, batch[0]["sem_seg"][0] > 0) > 0.9:
                    return
        pytest.fail(f"not learnt in {step} steps")


class TestGoogLeNet(SemanticContract):
    pass


class TestGoogLeNetWithoutNorm(SemanticContract):
    overrides = {"MODEL.GOOGLENET.NORM": ""}


class TestGoogLeNetOfTorchvisionStride16(SemanticContract):
    overrides = {
        "MODEL.GOOGLENET.BRANCH_KERNEL": 3,
        "MODEL.GOOGLENET.OUT_FEATURES": ["inception4e"],
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["inception4e"],
    }


class TestGoogLeNetStride8ThreeClasses(SemanticContract):
    overrides = {"MODEL.GOOGLENET.OUT_FEATURES": ["inception3b"], "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["inception3b"]}
    num_classes = 3


class TestUNet(SemanticContract):
    base = UNET


class TestUNetWithoutNormThreeClasses(SemanticContract):
    base = UNET
    overrides = {"MODEL.UNET.NORM": ""}
    num_classes = 3


class TestExpandedUNet(SemanticContract):
    base = UNET
    overrides = {"MODEL.UNET.VARIANT": "expanded", "MODEL.SEMANTIC.DICE": 1.0}


class TestDeepUNet(SemanticContract):
    base = UNET
    overrides = {"MODEL.UNET.VARIANT": "deep", "MODEL.UNET.NORM": "GN", "MODEL.SEMANTIC.FOCAL": 1.0}


class TestEnsemble(SemanticContract):
    base = ENSEMBLE
    test_inside_detectron2 = None  # it is a model of its own


# GoogLeNet


def test_googlenet_equals_torchvision(tmp_path):
    """Exactly, with its weights read from a file into a whole model; one channel starts only conv1 anew."""
    torch.manual_seed(0)
    theirs = googlenet(weights=None, aux_logits=True, init_weights=False).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    torch.save(theirs.state_dict(), tmp_path / "googlenet.pth")
    kernel3 = {"MODEL.GOOGLENET.BRANCH_KERNEL": 3}
    model = make_model(FCN, kernel3, channels=3).eval()
    report = load_weights(model, str(tmp_path / "googlenet.pth"))
    assert not [name for name in report.missing if name.startswith("backbone.")]
    assert {name.split(".")[1] for name in report.unexpected} == {"fc", "aux1", "aux2"}
    seen = {}
    theirs.inception5b.register_forward_hook(lambda module, inputs, output: seen.update(inception5b=output))
    image = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        theirs(image)
        ours = model.backbone(image)["inception5b"]
    assert seen["inception5b"].std() > 0.01 and torch.allclose(ours, seen["inception5b"], atol=1e-5)

    grey = make_model(FCN, kernel3)
    with pytest.raises(WeightsError, match="REINIT_MISMATCHED"):
        load_weights(grey, str(tmp_path / "googlenet.pth"))
    report = load_weights(grey, str(tmp_path / "googlenet.pth"), reinit_mismatched=True)
    assert [name for name, _, _ in report.mismatched] == ["backbone.conv1.conv.weight"]


@pytest.mark.parametrize("norm", ["BN", "GN", "FrozenBN", ""])
def test_googlenet_features(norm):
    names = {"conv1": (64, 2), "conv2": (64, 4), "inception3b": (480, 8), "inception4e": (832, 16)}
    model = GoogLeNet(2, list(names), norm=norm).eval()
    assert {k: (s.channels, s.stride) for k, s in model.output_shape().items()} == names
    with torch.no_grad():
        features = model(torch.randn(1, 2, 96, 64))
    assert {k: v.shape[1:] for k, v in features.items()} == {
        k: (width, 96 // stride, 64 // stride) for k, (width, stride) in names.items()
    }
    assert not hasattr(model, "inception5a")  # what nothing needs is not made, and would not learn
    assert all(0.1 < v.std() < 10 for v in features.values())  # the start neither fades nor explodes


def test_googlenet_has_the_parameters_of_the_paper():
    """Weights and biases without the classifier: table 1 says 6.8 M with it, in figures of two digits."""
    model = GoogLeNet(3, norm="")
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(6.8e6 - 1024 * 1000, rel=0.05)
    kernels = {m.kernel_size for block in [model.inception3a, model.inception5b] for m in block.branch3.modules()
               if isinstance(m, nn.Conv2d)}  # fmt: skip
    assert kernels == {(1, 1), (5, 5)} and model.maxpool4.kernel_size == 3


# U-Net


@pytest.mark.parametrize(("variant", "bottom"), [("unet", 512), ("expanded", 1024), ("deep", 2048)])
def test_unet_variants(variant, bottom):
    with torch.device("meta"):
        full = UNet(1, VARIANTS[variant], 64)
    widths = [m.out_channels for m in full.down.modules() if isinstance(m, nn.Conv2d)]
    assert widths[0] == 64 and widths[-1] == bottom
    assert full.size_divisibility == bottom // 64
    assert full.output_shape()["unet"] == ShapeSpec(channels=64, stride=1)


def test_unet_sees_as_far_as_its_levels():
    """The gradient of one output pixel covers the receptive field, which each level doubles."""
    seen = {}
    for name, factors in VARIANTS.items():
        torch.manual_seed(0)
        image = torch.randn(1, 1, 320, 320, requires_grad=True)
        UNet(1, [1] * len(factors), 4, norm="")(image)["unet"][0, :, 160, 160].sum().backward()
        rows = image.grad[0, 0].any(1).nonzero()
        seen[name] = (rows.max() - rows.min()).item()
    assert seen["unet"] < seen["expanded"] < seen["deep"]


# Heads


@pytest.mark.parametrize(("head", "stride"), [(PixelHead, 1), *((TransposedConvHead, s) for s in (2, 4, 8, 16, 32))])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_heads_give_the_size_of_the_input_and_start_at_the_prior(head, stride, num_classes):
    model = head(
        in_feature="x", input_shape=ShapeSpec(channels=8, stride=stride), loss=SemanticLoss(num_classes=num_classes),
        num_classes=num_classes, prior=0.2,
    ).eval()  # fmt: skip
    logits, losses = model({"x": torch.zeros(2, 8, 3, 5)})
    assert logits.shape == (2, num_classes, 3 * stride, 5 * stride) and losses == {}
    assert torch.allclose(foreground_probability(logits), torch.tensor(0.2))


def test_transposed_convolution_is_centred():
    """Input that is mirrored gives logits that are, if the kernel is symmetric: there is no shift."""
    shape = ShapeSpec(channels=1, stride=8)
    head = TransposedConvHead(in_feature="x", input_shape=shape, loss=SemanticLoss()).eval()
    head.predictor.weight.data = head.predictor.weight.data + head.predictor.weight.data.flip(2, 3)
    x = torch.randn(1, 1, 4, 5)
    with torch.no_grad():
        there, back = head({"x": x})[0], head({"x": x.flip(2, 3)})[0].flip(2, 3)
    assert torch.allclose(there, back, atol=1e-6)


def test_loss_weight():
    x = [make_sample()]
    once, thrice = (losses_of(make_model(UNET, {"MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": w}), x) for w in (1.0, 3.0))
    assert torch.allclose(3 * once["loss_sem_seg"], thrice["loss_sem_seg"])


# Ensemble


@pytest.fixture
def ensemble() -> CellTypeEnsemble:
    """Two models that differ; logits spread around both sides of the threshold."""
    model = make_model(ENSEMBLE, {"MODEL.UNET.NORM": ""}).eval()
    for member in model.members.values():
        member.sem_seg_head.predictor.bias.data.zero_()
    return model


def test_ensemble_asks_the_model_of_the_type(ensemble):
    batch = [make_sample(i) for i in (0, 1, 2, 3)]
    batch[2]["cell_type"] = "BV2"
    with torch.no_grad():
        outputs, rles = ensemble(batch), ensemble.predict_rle(batch)
        for x, output, rle in zip(batch, outputs, rles):
            (alone,) = ensemble.members[x["cell_type"].lower()]([x])
            assert torch.allclose(output["sem_seg"], alone["sem_seg"], atol=1e-5)
            assert len(rle) == len(output["instances"]) and rle.has("pred_rles")
        logits = ensemble.logits(batch)
    assert all(torch.equal(a, b["sem_seg"]) for a, b in zip(logits, outputs))
    assert not torch.allclose(*(m.logits(batch[:1])[0] for m in ensemble.members.values()))


@pytest.mark.parametrize("norm", ["", "BN"])
def test_ensemble_losses_are_means_over_images(norm):
    model = make_model(ENSEMBLE, {"MODEL.UNET.NORM": norm}).train()
    batch = [make_sample(i) for i in (0, 2, 4, 1)]
    own = [model.members["huh7"](batch[:3])["loss_sem_seg"], model.members["bv2"](batch[3:])["loss_sem_seg"]]
    assert torch.allclose(losses_of(model, batch)["loss_sem_seg"], 0.75 * own[0] + 0.25 * own[1])


def test_absent_type_gets_a_gradient_of_0():
    model = make_model(ENSEMBLE)
    before = {k: v.clone() for k, v in model.members["bv2"].state_dict().items()}
    losses_of(model, [make_sample(0), make_sample(2)])
    present, absent = (gradients(model.members[name]).values() for name in ("huh7", "bv2"))
    assert all(grad is not None and grad.any() for grad in present)
    assert all(grad is not None and not grad.any() for grad in absent)
    assert all(torch.equal(v, before[k]) for k, v in model.members["bv2"].state_dict().items())


@pytest.mark.parametrize("num_classes", [1, 3])
def test_average_of_unknown_types(num_classes):
    classes = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": num_classes, "MODEL.ENSEMBLE.UNKNOWN": "average"}
    model = make_model(ENSEMBLE, classes).eval()
    model.members["huh7"].set_threshold(0.5)
    model.members["bv2"].set_threshold(0.1)
    batch = [make_sample(0, num_classes=num_classes), make_sample(1, num_classes=num_classes)]
    batch[0]["cell_type"] = "hela"
    with torch.no_grad():
        (output, known), rles = model(batch), model.predict_rle(batch)
        each = [foreground_probability(m.logits(batch[:1])[0]) for m in model.members.values()]
        assert torch.equal(known["sem_seg"], model.members["bv2"].logits(batch[1:])[0])
    assert torch.allclose(output["probability"], torch.stack(each).mean(0), atol=1e-5)
    cells = output["probability"] >= 0.3  # the mean of their thresholds
    assert 0 < cells.sum() < cells.numel() and torch.equal(output["instances"].pred_masks.any(0), cells)
    assert len(rles[0]) == len(output["instances"])


def test_thresholds_travel_with_the_weights(ensemble):
    ensemble.set_threshold(0.75)
    other = make_model(ENSEMBLE, {"MODEL.UNET.NORM": ""})
    assert other.threshold == 0.5
    other.load_state_dict(ensemble.state_dict())
    assert other.threshold == 0.75 and all(m.threshold == 0.75 for m in other.members.values())
    assert other.device == torch.device("cpu")


def test_ensemble_of_models_that_are_there():
    members = {name: make_model(UNET) for name in ("a172", "mcf7")}
    model = CellTypeEnsemble(members, unknown="average")
    assert all(isinstance(m, CellSegmentor) and model.members[name] is m for name, m in members.items())
    assert {key.split(".")[1] for key in model.state_dict()} == set(members)


@pytest.mark.parametrize("cell_type", ["hela", None])
@pytest.mark.parametrize(("unknown", "training"), [("error", True), ("error", False), ("average", True)])
def test_unknown_type_is_named(cell_type, unknown, training):
    model = make_model(ENSEMBLE, {"MODEL.ENSEMBLE.UNKNOWN": unknown}).train(training)
    x = make_sample(5) | {"cell_type": cell_type}
    with pytest.raises(ValueError, match=f"image_5.png.*{cell_type or 'not given'}.*huh7, bv2"):
        model([make_sample(0), x])


# Wrong configurations


@pytest.mark.parametrize(
    ("base", "key", "value", "message"),
    [
        (FCN, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2, "NUM_CLASSES: 1 .* or 3 .*not 2"),
        (FCN, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["inception3b"], "which has inception5b; not"),
        (FCN, "MODEL.SEM_SEG_HEAD.IN_FEATURES", [], "takes one feature"),
        (FCN, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["inception5b", "inception5b"], "takes one feature"),
        (FCN, "MODEL.SEM_SEG_HEAD.NAME", "PixelHead", "stride 1.*TransposedConvHead is for others"),
        (UNET, "MODEL.SEM_SEG_HEAD.NAME", "TransposedConvHead", "even stride.*PixelHead is for stride 1"),
        (FCN, "MODEL.GOOGLENET.OUT_FEATURES", ["inception6"], "OUT_FEATURES.*inception4e"),
        (FCN, "MODEL.GOOGLENET.OUT_FEATURES", [], "OUT_FEATURES"),
        (FCN, "MODEL.GOOGLENET.BRANCH_KERNEL", 7, "BRANCH_KERNEL"),
        (FCN, "MODEL.GOOGLENET.NORM", "bn", "no norm 'bn'"),
        (UNET, "MODEL.UNET.VARIANT", "wide", "unet, expanded, deep"),
        (UNET, "MODEL.UNET.WIDTH", 0, "channels"),
        (UNET, "MODEL.SEMANTIC.CROSS_ENTROPY", 0.0, "at least one"),
        (ENSEMBLE, "MODEL.ENSEMBLE.CELL_TYPES", [], "CELL_TYPES"),
        (ENSEMBLE, "MODEL.ENSEMBLE.CELL_TYPES", ["bv2", "BV2"], "different"),
        (ENSEMBLE, "MODEL.ENSEMBLE.CELL_TYPES", ["a.b"], "dots"),
        (ENSEMBLE, "MODEL.ENSEMBLE.CELL_TYPES", ["type"], "words of PyTorch"),
        (ENSEMBLE, "MODEL.ENSEMBLE.UNKNOWN", "first", "error or average"),
        (ENSEMBLE, "MODEL.UNET.NORM", "SyncBN", "SyncBN"),
    ],
)
def test_contradictions_are_named(base, key, value, message):
    with pytest.raises(ValueError, match=message):
        make_model(base, {key: value})


def test_training_needs_truth():
    x = make_sample()
    del x["sem_seg"]
    with pytest.raises(ValueError, match="sem_seg"):
        make_model(UNET).train()([x])
