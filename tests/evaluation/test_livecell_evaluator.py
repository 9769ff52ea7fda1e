"""Known answers: what an evaluation must give is known by construction."""

import json
import logging
import math

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from cellseg_d2.evaluation import LIVECELL, LIVECellEvaluator

SIZE = (256, 256)


def box_mask(x, y, w, h, size=SIZE):
    mask = np.zeros(size, dtype=np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def rle(mask):
    encoded = mask_util.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def annotation(x, y, w, h, crowd=0, number=0):
    mask = rle(box_mask(x, y, w, h))
    return {
        "id": number, "bbox": [x, y, w, h], "bbox_mode": BoxMode.XYWH_ABS, "area": float(w * h), "iscrowd": crowd,
        "category_id": 0, "segmentation": mask,
    }  # fmt: skip


def record(image_id, *boxes, crowds=()):
    annotations = [annotation(*box, number=number) for number, box in enumerate(boxes)]
    annotations += [annotation(*box, crowd=1, number=100 + number) for number, box in enumerate(crowds)]
    return {
        "image_id": image_id, "file_name": f"image_{image_id}.tif", "height": SIZE[0], "width": SIZE[1],
        "annotations": annotations,
    }  # fmt: skip


def predictions(*boxes, scores=None, mask_scores=None, masks_as="pred_rles"):
    result = Instances(SIZE)
    xywh = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    result.pred_boxes = Boxes(torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1))
    result.scores = torch.tensor(scores if scores is not None else [0.9] * len(boxes))
    result.pred_classes = torch.zeros(len(boxes), dtype=torch.long)
    if mask_scores is not None:
        result.mask_scores = torch.tensor(mask_scores)
    if masks_as == "pred_rles":
        result.pred_rles = [rle(box_mask(*map(int, box))) for box in boxes]
    else:
        masks = [box_mask(*map(int, box)) for box in boxes]
        result.pred_masks = torch.from_numpy(np.stack(masks)).bool() if masks else torch.zeros(0, *SIZE).bool()
    return result


def evaluate(records, outputs, **kwargs):
    evaluator = LIVECellEvaluator(records, **kwargs)
    for item, output in zip(records, outputs, strict=True):
        evaluator.process([item], [output])
    return evaluator.evaluate()


SMALL, MEDIUM, LARGE = (5, 5, 10, 10), (50, 50, 20, 25), (100, 100, 60, 60)


@pytest.mark.parametrize("masks_as", ["pred_rles", "pred_masks"])
def test_perfect_predictions_score_100(masks_as):
    boxes = (SMALL, MEDIUM, LARGE)
    scores = evaluate([record(1, *boxes)], [predictions(*boxes, masks_as=masks_as)])
    for task in ("bbox", "segm"):
        assert [scores[task][name] for name in LIVECELL.metrics] == pytest.approx([100] * 9)
    assert scores["segm"]["AFNR"] == pytest.approx(0)


def test_known_overlap_gives_the_thresholds_below_it():
    # A 40 x 40 square moved by 4: IoU = 36 / 44 = 0.818, a hit at .50, .55, ..., .80: 7 of the 10 thresholds
    scores = evaluate([record(1, (50, 50, 40, 40))], [predictions((54, 50, 40, 40))])
    for task in ("bbox", "segm"):
        assert scores[task]["AP"] == pytest.approx(70)
        assert (scores[task]["AP50"], scores[task]["AP75"]) == pytest.approx((100, 100))
        assert scores[task]["AR100"] == scores[task]["AR2000"] == pytest.approx(70)
    assert scores["segm"]["AFNR"] == pytest.approx(30)


def test_area_bins_are_livecells():
    # 18^2 belongs to small and medium, 31^2 to medium and large: both ends are closed
    truth = record(1, (0, 0, 18, 18), (50, 50, 31, 31))
    only_first = evaluate([truth], [predictions((0, 0, 18, 18))])["segm"]
    assert [only_first[name] for name in ("APs", "APl")] == pytest.approx([100, 0])
    assert 0 < only_first["APm"] < 100
    no_small = evaluate([record(1, LARGE)], [predictions(LARGE)])["segm"]
    assert math.isnan(no_small["APs"]) and no_small["APl"] == pytest.approx(100)


def test_areas_come_from_the_data_set():
    # Annotated area differs from the mask's (the published file counts polygon areas): the bin follows the annotation
    truth = record(1, (50, 50, 20, 20))
    truth["annotations"][0]["area"] = 100.0
    scores = evaluate([truth], [predictions((50, 50, 20, 20))])["segm"]
    assert scores["APs"] == pytest.approx(100) and math.isnan(scores["APm"])


def test_masks_rank_by_mask_score_and_boxes_by_score():
    # One hit and one miss: ranked hit first AP is 100, ranked miss first it is 50
    truth, boxes = [record(1, LARGE)], (LARGE, SMALL)
    output = predictions(*boxes, scores=[0.9, 0.5], mask_scores=[0.1, 0.4])
    scores = evaluate(truth, [output])
    assert scores["bbox"]["AP"] == pytest.approx(100)
    assert scores["segm"]["AP"] == pytest.approx(50)


def test_ap_counts_more_than_100_detections():
    boxes = [(12 * (i % 20), 12 * (i // 20), 9, 9) for i in range(300)]
    scores = evaluate([record(1, *boxes)], [predictions(*boxes)])
    for task in ("bbox", "segm"):
        assert scores[task]["AP"] == pytest.approx(100)
        assert scores[task]["AR100"] == pytest.approx(100 / 3)
        assert scores[task]["AR500"] == scores[task]["AR2000"] == pytest.approx(100)


def test_empty_predictions_score_zero_and_say_so(caplog, tmp_path):
    with caplog.at_level(logging.WARNING, logger="cellseg_d2"):
        scores = evaluate([record(1, LARGE)], [predictions()], output_dir=tmp_path)
    assert "has no results" in caplog.text
    assert scores["bbox"]["AP"] == scores["segm"]["AP"] == scores["segm"]["AR2000"] == 0
    assert scores["segm"]["AFNR"] == 100
    assert json.loads((tmp_path / "coco_instances_results.json").read_text()) == []


def test_images_without_annotations_count_their_false_alarms():
    empty = record(2)
    del empty["annotations"]
    perfect = [record(1, LARGE), empty]
    assert evaluate(perfect, [predictions(LARGE), predictions()])["segm"]["AP"] == pytest.approx(100)
    alarm = evaluate(perfect, [predictions(LARGE, scores=[0.5]), predictions(LARGE, scores=[0.9])])
    assert alarm["segm"]["AP"] == pytest.approx(50)


def test_without_any_annotation_metrics_are_nan_and_the_log_says_why(caplog):
    with caplog.at_level(logging.WARNING, logger="cellseg_d2"):
        scores = evaluate([record(1, crowds=[LARGE])], [predictions(SMALL)])
    assert all(math.isnan(task[name]) for task in scores.values() for name in LIVECELL.metrics)
    assert "no annotated cell" in caplog.text


def test_detections_in_a_crowd_are_neither_hits_nor_misses():
    truth = [record(1, SMALL, crowds=[LARGE])]
    inside = [(105, 105, 30, 30), (110, 110, 40, 40)]
    scores = evaluate(truth, [predictions(SMALL, *inside, scores=[0.5, 0.9, 0.8])])
    assert scores["segm"]["AP"] == pytest.approx(100) and scores["bbox"]["AP"] == pytest.approx(100)


def test_the_annotation_with_id_zero_can_be_found():
    # pycocotools writes the partner's id and reads 0 as "no partner"
    truth = record(1, LARGE)
    assert truth["annotations"][0]["id"] == 0
    assert evaluate([truth], [predictions(LARGE)])["bbox"]["AP"] == pytest.approx(100)


def test_only_processed_images_count():
    evaluator = LIVECellEvaluator([record(1, LARGE), record(2, LARGE)])
    evaluator.process([{"image_id": 1, "file_name": "a.tif"}], [predictions(LARGE)])
    assert evaluator.evaluate()["segm"]["AR100"] == pytest.approx(100)


def test_result_list_has_the_data_sets_categories_and_both_scores(tmp_path):
    output = predictions(LARGE, scores=[0.75], mask_scores=[0.5])
    scores = evaluate([record(7, LARGE)], [output], category_ids={0: 17}, output_dir=tmp_path)
    (result,) = json.loads((tmp_path / "coco_instances_results.json").read_text())
    expected = {"image_id": 7, "category_id": 17, "bbox": list(LARGE), "score": 0.75, "mask_score": 0.5}
    assert {key: result[key] for key in expected} == expected
    assert mask_util.decode(result["segmentation"]).tolist() == box_mask(*LARGE).tolist()
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["segm"]["AP"] == scores["segm"]["AP"] and written["segm"]["APs"] is None


def test_nan_scores_are_an_error_that_names_the_image():
    output = predictions(LARGE, scores=[float("nan")])
    with pytest.raises(FloatingPointError, match=r"image_3\.tif.*score"):
        LIVECellEvaluator([record(3, LARGE)]).process([record(3, LARGE)], [output])


def test_missing_masks_are_an_error_that_says_what_to_do():
    output = predictions(LARGE)
    output.remove("pred_rles")
    evaluator = LIVECellEvaluator([record(1, LARGE)])
    evaluator.process([record(1, LARGE)], [output])
    with pytest.raises(ValueError, match="MODEL.MASK_ON"):
        evaluator.evaluate()
    boxes_only = evaluate([record(1, LARGE)], [output], tasks=("bbox",))
    assert boxes_only["bbox"]["AP"] == pytest.approx(100)


def test_polygons_and_rles_give_the_same_result():
    x, y, w, h = LARGE
    as_polygon = record(1, LARGE)
    as_polygon["annotations"][0]["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    outputs = [predictions((95, 100, 60, 60))]
    results = evaluate([as_polygon], outputs), evaluate([record(1, LARGE)], outputs)
    for task in ("bbox", "segm"):
        np.testing.assert_allclose(*(list(result[task].values()) for result in results))
        assert 0 < results[0][task]["AP"] < 100
