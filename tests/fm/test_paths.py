"""Paths: end points, velocity as the path's derivative, refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fm import paths

ALL = {
    "linear": paths.linear(),
    "linear-noisy": paths.linear(0.1),
    "lipman": paths.lipman(0.1),
    "bridge": paths.bridge(0.5),
    "variance-preserving": paths.variance_preserving(),
}


def ends(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(5, 7, 2, generator=generator, dtype=torch.float64) for _ in range(3))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25, deadline=None)
@given(t=st.floats(0.01, 0.99), seed=st.integers(0, 999))
def test_velocity_is_the_derivative_of_the_path(name, t, seed):
    x0, x1, noise = ends(seed)
    path, step = ALL[name], 1e-6

    def at(time):
        return path(x0, x1, torch.full((5,), time, dtype=torch.float64), noise)

    slope = (at(t + step).x - at(t - step).x) / (2 * step)
    assert torch.allclose(slope, at(t).velocity, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "bridge", "variance-preserving"])
def test_ends_are_exact(name):
    x0, x1, noise = ends(0)
    assert torch.equal(ALL[name](x0, x1, torch.zeros(5, dtype=torch.float64), noise).x, x0)
    assert torch.equal(ALL[name](x0, x1, torch.ones(5, dtype=torch.float64), noise).x, x1)


def test_lipman_ends_at_the_data_within_sigma_and_matches_its_formula():
    x0, x1, _ = ends(1)
    sigma = 0.1
    path = paths.lipman(sigma)
    assert torch.allclose(path(x0, x1, torch.ones(5, dtype=torch.float64)).x, x1 + sigma * x0)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    x, u = path(x0, x1, t)
    s = t[:, None, None]
    assert torch.allclose(u, (x1 - (1 - sigma) * x) / (1 - (1 - sigma) * s))


def test_bridge_is_finite_at_its_ends_and_matches_its_formula_between():
    x0, x1, noise = ends(2)
    path = paths.bridge(0.5)
    for t in (0.0, 1.0):
        x, u = path(x0, x1, torch.full((5,), t, dtype=torch.float64), noise)
        assert torch.equal(u, x1 - x0) and torch.isfinite(x).all()
    t = 0.3
    x, u = path(x0, x1, torch.full((5,), t, dtype=torch.float64), noise)
    mean = (1 - t) * x0 + t * x1
    assert torch.allclose(x, mean + 0.5 * math.sqrt(t * (1 - t)) * noise)
    assert torch.allclose(u, (1 - 2 * t) / (2 * t * (1 - t)) * (x - mean) + x1 - x0)


@pytest.mark.parametrize("name", ALL)
def test_gradients_with_respect_to_t_are_the_velocity_and_finite_at_both_ends(name):
    x0, x1, noise = ends(6)
    t = torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0], dtype=torch.float64, requires_grad=True)
    x, u = ALL[name](x0, x1, t, noise)
    (slope,) = torch.autograd.grad(x.sum(), t, retain_graph=True)
    assert torch.allclose(slope, u.sum((1, 2)))
    if u.requires_grad:
        assert torch.isfinite(torch.autograd.grad(u.sum(), t)[0]).all()


def test_noise_comes_from_the_generator():
    x0, x1, _ = ends(3)
    t = torch.full((5,), 0.5, dtype=torch.float64)
    drawn = [paths.linear(0.3)(x0, x1, t, generator=torch.Generator().manual_seed(4)).x for _ in range(2)]
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], paths.linear()(x0, x1, t).x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_dtype_is_kept(name, dtype):
    x0, x1, noise = (v.to(dtype) for v in ends(4))
    x, u = ALL[name](x0, x1, torch.rand(5, dtype=dtype), noise)
    assert x.dtype == u.dtype == dtype


def test_bad_calls_say_what_is_allowed():
    x0, x1, _ = ends(5)
    with pytest.raises(ValueError, match=r"sigma is -1, but must be 0 or more"):
        paths.linear(-1)
    with pytest.raises(ValueError, match=r"sigma is 0, but must be positive"):
        paths.bridge(0)
    with pytest.raises(ValueError, match=r"t is \[1\.5, 1\.5\], but must be in \[0, 1\]"):
        paths.linear()(x0, x1, torch.full((5,), 1.5))
    with pytest.raises(ValueError, match=r"t is \[1\.0000001\d*, 1\.0000001\d*\], but must be in \[0, 1\]"):
        paths.linear()(x0, x1, torch.full((5,), 1.0000001))
    with pytest.raises(ValueError, match=r"shape of t is \(3,\), but must be \[5\]"):
        paths.linear()(x0, x1, torch.rand(3))
    with pytest.raises(ValueError, match="x0 and x1"):
        paths.linear()(x0[:, :3], x1, torch.rand(5))
