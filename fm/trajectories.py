"""How straight a flow's trajectories are, from the states [S + 1, B, …, D] at times [S + 1] that a solver visited.

The last axis is one sample's vector; the velocity of a step is taken as constant, as Euler takes it.
"""

import torch
from torch import Tensor

from fm._checks import require


def path_energy(trajectory: Tensor, times: Tensor) -> float:
    """E ∫ |v|² dt (Tong et al., arXiv 2302.00482, section 5.1); at least the squared W2 between the two ends."""
    velocity, dt = _velocity(trajectory, times)
    return float((velocity.square().sum(-1) * dt).sum(0).mean())


def normalized_path_energy(trajectory: Tensor, times: Tensor, w2: float) -> float:
    """|path energy - W2²| / W2², 0 for optimal transport; w2 is the exact distance between source and data."""
    require(w2 > 0, "w2", w2, "positive")
    return abs(path_energy(trajectory, times) - w2**2) / w2**2


def straightness(trajectory: Tensor, times: Tensor) -> float:
    """E ∫ |(x1 - x0) - v|² dt, 0 for straight lines at constant speed (Liu et al., arXiv 2209.03003, eq. 8)."""
    velocity, dt = _velocity(trajectory, times)
    whole = (trajectory[-1] - trajectory[0]) / dt.sum(0)
    return float(((velocity - whole).square().sum(-1) * dt).sum(0).mean())


def curvature(trajectory: Tensor, times: Tensor) -> float:
    """The mean angle, in radians, through which a trajectory turns on its way."""
    velocity, _ = _velocity(trajectory, times)
    direction = torch.nn.functional.normalize(velocity, dim=-1)
    chord = (direction[1:] - direction[:-1]).norm(dim=-1)
    return float((2 * (chord / 2).clamp(max=1).asin()).sum(0).mean())


def _velocity(trajectory: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """The steps' velocities [S, B, …, D] and lengths in time [S, 1, …]."""
    require(trajectory.ndim >= 3 and len(trajectory) >= 2, "the shape of trajectory", tuple(trajectory.shape),
            "[S + 1, B, …, D] with S ≥ 1")  # fmt: skip
    require(times.shape == trajectory.shape[:1], "the shape of times", tuple(times.shape), f"[{len(trajectory)}]")
    dt = times.diff().to(trajectory).reshape(-1, *[1] * (trajectory.ndim - 2))
    return trajectory.diff(dim=0) / dt.unsqueeze(-1), dt.abs()
