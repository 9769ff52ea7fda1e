"""Plain values of a training run, and what a config must say about them."""

from dataclasses import dataclass

from detectron2.config import CfgNode

from ..evaluation import LIVECELL
from ..evaluation.livecell import HEADLINE
from .errors import ConfigError

__all__ = ["TrainerOptions"]


@dataclass(frozen=True)
class TrainerOptions:
    """Plain values of a run.

    Attributes:
        output_dir: checkpoints, ``metrics.json``, TensorBoard events.
        max_iter: iterations of the whole run.
        seed: of everything random; a resumed run keeps the seed it began with.
        weights: checkpoint a fresh run starts from; empty: from scratch.
        reinit_mismatched, trust_weights: see ``modeling.checkpoint.load_weights``.
        checkpoint_period, eval_period: in iterations; 0: only at the end.
        checkpoints_to_keep: of the periodic ones, the newest; 0: all.
        best_metric, patience: see :class:`.hooks.BestTracker`.
        ema_decay: see :class:`.averaging.WeightAverage`; 0: no average.
    """

    output_dir: str
    max_iter: int
    seed: int = 0
    weights: str = ""
    reinit_mismatched: bool = False
    trust_weights: bool = False
    checkpoint_period: int = 0
    eval_period: int = 0
    checkpoints_to_keep: int = 0
    best_metric: str = "segm/AP"
    patience: int = 0
    ema_decay: float = 0.0

    @classmethod
    def from_config(cls, cfg: CfgNode, seed: int) -> "TrainerOptions":
        """The values of a config."""
        return cls(
            output_dir=cfg.OUTPUT_DIR,
            max_iter=cfg.SOLVER.MAX_ITER,
            seed=seed,
            weights=cfg.MODEL.WEIGHTS,
            reinit_mismatched=cfg.MODEL.REINIT_MISMATCHED,
            trust_weights=cfg.MODEL.TRUST_WEIGHTS,
            checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
            eval_period=cfg.TEST.EVAL_PERIOD,
            checkpoints_to_keep=cfg.SOLVER.CHECKPOINTS_TO_KEEP,
            best_metric=_best_metric(cfg),
            patience=cfg.TEST.EARLY_STOP_PATIENCE,
            ema_decay=cfg.SOLVER.EMA_DECAY,
        )


def _best_metric(cfg: CfgNode) -> str:
    """TEST.BEST_METRIC under its full name among the results, checked that there will be one; "" without test data."""
    tasks = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
    known = [f"{task}/{metric}" for task in tasks for metric in LIVECELL.metrics]
    known += [f"segm/{metric}" for metric in HEADLINE if cfg.MODEL.MASK_ON] + ["val/total_loss"] * cfg.TEST.VAL_LOSS
    metric = cfg.TEST.BEST_METRIC
    if metric not in known:
        raise ConfigError(f"TEST.BEST_METRIC is {metric!r}; with this model there are: {', '.join(known)}")
    if not cfg.DATASETS.TEST:
        return ""
    several = len(cfg.DATASETS.TEST) > 1 and not metric.startswith("val/")
    return f"{cfg.DATASETS.TEST[0]}/{metric}" if several else metric
