"""Cell instance segmentation on Detectron2: CenterMask for dense microscopy images."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import model_zoo
    from .config import add_cellseg_config
    from .inference.segmenter import CellSegmenter

__all__ = ["CellSegmenter", "__version__", "add_cellseg_config", "model_zoo"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a name of ``__all__`` when it is first asked for; the models are registered with it.

    Importing the package itself stays free of torch and Detectron2, so that ``python -m cellseg_d2.doctor`` can tell
    what is wrong with them.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(f"{__name__}.modeling")
    if name == "model_zoo":
        value = import_module(f"{__name__}.model_zoo")
    else:
        place = {"CellSegmenter": "inference.segmenter", "add_cellseg_config": "config"}[name]
        value = getattr(import_module(f"{__name__}.{place}"), name)
    globals()[name] = value
    return value
