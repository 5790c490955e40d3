"""Densities on a grid: noise is carried where they say, by ways that do not meet."""

import pytest
import torch

from fm import grids


def random_density(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(2, height, width, generator=generator)
    return torch.where(torch.rand(2, height, width, generator=generator) < 0.4, 0.0, weights)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (3, 8), (8, 3)])
def test_points_are_where_the_density_is(height, width):
    density = random_density(height, width)
    noise = torch.randn(2, 40_000, 2, generator=torch.Generator().manual_seed(1))
    points = grids.transport(density, noise, extent=3.0)

    size = torch.tensor([width, height])
    cells = ((points / 3 * max(height, width) + size) / 2).floor().long()
    assert (cells >= 0).all()
    assert (cells < size).all()
    for one, found in zip(density, cells, strict=True):
        counts = torch.zeros(height, width).index_put((found[:, 1], found[:, 0]), torch.tensor(1.0), accumulate=True)
        assert torch.allclose(counts / counts.sum(), one / one.sum(), atol=0.01)
        assert counts[one == 0].sum() == 0
    assert grids.log_likelihood(density, points, extent=3.0).isfinite().all()


def test_inside_a_cell_points_are_even():
    noise = torch.randn(1, 20_000, 2, generator=torch.Generator().manual_seed(2))
    points = grids.transport(torch.ones(1, 1, 1), noise, extent=1.0)[0]
    assert torch.allclose(points.mean(0), torch.zeros(2), atol=0.02)
    assert torch.allclose(points.var(0), torch.full((2,), 1 / 3), atol=0.01)


def test_no_two_ways_meet():
    density = random_density(7, 9)
    x0 = torch.randn(2, 300, 2, generator=torch.Generator().manual_seed(3))
    x1 = grids.transport(density, x0, extent=3.0)
    for t in (0.25, 0.5, 0.75, 1.0):
        x = torch.lerp(x0, x1, t)
        assert (x[..., 0].gather(1, x0[..., 0].argsort(1)).diff(dim=1) > 0).all()
    same_column = torch.stack([torch.full((300,), 0.3), torch.linspace(-2, 2, 300)], dim=1).expand(2, -1, -1)
    rows = grids.transport(density, same_column, extent=3.0)[..., 1]
    assert (rows.diff(dim=1) > 0).all()


def test_the_likelihood_sums_to_one():
    density = random_density(4, 10)
    y, x = torch.meshgrid(torch.linspace(-2.99, 2.99, 300), torch.linspace(-2.99, 2.99, 300), indexing="ij")
    grid = torch.stack([x, y], dim=-1).reshape(1, -1, 2).expand(2, -1, -1)
    likelihood = grids.log_likelihood(density, grid, extent=3.0).exp()
    assert torch.allclose(likelihood.mean(1) * 5.98**2, torch.ones(2), atol=0.03)
    outside = torch.tensor([[[0.0, 1.3], [3.1, 0.0]]]).expand(2, -1, -1)
    assert (grids.log_likelihood(density, outside, extent=3.0) == -torch.inf).all()


def test_a_histogram_counts_the_points_of_each_cell():
    density = random_density(8, 8)
    noise = torch.randn(2, 20_000, 2, generator=torch.Generator().manual_seed(5))
    counts = grids.histogram(grids.transport(density, noise, extent=2.0), 8, extent=2.0)
    assert (counts.sum((1, 2)) == 20_000).all()
    assert torch.allclose(counts / 20_000, density / density.sum((1, 2), keepdim=True), atol=0.01)
    corners = torch.tensor([[[-9.0, -9.0], [9.0, 9.0], [9.0, -9.0]]])
    assert torch.equal(grids.histogram(corners, 2, extent=1.0), torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]))


def test_extreme_noise_stays_inside():
    density = random_density(5, 5)
    noise = torch.tensor([[[40.0, 40.0], [-40.0, -40.0]]]).expand(2, -1, -1)
    points = grids.transport(density, noise, extent=3.0)
    assert (points.abs() <= 3).all()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"density is \(5, 5\), but must be \[B, H, W\]"):
        grids.transport(torch.ones(5, 5), torch.randn(1, 3, 2), extent=3.0)
