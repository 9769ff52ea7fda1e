"""Collect what a machine without internet needs to install cellseg_d2 beside the torch that it has.

Usage (``make bundle PYVER=3.12 PLATFORM=manylinux_2_28_x86_64 OUT=dist/bundle`` runs it)::

    python scripts/bundle.py --python 3.12 --platform manylinux_2_28_x86_64 --out dist/bundle

The folder gets wheels/ (ours and those of every dependency but torch, torchvision and what only they need from
NVIDIA), detectron2-wheel/ (checked against its hash), install.sh, INSTALL.txt and SHA256SUMS.
"""

import argparse
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = ROOT / "scripts" / "offline"
DETECTRON2 = ROOT / "scripts" / "detectron2.txt"
PYTHONS = ("3.11", "3.12")
# The node brings these: they are large, and must match its driver
TORCH_FAMILY = re.compile(r"^(torch|torchvision|triton|nvidia-.*|cuda-.*)==")
# Released as sources only, without compiled code: built here into wheels that run anywhere
SOURCE_ONLY = ("antlr4-python3-runtime", "fvcore", "iopath")
logger = logging.getLogger("bundle")


class BundleError(Exception):
    """Something that stops the bundle, in one line for the user."""


@dataclass(frozen=True)
class Target:
    """The machine to install on.

    Attributes:
        python: "3.11" or "3.12".
        machine: "x86_64" or "aarch64".
        glibc: minor version of the oldest glibc 2.x that wheels may ask for.
    """

    python: str
    machine: str
    glibc: int

    @classmethod
    def parse(cls, python: str, platform: str) -> "Target":
        """Read the command line's words; a :class:`BundleError` names what is known."""
        if python not in PYTHONS:
            raise BundleError(f"Python {python!r} is not supported: PYVER must be one of {', '.join(PYTHONS)}")
        match = re.fullmatch(r"(?:manylinux_2_(\d+)|manylinux2014)_(x86_64|aarch64)", platform)
        if match is None:
            raise BundleError(
                f"unknown platform {platform!r}: PLATFORM must look like manylinux_2_28_x86_64 "
                "(glibc 2.28; `ldd --version` tells) or manylinux_2_28_aarch64"
            )
        return cls(python, match[2], int(match[1] or 17))

    def platform_tags(self) -> list[str]:
        """Every wheel tag that this machine can run, newest glibc first (pip does not expand a tag by itself)."""
        legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        tags = []
        for minor in range(self.glibc, 4, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in legacy:
                tags.append(f"{legacy[minor]}_{self.machine}")
        return tags


def run(command: Sequence[str | Path]) -> str:
    """Run a command and return its output; its last words become a :class:`BundleError` when it fails."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "notice" not in line]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no message"]
        raise BundleError(f"{' '.join(map(str, command[:5]))} ... failed: {errors[-1].strip()}")
    return done.stdout


def resolve(target: Target) -> list[str]:
    """``name==version`` of every package to bundle, for the target, held by constraints.txt."""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        raise BundleError("uv is missing: run `make setup` first")
    options = ["--no-header", "--no-annotate", "--quiet", "--python-version", target.python]
    options += ["--python-platform", f"{target.machine}-unknown-linux-gnu"]
    pins = run([uv, "pip", "compile", "setup.py", "-c", "constraints.txt", *options]).splitlines()
    return [pin for pin in pins if pin and not TORCH_FAMILY.match(pin)]


def download(pins: Sequence[str], target: Target, folder: Path) -> None:
    """Download binary wheels of the target, and build those of :data:`SOURCE_ONLY` here."""
    sources = [pin for pin in pins if pin.partition("==")[0] in SOURCE_ONLY]
    binaries = [pin for pin in pins if pin not in sources]
    platforms = [word for tag in target.platform_tags() for word in ("--platform", tag)]
    common = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    python = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", target.python]
    run([sys.executable, "-m", "pip", "download", *common, *python, *platforms, "--dest", folder, *binaries])
    # Without isolation: setuptools is the pinned one
    run([sys.executable, "-m", "pip", "wheel", *common, "--no-build-isolation", "--wheel-dir", folder, *sources])


def build_own(folder: Path) -> None:
    """Build our own wheel from a copy: a build folder in the project would carry modules deleted since."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "cellseg_d2"
        copy.mkdir()
        for name in ("setup.py", "LICENSE"):
            shutil.copy2(ROOT / name, copy / name)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "cellseg_d2", copy / "cellseg_d2", ignore=ignored)
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
        run([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, copy])


def download_detectron2(folder: Path) -> None:
    """Fetch Detectron2's wheel under its own file name, and compare its hash with the pinned one."""
    expected = re.search(r"--hash=sha256:([0-9a-f]{64})", DETECTRON2.read_text(encoding="utf-8"))
    if expected is None:
        raise BundleError(f"{DETECTRON2} has no --hash=sha256:...")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    options += ["--python-version", "3.10", "--require-hashes"]
    run([sys.executable, "-m", "pip", "download", *options, "--dest", folder, "-r", DETECTRON2])
    (wheel,) = folder.glob("*.whl")
    if sha256(wheel) != expected[1]:
        raise BundleError(f"{wheel.name}: its sha256 is {sha256(wheel)}, but {DETECTRON2.name} has {expected[1]}")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_wheels(folder: Path, target: Target, pins: Sequence[str]) -> None:
    """Is there one wheel for each pin and one of ours, and will each run on the target?"""
    wheels = sorted(folder.iterdir())
    if len(wheels) != len(pins) + 1:
        raise BundleError(f"{len(pins) + 1} wheels were to be collected, {len(wheels)} are there")
    usable = {"any", *target.platform_tags()}
    for wheel in wheels:
        if wheel.suffix != ".whl" or not usable & set(wheel.stem.rsplit("-", 1)[1].split(".")):
            raise BundleError(f"{wheel.name} does not run on {target.platform_tags()[0]}")


def write_scripts(folder: Path, target: Target) -> None:
    """Write install.sh and INSTALL.txt for the target."""
    for name in ("install.sh", "INSTALL.txt"):
        text = (OFFLINE / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("@PYTHON@", target.python), encoding="utf-8")
    (folder / "install.sh").chmod(0o755)


def write_sums(folder: Path) -> None:
    """List every file with its hash, as ``sha256sum --check`` reads it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def bundle(target: Target, out: Path) -> None:
    """Make the folder ``out``, or leave what is there untouched when something fails."""
    if out.exists() and not (out / "SHA256SUMS").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out} exists and is no bundle: choose another OUT, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".bundle-") as scratch:
        made = Path(scratch) / "made"
        (made / "wheels").mkdir(parents=True)
        (made / "detectron2-wheel").mkdir()
        logger.info("resolving for Python %s on %s", target.python, target.platform_tags()[0])
        pins = resolve(target)
        logger.info("collecting %d wheels", len(pins))
        download(pins, target, made / "wheels")
        logger.info("building the wheel of cellseg_d2")
        build_own(made / "wheels")
        check_wheels(made / "wheels", target, pins)
        logger.info("fetching Detectron2")
        download_detectron2(made / "detectron2-wheel")
        write_scripts(made, target)
        write_sums(made)
        if out.exists():
            os.replace(out, Path(scratch) / "old")
        os.replace(made, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    logger.info("done: %s, %.0f MB. Copy it to the node and run install.sh there (see INSTALL.txt)", out, size / 1e6)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the bundle that the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", default="3.12", help="Python of the node: 3.11 or 3.12")
    parser.add_argument("--platform", default="manylinux_2_28_x86_64", help="newest wheel tag that the node can run")
    parser.add_argument("--out", type=Path, default=Path("dist/bundle"), help="folder to make (replaces an older one)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="bundle: %(message)s", stream=sys.stdout)
    try:
        bundle(Target.parse(options.python, options.platform), options.out)
    except (BundleError, OSError) as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
