"""Couplings, one training step and sampling beside torchcfm: seconds of the processor, in one process, taking turns.

    python -m benchmarks.speed

Couplings alone go from noise to two moons, at several numbers of points, as one cloud and as a batch of 16; torchcfm
has no clouds and is called for each. Sinkhorn's plan is that of a bridge of noise σ, both to an error of 1e-9.

Behind a training step and sampling is the same network (torchcfm's MLP, 64 wide), so that what differs is the path and
the coupling. Writes benchmarks/results/speed.json.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchcfm.conditional_flow_matching import (
    ConditionalFlowMatcher,
    ExactOptimalTransportConditionalFlowMatcher,
)
from torchcfm.models.models import MLP
from torchcfm.optimal_transport import OTPlanSampler

from benchmarks import harness
from fm import couplings, paths, solvers, toys

ROUNDS = 7
SIGMA = 0.1
SIZES, CLOUDS, BRIDGES = (16, 32, 64, 96, 128, 200, 256, 512, 1024), 16, (2.0, 1.0, 0.5)

Example = tuple[Tensor, Tensor, Tensor]
"""t, x_t, u_t"""


def ours(path: paths.Path, coupling: couplings.Coupling, x0: Tensor, x1: Tensor) -> Example:
    """All clouds [B, N, D] in one call, and a time of its own for each point, as the other has it."""
    t = torch.rand(x0.shape[0] * x0.shape[1])
    return t, *path(coupling(x0, x1).flatten(0, 1), x1.flatten(0, 1), t)


def theirs(matcher: ConditionalFlowMatcher, x0: Tensor, x1: Tensor) -> Example:
    """One call for each cloud: the library has no clouds."""
    parts = [matcher.sample_location_and_conditional_flow(a, b) for a, b in zip(x0, x1, strict=True)]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def step(example: Callable[[Tensor, Tensor], Example], network: torch.nn.Module, shape: tuple[int, int]) -> None:
    x1 = torch.randn(*shape, 2) * 0.3 + 1
    t, x, u = example(torch.randn(*shape, 2), x1)
    loss = (network(torch.cat([x, t.unsqueeze(1)], dim=1)) - u).square().mean()
    loss.backward()


def sample_ours(network: torch.nn.Module) -> None:
    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return network(torch.cat([x, t.unsqueeze(1)], dim=1))

    with torch.no_grad():
        solvers.integrate(velocity, torch.randn(4096, 2), torch.linspace(0, 1, 101))


def sample_by_hand(network: torch.nn.Module) -> None:
    """torchcfm has no solver and sends its users to torchdyn; this is the loop that they write."""
    with torch.no_grad():
        x = torch.randn(4096, 2)
        for t in torch.linspace(0, 1, 101)[:-1]:
            x = x + 0.01 * network(torch.cat([x, t.expand(len(x), 1)], dim=1))


def taking_turns(contenders: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Milliseconds of the processor for one call: the median of `ROUNDS` rounds of `repeats` calls each."""
    for call in contenders.values():
        call()
    rounds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, call in contenders.items():
            began = time.process_time()
            for _ in range(repeats):
                call()
            rounds[name].append((time.process_time() - began) / repeats * 1e3)
    return {name: round(statistics.median(times), 3) for name, times in rounds.items()}


def pairing(coupling: couplings.Coupling, sampler: OTPlanSampler, shape: tuple[int, int]) -> dict[str, float]:
    """Pairing clouds [B, N, 2] by both."""
    x0, x1 = torch.randn(*shape, 2), torch.stack([toys.moons(shape[1]).x for _ in range(shape[0])])

    def each() -> None:
        for a, b in zip(x0, x1, strict=True):
            sampler.sample_plan(a, b)

    return taking_turns({"ours": lambda: coupling(x0, x1), "torchcfm": each}, max(1, 1024 // (shape[0] * shape[1])))


def main() -> None:
    paired: dict[str, dict[str, float]] = {}
    for n in SIZES:
        kinds: dict[str, tuple[couplings.Coupling, OTPlanSampler]] = {
            "exact OT": (partial(couplings.exact_ot, block=None), OTPlanSampler("exact"))
        }
        for sigma in BRIDGES:
            regularization = 2 * sigma**2
            entropic = partial(couplings.sinkhorn_ot, regularization=regularization)
            kinds[f"Sinkhorn, σ = {sigma:g}"] = entropic, OTPlanSampler("sinkhorn", reg=regularization)
        for name, (coupling, sampler) in kinds.items():
            for clouds in (1, CLOUDS):
                label = f"{name}, {f'{clouds} × ' if clouds > 1 else ''}{n} points"
                paired[label] = pairing(coupling, sampler, (clouds, n))
                print(label, paired[label], flush=True)
    network = MLP(dim=2, time_varying=True)
    path, whole, blocks = paths.linear(SIGMA), partial(couplings.exact_ot, block=None), couplings.exact_ot
    table: dict[str, dict[str, float]] = {}
    for label, shape, repeats in (("512 points", (1, 512), 20), ("16 clouds of 1024 points", (16, 1024), 1)):
        cases = {
            "independent": (couplings.independent, ConditionalFlowMatcher(SIGMA)),
            "exact OT": (whole, ExactOptimalTransportConditionalFlowMatcher(SIGMA)),
        }
        for name, (coupling, matcher) in cases.items():
            contenders = {
                "ours": partial(step, partial(ours, path, coupling), network, shape),
                "torchcfm": partial(step, partial(theirs, matcher), network, shape),
            }
            if name == "exact OT":
                contenders["ours, blocks of 64"] = partial(step, partial(ours, path, blocks), network, shape)
            table[f"{name}, {label}"] = taking_turns(contenders, repeats)
            print(f"{name}, {label}", table[f"{name}, {label}"], flush=True)
    table["100 Euler steps, 4096 points"] = taking_turns(
        {"ours": partial(sample_ours, network), "torchcfm": partial(sample_by_hand, network)}, 2
    )
    harness.write("speed", {"couplings": paired, "steps": table}, "torchcfm", "pot", "scipy")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
