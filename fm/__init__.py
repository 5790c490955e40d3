"""Flow matching for conditional point clouds: torch in, torch out.

What most programs need is here by name; the modules with the rest, `fm.paths`, `fm.plots` and so on, are loaded when
they are first used.
"""

import importlib
from types import ModuleType

from fm.metrics import chamfer, emd, pairwise_chamfer, pairwise_sliced_w2, retrieval, sinkhorn_emd, sliced_w2
from fm.networks import NETWORKS, build
from fm.sampling import GUIDANCES, guided, sample
from fm.solvers import METHODS, dopri5, integrate
from fm.training import NotFinite, Progress, TrainConfig, TrainResult, train

MODULES = (
    "autoencoder", "conversions", "couplings", "distillation", "likelihood", "metrics", "networks", "paths",
    "plots", "sampling", "set_metrics", "solvers", "times", "toys", "training", "trajectories",
)  # fmt: skip

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


def __getattr__(name: str) -> ModuleType:
    if name in MODULES:
        return importlib.import_module(f"fm.{name}")
    raise AttributeError(f"module 'fm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *MODULES])
