"""Solvers: their measured order, grids in both directions; dopri5 meets its tolerance, each sample by itself."""

import math

import pytest
import torch

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
        float((solvers.integrate(spiral, X, torch.linspace(0, 1, n + 1), method=method).x - exact(X, 1)).abs().max())
        for n in sizes
    ]
    slope = math.log(errors[0] / errors[-1]) / math.log(sizes[-1] / sizes[0])
    assert slope == pytest.approx(solvers.METHODS[method].order, abs=0.25)


def test_backward_returns_to_the_start():
    there = solvers.integrate(spiral, X, torch.linspace(0, 1, 51), method="rk4").x
    back = solvers.integrate(spiral, there, torch.linspace(1, 0, 51), method="rk4").x
    assert torch.allclose(back, X, atol=1e-6)


def test_trajectory_callback_and_count_of_evaluations():
    seen, calls = [], []

    def counted(x, t):
        calls.append(1)
        return spiral(x, t)

    grid = torch.tensor([0.0, 0.1, 0.5, 1.0])
    out = solvers.integrate(
        counted, X, grid, method="heun", trajectory=True, on_step=lambda i, x: seen.append((i, x.clone()))
    )
    assert out.evaluations == len(calls) == 6
    assert out.trajectory.shape == (4, 3, 2) and torch.equal(out.trajectory[0], X)
    assert torch.equal(out.trajectory[-1], out.x)
    assert [i for i, _ in seen] == [1, 2, 3] and torch.equal(seen[1][1], out.trajectory[2])


@pytest.mark.parametrize("method", solvers.METHODS)
def test_gradients_with_respect_to_the_times_are_whole(method):
    grid = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda grid: solvers.integrate(spiral, X, grid, method=method).x, grid)


def test_an_empty_batch_stays_empty():
    for out in (solvers.dopri5(spiral, X[:0]), solvers.integrate(spiral, X[:0], torch.tensor([0.0, 1.0]))):
        assert out.x.shape == (0, 2)


def test_a_grid_that_turns_back_is_refused():
    with pytest.raises(ValueError, match="rising or falling"):
        solvers.integrate(spiral, X, torch.tensor([0.0, 0.5, 0.4]))


def stiff(x, t):
    """Decay at a rate that is the second coordinate's: dx = -k x, dk = 0."""
    return torch.stack([-x[:, 1] * x[:, 0], torch.zeros_like(x[:, 0])], dim=1)


RATES = torch.tensor([[1.0, 0.5], [2.0, 5.0], [1.0, 60.0]], dtype=torch.float64)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_the_error_of_dopri5_is_near_the_tolerance(tolerance):
    out = solvers.dopri5(stiff, RATES, rtol=tolerance, atol=tolerance)
    exact = RATES[:, 0] * torch.exp(-RATES[:, 1])
    assert float((out.x[:, 0] - exact).abs().max()) < 20 * tolerance


def test_tighter_costs_more_and_harder_samples_cost_more():
    loose, tight = (solvers.dopri5(stiff, RATES, rtol=r, atol=r).evaluations for r in (1e-3, 1e-8))
    easy = solvers.dopri5(stiff, RATES[:1], rtol=1e-3, atol=1e-3).evaluations
    assert easy < loose < tight


def test_a_sample_of_dopri5_does_not_depend_on_its_neighbours():
    together, alone = solvers.dopri5(stiff, RATES).x[0], solvers.dopri5(stiff, RATES[:1]).x[0]
    assert torch.allclose(together, alone, rtol=1e-12)


def test_dopri5_forward_then_backward_returns():
    def turn(x, t):
        return (1 + t[:, None]) * torch.stack([-x[:, 1], x[:, 0]], dim=1)

    there = solvers.dopri5(turn, RATES[:2], rtol=1e-9, atol=1e-9).x
    assert float((there - RATES[:2]).abs().max()) > 0.5
    assert torch.allclose(solvers.dopri5(turn, there, 1.0, 0.0, rtol=1e-9, atol=1e-9).x, RATES[:2], atol=1e-6)


def test_gradients_flow_through_dopri5():
    x = RATES[:1].clone().requires_grad_(True)
    solvers.dopri5(stiff, x, rtol=1e-8, atol=1e-8).x[0, 0].backward()
    assert float(x.grad[0, 0]) == pytest.approx(math.exp(-0.5), rel=1e-5)


def test_dopri5_refuses_a_try_that_overflows_and_shrinks_its_step():
    x = torch.tensor([[10.0], [0.1]], requires_grad=True)
    there = solvers.dopri5(lambda x, t: -100 * x**3, x).x
    assert torch.allclose(there, x / (1 + 200 * x**2).sqrt(), rtol=1e-3)
    (slope,) = torch.autograd.grad(there.sum(), x)
    assert torch.allclose(slope, (1 + 200 * x.detach() ** 2) ** -1.5, rtol=0.05, atol=1e-5)
    alone = solvers.dopri5(lambda x, t: -100 * x**3, x[1:]).x
    assert torch.allclose(there[1:], alone, rtol=1e-6)
    root = solvers.dopri5(lambda x, t: -20 * x**1.5, torch.tensor([[4.0]])).x
    assert float(root) == pytest.approx(1 / 10.5**2, rel=1e-3)


def test_dopri5_stops_where_it_cannot_go_on():
    with pytest.raises(RuntimeError, match=r"not finite after t ="):
        solvers.dopri5(lambda x, t: torch.where(t[:, None] > 0.5, torch.nan, x), RATES)
    with pytest.raises(RuntimeError, match=r"(the step vanishes at|not finite after) t = 0\.5"):
        solvers.dopri5(lambda x, t: 1 / (0.5 - t[:, None]).abs() + 0 * x, RATES)
    with pytest.raises(RuntimeError, match=r"not at t = 1\.0 after 3 steps"):
        solvers.dopri5(stiff, RATES, max_steps=3)
    with pytest.raises(ValueError, match=r"end is 0\.5, but must be another time than start"):
        solvers.dopri5(stiff, RATES, 0.5, 0.5)
