"""What a training run must remember to go on exactly where it was, in one file without pickled code."""

import hashlib
import inspect
import io
import os
import re
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn


@dataclass
class Run:
    """The state of a run: it is saved and restored in place. Its settings are as `describe` had them at the start."""

    settings: dict[str, str]
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
            "run": self.settings,
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
        """Take everything from the file, which may be of a run of fewer steps; the number of steps done."""
        state = read(file)
        then, now = ({**settings, "steps": ""} for settings in (state["run"], self.settings))
        if then != now or len(state["losses"]) > len(self.losses):
            raise ValueError(
                f"{file} belongs to a run with other settings ({_difference(state['run'], self.settings)}); "
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
        self.losses[: len(state["losses"])] = state["losses"]
        return state["step"]


def describe(config: Any) -> dict[str, str]:
    """The settings that decide a run's result, as texts."""
    said = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "checkpoint_every"}
    return {name: _name(value) for name, value in said.items()}


def _name(value: Any, above: tuple[int, ...] = ()) -> str:
    """What a setting is: the same in another process, and another for all that could make another result."""

    def settled(values: dict[str, Any]) -> str:
        return ", ".join(f"{k}={name(v)}" for k, v in values.items() if v is not None)

    if id(value) in above:
        return "itself"
    name = partial(_name, above=(*above, id(value)))
    if isinstance(value, Tensor | np.ndarray):
        data = torch.as_tensor(value).detach().cpu().flatten()
        return f"{data.dtype}{list(value.shape)} {_digest(data.view(torch.uint8).numpy().tobytes())}"
    if isinstance(value, dict):
        return f"{{{settled(value)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(name, value))}]"
    if isinstance(value, partial):
        return f"{name(value.func)}({', '.join([*map(name, value.args), settled(value.keywords)])})"
    if isinstance(value, MethodType):
        return f"{name(value.__self__)}.{value.__name__}"
    if isinstance(value, FunctionType):
        full, seen = f"{value.__module__}.{value.__qualname__}", inspect.getclosurevars(value)
        if full.startswith("fm."):
            return f"{full}({settled(dict(seen.nonlocals))})" if seen.nonlocals else full
        numbers = {k: v for k, v in seen.globals.items() if isinstance(v, int | float | str | Tensor)}
        defaults = {"defaults": value.__defaults__, "keywords": value.__kwdefaults__}
        return f"{full} {_digest(_code(value.__code__))}({settled({**seen.nonlocals, **numbers, **defaults})})"
    if hasattr(value, "__dict__") and not isinstance(value, type | ModuleType):
        return f"{type(value).__qualname__}({settled(vars(value))})"
    return getattr(value, "__qualname__", None) or re.sub(" at 0x[0-9a-f]+", "", repr(value))


def _code(code: CodeType) -> bytes:
    """What a function does, wherever it stands."""
    constants = [_code(c) if isinstance(c, CodeType) else str(sorted(map(repr, c))).encode()
                 if isinstance(c, frozenset) else repr(c).encode() for c in code.co_consts]  # fmt: skip
    return b"\0".join([code.co_code, repr(code.co_names).encode(), *constants])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


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
