"""Flow matching for conditional point clouds: torch in, torch out.

One path leads to each public name, `fm.<module>.<name>`; a module is loaded when it is first used.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fm import autoencoder as autoencoder
    from fm import conversions as conversions
    from fm import couplings as couplings
    from fm import distillation as distillation
    from fm import grids as grids
    from fm import latent as latent
    from fm import likelihood as likelihood
    from fm import metrics as metrics
    from fm import networks as networks
    from fm import paths as paths
    from fm import plots as plots
    from fm import sampling as sampling
    from fm import set_metrics as set_metrics
    from fm import solvers as solvers
    from fm import times as times
    from fm import toys as toys
    from fm import training as training
    from fm import trajectories as trajectories
else:

    def __getattr__(name: str) -> ModuleType:
        if name in __dir__():
            return importlib.import_module(f"fm.{name}")
        raise AttributeError(f"module 'fm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
