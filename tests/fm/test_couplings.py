"""Couplings: a reordering of the source, optimal where it says so."""

from functools import partial
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from fm import couplings
from fm._assignment import assign


def cost(x0, x1):
    return (x0 - x1).square().sum(-1).mean()


def clouds(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator), torch.randn(*shape, generator=generator) * 0.5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(2, 40), block=st.integers(2, 50))
def test_ot_reorders_each_cloud_and_never_costs_more(seed, n, block):
    x0, x1 = clouds(seed, 3, n, 2)
    paired = couplings.exact_ot(x0, x1, block=block)
    for before, after in zip(x0, paired, strict=True):
        assert sorted(before.tolist()) == sorted(after.tolist())
    assert cost(paired, x1) <= cost(x0, x1) + 1e-6


def test_ot_is_the_cheapest_of_all_pairings():
    x0, x1 = clouds(0, 6, 3)
    best = min(float(cost(x0[list(p)], x1)) for p in permutations(range(6)))
    assert float(cost(couplings.exact_ot(x0, x1), x1)) == pytest.approx(best)


def test_blocks_do_not_mix_and_the_rest_is_a_block_of_its_own():
    x0, x1 = clouds(1, 10, 2)
    paired = couplings.exact_ot(x0, x1, block=4)
    for part in (slice(0, 4), slice(4, 8), slice(8, 10)):
        assert sorted(x0[part].tolist()) == sorted(paired[part].tolist())
    assert torch.equal(paired[:4], couplings.exact_ot(x0[:4], x1[:4]))


def test_threads_do_not_change_the_plan():
    x0, x1 = clouds(2, 16, 256, 2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = couplings.exact_ot(x0, x1)
        torch.set_num_threads(2)
        assert torch.equal(alone, couplings.exact_ot(x0, x1))
    finally:
        torch.set_num_threads(threads)


def test_bad_calls_say_what_is_allowed():
    one, _ = clouds(3, 4, 1, 2)
    with pytest.raises(ValueError, match="number of vectors of x0 is 1, but must be 2 or more"):
        couplings.exact_ot(one, one)
    x0, x1 = clouds(3, 4, 6, 2)
    with pytest.raises(ValueError, match="block is 1"):
        couplings.exact_ot(x0, x1, block=1)
    with pytest.raises(ValueError, match="x0 and x1"):
        couplings.exact_ot(x0, x1[:, :5])
    with pytest.raises(ValueError, match="regularization is 0"):
        couplings.sinkhorn_plan(x0, x1, regularization=0)
    with pytest.raises(ValueError, match=r"shape of condition is \(4,\), but must be \[4, 6\] or \[4, 6, '…'\]"):
        couplings.inside_condition(x0, x1, condition=torch.zeros(4))


PAIRING = {
    "exact_ot": couplings.exact_ot,
    "inside_condition": couplings.inside_condition,
    "condition_weighted_ot": couplings.condition_weighted_ot,
    "sinkhorn_ot": partial(couplings.sinkhorn_ot, regularization=1.0),
    "mixed": partial(couplings.mixed, share=0.5),
}


@pytest.mark.parametrize("name", PAIRING)
@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (0, 6, 2), (4, 0, 2), (6,)])
def test_pictures_and_empty_batches_are_refused(name, shape):
    x = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"shape of x0 is .* but must be \[N, D\] or \[B, N, D\], none of them 0"):
        PAIRING[name](x, x, condition=torch.zeros(shape[:-1]))


def test_pictures_are_paired_along_the_batch():
    x0, x1 = clouds(13, 6, 3, 4, 4)
    paired = couplings.across_batch(x0, x1)
    assert sorted(paired.flatten(1).tolist()) == sorted(x0.flatten(1).tolist())


def test_large_problems_are_solved_as_exactly_as_small_ones():
    x0, x1 = clouds(4, 500, 2)
    order = couplings.assignment(x0, x1)
    costs = torch.cdist(x1, x0).square().numpy()
    rows, columns = linear_sum_assignment(costs)
    assert float(cost(x0[order], x1)) == pytest.approx(costs[rows, columns].mean(), rel=1e-5)


@pytest.mark.parametrize("kind", ["far apart", "on a grid, with repeats", "one place", "mostly equal and far"])
@pytest.mark.parametrize("n", [70, 220])
def test_large_costs_of_any_kind_are_solved_exactly(kind, n):
    x0, x1 = clouds(8, n, 2)
    if kind == "far apart":
        x1 = x1 + 1000
    elif kind == "on a grid, with repeats":
        x0, x1 = x0.round(), x1.round()
    elif kind == "one place":
        x0, x1 = torch.zeros(n, 2), torch.zeros(n, 2)
    else:
        x0[3:], x1[5:] = 0, 0
        x0[:3] *= 1e4
    costs = torch.cdist(x1, x0).square()
    rows, columns = linear_sum_assignment(costs.numpy())
    order = assign(costs)
    assert sorted(order.tolist()) == list(range(n))
    found = costs.double()[torch.arange(n), order].sum()
    assert float(found) == pytest.approx(float(costs.double()[rows, columns].sum()), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset, scale", [(100.0, 1.0), (1e4, 1.0), (0.0, 1e-30), (0.0, 1e30)])
@pytest.mark.parametrize("n, dim", [(100, 2), (256, 2), (100, 40)])
def test_transport_keeps_its_digits_far_from_the_origin_and_at_any_scale(n, dim, offset, scale, dtype):
    x0, x1 = ((v.to(dtype) + offset) * scale for v in clouds(10, n, dim))
    exact = torch.cdist(x1.double() / scale, x0.double() / scale, compute_mode="donot_use_mm_for_euclid_dist").square()
    rows, columns = linear_sum_assignment(exact.numpy())
    found = exact[rows, couplings.assignment(x0, x1)].mean()
    assert float(found) == pytest.approx(float(exact[rows, columns].mean()), rel=1e-9)
    if n * dim == 200:
        plan = couplings.sinkhorn_plan(x0.double() / scale, x1.double() / scale, regularization=1.0)
        near = couplings.sinkhorn_plan(x0.double() / scale - offset, x1.double() / scale - offset, regularization=1.0)
        assert torch.allclose(plan, near, atol=1e-8)


@pytest.mark.parametrize("weight", [1e3, 1e6, 1e12])
def test_a_heavy_condition_leaves_the_points_their_digits(weight):
    x0, x1 = clouds(11, 200, 2)
    labels = torch.randint(3, (200,), generator=torch.Generator().manual_seed(2))
    heavy = couplings.condition_weighted_ot(x0, x1, condition=labels, weight=weight, block=None)
    inside = partial(couplings.exact_ot, block=None)
    strict = couplings.inside_condition(x0, x1, condition=labels, coupling=inside)
    assert float(cost(heavy, x1)) == pytest.approx(float(cost(strict, x1)), rel=1e-6)


def test_inside_condition_never_crosses_a_label():
    x0, x1 = clouds(5, 60, 2)
    labels = torch.randint(3, (60,), generator=torch.Generator().manual_seed(0))
    paired = couplings.inside_condition(x0, x1, condition=labels)
    for label in range(3):
        assert sorted(paired[labels == label].tolist()) == sorted(x0[labels == label].tolist())
    assert cost(couplings.exact_ot(x0, x1, block=None), x1) < cost(paired, x1) < cost(x0, x1)


@pytest.mark.parametrize("coupling", [couplings.exact_ot, partial(couplings.sinkhorn_ot, regularization=0.5)])
@pytest.mark.parametrize("kind", ["labels", "rows", "pictures"])
def test_vectors_are_paired_with_those_of_equal_condition(coupling, kind):
    x0, x1 = clouds(17, 60, 2)
    labels = torch.randint(3, (60,), generator=torch.Generator().manual_seed(0))
    condition = {"labels": labels, "rows": torch.eye(3)[labels], "pictures": labels.view(-1, 1, 1).expand(-1, 2, 2)}
    paired = coupling(x0, x1, condition=condition[kind], generator=torch.Generator().manual_seed(1))
    for label in range(3):
        assert {*map(tuple, paired[labels == label].tolist())} <= {*map(tuple, x0[labels == label].tolist())}
    assert cost(coupling(x0, x1), x1) < cost(paired, x1) < cost(x0, x1)


def test_a_single_vector_is_its_own_pair():
    x0, x1 = clouds(18, 1, 2)
    for coupling in PAIRING.values():
        assert torch.equal(coupling(x0, x1, condition=torch.zeros(1)), x0)
    assert torch.equal(couplings.across_batch(x0.reshape(1, 1, 2, 1), x1.reshape(1, 1, 2, 1)).flatten(1), x0)


def test_the_conditions_weight_goes_from_blind_to_strict():
    x0, x1 = clouds(6, 80, 2)
    labels = torch.randint(2, (80,), generator=torch.Generator().manual_seed(1))

    def crossed(weight):
        marked = torch.cat([x0, labels[:, None].float()], dim=1)
        order = couplings.assignment(
            *(torch.cat([x, labels[:, None] * weight**0.5], dim=1) for x in (x0, x1)), block=None
        )
        return float((marked[order, 2] != labels).float().mean())

    shares = [crossed(w) for w in (0.0, 0.5, 1e4)]
    assert shares[0] > shares[1] > shares[2] == 0
    strict = couplings.condition_weighted_ot(x0, x1, condition=labels, weight=1e4, block=None)
    assert torch.equal(
        strict, couplings.inside_condition(x0, x1, condition=labels, coupling=partial(couplings.exact_ot, block=None))
    )


def test_sinkhorn_goes_from_exact_to_independent():
    x0, x1 = clouds(7, 40, 2)
    plans = [couplings.sinkhorn_plan(x0, x1, regularization=r) for r in (1e-3, 1e3)]
    assert torch.equal(plans[0].argmax(0), couplings.assignment(x0, x1))
    assert torch.allclose(plans[1], torch.full((40, 40), 1 / 1600, dtype=torch.float64), rtol=0.05)
    for plan in plans:
        assert torch.allclose(plan.sum(0), torch.full((40,), 1 / 40, dtype=torch.float64), rtol=1e-3)
    first, second = (
        couplings.sinkhorn_ot(x0, x1, regularization=0.1, generator=torch.Generator().manual_seed(2)) for _ in range(2)
    )
    assert torch.equal(first, second) and cost(first, x1) < cost(x0, x1)


@pytest.mark.parametrize("regularization", [100.0, 1.0, 0.1])
@pytest.mark.parametrize("far", [0.0, 4.0])
def test_an_entropic_plan_is_its_kernel_scaled_to_the_weights(regularization, far):
    (x0, _), (_, x1) = clouds(14, 2, 50, 2), clouds(15, 2, 30, 2)
    x1[:, :3] += far
    plan = couplings.sinkhorn_plan(x0, x1, regularization=regularization)
    assert plan.shape == (2, 50, 30) and plan.dtype == torch.float64
    assert torch.allclose(plan.sum(-1), torch.full((2, 50), 1 / 50, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(plan.sum(-2), torch.full((2, 30), 1 / 30, dtype=torch.float64), atol=1e-8)
    costs = torch.cdist(x0.double(), x1.double()).square()
    potentials = plan.log() + costs / regularization  # one of each row and one of each column
    apart = potentials - potentials[:, :1] - potentials[:, :, :1] + potentials[:, :1, :1]
    assert float(apart[plan > 1e-200].abs().max()) < 1e-6 * float(1 + costs.max() / regularization)


def test_sinkhorn_draws_each_source_as_often_as_its_plan_says():
    x0, x1 = clouds(16, 4, 1)
    plan = couplings.sinkhorn_plan(x0, x1, regularization=1.0)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([couplings.sinkhorn_ot(x0, x1, regularization=1.0, generator=generator) for _ in range(1000)])
    shares = (drawn == x0.reshape(4, 1, 1, 1)).double().mean((1, 3))  # of each x0 at each x1
    assert torch.allclose(shares, 4 * plan, atol=0.06)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_mixed_moves_only_its_share(share):
    x0, x1 = clouds(8, 100, 2)
    paired = couplings.mixed(x0, x1, share=share, generator=torch.Generator().manual_seed(3))
    assert sorted(paired.tolist()) == sorted(x0.tolist())
    assert float((paired != x0).any(1).float().mean()) <= share


@pytest.mark.parametrize("inner", [couplings.inside_condition, couplings.condition_weighted_ot])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("rows", [False, True])
def test_mixed_keeps_the_condition_of_each_vector(inner, batch, rows):
    x0, x1 = clouds(12, *batch, 40, 2)
    labels = torch.randint(2, (*batch, 40), generator=torch.Generator().manual_seed(4))
    condition = torch.eye(2)[labels] if rows else labels
    seen = partial(inner, weight=1e6) if inner is couplings.condition_weighted_ot else inner
    paired = couplings.mixed(x0, x1, share=0.9, coupling=seen, condition=condition)
    for before, after, label in zip(
        *(v.reshape(-1, *v.shape[len(batch) :]) for v in (x0, paired, labels)), strict=True
    ):
        for k in range(2):
            assert sorted(before[label == k].tolist()) == sorted(after[label == k].tolist())
    assert cost(paired, x1) < cost(x0, x1)
    with pytest.raises(ValueError, match=r"shape of condition is \(7,\), but must be"):
        couplings.mixed(x0, x1, share=0.9, coupling=seen, condition=torch.zeros(7))


def test_across_batch_pairs_whole_samples():
    x0, x1 = clouds(9, 20, 3, 2)
    paired = couplings.across_batch(x0, x1)
    assert sorted(paired.flatten(1).tolist()) == sorted(x0.flatten(1).tolist()) and cost(paired, x1) < cost(x0, x1)
