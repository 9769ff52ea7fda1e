"""Label images, masks, edges and ImageJ outlines: read as drawn, or refused with a reason."""

import logging
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as mask_util

from cellseg_d2.data.datasets import DatasetError, roots
from cellseg_d2.data.image_io import read_raw
from cellseg_d2.data.label_files import (
    check_labels,
    instances_of_mask,
    is_binary,
    label_segmentations,
    read_binary,
    read_labels,
)
from cellseg_d2.data.roi_files import read_rois

LABELS = np.zeros((20, 30), np.int32)
LABELS[2:6, 3:9], LABELS[6:9, 3:9], LABELS[15:, 25:], LABELS[0, 0] = 1, 2, 70, 70  # 70 is in two pieces


def _decoded(segmentations: list[dict]) -> np.ndarray:
    return np.stack([mask_util.decode(segmentation) for segmentation in segmentations]).astype(bool)


def _overlap(one: np.ndarray, two: np.ndarray) -> float:
    return (one & two).sum() / (one | two).sum()


# Label images and masks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_label_images_of_every_type(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", LABELS.astype(dtype), compression="zlib")
    labels = read_labels(tmp_path / "a.tif")
    assert labels.dtype == np.int32 and (labels == LABELS).all() and not is_binary(labels)


def test_png_of_grey_equal_channels_and_palette(tmp_path):
    small = LABELS.astype(np.uint8)
    Image.fromarray(small).save(tmp_path / "grey.png")
    Image.fromarray(np.repeat(small[..., None], 3, axis=2)).save(tmp_path / "equal.png")
    palette = Image.fromarray(small, mode="P")
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    palette.save(tmp_path / "palette.png")
    for name in ("grey", "equal", "palette"):
        assert (read_labels(tmp_path / f"{name}.png") == LABELS).all()
    inverted = Image.fromarray((LABELS == 0).astype(np.uint8), mode="P")  # 0 is white, 1 is black
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    inverted.save(tmp_path / "inverted.png")
    assert (read_binary(tmp_path / "inverted.png") == (LABELS > 0)).all()
    Image.fromarray(LABELS > 0).save(tmp_path / "bits.png")
    assert (read_binary(tmp_path / "bits.png") == (LABELS > 0)).all()


@pytest.mark.parametrize(
    ("image", "name", "message"),
    [
        (np.random.default_rng(0).integers(0, 9, (9, 9, 3), np.uint8), "a.tif", "a colour image is not a mask"),
        (np.full((9, 9), 0.25, np.float32), "a.tif", "values such as 0.25 are not whole numbers"),
        (np.full((9, 9), -1, np.int16), "a.tif", "values from -1 to -1"),
        (np.full((9, 9), 2**31, np.uint32), "a.tif", "to 2.14748e"),
        (np.full((9, 9), np.nan, np.float32), "a.tif", "not finite"),
        (np.zeros((2, 9, 9), np.uint8), "a.tif", "one frame per file"),
        (np.zeros((9, 9), np.uint8), "a.jpg", "JPEG changes the values"),
    ],
)
def test_images_that_are_no_labels(tmp_path, image, name, message):
    options = {"photometric": "rgb" if image.shape[-1] == 3 else "minisblack"}
    tifffile.imwrite(tmp_path / name, image, **options)
    with pytest.raises(DatasetError, match=f"{name}: .*{message}"):
        read_labels(tmp_path / name)


def test_damaged_and_missing_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DatasetError, match="a.png"):
        read_labels(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError):
        read_labels(tmp_path / "b.tif")


def test_two_values():
    for values in ([0, 0], [0, 1], [255, 0]):
        assert is_binary(np.array([values]))
    for values in ([0, 1, 2], [1, 2], [7, 7]):
        assert not is_binary(np.array([values]))


def test_a_mask_of_more_values_is_not_binary(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", LABELS.astype(np.uint8))
    with pytest.raises(DatasetError, match="not an image of two values, 0 and another; it has 4"):
        read_binary(tmp_path / "a.tif")


def test_background_with_a_label_and_smoothed_borders(caplog):
    check_labels(LABELS, "a.tif")
    assert not caplog.text
    with pytest.raises(DatasetError, match=r"a\.tif: label 1 covers 89% .*background must be 0"):
        check_labels(LABELS + 1, "a.tif")
    check_labels(np.where(LABELS == 70, np.arange(600).reshape(20, 30), 0), "a.tif")
    assert "a mask with smoothed borders" in caplog.text


def test_grey_levels_of_smoothed_discs_are_no_labels():
    mask = np.zeros((120, 120), np.uint8)
    for place in range(16):
        cv2.circle(mask, (15 + 30 * (place % 4), 15 + 30 * (place // 4)), 9, 255, -1)
    check_labels(cv2.connectedComponents(mask)[1], "labels.tif")
    for image in (mask, cv2.blur(mask, (5, 5))):  # a clean one is taken for labels where another of its folder is not
        with pytest.raises(DatasetError, match=r"a\.tif: half of its \d+ labels are in (16|128) or more pieces"):
            check_labels(image.astype(np.int32), "a.tif")


# Connected pieces and edges


def test_pieces_touch_along_a_side():
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]], bool)
    labels = instances_of_mask(mask)
    assert labels.dtype == np.int32 and labels.max() == 2 and ((labels > 0) == mask).all()
    assert labels[0, 0] == labels[0, 1] != labels[1, 2] == labels[2, 3]


@pytest.mark.parametrize("thick", [1, 3])
@pytest.mark.parametrize("slope", [0, 0.6])
def test_edges_part_cells_and_are_given_back(thick, slope):
    rows, columns = np.mgrid[:40, :60]
    mask = (rows >= 5) & (rows < 35) & (columns >= 5) & (columns < 55)
    border = 30 + slope * (rows - 20)
    edges = np.abs(columns - np.rint(border)) <= thick // 2
    labels = instances_of_mask(mask, edges)
    assert labels.max() == 2 and ((labels > 0) == mask).all()
    left = labels[20, 6]
    wrong = mask & ((labels == left) != (columns < border))
    assert np.abs((columns - border)[wrong]).max(initial=0) <= 2


def test_edge_pixels_stay_in_their_piece():
    mask, edges = np.zeros((2, 20, 30), bool)
    mask[2:10, 2:10], mask[2:10, 11:13], mask[15:18, 5:8] = True, True, True
    edges[:, 9:13], edges[14:19, 4:9] = True, True  # hides the second and the third piece
    labels = instances_of_mask(mask, edges)
    pieces = instances_of_mask(mask)
    assert ((labels > 0) == mask).all() and labels.max() == 3
    assert len(set(zip(labels[mask].tolist(), pieces[mask].tolist()))) == 3


def test_one_piece_over_most_of_the_image_is_warned_of(caplog):
    instances_of_mask(np.arange(600).reshape(20, 30) < 290, place="a.png")
    assert not caplog.text
    instances_of_mask(np.arange(600).reshape(20, 30) < 400, place="a.png")
    assert "a.png: one connected piece covers 67 % of the image" in caplog.text
    assert not instances_of_mask(np.zeros((5, 5), bool), np.zeros((5, 5), bool)).any()


def test_run_lengths_are_exact_and_canonical():
    assert (_decoded(label_segmentations(LABELS)) == np.stack([LABELS == k for k in (1, 2, 70)])).all()
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.integers(0, 4, (7, 11), np.int32)
        for label, segmentation in zip((1, 2, 3), label_segmentations(labels)):
            theirs = mask_util.encode(np.asfortranarray((labels == label).astype(np.uint8)))
            assert segmentation == {"size": [7, 11], "counts": theirs["counts"].decode()}
    assert label_segmentations(np.full((3, 4), 1, np.int32))[0]["counts"] and not label_segmentations(LABELS * 0)


# ImageJ


def _write_rois(path: Path, *rois) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for index, roi in enumerate(rois):
            roi.name = roi.name or f"cell{index}"
            archive.writestr(f"{index}.roi", roi.tobytes())
    return path


def test_outlines_have_the_pixels_that_imagej_gives_them(tmp_path):
    roifile = pytest.importorskip("roifile")
    square = roifile.ImagejRoi.frompoints([[3, 2], [9, 2], [9, 6], [3, 6]])
    beyond = roifile.ImagejRoi.frompoints([[25, 15], [40, 15], [40, 25], [25, 25]])
    subpixel = roifile.ImagejRoi.frompoints(np.array([[10.6, 3.6], [14.4, 3.6], [14.4, 8.4], [10.6, 8.4]], np.float32))
    rectangle = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=4, top=10, right=8, bottom=13, name="r")
    oval = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, left=12, top=10, right=20, bottom=18, name="o")
    path = _write_rois(tmp_path / "a.zip", square, beyond, subpixel, rectangle, oval)
    masks = _decoded(read_rois(path, 20, 30))
    expected = np.zeros((4, 20, 30), bool)
    expected[0, 2:6, 3:9], expected[1, 15:, 25:], expected[2, 4:8, 11:14] = True, True, True
    expected[3, 10:13, 4:8] = True
    assert (masks[:4] == expected).all()
    assert abs(masks[4].sum() - 16 * np.pi) < 4 and masks[4][:, 12:20].sum() == masks[4].sum()
    square.tofile(tmp_path / "b.roi")
    assert (_decoded(read_rois(tmp_path / "b.roi", 20, 30))[0] == expected[0]).all()


def test_outlines_with_a_hole(tmp_path):
    roifile = pytest.importorskip("roifile")
    path = []
    for box in ((2, 2, 12, 12), (5, 5, 9, 9)):
        corners = [(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])]
        path += [value for index, (x, y) in enumerate(corners) for value in (min(index, 1), x, y)] + [4]
    ring = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT, left=2, top=2, right=12, bottom=12, name="ring",
        multi_coordinates=np.array(path, np.float32), shape_roi_size=len(path),
    )  # fmt: skip
    (mask,) = _decoded(read_rois(_write_rois(tmp_path / "a.zip", ring), 20, 30))
    assert mask.sum() == 100 - 16 and not mask[5:9, 5:9].any()


def test_outlines_that_are_no_cells(tmp_path):
    roifile = pytest.importorskip("roifile")
    square = roifile.ImagejRoi.frompoints([[3, 2], [9, 2], [9, 6], [3, 6]])
    line = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, x1=1, y1=1, x2=5, y2=5, name="scale bar")
    outside = roifile.ImagejRoi.frompoints([[300, 200], [310, 200], [310, 210]], name="far")
    slices = [roifile.ImagejRoi.frompoints([[3, 2], [9, 2], [9, 6]], position=position) for position in (1, 2)]
    for rois, message in (
        ([square, line], "a.zip: 'scale bar' is not the outline of an area but line"),
        ([outside], "'far' covers no pixel of its image of 30 x 20"),
        (slices, "outlines of 2 slices of a stack"),
    ):
        with pytest.raises(DatasetError, match=message):
            read_rois(_write_rois(tmp_path / "a.zip", *rois), 20, 30)
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DatasetError, match="not a file of ImageJ outlines"):
        read_rois(tmp_path / "a.zip", 20, 30)
    with pytest.raises(FileNotFoundError):
        read_rois(tmp_path / "none.zip", 20, 30)


def test_real_outlines_agree_with_the_labels_made_of_them(caplog):
    pytest.importorskip("roifile")
    folder = roots.find("t98g_phase_usiigaci")
    if folder is None or not (folder / "rois").is_dir():
        pytest.skip(f"no outlines of t98g_phase_usiigaci in {', '.join(map(str, roots.searched()))}")
    for path in sorted((folder / "rois").glob("*.zip")):
        labels = read_raw(folder / "instance_ids" / "val" / f"{path.stem}.png").astype(np.int32)
        with caplog.at_level(logging.WARNING):
            masks = _decoded(read_rois(path, *labels.shape))
        assert len(masks) == labels.max() and not caplog.text
        drawn, labelled = masks.any(axis=0), labels > 0
        agreement = {
            (down, right): _overlap(np.roll(drawn, (down, right), (0, 1)), labelled)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
        }
        assert agreement.pop((0, 0)) > 0.97 > 0.94 > max(agreement.values())  # no shift by a pixel
