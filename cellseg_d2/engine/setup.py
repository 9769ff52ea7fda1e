"""From command line to a checked config, with logging, seeds and an output folder."""

import argparse
import difflib
import logging
import tempfile
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from .. import modeling  # noqa: F401  (registers the models)
from ..config import add_cellseg_config
from ..data import datasets
from ..data.datasets import records
from ..evaluation.roc import check_choice
from ..files import atomic_write
from .errors import ConfigError, OutputError

__all__ = ["load_config", "setup_cfg"]

logger = logging.getLogger(__name__)


def load_config(config_file: str, opts: list[str] | None = None) -> CfgNode:
    """Defaults, overridden by a YAML file ("" for none), overridden by ``KEY VALUE`` pairs.

    Raises:
        ConfigError: no such file, not YAML, unknown key (with close matches), value of another type.
    """
    cfg = get_cfg()
    add_cellseg_config(cfg)
    known = _flat_keys(cfg)
    if config_file and not Path(config_file).is_file():
        raise ConfigError(f"--config-file {config_file}: no such file")
    if opts and len(opts) % 2:
        raise ConfigError(f"options come in pairs KEY VALUE, these are {len(opts)} words: {' '.join(opts)}")
    source = config_file
    try:
        if config_file:
            cfg.merge_from_file(config_file, allow_unsafe=False)
        source = "command line"
        cfg.merge_from_list(opts or [])
    except (KeyError, AssertionError) as error:
        key = str(error).strip("'\"").rsplit(": ", 1)[-1]
        close = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ConfigError(f"{source}: there is no configuration key {key}{hint}") from error
    except (ValueError, OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{source}: {error}") from error
    return cfg


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """The frozen config of a run in this process, with data sets resolved, logging to OUTPUT_DIR, and seeds set.

    Args:
        args: with ``config_file``, ``opts`` and ``eval_only``, as from ``default_argument_parser()``.

    Raises:
        ConfigError, OutputError, and what ``data.datasets`` raises for unknown or unfit data sets.
    """
    cfg = load_config(args.config_file, args.opts)
    _require_writable(cfg.OUTPUT_DIR)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="cellseg_d2", enable_propagation=True)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE is %s but torch sees no GPU: running on the CPU", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    datasets.resolve(cfg, training=not args.eval_only)
    datasets.follow_num_classes(cfg)
    datasets.note_data(cfg)
    _check(cfg, args.eval_only)
    if not args.eval_only and not getattr(args, "resume", False):
        _require_another_folder(cfg)
    cfg.freeze()
    _begin(cfg, args)
    return cfg


def _begin(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Detectron2's loggers, a record of how the run was started, and seeds.

    The config goes to ``config.yaml``, that of an evaluation to ``config_eval.yaml``: ``config.yaml`` beside
    checkpoints stays that of the run which trained them.
    """
    for name in ("fvcore", "detectron2"):
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=name)
    logger.info("Process %d of %d; environment:\n%s", comm.get_rank(), comm.get_world_size(), collect_env_info())
    logger.info("Command line arguments: %s", args)
    if comm.is_main_process():
        text = cfg.dump()
        path = Path(cfg.OUTPUT_DIR) / ("config_eval.yaml" if args.eval_only else "config.yaml")
        atomic_write(path, lambda stream: stream.write(text.encode("utf-8")))
        logger.info("Wrote the full config to %s:\n%s", path, text)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())
    if not args.eval_only:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK


def _check(cfg: CfgNode, eval_only: bool) -> None:
    """What would fail later, and less clearly."""
    datasets.check_num_classes(cfg)
    if cfg.MODEL.META_ARCHITECTURE == "CellTypeEnsemble":
        for name in cfg.DATASETS.TEST:
            datasets.check_cell_types(cfg, records.heads(datasets.load(name)), training=False)
    if eval_only:
        if not cfg.DATASETS.TEST:
            raise ConfigError("--eval-only, but DATASETS.TEST names no data set")
        return
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("DATASETS.TRAIN names no data set to train on")
    try:
        check_choice(cfg.TEST.ROC_CHOICE)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if cfg.MODEL.META_ARCHITECTURE in datasets.SEMANTIC_ONLY + ("CenterMaskSemantic",) and (
        cfg.INPUT.MAPPER != "SemanticMapper"
    ):
        raise ConfigError(f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} needs INPUT.MAPPER SemanticMapper")
    processes = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH % processes and not cfg.SOLVER.REFERENCE_WORLD_SIZE:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} cannot be shared equally by {processes} processes: "
            f"set it to a multiple of {processes}"
        )


def _require_another_folder(cfg: CfgNode) -> None:
    """A training that begins with a model does not replace it, as with the config.yaml beside it, which names both."""
    folder = Path(cfg.OUTPUT_DIR).resolve()
    weights = cfg.MODEL.WEIGHTS
    if weights and Path(weights).resolve().parent == folder and (folder / "config.yaml").is_file():
        raise OutputError(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR} has MODEL.WEIGHTS, and the model would be replaced: choose another folder "
            "with OUTPUT_DIR PATH, or go on with --resume"
        )


def _require_writable(folder: str) -> None:
    """Make the output folder and try to write there, on the main process; its verdict is raised in all."""
    problem = _write_problem(folder) if comm.is_main_process() else ""
    problem = comm.all_gather(problem)[0]
    if problem:
        raise OutputError(problem)


def _write_problem(folder: str) -> str:
    """Why ``folder`` cannot be written to; empty where it can."""
    if not folder:
        return "OUTPUT_DIR is empty: say where the results go with OUTPUT_DIR PATH"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        remedy = "choose another folder with OUTPUT_DIR PATH"
        return f"OUTPUT_DIR {folder} cannot be written to ({error.strerror}): {remedy}"
    return ""


def _flat_keys(node: CfgNode, prefix: str = "") -> list[str]:
    """All keys of a config, "MODEL.FCOS.NUM_CLASSES"."""
    keys = []
    for name, value in node.items():
        keys += [prefix + name, *(_flat_keys(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else ())]
    return keys
