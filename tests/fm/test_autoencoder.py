"""The autoencoder: densities come back, also unseen ones, and a flow of its latents draws what a condition says."""

from dataclasses import replace

import pytest
import torch

from fm import autoencoder, couplings, grids, networks, sampling, training

SIDE = 64
SMALL = {"side": SIDE, "latent": 6, "widths": (32, 16)}
CONFIG = training.TrainConfig(steps=150, learning_rate=3e-3, warmup=10, ema=0.95)
FLOW = {"name": "film", "dim": 6, "condition_dim": 2, "width": 48, "blocks": 2, "embedding": 32, "bandwidth": 0.3}
Y, X = torch.meshgrid(*[(torch.arange(SIDE) + 0.5) * 6 / SIDE - 3] * 2, indexing="ij")


def ellipses(shapes):
    """The outline of each ellipse in `shapes` [B, 4], its middle and its half axes, as a density [B, SIDE, SIDE]."""
    x, y, a, b = shapes[:, :, None, None].unbind(1)
    radius = ((X - x) / a).square().add(((Y - y) / b).square()).sqrt()
    return (-((radius - 1) * torch.minimum(a, b) / 0.1).square()).exp()


def random_shapes(n, generator):
    return torch.rand(n, 4, generator=generator) * 2 + torch.tensor([-1.0, -1.0, 0.4, 0.4])


def draw_ellipses(generator):
    return ellipses(random_shapes(32, generator))


def trained(config=CONFIG, **options):
    torch.manual_seed(0)
    return optimized(draw_ellipses, config, **options)


def optimized(draw_density, config, **options):
    small = autoencoder.Autoencoder(**SMALL)
    return training.optimize(small, autoencoder.bound(small, draw_density), config, **options)


@pytest.fixture(scope="module")
def model():
    return trained().network


def test_unseen_densities_come_back(model):
    generator = torch.Generator().manual_seed(1)
    truth = draw_ellipses(generator)
    mean, log_variance = model.encode(truth)
    assert mean.shape == log_variance.shape == (32, 6)
    share = truth / truth.sum((1, 2), keepdim=True)
    back = model.decode(mean)
    assert torch.allclose(back.exp().sum((1, 2)), torch.ones(32), atol=1e-4)

    entropy = torch.special.entr(share).sum((1, 2)).mean()
    lost = -(share * back).sum((1, 2)).mean() - entropy
    average = draw_ellipses(generator).mean(0).clamp(min=1e-12)
    lost_by_average = -(share * (average / average.sum()).log()).sum((1, 2)).mean() - entropy
    assert lost < 0.3 * lost_by_average


def test_what_is_drawn_inside_an_area_counts_more(model):
    truth = draw_ellipses(torch.Generator().manual_seed(3))
    share = truth / truth.sum((1, 2), keepdim=True)
    left = (X < 0).expand_as(share)

    def even(area):
        """The true density, but that what lies inside `area` is spread evenly over it."""
        inside = (share * area).sum((1, 2), keepdim=True) / area.sum((1, 2), keepdim=True)
        return inside.where(area, share)

    def loss(drawn, reconstruction):
        objective = autoencoder.bound(model, lambda _: drawn, closer=4)
        told = (reconstruction.clamp(min=1e-12).log(), torch.zeros(32, 6), torch.zeros(32, 6))
        return objective.loss(lambda *_: told, *objective.draw(torch.Generator(), 0))[0]

    nowhere = torch.zeros_like(left)
    lost = {
        (name, side): loss(drawn, even(area)) - loss(drawn, share)
        for name, drawn in {"all alike": truth, "left": (truth, left), "nowhere": (truth, nowhere)}.items()
        for side, area in {"left": left, "right": ~left}.items()
    }
    assert lost["left", "left"] > 4 * lost["all alike", "left"] > 0
    for side in ("left", "right"):
        assert torch.allclose(lost["nowhere", side], lost["all alike", side])
    assert torch.allclose(lost["left", "right"], lost["all alike", "right"], atol=1e-4)


def test_scale_does_not_matter(model):
    truth = draw_ellipses(torch.Generator().manual_seed(2))
    assert torch.allclose(model.encode(1000 * truth)[0], model.encode(truth)[0], atol=1e-4)


def test_a_flow_of_latents_draws_what_its_condition_says(model):
    kinds = torch.tensor([[0.5, 0.5, 0.5, 0.5], [-0.5, -0.5, 1.8, 1.8]])
    with torch.no_grad():
        mean, log_variance = model.encode(ellipses(kinds))

    def draw_latents(generator):
        label = torch.randint(2, (64,), generator=generator)
        noise = torch.randn(64, 6, generator=generator)
        return mean[label] + (log_variance[label] / 2).exp() * noise, torch.eye(2)[label]

    config = replace(CONFIG, steps=100, coupling=couplings.independent)
    flow = training.train(networks.build(FLOW), draw_latents, config).network
    noise = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        drawn = model.decode(sampling.sample(flow, torch.eye(2), x0=noise, steps=10).x).exp()
    points = grids.transport(drawn, torch.randn(2, 500, 2, generator=torch.Generator().manual_seed(4)), extent=3.0)
    likelihood = [grids.log_likelihood(ellipses(kinds) + 1e-9, p, extent=3.0).mean(1) for p in (points, points.flip(0))]
    assert (likelihood[0] > likelihood[1] + 1).all()


def test_a_run_that_was_cut_goes_on_to_the_same_bytes(tmp_path):
    config = replace(CONFIG, steps=6, checkpoint_every=2)
    whole = trained(config).network

    def cut(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(config, checkpoint_dir=tmp_path, on_step=cut)
    again = trained(config, checkpoint_dir=tmp_path)
    assert again.resumed_at == 4
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.network.parameters(), strict=True))


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(ValueError, match=r"shape of density is \(2, 32, 32\), but must be \[2, 64, 64\]"):
        model.encode(torch.ones(2, 32, 32))
    with pytest.raises(ValueError, match="side is 48, but must be a power of 2"):
        autoencoder.Autoencoder(side=48)
    with pytest.raises(ValueError, match=r"widths is .* but must be multiples of 8"):
        autoencoder.Autoencoder(widths=(12,))

    def broken(generator):
        return torch.where(torch.arange(32)[:, None, None] == 3, torch.nan, draw_ellipses(generator))

    with pytest.raises(training.NotFinite, match=r"step 0: .* batch positions \[3\]"):
        optimized(broken, CONFIG)
