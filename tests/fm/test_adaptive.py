"""dopri5: it meets its tolerance, each sample by itself, in both directions."""

import math

import pytest
import torch

import fm


def stiff(x, t):
    """Decay at a rate that is the second coordinate's: dx = -k x, dk = 0."""
    return torch.stack([-x[:, 1] * x[:, 0], torch.zeros_like(x[:, 0])], dim=1)


X = torch.tensor([[1.0, 0.5], [2.0, 5.0], [1.0, 60.0]], dtype=torch.float64)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_the_error_is_near_the_tolerance(tolerance):
    out = fm.dopri5(stiff, X, rtol=tolerance, atol=tolerance)
    exact = X[:, 0] * torch.exp(-X[:, 1])
    assert float((out.x[:, 0] - exact).abs().max()) < 20 * tolerance


def test_tighter_costs_more_and_harder_samples_cost_more():
    loose, tight = (fm.dopri5(stiff, X, rtol=r, atol=r).evaluations for r in (1e-3, 1e-8))
    easy = fm.dopri5(stiff, X[:1], rtol=1e-3, atol=1e-3).evaluations
    assert easy < loose < tight


def test_a_sample_does_not_depend_on_its_neighbours():
    together, alone = fm.dopri5(stiff, X).x[0], fm.dopri5(stiff, X[:1]).x[0]
    assert torch.allclose(together, alone, rtol=1e-12)


def test_forward_then_backward_returns():
    def turn(x, t):
        return (1 + t[:, None]) * torch.stack([-x[:, 1], x[:, 0]], dim=1)

    there = fm.dopri5(turn, X[:2], rtol=1e-9, atol=1e-9).x
    assert float((there - X[:2]).abs().max()) > 0.5
    assert torch.allclose(fm.dopri5(turn, there, 1.0, 0.0, rtol=1e-9, atol=1e-9).x, X[:2], atol=1e-6)


def test_gradients_flow_through_it():
    x = X[:1].clone().requires_grad_(True)
    fm.dopri5(stiff, x, rtol=1e-8, atol=1e-8).x[0, 0].backward()
    assert float(x.grad[0, 0]) == pytest.approx(math.exp(-0.5), rel=1e-5)


def test_it_stops_where_it_cannot_go_on():
    with pytest.raises(RuntimeError, match=r"not finite after t ="):
        fm.dopri5(lambda x, t: torch.where(t[:, None] > 0.5, torch.nan, x), X)
    with pytest.raises(RuntimeError, match=r"(the step vanishes at|not finite after) t = 0\.5"):
        fm.dopri5(lambda x, t: 1 / (0.5 - t[:, None]).abs() + 0 * x, X)
    with pytest.raises(RuntimeError, match=r"not at t = 1\.0 after 3 steps"):
        fm.dopri5(stiff, X, max_steps=3)
    with pytest.raises(ValueError, match=r"end is 0\.5, but must be another time than start"):
        fm.dopri5(stiff, X, 0.5, 0.5)
