"""Package metadata. ``make setup`` installs it with the versions of constraints.txt, and Detectron2 beside it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

# Detectron2 is not listed: it has no release of its own on PyPI. scripts/setup.sh installs it, pinned by hash.
REQUIRES = [
    "torch",
    "torchvision",
    # what Detectron2's Python code imports
    "fvcore",
    "iopath",
    "yacs",
    "omegaconf>=2.1,<2.4",
    "hydra-core",
    "pycocotools",
    "termcolor",
    "tabulate",
    "cloudpickle",
    "tqdm",
    "tensorboard",
    "matplotlib",
    "packaging",
    "pyyaml",
    "setuptools<81",  # detectron2.model_zoo imports pkg_resources, which later versions dropped
    # images and geometry
    "opencv-python-headless",  # the same cv2 as opencv-python, but it needs no libGL on a server
    "numpy",
    "scipy",
    "scikit-image",
    "scikit-learn",  # classifiers that try to tell two sets of cells apart
    "shapely",  # crops polygons
    "pillow",
    "tifffile",
    "imagecodecs",  # LZW and other compressed TIFF
    "roifile",  # ImageJ's outlines
    "zarr",  # images that stay on disk, and OME-Zarr
    # cells over time
    "laptrack",
    # prediction without a GPU: networks exported once, run faster
    "onnx",
    "onnxscript",
    "onnxruntime",
    # scoring: compiled loops over run lengths and matches, typed JSON
    "numba",
    "threadpoolctl",  # one thread for matrix products inside of them
    "msgspec",
    # tables, consoles and reports
    "pandas",
    "pyarrow",  # Parquet
    "rich",
    "jinja2",
]


def read_version() -> str:
    """The version in cellseg_d2/__init__.py, read as text: importing it would need torch."""
    text = (HERE / "cellseg_d2" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('cellseg_d2/__init__.py has no line __version__ = "..."')
    return match.group(1)


EXTRAS = {
    "formats": ["bioio", "bioio-nd2", "bioio-czi", "bioio-lif"],  # ND2, CZI, LIF
    "openvino": ["openvino"],
    "ray": ["ray[data]"],
    "trackastra": ["trackastra"],
    "test": ["pytest", "hypothesis", "ruff", "playwright", "faster-coco-eval", "openvino", "py-ctcmetrics"],
}

setup(
    name="cellseg_d2",
    version=read_version(),
    description="Cell instance segmentation on Detectron2: CenterMask for dense microscopy images",
    license="Apache-2.0",
    packages=find_packages(include=["cellseg_d2", "cellseg_d2.*"]),
    package_data={
        "cellseg_d2": ["base.css"],
        "cellseg_d2.evaluation.report": ["template.html"],
        "cellseg_d2.analysis": ["page.html", "compare.html"],
    },
    python_requires=">=3.11,<3.13",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
)
