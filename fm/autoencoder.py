"""A density on a grid as one vector, and back: the latent space in which a flow can draw whole pictures.

A velocity network that moves each point by itself draws the average of all clouds that its condition fits. A flow of
vectors settles on one, and the decoder draws that one sharply (Rombach et al., "High-Resolution Image Synthesis with
Latent Diffusion Models", arXiv 2112.10752, whose autoencoder is of images):

    model = Autoencoder()
    model = training.optimize(model, bound(model, draw_density), config).network    # generator → [B, S, S]
    mean, log_variance = model.encode(density)                                      # [B, L] both
    grids.transport(model.decode(mean).exp(), noise, extent=3.0)
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fm import _objective
from fm._checks import require

_ENCODER = (16, 32, 64, 96, 128)
_FIRST = 8  # cells a side, from which the decoder goes up
_GROUPS = 8


class Autoencoder(nn.Module):
    """Convolutions from densities [B, S, S] of any scale to latents [B, L] and to log densities [B, S, S] again.

    Args:
        side: S, cells a side; a power of 2 from 64 on. latent: L, numbers of a latent.
        widths: channels of the decoder at 8, 16, 32, … cells a side; what lacks to S the last ones are unfolded to.
    """

    replayable = True  # no step differs from another in what is computed

    def __init__(self, *, side: int = 128, latent: int = 64, widths: tuple[int, ...] = (128, 64, 40, 16)) -> None:
        super().__init__()
        require(side >= 64 and side & (side - 1) == 0, "side", side, "a power of 2 from 64 on")
        top = _FIRST * 2 ** (len(widths) - 1)
        require(len(widths) > 0 and top <= side, "the number of widths", len(widths), f"so that {top} is at most side")
        divisible = all(width % _GROUPS == 0 for width in widths)
        require(divisible, "widths", widths, f"multiples of {_GROUPS}")
        self.side, self.latent, self.widths = side, latent, tuple(widths)
        down = [_halving(before, after) for before, after in pairwise((1, *_ENCODER))]
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.posterior = nn.Linear(_ENCODER[-1] * (side // 2 ** len(_ENCODER)) ** 2, 2 * latent)
        self.lift = nn.Sequential(
            nn.Linear(latent, 256), nn.SiLU(), nn.Linear(256, widths[0] * _FIRST**2),
            nn.Unflatten(1, (-1, _FIRST, _FIRST)),
        )  # fmt: skip
        self.decoder = nn.Sequential(*(_Doubling(before, after) for before, after in pairwise(widths)))
        unfold = side // top
        self.head = nn.Sequential(
            nn.GroupNorm(_GROUPS, widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], unfold**2, 3, padding=1),
            nn.PixelShuffle(unfold),
        )  # fmt: skip

    def encode(self, density: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance [B, L] of the latents that densities [B, S, S] may have come from."""
        wanted = (len(density), self.side, self.side)
        require(tuple(density.shape) == wanted, "the shape of density", tuple(density.shape), f"{list(wanted)}")
        relative = density / density.mean((1, 2), keepdim=True)
        mean, log_variance = self.posterior(self.encoder(relative.sqrt().unsqueeze(1))).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 4)

    def decode(self, latent: Tensor) -> Tensor:
        """The log of each cell's share, [B, S, S], for latents [B, L]."""
        cells = self.head(self.decoder(self.lift(latent))).flatten(1)
        return F.log_softmax(cells, dim=1).unflatten(1, (self.side, self.side))

    def forward(self, density: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The reconstruction from one latent of each density, which `noise` [B, L] picks; its mean and log variance."""
        mean, log_variance = self.encode(density)
        return self.decode(mean + (log_variance / 2).exp() * noise), mean, log_variance


Drawn = Tensor | tuple[Tensor, Tensor]
"""Densities [B, S, S], alone or with where to look closer, bool [B, S, S]."""


def bound(
    autoencoder: Autoencoder, draw_density: Callable[[torch.Generator], Drawn], *, points: int = 1024, closer: float = 1
) -> _objective.Objective:
    """What `fm.training.optimize` lowers: minus the evidence lower bound of clouds of `points` points, in nats a point.

    It is the cross entropy of a density [B, S, S] and its reconstruction, and 1/points of the divergence of its latents
    from N(0, I) (Kingma and Welling, "Auto-Encoding Variational Bayes", arXiv 1312.6114, eq. 3 and 10). The density
    takes the points' place, so no noise of a sample is in its gradient.

    Where much is said by few points, draw an area [B, S, S] with each density: the cross entropy of what lies inside,
    as if that were all, then counts `closer` times beside. The true density has the lowest of both.
    """

    def draw(generator: torch.Generator, _step: int) -> tuple[Tensor | None, ...]:
        drawn = draw_density(generator)
        density, area = drawn if isinstance(drawn, tuple) else (drawn, None)
        noise = torch.randn(len(density), autoencoder.latent, generator=generator)
        return density / density.sum((1, 2), keepdim=True), noise, area

    def loss(
        model: _objective.Called, share: Tensor, noise: Tensor, area: Tensor | None
    ) -> tuple[Tensor, _objective.Where]:
        reconstruction, mean, log_variance = model(share, noise)
        entropies = _cross_entropy(share, reconstruction.float())
        if area is not None:
            entropies = entropies + closer * _cross_entropy_inside(share, reconstruction.float(), area)
        divergences = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
        bounds = entropies + divergences / points
        return bounds.mean(), lambda: f"at batch positions {(~bounds.isfinite()).nonzero().flatten().tolist()}"

    return _objective.Objective(draw, loss)


def _cross_entropy(share: Tensor, log_share: Tensor) -> Tensor:
    """Of densities [B, S, S] and the logs of others, in nats a point: [B]."""
    return -(share * log_share).sum((1, 2))


def _cross_entropy_inside(share: Tensor, log_share: Tensor, area: Tensor) -> Tensor:
    """The same of what lies inside `area`; 0 where nothing does."""
    own = share * area
    total = own.sum((1, 2))
    inside = log_share.where(area, -1e4).flatten(1).logsumexp(1)
    of_own = _cross_entropy(own / total.clamp(min=1e-12)[:, None, None], log_share) + inside
    return of_own.where(total > 0, 0.0)


def _halving(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(_GROUPS, after), nn.SiLU())


class _Doubling(nn.Module):
    """A residual block (He et al., arXiv 1512.03385) at twice the cells a side."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(_GROUPS, before), nn.GroupNorm(_GROUPS, after)])
        self.skip = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = F.interpolate(F.silu(self.norms[0](x)), scale_factor=2)
        h = self.second(F.silu(self.norms[1](self.first(wide))))
        return F.interpolate(self.skip(x), scale_factor=2) + h
