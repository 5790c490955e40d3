"""How near drawn clouds come to true ones, in numbers, and the clouds that are compared."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from fm import metrics, set_metrics
from tasks.clouds import training_set

EMD_FRAMES, EMD_POINTS = 16, 512  # the exact assignment grows with the cube of the points
SET_POINTS = 512  # of each cloud, where every two are compared

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


def energy(drawn: Sequence[Tensor], truths: Sequence[Tensor]) -> Tensor:
    """The energy score of drawings [F, N, 2] of each text, 2 or more times, beside as many samples of the truth: [F].

    It is the Chamfer distance to the truth less half that of two drawings (Gneiting and Raftery, "Strictly Proper
    Scoring Rules, Prediction, and Estimation", 2007, eq. 21). It is best for drawings as varied as the truth is, given
    the text; the average of all faces that a text fits is near to each of them, and loses by it.
    """
    to_truth = torch.stack([metrics.chamfer(x, truth) for x, truth in zip(drawn, truths, strict=True)])
    apart = torch.stack([metrics.chamfer(one, other) for one, other in combinations(drawn, 2)])
    return to_truth.mean(0) - apart.mean(0) / 2


def told_apart(drawn: Tensor, truth: Tensor) -> float:
    """1-NNA of the sets `drawn` and `truth` [F, N, 2] each: 1/2 if nobody can tell which is which, 1 if anybody can.

    A blur is near to every face, and is found out all the same: its nearest neighbours are other blurs.
    """
    few = [cloud[:, :SET_POINTS] for cloud in (drawn, truth)]
    tables = [metrics.pairwise_chamfer(few[a], few[b]) for a, b in ((0, 0), (0, 1), (1, 1))]
    return set_metrics.nearest_neighbour_accuracy(*tables)


def of_same_words(data: dict[str, Any], rows: Tensor) -> tuple[Tensor, Tensor]:
    """Which of `rows` [F] have another frame with the very same summary: their places in `rows`, and those frames."""
    by_text: dict[str, list[int]] = {}
    for row, text in enumerate(data["summaries"]):
        by_text.setdefault(text, []).append(row)
    others = [[row for row in by_text[data["summaries"][own]] if row != own] for own in rows.tolist()]
    found = [(place, rows_[len(rows_) // 2]) for place, rows_ in enumerate(others) if rows_]
    places, frames = torch.tensor(found, dtype=torch.long).reshape(-1, 2).unbind(1)
    return places, frames


def nearest_texts(conditions: Tensor, data: dict[str, Any]) -> list[tuple[float, str]]:
    """For each condition [F, C]: the nearest text of the training, summary or wording, by cosine similarity."""
    rows = training_set.rows_of(data, training_set.TRAIN).tolist()
    ends = torch.tensor([0, *map(len, data["wordings"])]).cumsum(0).tolist()
    own = torch.tensor([i for row in rows for i in range(ends[row], ends[row + 1])], dtype=torch.long)
    texts = [data["summaries"][row] for row in rows] + [text for row in rows for text in data["wordings"][row]]
    known = torch.cat([data["embeddings"][rows], data["wording_embeddings"][own]])
    cosine, nearest = (conditions @ known.T).max(1)
    return [(rounded(value), texts[i]) for value, i in zip(cosine, nearest.tolist(), strict=True)]


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
