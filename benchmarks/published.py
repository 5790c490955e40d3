"""The published 2-D table: ours beside torchcfm beside [SF]²M (Tong et al., arXiv 2307.03672, table 2).

    python -m benchmarks.published

W2 between what is generated and the data, and the normalized path energy (NPE) of the way there, with the paper's data,
network (3 × 64 SELU on [x, t]), batch, Euler steps and numbers of points. Both libraries train the same network for
`STEPS` steps, fewer than the paper's 20,000: ours with the defaults of `fm.training.TrainConfig` but for the rate,
torchcfm with the AdamW of the paper. Optimal pairs come from a pool of exact plans of 512 pairs, which each library
solves by itself. The squared W2 of two sets of 10,000 points varies by some per cent from draw to draw, as much as the
NPE of optimal transport itself: so the energy of a flow is compared with the W2 from the very points that it starts
from. [SF]²M is measured on its stochastic way, and its energy, and another W2, on the way without noise.

Every finished cell is kept in benchmarks/results/published.json, and a run goes on where the last one stopped; delete
the file to measure anew.
"""

from __future__ import annotations

import copy
import functools
import statistics
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torchcfm.conditional_flow_matching import (
    ConditionalFlowMatcher,
    SchrodingerBridgeConditionalFlowMatcher,
    TargetConditionalFlowMatcher,
)
from torchcfm.models.models import MLP
from torchcfm.optimal_transport import OTPlanSampler

from benchmarks import harness
from benchmarks.plane import PAIRS, normal, seeded
from fm import couplings, metrics, paths, solvers, times, training, trajectories

SEEDS, STEPS, BATCH, EULER_STEPS = (42, 43, 44), 5000, 512, 100
TRAIN, TEST = 10_000, 10_000  # points
PLANS = 400  # of a batch each, in a pool of optimal pairs
REFLOWED = 50_000  # pairs that reflow learns from
SIGMA, BRIDGE_SIGMA, RATE = 0.1, 1.0, 5e-3
PROTOCOL = {"steps": STEPS, "batch": BATCH, "euler_steps": EULER_STEPS, "train": TRAIN, "test": TEST, "plans": PLANS,
            "reflowed": REFLOWED, "sigma": SIGMA, "bridge_sigma": BRIDGE_SIGMA, "our_rate": RATE}  # fmt: skip

METHODS = ("OT-CFM", "I-CFM", "FM", "bridge", "[SF]²M", "reflow")
LIBRARIES = ("ours", "torchcfm")
PAPER: dict[str, list[tuple[float | None, ...] | None]] = {  # W2, its std, NPE, its std, in the order of PAIRS
    "OT-CFM": [(0.303, 0.043, 0.031, 0.027), (0.601, 0.027, 0.015, 0.010), (0.130, 0.016, 0.083, 0.009),
               (0.144, 0.028, 0.027, 0.012)],
    "I-CFM": [(0.373, 0.103, 0.202, 0.055), (1.557, 0.407, 2.680, 0.292), (0.178, 0.014, 0.891, 0.120),
              (0.242, 0.141, 0.856, 0.031)],
    "FM": [(0.343, 0.058, 0.190, 0.054), None, (0.209, 0.055, 0.762, 0.099), (0.198, 0.037, 0.743, 0.116)],
    "bridge": [(2.314, 2.112, 1.000, 0.000), None, (0.434, 0.594, 0.995, 0.000), (0.341, 0.468, 0.745, 0.039)],
    "[SF]²M": [(w2, None, None, None) for w2 in (0.275, 0.726, 0.124, 0.128)],
    "reflow": [(0.421, 0.071, 0.044, 0.031), (1.525, 0.330, 0.203, 0.090), (0.283, 0.045, 0.130, 0.078),
               (0.345, 0.079, 0.099, 0.066)],
}  # fmt: skip


class Network(nn.Module):
    """The paper's network with the call that `fm` makes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = MLP(dim=2, time_varying=True)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(torch.cat([x, t.unsqueeze(1)], dim=1))


class Pair(nn.Module):
    """Two of them, for the velocity and the score."""

    def __init__(self) -> None:
        super().__init__()
        self.velocity, self.score = Network(), Network()

    def forward(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.velocity(x, t), self.score(x, t)


@functools.cache
def points(pair: str, seed: int, n: int) -> tuple[Tensor, Tensor]:
    """n points of the source and of the data: [n, 2] both."""
    generator = seeded(seed)
    source, data = PAIRS[pair]
    return source(n, generator), data(n, generator)


@functools.cache
def optimal_pairs(pair: str, seed: int, library: str) -> tuple[Tensor, Tensor]:
    """The pairs (x0, x1) of `PLANS` minibatch plans, [PLANS · BATCH, 2] both."""
    generator, (x0, x1) = seeded(seed), points(pair, seed, TRAIN)
    theirs = OTPlanSampler(method="exact")
    solved = []
    for _ in range(PLANS):
        a, b = (x[torch.randint(TRAIN, (BATCH,), generator=generator)] for x in (x0, x1))
        solved.append((couplings.exact_ot(a, b, block=None), b) if library == "ours" else theirs.sample_plan(a, b))
    return tuple(torch.cat(side) for side in zip(*solved, strict=True))


def draw_pairs(pair: str, method: str, seed: int, library: str) -> Callable[[torch.Generator], tuple[Tensor, Tensor]]:
    """Batches of (x0, x1), [BATCH, 2] both: optimal pairs for OT-CFM and the bridges, else independent ones."""
    if method in ("OT-CFM", "bridge", "[SF]²M"):
        paired = optimal_pairs(pair, seed, library)
    elif method == "reflow":
        x0 = PAIRS[pair][0](REFLOWED, seeded(seed + 1000))
        paired = x0, follow(trained(pair, "I-CFM", seed, "ours"), x0).x
    else:
        source, x1 = PAIRS[pair][0], points(pair, seed, TRAIN)[1]
        return lambda g: (source(BATCH, g), x1[torch.randint(TRAIN, (BATCH,), generator=g)])

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(paired[0]), (BATCH,), generator=generator)
        return paired[0][chosen], paired[1][chosen]

    return draw


@functools.cache
def trained(pair: str, method: str, seed: int, library: str) -> nn.Module:
    draw = draw_pairs(pair, method, seed, library)
    torch.manual_seed(seed)
    network: nn.Module = Pair() if method == "[SF]²M" else Network()
    if library == "torchcfm":
        return by_torchcfm(network, draw, method, seed)
    if method == "reflow":
        network = copy.deepcopy(trained(pair, "I-CFM", seed, library))
    bridge = paths.bridge(BRIDGE_SIGMA)
    path = {"FM": paths.lipman(SIGMA), "bridge": bridge, "[SF]²M": bridge, "reflow": paths.linear()}
    path = path.get(method, paths.linear(SIGMA))
    config = training.TrainConfig(steps=STEPS, learning_rate=RATE, seed=seed, path=path)

    def batch(generator: torch.Generator) -> training.Batch:
        x0, x1 = draw(generator)
        return training.Batch(x1, None, x0)

    return training.train(network, batch, config).network


def by_torchcfm(
    network: nn.Module, draw: Callable[[torch.Generator], tuple[Tensor, Tensor]], method: str, seed: int
) -> nn.Module:
    """The loop of its examples, with the optimizer of the paper."""
    bridge = SchrodingerBridgeConditionalFlowMatcher(BRIDGE_SIGMA)
    matcher = {"FM": TargetConditionalFlowMatcher(SIGMA), "bridge": bridge, "[SF]²M": bridge}
    matcher = matcher.get(method, ConditionalFlowMatcher(SIGMA))
    generator, optimizer = seeded(seed), torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
    for _ in range(STEPS):
        # the base class's method: the pairs are made already
        t, x, u, noise = ConditionalFlowMatcher.sample_location_and_conditional_flow(
            matcher, *draw(generator), None, True
        )
        if isinstance(network, Pair):  # its score is σ²/2 times the true one
            velocity, score = network(x, t)
            weight = matcher.compute_lambda(t).unsqueeze(1)
            loss = (velocity - u).square().mean() + (weight * score + noise).square().mean()
        else:
            loss = (network(x, t) - u).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@torch.no_grad()
def follow(network: nn.Module, x0: Tensor, *, trajectory: bool = False) -> solvers.Solution:
    velocity = network.velocity if isinstance(network, Pair) else network
    return solvers.integrate(velocity, x0, times.grid(EULER_STEPS), trajectory=trajectory)


@torch.no_grad()
def wander(network: Pair, x0: Tensor, seed: int, library: str) -> solvers.Solution:
    """By the stochastic equation of the bridge, whose diffusion is its σ."""

    def both(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        velocity, score = network(x, t)
        return velocity, score if library == "ours" else score * (2 / BRIDGE_SIGMA**2)

    grid = times.grid(EULER_STEPS)
    return solvers.stochastic(both, x0, grid, diffusion=BRIDGE_SIGMA, generator=seeded(seed + 3000))


@functools.cache
def distance(pair: str, seed: int) -> float:
    """W2 between source and data, which the path energy is compared with."""
    return metrics.w2(*points(pair, seed + 2000, TEST))


def measured(pair: str, method: str, seed: int, library: str) -> dict[str, float]:
    np.random.seed(seed)  # torchcfm's plans are drawn from NumPy's global generator
    network, _, spent = harness.timed(trained, pair, method, seed, library)
    x0, x1 = points(pair, seed + 2000, TEST)
    way = follow(network, x0, trajectory=True)
    followed = metrics.w2(way.x, x1)
    wandered = metrics.w2(wander(network, x0, seed, library).x, x1) if isinstance(network, Pair) else None
    return {
        "w2": round(followed if wandered is None else wandered, 4),
        **({} if wandered is None else {"w2_without_noise": round(followed, 4)}),
        "npe": round(trajectories.normalized_path_energy(way.trajectory, way.times, distance(pair, seed)), 4),
        "training_cpu_s": round(spent, 1),
    }


def cells() -> list[tuple[str, str, int, str]]:
    """Seed by seed, so that it is a table at any time; torchcfm has no reflow, FM starts from noise alone."""
    return [
        (pair, method, seed, library)
        for seed in SEEDS
        for library in LIBRARIES
        for pair in PAIRS
        for method in METHODS
        if not (method == "FM" and PAIRS[pair][0] is not normal) and (method, library) != ("reflow", "torchcfm")
    ]


def earlier() -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """The finished cells of a run of the same protocol, and the distances from source to data."""
    if (kept := harness.read("published")).get("protocol") == PROTOCOL:
        return kept["cells"], kept["w2_source_to_data"]
    return {}, {}


def summary(done: dict[str, dict[str, float]]) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """pair → method → who → [W2, its std, NPE, its std]."""
    table: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    for column, pair in enumerate(PAIRS):
        for method in METHODS:
            row = table.setdefault(pair, {}).setdefault(method, {})
            for library in LIBRARIES:
                found = [done[key] for seed in SEEDS if (key := name(pair, method, seed, library)) in done]
                if found:
                    row[library] = [
                        number for score in ("w2", "npe") for number in mean_and_std([cell[score] for cell in found])
                    ]
            if PAPER[method][column] is not None:
                row["paper"] = list(PAPER[method][column])
    return table


def mean_and_std(values: list[float]) -> tuple[float, float | None]:
    """None where one value says nothing about the others."""
    return round(statistics.fmean(values), 3), round(statistics.stdev(values), 3) if len(values) > 1 else None


def shown(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"


def name(pair: str, method: str, seed: int, library: str) -> str:
    return f"{pair} | {method} | {library} | {seed}"


def markdown(table: dict[str, dict[str, dict[str, list[float | None]]]]) -> str:
    lines = ["| | | W2: ours | torchcfm | paper | NPE: ours | torchcfm | paper |", "|---|---|---|---|---|---|---|---|"]
    for pair, methods in table.items():
        for method, row in methods.items():
            texts = [
                shown(*row[who][i : i + 2]) if who in row else "–" for i in (0, 2) for who in (*LIBRARIES, "paper")
            ]
            if row.keys() - {"paper"}:
                lines.append(f"| {pair} | {method} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> None:
    done, distances = earlier()
    for cell in cells():
        if name(*cell) in done:
            continue
        done[name(*cell)] = measured(*cell)
        distances[f"{cell[0]} | {cell[2]}"] = round(distance(cell[0], cell[2]), 4)
        print(f"{name(*cell):45}", done[name(*cell)], flush=True)
        result = {
            "mean_and_std": summary(done),
            "cells": done,
            "w2_source_to_data": distances,
            "protocol": PROTOCOL,
        }
        harness.write("published", result, "torchcfm", "pot")
    print(markdown(summary(done)))


if __name__ == "__main__":
    main()
