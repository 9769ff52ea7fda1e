"""The predictor finds the cells that the model finds on its mapper's input, whatever runs the network."""

import dataclasses

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import tifffile
from torch import nn

from cellseg_d2.data.image_io import CorruptImageError
from cellseg_d2.data.semantic_mapper import SemanticMapper
from cellseg_d2.engine.errors import UserError
from cellseg_d2.evaluation.records import instances_to_results
from cellseg_d2.inference.model_folder import load_model, save_model
from cellseg_d2.inference.runtimes.semantic import EagerNetwork, RuntimeKindError
from cellseg_d2.inference.semantic import SemanticPredictor
from cellseg_d2.modeling.postprocess import predict_rle

ENSEMBLE = ("MODEL.ENSEMBLE.CELL_TYPES", ["huh7", "bv2"])
VALUES = {
    "eight.tif": lambda image: image,
    "eight.png": lambda image: image,
    "sixteen.tif": lambda image: image.astype(np.uint16) * 200 + 700,
    "float.tif": lambda image: image.astype(np.float32) / 255,
    "colour.png": lambda image: np.stack([image, image // 2, 255 - image], axis=2),
}


def write(path, image):
    """An image file of the kind that its name says, RGB."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, image)
    else:
        cv2.imwrite(str(path), image[:, :, ::-1] if image.ndim == 3 else image)
    return path


def between(probability, share=0.7):
    """A threshold that about ``share`` of the pixels miss, in the widest gap between probabilities that is near."""
    values = np.sort(probability, axis=None)
    near = values[int(share * values.size) - 50 :][:100]
    gap = np.diff(near).argmax()
    assert near[gap + 1] - near[gap] > 1e-4
    return float(near[gap] + near[gap + 1]) / 2


def evaluated(cfg, model, path, size, cell_type=None):
    """What evaluation would find: the mapper's input, the model's cells."""
    record = {"file_name": str(path), "image_id": 1, "height": size[0], "width": size[1], "cell_type": cell_type}
    (cells,) = predict_rle(model, [SemanticMapper(cfg, is_train=False)(record)])
    return instances_to_results(cells, path.name, path.name)


# The same cells as in evaluation


@pytest.mark.parametrize("name", VALUES)
def test_cells_are_those_of_evaluation(folder, network_file, image, tmp_path, name):
    values = VALUES[name](image)
    path = write(tmp_path / name, values)
    threshold = between(SemanticPredictor.from_folder(folder, "eager")(path).probability)
    eager, onnx = (SemanticPredictor.from_folder(folder, kind, threshold=threshold)(path) for kind in ("eager", "onnx"))
    cfg, model = load_model(folder)
    model.set_threshold(threshold)
    truth = evaluated(cfg, model, path, image.shape)
    assert truth and eager.cells == truth
    assert np.array_equal(eager.labels, onnx.labels)
    assert np.abs(eager.probability - onnx.probability).max() < 1e-4


@pytest.mark.parametrize("name", VALUES)
def test_an_array_is_as_good_as_its_file(folder, image, tmp_path, name):
    predictor, values = SemanticPredictor.from_folder(folder, "eager"), VALUES[name](image)
    assert np.array_equal(predictor(values).probability, predictor(write(tmp_path / name, values)).probability)


@pytest.mark.parametrize(
    "options",
    [
        ("INPUT.MIN_SIZE_TEST", 120, "INPUT.MAX_SIZE_TEST", 200),
        ("INPUT.GAMMA", 0.5, "INPUT.STRETCH_PERCENTILES", (5.0, 95.0)),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3, "MODEL.SEMANTIC.SPLIT", "classes"),
        ("MODEL.PIXEL_MEAN", [0.3, 0.4, 0.5], "MODEL.PIXEL_STD", [0.2, 0.3, 0.4]),
    ],
    ids=["scaled", "stretched", "three classes", "three channels"],
)
def test_configurations_are_followed(make_model, image, tmp_path, options):
    cfg, model = make_model(*options)
    path = write(tmp_path / "frame.tif", image)
    model.set_threshold(between(SemanticPredictor(model, cfg, runtime="eager")(path).probability))
    truth = evaluated(cfg, model, path, image.shape)
    assert truth and SemanticPredictor(model, cfg, runtime="eager")(path).cells == truth


def test_what_a_prediction_holds(folder, image, tmp_path):
    path = write(tmp_path / "frame.tif", image)
    threshold = between(SemanticPredictor.from_folder(folder, "eager")(path).probability)
    found = SemanticPredictor.from_folder(folder, "eager", threshold=threshold)(path)
    assert found.labels.dtype == np.int32 and found.probability.dtype == np.float32
    assert found.labels.shape == found.probability.shape == image.shape
    assert len(found.cells) == found.labels.max() > 0
    assert np.array_equal(sum(mask_util.decode(cell["segmentation"]) for cell in found.cells), found.labels > 0)
    assert {cell["image_id"] for cell in found.cells} == {"frame.tif"}
    assert list(found.steps) == ["read", "normalise", "network", "label"]
    assert found.seconds == pytest.approx(sum(found.steps.values())) and found.seconds > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.labels = None


def test_options_of_cells_can_be_changed(folder, image):
    plain = {"min_area": 0, "hole_area": 0}
    found = SemanticPredictor.from_folder(folder, "eager", cells=plain)(image)
    assert np.array_equal(found.labels > 0, found.probability >= 0.375)  # that of the weights, not of the configuration
    threshold = between(found.probability)
    found = SemanticPredictor.from_folder(folder, "eager", threshold=threshold, cells=plain)(image)
    assert np.array_equal(found.labels > 0, found.probability >= threshold)
    large = SemanticPredictor.from_folder(folder, "eager", threshold=threshold, cells={"min_area": 100})(image)
    assert large.labels.max() < found.labels.max() and np.bincount(large.labels.ravel())[1:].min(initial=100) >= 100
    for threshold, changes, words in ((1.5, {}, "1.5"), (None, {"split": "classes"}, "NUM_CLASSES 3")):
        with pytest.raises(ValueError, match=words):
            SemanticPredictor.from_folder(folder, "eager", threshold=threshold, cells=changes)


# Odd images


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (3, 40)])
@pytest.mark.parametrize("kind", ["eager", "onnx"])
def test_images_smaller_than_the_stride(folder, network_file, kind, shape):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = SemanticPredictor.from_folder(folder, kind)(values)
    assert found.labels.shape == found.probability.shape == shape and np.isfinite(found.probability).all()


@pytest.mark.parametrize("kind", ["eager", "onnx"])
@pytest.mark.parametrize("value", [0, 255])
def test_frames_of_one_value_are_zeros_to_the_network(folder, network_file, image, value, kind):
    predictor = SemanticPredictor.from_folder(folder, kind)
    found = predictor(np.full_like(image, value))
    logits = EagerNetwork(load_model(folder)[1])(np.zeros((1, *image.shape), dtype=np.float32))
    assert np.abs(found.probability - logits[0].sigmoid().numpy()).max() < 1e-5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted(folder, image, tmp_path, value):
    predictor, values = SemanticPredictor.from_folder(folder, "eager"), image.astype(np.float32)
    values[3, 4:6] = value
    with pytest.raises(ValueError, match="2 values of the image are not finite"):
        predictor(values)
    with pytest.raises(CorruptImageError, match="frame.tif: 2 values are not finite"):
        predictor(write(tmp_path / "frame.tif", values))


def test_broken_files_are_named(folder, image, tmp_path):
    predictor, path = SemanticPredictor.from_folder(folder, "eager"), write(tmp_path / "frame.tif", image)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CorruptImageError, match="frame.tif"):
        predictor(path)
    with pytest.raises(FileNotFoundError, match="nothing.tif"):
        predictor(tmp_path / "nothing.tif")


@pytest.mark.parametrize("array", [np.zeros((8, 8, 4)), np.zeros(8), np.zeros((8, 8), complex), np.zeros((0, 8))])
def test_other_arrays_are_refused(folder, array):
    with pytest.raises(ValueError, match="image"):
        SemanticPredictor.from_folder(folder, "eager")(array)


# Ensembles


@pytest.fixture(scope="module")
def ensemble(make_model):
    """Two members that differ, in weights and in threshold."""
    cfg, model = make_model(*ENSEMBLE, config="unet_ensemble.yaml")
    model.members["bv2"].set_threshold(0.25)
    return cfg, model


def test_an_ensemble_asks_the_model_of_the_type(ensemble, image, tmp_path):
    cfg, model = ensemble
    predictor, path = SemanticPredictor(model, cfg, runtime="eager"), write(tmp_path / "frame.tif", image)
    found = {name: predictor(path, name) for name in ("huh7", "BV2")}
    faster = SemanticPredictor(model, cfg)(path, "huh7").probability
    assert 0 < np.abs(faster - found["huh7"].probability).max() < 1e-4
    assert not np.array_equal(found["huh7"].probability, found["BV2"].probability)
    for name, prediction in found.items():
        assert prediction.cells == evaluated(cfg, model, path, image.shape, name)
    for wrong in ("hela", None):
        with pytest.raises(ValueError, match="huh7, bv2"):
            predictor(path, wrong)


def test_an_ensemble_averages_for_other_types(make_model, image, tmp_path):
    cfg, model = make_model(*ENSEMBLE, "MODEL.ENSEMBLE.UNKNOWN", "average", config="unet_ensemble.yaml")
    predictor, path = SemanticPredictor(model, cfg, runtime="eager"), write(tmp_path / "frame.tif", image)
    known = [predictor(path, name).probability for name in ("huh7", "bv2")]
    found = predictor(path)
    assert np.abs(found.probability - np.mean(known, axis=0)).max() < 1e-5
    assert found.cells == evaluated(cfg, model, path, image.shape)


def test_models_that_cannot_be(ensemble, tmp_path):
    cfg, model = ensemble
    with pytest.raises(RuntimeKindError, match="ensemble"):
        SemanticPredictor.from_folder(save_model(tmp_path, cfg, model, {}), "onnx")
    with pytest.raises(UserError, match="Identity is no semantic model"):
        SemanticPredictor(nn.Identity(), cfg)
