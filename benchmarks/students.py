"""Faces in one and two evaluations: a model that moves points, its reflow, and its one- and two-step students.

    python -m benchmarks.students

Trains the teacher by the recipe `film` on data/train_data.pt. The students learn from the training frames' texts and
are scored on held-out clips, as in benchmarks.training, whose last score of the original recipe stands beside them.
Writes benchmarks/results/students.json and students.png.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from benchmarks import harness
from benchmarks.harness import ROOT
from benchmarks.training import EULER_STEPS, FRAMES, POINTS, Trial
from fm import distillation, sampling
from fm.training import DrawBatch, train
from tasks import settings
from tasks.clouds import figures, fitting, scoring, training_set
from tasks.progress import progress

STEPS, NOISES, TEACHER_STEPS, SHOWN = 1500, 6, 16, 7
EVALUATIONS = {"teacher": (1, 2, 4, 8, EULER_STEPS), "teacher by midpoint": (2, 4), "reflow": (1, 2, 4),
               "student of 1 step": (1,), "student of 2 steps": (2,)}  # fmt: skip


def learned(teacher: nn.Module, draw: DrawBatch, label: str) -> nn.Module:
    """A copy of the teacher, trained on its own pairs by the default recipe's rates."""
    recipe = settings.load(ROOT).params.train.recipe("film")
    config = replace(fitting.config_of(recipe, 0), steps=STEPS, condition_dropout=0.0)
    with progress(label, STEPS, "step") as bar:
        return train(copy.deepcopy(teacher), draw, config, on_step=fitting.shown_on(bar)).network


def main() -> None:
    data, original = training_set.load(ROOT), harness.read("training")["runs"]["baseline"][-1]
    trial = Trial(data)
    teacher, _ = harness.mover_of_points()
    texts = data["embeddings"][training_set.rows_of(data, training_set.TRAIN)].repeat(NOISES, 1)

    generator = torch.Generator().manual_seed(0)
    ways, wall, _ = harness.timed(
        distillation.teacher_trajectories, teacher, texts, POINTS, strides=2, steps=TEACHER_STEPS, generator=generator
    )
    seconds = {"the teacher's ways": wall}
    networks = {"teacher": teacher, "teacher by midpoint": teacher}
    for name, draw in {
        "reflow": distillation.reflow_batches(ways, texts, clouds=64, points=64),
        "student of 1 step": distillation.stride_batches(ways[[0, 2]], texts, clouds=64, points=64),
        "student of 2 steps": distillation.stride_batches(ways, texts, clouds=64, points=64),
    }.items():
        networks[name], seconds[name], _ = harness.timed(learned, teacher, draw, name)

    scores, clouds = {}, {"the frame": trial.truth}
    noise = torch.randn(FRAMES, POINTS, teacher.dim, generator=torch.Generator().manual_seed(0))
    for name, network in networks.items():
        for n in EVALUATIONS[name]:
            way = {"steps": n // 2, "method": "midpoint"} if name.endswith("midpoint") else {"steps": n}
            drawn = sampling.sample(network, trial.conditions, POINTS, x0=noise, **way).x
            scores[f"{name}, {n}"] = trial.scores(drawn)
            if n in (1, 2, EULER_STEPS):  # for the picture
                clouds[f"{name},\n{n} evaluations" if n > 1 else f"{name},\n1 evaluation"] = drawn
            print(f"{name}, {n}: {scores[f'{name}, {n}']}", flush=True)
    scores[f"original recipe after {original['steps']} steps, {EULER_STEPS}"] = {s: original[s] for s in trial.floor}
    result = {
        "scores": scores | {"floor": trial.floor},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "held_out_frames": FRAMES,
        "points": POINTS,
        "student_steps": STEPS,
    }
    few = scoring.spread(torch.arange(FRAMES), SHOWN)
    harness.write("students", result, picture=figures.cloud_rows({name: x[few] for name, x in clouds.items()}))


if __name__ == "__main__":
    main()
