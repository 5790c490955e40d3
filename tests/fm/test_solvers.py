"""Solvers: their measured order, grids in both directions, guidance, sampling."""

import copy
import math

import pytest
import torch

import fm
from fm import solvers


def spiral(x, t):
    """A linear, time-dependent field in the plane with a known solution: rotation by t² and decay by exp(-t)."""
    turn = 2 * t[:, None] * torch.stack([-x[:, 1], x[:, 0]], dim=1)
    return turn - x


def exact(x, t):
    c, s, d = math.cos(t * t), math.sin(t * t), math.exp(-t)
    return d * torch.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], dim=1)


X = torch.tensor([[1.0, 0.0], [0.3, -2.0], [-1.5, 0.7]], dtype=torch.float64)


@pytest.mark.parametrize("method", solvers.METHODS)
def test_error_falls_with_the_methods_order(method):
    sizes = [20, 40, 80]
    errors = [
        float((fm.integrate(spiral, X, torch.linspace(0, 1, n + 1), method=method).x - exact(X, 1)).abs().max())
        for n in sizes
    ]
    slope = math.log(errors[0] / errors[-1]) / math.log(sizes[-1] / sizes[0])
    assert slope == pytest.approx(solvers.METHODS[method].order, abs=0.25)


def test_backward_returns_to_the_start():
    there = fm.integrate(spiral, X, torch.linspace(0, 1, 51), method="rk4").x
    back = fm.integrate(spiral, there, torch.linspace(1, 0, 51), method="rk4").x
    assert torch.allclose(back, X, atol=1e-6)


def test_trajectory_callback_and_count_of_evaluations():
    seen, calls = [], []

    def counted(x, t):
        calls.append(1)
        return spiral(x, t)

    grid = torch.tensor([0.0, 0.1, 0.5, 1.0])
    out = fm.integrate(
        counted, X, grid, method="heun", trajectory=True, on_step=lambda i, x: seen.append((i, x.clone()))
    )
    assert out.evaluations == len(calls) == 6
    assert out.trajectory.shape == (4, 3, 2) and torch.equal(out.trajectory[0], X)
    assert torch.equal(out.trajectory[-1], out.x)
    assert [i for i, _ in seen] == [1, 2, 3] and torch.equal(seen[1][1], out.trajectory[2])


@pytest.fixture(scope="module")
def network():
    network = fm.build({"name": "film", "condition_dim": 8, "width": 16, "blocks": 2, "embedding": 64})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    return network


def test_guidance_mixes_the_two_velocities(network):
    x, t, c = torch.randn(3, 5, 2), torch.rand(3), torch.randn(3, 8)
    conditional, unconditional = network(x, t, c), network(x, t)
    for weight in (0, 0.5, 1, 3):
        wanted = unconditional + weight * (conditional - unconditional)
        assert torch.allclose(fm.guided(network, c, weight)(x, t), wanted, atol=1e-5)


def test_sampling_is_decided_by_the_generator_and_rows_do_not_meet(network):
    numbers = torch.Generator().manual_seed(0)
    condition = torch.randn(4, 8, generator=numbers)
    first, second = (
        fm.sample(network, condition, 50, steps=3, generator=torch.Generator().manual_seed(1)).x for _ in range(2)
    )
    assert torch.equal(first, second) and first.shape == (4, 50, 2)
    noise = torch.randn(4, 50, 2, generator=numbers)
    network = copy.deepcopy(network).double()  # single precision rounds otherwise in a smaller batch
    together = fm.sample(network, condition, 50, steps=3, x0=noise, guidance=2).x
    alone = fm.sample(network, condition[2:3], 50, steps=3, x0=noise[2:3], guidance=2).x
    assert torch.allclose(together[2:3], alone, atol=1e-5)


def test_bad_calls_say_what_is_allowed(network):
    condition = torch.randn(2, 8)
    with pytest.raises(ValueError, match="method is 'rk5', but must be one of euler, heun, midpoint, rk4"):
        fm.sample(network, condition, 5, method="rk5")
    with pytest.raises(ValueError, match="steps is 0"):
        fm.sample(network, condition, 5, steps=0)
    with pytest.raises(ValueError, match="num_points is 0"):
        fm.sample(network, condition, 0)
    with pytest.raises(ValueError, match=r"shape of x0 is \(2, 4, 2\), but must be \[2, 5, 2\]"):
        fm.sample(network, condition, 5, x0=torch.zeros(2, 4, 2))
    with pytest.raises(ValueError, match="guidance is 2, but must be 1 or 0 when there is no condition"):
        fm.sample(network, None, 5, guidance=2)
    with pytest.raises(ValueError, match="rising or falling"):
        fm.integrate(spiral, X, torch.tensor([0.0, 0.5, 0.4]))
    with pytest.raises(ValueError, match="kind is 'more', but must be one of plain, rescaled, zero-star"):
        fm.sample(network, condition, 5, guidance=2, guidance_kind="more")
    with pytest.raises(ValueError, match="trajectory is True, but must be False with dopri5"):
        fm.sample(network, condition, 5, method="dopri5", trajectory=True)


def test_guidance_variants_do_what_they_say(network):
    x, t, c = torch.randn(3, 5, 2), torch.rand(3), torch.randn(3, 8)
    conditional, unconditional = network(x, t, c), network(x, t)
    v = fm.guided(network, c, 4.0, kind="rescaled")(x, t)
    assert torch.allclose(v.flatten(1).std(1), conditional.flatten(1).std(1), rtol=1e-4)
    scale = (conditional * unconditional).sum((1, 2)) / unconditional.square().sum((1, 2))
    starred = scale[:, None, None] * unconditional
    wanted = starred + 4.0 * (conditional - starred)
    assert torch.allclose(fm.guided(network, c, 4.0, kind="zero-star")(x, t), wanted, atol=1e-5)
    t = torch.tensor([0.1, 0.5, 0.9])
    within = fm.guided(network, c, 4.0, interval=(0.3, 0.7))(x, t)
    everywhere, plain = fm.guided(network, c, 4.0)(x, t), network(x, t, c)
    assert torch.allclose(within[[0, 2]], plain[[0, 2]], atol=1e-5) and torch.allclose(within[1], everywhere[1])


@torch.no_grad()
def test_adaptive_and_many_equal_steps_agree(network):
    generator = torch.Generator().manual_seed(0)
    condition, noise = torch.randn(2, 8, generator=generator), torch.randn(2, 30, 2, generator=generator)
    exact, x0 = fm.guided(copy.deepcopy(network).double(), condition.double()), noise.double()
    fine = fm.integrate(exact, x0, torch.linspace(0, 1, 401, dtype=torch.float64), method="rk4").x
    loose, tight = (float((fm.dopri5(exact, x0, rtol=r, atol=r).x - fine).abs().max()) for r in (1e-5, 1e-7))
    assert tight < 1e-3 and tight < loose / 10
    drawn = fm.sample(network, condition, 30, method="dopri5", x0=noise).x
    assert torch.equal(drawn, fm.dopri5(fm.guided(network, condition), noise).x)


def test_gradients_are_kept_when_asked_for(network):
    condition = torch.randn(2, 8, requires_grad=True)
    assert not fm.sample(network, condition, 5, steps=2).x.requires_grad
    fm.sample(network, condition, 5, steps=2, differentiable=True).x.sum().backward()
    assert float(condition.grad.abs().sum()) > 0
