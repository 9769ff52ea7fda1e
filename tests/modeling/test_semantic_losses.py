"""Losses on pixels: known answers."""

import math

import pytest
import torch
import torch.nn.functional as F

from cellseg_d2.modeling.semantic.losses import SemanticLoss

ALL = {"cross_entropy": 1.0, "dice": 1.0, "focal": 1.0}


def only(name: str, **more) -> SemanticLoss:
    return SemanticLoss(**{"cross_entropy": 0.0, name: 1.0, **more})


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def batch(probabilities: list[float], classes: list[int], weights: list[float] | None = None):
    """One image of one row: logits (1, 1, 1, W) and targets."""
    logits = torch.tensor([logit(p) for p in probabilities]).reshape(1, 1, 1, -1).requires_grad_()
    planes = torch.tensor([classes, weights or [1.0] * len(classes)]).reshape(1, 2, 1, -1)
    return logits, planes


def random_batch(num_classes: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_classes, 8, 9, generator=generator).requires_grad_()
    classes = torch.randint(0, max(num_classes, 2), (2, 8, 9), generator=generator)
    return logits, torch.stack([classes.float(), torch.rand(2, 8, 9, generator=generator)], dim=1)


def test_weighted_cross_entropy_by_hand():
    logits, targets = batch([0.5, 0.25, 0.8], [1, 0, 1], [2.0, 1.0, 5.0])
    expected = -(2 * math.log(0.5) + math.log(0.75) + 5 * math.log(0.8)) / 8
    assert only("cross_entropy")(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_three_classes_by_hand():
    logits = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2]]).log().T.reshape(1, 3, 1, 2)
    targets = torch.tensor([[[[2.0, 1.0]], [[3.0, 1.0]]]])
    expected = -(3 * math.log(0.2) + math.log(0.7)) / 4
    assert only("cross_entropy", num_classes=3)(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_focal_by_hand():
    logits, targets = batch([0.5, 0.25, 0.8], [1, 0, 1], [2.0, 1.0, 5.0])
    terms = 2 * 0.5**2 * math.log(0.5) + 0.25**2 * math.log(0.75) + 5 * 0.2**2 * math.log(0.8)
    assert only("focal")(logits, targets).item() == pytest.approx(-terms / 8, rel=1e-5)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_focal_of_gamma_0_is_cross_entropy(num_classes):
    logits, targets = random_batch(num_classes)
    losses = [only(name, focal_gamma=0.0, num_classes=num_classes) for name in ("focal", "cross_entropy")]
    gradients = [torch.autograd.grad(loss(logits, targets), logits)[0] for loss in losses]
    assert torch.allclose(losses[0](logits, targets), losses[1](logits, targets))
    assert torch.allclose(*gradients)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_of_certain_pixels_has_a_gradient(gamma):
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0]).reshape(1, 1, 1, 4).requires_grad_()
    loss = only("focal", focal_gamma=gamma)(logits, torch.tensor([[[1, 1, 0, 0]]]))
    loss.backward()
    assert loss.item() == pytest.approx(100) and torch.isfinite(logits.grad).all()


def test_dice_by_hand():
    logits, targets = batch([0.5, 0.25, 0.8], [1, 0, 1])
    expected = 1 - (2 * (0.5 + 0.8) + 1) / (0.25 + 0.0625 + 0.64 + 2 + 1)
    assert only("dice")(logits, targets).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classes", [[1, 0, 1, 0], [0, 0, 0, 0]])
def test_dice_of_a_perfect_prediction_is_0(classes):
    logits = torch.tensor([100.0 if c else -100.0 for c in classes]).reshape(1, 1, 1, 4)
    assert only("dice")(logits, torch.tensor([[classes]])).item() == 0
    assert only("dice")(-logits, torch.tensor([[classes]])).item() > 0.7


def test_dice_of_three_classes_joins_interior_and_edge():
    logits = torch.tensor([[-100.0, 0.0, 0.0], [-100.0, 0.0, 0.0], [100.0, 0.0, 0.0]]).T.reshape(1, 3, 1, 3)
    assert only("dice", num_classes=3)(logits, torch.tensor([[[1, 2, 0]]])).item() == 0


def test_losses_add_up():
    logits, targets = random_batch(3)
    parts = [only(name, num_classes=3)(logits, targets) for name in ALL]
    both = SemanticLoss(cross_entropy=2.0, dice=0.5, focal=3.0, num_classes=3)(logits, targets)
    assert torch.allclose(both, 2 * parts[0] + 0.5 * parts[1] + 3 * parts[2])


@pytest.mark.parametrize("num_classes", [1, 3])
def test_ignored_pixels_are_as_if_cut_away(num_classes):
    logits, targets = random_batch(num_classes)
    targets[:, :, 5:] = 255  # both planes, as Detectron2 pads
    loss = SemanticLoss(**ALL, num_classes=num_classes)
    value = loss(logits, targets)
    value.backward()
    assert not logits.grad[:, :, 5:].any() and logits.grad[:, :, :5].all()
    assert torch.allclose(value, loss(logits[:, :, :5], targets[:, :, :5]))


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("fill", [255, 0])
def test_nothing_counts(num_classes, fill):
    """All pixels ignored, or none of any weight: the loss is 0 and its gradient too."""
    logits, targets = random_batch(num_classes)
    targets[:, 0], targets[:, 1] = fill, 255 if fill else 0
    loss = SemanticLoss(**ALL | {"dice": float(fill > 0)}, num_classes=num_classes)(logits, targets)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_class_maps_have_weights_of_1():
    logits, targets = random_batch(1)
    targets[:, 1] = 1
    loss = SemanticLoss(**ALL)
    for dtype in (torch.uint8, torch.int64):
        assert torch.equal(loss(logits, targets[:, 0].to(dtype)), loss(logits, targets))


def test_another_ignored_class():
    logits, targets = batch([0.5, 0.9], [1, 7])
    assert SemanticLoss(ignore_value=7)(logits, targets).item() == pytest.approx(math.log(2))


def test_float32_under_mixed_precision():
    logits, targets = random_batch(3)
    with torch.autocast("cpu", torch.bfloat16):
        loss = SemanticLoss(**ALL, num_classes=3)(logits.bfloat16(), targets)
    exact = SemanticLoss(**ALL, num_classes=3)(logits.bfloat16().float(), targets)
    assert loss.dtype == torch.float32 and torch.equal(loss, exact)


def test_gradients_are_those_of_finite_differences():
    logits, targets = random_batch(3)
    loss = SemanticLoss(**ALL, num_classes=3)
    (gradient,) = torch.autograd.grad(loss(logits, targets), logits)
    step = F.normalize(gradient.flatten(), dim=0).view_as(gradient) * 0.05
    slope = (loss(logits + step, targets) - loss(logits - step, targets)) / 2
    assert slope.item() == pytest.approx((gradient * step).sum().item(), rel=1e-2)


@pytest.mark.parametrize(
    "arguments",
    [{"cross_entropy": 0.0}, {"dice": -1.0}, {"focal": 1.0, "focal_gamma": -0.5}, {"cross_entropy": math.nan}],
)
def test_weights_that_make_no_loss(arguments):
    with pytest.raises(ValueError, match="MODEL.SEMANTIC"):
        SemanticLoss(**arguments)


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4, 4), "expected"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 5), "expected"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), "expected"),
        (torch.zeros(1, 1, 4, 4), torch.full((1, 4, 4), 2), "class 2; .*NUM_CLASSES 1 means classes 0 .. 1"),
        (torch.zeros(1, 1, 4, 4), torch.full((1, 4, 4), -1), "class -1"),
    ],
)
def test_wrong_input_is_named(logits, targets, message):
    with pytest.raises(ValueError, match=message):
        SemanticLoss()(logits, targets)
