"""Velocity networks by name, and building one from its configuration.

x [B, N, D], t [B] in [0, 1], condition [B, C] → velocity [B, N, D]. The points of a cloud may come in any number and
order. Without a condition, or where `keep` is False, the network answers for the unconditional distribution, which
classifier-free guidance needs. Vectors [B, D] are clouds of one point. Labels [B] stand for their one-hot rows, and the
first layer is their embedding.
"""

from collections.abc import Callable
from typing import Any

import torch

from fm._checks import require_one_of
from fm._latent import Latent
from fm._pointwise import Conditioned, Film, PointMLP
from fm._set_film import SetFilm

__all__ = ["NETWORKS", "Conditioned", "Film", "Latent", "Network", "PointMLP", "SetFilm", "build"]


def _baseline(**sizes: Any) -> PointMLP:
    return PointMLP(**{"layers": 6, "width": 512, **sizes})


def _baseline_small(**sizes: Any) -> PointMLP:
    return PointMLP(**{"layers": 4, "width": 256, **sizes})


Network = Conditioned | Latent

NETWORKS: dict[str, Callable[..., Conditioned]] = {
    "film": Film,
    "set-film": SetFilm,
    "baseline": _baseline,
    "baseline-small": _baseline_small,
}


def build(config: dict[str, Any]) -> Network:
    """A network from its configuration: {"name": a key of `NETWORKS` or "latent", "seed": 0, and its sizes}.

    The seed decides the initial weights; the process's random state is left as it was.
    """
    sizes = dict(config)
    name, seed = sizes.pop("name", None), sizes.pop("seed", 0)
    known: dict[str, Callable[..., Network]] = {**NETWORKS, "latent": Latent}
    require_one_of('config["name"]', name, known)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return known[name](**sizes)
        except TypeError as error:
            raise ValueError(f"config of network {name!r} is {sizes!r}: {error}") from None
