"""An autoencoder and a flow of its latents, as one network for clouds in the plane."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fm._pointwise import Film
from fm.autoencoder import Autoencoder

_EMPTY = 0.2


class Latent(nn.Module):
    """An `Autoencoder`, and a `Film` that moves its latents, each number brought to mean 0 and variance 1.

    Args:
        condition_dim: C. extent: half the longer side of the square that densities span.
        autoencoder, flow: sizes of the two, where they are not the default ones.
    """

    dim = 2
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        *,
        condition_dim: int = 512,
        extent: float = 3.0,
        autoencoder: dict[str, Any] | None = None,
        flow: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.condition_dim, self.extent = condition_dim, extent
        self.autoencoder = Autoencoder(**(autoencoder or {}))
        size = self.autoencoder.latent
        own = {"width": 256, "blocks": 4, "embedding": 256, "bandwidth": 0.2, "frequencies": 64} | (flow or {})
        self.flow = Film(dim=size, condition_dim=condition_dim, **own)
        self.register_buffer("latent_mean", torch.zeros(size))
        self.register_buffer("latent_std", torch.ones(size))

    def standardize(self, conditions: Tensor) -> None:
        """Take the scale of the condition from the training set's [M, C]."""
        self.flow.standardize(conditions)

    @torch.no_grad()
    def encode(self, densities: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [M, L] of the latents of densities [B, S, S] each, M in all, standardized.

        Their scale is taken for the network's from here on.
        """
        found = [self.autoencoder.encode(density) for density in densities]
        mean = torch.cat([mean for mean, _ in found])
        variance = torch.cat([log_variance for _, log_variance in found]).exp()
        self.latent_mean.copy_(mean.mean(0))
        self.latent_std.copy_((mean.var(0, correction=0) + variance.mean(0)).sqrt())
        return (mean - self.latent_mean) / self.latent_std, variance.sqrt() / self.latent_std

    @torch.no_grad()
    def density(self, latent: Tensor) -> Tensor:
        """The share of each cell, [B, S, S], for standardized latents [B, L].

        A decoder is never quite sure that a cell is empty; those below `_EMPTY` of an even share are.
        """
        share = self.autoencoder.decode(latent * self.latent_std + self.latent_mean).exp()
        return torch.where(share < _EMPTY / share[0].numel(), 0.0, share)
