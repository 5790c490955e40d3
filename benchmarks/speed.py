"""One training step and sampling beside torchcfm, in the same process, taking turns.

    python -m benchmarks.speed

The same network (torchcfm's MLP, 64 wide) behind both, so that what differs is the path and the coupling. A batch of
512 points is one problem; 16 clouds of 1024 points are a problem for each cloud. Writes benchmarks/results/speed.json.
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

from benchmarks import harness
from fm import couplings, paths, solvers

ROUNDS = 7
SIGMA = 0.1

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
    """Milliseconds of one call: the median of `ROUNDS` rounds of `repeats` calls each."""
    for call in contenders.values():
        call()
    rounds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, call in contenders.items():
            began = time.perf_counter()
            for _ in range(repeats):
                call()
            rounds[name].append((time.perf_counter() - began) / repeats * 1e3)
    return {name: round(statistics.median(times), 3) for name, times in rounds.items()}


def main() -> None:
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
    harness.write("speed", {"milliseconds": table}, "torchcfm", "pot", "scipy")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
