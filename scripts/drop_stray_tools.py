"""Delete the top-level package ``tools`` that the Detectron2 wheel drops into site-packages.

Usage: python drop_stray_tools.py SITE_PACKAGES

Only files that the wheel's own RECORD lists are deleted, so a package ``tools`` of somebody else stays.
"""

import csv
import sys
from pathlib import Path


def stray_files(site: Path) -> list[Path]:
    """The files below ``tools/`` that the wheel installed into ``site``, by its RECORD."""
    records = sorted(site.glob("sal_detectron2-*.dist-info/RECORD"))
    if not records:
        raise SystemExit(f"drop_stray_tools: no sal_detectron2-*.dist-info/RECORD in {site}")
    with records[-1].open(newline="", encoding="utf-8") as file:
        names = [row[0] for row in csv.reader(file) if row]
    return [site / name for name in names if name.startswith("tools/")]


def drop(site: Path) -> int:
    """Delete those files, compiled copies included, and folders left empty; return how many files went."""
    files = [path for path in stray_files(site) if path.exists()]
    for path in files:
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
        path.unlink()
    folders = sorted({folder for path in files for folder in (path.parent / "__pycache__", path.parent)}, reverse=True)
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return len(files)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    drop(Path(sys.argv[1]))
