"""Networks that move every point by itself: what they share, the original recipe's, and the default."""

import math
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fm._checks import require


class Conditioned(nn.Module):
    """What all velocity networks share: their sizes, how they are called, and the scale of their condition.

    A network defines `move`, for clouds x [B, N, D] and conditions [B, C]. Vectors [B, D] are clouds of one point, and
    labels [B] stand for their one-hot rows.

    Embeddings of text share a large common component (mean cosine 0.8), so what tells them apart is small. A network
    sees the condition standardised by the training set's statistics: each of its C numbers by `condition_mean` and
    `condition_std` [C], or with `components` K its first K principal components, each by its own standard deviation
    [K]; the other directions tell the training set's texts apart by chance.
    """

    replayable = True  # no step differs from another in what is computed
    condition_mean: Tensor
    condition_std: Tensor
    condition_components: Tensor | None

    def __init__(self, dim: int, condition_dim: int, components: int | None = None) -> None:
        super().__init__()
        require(dim >= 1, "dim", dim, "1 or more")
        require(condition_dim >= 1, "condition_dim", condition_dim, "1 or more")
        fits = components is None or 1 <= components <= condition_dim
        require(fits, "components", components, f"1 to condition_dim = {condition_dim}, or None")
        self.dim = dim
        self.condition_dim = condition_dim
        self.condition_inputs = components or condition_dim
        self.register_buffer("condition_mean", torch.zeros(condition_dim))
        self.register_buffer("condition_std", torch.ones(self.condition_inputs))
        self.register_buffer("condition_components", torch.eye(condition_dim)[:components] if components else None)

    @torch.no_grad()
    def standardize(self, conditions: Tensor) -> None:
        """Take mean, standard deviation and principal components from the training set's conditions [M, C]."""
        require(
            conditions.ndim == 2 and conditions.shape[1] == self.condition_dim,
            "the shape of conditions", tuple(conditions.shape), f"[M, {self.condition_dim}]",
        )  # fmt: skip
        conditions = conditions.cpu().double()
        self.condition_mean.copy_(conditions.mean(0))
        spread = conditions.std(0, correction=0)
        if self.condition_components is not None:
            _, values, rows = torch.linalg.svd(conditions - conditions.mean(0), full_matrices=False)
            found = min(len(values), self.condition_inputs)
            signs = rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
            self.condition_components.zero_()[:found] = (signs * rows)[:found]
            spread = F.pad(values[:found] / len(conditions) ** 0.5, (0, self.condition_inputs - found))
            spread = torch.where(spread > 1e-6 * spread.max(), spread, 0.0)
        self.condition_std.copy_(torch.where(spread > 0, spread, 1.0))

    def hidden_weights(self) -> list[Tensor]:
        """The matrices from hidden units to hidden units, which `TrainConfig.hidden_learning_rate` is about."""
        raise NotImplementedError

    def standardized(self, condition: Tensor) -> Tensor:
        apart = condition - self.condition_mean
        if self.condition_components is not None:
            apart = apart @ self.condition_components.T
        return apart / self.condition_std

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        if condition is not None and condition.ndim == 1 and not condition.is_floating_point():
            condition = F.one_hot(condition.long(), self.condition_dim).to(x.dtype)
        if x.ndim == 2:
            return self.forward(x.unsqueeze(1), t, condition, keep).squeeze(1)
        self.check(x, t, condition, keep)
        return self.move(x, t, condition, keep)

    def move(self, x: Tensor, t: Tensor, condition: Tensor | None, keep: Tensor | None) -> Tensor:
        """The velocity of each point, [B, N, D]."""
        raise NotImplementedError

    def check(self, x: Tensor, t: Tensor, condition: Tensor | None, keep: Tensor | None) -> None:
        require(x.ndim == 3 and x.shape[-1] == self.dim, "the shape of x", tuple(x.shape), f"[B, N, {self.dim}]")
        batch = x.shape[0]
        require(t.shape == (batch,), "the shape of t", tuple(t.shape), f"[{batch}], one time for each cloud")
        if condition is not None:
            wanted = (batch, self.condition_dim)
            require(condition.shape == wanted, "the shape of condition", tuple(condition.shape), f"{list(wanted)}")
        if keep is not None:
            require(keep.shape == (batch,), "the shape of keep", tuple(keep.shape), f"[{batch}]")
            require(keep.dtype == torch.bool, "the dtype of keep", keep.dtype, "torch.bool")


class PointMLP(Conditioned):
    """The original recipe: an MLP on [x, t, condition] of every single point.

    With 2 + 1 + 512 inputs, 6 linear layers and 512 units it has 1,315,842 parameters, and spends most of its time on
    multiplying the same condition once for each point. It sees the condition as given; none is a row of zeros.
    """

    def __init__(self, *, layers: int, width: int, dim: int = 2, condition_dim: int = 512) -> None:
        super().__init__(dim, condition_dim)
        require(layers >= 2, "layers", layers, "2 or more")
        sizes = [dim + 1 + condition_dim, *[width] * (layers - 1)]
        hidden = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dim))

    def standardize(self, conditions: Tensor) -> None:
        """The original recipe feeds embeddings as they are; nothing to take."""

    def hidden_weights(self) -> list[Tensor]:
        return linear_weights(self.layers[1:-1])

    def move(self, x: Tensor, t: Tensor, condition: Tensor | None, keep: Tensor | None) -> Tensor:
        if condition is None:
            condition = x.new_zeros(x.shape[0], self.condition_dim)
        if keep is not None:
            condition = condition * keep.unsqueeze(1)
        per_cloud = torch.cat([t.unsqueeze(1), condition], dim=1).to(x.dtype)
        return self.layers(torch.cat([x, per_cloud.unsqueeze(1).expand(-1, x.shape[1], -1)], dim=2))


class Film(Conditioned):
    """Residual blocks over Fourier features of each point, modulated once per cloud by (t, condition).

    The modulation is DiT's adaLN-Zero (Peebles and Xie, arXiv 2212.09748): shift, scale and gate of every block from
    one small network, the gates zero at the start, so that the blocks begin as the identity. Fourier features let the
    points resolve fine detail (Tancik et al., arXiv 2006.10739).

    Args:
        components: principal components of the condition that the network sees; None: all of it.
        width: units of the residual stream. blocks: residual blocks.
        embedding: units of what is computed once per cloud, which costs little and decides much.
        frequencies: Fourier features of x. bandwidth: their standard deviation in radians per unit of x.
    """

    frequencies: Tensor
    time_frequencies: Tensor

    def __init__(
        self,
        *,
        dim: int = 2,
        condition_dim: int = 512,
        components: int | None = None,
        width: int = 96,
        blocks: int = 6,
        embedding: int = 512,
        frequencies: int = 64,
        bandwidth: float = 4.0,
    ) -> None:
        super().__init__(dim, condition_dim, components)
        require(blocks >= 1, "blocks", blocks, "1 or more")
        self.register_buffer("frequencies", torch.randn(dim, frequencies) * bandwidth)
        self.register_buffer("time_frequencies", math.pi * 2.0 ** torch.arange(0, 4, 0.5))
        self.embed_points = nn.Linear(dim + 2 * frequencies, width)
        self.embed_time = nn.Linear(1 + 2 * len(self.time_frequencies), embedding)
        self.embed_condition = nn.Linear(self.condition_inputs, embedding)
        self.no_condition = nn.Parameter(torch.zeros(embedding))
        self.deepen = nn.Sequential(
            nn.LayerNorm(embedding, elementwise_affine=False), nn.SiLU(), nn.Linear(embedding, embedding),
            nn.SiLU(), nn.Linear(embedding, embedding),
        )  # fmt: skip
        self.embed = nn.Linear(embedding, embedding)
        self.modulation = nn.Linear(embedding, (3 * blocks + 2) * width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(width, width), "down": nn.Linear(width, width)}) for _ in range(blocks)
        )
        self.head = nn.Linear(width, dim)
        for layer in (self.modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def move(self, x: Tensor, t: Tensor, condition: Tensor | None, keep: Tensor | None) -> Tensor:
        (shift, gain), *modulations = self.modulate(t, condition, keep, x.shape[0])
        h = self.features(x)
        for block, (bias, scale, gate) in zip(cast("list[nn.ModuleDict]", self.blocks), modulations, strict=True):
            h = torch.addcmul(h, gate, block["down"](F.gelu(block["up"](modulated(h, bias, scale)))))
        return self.head(modulated(h, shift, gain))

    def hidden_weights(self) -> list[Tensor]:
        return linear_weights(self.embed_points, self.blocks)

    def features(self, x: Tensor) -> Tensor:
        """Each point [B, N, D] by itself: [B, N, width]."""
        return self.embed_points(with_fourier_features(x, x @ self.frequencies))

    def modulate(
        self, t: Tensor, condition: Tensor | None, keep: Tensor | None, batch: int
    ) -> list[tuple[Tensor, ...]]:
        """Shift and scale before the head, then shift, scale and gate of each block, [B, 1, width] each."""
        unconditional = self.no_condition.expand(batch, -1)
        embedded = unconditional if condition is None else self.embed_condition(self.standardized(condition))
        if condition is not None and keep is not None:
            embedded = torch.where(keep.unsqueeze(1), embedded, unconditional)
        time = t.unsqueeze(1)  # in its own precision until its features are there: half of it tells few times apart
        features = with_fourier_features(time, time * self.time_frequencies).to(embedded.dtype)
        embedded = embedded + self.embed_time(features)
        embedded = embedded + self.deepen(embedded)
        hidden = F.silu(self.embed(F.silu(F.layer_norm(embedded, embedded.shape[-1:]))))
        first, second, *rest = self.modulation(hidden).unsqueeze(1).chunk(3 * len(self.blocks) + 2, dim=-1)
        return [(first, second), *zip(*[iter(rest)] * 3, strict=True)]


def modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The layer norm of h [B, N, width], scaled by 1 + scale and shifted, [B, 1, width] both."""
    return torch.addcmul(shift, F.layer_norm(h, h.shape[-1:]), 1 + scale)


def linear_weights(*parts: nn.Module) -> list[Tensor]:
    """The weights of all linear layers in `parts`."""
    return [layer.weight for part in parts for layer in part.modules() if isinstance(layer, nn.Linear)]


def with_fourier_features(x: Tensor, phase: Tensor) -> Tensor:
    """x [..., D] beside the sines and cosines of phase [..., F]: [..., D + 2 F]."""
    return torch.cat([x, phase.sin(), phase.cos()], dim=-1)
