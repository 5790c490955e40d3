"""The training loop: regress a network on the velocity of a conditional path.

Five choices are independent and meet only here: the path, the coupling, the law of t, the source and the network.
Everything random is decided by one `torch.Generator` a process, whose state is part of the checkpoint, so that a run
that was killed goes on to the same bytes as one that was not.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import broadcast
from torch import Tensor, nn

from fm import _resume, couplings, paths
from fm import times as time_laws
from fm._checks import require, require_one_of
from fm._muon import Muon


class Batch(NamedTuple):
    """Clouds x1 [B, N, D] and their conditions [B, C]; also x0 where the pairs are already made, as in reflow, and the
    time t [B] of each cloud where that is settled, too. A plain tuple of the first ones will do."""

    x1: Tensor
    condition: Tensor | None = None
    x0: Tensor | None = None
    t: Tensor | None = None


DrawBatch = Callable[[torch.Generator], Batch | tuple[Tensor, ...] | Tensor]
"""generator → a `Batch`, a tuple of its first members, or the clouds alone"""
Source = Callable[[Tensor, torch.Generator], Tensor]
"""data x1 and a generator → x0 of x1's shape"""


class NotFinite(RuntimeError):
    """A batch, a loss or a gradient is NaN or infinite; the message names the step and the part of the batch."""


def gaussian(x1: Tensor, generator: torch.Generator) -> Tensor:
    """x0 ~ N(0, I)."""
    return torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=generator.device).to(x1.device)


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        steps: optimizer steps in all.
        learning_rate: its peak, reached after `warmup` steps; then a half cosine down to 0, or constant.
        hidden_learning_rate: if given, the peak rate at which Muon (Jordan et al. 2024), whose updates are orthogonal,
            trains the matrices between hidden layers; AdamW trains the rest. None: AdamW trains all.
        weight_decay: of both; 0 is none.
        clip: the largest gradient norm.
        ema: the largest decay of the weights' running mean; it grows as 1 - (1 + step)^(-3/4) until then. 0: none.
        condition_dropout: share of clouds trained without their condition, for guidance.
        times_per_cloud: a cloud is split into this many parts, each at its own t; at most its number of points.
            More times lower the variance of a batch; a network that looks at whole clouds needs 1.
        checkpoint_every: steps between checkpoints.
        precision: "auto" (bf16 on an accelerator that has it, else float32), "no", "bf16" or "fp16".
        path, coupling, times, source: x0 and x1 to (x_t, u_t); the pairs; t; what x0 is.
    """

    steps: int
    learning_rate: float = 2e-3
    hidden_learning_rate: float | None = None
    warmup: int = 100
    schedule: str = "cosine"
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    condition_dropout: float = 0.1
    times_per_cloud: int = 4
    checkpoint_every: int = 500
    precision: str = "auto"
    seed: int = 0
    path: paths.Path = field(default_factory=paths.linear)
    coupling: couplings.Coupling = couplings.exact_ot
    times: time_laws.Times = time_laws.stratified
    source: Source = gaussian

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", self.steps, "1 or more")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "positive")
        hidden = self.hidden_learning_rate
        require(hidden is None or hidden > 0, "hidden_learning_rate", hidden, "positive, or None")
        require(self.warmup >= 0, "warmup", self.warmup, "0 or more")
        require_one_of("schedule", self.schedule, ["cosine", "constant"])
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        require(self.clip > 0, "clip", self.clip, "positive")
        require(0 <= self.ema < 1, "ema", self.ema, "in [0, 1)")
        require(0 <= self.condition_dropout < 1, "condition_dropout", self.condition_dropout, "in [0, 1)")
        require(self.times_per_cloud >= 1, "times_per_cloud", self.times_per_cloud, "1 or more")
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "1 or more")
        require_one_of("precision", self.precision, ["auto", "no", "bf16", "fp16"])

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step 0, 1, …"""
        ramp = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return self.learning_rate * ramp
        progress = max(0, step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * ramp * (1 + math.cos(math.pi * progress)) / 2

    def ema_decay_at(self, step: int) -> float:
        return min(self.ema, 1 - (1 + step) ** -0.75)


@dataclass(frozen=True)
class Progress:
    """What a callback sees after each step. step counts from 1."""

    step: int
    steps: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class TrainResult:
    """A trained network on the CPU (the running mean of its weights, and its last buffers), the loss of each step
    [steps], and the step that a checkpoint let the run start from."""

    network: nn.Module
    losses: Tensor
    resumed_at: int


def train(
    network: nn.Module,
    draw_batch: DrawBatch,
    config: TrainConfig,
    *,
    checkpoint_dir: Path | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Train `network` on the batches that `draw_batch` gives.

    Args:
        network: of `fm.networks`, or any module with their forward(x, t, condition, keep); trained in place, on the
            device Accelerate chooses. Under `accelerate launch` every process draws its own batches and the gradients
            are averaged.
        draw_batch: its numbers are cast to the network's precision; integer conditions stay what they are.
        checkpoint_dir: where `checkpoint.pt` is kept. If it holds one of the same run, training goes on from there.
        on_step: called after each step in the main process. What it raises ends the run, and in a run of one process
            the checkpoint of the steps done is written first.

    Raises:
        NotFinite: data, loss or gradient became NaN or infinite.
        ValueError: the checkpoint belongs to another run, or a batch has the wrong shape.
    """
    accelerator = _accelerator(_precision(config.precision))
    network.train().to(accelerator.device)
    ema = copy.deepcopy(network).requires_grad_(False)
    model, *optimizers = accelerator.prepare(network, *optimizers_of(network, config))
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # else `network` would compute in this precision for good
    generator = torch.Generator().manual_seed(config.seed * 1009 + accelerator.process_index)
    losses = torch.zeros(config.steps, dtype=torch.float64)

    file = None if checkpoint_dir is None else Path(checkpoint_dir) / "checkpoint.pt"
    settings = {} if file is None else _resume.describe(config)
    run = _resume.Run(settings, network, ema, optimizers, accelerator.scaler, generator, losses)
    first = run.restore(file, accelerator) if file is not None and file.is_file() else 0

    weights: list[Tensor] = list(network.parameters())
    averaged: list[Tensor] = list(ema.parameters())
    dtype = torch.promote_types(weights[0].dtype, torch.float32)
    for step in range(first, config.steps):
        rate = config.learning_rate_at(step)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak"] * rate / config.learning_rate
        x, t, condition, keep, velocity = draw_example(draw_batch, config, generator, step)
        x, t, velocity = (v.to(accelerator.device, dtype) for v in (x, t, velocity))
        keep = None if keep is None else keep.to(accelerator.device)
        if condition is not None:  # labels stay integers
            condition = condition.to(accelerator.device, dtype if condition.is_floating_point() else None)
        with accelerator.autocast():
            predicted = model(x, t, condition, keep)
        loss = F.mse_loss(predicted.to(dtype), velocity)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(weights, config.clip)
        losses[step] = value = loss.item()
        if not math.isfinite(value) or (accelerator.scaler is None and not math.isfinite(float(norm))):
            raise NotFinite(_diagnose(step, value, predicted, velocity, config.times_per_cloud))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, weights, 1 - config.ema_decay_at(step))
        done = step + 1
        due = done % config.checkpoint_every == 0 or done == config.steps
        try:
            if on_step is not None and accelerator.is_main_process:
                on_step(Progress(done, config.steps, value, rate))
        except BaseException:
            due = accelerator.num_processes == 1  # of several, the others are on their way through the next step
            raise
        finally:
            if file is not None and due:
                run.save(file, done, accelerator)
    return TrainResult(_finished(ema, network), losses, first)


def optimizers_of(network: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the hidden matrices if wanted; each group carries its `peak` learning rate."""
    rate = config.hidden_learning_rate
    known = rate is None or hasattr(network, "hidden_weights")
    require(known, "hidden_learning_rate", rate, f"None for {type(network).__name__}, which has no hidden_weights()")
    hidden = [] if rate is None else cast("Callable[[], list[Tensor]]", network.hidden_weights)()
    others = [weight for weight in network.parameters() if all(weight is not matrix for matrix in hidden)]
    adam = {"params": others, "peak": config.learning_rate}
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([adam], lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    ]
    if rate is not None and hidden:
        optimizers.append(Muon([{"params": hidden, "peak": rate}], lr=rate, weight_decay=config.weight_decay))
    return optimizers


def draw_example(
    draw_batch: DrawBatch, config: TrainConfig, generator: torch.Generator, step: int = 0
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor]:
    """One batch ready for the network: x_t [B·k, N/k, D], t, condition, keep, u_t, with k = times_per_cloud."""
    drawn = draw_batch(generator)
    x1, condition, x0, t = Batch(drawn) if isinstance(drawn, Tensor) else Batch(*drawn)
    x1 = x1 if x1.is_floating_point() else x1.to(torch.get_default_dtype())
    x0 = None if x0 is None else x0.to(x1)
    require(x1.ndim == 3 and x1.numel() > 0, "the shape of a batch of clouds", tuple(x1.shape), "[B, N, D]")
    for name, value in (("the clouds", x1), ("the conditions", condition), ("the source", x0)):
        if value is not None and not torch.isfinite(value).all():
            bad = (~torch.isfinite(value.flatten(1)).all(1)).nonzero().flatten().tolist()
            raise NotFinite(f"step {step}: {name} of the batch hold NaN or infinity at batch positions {bad}")
    clouds, points, _ = x1.shape
    k = min(config.times_per_cloud, points)
    require(points % k == 0, "times_per_cloud", k, f"a divisor of the {points} points of a cloud")
    if x0 is None:
        x0 = config.coupling(config.source(x1, generator), x1, condition=condition, generator=generator)
    t = config.times(clouds * k, generator).to(x1) if t is None else t.repeat_interleave(k).to(x1)
    x0, x1 = (v.reshape(clouds * k, points // k, -1) for v in (x0, x1))
    x, velocity = config.path(x0, x1, t, generator=generator)
    keep = None
    if condition is not None:
        require(len(condition) == clouds, "the number of conditions of a batch", len(condition), f"{clouds}")
        condition = condition.repeat_interleave(k, dim=0)
        if config.condition_dropout > 0:
            kept = torch.rand(clouds, generator=generator) >= config.condition_dropout
            keep = kept.repeat_interleave(k)
    return x, t, condition, keep, velocity


@torch.no_grad()
def _finished(ema: nn.Module, network: nn.Module) -> nn.Module:
    """The running mean, with what has none as the main process has it: buffers, and which weights are frozen."""
    trained = dict(network.named_buffers())
    for name, buffer in ema.named_buffers():
        buffer.copy_(broadcast(trained[name]))
    for kept, weight in zip(ema.parameters(), network.parameters(), strict=True):
        kept.requires_grad_(weight.requires_grad)
    return ema.eval().cpu()


def _accelerator(precision: str) -> Accelerator:
    """Accelerate keeps one precision for all of a process; this one has its own, and leaves others theirs."""
    others = AcceleratorState().mixed_precision if is_initialized() else precision
    if is_initialized():
        AcceleratorState()._mixed_precision = precision
    # a batch need not reach every weight: without a condition, say, or without dropping any
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[unused])
    accelerator.state = copy.copy(accelerator.state)
    AcceleratorState()._mixed_precision = others
    return accelerator


def _precision(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


def _diagnose(step: int, loss: float, predicted: Tensor, velocity: Tensor, k: int) -> str:
    apart = (predicted.detach().float() - velocity).square().flatten(1).mean(1)
    bad = sorted({i // k for i in (~torch.isfinite(apart)).nonzero().flatten().tolist()})
    where = f"at batch positions {bad}" if bad else "in the gradient alone"
    return f"step {step}: training stopped, the loss is {loss} and not finite {where}; try a lower learning_rate"
