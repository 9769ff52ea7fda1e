"""GoogLeNet, U-Net and the heads: parity with torchvision and PyTorch, widths, strides, and what is refused."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from semantic_samples import ENSEMBLE, FCN, UNET, losses_of, make_model, make_sample
from torch import nn
from torchvision.models import googlenet

from cellseg_d2.modeling.backbone import VARIANTS, GoogLeNet, UNet
from cellseg_d2.modeling.checkpoint import WeightsError, load_weights
from cellseg_d2.modeling.semantic.heads import PixelHead, TransposedConv, TransposedConvHead
from cellseg_d2.modeling.semantic.losses import SemanticLoss
from cellseg_d2.modeling.semantic.probability import foreground_probability

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


@pytest.mark.parametrize(("channels", "classes", "stride"), [(8, 1, 32), (8, 3, 16), (3, 1, 2)])
def test_transposed_convolution_is_pytorchs(channels, classes, stride):
    layer = TransposedConv(channels, classes, stride)
    x = torch.randn(2, channels, 3, 5, requires_grad=True)
    ours, theirs = layer(x), nn.ConvTranspose2d.forward(layer, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    weight = torch.randn_like(ours)
    for one, other in zip(*(torch.autograd.grad((y * weight).sum(), [x, *layer.parameters()]) for y in (ours, theirs))):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_loss_weight():
    x = [make_sample()]
    once, thrice = (losses_of(make_model(UNET, {"MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": w}), x) for w in (1.0, 3.0))
    assert torch.allclose(3 * once["loss_sem_seg"], thrice["loss_sem_seg"])


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
