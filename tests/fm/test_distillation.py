"""Reflow and strides: the pairs are the teacher's, and fewer steps then go as far."""

import copy

import pytest
import torch
from torch import nn

from fm import distillation, networks, sampling, training, trajectories


class Swirl(nn.Module):
    """A known teacher: turns by half a circle while it moves away from the origin, faster at the end."""

    dim = 2

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x, t, condition=None, keep=None):
        turned = torch.stack([-x[..., 1], x[..., 0]], dim=-1)
        return torch.pi * turned + t[:, None, None] * x


CONDITIONS = torch.eye(2).repeat(20, 1)


def test_trajectories_are_the_strides_of_the_teachers_way():
    ways = distillation.teacher_trajectories(
        Swirl(), CONDITIONS, 16, strides=4, steps=40, generator=torch.Generator().manual_seed(0)
    )
    assert ways.shape == (5, 40, 16, 2)
    again = sampling.sample(Swirl(), CONDITIONS, 16, steps=40, x0=ways[0], trajectory=True)
    assert torch.allclose(ways, again.trajectory[::10], atol=1e-5)
    with pytest.raises(ValueError, match="steps is 50, but must be a multiple of the 4 strides"):
        distillation.teacher_trajectories(Swirl(), CONDITIONS, 16, strides=4)


@pytest.mark.parametrize("strides", [1, 4])
def test_a_stride_batch_holds_the_step_that_euler_must_take(strides):
    ways = distillation.teacher_trajectories(Swirl(), CONDITIONS, 16, strides=strides, steps=40)
    batch = distillation.stride_batches(ways, CONDITIONS, clouds=8, points=4)(torch.Generator().manual_seed(1))
    here = batch.x0 + batch.t[:, None, None] * (batch.x1 - batch.x0)
    there = here + (batch.x1 - batch.x0) / strides
    index = (batch.t * strides).round().long()
    for i in range(8):
        starts, ends = ways[index[i]].reshape(-1, 2), ways[index[i] + 1].reshape(-1, 2)
        nearest = torch.cdist(here[i], starts).argmin(1)
        assert torch.allclose(here[i], starts[nearest], atol=1e-4) and torch.allclose(
            there[i], ends[nearest], atol=1e-4
        )


def test_a_one_step_student_goes_where_its_teacher_goes():
    ways = distillation.teacher_trajectories(
        Swirl(), CONDITIONS, 64, steps=40, generator=torch.Generator().manual_seed(0)
    )
    config = training.TrainConfig(steps=150, learning_rate=5e-3, warmup=10, times_per_cloud=1, condition_dropout=0.0)
    sizes = {"name": "film", "condition_dim": 2, "width": 32, "blocks": 2, "frequencies": 8, "bandwidth": 0.5}
    draw = distillation.stride_batches(ways, CONDITIONS, clouds=8, points=64)
    student = training.train(networks.build(sizes), draw, config).network
    noise = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(2))
    wanted = sampling.sample(Swirl(), torch.eye(2), 200, steps=40, x0=noise).x
    error = float((sampling.sample(student, torch.eye(2), 200, steps=1, x0=noise).x - wanted).norm(dim=-1).mean())
    naive = float((sampling.sample(Swirl(), torch.eye(2), 200, steps=1, x0=noise).x - wanted).norm(dim=-1).mean())
    assert error < 0.1 * naive


def test_reflow_straightens():
    ways = distillation.teacher_trajectories(
        Swirl(), CONDITIONS, 64, steps=40, generator=torch.Generator().manual_seed(0)
    )
    config = training.TrainConfig(steps=150, learning_rate=5e-3, warmup=10, condition_dropout=0.0)
    sizes = {"name": "film", "condition_dim": 2, "width": 32, "blocks": 2, "frequencies": 8, "bandwidth": 0.5}
    draw = distillation.reflow_batches(ways, CONDITIONS, clouds=8, points=64)
    student = training.train(networks.build(sizes), draw, config).network
    noise = torch.randn(2, 100, 2, generator=torch.Generator().manual_seed(2))
    bent, straight = (
        sampling.sample(copy.deepcopy(n), torch.eye(2), 100, steps=20, x0=noise, trajectory=True)
        for n in (Swirl(), student)
    )
    assert trajectories.straightness(straight.trajectory, straight.times) < 0.3 * trajectories.straightness(
        bent.trajectory, bent.times
    )
