"""LIVECell's evaluation of instance predictions, as a Detectron2 evaluator."""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from tabulate import tabulate

from .coco_eval import coco_from_tables, score_results
from .files import finite_or_none, write_json
from .protocol import LIVECELL, Protocol
from .records import annotation_table, instances_to_results

__all__ = ["LIVECellCOCOEvaluator"]

logger = logging.getLogger(__name__)


class LIVECellCOCOEvaluator(DatasetEvaluator):
    """Box and mask AP and AR by LIVECell's protocol: class-agnostic, 2,000 detections an image, its area ranges.

    Boxes rank by ``score``, masks by ``mask_score`` where the model gives one. Only the images that were processed
    count, so a part of a data set can be scored.
    """

    def __init__(
        self,
        dataset_dicts: Sequence[Mapping[str, Any]],
        *,
        category_ids: Mapping[int, int] | None = None,
        tasks: Sequence[str] = ("bbox", "segm"),
        protocol: Protocol = LIVECELL,
        output_dir: str | Path | None = None,
        name: str = "the data set",
    ) -> None:
        """
        Args:
            dataset_dicts: Detectron2 dataset dicts; annotations may keep COCO's ``area`` and ``iscrowd``.
            category_ids: contiguous class number -> category id in the files; None: they are the same.
            tasks: "bbox", "segm" or both.
            output_dir: folder for ``coco_instances_results.json`` and ``metrics.json``; None: nothing is written.
            name: of the data set, for messages.
        """
        self._records = {record["image_id"]: record for record in dataset_dicts}
        used = {a["category_id"] for record in dataset_dicts for a in record.get("annotations", ())}
        self._category_ids = dict(category_ids) if category_ids is not None else {number: number for number in used}
        self._tasks = tuple(tasks)
        self._protocol = protocol
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._name = name
        self.reset()

    @classmethod
    def from_dataset(cls, name: str, **kwargs: Any) -> "LIVECellCOCOEvaluator":
        """The evaluator of a registered data set; ``kwargs`` as in the constructor."""
        mapping = getattr(MetadataCatalog.get(name), "thing_dataset_id_to_contiguous_id", None)
        category_ids = None if mapping is None else {contiguous: original for original, contiguous in mapping.items()}
        return cls(DatasetCatalog.get(name), category_ids=category_ids, name=name, **kwargs)

    def reset(self) -> None:
        """Forget all predictions."""
        self._predictions: dict[Any, list[dict[str, Any]]] = {}

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Instances | Mapping[str, Any]]) -> None:
        """Take the predictions of a batch.

        Args:
            inputs: the model's inputs, with ``image_id`` and ``file_name``.
            outputs: one ``Instances`` an image (see :func:`.records.instances_to_results`), bare or under
                ``"instances"`` as Detectron2's models return them.
        """
        for record, output in zip(inputs, outputs, strict=True):
            image_id, file_name = record["image_id"], record.get("file_name", "?")
            if image_id not in self._records:
                raise KeyError(f"image {file_name} has id {image_id!r}, which is not in {self._name}")
            instances = output if isinstance(output, Instances) else output["instances"]
            results = instances_to_results(instances, image_id, file_name)
            for result in results:
                # A class that the data set does not name keeps its number
                result["category_id"] = self._category_ids.get(result["category_id"], result["category_id"])
            self._predictions[image_id] = results

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gather over all ranks and score on the first.

        Returns:
            ``{"bbox": {...}, "segm": {...}}`` in percent on rank 0 (names: ``Protocol.metrics``, plus AFNR = 100 -
            AR at the last limit for masks; NaN where nothing was there to be found); empty on the other ranks.
        """
        gathered = comm.gather(self._predictions)
        if not comm.is_main_process():
            return OrderedDict()
        predictions = {image_id: results for part in gathered for image_id, results in part.items()}
        image_ids = [image_id for image_id in self._records if image_id in predictions]
        results = [result for image_id in image_ids for result in predictions[image_id]]
        if self._output_dir is not None:
            path = write_json(self._output_dir / "coco_instances_results.json", results)
            logger.info("Wrote %d predictions on %d images to %s", len(results), len(image_ids), path)
        scores = self._score(image_ids, results)
        if self._output_dir is not None:
            write_json(self._output_dir / "metrics.json", finite_or_none(scores), indent=2)
        return scores

    def _score(self, image_ids: list[Any], results: list[dict[str, Any]]) -> OrderedDict[str, dict[str, float]]:
        """Metrics of all tasks over these images."""
        records = [self._records[image_id] for image_id in image_ids]
        images = [{"id": r["image_id"], "height": r["height"], "width": r["width"]} for r in records]
        truth = annotation_table(records, self._category_ids)
        if not any(not row["iscrowd"] for row in truth):
            logger.warning(
                "The %d evaluated images of %s have no annotated object (crowds do not count): "
                "nothing can be scored, every metric is NaN",
                len(images),
                self._name,
            )
        elif not results:
            logger.warning("Nothing was predicted on the %d images of %s: AP and AR are 0", len(images), self._name)
        numbers = sorted({row["category_id"] for row in (*truth, *results)} | set(self._category_ids.values()))
        categories = [{"id": number} for number in numbers]
        scores = OrderedDict()
        for task in self._tasks:
            if task == "segm":
                _require_masks(truth, "annotations", self._name)
                _require_masks(results, "predictions", "the model")
            ranked = _rank_boxes(results) if task == "bbox" else _rank_masks(results)
            tables = (coco_from_tables(images, rows, categories) for rows in (truth, ranked))
            scores[task] = score_results(*tables, task, self._protocol)
            if task == "segm":
                scores[task]["AFNR"] = 100 - scores[task][self._protocol.metrics[-1]]
            logger.info("%s, %s:\n%s", self._name, task, _table(scores[task]))
        return scores


def _require_masks(rows: list[dict[str, Any]], kind: str, owner: str) -> None:
    """Each row has a mask."""
    missing = sum("segmentation" not in row for row in rows)
    if missing:
        raise ValueError(
            f"{missing} of {len(rows)} {kind} of {owner} have no mask, so mask AP cannot be computed: "
            "use data and a model with masks (MODEL.MASK_ON True), or evaluate boxes only (MODEL.MASK_ON False)"
        )


def _rank_boxes(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for box evaluation: ranked by score, sized by the box."""
    keys = ("image_id", "category_id", "bbox", "score")
    return [{**{key: r[key] for key in keys}, "area": r["bbox"][2] * r["bbox"][3], "iscrowd": 0} for r in results]


def _rank_masks(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for mask evaluation: ranked by mask_score where there is one, sized by the mask."""
    return [
        {
            "image_id": result["image_id"],
            "category_id": result["category_id"],
            "segmentation": result["segmentation"],
            "score": result.get("mask_score", result["score"]),
            # One by one: pycocotools' area of 256 and more RLEs at once overflows with NumPy 2
            "area": float(mask_util.area(result["segmentation"])),
            "iscrowd": 0,
        }
        for result in results
    ]


def _table(metrics: Mapping[str, float]) -> str:
    """One task's metrics, names over values."""
    values = [[f"{value:.2f}" for value in metrics.values()]]
    return tabulate(values, headers=list(metrics), tablefmt="pipe", numalign="right")
