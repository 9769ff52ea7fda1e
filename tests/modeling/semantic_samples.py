"""Small semantic models and images of two discs, for the tests of semantic models."""

import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from torch import nn

from cellseg_d2 import add_cellseg_config

FCN = {
    "MODEL.BACKBONE.NAME": "build_googlenet_backbone",
    "MODEL.SEM_SEG_HEAD.NAME": "TransposedConvHead",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["inception5b"],
}
UNET = {
    "MODEL.BACKBONE.NAME": "build_unet_backbone",
    "MODEL.SEM_SEG_HEAD.NAME": "PixelHead",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["unet"],
    "MODEL.UNET.WIDTH": 8,
}
ENSEMBLE = {
    **UNET,
    "MODEL.META_ARCHITECTURE": "CellTypeEnsemble",
    "MODEL.ENSEMBLE.CELL_TYPES": ["huh7", "bv2"],
}


def make_model(*overrides: dict, channels: int = 1) -> nn.Module:
    """A model on the CPU; later overrides count more."""
    values = {
        "MODEL.META_ARCHITECTURE": "CellSegmentor",
        "MODEL.DEVICE": "cpu",
        "MODEL.PIXEL_MEAN": [0.0] * channels,
        "MODEL.PIXEL_STD": [1.0] * channels,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 1,
    }
    for override in overrides:
        values |= override
    cfg = get_cfg()
    add_cellseg_config(cfg)
    cfg.merge_from_list([x for item in values.items() for x in item])
    torch.manual_seed(0)
    return build_model(cfg)


def make_sample(seed: int = 0, size: tuple[int, int] = (64, 96), num_classes: int = 1, channels: int = 1) -> dict:
    """Two bright discs in noise; the outer three pixels are class 2 of three. Types take turns."""
    y, x = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    height, width = size
    depth = torch.maximum(
        0.25 * height - torch.hypot(y - 0.4 * height, x - 0.3 * width),
        0.2 * height - torch.hypot(y - 0.6 * height, x - 0.75 * width),
    )
    classes = (depth > 0).long() + ((depth > 0) & (depth < 3)).long() * (num_classes > 1)
    noise = torch.randn(channels, *size, generator=torch.Generator().manual_seed(seed))
    return {
        "image": 2.0 * (depth > 0) - 0.5 + 0.3 * noise,
        "sem_seg": torch.stack([classes.float(), torch.ones(size)]),
        "file_name": f"image_{seed}.png",
        "cell_type": ("huh7", "bv2")[seed % 2],
        "height": height,
        "width": width,
    }


def losses_of(model: nn.Module, batch: list[dict]) -> dict[str, torch.Tensor]:
    """Training losses after a backward pass."""
    model.train().zero_grad()
    losses = model(batch)
    sum(losses.values()).backward()
    return losses


def gradients(model: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def f1(predicted: torch.Tensor, truth: torch.Tensor) -> float:
    return 2 * (predicted & truth).sum().item() / (predicted.sum() + truth.sum()).item()
