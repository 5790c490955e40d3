"""How near drawn clouds come to true ones, in numbers, and the clouds that are compared."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fm import metrics
from tasks.clouds import training_set

EMD_FRAMES, EMD_POINTS = 16, 512  # the exact assignment grows with the cube of the points

Clouds = dict[str, Tensor]
"""who drew them → [F, N, 2]"""


def mean_clouds(data: dict[str, Any], shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Points drawn from all training frames, whatever the text: [*shape, 2]."""
    rows, points = training_set.rows_of(data, training_set.TRAIN), data["num_points"]
    chosen = torch.randint(len(rows) * points, shape, generator=generator)
    return data["point_clouds"][rows[chosen // points], chosen % points]


def spread(rows: Tensor, most: int) -> Tensor:
    """At most `most` of `rows`, evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most).round().long()]


def distances(clouds: Clouds, truth: Tensor) -> dict[str, dict[str, float]]:
    """Mean distance of each contender's clouds to the true ones [F, N, 2]."""
    few = spread(torch.arange(len(truth)), EMD_FRAMES)
    scores = {
        "chamfer": {name: metrics.chamfer(x, truth).mean() for name, x in clouds.items()},
        "sliced_w2": {name: metrics.sliced_w2(x, truth).mean() for name, x in clouds.items()},
        "emd": {name: metrics.emd(x[few, :EMD_POINTS], truth[few, :EMD_POINTS]).mean() for name, x in clouds.items()},
    }
    return {score: {name: rounded(value) for name, value in values.items()} for score, values in scores.items()}


def retrievals(clouds: Clouds, truth: Tensor, summaries: list[str], clips: list[str]) -> dict[str, dict[str, float]]:
    """Share of clouds whose nearest true cloud (by sliced W2) is of their own frame, text or clip, and mere chance.

    Frames with the very same summary cannot be told apart by any text-conditional model, hence the second.
    """
    nearest = {name: metrics.pairwise_sliced_w2(x, truth).argmin(dim=1) for name, x in clouds.items()}
    scores = {}
    for kind, labels in (("frame", range(len(truth))), ("summary", summaries), ("clip", clips)):
        same = torch.tensor([[a == b for b in labels] for a in labels]).double()
        scores[f"retrieval_{kind}"] = {
            **{name: rounded(same.gather(1, index.unsqueeze(1)).mean()) for name, index in nearest.items()},
            "chance": rounded(same.mean()),
        }
    return scores


def pair_cosines(embeddings: Tensor) -> Tensor:
    """Cosine similarity of every two of at most 2000 frames: [pairs]."""
    some = spread(embeddings, 2000)
    similarity = some @ some.T
    return similarity[tuple(torch.triu_indices(len(some), len(some), offset=1))]


def cosine(embeddings: Tensor) -> dict[str, float]:
    """How alike the conditions are; a set that is too much alike is the first reason for a model to fail."""
    pairs = pair_cosines(embeddings)
    return {name: rounded(getattr(pairs, name)()) for name in ("min", "mean", "std", "max")}


def rounded(value: Tensor | float) -> float:
    return round(float(value), 4)
