"""What is installed, what it runs on, where data is, and what is wrong: ``python -m cellseg_d2.doctor [--json]``.

Every check is a function that returns :class:`Finding` records and never raises because of what it examines, so the
doctor also runs where torch or Detectron2 is missing or broken. The exit status is 1 when something essential is.
"""

import argparse
import importlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Literal

from . import __version__

__all__ = ["Finding", "diagnose", "main"]

REINSTALL = "run `make setup` in the project folder (remove .venv first if that does not help)"
# Module to import -> package that brings it
LIBRARIES = {
    "fvcore": "fvcore",
    "iopath": "iopath",
    "yacs": "yacs",
    "omegaconf": "omegaconf",
    "pycocotools.mask": "pycocotools",
    "numpy": "numpy",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "cv2": "opencv-python-headless",
    "shapely": "shapely",
    "PIL": "pillow",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
    "tensorboard": "tensorboard",
    "pandas": "pandas",
}
MIN_FREE_BYTES = 5 * 2**30  # a few checkpoints with optimizer state
MIN_SHARED_BYTES = 2**30  # data loader workers hand images over in shared memory


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        name: what was examined.
        status: "ok"; "warn" (works, or is not needed by all); "fail" (something essential is broken).
        detail: what was found.
        fix: what to do about it; empty when all is well.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def _try_import(name: str) -> tuple[ModuleType | None, str]:
    """The module, or None and the reason. Broken installs raise much more than ImportError, and each is a finding."""
    try:
        return importlib.import_module(name), ""
    except Exception as error:
        return None, _reason(error)


def _reason(error: Exception) -> str:
    """The first line of an error with its type."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


def _gib(size: int) -> str:
    """Bytes as text in GiB."""
    return f"{size / 2**30:.1f} GiB"


def check_python() -> Iterator[Finding]:
    """The interpreter and this package."""
    version = ".".join(map(str, sys.version_info[:3]))
    tested = (3, 11) <= sys.version_info[:2] <= (3, 12)
    fix = "" if tested else "cellseg_d2 is made for Python 3.11 and 3.12: make setup PYTHON=/path/to/python3.12"
    yield Finding("python", "ok" if tested else "fail", f"{version}, {sys.executable}", fix)
    yield Finding("cellseg_d2", "ok", f"{__version__}, {Path(__file__).parent}")


def check_torch() -> Iterator[Finding]:
    """torch and torchvision: present, and made for each other."""
    torch, error = _try_import("torch")
    if torch is None:
        yield Finding("torch", "fail", f"cannot be imported: {error}", REINSTALL)
        return
    yield Finding("torch", "ok", f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}")
    torchvision, error = _try_import("torchvision.ops")
    fix = "install the torchvision that belongs to this torch, from the same source (2.11.0 goes with 0.26.0)"
    if torchvision is None:
        yield Finding("torchvision", "fail", f"cannot be imported: {error}", fix)
        return
    try:
        kept = torchvision.nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]]), torch.tensor([0.5, 0.9]), 0.5).tolist()
    except (RuntimeError, NotImplementedError) as nms_error:
        kept, error = None, _reason(nms_error)
    version = metadata.version("torchvision")
    if kept == [1]:
        yield Finding("torchvision", "ok", f"{version}, its compiled operators work")
    else:
        yield Finding("torchvision", "fail", f"{version} does not match this torch: nms gave {error or kept}", fix)


def check_detectron2() -> Iterator[Finding]:
    """Detectron2, its compiled operators (which nothing here needs), and our models in its registries."""
    detectron2, error = _try_import("detectron2")
    if detectron2 is None:
        yield Finding("detectron2", "fail", f"cannot be imported: {error}", REINSTALL)
        return
    if detectron2.__file__ is None:  # a folder without __init__.py, such as a clone of Detectron2's repository
        detail = f"not installed; the folder {next(iter(detectron2.__path__))} only has its name"
        yield Finding("detectron2", "fail", detail, f"{REINSTALL}, or work in another folder")
        return
    yield Finding("detectron2", "ok", f"{detectron2.__version__}, {Path(detectron2.__file__).parent}")
    compiled, error = _try_import("detectron2._C")
    if compiled is not None:
        yield Finding("compiled ops", "ok", "detectron2._C is there; nothing here needs it")
    elif importlib.util.find_spec("detectron2._C") is None:
        yield Finding("compiled ops", "ok", "no detectron2._C; nothing here needs it")
    else:
        fix = "not needed here; for other uses rebuild Detectron2 against this torch"
        yield Finding("compiled ops", "warn", f"detectron2._C is there but does not load: {error}", fix)
    yield _check_models()


def _check_models() -> Finding:
    """Are our models in Detectron2's registries once the package is imported?"""
    modeling, error = _try_import("cellseg_d2.modeling")
    if modeling is None:
        return Finding("models", "fail", f"cellseg_d2.modeling cannot be imported: {error}", "fix what stands above")
    from detectron2.modeling import BACKBONE_REGISTRY, PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY

    wanted = {
        "build_fcos_vovnet_fpn_backbone": BACKBONE_REGISTRY,
        "FCOS": PROPOSAL_GENERATOR_REGISTRY,
        "CenterROIHeads": ROI_HEADS_REGISTRY,
    }
    missing = [name for name, registry in wanted.items() if name not in registry]
    if missing:
        return Finding("models", "fail", f"not registered: {', '.join(missing)}", REINSTALL)
    return Finding("models", "ok", f"registered: {', '.join(wanted)}")


def check_libraries() -> Iterator[Finding]:
    """The other packages: one line for all that work, one for each that does not."""
    working = []
    for module, package in LIBRARIES.items():
        found, error = _try_import(module)
        if found is None:
            yield Finding(package, "fail", f"cannot be imported: {error}", REINSTALL)
        else:
            root = sys.modules[module.split(".")[0]]
            working.append(f"{package} {getattr(root, '__version__', '') or _installed_version(package)}".strip())
    if working:
        yield Finding("libraries", "ok", ", ".join(working))
    if importlib.util.find_spec("pkg_resources") is None:
        fix = 'pip install "setuptools<81"'
        yield Finding("setuptools", "warn", "no pkg_resources: detectron2.model_zoo cannot be imported", fix)


def _installed_version(package: str) -> str:
    """Version from the package's metadata; empty where another package brings the same module."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def check_device() -> Iterator[Finding]:
    """What training and prediction would run on."""
    torch, _ = _try_import("torch")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = f", {torch.get_num_threads()} torch threads" if torch else ""
    yield Finding("cpu", "ok", f"{cores} cores{threads}")
    if torch is None:
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _check_gpu(torch, index)
    elif shutil.which("nvidia-smi"):
        fix = f"the driver must support CUDA {torch.version.cuda}: update it, or install a torch for its CUDA version"
        yield Finding("gpu", "warn", "an NVIDIA driver is installed, but this torch cannot use it", fix)
    else:
        yield Finding("gpu", "ok", "none: everything runs on the CPU")


def _check_gpu(torch: ModuleType, index: int) -> Finding:
    """Name and memory of one GPU, and whether this torch has kernels for it."""
    properties = torch.cuda.get_device_properties(index)
    detail = f"{properties.name}, {_gib(properties.total_memory)}, compute {properties.major}.{properties.minor}"
    try:
        torch.ones(8, device=f"cuda:{index}").sum().item()
    except RuntimeError as error:
        fix = "free the GPU, choose others with CUDA_VISIBLE_DEVICES, or install a torch made for this GPU"
        return Finding(f"gpu {index}", "fail", f"{detail}: does not compute: {_reason(error)}", fix)
    return Finding(f"gpu {index}", "ok", detail)


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Containers often have 64 MB of it, and data loader workers then die with a bus error."""
    if not folder.is_dir():
        return
    size = shutil.disk_usage(folder).total
    low = size < MIN_SHARED_BYTES
    fix = "start the container with --shm-size=8g (or --ipc=host), or train with DATALOADER.NUM_WORKERS 0"
    yield Finding("shared memory", "warn" if low else "ok", f"{_gib(size)} in {folder}", fix if low else "")


def check_data() -> Iterator[Finding]:
    """Which data folders exist, and what lies in them."""
    roots, error = _try_import("cellseg_d2.data.datasets.roots")
    if roots is None:
        yield Finding("data", "warn", f"not looked for: {error}", "fix what stands above, then ask again")
        return
    filled = False
    for root in roots.data_roots():
        try:
            names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        except OSError as list_error:
            yield Finding("data", "warn", f"{root}: {_reason(list_error)}", "make it readable")
            continue
        filled = filled or bool(names)
        yield Finding("data", "ok", f"{root}: {', '.join(names) or 'no data sets'}")
    for name in filter(None, os.environ.get(roots.ENV_NAME, "").split(os.pathsep)):
        if not Path(name).expanduser().is_dir():
            yield Finding("data", "warn", f"{roots.ENV_NAME} names {name}, which is no folder", "correct the variable")
    if not filled:
        searched = ", ".join(map(str, roots.searched()))
        fix = f"datasets/README.md says how to get some; {roots.ENV_NAME} says where they are"
        yield Finding("data", "warn", f"no data sets in {searched}", fix)


def check_folders(output: Path) -> Iterator[Finding]:
    """Where results, downloaded weights and Detectron2's own data sets go, and whether that can be written."""
    yield _check_writable("output", output)
    cache = Path(os.environ.get("FVCORE_CACHE", "~/.torch/iopath_cache")).expanduser()
    yield _check_writable("weights cache", cache, severity="warn", variable="FVCORE_CACHE")
    yield Finding("DETECTRON2_DATASETS", "ok", os.environ.get("DETECTRON2_DATASETS", "not set (Detectron2's own sets)"))


def _check_writable(
    name: str, folder: Path, severity: Literal["warn", "fail"] = "fail", variable: str | None = None
) -> Finding:
    """Can files be made in ``folder``, or in the nearest folder above it that exists, and is there room?"""
    shown = folder if variable is None or variable in os.environ else f"{folder} ({variable} is not set)"
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    elsewhere = f"set {variable} to a folder of yours" if variable else "choose another folder with --output"
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding(name, severity, f"{shown} cannot be written: {_reason(error)}", elsewhere)
    if free < MIN_FREE_BYTES:
        return Finding(name, "warn", f"{shown}: only {_gib(free)} free", f"make room, or {elsewhere}")
    return Finding(name, "ok", f"{shown}, {_gib(free)} free")


def diagnose(output: Path = Path("output")) -> list[Finding]:
    """Run every check; ``output`` is the folder that results would go to."""
    checks: Sequence[Callable[[], Iterator[Finding]]] = (
        check_python,
        check_torch,
        check_detectron2,
        check_libraries,
        check_device,
        check_shared_memory,
        check_data,
        lambda: check_folders(output),
    )
    return [finding for check in checks for finding in check()]


def _show(findings: Sequence[Finding]) -> None:
    """Write the findings to the terminal."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError as error:
        raise SystemExit(f"doctor: {error}. {REINSTALL}; --json works without rich") from error
    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        detail = Text(finding.detail, overflow="fold")
        if finding.fix:
            detail.append(f"\n-> {finding.fix}", style=colours[finding.status])
        table.add_row(Text(finding.status, style=colours[finding.status]), Text(finding.name), detail)
    console = Console()
    console.print(table)
    counts = {status: sum(finding.status == status for finding in findings) for status in colours}
    verdict = f"{counts['fail']} broken" if counts["fail"] else "Everything essential works"
    noted = f", {counts['warn']} to note" if counts["warn"] else ""
    console.print(Text(f"\n{verdict}{noted}.", style=colours["fail" if counts["fail"] else "ok"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the diagnosis; return 1 when something essential is broken, else 0."""
    parser = argparse.ArgumentParser(prog="python -m cellseg_d2.doctor", description="Say what is installed and wrong.")
    parser.add_argument("--json", action="store_true", help="write a JSON list of findings instead of text")
    parser.add_argument("--output", type=Path, default=Path("output"), help="folder that results would go to")
    options = parser.parse_args(arguments)
    findings = diagnose(options.output)
    if options.json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    else:
        _show(findings)
    return int(any(finding.status == "fail" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
