"""What test_fm_training has Accelerate's launcher start: the same run twice, the second time cut short if told `kill`.

Each process writes the step that each run began at, and the weights that it ended with.
"""

import hashlib
import json
import os
import signal
import sys
from itertools import count
from pathlib import Path

import torch
from accelerate import PartialState

from fm import networks, training


def run(checkpoints: Path, killed_at: int | None = None) -> tuple[int, str]:
    step = count(1)

    def clouds(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        if next(step) == killed_at and PartialState().process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.randn(4, 16, 2, generator=generator), torch.randn(4, 4, generator=generator)

    config = training.TrainConfig(steps=6, warmup=1, checkpoint_every=3, times_per_cloud=2)
    network = networks.build({"name": "film", "condition_dim": 4, "width": 16, "blocks": 1, "frequencies": 4})
    result = training.train(network, clouds, config, checkpoint_dir=checkpoints)
    assert PartialState().num_processes == 2
    weights = b"".join(value.numpy().tobytes() for value in result.network.state_dict().values())
    return result.resumed_at, hashlib.sha256(weights).hexdigest()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    seen = {"whole": run(folder / "whole"), "cut": run(folder / "cut", killed_at=5 if "kill" in sys.argv else None)}
    (folder / str(PartialState().process_index)).write_text(json.dumps(seen))
