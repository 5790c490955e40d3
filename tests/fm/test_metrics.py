"""Metrics against their definitions, and against closed forms."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fm import metrics


def clouds(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_chamfer_by_its_definition():
    x, y = clouds(0, 3, 9, 2), clouds(1, 3, 12, 2)
    for a, b, got in zip(x, y, metrics.chamfer(x, y, squared=True), strict=True):
        there = sum(min(float((p - q).square().sum()) for q in b) for p in a) / 9
        back = sum(min(float((p - q).square().sum()) for q in a) for p in b) / 12
        assert float(got) == pytest.approx(there + back, rel=1e-5)
    assert torch.allclose(metrics.chamfer(x, y) ** 2, metrics.chamfer(x, y, squared=True))


def test_emd_is_the_cheapest_bijection():
    x, y = clouds(2, 1, 6, 3), clouds(3, 1, 6, 3)
    best = min(float((x[0, list(p)] - y[0]).norm(dim=1).mean()) for p in permutations(range(6)))
    assert float(metrics.emd(x, y)) == pytest.approx(best, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 40), dim=st.integers(1, 3), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_sinkhorn_emd_comes_from_below_to_the_exact_one(seed, n, dim, scale):
    x, y = scale * clouds(seed, 2, n, dim), scale * clouds(seed + 1000, 2, n, dim)
    lacking = metrics.emd(x, y) - metrics.sinkhorn_emd(x, y, regularization=0.01 * scale, rounds=60)
    assert bool((lacking > -1e-5 * scale).all()) and bool((lacking < 0.02 * scale).all())


def test_sinkhorn_emd_of_large_clouds_of_any_sizes():
    x = clouds(20, 1, 1500, 2)
    shift = torch.tensor([0.6, -0.8])
    assert float(metrics.sinkhorn_emd(x, x + shift)) == pytest.approx(1, abs=0.01)
    few, others = x[:, :300], clouds(21, 1, 300, 2)
    thrice = few.repeat(1, 3, 1)
    assert float(metrics.sinkhorn_emd(thrice, others)) == pytest.approx(float(metrics.emd(few, others)), abs=0.01)


def test_sliced_w2_of_a_shift_is_its_length_over_root_two():
    x = clouds(4, 1, 500, 2)
    shift = torch.tensor([3.0, -4.0])
    assert float(metrics.sliced_w2(x, x + shift)) == pytest.approx(5 / 2**0.5, rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 30), dim=st.integers(1, 4))
def test_distances_are_symmetric_zero_on_themselves_and_blind_to_order(seed, n, dim):
    x, y = clouds(seed, 2, n, dim), clouds(seed + 1000, 2, n, dim)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for distance in (metrics.chamfer, metrics.sliced_w2, metrics.emd):
        assert torch.allclose(distance(x, y), distance(y, x), atol=1e-5)
        assert torch.allclose(distance(x, x[:, order]), torch.zeros(2), atol=1e-5)
        assert torch.allclose(distance(x[:, order], y), distance(x, y), atol=1e-5)


def test_pairwise_agree_with_the_single_distances():
    x, y = clouds(5, 3, 256, 2), clouds(6, 4, 256, 2)
    for pairwise, single in (
        (metrics.pairwise_chamfer, metrics.chamfer),
        (metrics.pairwise_sliced_w2, metrics.sliced_w2),
    ):
        table = pairwise(x, y)
        assert table.shape == (3, 4)
        for i in range(3):
            assert torch.allclose(table[i], single(x[i].expand(4, -1, -1), y), atol=1e-4)


@pytest.mark.parametrize("offset, scale", [(1e3, 1.0), (1e4, 1.0), (0.0, 1e-25), (0.0, 1e25)])
def test_distances_keep_their_digits_far_from_the_origin_and_at_any_scale(offset, scale):
    x = clouds(22, 64, 60, 2).add(offset).mul(scale)
    y = (x / scale + 0.01 * clouds(23, 64, 60, 2)) * scale
    near_x, near_y = (c.double() / scale - offset for c in (x, y))
    table = metrics.pairwise_sliced_w2(x, y)
    assert metrics.retrieval(table) == 1
    assert torch.allclose(table.double() / scale, metrics.pairwise_sliced_w2(near_x, near_y), rtol=1e-3)
    sliced = metrics.sliced_w2(x, y).double() / scale
    assert torch.allclose(sliced, metrics.sliced_w2(near_x, near_y), rtol=1e-2)
    assert metrics.w2(x[0], y[1]) / scale == pytest.approx(metrics.w2(near_x[0], near_y[1]), rel=1e-5)


def test_the_gradient_of_sliced_w2_is_that_of_its_definition():
    x, y = clouds(24, 1, 9, 2).double().requires_grad_(True), clouds(25, 1, 9, 2).double()
    assert torch.autograd.gradcheck(lambda x: metrics.sliced_w2(x, y, directions=5), x)
    assert torch.autograd.gradcheck(lambda x: metrics.pairwise_sliced_w2(x, y, directions=5, quantiles=9), x)


def test_sliced_w2_of_unequal_sizes_is_that_of_the_distributions():
    x, y = clouds(26, 3, 12, 2), clouds(27, 3, 9, 2)
    same_size = metrics.sliced_w2(x.repeat_interleave(3, dim=1), y.repeat_interleave(4, dim=1))
    assert torch.allclose(metrics.sliced_w2(x, y), same_size, rtol=1e-5)
    thrice = x.repeat(1, 3, 1)
    assert torch.allclose(metrics.sliced_w2(x, thrice), torch.zeros(3), atol=1e-6)
    assert float(metrics.pairwise_sliced_w2(x, thrice).diagonal().max()) < 1e-6
    assert torch.allclose(metrics.pairwise_sliced_w2(x, y, quantiles=1024), metrics.pairwise_sliced_w2(x, y), rtol=0.05)
    exact = torch.stack([metrics.sliced_w2(a.expand(3, -1, -1), y) for a in x])
    assert torch.allclose(metrics.pairwise_sliced_w2(x, y), exact, rtol=0.05)


def test_gradients_of_equal_clouds_are_zero():
    x = clouds(28, 2, 9, 2).requires_grad_(True)
    for distance in (metrics.sliced_w2, metrics.chamfer, metrics.emd, metrics.pairwise_sliced_w2):
        (slope,) = torch.autograd.grad(
            distance(x, x.detach()).diagonal(dim1=-2, dim2=-1).sum()
            if distance is metrics.pairwise_sliced_w2
            else distance(x, x.detach()).sum(),
            x,
        )
        assert torch.equal(slope, torch.zeros_like(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_clouds_of_any_precision_are_measured_in_single_or_better(dtype):
    x, y = clouds(29, 2, 12, 2).to(dtype), clouds(30, 2, 12, 2)
    for distance in (
        metrics.chamfer, metrics.emd, metrics.sinkhorn_emd, metrics.sliced_w2, metrics.pairwise_chamfer,
        metrics.pairwise_emd, metrics.pairwise_sliced_w2,
    ):  # fmt: skip
        wanted = torch.float64 if dtype == torch.float64 else torch.float32
        assert distance(x, x.flip(1)).dtype == distance(x, y).dtype == distance(y, x).dtype == wanted
        assert torch.allclose(distance(x, y), distance(x.to(wanted), y.to(wanted)))
    assert metrics.w2(x[0], y[0]) == pytest.approx(metrics.w2(x[0].double(), y[0].double()), rel=1e-5)


def test_sizes_may_differ_and_more_points_come_nearer():
    truth = clouds(7, 1, 20000, 2)
    few, many = metrics.sliced_w2(clouds(8, 1, 100, 2), truth), metrics.sliced_w2(clouds(9, 1, 10000, 2), truth)
    assert float(many) < float(few) < 0.3


def test_retrieval_counts_the_rows_that_find_themselves():
    table = torch.tensor([[0.0, 1, 2], [1, 0.5, 0.2], [3, 3, 1]])
    assert metrics.retrieval(table) == pytest.approx(2 / 3)


def test_bad_calls_say_what_is_allowed():
    x = clouds(10, 2, 5, 2)
    with pytest.raises(ValueError, match=r"shape of x is \(5, 2\), but must be \[B, N, D\]"):
        metrics.chamfer(x[0], x)
    with pytest.raises(ValueError, match=r"at least one cloud of one point"):
        metrics.chamfer(x[:, :0], x)
    bad = x.clone()
    bad[1, 2, 0] = float("nan")
    with pytest.raises(ValueError, match=r"y\[1\] holds NaN"):
        metrics.sliced_w2(x, bad)
    with pytest.raises(ValueError, match="number of points of x and y is"):
        metrics.emd(x, x[:, :4])
    with pytest.raises(ValueError, match="regularization is 0, but must be positive"):
        metrics.sinkhorn_emd(x, x, regularization=0)
    with pytest.raises(ValueError, match=r"shape of distances is \(2, 3\)"):
        metrics.retrieval(torch.zeros(2, 3))
