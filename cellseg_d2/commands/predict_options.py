"""The command line of prediction."""

from argparse import ArgumentParser
from pathlib import Path

from ..inference.runs.engines import ENGINES
from ..inference.runs.outputs import KINDS, OutputOptions
from ..modeling.semantic.cells import SPLITS
from .track import TRACKERS

__all__ = ["add_arguments"]

RUNTIMES = ("auto", "torch", "onnx", "openvino")


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    parser.add_argument("input", nargs="*", metavar="INPUT", help="images, stacks, folders, or patterns (quoted)")
    parser.add_argument("--model", metavar="NAME", help="name (--list-models), model folder, OUTPUT_DIR, or .yaml")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weight file; needed with a .yaml")
    parser.add_argument("--output", type=Path, metavar="DIR", help="results go here")
    parser.add_argument("--list-models", action="store_true", help="say which names there are, and stop")
    _add_images(parser)
    _add_model(parser)
    _add_outputs(parser)
    _add_run(parser)


def _add_images(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("images")
    group.add_argument("--axes", metavar="LETTERS", help="of T C Z Y X S, all axes in order, where files lack them")
    group.add_argument("--channel", metavar="C", help="number from 0, or name, of the channel to find cells in")
    group.add_argument("--pixel-size", type=float, metavar="UM", help="micrometres, in the place of the files'")
    group.add_argument("--interval", type=float, metavar="S", help="seconds a frame, in the place of the files'")
    group.add_argument("--adapt", action="store_true",
                       help="adapt grey values and magnification to LIVECell's microscope")  # fmt: skip
    group.add_argument("--tile", default="auto", metavar="auto|off|PX", help="large images in tiles (default: auto)")
    group.add_argument("--overlap", type=int, metavar="PX", help="of tiles; default: twice the size of cells")


def _add_model(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--device", help="cpu, cuda or cuda:N; default: a GPU where there is one")
    group.add_argument("--runtime", default="auto", choices=RUNTIMES, help="what runs the network")
    group.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    group.add_argument("--min-score", type=float, default=0.5, metavar="S", help="of instances (default: 0.5)")
    group.add_argument("--max-cells", type=int, metavar="N", help="instances an image or tile; default: the model's")
    group.add_argument("--threshold", type=float, metavar="T", help="semantic: foreground probability; default: own")
    group.add_argument("--min-area", type=int, metavar="PX", help="semantic: drop smaller cells")
    group.add_argument("--split", choices=SPLITS, help="semantic: how touching cells are parted")
    group.add_argument("--cell-type", metavar="T", help="of the images, for an ensemble")
    group.add_argument("--trust-weights", action="store_true", help="read weights that hold code")


def _add_outputs(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("outputs")
    default = ",".join(OutputOptions.save)
    group.add_argument("--save", default=default, metavar="KINDS", help=f"of {', '.join(KINDS)}; default: {default}")
    group.add_argument("--overlaps", default="score", choices=("score", "interior"),
                       help="whose a pixel of several cells is in label images")  # fmt: skip
    group.add_argument("--track", action="store_true",
                       help="link cells over the frames of stacks, or over the images of a folder")  # fmt: skip
    group.add_argument("--tracker", choices=TRACKERS,
                       help="what links them: own assignment, LapTrack on its costs, or a Trackastra model; "
                       "default: overlap")  # fmt: skip
    group.add_argument("--tracker-model", metavar="NAME",
                       help="of Trackastra: a folder, or a published name, which it downloads; default: general_2d")


def _add_run(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--batch", type=int, default=1, metavar="N", help="images or tiles at once, for a GPU")
    group.add_argument("--workers", type=int, default=1, metavar="N", help="processes (of one thread each)")
    group.add_argument("--threads", type=int, metavar="N", help="of this process")
    group.add_argument("--engine", default="local", choices=ENGINES)
    group.add_argument("--ray-address", metavar="ADDRESS", help="of a running cluster; default: one on this machine")
    group.add_argument("--resume", action="store_true", help="leave what is done, and go on")
