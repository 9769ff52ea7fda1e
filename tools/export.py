#!/usr/bin/env python
"""Write a model's networks as ONNX files, which ONNX Runtime and OpenVINO read, and compare them with the model.

    python tools/export.py --model output/mine                                     where predict.py --runtime looks
    python tools/export.py --model output/mine --output DIR --runtime onnx,openvino
    python tools/export.py --model configs/centermask_v99.yaml --weights my.pth --output DIR KEY VALUE ...

DIR then has, of a CenterMask,

    trunk.onnx      image (N, C, H, W), normalised, sides multiples of 32 -> FCOS's outputs and the maps to pool from
    heads.onnx      pooled cells (n, C, 14, 14) -> mask probabilities, predicted IoU
    networks.json   hashes of the weights and of these files, versions, configuration

and of a semantic model network.onnx (images of stretched grey values -> logits) and networks.json. To select,
to pool and to paste is no part of the files.

Exit code: 0 written and compared, 2 unusable input, 130 stopped with Ctrl-C.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from cellseg_d2.command_line import run_tool
from cellseg_d2.data.download import Transfer
from cellseg_d2.engine.errors import UserError
from cellseg_d2.engine.launch import USER_ERRORS
from cellseg_d2.inference.loading import load_files, networks_folder
from cellseg_d2.inference.runtimes.instance import make_instance_network, require_openvino
from cellseg_d2.inference.runtimes.instance_export import NETWORK_RECORD, export_instances, write_record
from cellseg_d2.inference.runtimes.semantic import exported_network
from cellseg_d2.model_zoo import find_model
from cellseg_d2.modeling.semantic import CellSegmentor

RUNTIMES = ("onnx", "openvino")
console = Console(highlight=False, markup=False)


def run(args: argparse.Namespace) -> None:
    """Export, compare."""
    if "openvino" in args.runtime:
        require_openvino()
    files = find_model(args.model, args.weights, Transfer(console.print))
    output = args.output or networks_folder(files)
    cfg, model = load_files(files, changes=args.options)
    if hasattr(model, "members"):
        raise UserError("an ensemble is exported model by model: export its members' folders")
    with console.status("exporting, which takes some seconds"):
        if isinstance(model, CellSegmentor):
            path = output / "network.onnx"
            output.mkdir(parents=True, exist_ok=True)
            exported_network(model, path)
            write_record(output, model, cfg, [path])
        else:
            export_instances(model, cfg, output)
            for runtime in args.runtime:
                make_instance_network(model, cfg, runtime, output)
    for path in sorted([*output.glob("*.onnx"), output / NETWORK_RECORD]):
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
    parser.add_argument("--model", required=True, metavar="NAME", help="as tools/predict.py takes it")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights, for a .yaml")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: where predict.py --runtime looks for them")
    parser.add_argument(
        "--runtime", type=runtimes, default=["onnx"], metavar="NAMES",
        help="compare the files with the model in onnx (the default), openvino, or onnx,openvino",
    )  # fmt: skip
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="options of the configuration")
    return parser.parse_args(arguments)


def main() -> int:
    """Command line."""
    args = parse()
    return run_tool(lambda: run(args), *USER_ERRORS)


if __name__ == "__main__":
    sys.exit(main())
