"""Colours say what they should, curves are drawn through their points, and figures are written whole or not at all."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from cellseg_d2.evaluation.figures import DPI, WIDTH, four_panels, label_colours, probability_overlay, roc_axes
from cellseg_d2.evaluation.roc import PixelRoc


def roc_of(separation, seed=0):
    """Of two normal distributions that far apart."""
    generator, truth = np.random.default_rng(seed), np.arange(20000) % 3 == 0
    roc = PixelRoc()
    roc.update(generator.normal(np.where(truth, separation / 2, -separation / 2), 1), truth)
    return roc


def axes():
    figure = Figure(figsize=(4, 4))
    FigureCanvasAgg(figure)
    return figure.subplots()


def stepped(shape=(40, 60)):
    """Dim left half, bright right half; as dark as can be in the first column."""
    image = np.full(shape, 60, np.uint8)
    image[:, 30:], image[:, 0] = 200, 0
    return image


# Pictures


def test_overlay_is_blue_green_red():
    probability = np.repeat(np.linspace(0, 1, 5), 12)[None].repeat(40, axis=0)
    overlay = probability_overlay(np.full((40, 60), 90, np.uint8), probability)
    assert overlay.shape == (40, 60, 3) and overlay.dtype == np.uint8
    strongest = overlay[0, [0, 30, 59]].argmax(axis=1)
    assert strongest.tolist() == [2, 1, 0]


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_overlay_keeps_grey_values_apart(probability):
    overlay = probability_overlay(stepped(), np.full((40, 60), probability)).max(axis=2)
    assert 30 < overlay[0, 0] < overlay[0, 15] < overlay[0, 45]  # black pixels still show their colour


def test_overlay_lifts_dim_cells():
    """A cell of a quarter of the full brightness is drawn at more than half of it."""
    image = np.zeros((50, 50), np.uint8)
    image[10:20, 10:20], image[30:40, 30:40] = 60, 240
    overlay = probability_overlay(image, np.ones((50, 50)))[..., 0].astype(int)
    assert overlay[15, 15] > 0.5 * overlay[35, 35]


def test_overlay_of_colour_images_follows_their_brightness():
    image = stepped()
    same = probability_overlay(np.repeat(image[..., None], 3, axis=2), np.ones(image.shape))
    assert (same == probability_overlay(image, np.ones(image.shape))).all()


@pytest.mark.parametrize("image", [np.zeros((4, 5)), np.zeros((4, 5, 2), np.uint8), np.zeros((0, 5), np.uint8)])
def test_what_is_no_image(image):
    with pytest.raises(ValueError, match="an image is"):
        probability_overlay(image, np.zeros(image.shape[:2]))


def test_sizes_differ(tmp_path):
    with pytest.raises(ValueError, match="differ in size"):
        probability_overlay(stepped(), np.zeros((40, 61)))
    with pytest.raises(ValueError, match="differ in size"):
        four_panels(tmp_path / "f.png", stepped(), np.zeros((40, 60)), np.zeros((4, 4), int), {"all": roc_of(2)})
    assert not list(tmp_path.iterdir())


def test_every_label_has_its_own_colour():
    """100 cells of 7 x 7 pixels, side by side: 100 fill colours and light borders; background and ignored are black."""
    labels = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((7, 7), int))
    labels = np.pad(labels, 3)
    labels[0] = -1
    colours = label_colours(labels)
    assert colours.dtype == np.uint8 and not colours[labels <= 0].any()
    centres = colours[6:-3:7, 6:-3:7].reshape(-1, 3).astype(int)
    apart = np.abs(centres[:, None] - centres[None]).sum(axis=2)
    assert (apart[~np.eye(100, dtype=bool)] > 0).all()
    assert (np.abs(np.diff(centres, axis=0)).sum(axis=1) > 60).all()  # neighbours
    assert colours[3, 3].min() > centres.min(axis=1)[0]
    assert (colours == label_colours(labels)).all()
    assert (colours != label_colours(labels, seed=1)).any()


def test_no_cells_are_black():
    assert not label_colours(np.zeros((5, 6), np.int32)).any()


# ROC


def test_curves_areas_and_points_are_drawn():
    rocs = {"training": roc_of(3), "held out": roc_of(2.5, 1)}
    ax, chosen = axes(), rocs["training"].choose("youden")
    roc_axes(ax, rocs, chosen)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[0] == f"training: AUC {rocs['training'].auc:.4f}"
    assert texts[1] == f"held out: AUC {rocs['held out'].auc:.4f}" and texts[2].startswith("threshold")
    curves = {line.get_label(): line.get_xydata() for line in ax.get_lines()}
    for (_, roc), label in zip(rocs.items(), texts):
        fpr, tpr, _ = roc.curve()
        assert np.trapezoid(curves[label][:, 1], curves[label][:, 0]) == pytest.approx(np.trapezoid(tpr, fpr))
    points = [line.get_xydata()[0].tolist() for line in ax.get_lines() if line.get_marker() == "o"]
    assert [chosen.fpr, chosen.tpr] in points
    held = rocs["held out"].at(chosen.threshold)
    assert [held.fpr, held.tpr] in points


@pytest.mark.parametrize(("separation", "enlarged"), [(6, True), (3.5, True), (0.5, False)])
def test_the_corner_is_enlarged_where_curves_reach_it(separation, enlarged):
    ax, rocs = axes(), {"training": roc_of(separation)}
    chosen = rocs["training"].choose("f1")
    roc_axes(ax, rocs, chosen)
    assert len(ax.child_axes) == enlarged
    for inset in ax.child_axes:
        (left, right), (low, high) = inset.get_xlim(), inset.get_ylim()
        assert left < chosen.fpr < right <= 0.2 and 0.8 <= low < chosen.tpr < high


def test_perfect_curve_and_no_point():
    ax = axes()
    roc = PixelRoc()
    roc.update([-3.0, 3.0], [False, True])
    roc_axes(ax, {"training": roc})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training: AUC 1.0000"]


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no ROC"):
        roc_axes(axes(), {})
    with pytest.raises(ValueError, match="no foreground"):
        roc_axes(axes(), {"training": PixelRoc()})


# The figure


@pytest.mark.parametrize("shape", [(60, 80), (120, 60), (20, 200)])
def test_figure_is_written(tmp_path, shape):
    generator = np.random.default_rng(0)
    labels = np.zeros(shape, np.int32)
    labels[5:15, 5:20], labels[2:9, 30:50] = 1, 2
    image = (40 + 100 * (labels > 0) + generator.integers(0, 20, shape)).astype(np.uint8)
    rocs = {"training": roc_of(4), "held out": roc_of(3)}
    path = tmp_path / "new" / "figure.png"
    operating = rocs["training"].choose("f1")
    assert four_panels(path, image, np.where(labels > 0, 0.9, 0.2), labels, rocs, operating, "frame_004") == path
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.size[0] == int(WIDTH * DPI)
        assert np.asarray(picture.convert("L")).std() > 20


def test_a_failing_figure_leaves_the_older_file(tmp_path):
    path = tmp_path / "figure.png"
    path.write_text("older")
    with pytest.raises(ValueError, match="no foreground"):
        four_panels(path, stepped(), np.zeros((40, 60)), np.zeros((40, 60), int), {"training": PixelRoc()})
    assert path.read_text() == "older" and len(list(tmp_path.iterdir())) == 1


def test_no_state_of_pyplot(tmp_path):
    """Neither figures nor settings are left behind."""
    import matplotlib
    from matplotlib import _pylab_helpers

    before, figures = dict(matplotlib.rcParams), list(_pylab_helpers.Gcf.figs)
    four_panels(tmp_path / "f.png", stepped(), np.zeros((40, 60)), np.zeros((40, 60), int), {"training": roc_of(2)})
    assert dict(matplotlib.rcParams) == before and list(_pylab_helpers.Gcf.figs) == figures
