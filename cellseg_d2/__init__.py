"""Cell instance segmentation on Detectron2: CenterMask for dense microscopy images."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import add_cellseg_config

__all__ = ["add_cellseg_config", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import ``add_cellseg_config`` when it is first asked for, and register the models with it.

    Importing the package itself stays free of torch and Detectron2, so that ``python -m cellseg_d2.doctor`` can tell
    what is wrong with them.
    """
    if name != "add_cellseg_config":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import modeling  # noqa: F401  (registers the models)
    from .config import add_cellseg_config

    globals()[name] = add_cellseg_config
    return add_cellseg_config
