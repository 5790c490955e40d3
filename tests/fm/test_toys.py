"""Toys, and the oracle: its velocity carries the source to the mixture and gives its density back."""

import pytest
import torch

from fm import conversions, likelihood, metrics, networks, paths, sampling, solvers, toys, trajectories
from fm.conversions import convert

MIX = toys.Mixture(
    torch.tensor([[2.0, 0.0], [-1.0, 1.5], [0.0, -2.0]], dtype=torch.float64),
    torch.tensor([0.4, 0.3, 0.6], dtype=torch.float64),
    torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64),
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", toys.TOYS)
def test_toys_are_decided_by_the_generator(name):
    first, second = (toys.TOYS[name](200, seeded(1)) for _ in range(2))
    assert first.x.shape == (200, 2) and first.label.shape == (200,)
    assert torch.equal(first.x, second.x) and torch.equal(first.label, second.label)
    assert not torch.equal(first.x, toys.TOYS[name](200, seeded(2)).x)


def test_checkerboard_keeps_to_its_dark_fields():
    x, label = toys.checkerboard(2000, seeded())
    column, row = ((x + 4) / 2).floor().T
    assert bool(((column + row) % 2 == 0).all()) and torch.equal(label, (2 * column + row.div(2).floor()).long())


@pytest.mark.parametrize("name", toys.CLASSES)
def test_every_class_gets_as_many_points_of_its_own(name):
    toy, classes = toys.TOYS[name], toys.CLASSES[name]
    each = toys.by_class(toy, classes, 50, seeded())
    x, label = toy(4000, seeded(1))
    assert each.shape == (classes, 50, 2) and int(label.max()) == classes - 1
    own = torch.stack(
        [torch.cdist(each, x[label == k].expand(classes, -1, -1)).amin(-1).mean(1) for k in range(classes)]
    )
    assert torch.equal(own.argmin(0), torch.arange(classes))


def test_a_rare_class_gets_its_points_too():
    rare = toys.Mixture(torch.tensor([[0.0, 0.0], [9.0, 9.0]]), torch.ones(2), torch.tensor([0.99, 0.01]))
    assert bool((toys.by_class(rare, 2, 20, seeded())[1] > 3).all())
    with pytest.raises(ValueError, match="classes is 3, but must be at most the number of the toy's classes, 2"):
        toys.by_class(toys.moons, 3, 1, seeded())


def test_a_picture_is_drawn_upright_where_its_ink_is():
    weights = torch.zeros(20, 40)
    weights[0, 35] = 1
    x, _ = toys.Picture(weights)(100, seeded())
    assert bool((x[:, 0] > 2).all()) and bool((x[:, 1] > 1.3).all()) and bool((x[:, 1] <= 1.5).all())
    with pytest.raises(ValueError, match="sum of weights"):
        toys.Picture(torch.zeros(4, 4))


@pytest.mark.parametrize(
    "path", [paths.linear(), paths.linear(0.2), paths.lipman(0.05), paths.variance_preserving()], ids=lambda p: p.name
)
def test_the_oracles_velocity_is_the_mean_of_the_conditional_ones(path):
    generator = seeded()
    x1 = MIX(400_000, generator).x
    t = torch.full((len(x1),), 0.6, dtype=torch.float64)
    x, u = path(torch.randn(x1.shape, generator=generator, dtype=torch.float64), x1, t, generator=generator)
    for centre in ([1.0, 0.0], [-0.5, 0.8], [0.1, -1.0]):
        near = (x - torch.tensor(centre, dtype=torch.float64)).norm(dim=1) < 0.1
        true = MIX.velocity(path, x[near], t[near])
        spread = u[near].std(0) / near.sum() ** 0.5
        assert bool(((u[near].mean(0) - true.mean(0)).abs() < 5 * spread).all())


def test_the_score_that_follows_from_the_velocity_is_that_of_the_density():
    path, x = paths.linear(), torch.randn(1, 50, 2, generator=seeded(), dtype=torch.float64)
    t = torch.tensor([0.7], dtype=torch.float64)
    score = convert(MIX.velocity(path, x, t), x, t, path, given="velocity", wanted="score")
    blurred = toys.Mixture(0.7 * MIX.means, (0.49 * MIX.std**2 + 0.09).sqrt(), MIX.weights)
    y = x.clone().requires_grad_(True)
    (true,) = torch.autograd.grad(blurred.log_density(y).sum(), y)
    assert torch.allclose(score, true, atol=1e-8)


def oracle(x, t):
    return MIX.velocity(paths.linear(), x, t)


def test_following_the_oracle_gives_the_mixture():
    noise = torch.randn(1, 800, 2, generator=seeded(), dtype=torch.float64)
    got = solvers.integrate(oracle, noise, torch.linspace(0, 1, 41), method="rk4").x[0]
    other, more = MIX(800, seeded(1)).x, MIX(800, seeded(2)).x
    assert metrics.w2(got, other) < 1.5 * metrics.w2(more, other)


@pytest.mark.parametrize("path", [paths.linear(), paths.linear(0.3), paths.variance_preserving()])
def test_the_score_of_the_oracle_is_that_of_its_density(path):
    x = torch.randn(20, 2, generator=seeded(), dtype=torch.float64).requires_grad_(True)
    for t in (0.2, 0.7):
        at = torch.full((20,), t, dtype=torch.float64)
        b, gamma, *_ = (float(c[0]) for c in conversions.schedule(path, at))
        then = toys.Mixture(b * MIX.means, ((b * MIX.std) ** 2 + gamma**2).sqrt(), MIX.weights)
        velocity, score = conversions.with_score(lambda x, t: MIX.velocity(path, x, t), path)(x, at)
        (true,) = torch.autograd.grad(then.log_density(x).sum(), x)
        assert torch.allclose(score, true, atol=1e-6) and torch.equal(velocity, MIX.velocity(path, x, at))


@pytest.mark.parametrize("diffusion", [0.0, 0.3, lambda t: (1 - t).sqrt()])
def test_wandering_from_noise_ends_in_the_mixture_as_following_does(diffusion):
    noise = torch.randn(800, 2, generator=seeded(), dtype=torch.float64)
    both, grid = conversions.with_score(oracle, paths.linear()), torch.linspace(0, 1, 101)
    end = solvers.stochastic(both, noise, grid, diffusion=diffusion, generator=seeded(1), trajectory=True)
    other, more = MIX(800, seeded(1)).x, MIX(800, seeded(2)).x
    assert metrics.w2(end.x, other) < 1.5 * metrics.w2(more, other)
    assert end.trajectory.shape == (101, 800, 2) and end.evaluations == 100
    followed = solvers.integrate(oracle, noise, grid).x
    assert torch.allclose(end.x, followed) == (diffusion == 0.0)


def test_a_stochastic_way_goes_forward_only():
    with pytest.raises(ValueError, match=r"times is \[1.0, 0.0\], but must be strictly rising"):
        solvers.stochastic(lambda x, t: (x, x), torch.zeros(1, 2), torch.tensor([1.0, 0.0]), diffusion=1.0)


def test_likelihood_agrees_with_the_closed_form():
    x = MIX(40, seeded()).x.unsqueeze(0)
    exact = likelihood.log_likelihood(oracle, x, steps=30)
    assert torch.allclose(exact, MIX.log_density(x), atol=5e-3)
    estimated = likelihood.log_likelihood(oracle, x, steps=8, trace="hutchinson", probes=10, generator=seeded())
    assert float((estimated - exact).abs().mean()) < 0.3
    assert torch.allclose(likelihood.bits_per_dimension(exact, 2), -exact / (2 * torch.log(torch.tensor(2.0))))


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_gradient_of_the_likelihood_is_the_score(trace):
    mixture = toys.gaussians(1, radius=1.0, std=0.5)  # its velocity is linear in x, so one probe gives the gradient
    x = mixture(40, seeded()).x.double().requires_grad_(True)
    found = likelihood.log_likelihood(
        lambda x, t: mixture.velocity(paths.linear(), x, t), x, steps=30, trace=trace, generator=seeded()
    )
    (score,) = torch.autograd.grad(found.sum(), x)
    (true,) = torch.autograd.grad(mixture.log_density(x).sum(), x)
    assert torch.allclose(score, true, atol=1e-3)


def test_the_gradient_of_the_likelihood_of_many_gaussians_is_their_score():
    x = MIX(20, seeded()).x.requires_grad_(True)
    (score,) = torch.autograd.grad(likelihood.log_likelihood(oracle, x, steps=60).sum(), x)
    (true,) = torch.autograd.grad(MIX.log_density(x).sum(), x)
    assert float((score - true).square().mean().sqrt()) < 0.02 * float(true.square().mean().sqrt())


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_likelihood_of_a_shift_is_that_of_the_source(trace):
    x = torch.randn(1, 10, 2, generator=seeded())
    moved = likelihood.log_likelihood(lambda x, t: torch.ones_like(x), x, steps=4, trace=trace)
    assert torch.allclose(moved, likelihood.standard_normal(x - 1), atol=1e-5)


def test_the_likelihood_is_the_same_in_inference_mode():
    network = networks.build({"name": "film", "condition_dim": 2, "width": 16, "blocks": 1})
    torch.nn.init.normal_(network.head.weight)
    x, condition = torch.randn(2, 5, 2, generator=seeded()), torch.eye(2)
    wanted = likelihood.log_likelihood(sampling.guided(network, condition, 2.0), x, steps=3)
    with torch.inference_mode():
        found = likelihood.log_likelihood(sampling.guided(network, condition + 0, 2.0), x + 0, steps=3)
    assert torch.equal(found, wanted)


def test_label_conditional_velocity_ends_in_that_component():
    noise = torch.randn(1, 500, 2, generator=seeded(), dtype=torch.float64)
    label = torch.tensor([1])
    got = solvers.integrate(
        lambda x, t: MIX.velocity(paths.linear(), x, t, label), noise, torch.linspace(0, 1, 41), method="rk4"
    ).x[0]
    assert torch.allclose(got, MIX.means[1] + 0.3 * noise[0], atol=1e-4)


def test_straight_lines_have_no_curvature_and_their_energy_is_their_squared_length():
    start = torch.randn(1, 30, 2, generator=seeded(), dtype=torch.float64)
    times = torch.tensor([0.0, 0.3, 0.5, 1.0], dtype=torch.float64)
    line = start + times[:, None, None, None] * torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert trajectories.path_energy(line, times) == pytest.approx(25)
    assert trajectories.normalized_path_energy(line, times, 5.0) == pytest.approx(0, abs=1e-9)
    assert trajectories.straightness(line, times) == pytest.approx(0, abs=1e-9)
    assert trajectories.curvature(line, times) == pytest.approx(0, abs=1e-6)


def test_a_half_circle_turns_by_pi():
    times = torch.linspace(0, 1, 1001, dtype=torch.float64)
    circle = torch.stack([(times * torch.pi).cos(), (times * torch.pi).sin()], dim=-1)[:, None, None]
    assert trajectories.curvature(circle, times) == pytest.approx(torch.pi, rel=1e-2)
    assert trajectories.path_energy(circle, times) == pytest.approx(torch.pi**2, rel=1e-3)
    assert trajectories.straightness(circle, times) == pytest.approx(torch.pi**2 - 4, rel=1e-3)
