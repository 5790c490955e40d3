"""Flow matching for conditional point clouds: torch in, torch out."""

from fm.guidance import GUIDANCES, guided
from fm.metrics import chamfer, emd, pairwise_chamfer, pairwise_sliced_w2, retrieval, sinkhorn_emd, sliced_w2
from fm.networks import NETWORKS, build
from fm.solvers import METHODS, dopri5, integrate, sample
from fm.training import NotFinite, Progress, TrainConfig, TrainResult, train

__all__ = [
    "GUIDANCES",
    "METHODS",
    "NETWORKS",
    "NotFinite",
    "Progress",
    "TrainConfig",
    "TrainResult",
    "build",
    "chamfer",
    "dopri5",
    "emd",
    "guided",
    "integrate",
    "pairwise_chamfer",
    "pairwise_sliced_w2",
    "retrieval",
    "sample",
    "sinkhorn_emd",
    "sliced_w2",
    "train",
]
