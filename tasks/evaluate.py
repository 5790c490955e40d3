"""Stage `evaluate`: how well the model draws held-out clips, in numbers and pictures.

Every number stands beside what it can be compared with: the floor (two fresh samples of the same frame), another frame
that the very same words describe, the mean cloud (points from the whole training set, whatever the text) and, if asked
for, the original recipe trained for a fixed number of steps.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from fm import metrics
from tasks.clouds import artifacts, density, drawing, figures, fitting, generation, reports, scoring, training_set
from tasks.errors import StippleError
from tasks.progress import progress
from tasks.settings import Settings
from tasks.store import files, tables

METRICS, FOLDER = Path("data/metrics.json"), Path("data/evaluation")

FRAMES = 32  # held-out frames that are drawn twice, evenly spaced over all
SET = 64  # that are drawn once, as a set
FEW_STEPS, FEW_STEPS_FRAMES = (1, 2, 4, 8, 16, 32), 12
GALLERY = 7
COMPARED = {
    "chamfer": "chamfer",
    "energy": "energy",
    "own_frame": "retrieval_frame",
    "told_apart": "told_apart",
}
"""Metric → score of the model. They are few, so that DVC's tables of them fit a terminal."""


def run(settings: Settings, root: Path) -> dict[str, Any]:
    """Write `data/metrics.json`, what experiments are compared by, and the folder `data/evaluation`.

    The folder holds all scores, pictures, and a report that shows them.
    """
    params, seed = settings.params.evaluate, settings.params.seed
    data = training_set.load(root)
    model = generation.load(root / artifacts.MODEL)
    held_out, trained = (training_set.rows_of(data, split) for split in (training_set.HELD_OUT, training_set.TRAIN))
    rows = scoring.spread(held_out, FRAMES)
    points = data["num_points"]

    generator = torch.Generator().manual_seed(seed)

    def true(of: Tensor) -> Tensor:
        return density.draw(data["density"], of, points, generator)

    def drawn(network: nn.Module, of: Tensor, steps: int, guidance: float, seed: int = seed) -> Tensor:
        wanted = data["embeddings"][of]
        with progress(f"evaluate, {steps} steps", len(wanted), "drawing") as bar:
            return drawing.draw(
                network, wanted, points, steps=steps, guidance=guidance, seed=seed, on_clouds=bar.advance
            )

    networks: dict[str, tuple[nn.Module, float]] = {"model": (model.network, params.guidance)}
    if params.baseline_steps:
        networks["baseline"] = (baseline(settings, data, trained, params.baseline_steps), 1.0)
    truths = [true(rows), true(rows)]
    twice: dict[str, list[Tensor]] = {"floor": [true(rows), true(rows)]}
    twice["mean_cloud"] = [scoring.mean_clouds(data, truths[0].shape[:2], generator) for _ in truths]
    for name, (network, guidance) in networks.items():
        twice[name] = [drawn(network, rows, params.steps, guidance, seed + number) for number in range(len(truths))]
    clouds, truth = {name: few[0] for name, few in twice.items()}, truths[0]
    whole = scoring.spread(held_out, SET)
    sets = {name: drawn(network, whole, params.steps, guidance) for name, (network, guidance) in networks.items()}
    true_set = true(whole)
    places, others = scoring.of_same_words(data, rows)
    prompts = settings.params.draw.prompts
    typed = generation.embed(prompts, generation.embedder_of(model, root))
    nearest = scoring.nearest_texts(torch.cat([typed, data["embeddings"][held_out]]), data)
    few = slice(None, None, max(1, len(rows) // FEW_STEPS_FRAMES))
    by_steps = {n: drawn(model.network, rows[few], n, params.guidance) for n in FEW_STEPS}

    summaries = [data["summaries"][i] for i in rows]
    clips = [data["clips"][i] for i in rows]
    scores: dict[str, Any] = {
        **scoring.distances(clouds, truth),
        "energy": {name: scoring.rounded(scoring.energy(x, truths).mean()) for name, x in twice.items()},
        "told_apart": {name: scoring.rounded(scoring.told_apart(x, true_set)) for name, x in sets.items()},
        **scoring.retrievals(clouds, truth, summaries, clips),
        "by_steps": {
            name: {str(n): scoring.rounded(distance(x, truth[few]).mean()) for n, x in by_steps.items()}
            for name, distance in (("chamfer", metrics.chamfer), ("sliced_w2", metrics.sliced_w2))
        },
        "cosine": scoring.cosine(data["embeddings"]),
        "held_out": {
            "frames": len(held_out),
            "frames_drawn": len(rows),
            "clips": len({data["clips"][i] for i in held_out}),
            "distinct_summaries": len(set(summaries)),
            "frames_in_set": len(whole),
            "frames_of_same_words": len(places),
        },
        "texts": {
            "held_out": scoring.rounded(sum(cosine for cosine, _ in nearest[len(prompts) :]) / len(held_out)),
            "prompts": dict(zip(prompts, nearest[: len(prompts)], strict=True)),
        },
        "settings": {"steps": params.steps, "guidance": params.guidance, "baseline_steps": params.baseline_steps},
    }
    if len(places):
        same_words = scoring.distances({"same_words": true(others)}, truth[places])
        scores = {
            name: values | same_words.get(name, {}) if isinstance(values, dict) else values
            for name, values in scores.items()
        }
    shown = [int(i) for i in scoring.spread(torch.arange(len(rows)), GALLERY)]
    pictures = read_pictures(root, [data["frame_ids"][rows[i]] for i in shown])
    panels = [(pictures[k], truth[i], clouds["model"][i], summaries[i]) for k, i in enumerate(shown)]
    drawings = {
        "gallery.png": figures.gallery(panels),
        "scores.png": figures.scores(scores),
        "steps.png": figures.steps(scores),
        "cosine.png": figures.cosine(scoring.pair_cosines(data["embeddings"]), scores["cosine"]),
        "training.png": figures.training(read_curve(root)),
    }
    pages = {"report.md": reports.markdown(scores, model.card, drawings), "scores.json": _json(scores)}
    files.write_folder(root / FOLDER, {**drawings, **pages})
    compared = {name: scores[score]["model"] for name, score in COMPARED.items()}
    files.write(root / METRICS, _json(compared))
    return {"frames": len(rows), **compared}


def baseline(settings: Settings, data: dict[str, Any], rows: Tensor, steps: int) -> nn.Module:
    """The original recipe, trained for `steps` steps (not for a time: the same run must give the same bytes)."""
    recipe = settings.params.train.recipe("baseline").model_copy(update={"steps": steps})
    with progress("evaluate, training the baseline", steps, "step") as bar:
        return fitting.fit(
            "baseline", recipe, data, rows, seed=settings.params.seed, on_step=fitting.shown_on(bar)
        ).network


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
    path = root / artifacts.CURVE
    if not path.is_file():
        raise StippleError(f"{path} is missing; run `stipple stage train` first, or `dvc pull`")
    with path.open(newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
