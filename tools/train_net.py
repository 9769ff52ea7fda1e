#!/usr/bin/env python
"""Train or evaluate a model.

    python tools/train_net.py --config-file configs/centermask_v19_slim_dw.yaml OUTPUT_DIR output/first
    python tools/train_net.py --config-file ... --resume                       # go on where it stopped
    python tools/train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/first/model_best.pth
    python tools/train_net.py --config-file ... --num-gpus 8
    torchrun --nproc-per-node 2 tools/train_net.py --config-file ... MODEL.DEVICE cpu

CELLSEG_DEBUG=1 in the environment shows tracebacks of errors that are otherwise one line.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from detectron2.engine import default_argument_parser

from cellseg_d2.engine import Trainer
from cellseg_d2.engine.launch import launch
from cellseg_d2.engine.setup import setup_cfg
from cellseg_d2.engine.testing import evaluate_only


def main(args: argparse.Namespace) -> Mapping[str, Any]:
    """One process of the run; returns the metrics."""
    cfg = setup_cfg(args)
    if args.eval_only:
        return evaluate_only(cfg, resume=args.resume)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    launch(main, default_argument_parser(epilog=__doc__).parse_args())
