"""Fewer steps from a trained network: reflow straightens its paths, a student learns to take them in k strides.

Both are the training loop of `fm.training` on pairs that the teacher made. Start from a copy of the teacher, which is
near the answer already:

    ends = teacher_trajectories(teacher, conditions, 1024)
    training.train(copy.deepcopy(teacher), reflow_batches(ends, conditions), config)
"""

import torch
from torch import Tensor, nn

from fm import sampling, training
from fm._checks import require


def teacher_trajectories(
    teacher: nn.Module,
    conditions: Tensor | None,
    num_points: int,
    *,
    strides: int = 1,
    steps: int = 50,
    method: str = "euler",
    guidance: float = 1.0,
    generator: torch.Generator | None = None,
    batch: int = 64,
) -> Tensor:
    """The teacher's own trajectories seen at t = 0, 1/k, …, 1 for k strides: [k + 1, M, N, D].

    Args:
        conditions: [M, C], a cloud for each row; repeat rows for more noise of the same condition. None: one cloud.
        steps: the teacher's, a multiple of `strides`. guidance: what the student is to have built in.
        batch: clouds followed at a time.
    """
    require(strides >= 1, "strides", strides, "1 or more")
    require(steps % strides == 0, "steps", steps, f"a multiple of the {strides} strides")
    parts = []
    for rows in [None] if conditions is None else conditions.split(batch):
        solution = sampling.sample(
            teacher, rows, num_points,
            steps=steps, method=method, guidance=guidance, generator=generator, trajectory=True,
        )  # fmt: skip
        assert solution.trajectory is not None
        parts.append(solution.trajectory[:: steps // strides].cpu())
    return torch.cat(parts, dim=1)


def reflow_batches(
    trajectory: Tensor, conditions: Tensor | None, *, clouds: int = 16, points: int = 256
) -> training.DrawBatch:
    """Batches of the teacher's pairs (x0, x1) for a second rectified flow (Liu et al., arXiv 2209.03003, algorithm 1).

    Args:
        trajectory: [S + 1, M, N, D], of which the two ends count. conditions: [M, C].
        clouds, points: of a batch; the points are drawn anew from each cloud's N.
    """

    def draw(generator: torch.Generator) -> training.Batch:
        cloud, point = _choose(trajectory, clouds, points, generator)
        x0, x1 = (trajectory[end, cloud[:, None], point] for end in (0, -1))
        return training.Batch(x1, None if conditions is None else conditions[cloud], x0)

    return draw


def stride_batches(
    trajectory: Tensor, conditions: Tensor | None, *, clouds: int = 16, points: int = 256
) -> training.DrawBatch:
    """Batches for a student whose k Euler steps go where `teacher_trajectories` [k + 1, M, N, D] went.

    A stride from X_i to X_{i+1} is a straight line, prolonged to t = 0 and 1, and trained at t = i/k alone, where its
    velocity k (X_{i+1} - X_i) is what Euler needs. With one stride this is the one-step distillation of rectified flow
    (Liu et al., arXiv 2209.03003, section 3.2). Train with path `linear()`, and sample with k steps of Euler.
    """
    strides = len(trajectory) - 1

    def draw(generator: torch.Generator) -> training.Batch:
        cloud, point = _choose(trajectory, clouds, points, generator)
        i = torch.randint(strides, (clouds,), generator=generator)
        here, there = (trajectory[i + end, cloud][torch.arange(clouds)[:, None], point] for end in (0, 1))
        t = i.to(here) / strides
        velocity = strides * (there - here)
        x0 = here - t[:, None, None] * velocity
        return training.Batch(x0 + velocity, None if conditions is None else conditions[cloud], x0, t)

    return draw


def _choose(trajectory: Tensor, clouds: int, points: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random clouds [B] and, in each, random points [B, n]."""
    require(trajectory.ndim == 4 and len(trajectory) >= 2, "the shape of trajectory", tuple(trajectory.shape),
            "[k + 1, M, N, D]")  # fmt: skip
    cloud = torch.randint(trajectory.shape[1], (clouds,), generator=generator)
    return cloud, torch.randint(trajectory.shape[2], (clouds, points), generator=generator)
