"""Cell instance segmentation on Detectron2: CenterMask for dense microscopy images."""

from importlib import import_module

__all__ = ["__version__", "add_cellseg_config"]
__version__ = "0.1.0"


def __getattr__(name: str):
    """Load Detectron2 and register the models on first use, so that ``cellseg_d2.doctor`` runs without either."""
    if name == "add_cellseg_config":
        import_module(".modeling", __name__)
        return import_module(".config", __name__).add_cellseg_config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
