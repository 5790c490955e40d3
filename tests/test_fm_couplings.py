"""Couplings: a reordering of the source, optimal where it says so."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fm import couplings


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
    with pytest.raises(ValueError, match="number of points of x0 is 1, but must be 2 or more"):
        couplings.exact_ot(one, one)
    x0, x1 = clouds(3, 4, 6, 2)
    with pytest.raises(ValueError, match="block is 1"):
        couplings.exact_ot(x0, x1, block=1)
    with pytest.raises(ValueError, match="x0 and x1"):
        couplings.exact_ot(x0, x1[:, :5])
