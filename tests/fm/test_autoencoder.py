"""The autoencoder: order does not matter, shapes come back in any number of points, and a flow of latents draws."""

from functools import partial

import pytest
import torch

from fm import couplings, metrics, networks, sampling, training
from fm.autoencoder import Autoencoder

CONFIG = training.TrainConfig(
    steps=250, learning_rate=4e-3, hidden_learning_rate=0.02, warmup=10, ema=0.98, times_per_cloud=1,
    condition_dropout=0.0,
)  # fmt: skip
SMALL = {"dim": 2, "latent": 6, "width": 32, "frequencies": 8, "bandwidth": 1.0}
DECODER = {"width": 48, "blocks": 2, "embedding": 64, "frequencies": 16, "bandwidth": 2.0}
FLOW = {"name": "film", "dim": 6, "condition_dim": 2, "width": 48, "blocks": 2, "embedding": 32, "bandwidth": 0.3}


def ellipses(shapes, n, generator):
    """n points of each ellipse in `shapes` [B, 4]: its middle and its half axes."""
    angle = 2 * torch.pi * torch.rand(len(shapes), n, 1, generator=generator)
    return shapes[:, None, :2] + shapes[:, None, 2:] * torch.cat([angle.cos(), angle.sin()], dim=-1)


def random_shapes(n, generator):
    return torch.rand(n, 4, generator=generator) * 2 + torch.tensor([-1.0, -1.0, 0.2, 0.2])


@pytest.fixture(scope="module")
def autoencoder():
    def draw_batch(generator):
        shapes = random_shapes(32, generator)
        return ellipses(shapes, 32, generator), ellipses(shapes, 64, generator)

    torch.manual_seed(0)
    return training.train(Autoencoder(**SMALL, decoder=DECODER), draw_batch, CONFIG).network


def test_the_order_of_the_points_does_not_matter_and_their_number_may_change(autoencoder):
    clouds = torch.randn(3, 40, 2)
    latents = autoencoder.encode(clouds)
    assert latents.shape == (3, 6)
    assert torch.equal(autoencoder.encode(clouds[:, torch.randperm(40)]), latents)
    twice = torch.cat([clouds, clouds], dim=1)
    assert torch.allclose(autoencoder.encode(twice), latents, atol=1e-5)


def test_unseen_shapes_come_back_in_any_number_of_points(autoencoder):
    generator = torch.Generator().manual_seed(1)
    shapes = random_shapes(16, generator)
    truth, seen = (ellipses(shapes, 256, generator) for _ in range(2))
    pool = ellipses(random_shapes(256, generator), 16, generator).transpose(0, 1)
    with torch.no_grad():
        latents = autoencoder.encode(seen)
    for n in (50, 256):
        back = sampling.sample(autoencoder.decoder, latents, n, steps=10, generator=generator).x
        assert back.shape == (16, n, 2)
        assert metrics.chamfer(back, truth).mean() < 0.5 * metrics.chamfer(pool, truth).mean()


def test_a_flow_of_latents_draws_what_its_condition_says(autoencoder):
    small, large = torch.tensor([[0.5, 0.5, 0.4, 0.4]]), torch.tensor([[-0.5, -0.5, 1.8, 1.8]])
    kinds = torch.cat([small, large])

    def draw_latents(generator):
        label = torch.randint(2, (64,), generator=generator)
        with torch.no_grad():
            latents = autoencoder.encode(ellipses(kinds[label], 64, generator))
        return latents.unsqueeze(1), torch.eye(2)[label]

    inside = partial(couplings.inside_condition, coupling=partial(couplings.exact_ot, block=None))
    config = training.TrainConfig(
        steps=100, learning_rate=4e-3, warmup=10, times_per_cloud=1, ema=0.95,
        coupling=partial(couplings.across_batch, coupling=inside),
    )  # fmt: skip
    flow = training.train(networks.build(FLOW), draw_latents, config).network
    generator = torch.Generator().manual_seed(2)
    latents = sampling.sample(flow, torch.eye(2), 1, steps=10, generator=generator).x.squeeze(1)
    drawn = sampling.sample(autoencoder.decoder, latents, 200, steps=10, generator=generator).x
    apart = metrics.pairwise_chamfer(drawn, ellipses(kinds, 200, generator))
    assert metrics.retrieval(apart) == 1 and apart.diagonal().max() < 0.5 * apart[0, 1]


def test_the_seed_of_training_decides_the_weights():
    def trained():
        torch.manual_seed(3)
        network = Autoencoder(**SMALL, decoder=DECODER)
        shapes = random_shapes(4, torch.Generator().manual_seed(0))
        config = training.TrainConfig(steps=3, times_per_cloud=2)
        return training.train(network, lambda g: (ellipses(shapes, 8, g), ellipses(shapes, 8, g)), config).network

    assert all(torch.equal(a, b) for a, b in zip(trained().parameters(), trained().parameters(), strict=True))


def test_what_is_no_cloud_is_refused(autoencoder):
    for clouds, reason in (
        (torch.randn(2, 5, 3), r"shape of clouds is \(2, 5, 3\), but must be \[B, N, 2\]"),
        (torch.randn(2, 0, 2), "at least one cloud of one point"),
        (torch.full((1, 3, 2), torch.nan), r"clouds\[0\] holds NaN"),
    ):
        with pytest.raises(ValueError, match=reason):
            autoencoder.encode(clouds)
