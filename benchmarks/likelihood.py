"""How far a flow's log likelihood is from the density known in closed form, and what each way of computing it costs.

    python -m benchmarks.likelihood

The velocity of a mixture of eight Gaussians is known exactly on the linear path, and so is its density: what is left is
the error of the solver and of Hutchinson's estimate, in 2 and in 16 dimensions. Then a network that learned the mixture
in the plane takes the place of the true velocity. Errors in nats a point, over `POINTS` fresh points. Writes
benchmarks/results/likelihood.json.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import harness
from fm import couplings, likelihood, networks, paths, sampling, solvers, toys, training

POINTS, STEPS, PROBES = 500, (4, 8, 16, 32), (1, 4, 16)
TRAINING_STEPS = 3000
PATH = paths.linear()

Row = dict[str, Any]


def mixture(dim: int) -> toys.Mixture:
    """Eight Gaussians of standard deviation .5 on a ring of radius 2 in the first two of `dim` coordinates."""
    ring = toys.gaussians(8, radius=2.0, std=0.5)
    means = torch.cat([ring.means, torch.zeros(8, dim - 2)], dim=1)
    return toys.Mixture(means.double(), ring.std.double(), ring.weights.double())


def measured(velocity: solvers.Velocity, true: toys.Mixture, x: Tensor, **settings: Any) -> Row:
    """Error of log p(x) against the closed form; what the velocity was asked for, forward and back."""
    calls = 0

    def counted(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return velocity(x, t)

    got = likelihood.log_likelihood(counted, x, generator=torch.Generator().manual_seed(1), **settings).detach()
    error = (got - true.log_density(x)).double()
    exact = settings.get("trace", "exact") == "exact"
    row = {
        "dim": x.shape[-1],
        **settings,
        "evaluations": calls,
        "backward_passes": calls * (x.shape[-1] if exact else 1),
        "mean_error": round(float(error.mean()), 5),
        "rms_error": round(float(error.square().mean().sqrt()), 5),
        "bits_per_dimension_error": round(float(-likelihood.bits_per_dimension(error, x.shape[-1]).mean()), 5),
    }
    print(row, flush=True)
    return row


def learned(true: toys.Mixture) -> torch.nn.Module:
    network = networks.build(
        {"name": "film", "dim": 2, "condition_dim": 1, "width": 64, "blocks": 3, "embedding": 128, "bandwidth": 1.0}
    )

    def batch(generator: torch.Generator) -> tuple[Tensor]:
        return (true(1024, generator).x.float().unsqueeze(0),)

    config = training.TrainConfig(
        steps=TRAINING_STEPS, learning_rate=2e-3, times_per_cloud=64, coupling=couplings.independent
    )
    return training.train(network, batch, config).network.double()


def velocity_error(velocity: solvers.Velocity, true: toys.Mixture, x1: Tensor) -> float:
    """Relative error of a velocity, mean over t, where the path passes."""
    generator, errors = torch.Generator().manual_seed(2), []
    for t in torch.linspace(0.05, 0.95, 10, dtype=torch.float64).unsqueeze(1):
        x, _ = PATH(torch.randn(x1.shape, generator=generator, dtype=x1.dtype), x1, t)
        with torch.no_grad():
            errors.append(toys.velocity_error(velocity(x, t), true.velocity(PATH, x, t)))
    return round(statistics.fmean(errors), 4)


def points(true: toys.Mixture) -> Tensor:
    return true(POINTS, torch.Generator().manual_seed(0)).x.unsqueeze(0)


def every_way(velocity: solvers.Velocity, true: toys.Mixture) -> list[Row]:
    run = partial(measured, velocity, true, points(true), method="rk4")
    exact = [run(steps=steps) for steps in STEPS]
    return exact + [run(steps=16, trace="hutchinson", probes=probes) for probes in PROBES]


def main() -> None:
    plane, space = mixture(2), mixture(16)
    rows = {"true velocity": [row for true in (plane, space) for row in every_way(partial(true.velocity, PATH), true)]}
    velocity = sampling.guided(learned(plane), None)
    rows["network"] = every_way(velocity, plane)
    result = {
        "log_likelihood": rows,
        "relative_velocity_error_of_the_network": velocity_error(velocity, plane, points(plane)),
        "protocol": {"points": POINTS, "training_steps": TRAINING_STEPS},
    }
    harness.write("likelihood", result)


if __name__ == "__main__":
    main()
