"""Data that are no clouds: vectors, pictures, labels, data loaders; and what a training loop of one's own would do."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fm import likelihood, metrics, networks, paths, sampling, toys, training

CONFIG = training.TrainConfig(steps=12, warmup=2, checkpoint_every=4, learning_rate=5e-3)
SPOTS = toys.gaussians(4, radius=2.0, std=0.3)


class Moving(nn.Module):
    """A module of one's own for vectors, which knows of no condition."""

    def __init__(self, dim=2, width=64):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim + 1, width), nn.SELU(), nn.Linear(width, width), nn.SELU())
        self.last = nn.Linear(width, dim)

    def forward(self, x, t):
        return self.last(self.layers(torch.cat([x, t.unsqueeze(1)], dim=1)))


class Painting(nn.Module):
    """A module of one's own for pictures [B, 1, H, W] and labels."""

    def __init__(self):
        super().__init__()
        self.label, self.conv = nn.Embedding(3, 4), nn.Conv2d(6, 1, 3, padding=1)

    def forward(self, x, t, label):
        given = torch.cat([t.unsqueeze(1), self.label(label)], dim=1)
        return self.conv(torch.cat([x, given[..., None, None].expand(-1, -1, *x.shape[2:])], dim=1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made(module, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return module()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def spots(generator):
    return SPOTS(256, generator).x


@pytest.fixture(scope="module")
def learned():
    return training.train(made(Moving), spots, replace(CONFIG, steps=350, ema=0.98)).network


def test_vectors_are_learned_drawn_and_judged(learned):
    drawn = sampling.sample(learned, None, x0=torch.randn(500, 2, generator=seeded()), steps=20).x
    truth, more = (SPOTS(500, seeded(i)).x for i in (1, 2))
    assert drawn.shape == (500, 2) and metrics.w2(drawn, truth) < 2.5 * metrics.w2(more, truth)
    found = likelihood.log_likelihood(sampling.guided(learned, None), truth[:100], steps=20)
    assert found.shape == (100,) and float((found - SPOTS.log_density(truth[:100])).mean().abs()) < 0.3


def test_vectors_are_paired_along_the_batch_inside_each_label():
    source, (x1, label) = torch.randn(200, 2, generator=seeded(3)), toys.moons(200, seeded(4))
    start = replace(CONFIG, source=lambda x1, generator: source.view_as(x1), times=lambda n, generator: torch.zeros(n))
    blind, strict, given = (
        training.draw_example(lambda generator, drawn=drawn: drawn, start, seeded()).x
        for drawn in ((x1,), (x1, label), (x1, label, source))
    )
    cost = [float((x0 - x1).square().sum(1).mean()) for x0 in (blind, strict, given)]
    assert cost[0] < cost[1] < cost[2]
    assert sorted(strict[label == 0].tolist()) == sorted(source[label == 0].tolist())
    assert torch.equal(training.draw_example(lambda g: (x1.unsqueeze(1),), start, seeded()).x.squeeze(1), blind)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_the_networks_take_vectors_and_labels(name):
    network = networks.build({"name": name, "condition_dim": 3}).eval()
    network.apply(lambda layer: nn.init.normal_(layer.weight, std=0.1) if isinstance(layer, nn.Linear) else None)
    x, t, labels = torch.randn(5, 2), torch.rand(5), torch.tensor([0, 1, 2, 0, 1])
    answer = network(x.unsqueeze(1), t, torch.eye(3)[labels]).squeeze(1)
    assert torch.equal(network(x, t, labels), answer) and torch.equal(network(x, t, torch.eye(3)[labels]), answer)


def test_labels_draw_their_classes():
    def draw(generator):
        label = torch.randint(4, (128,), generator=generator)
        return SPOTS.means[label] + 0.3 * torch.randn(128, 2, generator=generator), label

    network = networks.build(
        {"name": "film", "condition_dim": 4, "width": 32, "blocks": 1, "embedding": 64, "bandwidth": 1.0}
    )
    network = training.train(network, draw, replace(CONFIG, steps=200, ema=0.98)).network
    labels = torch.arange(4).repeat_interleave(100)
    drawn = sampling.sample(network, labels, x0=torch.randn(400, 2, generator=seeded()), steps=8).x
    assert torch.allclose(drawn.unflatten(0, (4, 100)).mean(1), SPOTS.means, atol=0.3)
    of_labels = sampling.sample(network, torch.arange(4), 100, steps=8, generator=seeded()).x
    assert torch.allclose(of_labels.mean(1), SPOTS.means, atol=0.3)
    guided = sampling.sample(network, labels, x0=torch.randn(400, 2, generator=seeded()), steps=8, guidance=2.0).x
    assert not torch.allclose(guided, drawn) and torch.isfinite(guided).all()


def pictures(number=21):
    labels = torch.arange(number) % 3
    return TensorDataset(
        labels.view(-1, 1, 1, 1) - 1.0 + 0.1 * torch.randn(number, 1, 4, 4, generator=seeded()), labels
    )


def test_pictures_of_a_data_loader_are_learned_by_a_module_of_ones_own():
    loader = DataLoader(pictures(), batch_size=4, shuffle=True)  # the last batch has one
    config = replace(CONFIG, steps=600, condition_dropout=0.0, ema=0.98, learning_rate=2e-2)
    result = training.train(made(Painting), loader, config)
    assert float(result.losses[-100:].mean()) < 0.7 * float(result.losses[:20].mean())
    labels, noise = torch.arange(3), torch.randn(3, 1, 4, 4, generator=seeded())
    drawn = sampling.sample(result.network, labels, x0=noise, steps=8).x
    assert drawn.shape == noise.shape and drawn.mean((1, 2, 3)).diff().min() > 0.5
    judged = likelihood.log_likelihood(sampling.guided(result.network, labels), drawn, steps=4)
    flat = likelihood.log_likelihood(
        lambda x, t: sampling.guided(result.network, labels)(x.view(noise.shape), t).flatten(1),
        drawn.flatten(1),
        steps=4,
    )
    assert judged.shape == (3,) and torch.allclose(judged, flat)


def test_a_data_loader_goes_on_where_a_killed_run_left_it(tmp_path):
    config = replace(CONFIG, condition_dropout=0.0)
    batches = partial(DataLoader, pictures(), batch_size=4, shuffle=True)
    whole = training.train(made(Painting), batches(), config, checkpoint_dir=tmp_path / "whole")

    def end(progress):
        if progress.step == 8:  # of six batches a round
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made(Painting), batches(), config, checkpoint_dir=tmp_path / "cut", on_step=end)
    torch.manual_seed(99)
    resumed = training.train(made(Painting, 1), batches(), config, checkpoint_dir=tmp_path / "cut")
    assert resumed.resumed_at == 8 and same(resumed.network, whole.network)
    assert torch.equal(resumed.losses, whole.losses)
    other = training.train(made(Painting), batches(), replace(config, seed=1))
    assert not torch.equal(other.losses, whole.losses)


def test_a_loader_of_unknown_length_is_refused():
    with pytest.raises(
        ValueError, match=r"draw_batch is .* but must be a function of a generator, or a DataLoader of kn"
    ):
        training.train(made(Moving), iter([torch.zeros(2, 2)]), CONFIG)


def test_a_finished_run_goes_on_to_more_steps(tmp_path):
    config = replace(CONFIG, schedule="constant")
    whole = training.train(made(Moving), spots, config)
    training.train(made(Moving), spots, replace(config, steps=5), checkpoint_dir=tmp_path)
    longer = training.train(made(Moving, 1), spots, config, checkpoint_dir=tmp_path)
    assert longer.resumed_at == 5 and same(longer.network, whole.network)
    assert torch.equal(longer.losses, whole.losses)
    with pytest.raises(ValueError, match="steps: 12 then, 5 now"):
        training.train(made(Moving), spots, replace(config, steps=5), checkpoint_dir=tmp_path)


def test_an_optimizer_of_ones_own_has_the_schedule_and_is_remembered(tmp_path):
    seen = []

    def optimizer(weights):
        seen.append(torch.optim.SGD(weights, lr=0.1, momentum=0.9))
        return seen[-1]

    rates = []
    config = replace(CONFIG, optimizer=optimizer)
    whole = training.train(
        made(Moving), spots, config, on_step=lambda progress: rates.append(seen[0].param_groups[0]["lr"])
    )
    assert rates == pytest.approx([0.1 * config.learning_rate_at(i) / config.learning_rate for i in range(12)])
    config = replace(CONFIG, optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9))

    def end(progress):
        if progress.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made(Moving), spots, config, checkpoint_dir=tmp_path, on_step=end)
    assert same(training.train(made(Moving, 1), spots, config, checkpoint_dir=tmp_path).network, whole.network)
    with pytest.raises(ValueError, match="optimizer: "):
        training.train(made(Moving), spots, CONFIG, checkpoint_dir=tmp_path)


def test_a_run_is_judged_on_its_way_by_its_averaged_weights():
    class Normalized(Moving):
        def __init__(self):
            super().__init__()
            self.layers.insert(0, nn.BatchNorm1d(3))

    scores = {}

    def judge(progress):
        drawn = sampling.sample(progress.network, None, x0=torch.randn(50, 2, generator=seeded()), steps=2).x
        scores[progress.step] = drawn
        assert not progress.network.training

    judged = training.train(made(Normalized), spots, CONFIG, on_step=judge).network
    alone = training.train(made(Normalized), spots, CONFIG).network
    assert same(judged, alone)
    assert torch.equal(scores[12], sampling.sample(alone, None, x0=torch.randn(50, 2, generator=seeded()), steps=2).x)
    constant = replace(CONFIG, schedule="constant")
    training.train(made(Normalized), spots, constant, on_step=judge)
    short = training.train(made(Normalized), spots, replace(constant, steps=5)).network
    assert torch.equal(scores[5], sampling.sample(short, None, x0=torch.randn(50, 2, generator=seeded()), steps=2).x)


class Scored(nn.Module):
    def __init__(self):
        super().__init__()
        self.velocity, self.score = Moving(), Moving()

    def forward(self, x, t):
        return self.velocity(x, t), self.score(x, t)


def test_a_network_that_gives_a_pair_learns_the_score_beside_the_velocity():
    """The bridge between two Gaussians, whose densities are Gaussian at every time."""
    mean, sigma = torch.tensor([2.0, -1.0]), 1.0
    config = replace(CONFIG, steps=600, ema=0.98, path=paths.bridge(sigma))

    def draw(generator):  # x0 and x1 independent, x1 with standard deviation 1/2
        x1 = mean + 0.5 * torch.randn(512, 2, generator=generator)
        return training.Batch(x1, None, torch.randn(512, 2, generator=generator))

    network = training.train(made(Scored), draw, config).network
    for t in (0.25, 0.5, 0.75):
        variance = (1 - t) ** 2 + 0.25 * t**2 + sigma**2 * t * (1 - t)
        x = t * mean + variance**0.5 * torch.randn(500, 2, generator=seeded())
        with torch.no_grad():
            score = network(x, torch.full((500,), t))[1]
        true = -(x - t * mean) / variance
        assert float((score - true).square().mean().sqrt()) < 0.2 * float(true.square().mean().sqrt())
    noise = torch.randn(2000, 2, generator=seeded(1))
    followed = sampling.sample(network, None, x0=noise, steps=20).x
    wandered = sampling.sample(network, None, x0=noise, steps=50, diffusion=sigma, generator=seeded(2)).x
    for end in (followed, wandered):
        assert torch.allclose(end.mean(0), mean, atol=0.15) and torch.allclose(end.std(0), torch.tensor(0.5), atol=0.1)
    assert float((wandered - followed).abs().mean()) > 0.2  # by another way
    assert torch.equal(
        wandered, sampling.sample(network, None, x0=noise, steps=50, diffusion=sigma, generator=seeded(2)).x
    )


def test_a_score_wants_a_path_with_noise_and_a_network_that_gives_it(learned):
    with pytest.raises(ValueError, match="path is 'linear', but must be one with noise"):
        training.train(made(Scored), spots, CONFIG)
    with pytest.raises(ValueError, match=r"the network gives no score; train one that does, or see fm\.conversions"):
        sampling.sample(learned, None, x0=torch.randn(4, 2), diffusion=1.0)
    for method in ("heun", "dopri5"):
        with pytest.raises(ValueError, match=f"method is '{method}', but must be 'euler' with diffusion"):
            sampling.sample(learned, None, x0=torch.randn(4, 2), diffusion=1.0, method=method)


def test_the_bridges_spread_is_its_noise():
    t = torch.tensor([0.0, 0.2, 0.5, 1.0])
    assert torch.allclose(paths.bridge(2.0).spread(t), 2 * (t * (1 - t)).sqrt())
    x0, x1, path = torch.zeros(4, 2), torch.ones(4, 2), paths.bridge(2.0)
    noise = path.noise(x1, seeded())
    assert torch.allclose(path(x0, x1, t, noise).x, t[:, None] + path.spread(t)[:, None] * noise)
    assert torch.equal(path(x0, x1, t, generator=seeded()).x, path(x0, x1, t, noise).x)
    assert paths.linear().noise(x1) is None and torch.equal(paths.linear().spread(t), torch.zeros(4))
