"""A cloud as one vector and back: the encoder sums up a set, the decoder is a flow that draws as many points as wanted.

Encoder and decoder learn together by plain flow matching on the points. The condition of a batch is the cloud itself,
so `fm.training.train` trains an `Autoencoder` like any network (Yang et al., "PointFlow", arXiv 1906.12320, section 4,
whose decoder is a continuous normalizing flow, too; trained here without its likelihood):

    def draw_batch(generator):                                   # two samples of the same shapes, [B, N, D] both
        return sample_of_each(generator), another_sample_of_each(generator)

    autoencoder = training.train(Autoencoder(dim=2), draw_batch, config).network
    latents = autoencoder.encode(clouds)                         # [B, L]
    sampling.sample(autoencoder.decoder, latents, num_points)    # [B, num_points, D]
"""

from typing import Any

import torch
from torch import Tensor, nn

from fm import networks
from fm._checks import require, require_clouds
from fm._pointwise import linear_weights, with_fourier_features


class Encoder(nn.Module):
    """Clouds [B, N, D] of any N → latents [B, L], the same for every order of the points.

    Each point alone goes through an MLP over its Fourier features, and the largest value of each unit is what the
    cloud has of it (Qi et al., "PointNet", arXiv 1612.00593). Latents have mean 0 and variance 1 over their L numbers.
    """

    frequencies: Tensor

    def __init__(self, *, dim: int, latent: int, width: int, frequencies: int, bandwidth: float) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("frequencies", torch.randn(dim, frequencies) * bandwidth)
        self.points = nn.Sequential(
            nn.Linear(dim + 2 * frequencies, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, 2 * width),
        )  # fmt: skip
        self.whole = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, latent),
            nn.LayerNorm(latent, elementwise_affine=False),
        )  # fmt: skip

    def forward(self, clouds: Tensor) -> Tensor:
        require_clouds("clouds", clouds)
        require(clouds.shape[-1] == self.dim, "the shape of clouds", tuple(clouds.shape), f"[B, N, {self.dim}]")
        return self.whole(self.points(with_fourier_features(clouds, clouds @ self.frequencies)).amax(dim=1))


class Autoencoder(nn.Module):
    """An encoder and an `fm.networks.Film` decoder whose condition is the latent.

    Called as a velocity network whose condition is a cloud [B, M, D]: it encodes that cloud and moves the points x by
    the decoder.

    Args:
        latent: L, numbers of a latent. width: units of the encoder; the decoder's sizes go into `decoder`.
    """

    def __init__(
        self,
        *,
        dim: int = 2,
        latent: int = 32,
        width: int = 64,
        frequencies: int = 32,
        bandwidth: float = 3.0,
        decoder: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encode = Encoder(dim=dim, latent=latent, width=width, frequencies=frequencies, bandwidth=bandwidth)
        self.decoder = networks.Film(**{"dim": dim, "condition_dim": latent, "embedding": 256, **(decoder or {})})

    def forward(self, x: Tensor, t: Tensor, cloud: Tensor, keep: Tensor | None = None) -> Tensor:
        return self.decoder(x, t, self.encode(cloud), keep)

    def hidden_weights(self) -> list[Tensor]:
        return [*linear_weights(self.encode.points, self.encode.whole[:1]), *self.decoder.hidden_weights()]
