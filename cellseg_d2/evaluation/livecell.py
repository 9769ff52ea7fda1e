"""LIVECell's evaluation of instance predictions, as a Detectron2 evaluator."""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm

from ..files import write_json
from .evaluate import Evaluation, evaluate
from .options import TASKS, Options
from .outputs import write_tables, write_threshold
from .protocol import LIVECELL, Protocol
from .reading import results_table
from .records import ground_truth, instances_to_results

__all__ = ["LIVECellEvaluator"]

logger = logging.getLogger(__name__)
IN_TRAINING = Options(bootstrap=0)
# What training logs and checkpoints see; metrics.json has everything
HEADLINE = ("AFNR", "pixel_F1", "instance_F1_50")


class LIVECellEvaluator(DatasetEvaluator):
    """Box and mask scores by LIVECell's protocol: class-agnostic, 2,000 detections an image, its area ranges.

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
        options: Options = IN_TRAINING,
        output_dir: str | Path | None = None,
        name: str = "the data set",
    ) -> None:
        """
        Args:
            dataset_dicts: Detectron2 dataset dicts; annotations may keep COCO's ``area`` and ``iscrowd``.
            category_ids: contiguous class number -> category id in the files; None: they are the same.
            tasks: "bbox", "segm" or both.
            options: score threshold, groupings, number of resamples.
            output_dir: folder for ``coco_instances_results.json``, ``metrics.json``, ``per_image.csv`` and
                ``threshold.json`` (the score that gives the highest F1 here, for scoring other images); None: nothing
                is written.
            name: of the data set, for messages.
        """
        self._records = {record["image_id"]: record for record in dataset_dicts}
        if category_ids is None:
            annotations = (a for record in self._records.values() for a in record.get("annotations", ()))
            category_ids = {annotation["category_id"]: annotation["category_id"] for annotation in annotations}
        self._category_ids = dict(category_ids)
        if not tasks or not set(tasks) <= set(TASKS):
            raise ValueError(f"tasks must be some of {', '.join(TASKS)}, not {tuple(tasks)}")
        self._tasks = tuple(tasks)
        self._protocol = protocol
        self._options = replace(options, tasks=tuple(task for task in TASKS if task in tasks))
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._name = name
        self.reset()

    @classmethod
    def from_dataset(cls, name: str, **kwargs: Any) -> "LIVECellEvaluator":
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
            ``{"bbox": {...}, "segm": {...}}`` in percent on rank 0 (names: ``Protocol.metrics``; for masks also AFNR =
            100 - AR at the last limit, and F1 of pixels and instances; NaN where nothing was there to be found); empty
            on the other ranks.
        """
        gathered = comm.gather(self._predictions)
        if not comm.is_main_process():
            return OrderedDict()
        predictions = {image_id: results for part in gathered for image_id, results in part.items()}
        image_ids = [image_id for image_id in self._records if image_id in predictions]
        if len(image_ids) < len(self._records):
            logger.warning(
                "%s: scored %d of %d images, those that were processed", self._name, len(image_ids), len(self._records)
            )
        results = [result for image_id in image_ids for result in predictions[image_id]]
        if self._output_dir is not None:
            path = write_json(self._output_dir / "coco_instances_results.json", results)
            logger.info("Wrote %d predictions on %d images to %s", len(results), len(image_ids), path)
        return self._score([self._records[image_id] for image_id in image_ids], results)

    def _score(self, records: list[Mapping[str, Any]], results: list[dict[str, Any]]) -> OrderedDict:
        """Scores of these images; writes and logs them."""
        truth = ground_truth(records, self._category_ids, self._name)
        if "segm" in self._tasks:
            _require_masks(len(truth.objects), truth.objects.masks is None, "annotations", self._name)
            missing = sum("segmentation" not in result for result in results)
            _require_masks(missing, missing > 0, "predictions", "the model")
        evaluation = evaluate(truth, results_table(results, truth, "the model"), self._options, self._protocol)
        for note in evaluation.notes:
            logger.warning("%s: %s", self._name, note)
        if self._output_dir is not None:
            write_tables(self._output_dir, evaluation)
            write_threshold(self._output_dir, evaluation)
        return OrderedDict((task, self._headline(evaluation, task)) for task in self._tasks)

    def _headline(self, evaluation: Evaluation, task: str) -> dict[str, float]:
        """The metrics of one task that training follows."""
        names = (*self._protocol.metrics, *(HEADLINE if task == "segm" else ()))
        scores = {name: evaluation.metrics[task][name] for name in names}
        logger.info("%s, %s: %s", self._name, task, ", ".join(f"{name} {v:.2f}" for name, v in scores.items()))
        return scores


def _require_masks(count: int, missing: bool, kind: str, owner: str) -> None:
    """Masks can be scored."""
    if missing and count:
        raise ValueError(
            f"{count} {kind} of {owner} have no mask, so mask AP cannot be computed: use data and a model with masks "
            "(MODEL.MASK_ON True), or evaluate boxes only (MODEL.MASK_ON False)"
        )
