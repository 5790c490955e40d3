"""A network whose points see each other, through a few tokens that stand for the whole cloud.

A pointwise network draws every point of a cloud independently given the prompt. Where many different clouds share a
prompt, that is their average; a network that sees the set can settle on one of them and keep to it.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fm._checks import require
from fm._pointwise import Film, modulated


class Attention(nn.Module):
    """Multi-head attention of queries [B, Q, width] to a set [B, S, width]: [B, Q, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        require(heads >= 1 and width % heads == 0, "heads", heads, f"a divisor of the width {width}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, members: Tensor) -> Tensor:
        split = [v.unflatten(-1, (self.heads, -1)).transpose(1, 2) for v in
                 (self.query(queries), *self.key_value(members).chunk(2, dim=-1))]  # fmt: skip
        return self.out(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(-2))


class SetFilm(Film):
    """`Film` with, in each block, tokens that gather from the points and that the points then read.

    The two attentions through K tokens cost N·K instead of the N² of attention among points (the induced sets of Lee
    et al., "Set Transformer", arXiv 1810.00825). Points keep their symmetry: reordering them reorders the output. Train
    with times_per_cloud = 1: a cloud that is cut into parts is not seen whole.

    Args:
        tokens: K. heads: of each attention. Others as in `Film`.
    """

    def __init__(self, *, tokens: int = 16, heads: int = 4, **sizes: Any) -> None:
        super().__init__(**sizes)
        width = self.head.in_features
        require(tokens >= 1, "tokens", tokens, "1 or more")
        self.tokens = nn.Parameter(torch.randn(tokens, width))
        for block in cast("list[nn.ModuleDict]", self.blocks):
            block["gather"] = Attention(width, heads)
            block["mix"] = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
            )
            block["read"] = read = Attention(width, heads)
            nn.init.zeros_(read.out.weight)
            nn.init.zeros_(read.out.bias)

    def move(self, x: Tensor, t: Tensor, condition: Tensor | None, keep: Tensor | None) -> Tensor:
        (shift, gain), *modulations = self.modulate(t, condition, keep, x.shape[0])
        h, tokens = self.features(x), self.tokens.expand(x.shape[0], -1, -1)
        for block, (bias, scale, gate) in zip(cast("list[nn.ModuleDict]", self.blocks), modulations, strict=True):
            inner = modulated(h, bias, scale)
            tokens = tokens + block["gather"](F.layer_norm(tokens, tokens.shape[-1:]), inner)
            tokens = tokens + block["mix"](tokens)
            h = h + block["read"](inner, F.layer_norm(tokens, tokens.shape[-1:]))
            h = torch.addcmul(h, gate, block["down"](F.gelu(block["up"](modulated(h, bias, scale)))))
        return self.head(modulated(h, shift, gain))
