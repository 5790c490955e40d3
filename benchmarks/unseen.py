"""Combinations that were never shown: some pairs of orientation and expression are left out of training, then drawn.

    python -m benchmarks.unseen

Trains the recipe `film` twice, with all frames and without those of `LEFT_OUT`, and draws the summaries of the frames
that were left out. A drawn cloud counts as right if the true cloud nearest to it (sliced W2, among all frames that show
one pair clearly) shows the same pair. Reads data/train_data.pt and demo/truth.json, which the pipeline itself never
reads. Writes benchmarks/results/unseen.json and unseen.png.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import ROOT
from fm import metrics
from tasks import settings
from tasks.clouds import density, drawing, figures, fitting, scoring, training_set
from tasks.progress import progress

LEFT_OUT = {("left", "laughing"), ("right", "surprised"), ("front", "sad"), ("left", "angry")}
POINTS, EULER_STEPS, GUIDANCE, SHOWN = 1024, 20, 2.0, 8
ROWS = {"truth": "the frame", "with": "trained with\nall pairs", "without": "trained without\nthis pair"}

Pair = tuple[str, str]
"""orientation and expression"""


def shown(truth: dict[str, Any], frame_id: str) -> tuple[Pair, bool]:
    """The pair a frame shows, and whether it shows both clearly."""
    facts = truth[frame_id]
    return (facts["orientation"], facts["expression"]), facts["orientation_clear"] and facts["expression_clear"]


def drawn_by_a_model_of(rows: Tensor, data: dict[str, Any], wanted: list[int], label: str) -> Tensor:
    """Train on the frames `rows` and draw the texts of the frames `wanted`: [F, N, 2]."""
    recipe = settings.load(ROOT).params.train.recipe("film")
    with progress(label, recipe.steps, "step") as bar:
        network = fitting.fit("film", recipe, data, rows, seed=0, on_step=fitting.shown_on(bar)).network
    return drawing.draw(network, data["embeddings"][wanted], POINTS, steps=EULER_STEPS, guidance=GUIDANCE, seed=0)


def scored(clouds: Tensor, references: Tensor, labels: list[Pair], wanted: list[Pair]) -> dict[str, float]:
    """Share of clouds whose nearest reference shows the wanted pair, orientation, expression."""
    nearest = [labels[i] for i in metrics.pairwise_sliced_w2(clouds, references).argmin(dim=1).tolist()]
    right = [(near == pair, near[0] == pair[0], near[1] == pair[1]) for near, pair in zip(nearest, wanted, strict=True)]
    names = ("pair", "orientation", "expression")
    return {
        name: round(sum(column) / len(wanted), 3) for name, column in zip(names, zip(*right, strict=True), strict=True)
    }


@figures.png
def picture(clouds: dict[str, Tensor], titles: list[str]) -> Figure:
    """Left-out frames, and what either model draws of their texts."""
    figure = Figure(figsize=(1.7 * len(titles), 1.8 * len(ROWS)), layout="constrained")
    panels = figure.subplots(len(ROWS), len(titles), squeeze=False)
    for row, (name, label) in zip(panels, ROWS.items(), strict=True):
        row[0].set_ylabel(label, fontsize=8)
        for axes, cloud in zip(row, clouds[name], strict=True):
            figures.show_cloud(axes, cloud)
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=8)
    return figure


def main() -> None:
    data, truth = training_set.load(ROOT), json.loads((ROOT / "demo" / "truth.json").read_text())
    pairs = [shown(truth, frame_id) for frame_id in data["frame_ids"]]
    everything = torch.arange(len(pairs))
    clear = [i for i, (_, is_clear) in enumerate(pairs) if is_clear]
    wanted = [i for i in clear if pairs[i][0] in LEFT_OUT]
    rest = torch.tensor([i for i, (pair, _) in enumerate(pairs) if pair not in LEFT_OUT])

    generator = torch.Generator().manual_seed(0)
    references, again = (density.draw(data["density"], everything, POINTS, generator) for _ in range(2))
    clouds = {
        "with": drawn_by_a_model_of(everything, data, wanted, "with all pairs"),
        "without": drawn_by_a_model_of(rest, data, wanted, "without the pairs"),
        "floor": again[wanted],
    }
    labels, asked = [pairs[i][0] for i in clear], [pairs[i][0] for i in wanted]
    scores = {name: scored(x, references[clear], labels, asked) for name, x in clouds.items()}
    scores["chance"] = {"pair": round(sum(labels.count(pair) for pair in asked) / len(asked) / len(labels), 3)}
    result = {
        "scores": scores,
        "left_out": sorted(map(list, LEFT_OUT)),
        "frames": {"all": len(pairs), "trained_without": len(rest), "drawn": len(wanted)},
        "settings": {"points": POINTS, "euler_steps": EULER_STEPS, "guidance": GUIDANCE},
    }
    few = scoring.spread(torch.arange(len(wanted)), SHOWN)
    panels = {"truth": references[wanted][few], "with": clouds["with"][few], "without": clouds["without"][few]}
    harness.write("unseen", result, picture=picture(panels, [" ".join(pairs[wanted[i]][0]) for i in few]))
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
