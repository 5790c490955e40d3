"""The layers of a checkpoint as CUDA is quickest with them: they compute the same. A CPU keeps them as they are."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def quicken(model: nn.Module) -> None:
    """Replace the layers of `model` that have a quicker kind, in place, each with the weights it has."""
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if (quicker := _quicker(layer)) is not None:
                setattr(module, name, quicker)


def _quicker(layer: Any) -> nn.Module | None:
    if isinstance(layer, nn.Conv2d):
        if layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1 and layer.padding == (0, 0):
            return Pointwise(layer)
        if layer.in_channels == layer.groups < layer.out_channels and layer.padding_mode == "zeros":
            return Depthwise(layer)
    if type(layer).__name__.endswith("RMSNorm") and hasattr(layer, "variance_epsilon"):
        fused = nn.RMSNorm(tuple(layer.weight.shape), eps=layer.variance_epsilon, device="meta")
        fused.weight = layer.weight
        return fused
    return None


class Pointwise(nn.Module):
    """A convolution of 1 × 1 as one matrix product, which adds the bias on its way; in channels-last nothing moves."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(layer.weight.detach().flatten(1), requires_grad=False), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


class Depthwise(nn.Module):
    """A convolution that makes M channels of each one, as M that make one: cuDNN launches the other group by group."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        many = layer.out_channels // layer.in_channels
        self.parts = nn.ModuleList(_part(layer, layer.weight.detach()[i::many].contiguous()) for i in range(many))
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        found = torch.stack([part(x).permute(0, 2, 3, 1) for part in self.parts], dim=-1).flatten(3)
        return (found if self.bias is None else found + self.bias).permute(0, 3, 1, 2)


def _part(layer: nn.Conv2d, kernels: Tensor) -> nn.Conv2d:
    """A convolution like `layer`, with one of its `kernels` for each channel."""
    own = copy.deepcopy(layer)
    own.out_channels = layer.in_channels
    own.weight, own.bias = nn.Parameter(kernels, requires_grad=False), None
    return own
