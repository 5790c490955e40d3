"""What test_fm_training runs under `accelerate launch`: each process writes the weights it ended with."""

import hashlib
import sys
from pathlib import Path

import torch
from accelerate import PartialState

import fm


def clouds(generator):
    return torch.randn(4, 16, 2, generator=generator), torch.randn(4, 4, generator=generator)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    config = fm.TrainConfig(steps=6, warmup=1, checkpoint_every=3, times_per_cloud=2)
    network = fm.build({"name": "film", "condition_dim": 4, "width": 16, "blocks": 1, "frequencies": 4})
    trained = fm.train(network, clouds, config, checkpoint_dir=folder / "checkpoints").network
    assert PartialState().num_processes == 2
    weights = b"".join(value.numpy().tobytes() for value in trained.state_dict().values())
    (folder / str(PartialState().process_index)).write_text(hashlib.sha256(weights).hexdigest())
