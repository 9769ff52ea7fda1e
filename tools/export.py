#!/usr/bin/env python
"""Write a model's networks as ONNX files, which ONNX Runtime and OpenVINO read, and compare them with the model.

    python tools/export.py --model output/mine/model --output exported
    python tools/export.py --config-file output/mine/config.yaml --weights output/mine/model_best.pth --output exported
    ... --runtime onnx,openvino             open the files with these

DIR then has, of a CenterMask,

    trunk.onnx      image (N, C, H, W), normalised, sides multiples of 32 -> FCOS's outputs and the maps to pool from
    heads.onnx      pooled cells (n, C, 14, 14) -> mask probabilities, predicted IoU
    networks.json   hashes of the weights and of these files, versions, configuration

and of a semantic model network.onnx (images of stretched grey values -> logits) and networks.json. To select,
to pool and to paste is no part of the files.

Exit code: 0 written and compared, 2 unusable input, 130 stopped with Ctrl-C.
"""

import argparse
import os
import sys
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from rich.console import Console
from torch import nn

from cellseg_d2.engine.errors import UserError, config_errors
from cellseg_d2.engine.launch import USER_ERRORS
from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference.instance_export import NETWORK_RECORD, export_instances, write_record
from cellseg_d2.inference.instance_runtime import make_instance_network, require_openvino
from cellseg_d2.inference.model_folder import load_model
from cellseg_d2.inference.runtime import exported_network
from cellseg_d2.modeling.checkpoint import load_weights
from cellseg_d2.modeling.semantic import CellSegmentor

RUNTIMES = ("onnx", "openvino")
console = Console(highlight=False, markup=False)


def load(args: argparse.Namespace) -> tuple[CfgNode, nn.Module]:
    """The configuration and the model, in evaluation mode on the CPU, that the command line names."""
    if args.model:
        return load_model(args.model)
    cfg = load_config(str(args.config_file), [*args.options, "MODEL.DEVICE", "cpu"])
    with config_errors("the model"):
        model = build_model(cfg)
    load_weights(model, str(args.weights), complete=True, trust=cfg.MODEL.TRUST_WEIGHTS)
    return cfg, model.eval()


def run(args: argparse.Namespace) -> None:
    """Export, compare."""
    if "openvino" in args.runtime:
        require_openvino()
    cfg, model = load(args)
    if hasattr(model, "members"):
        raise UserError("an ensemble is exported model by model: export its members' folders")
    with console.status("exporting, which takes some seconds"):
        if isinstance(model, CellSegmentor):
            path = args.output / "network.onnx"
            args.output.mkdir(parents=True, exist_ok=True)
            exported_network(model, path)
            write_record(args.output, model, cfg, [path])
        else:
            export_instances(model, cfg, args.output)
            for runtime in args.runtime:
                make_instance_network(model, cfg, runtime, args.output)
    for path in sorted([*args.output.glob("*.onnx"), args.output / NETWORK_RECORD]):
        console.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)


def runtimes(text: str) -> list[str]:
    """Names parted by commas."""
    names = text.split(",")
    if set(names) - set(RUNTIMES):
        raise argparse.ArgumentTypeError(f"{text}: give some of {','.join(RUNTIMES)}")
    return names


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, metavar="FOLDER", help="model folder")
    source.add_argument("--config-file", type=Path, metavar="FILE", help="configuration; give --weights too")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights, with --config-file")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="networks go here")
    parser.add_argument(
        "--runtime", type=runtimes, default=["onnx"], metavar="NAMES",
        help="compare the files with the model in onnx (the default), openvino, or onnx,openvino",
    )  # fmt: skip
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="options of the configuration")
    args = parser.parse_args(arguments)
    if bool(args.config_file) != bool(args.weights):
        parser.error("--config-file and --weights go together")
    return args


def main() -> None:
    """Command line."""
    sys.stdout.reconfigure(errors="replace")  # terminals that know ASCII only
    args = parse()
    try:
        run(args)
    except (*USER_ERRORS, ValueError, OSError) as error:
        if os.environ.get("CELLSEG_DEBUG") == "1":
            raise
        print(f"export.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("export.py: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
