"""Stage `evaluate`: how well the model draws held-out clips, in numbers and pictures.

Every number stands beside what it can be compared with: the floor (two fresh samples of the same frame), the original
recipe trained for a fixed number of steps, and the mean cloud (points from the whole training set, whatever the text).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from fm import metrics, sampling
from tasks import dataset, density, files, generation, plots, reports, tables, training
from tasks.errors import StippleError
from tasks.rows import Previous, no_previous
from tasks.settings import Settings

VERSION = 1
METRICS, FOLDER = Path("data/metrics.json"), Path("data/evaluation")

FRAMES = 32  # held-out frames that are drawn, evenly spaced over all
EMD_FRAMES, EMD_POINTS = 16, 512  # the exact assignment grows with the cube of the points
FEW_STEPS, FEW_STEPS_FRAMES = (1, 2, 4, 8, 16, 32), 12
GALLERY = 7
CLOUDS = 8  # drawn at once

Clouds = dict[str, Tensor]
"""who drew them → [F, N, 2]"""


def run(settings: Settings, root: Path, *, previous: Previous = no_previous) -> dict[str, Any]:
    """Write `data/metrics.json` and the folder `data/evaluation`: pictures and a report that shows them."""
    params, seed = settings.params.evaluate, settings.params.seed
    data = dataset.load(root)
    model = generation.load(root / generation.MODEL)
    held_out, trained = (dataset.rows_of(data, split) for split in (dataset.HELD_OUT, dataset.TRAIN))
    rows = spread(held_out, FRAMES)
    conditions, points = data["embeddings"][rows], data["num_points"]

    generator = torch.Generator().manual_seed(seed)
    truth, again = (density.draw(data["density"], rows, points, generator) for _ in range(2))
    mean_cloud = mean_clouds(data, truth.shape[:2], generator)

    def drawn(network: nn.Module, steps: int, guidance: float, few: slice = slice(None)) -> Tensor:
        return sampled(network, conditions[few], points, steps=steps, guidance=guidance, seed=seed)

    clouds = {"model": drawn(model.network, params.steps, params.guidance), "floor": again, "mean_cloud": mean_cloud}
    if params.baseline_steps:
        clouds["baseline"] = drawn(baseline(settings, data, trained, params.baseline_steps), params.steps, 1.0)
    few = slice(None, None, max(1, len(rows) // FEW_STEPS_FRAMES))
    by_steps = {n: drawn(model.network, n, params.guidance, few) for n in FEW_STEPS}

    summaries = [data["summaries"][i] for i in rows]
    clips = [dataset.clip_of(data["frame_ids"][i]) for i in rows]
    scores = {
        **distances(clouds, truth),
        **retrievals(clouds, truth, summaries, clips),
        "by_steps": {
            name: {str(n): _round(distance(x, truth[few]).mean()) for n, x in by_steps.items()}
            for name, distance in (("chamfer", metrics.chamfer), ("sliced_w2", metrics.sliced_w2))
        },
        "cosine": cosine(data["embeddings"]),
        "held_out": {
            "frames": len(held_out),
            "frames_drawn": len(rows),
            "clips": len(set(clips)),
            "distinct_summaries": len(set(summaries)),
        },
        "settings": {"steps": params.steps, "guidance": params.guidance, "baseline_steps": params.baseline_steps},
    }
    shown = [int(i) for i in spread(torch.arange(len(rows)), GALLERY)]
    pictures = read_pictures(root, [data["frame_ids"][rows[i]] for i in shown])
    panels = [(pictures[k], truth[i], clouds["model"][i], summaries[i]) for k, i in enumerate(shown)]
    figures = {
        "gallery.png": plots.gallery(panels),
        "scores.png": plots.scores(scores),
        "steps.png": plots.steps(scores),
        "cosine.png": plots.cosine(pair_cosines(data["embeddings"]), scores["cosine"]),
        "training.png": plots.training(read_curve(root)),
    }
    report = reports.markdown(scores, model.card, figures)
    files.write_folder(root / FOLDER, {**figures, "report.md": report})
    files.write(root / METRICS, json.dumps(scores, indent=2) + "\n")
    return {
        "frames": len(rows),
        "chamfer": scores["chamfer"]["model"],
        "sliced_w2": scores["sliced_w2"]["model"],
        "retrieval": scores["retrieval_frame"]["model"],
    }


def baseline(settings: Settings, data: dict[str, Any], rows: Tensor, steps: int) -> nn.Module:
    """The original recipe, trained for `steps` steps (not for a time: the same run must give the same bytes)."""
    recipe = settings.params.train.recipe("baseline").model_copy(update={"steps": steps})
    with tqdm(total=steps, desc="evaluate: training the baseline", unit="step") as bar:
        return training.fit(
            "baseline", recipe, data, rows, seed=settings.params.seed, on_step=training.shown_on(bar)
        ).network


def sampled(network: nn.Module, conditions: Tensor, points: int, *, steps: int, guidance: float, seed: int) -> Tensor:
    """A cloud for each condition [F, C], each from noise of its own: [F, points, 2]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(conditions), points, 2, generator=generator)
    parts = zip(conditions.split(CLOUDS), noise.split(CLOUDS), strict=True)
    return torch.cat(
        [sampling.sample(network, c, points, steps=steps, guidance=guidance, x0=x0).x.cpu() for c, x0 in parts]
    )


def mean_clouds(data: dict[str, Any], shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Points drawn from all training frames, whatever the text: [*shape, 2]."""
    rows, points = dataset.rows_of(data, dataset.TRAIN), data["num_points"]
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
    return {score: {name: _round(value) for name, value in values.items()} for score, values in scores.items()}


def retrievals(clouds: Clouds, truth: Tensor, summaries: list[str], clips: list[str]) -> dict[str, dict[str, float]]:
    """Share of clouds whose nearest true cloud (by sliced W2) is of their own frame, text or clip, and mere chance.

    Frames with the very same summary cannot be told apart by any text-conditional model, hence the second.
    """
    nearest = {name: metrics.pairwise_sliced_w2(x, truth).argmin(dim=1) for name, x in clouds.items()}
    scores = {}
    for kind, labels in (("frame", range(len(truth))), ("summary", summaries), ("clip", clips)):
        same = torch.tensor([[a == b for b in labels] for a in labels]).double()
        scores[f"retrieval_{kind}"] = {
            **{name: _round(same.gather(1, index.unsqueeze(1)).mean()) for name, index in nearest.items()},
            "chance": _round(same.mean()),
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
    return {name: _round(getattr(pairs, name)()) for name in ("min", "mean", "std", "max")}


def read_pictures(root: Path, frame_ids: list[str]) -> list[Image.Image]:
    """The frames themselves, in the order of `frame_ids`."""
    wanted, found = set(frame_ids), {}
    for row in tables.read(root / "data" / "frames.parquet", ["frame_id", "image"]):
        if row["frame_id"] in wanted:
            found[row["frame_id"]] = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
            if len(found) == len(wanted):
                return [found[frame_id] for frame_id in frame_ids]
    lacking = sorted(wanted - set(found))[0]
    raise StippleError(
        f"data/frames.parquet lacks frame {lacking!r} of data/train_data.pt; run `stipple stage dataset`"
    )


def read_curve(root: Path) -> list[tuple[int, float]]:
    """Step and loss of the training curve."""
    path = root / training.CURVE
    if not path.is_file():
        raise StippleError(f"{path} is missing; run `stipple stage train` first, or `dvc pull`")
    with path.open(newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def _round(value: Tensor | float) -> float:
    return round(float(value), 4)
