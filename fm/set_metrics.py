"""How well a set of generated clouds stands for a set of reference clouds, from tables of distances between clouds.

Take the tables from `fm.metrics` (`pairwise_chamfer`, `pairwise_emd`, …). Definitions: Yang et al., "PointFlow", arXiv
1906.12320, section 4.
"""

import torch
from torch import Tensor

from fm._checks import require


def minimum_matching_distance(generated_to_reference: Tensor) -> float:
    """MMD: the mean, over references, of the distance to the nearest generated cloud. Table [G, R]; less is better."""
    _table("generated_to_reference", generated_to_reference)
    return float(generated_to_reference.min(dim=0).values.mean())


def coverage(generated_to_reference: Tensor) -> float:
    """COV: the share of references that are the nearest one of some generated cloud. Table [G, R]; more is better."""
    _table("generated_to_reference", generated_to_reference)
    return len(generated_to_reference.argmin(dim=1).unique()) / generated_to_reference.shape[1]


def nearest_neighbour_accuracy(generated: Tensor, generated_to_reference: Tensor, reference: Tensor) -> float:
    """1-NNA: how often a cloud's nearest other one is of its own kind. Tables [G, G], [G, R], [R, R].

    1/2 where the two sets cannot be told apart; towards 1 where they can, or where generated clouds are too alike.
    """
    for name, table in (("generated", generated), ("reference", reference)):
        _table(name, table)
        require(table.shape[0] == table.shape[1], f"the shape of {name}", tuple(table.shape), "square")
    wanted = (len(generated), len(reference))
    shape = tuple(generated_to_reference.shape)
    require(shape == wanted, "the shape of generated_to_reference", shape, f"{wanted}")
    require(sum(wanted) > 2, "the number of clouds", sum(wanted), "3 or more")
    whole = torch.cat(
        [torch.cat([generated, generated_to_reference], 1), torch.cat([generated_to_reference.T, reference], 1)]
    )
    kind = torch.arange(len(whole), device=whole.device) < len(generated)
    nearest = whole.clone().fill_diagonal_(float("inf")).argmin(dim=1)
    return int((kind[nearest] == kind).sum()) / len(whole)


def _table(name: str, table: Tensor) -> None:
    require(table.ndim == 2 and table.numel() > 0, f"the shape of {name}", tuple(table.shape), "two axes, none empty")
