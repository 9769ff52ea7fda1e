"""Data sets by name: fill in what the config leaves open, load, and check against the model."""

import difflib
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...config import LIVECELL_SIDE
from ...errors import DatasetError
from ..names import few
from . import livecell, mes
from .custom import register_coco
from .records import class_ids

__all__ = [
    "SEMANTIC_ONLY",
    "check_cell_types",
    "check_num_classes",
    "follow_num_classes",
    "load",
    "note_data",
    "resolve",
]

logger = logging.getLogger(__name__)

_PLACEHOLDER = "{cell_type}"
# MODEL.META_ARCHITECTURE of models that tell cells from background only, whatever their classes are
SEMANTIC_ONLY = ("SemanticSegmentor", "CellSegmentor", "CellTypeEnsemble")


def resolve(cfg: CfgNode, training: bool = True) -> None:
    """Make every name in ``DATASETS.TRAIN`` and ``DATASETS.TEST`` a registered data set, in place.

    Fills ``{cell_type}`` from ``DATASETS.CELL_TYPE``, and registers ``custom_train`` and ``custom_val`` from
    ``DATASETS.CUSTOM`` and ``mes_train`` and ``mes_test`` from ``DATASETS.MES``. May be called again, as every process
    of a run does. An empty image folder of ``CUSTOM`` stands for the folder of the JSON, of ``MES`` for the images and
    masks of ``mes_gowt1``, and for its margin, where a data root has them. Images that are not on disk are an error,
    unless ``DATASETS.ALLOW_MISSING`` (LIVECell and ``CUSTOM``).

    Args:
        cfg: changed in place.
        training: False empties ``DATASETS.TRAIN``, and the options that served it alone may be there without a use.

    Raises:
        DatasetError: an unknown name, or an option that the names need is empty, or the other way round.
    """
    if not training and cfg.DATASETS.TRAIN:
        cfg.DATASETS.TRAIN = ()
    livecell.register_all(cfg.DATASETS.ALLOW_MISSING)
    _fill_cell_type(cfg.DATASETS, must_be_used=training)
    _register_custom(cfg.DATASETS, "train", must_be_used=training)
    _register_custom(cfg.DATASETS, "val")
    _register_mes(cfg.DATASETS, must_be_used=training)
    for key in ("TRAIN", "TEST"):
        for name in cfg.DATASETS[key]:
            _require_registered(name, f"DATASETS.{key}")


def load(name: str) -> Sequence[dict]:
    """Detectron2's dataset dicts of a registered data set, checked: there are images, and class ids are contiguous.

    A large COCO file gives :class:`.records.LazyRecords`, any other a list.

    Raises:
        DatasetError: unknown name, no image at all, or a class id outside the data set's classes.
        MissingDataError: files are not there.
    """
    _require_registered(name, "data set")
    records = DatasetCatalog.get(name)
    if not records:
        raise DatasetError(f"{name}: this data set has no images")
    ids = class_ids(records)
    classes = len(MetadataCatalog.get(name).thing_classes)
    if not ids <= set(range(classes)):
        raise DatasetError(f"{name}: class ids {sorted(ids)} do not fit into its {classes} classes")
    return records


def follow_num_classes(cfg: CfgNode) -> None:
    """Where both heads have the one class that configurations begin with, give them as many as the data sets have.

    So one line that names a COCO file is enough. Data sets that disagree, and heads that were given another number, are
    left to :func:`check_num_classes`.
    """
    counts = {len(MetadataCatalog.get(name).thing_classes) for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)}
    begun = cfg.MODEL.FCOS.NUM_CLASSES == cfg.MODEL.ROI_HEADS.NUM_CLASSES == 1
    if begun and len(counts) == 1 and counts != {1} and cfg.MODEL.META_ARCHITECTURE not in SEMANTIC_ONLY:
        cfg.MODEL.FCOS.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = counts.pop()
        logger.info("MODEL.FCOS.NUM_CLASSES and MODEL.ROI_HEADS.NUM_CLASSES are %d, as the data sets have classes",
                    cfg.MODEL.FCOS.NUM_CLASSES)  # fmt: skip


def note_data(cfg: CfgNode) -> None:
    """Keep in the configuration what prediction needs to know of the training data.

    ``DATASETS.CLASSES`` gets the names of the classes; ``INPUT.FRAME_SIDE``, where images are scaled at test
    (``INPUT.MIN_SIZE_TEST``) and it has its default, the median short side of up to a hundred training images.

    Raises:
        DatasetError: the configuration is that of a model with the same classes in another order.
    """
    if not cfg.DATASETS.TRAIN:
        return
    names = {tuple(MetadataCatalog.get(name).thing_classes) for name in cfg.DATASETS.TRAIN}
    classes = names.pop() if len(names) == 1 else ()
    _require_same_order(cfg, classes)
    cfg.DATASETS.CLASSES = classes
    if cfg.INPUT.MIN_SIZE_TEST and cfg.INPUT.FRAME_SIDE == LIVECELL_SIDE:
        records = [record for name in cfg.DATASETS.TRAIN for record in _some(load(name), 100)]
        cfg.INPUT.FRAME_SIDE = int(median(min(record["height"], record["width"]) for record in records))


def _require_same_order(cfg: CfgNode, classes: tuple[str, ...]) -> None:
    """Raise DatasetError where a model that is trained further would take one class for another."""
    before = tuple(cfg.DATASETS.CLASSES)
    if not cfg.MODEL.WEIGHTS or cfg.MODEL.META_ARCHITECTURE in SEMANTIC_ONLY:
        return
    if before != classes and sorted(before) == sorted(classes):
        raise DatasetError(
            f"the model's classes are {', '.join(before)}, but the data's {', '.join(classes)}: it would take one for "
            f"another. Give the JSON the model's order (dataset.py convert ... --class {shlex.join(before)}), or, to "
            'learn the classes anew, set DATASETS.CLASSES "()"'
        )


def _some(records: Sequence[dict], count: int) -> Sequence[dict]:
    """Up to ``count`` of them, evenly spread."""
    return [records[place * len(records) // count] for place in range(count)] if len(records) > count else records


def check_num_classes(cfg: CfgNode) -> None:
    """The number of classes must be the same in the FCOS head, the ROI heads and every data set.

    Models that only tell cells from background take data sets of any number of classes.

    Raises:
        DatasetError: it is not; the message names all places and the options that set them right.
    """
    if cfg.MODEL.META_ARCHITECTURE in SEMANTIC_ONLY:
        return
    names = list(dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)))
    in_model = {
        "MODEL.FCOS.NUM_CLASSES": cfg.MODEL.FCOS.NUM_CLASSES,
        "MODEL.ROI_HEADS.NUM_CLASSES": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
    }
    in_data = {name: list(MetadataCatalog.get(name).thing_classes) for name in names}
    counts = {len(classes) for classes in in_data.values()}
    if not names or counts == set(in_model.values()):
        return
    places = [f"{key} = {value}" for key, value in in_model.items()]
    places += [f"{name}: {len(classes)} ({few(classes, 20)})" for name, classes in in_data.items()]
    fix = (
        "set " + " ".join(f"{key} {count}" for key in in_model for count in counts)
        if len(counts) == 1
        else "use data sets with the same classes"
    )
    raise DatasetError("the numbers of classes disagree: " + "; ".join(places) + f". To fix it, {fix}")


def check_cell_types(cfg: CfgNode, records: Sequence[dict], training: bool = True) -> None:
    """An ensemble learns from images of its cell types only; says which of them have no image.

    Args:
        training: False for images to predict, where MODEL.ENSEMBLE.UNKNOWN average takes any.

    Raises:
        DatasetError: the cell type of an image is missing or none of MODEL.ENSEMBLE.CELL_TYPES.
    """
    ensemble, takes_any = cfg.MODEL.META_ARCHITECTURE == "CellTypeEnsemble", cfg.MODEL.ENSEMBLE.UNKNOWN == "average"
    if not ensemble or (takes_any and not training):
        return
    members = [str(name).lower() for name in cfg.MODEL.ENSEMBLE.CELL_TYPES]
    types = [str(record.get("cell_type") or "").lower() for record in records]
    wrong = [place for place, name in enumerate(types) if name not in members]
    if wrong:
        kind = "training" if training else "test"
        raise DatasetError(
            f"the cell type of {len(wrong)} of {len(records)} {kind} images is none of MODEL.ENSEMBLE.CELL_TYPES "
            f"({', '.join(members)}), for example {records[wrong[0]]['file_name']}: {types[wrong[0]] or 'not given'}. "
            'Put it under "cell_type" in the image entries of the JSON (tools/dataset.py merge does so)'
        )
    absent = [name for name in members if name not in types]
    if training and absent:
        logger.warning("no training image is of the cell type %s: its model will learn nothing", ", ".join(absent))


def _fill_cell_type(datasets: CfgNode, must_be_used: bool) -> None:
    """Replace ``{cell_type}`` in the names; an option without a place for it is an error, not a silent no-op."""
    names = (*datasets.TRAIN, *datasets.TEST)
    if not datasets.CELL_TYPE:
        if any(_PLACEHOLDER in name for name in names):
            raise DatasetError(
                f"DATASETS.TRAIN/TEST name {_PLACEHOLDER} but DATASETS.CELL_TYPE is empty; set it to one of "
                f"{', '.join(livecell.CELL_TYPES)}"
            )
        return
    cell_type = livecell.normalise_cell_type(datasets.CELL_TYPE)
    if must_be_used and not any(_PLACEHOLDER in name or f"_{cell_type}_" in name for name in names):
        raise DatasetError(
            f"DATASETS.CELL_TYPE is {datasets.CELL_TYPE!r} but no name in DATASETS.TRAIN/TEST has {_PLACEHOLDER} in "
            f"it; name them livecell_{_PLACEHOLDER}_train and so on, or leave DATASETS.CELL_TYPE empty"
        )
    for key in ("TRAIN", "TEST"):
        filled = tuple(name.replace(_PLACEHOLDER, cell_type) for name in datasets[key])
        if filled != tuple(datasets[key]):
            datasets[key] = filled


def _register_custom(datasets: CfgNode, split: str, must_be_used: bool = True) -> None:
    """Register ``custom_<split>`` where the names ask for it; warn of one that nothing uses."""
    name, key = f"custom_{split}", f"DATASETS.CUSTOM.{split.upper()}_JSON"
    json_file = datasets.CUSTOM[f"{split.upper()}_JSON"]
    wanted = name in (*datasets.TRAIN, *datasets.TEST)
    if wanted and not json_file:
        raise DatasetError(f"DATASETS.TRAIN/TEST name {name} but {key} is empty; set it to your COCO JSON")
    if json_file and not wanted and must_be_used:
        logger.warning("%s is set, but neither DATASETS.TRAIN nor DATASETS.TEST names %s", key, name)
    if wanted:
        images = datasets.CUSTOM[f"{split.upper()}_IMAGES"]
        register_coco(name, json_file, images or Path(json_file).parent, datasets.ALLOW_MISSING)


def _register_mes(datasets: CfgNode, must_be_used: bool = True) -> None:
    """Register ``mes_train`` and ``mes_test`` where the names ask for one; warn of a folder that nothing uses."""
    images, masks, margin = datasets.MES.IMAGES, datasets.MES.MASKS, datasets.MES.MARGIN
    wanted = [name for name in mes.NAMES if name in (*datasets.TRAIN, *datasets.TEST)]
    if not wanted:
        if images and must_be_used:
            logger.warning("DATASETS.MES.IMAGES is set, but DATASETS.TRAIN/TEST name neither mes_train nor mes_test")
        return
    if not images:
        example = mes.find_example()
        if masks or example is None:
            raise DatasetError(
                f"DATASETS.TRAIN/TEST name {wanted[0]} but DATASETS.MES.IMAGES is empty; set it to the folder of your "
                f"images, and DATASETS.MES.MASKS to their label images, masks, ImageJ outlines or COCO JSON"
            )
        images, masks, margin = example / "images", example / "masks", margin or mes.EXAMPLE_MARGIN
        logger.info("DATASETS.MES.IMAGES is empty: mes_train and mes_test are the images of %s", example)
    if not masks:
        raise DatasetError(
            f"DATASETS.TRAIN/TEST name {wanted[0]} but DATASETS.MES.MASKS is empty; set it to a folder of label "
            f"images, masks or ImageJ outlines, or to a COCO JSON"
        )
    mes.register_mes(images, masks, datasets.MES.EDGES, datasets.MES.HOLD_OUT, margin)
    if must_be_used and "mes_test" in datasets.TEST:
        load("mes_test")  # few images: better now than after hours that nothing is held out


def _require_registered(name: str, where: str) -> None:
    """Detectron2's catalog has ``name``."""
    if name in DatasetCatalog:
        return
    known = DatasetCatalog.list()
    others = [name for name in known if not name.startswith(("livecell_", "custom_", "mes_"))]
    close = difflib.get_close_matches(name, [*known, "custom_train", "custom_val", *mes.NAMES], n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    raise DatasetError(
        f"{where}: there is no data set {name!r}{hint} Known are livecell_<split> and livecell_<cell type>_<split> "
        f"with split {', '.join(livecell.SPLITS)} and cell type {', '.join(livecell.CELL_TYPES)}; "
        f"livecell_train_<N>_percent with N {', '.join(map(str, livecell.PERCENTS))}; custom_train and "
        f"custom_val (your own, through DATASETS.CUSTOM), mes_train and mes_test (a few outlined images, through "
        f"DATASETS.MES), and {len(others)} others that are registered"
    )
