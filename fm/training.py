"""The training loop: regress a network on the velocity of a conditional path.

Five choices are independent and meet only here: the path, the coupling, the law of t, the source and the network.
Everything random is decided by one `torch.Generator` a process, whose state is part of the checkpoint, so that a run
that was killed goes on to the same bytes as one that was not.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from accelerate.utils import broadcast
from torch import Tensor, nn

from fm import _accelerator, _resume, couplings, paths
from fm import times as time_laws
from fm._batches import Batch, DrawBatch, Example, NotFinite, Source, draw_example, endless, gaussian
from fm._checks import require, require_one_of
from fm._muon import Muon
from fm._objective import Batch as Tensors
from fm._objective import Called, Objective, Where
from fm._replay import AHEAD, Losses, Replayed, on_device

__all__ = [
    "Batch", "DrawBatch", "Example", "NotFinite", "Objective", "Progress", "Source", "TrainConfig", "TrainResult",
    "draw_example", "gaussian", "optimize", "optimizers_of", "train",
]  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        steps: optimizer steps in all.
        learning_rate: its peak, reached after `warmup` steps; then a half cosine down to 0, or constant.
        hidden_learning_rate: if given, the peak rate at which Muon (Jordan et al. 2024), whose updates are orthogonal,
            trains the matrices between hidden layers; AdamW trains the rest. None: AdamW trains all.
        weight_decay: of both; 0 is none.
        optimizer: parameters → an optimizer of one's own in AdamW's place, such as partial(torch.optim.SGD, lr=0.1),
            whose rates go the way of `schedule`; `learning_rate` and `weight_decay` have no part in it.
        clip: the largest gradient norm.
        ema: the largest decay of the weights' running mean; it grows as 1 - (1 + step)^(-3/4) until then. 0: none.
        condition_dropout: share of clouds trained without their condition, for guidance.
        times_per_cloud: a cloud is split into this many parts, each at its own t; at most its number of points.
            More times lower the variance of a batch; a network that looks at whole clouds needs 1. Vectors and
            pictures have one time each.
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
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None
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
    """What a callback sees after each step. step counts from 1. On an accelerator the loss is that of a few steps ago.

    network: what the run would give if it ended here, in evaluation mode on the device of training. Look, don't change.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    network: nn.Module = field(repr=False)


@dataclass(frozen=True)
class TrainResult:
    """A trained network on the CPU (the running mean of its weights, and its last buffers), the loss of each step
    [steps], and the step that a checkpoint let the run start from."""

    network: nn.Module
    losses: Tensor
    resumed_at: int


def train(
    network: nn.Module,
    draw_batch: DrawBatch | Iterable[Any],
    config: TrainConfig,
    *,
    checkpoint_dir: Path | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Train `network` on the batches that `draw_batch` gives.

    Args:
        network: of `fm.networks`, or any module with their forward(x, t, condition, keep), of which the last two may be
            missing where there is no condition, and keep where `condition_dropout` is 0. If it gives a pair, the
            second is the score, which is learned beside the velocity ([SF]²M, arXiv 2307.03672); the path must then
            have noise. Trained in place, on the device Accelerate chooses. Under `accelerate launch` every process
            draws its own batches and the gradients are averaged.
        draw_batch: a function of a generator, or a DataLoader. Its numbers are cast to the network's precision; integer
            conditions stay what they are.
        checkpoint_dir: where `checkpoint.pt` is kept. If it holds one of the same run, training goes on from there, and
            so it does if the run is now to have more steps.
        on_step: called after each step in the main process. What it raises ends the run, and in a run of one process
            the checkpoint of the steps done is written first.

    Raises:
        NotFinite: data, loss or gradient became NaN or infinite.
        ValueError: the checkpoint belongs to another run, or a batch has the wrong shape.
    """
    weight = next(network.parameters())
    dtype = torch.promote_types(weight.dtype, torch.float32)
    draw_next: DrawBatch | None = None
    parts = 1

    def draw(generator: torch.Generator, step: int) -> list[Tensor | None]:
        nonlocal draw_next, parts
        draw_next = draw_next or endless(draw_batch, generator.initial_seed(), step)
        example = draw_example(draw_next, config, generator, step)
        parts = example.parts
        tensors = [*example, example.noise, example.spread]
        return [v.to(dtype) if v is not None and v.is_floating_point() else v for v in tensors]  # labels stay integers

    def loss(model: Called, *batch: Tensor | None) -> tuple[Tensor, Where]:
        x, t, condition, keep, velocity, noise, spread = batch
        assert velocity is not None
        predicted = model(x, t, *(v for v in (condition, keep) if v is not None))
        return _loss(predicted, velocity, noise, spread, config.path), lambda: _where(predicted, velocity, parts)

    return optimize(network, Objective(draw, loss), config, checkpoint_dir=checkpoint_dir, on_step=on_step)


def optimize(
    network: nn.Module,
    objective: Objective,
    config: TrainConfig,
    *,
    checkpoint_dir: Path | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """`train` for any loss of any network, such as `fm.autoencoder.bound`.

    What `config` says of pairs and times has no part in it. CUDA replays the loss and its gradient as one graph where
    the network is one of this package, whose steps are all alike (`replayable`), in a single process.
    """
    accelerator = _accelerator.of_precision(config.precision)
    network.train().to(accelerator.device)
    ema = copy.deepcopy(network).requires_grad_(False).eval()
    model, *optimizers = accelerator.prepare(network, *optimizers_of(network, config))
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # else `network` would compute in this precision for good

    def called(*inputs: Tensor) -> Any:
        with accelerator.autocast():
            return model(*inputs)

    generator = torch.Generator().manual_seed(config.seed * 1009 + accelerator.process_index)
    losses = torch.zeros(config.steps, dtype=torch.float64)

    file = None if checkpoint_dir is None else Path(checkpoint_dir) / "checkpoint.pt"
    settings = {} if file is None else _resume.describe(config)
    run = _resume.Run(settings, network, ema, optimizers, accelerator.scaler, generator, losses)
    first = run.restore(file, accelerator) if file is not None and file.is_file() else 0

    weights: list[Tensor] = list(network.parameters())
    averaged: list[Tensor] = list(ema.parameters())

    def gradient(batch: Tensors) -> tuple[Tensor, Where]:
        loss, where = objective.loss(called, *on_device(batch, accelerator.device))
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(weights, config.clip)
        scaled = accelerator.scaler is not None  # then one that is not finite only makes the scale smaller
        return torch.stack([loss.detach(), loss.new_zeros(()) if scaled else norm.to(loss.dtype)]), where

    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    replayed = _replayed(network, config, accelerator)
    for group in groups:
        if "capturable" in group:
            group["capturable"] = replayed
        if replayed:
            group["lr"] = torch.zeros((), device=accelerator.device)

    @torch.no_grad()
    def replayable_step(batch: Tensors) -> Tensor:
        """What the loop below does in a step, for a batch with two shares: of the peak rates, and of the new weights
        in their mean."""
        *drawn, shares = batch
        assert shares is not None
        with torch.enable_grad():
            found, _ = gradient(drawn)
        for group in groups:
            group["lr"].copy_(group["peak"] * shares[0])
        for optimizer in optimizers:
            optimizer.step()
        apart = torch._foreach_sub(weights, averaged)
        torch._foreach_mul_(apart, shares[1])
        torch._foreach_add_(averaged, apart)
        return found

    replay = Replayed(replayable_step, weights) if replayed else None
    read = Losses(losses, ahead=AHEAD if replayed else 0)
    with _stream_of_its_own() if replayed else contextlib.nullcontext():
        for step in range(first, config.steps):
            rate, decay = config.learning_rate_at(step), config.ema_decay_at(step)
            batch = objective.draw(generator, step)
            if replay is not None:
                shares = torch.tensor([rate / config.learning_rate, 1 - decay])
                read.add(step, replay([*batch, shares]), lambda: "in its batch")
            else:
                read.add(step, *gradient(batch))
                for group in groups:
                    group["lr"] = group["peak"] * rate / config.learning_rate
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                with torch.no_grad():
                    torch._foreach_lerp_(averaged, weights, 1 - decay)
            done = step + 1
            due = done % config.checkpoint_every == 0 or done == config.steps
            try:
                if on_step is not None and accelerator.is_main_process:
                    for kept, buffer in zip(ema.buffers(), network.buffers(), strict=True):
                        kept.copy_(buffer)
                    on_step(Progress(done, config.steps, read.last, rate, ema))
            except BaseException:
                due = accelerator.num_processes == 1  # of several, the others are on their way through the next step
                raise
            finally:
                if due:
                    read.rest()
                    if file is not None:
                        run.save(file, done, accelerator)
    return TrainResult(_finished(ema, network), losses, first)


def _replayed(network: nn.Module, config: TrainConfig, accelerator: Any) -> bool:
    ours = getattr(network, "replayable", False) and config.optimizer is None and accelerator.scaler is None
    return ours and accelerator.device.type == "cuda" and accelerator.num_processes == 1


@contextlib.contextmanager
def _stream_of_its_own() -> Iterator[None]:
    """A stream of CUDA's that is not the default one, from which no graph can be taken."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


def optimizers_of(network: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW or one's own, and Muon for the hidden matrices if wanted; each group carries its `peak` learning rate."""
    rate = config.hidden_learning_rate
    known = rate is None or hasattr(network, "hidden_weights")
    require(known, "hidden_learning_rate", rate, f"None for {type(network).__name__}, which has no hidden_weights()")
    hidden = [] if rate is None else cast("Callable[[], list[Tensor]]", network.hidden_weights)()
    others = [weight for weight in network.parameters() if all(weight is not matrix for matrix in hidden)]
    adam = partial(torch.optim.AdamW, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    optimizers = [(config.optimizer or adam)(others)]
    if rate is not None and hidden:
        optimizers.append(Muon(hidden, lr=rate, weight_decay=config.weight_decay))
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["peak"] = group["lr"]
    return optimizers


def _loss(
    predicted: Tensor | tuple[Tensor, Tensor],
    true: Tensor,
    noise: Tensor | None,
    spread: Tensor | None,
    path: paths.Path,
) -> Tensor:
    velocity, score = predicted if isinstance(predicted, tuple) else (predicted, None)
    loss = F.mse_loss(velocity.to(true.dtype), true)
    if score is None:
        return loss
    require(noise is not None, "path", path.name, "one with noise, as bridge(sigma) has, for a network with a score")
    assert noise is not None and spread is not None
    weight = spread.reshape(-1, *[1] * (noise.ndim - 1))
    return loss + F.mse_loss(weight * score.to(noise.dtype), -noise)


@torch.no_grad()
def _finished(ema: nn.Module, network: nn.Module) -> nn.Module:
    """The running mean, with what has none as the main process has it: buffers, and which weights are frozen."""
    trained = dict(network.named_buffers())
    for name, buffer in ema.named_buffers():
        buffer.copy_(broadcast(trained[name]))
    for kept, weight in zip(ema.parameters(), network.parameters(), strict=True):
        kept.requires_grad_(weight.requires_grad)
    return ema.eval().cpu()


def _where(predicted: Tensor | tuple[Tensor, Tensor], true: Tensor, parts: int) -> str:
    velocity = predicted[0] if isinstance(predicted, tuple) else predicted
    apart = (velocity.detach().float() - true).square().flatten(1).mean(1)
    bad = sorted({i // parts for i in (~torch.isfinite(apart)).nonzero().flatten().tolist()})
    return f"at batch positions {bad}"
