"""Starting a run in one process, in several of this program's own, or in those that torchrun started."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from detectron2.engine import launch as launch_detectron2
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing import ProcessExitedException

from ..data.datasets import DatasetError
from ..data.image_io import CorruptImageError
from ..modeling.checkpoint import WeightsError
from .errors import LaunchError, OutputError, TrainingInterrupted, UserError
from .setup import load_config

__all__ = ["USER_ERRORS", "launch"]

logger = logging.getLogger(__name__)

Main = Callable[[argparse.Namespace], Any]
# Their messages say all; a traceback would only bury them
USER_ERRORS = (UserError, DatasetError, CorruptImageError, WeightsError)
USER_ERROR_STATUS = 2
CPU_PROCESSES = "For several CPU processes: torchrun --nproc-per-node N tools/train_net.py ... MODEL.DEVICE cpu"
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def launch(main: Main, args: argparse.Namespace) -> Any:
    """Run ``main(args)`` in the processes that command line or torchrun ask for.

    An error the user can put right ends the program with one line on stderr and status 2 (with a traceback where the
    environment has CELLSEG_DEBUG=1); an interrupted run with 128 + the signal's number.

    Args:
        main: importable from its module (it is pickled for ``--num-gpus`` above 1).
        args: from ``detectron2.engine.default_argument_parser()``.

    Returns:
        what ``main`` returns, or None where it ran in processes of its own.
    """
    return _report(_launch, main, args)


def _launch(main: Main, args: argparse.Namespace) -> Any:
    if all(name in os.environ for name in TORCHRUN):
        return _run_under_torchrun(main, args)
    _check_processes(args)
    if args.num_gpus == 0:
        args.opts = [*(args.opts or []), "MODEL.DEVICE", "cpu"]
    if args.num_machines * args.num_gpus <= 1:
        return main(args)
    try:
        launch_detectron2(
            partial(_report, main),
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as error:
        sys.exit(error.exit_code)  # the process has said why


def _check_processes(args: argparse.Namespace) -> None:
    """The asked processes fit the machine."""
    available = torch.cuda.device_count()
    if args.num_gpus < 0 or args.num_machines < 1:
        raise LaunchError(f"--num-gpus {args.num_gpus} --num-machines {args.num_machines}: these are counts")
    if not 0 <= args.machine_rank < args.num_machines:
        raise LaunchError(
            f"--machine-rank {args.machine_rank} is not below --num-machines {args.num_machines}: ranks count from 0"
        )
    if args.num_machines > 1 and args.num_gpus == 0:
        raise LaunchError(f"--num-machines {args.num_machines} --num-gpus 0 would be independent runs. {CPU_PROCESSES}")
    if args.num_machines * args.num_gpus > 1:
        device = load_config(args.config_file, args.opts).MODEL.DEVICE
        if not device.startswith("cuda"):
            raise LaunchError(f"--num-gpus {args.num_gpus}, but MODEL.DEVICE is {device}. {CPU_PROCESSES}")
        _require_unnumbered(device)
        if args.num_gpus > available:
            raise LaunchError(
                f"--num-gpus {args.num_gpus}, but torch sees {available} on this machine. {CPU_PROCESSES}"
            )
        if args.num_machines > 1 and "127.0.0.1" in args.dist_url:
            raise LaunchError(
                f"--num-machines {args.num_machines} needs --dist-url tcp://HOST:PORT with the address of machine 0, "
                "the same on all machines"
            )


def _require_unnumbered(device: str) -> None:
    """Several processes cannot all be on one numbered GPU."""
    if ":" in device:
        raise LaunchError(
            f"MODEL.DEVICE {device} would put all processes on one GPU: set it to {device.split(':')[0]}, and each "
            "process takes its own"
        )


def _check_torchrun(args: argparse.Namespace, local_size: int) -> None:
    """The options that start processes say nothing else than torchrun (1 is their default)."""
    if args.num_gpus not in (1, local_size):
        raise LaunchError(
            f"--num-gpus {args.num_gpus}, but torchrun started {local_size} processes here: leave --num-gpus out, "
            "--nproc-per-node says it (for CPU processes with MODEL.DEVICE cpu)"
        )
    if args.num_machines != 1:
        raise LaunchError(f"--num-machines {args.num_machines} under torchrun: leave it out, --nnodes says it")


def _run_under_torchrun(main: Main, args: argparse.Namespace) -> Any:
    """Join the group of processes that torchrun started."""
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    _check_torchrun(args, local_size)
    device = load_config(args.config_file, args.opts).MODEL.DEVICE
    if int(os.environ["WORLD_SIZE"]) > 1:
        _require_unnumbered(device)
    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    if on_gpu:
        if local_size > torch.cuda.device_count():
            raise LaunchError(
                f"torchrun started {local_size} processes here, but torch sees {torch.cuda.device_count()} GPUs: use "
                f"--nproc-per-node {torch.cuda.device_count()}, or MODEL.DEVICE cpu"
            )
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    comm.create_local_process_group(local_size)
    result = main(args)
    # Not after an error: other processes may be waiting in an operation, and torchrun ends them
    distributed.destroy_process_group()
    return result


def _report(function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function``; turn errors of the user into one line and an exit status."""
    try:
        return function(*args)
    except USER_ERRORS as error:
        if os.environ.get("CELLSEG_DEBUG") == "1":
            raise
        if isinstance(error, OutputError) and not comm.is_main_process():
            sys.exit(USER_ERROR_STATUS)  # the same in all processes
        rank = f"[rank {comm.get_rank()}] " if comm.get_world_size() > 1 else ""
        sys.stderr.write(f"{rank}error: {error}\n")
        sys.exit(USER_ERROR_STATUS)
    except TrainingInterrupted as stop:
        if comm.is_main_process():
            sys.stderr.write(f"{stop}\n")
        sys.exit(stop.exit_code)
