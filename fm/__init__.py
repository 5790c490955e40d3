"""Flow matching for conditional point clouds: torch in, torch out."""

from fm.metrics import chamfer, emd, pairwise_chamfer, pairwise_sliced_w2, retrieval, sliced_w2
from fm.networks import NETWORKS, build
from fm.solvers import METHODS, guided, integrate, sample
from fm.training import NotFinite, Progress, TrainConfig, TrainResult, train

__all__ = [
    "METHODS",
    "NETWORKS",
    "NotFinite",
    "Progress",
    "TrainConfig",
    "TrainResult",
    "build",
    "chamfer",
    "emd",
    "guided",
    "integrate",
    "pairwise_chamfer",
    "pairwise_sliced_w2",
    "retrieval",
    "sample",
    "sliced_w2",
    "train",
]
