"""The network of a semantic model as ONNX, for images of any size."""

import copy
import warnings

import onnx
import torch
from torch import Tensor, nn

from ...modeling.semantic import CellSegmentor
from ...modeling.semantic.heads import TransposedConv

__all__ = ["INPUT", "ExportedNetwork", "export_network"]

INPUT, OUTPUT = "image", "logits"
HEIGHT_AND_WIDTH = (2, 3)
OPSET = 21  # the first in which group norm is exported as one step


class ExportedNetwork(nn.Module):
    """From padded images of stretched grey values to logits: pixel mean and deviation, backbone and head."""

    def __init__(self, model: CellSegmentor) -> None:
        super().__init__()
        self.network = nn.ModuleList([copy.deepcopy(model.backbone), copy.deepcopy(model.sem_seg_head)])
        self.register_buffer("mean", model.pixel_mean)
        self.register_buffer("std", model.pixel_std)
        _replace_transposed(self.network)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W), H and W multiples of the backbone's ``size_divisibility`` -> (N, K, H, W)."""
        backbone, head = self.network
        return head(backbone((image - self.mean) / self.std))[0]


def export_network(model: CellSegmentor) -> bytes:
    """ONNX of a model's :class:`ExportedNetwork`: input "image" (1, C, H, W) float32, one output (1, K, H, W).

    Takes some seconds. Batch norms are folded into the convolutions before them.

    Args:
        model: in evaluation mode, on the CPU.

    Raises:
        Exception: whatever PyTorch's exporter raises for a layer that it does not know.
    """
    unit = model.backbone.size_divisibility
    example = torch.zeros(1, len(model.pixel_mean), 3 * unit, 2 * unit)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of PyTorch about its own parts
        program = torch.onnx.export(
            ExportedNetwork(model).eval(),
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    proto = program.model_proto
    _free_size(proto.graph)
    return proto.SerializeToString()


def _free_size(graph: onnx.GraphProto) -> None:
    """Let height and width be any.

    The exporter can do so itself, but takes minutes to reason about the sizes in a deep network. No layer of these
    networks knows its size; whoever opens the result compares it with the model at another size.
    """
    for value in (*graph.input, *graph.output):
        for axis in HEIGHT_AND_WIDTH:
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    del graph.value_info[:]  # sizes in between


def _replace_transposed(module: nn.Module) -> None:
    """Replace the layers in ``module`` whose export would be of one size only."""
    for name, child in module.named_children():
        if isinstance(child, TransposedConv):
            setattr(module, name, _as_convolution(child))
        else:
            _replace_transposed(child)


@torch.no_grad()
def _as_convolution(layer: TransposedConv) -> nn.Sequential:
    """The same numbers by layers that know no size: the slices of ``TransposedConv`` would fix that of the image.

    Output row i s + k - s / 2 gets the input row i by the kernel row k; so the s rows of phase p = 0 .. s - 1 between
    two input rows see exactly these two, by the kernel rows p + s and p: a 2x2 convolution with s * s outputs. ONNX
    Runtime takes half as long for it as for a transposed convolution, a tenth of GoogLeNet-FCN.
    """
    s, inputs, outputs = layer.stride[0], layer.in_channels, layer.out_channels
    # The first tap is the neighbour above (or to the left), which reaches here with the end of its kernel
    kernel = layer.weight.view(inputs, outputs, 2, s, 2, s).flip(2, 4)
    conv = nn.Conv2d(inputs, outputs * s * s, 2, padding=1)
    conv.weight.copy_(kernel.permute(1, 3, 5, 0, 2, 4).reshape(conv.weight.shape))
    conv.bias.copy_(layer.bias.repeat_interleave(s * s))
    return nn.Sequential(conv, nn.PixelShuffle(s), nn.ZeroPad2d(-s // 2))
