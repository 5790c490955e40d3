"""What a training run must remember to go on exactly where it was, in one file without pickled code."""

import io
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn


@dataclass
class Run:
    """The state of a run: it is saved and restored in place."""

    config: Any
    network: nn.Module
    ema: nn.Module
    optimizers: list[Any]
    scaler: Any
    generator: torch.Generator
    losses: Tensor

    def save(self, file: Path, step: int, accelerator: Accelerator) -> None:
        """Write the state after `step` steps; only the main process writes, but all must call."""
        generators = gather_object([self.generator.get_state()])
        if not accelerator.is_main_process:
            return
        state = {
            "run": describe(self.config),
            "step": step,
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "generators": generators,
            "losses": self.losses,
        }
        write(file, state)

    def restore(self, file: Path, accelerator: Accelerator) -> int:
        """Take everything from the file; the number of steps done."""
        state = read(file)
        if state["run"] != describe(self.config):
            raise ValueError(
                f"{file} belongs to a run with other settings ({_difference(state['run'], describe(self.config))}); "
                "delete it to start afresh, or restore the settings to go on"
            )
        if len(state["generators"]) != accelerator.num_processes:
            raise ValueError(
                f"{file} was written by {len(state['generators'])} processes, this run has {accelerator.num_processes}"
            )
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise ValueError(f"{file} holds a network of other sizes; delete it to start afresh: {error}") from None
        self.ema.load_state_dict(state["ema"])
        for optimizer, remembered in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(remembered)
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.generator.set_state(state["generators"][accelerator.process_index])
        self.losses.copy_(state["losses"])
        return state["step"]


def describe(config: Any) -> dict[str, str]:
    """The settings that decide a run's result, as texts."""
    said = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "checkpoint_every"}
    return {name: _name(value) for name, value in said.items()}


def _name(value: Any) -> str:
    if hasattr(value, "name") and hasattr(value, "sigma"):
        return f"{value.name}(sigma={value.sigma})"
    if hasattr(value, "func"):
        settled = [_name(v) for v in value.args] + [f"{k}={_name(v)}" for k, v in value.keywords.items()]
        return f"{_name(value.func)}({', '.join(settled)})"
    return getattr(value, "__name__", None) or repr(value)


def _difference(old: dict[str, str], new: dict[str, str]) -> str:
    return ", ".join(f"{k}: {old.get(k)} then, {new.get(k)} now" for k in sorted(old | new) if old.get(k) != new.get(k))


def write(file: Path, state: dict[str, Any]) -> None:
    """`torch.save`, atomically, to bytes that do not depend on the file's name."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("wb") as stream:
            stream.write(buffer.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def read(file: Path) -> dict[str, Any]:
    """What `write` wrote; nothing in the file is executed."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{file} is no checkpoint ({type(error).__name__}); delete it to start afresh") from error
