"""One prompt, many faces: the set-aware network beside the pointwise one, where frames of one direction share a prompt.

    python -m benchmarks.sets

The condition says front, left or right and nothing else, so a prompt means more than a hundred different clouds. Both
networks train on the same batches for the same number of steps; then each draws as many clouds of a prompt as it is
compared with. 1-NNA (50 % is ideal), COV and MMD by the Chamfer distance, mean over the prompts. Reads
data/train_data.pt and demo/truth.json. Writes benchmarks/results/sets.json and sets.png.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import harness
from benchmarks.harness import ROOT
from fm import metrics, networks, set_metrics, training
from tasks.clouds import density, drawing, figures, scoring, training_set

PROMPTS = ("front", "left", "right")
NETWORKS = {"film": "pointwise", "set-film": "set-aware"}
POINTS, COMPARED, EULER_STEPS, SHOWN = 256, 48, 20, 7
CONFIG = training.TrainConfig(
    steps=1500, learning_rate=2e-3, hidden_learning_rate=0.01, ema=0.99, times_per_cloud=1, condition_dropout=0.0
)


def distances(x: Tensor, y: Tensor) -> Tensor:
    return metrics.pairwise_chamfer(x, y, squared=True)


def compared(generated: Tensor, reference: Tensor) -> dict[str, float]:
    across = distances(generated, reference)
    return {
        "1-NNA": set_metrics.nearest_neighbour_accuracy(
            distances(generated, generated), across, distances(reference, reference)
        ),
        "COV": set_metrics.coverage(across),
        "MMD": set_metrics.minimum_matching_distance(across),
    }


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in rows[0]}


def main() -> None:
    data, truth = training_set.load(ROOT), json.loads((ROOT / "demo" / "truth.json").read_text())
    facing = [truth[frame_id]["orientation"] for frame_id in data["frame_ids"]]
    members = [torch.tensor([i for i, f in enumerate(facing) if f == prompt]) for prompt in PROMPTS]
    rows, labels = torch.cat(members), torch.cat([torch.full((len(m),), k) for k, m in enumerate(members)])
    identity = torch.eye(len(PROMPTS))

    def draw_batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(rows), (16,), generator=generator)
        return density.draw(data["density"], rows[chosen], POINTS, generator), identity[labels[chosen]]

    generator = torch.Generator().manual_seed(1)
    references, again = (
        [density.draw(data["density"], scoring.spread(m[half::2], COMPARED), POINTS, generator) for m in members]
        for half in (0, 1)
    )
    scores = {"other frames": mean([compared(a, r) for a, r in zip(again, references, strict=True)])}
    shown = {"frames": references[0][:: COMPARED // SHOWN][:SHOWN]}
    for name, kind in NETWORKS.items():
        network = networks.build({"name": name, "condition_dim": len(PROMPTS)})
        with tqdm(total=CONFIG.steps, desc=kind, unit="step") as bar:
            trained, _, cpu = harness.timed(
                training.train, network, draw_batch, CONFIG, on_step=lambda _, bar=bar: bar.update()
            )
        network = trained.network
        clouds = [
            drawing.draw(network, identity[k].expand(len(r), -1), POINTS, steps=EULER_STEPS, guidance=1.0, seed=k)
            for k, r in enumerate(references)
        ]
        scores[kind] = mean([compared(g, r) for g, r in zip(clouds, references, strict=True)])
        scores[kind]["training_cpu_s"] = round(cpu, 1)
        shown[kind] = clouds[0][:SHOWN]
        print(kind, scores[kind], flush=True)
    result = {
        "scores": scores,
        "training_steps": CONFIG.steps,
        "points": POINTS,
        "clouds_of_a_prompt": {prompt: len(r) for prompt, r in zip(PROMPTS, references, strict=True)},
    }
    harness.write("sets", result, picture=figures.cloud_rows(shown))


if __name__ == "__main__":
    main()
