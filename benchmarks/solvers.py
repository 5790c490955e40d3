"""How far each solver's end points are from the true ones on a model that moves points, against network evaluations.

    python -m benchmarks.solvers

Draws held-out frames from the same noise with each method on equal and on shifted steps, and with dopri5 at several
tolerances. The error is the root mean squared distance to the end points of 100 RK4 steps; beside it stands what it
does to the drawing: the Chamfer distance to the frame's own points. Guidance is off and numbers are doubles, so that
nothing but the solver is measured. Trains it by the recipe `film` on data/train_data.pt; writes
benchmarks/results/solvers.json and solvers.png.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.harness import ROOT
from fm import metrics, sampling, solvers, times
from tasks.clouds import density, figures, scoring, training_set

FRAMES, POINTS = 8, 128
REFERENCE = 100  # RK4 steps; the same with half as many says how true it is
BUDGETS = (1, 2, 4, 8, 16, 32)  # evaluations
SHIFTS = (0.5, 1.0, 2.0)
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
COLORS = {"euler": "#b9bec9", "midpoint": "#3aa676", "heun": "#e0812f", "rk4": "#2f6fde", "dopri5": "#1c2230"}
DASHES = {0.5: ":", 1.0: "-", 2.0: "--"}

Row = dict[str, Any]
"""method, shift or tolerance, evaluations, rms, chamfer"""


def measured(velocity: solvers.Velocity, noise: Tensor, truth: Tensor) -> tuple[list[Row], dict[str, float]]:
    """Every solver's row, and what it can be compared with."""
    exact, nearly = (
        solvers.integrate(velocity, noise, times.grid(n), method="rk4").x for n in (REFERENCE, REFERENCE // 2)
    )
    rows: list[Row] = []

    def note(solution: solvers.Solution, **settings: Any) -> None:
        rms = float((solution.x - exact).square().sum(-1).mean().sqrt())
        chamfer = float(metrics.chamfer(solution.x, truth).mean())
        rows.append({**settings, "evaluations": solution.evaluations, "rms": rms, "chamfer": round(chamfer, 4)})
        print(rows[-1], flush=True)

    for shift in SHIFTS:
        for method, tableau in solvers.METHODS.items():
            for steps in (budget // len(tableau.weights) for budget in BUDGETS if budget >= len(tableau.weights)):
                grid = times.grid(steps, factor=shift)
                note(solvers.integrate(velocity, noise, grid, method=method), method=method, shift=shift)
    for tolerance in TOLERANCES:
        note(solvers.dopri5(velocity, noise, rtol=tolerance, atol=tolerance), method="dopri5", tolerance=tolerance)
    compared = {
        "rms_of_half_the_reference_steps": float((nearly - exact).square().sum(-1).mean().sqrt()),
        "chamfer_of_the_reference": round(float(metrics.chamfer(exact, truth).mean()), 4),
    }
    return rows, compared


@figures.png
def picture(rows: list[Row], compared: dict[str, float]) -> Figure:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    error, quality = figure.subplots(1, 2)
    for method in (*solvers.METHODS, "dopri5"):
        for shift in SHIFTS if method != "dopri5" else (1.0,):
            line = [row for row in rows if row["method"] == method and row.get("shift", 1.0) == shift]
            at = [row["evaluations"] for row in line]
            look = {"color": COLORS[method], "ls": DASHES[shift], "marker": "o" if shift == 1 else None, "ms": 3.5}
            said = method if shift == 1 else None
            error.plot(at, [row["rms"] for row in line], **look, label=said)
            if shift == 1:
                quality.plot(at, [row["chamfer"] for row in line], **look)
    quality.axhline(compared["chamfer_of_the_reference"], color=figures.INK, lw=1, ls=":", label="solved exactly")
    for shift, dash in DASHES.items():
        error.plot([], [], color=figures.FAINT, ls=dash, label=f"steps shifted by {shift:g}")
    error.set(title="Distance to the true end points (root mean square)", yscale="log")
    quality.set(title="Chamfer distance to the frame's own points")
    for axes in (error, quality):
        axes.set_xscale("log", base=2)
        axes.set_xticks(BUDGETS, [str(n) for n in BUDGETS])
        axes.set_xlabel("network evaluations")
        axes.legend(fontsize=8)
    return figure


def table(rows: list[Row]) -> str:
    """RMS distance at each budget on equal steps, and of dopri5."""
    lines = ["| evaluations | " + " | ".join(map(str, BUDGETS)) + " |", "|---" * (len(BUDGETS) + 1) + "|"]
    for method in solvers.METHODS:
        by_budget = {row["evaluations"]: row["rms"] for row in rows if row["method"] == method and row["shift"] == 1}
        texts = [f"{by_budget[n]:.2g}" if n in by_budget else "–" for n in BUDGETS]
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    adaptive = [
        f"{row['tolerance']:g}: {row['rms']:.2g} in {row['evaluations']}" for row in rows if row["method"] == "dopri5"
    ]
    return "\n".join([*lines, "", "dopri5, by tolerance: " + ", ".join(adaptive)])


def main() -> None:
    network, recipe = harness.mover_of_points()
    measure(network.double(), recipe)


@torch.no_grad()
def measure(network: nn.Module, recipe: dict[str, Any]) -> None:
    data = training_set.load(ROOT)
    frames = scoring.spread(training_set.rows_of(data, training_set.HELD_OUT), FRAMES)
    conditions = data["embeddings"][frames].double()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(frames), POINTS, network.dim, generator=generator, dtype=torch.float64)
    truth = data["point_clouds"][frames].double()
    rows, compared = measured(sampling.guided(network, conditions), noise, truth)
    fresh = density.draw(data["density"], frames, POINTS, generator).double()
    compared["chamfer_of_fresh_points_of_the_frame"] = round(float(metrics.chamfer(fresh, truth).mean()), 4)
    compared["rms_of_the_end_points"] = round(math.sqrt(float(truth.square().sum(-1).mean())), 4)
    result = {
        "solvers": rows,
        "compared_with": compared,
        "protocol": {"frames": len(frames), "points": POINTS, "reference": f"{REFERENCE} steps of rk4, float64"},
        "recipe": recipe,
    }
    harness.write("solvers", result, picture=picture(rows, compared))
    print(compared, table(rows), sep="\n")


if __name__ == "__main__":
    main()
