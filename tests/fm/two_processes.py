"""What test_training has Accelerate's launcher start, in each process: a run twice, the second time cut short if told
`kill`, or else runs whose batches leave some weights out.

Each process writes the step that each run began at, and the weights that it ended with.
"""

import hashlib
import json
import os
import signal
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor

from fm import networks, training

CONFIG = training.TrainConfig(steps=6, warmup=1, checkpoint_every=3, times_per_cloud=2)
SMALL = {"name": "film", "condition_dim": 4, "width": 16, "blocks": 1, "frequencies": 4}


def run(checkpoints: Path, killed_at: int | None = None) -> tuple[int, str]:
    step = count(1)

    def clouds(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if next(step) == killed_at and PartialState().process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.randn(4, 16, 2, generator=generator), torch.randn(4, 4, generator=generator)

    result = training.train(networks.build(SMALL), clouds, CONFIG, checkpoint_dir=checkpoints)
    return result.resumed_at, digest(result.network)


class Normalized(torch.nn.Module):
    """A module with buffers that each process fills from its own batches, and with weights that are never used."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out, self.unused = torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        return self.out(self.norm(x.flatten(0, 1)).view_as(x))


def left_out(kind: str) -> str:
    """The weights after a run whose batches do not reach all of them."""

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        clouds = torch.randn(4, 16, 2, generator=generator)
        return (clouds, torch.eye(4)) if kind == "all kept" else (clouds,)

    torch.manual_seed(0)
    network = Normalized() if kind == "own module" else networks.build(SMALL)
    return digest(training.train(network, draw, replace(CONFIG, condition_dropout=0.0)).network)


def digest(network: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in network.state_dict().values())).hexdigest()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if "left_out" in sys.argv:
        seen = {kind: left_out(kind) for kind in ("no condition", "all kept", "own module")}
    else:
        seen = {"whole": run(folder / "whole"), "cut": run(folder / "cut", killed_at=5 if "kill" in sys.argv else None)}
    assert PartialState().num_processes == 2
    (folder / str(PartialState().process_index)).write_text(json.dumps(seen))
