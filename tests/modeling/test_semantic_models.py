"""The contract of every semantic model: learns, predicts at the size asked for, saves and loads."""

import pytest
import torch
from semantic_samples import ENSEMBLE, FCN, UNET, f1, gradients, losses_of, make_model, make_sample
from torch import nn

from cellseg_d2.modeling.checkpoint import load_weights
from cellseg_d2.modeling.semantic.heads import SemanticHead
from cellseg_d2.modeling.semantic.probability import foreground_probability


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
