"""Muon, beside torch's own and beside the singular value decomposition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fm._muon import Muon, orthogonalized


def steps(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], gradients: list[list[Tensor]]) -> None:
    for step in gradients:
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_takes_the_steps_of_torch_up_to_the_rounding_of_bf16(weight_decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in [(24, 24), (24, 24), (24, 40), (40, 24)]]
    gradients = [[torch.randn(w.shape, generator=generator) for w in start] for _ in range(4)]
    ours, theirs = ([nn.Parameter(w.clone()) for w in start] for _ in range(2))
    steps(Muon(ours, lr=0.02, weight_decay=weight_decay), ours, gradients)
    rms = {"adjust_lr_fn": "match_rms_adamw", "weight_decay": weight_decay}
    steps(torch.optim.Muon(theirs, lr=0.02, **rms), theirs, gradients)
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.03 * (b - before).norm()


def test_an_update_keeps_the_singular_vectors_and_levels_the_singular_values() -> None:
    matrices = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ orthogonalized(matrices) @ v.mT
    levels = inside.diagonal(dim1=1, dim2=2)
    assert levels.min() > 0.6
    assert levels.max() < 1.3
    assert (inside - torch.diag_embed(levels)).abs().max() < 1e-4


def test_a_weight_without_a_gradient_stays_as_it_is() -> None:
    still, moved = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    moved.grad = torch.eye(3)
    Muon([still, moved]).step()
    assert still.equal(torch.ones(3, 3))
    assert not moved.equal(torch.ones(3, 3))
