"""Networks: sizes, points that do not see each other, the unconditional branch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fm import networks


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def stirred(name, **sizes):
    """A network whose every weight is away from its start, so that zero gates hide nothing."""
    network = networks.build({"name": name, **sizes})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    return network.double()


def test_the_original_recipe_has_its_number_of_parameters():
    assert parameters(networks.build({"name": "baseline"})) == 1_315_842
    small = 515 * 256 + 256 + 2 * (256 * 256 + 256) + 256 * 2 + 2
    assert parameters(networks.build({"name": "baseline-small"})) == small


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_network_answers_in_the_clouds_shape(name):
    network = networks.build({"name": name})
    x, t, condition = torch.randn(3, 11, 2), torch.rand(3), torch.randn(3, 512)
    for keep in (None, torch.tensor([True, False, True])):
        assert network(x, t, condition, keep).shape == x.shape
    assert network(x, t).shape == x.shape


@pytest.mark.parametrize("name", ["film", "baseline", "baseline-small"])
def test_points_and_clouds_do_not_see_each_other(name):
    network = stirred(name, condition_dim=6)
    x, t, c = torch.randn(3, 8, 2).double(), torch.rand(3).double(), torch.randn(3, 6).double()
    out = network(x, t, c)
    order = torch.randperm(8)
    assert torch.allclose(network(x[:, order], t, c), out[:, order])
    assert torch.allclose(network(x[1:2, :3], t[1:2], c[1:2]), out[1:2, :3])


def test_the_set_network_sees_its_cloud_and_no_other_and_knows_no_order():
    network = stirred("set-film", condition_dim=6)
    x, t, c = torch.randn(3, 8, 2).double(), torch.rand(3).double(), torch.randn(3, 6).double()
    out, order = network(x, t, c), torch.randperm(8)
    assert torch.allclose(network(x[:, order], t, c), out[:, order])
    assert torch.allclose(network(x[1:2], t[1:2], c[1:2]), out[1:2])
    moved = x.clone()
    moved[:, 0] += 1
    assert not torch.allclose(network(moved, t, c)[:, 1:], out[:, 1:])


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_keep_false_is_no_condition(name):
    network = stirred(name, condition_dim=6)
    x, t, c = torch.randn(2, 8, 2).double(), torch.rand(2).double(), torch.randn(2, 6).double()
    mixed = network(x, t, c, torch.tensor([True, False]))
    assert torch.allclose(mixed[0], network(x, t, c)[0])
    assert torch.allclose(mixed[1], network(x, t)[1])
    assert not torch.allclose(network(x, t, c), network(x, t))


def test_film_sees_the_condition_standardised():
    network = stirred("film", condition_dim=6)
    conditions = torch.randn(100, 6).double() * 0.01 + 5
    x, t = torch.randn(2, 8, 2).double(), torch.rand(2).double()
    plain = network(x, t, (conditions[:2] - conditions.mean(0)) / conditions.std(0, correction=0))
    network.standardize(conditions)
    assert torch.allclose(network(x, t, conditions[:2]), plain, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 99))
def test_the_components_of_the_condition_are_white_and_are_part_of_the_network(rows, components, seed):
    generator = torch.Generator().manual_seed(seed)
    conditions = torch.randn(rows, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3
    network = networks.build({"name": "film", "condition_dim": 6, "components": components})
    network.standardize(conditions)
    white = network.standardized(conditions)
    assert white.shape == (rows, components)
    used = min(components, rows - 1)
    torch.testing.assert_close(
        white.T @ white / rows, torch.diag((torch.arange(components) < used).float()), atol=1e-3, rtol=0
    )
    other = networks.build({"name": "film", "condition_dim": 6, "components": components, "seed": 1})
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.standardized(conditions), white)


def test_more_components_than_the_condition_has_numbers_are_refused():
    with pytest.raises(ValueError, match="components is 7, but must be 1 to condition_dim = 6, or None"):
        networks.build({"name": "film", "condition_dim": 6, "components": 7})


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_any_dimension(dim):
    x, network = torch.randn(2, 4, dim), networks.build({"name": "film", "dim": dim, "condition_dim": 3})
    assert network(x, torch.rand(2), torch.randn(2, 3)).shape == x.shape


def test_the_seed_decides_the_weights_and_nothing_else_is_disturbed():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (networks.build({"name": "film", "seed": s}) for s in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.embed_points.weight, other.embed_points.weight)


def test_bad_calls_say_what_is_allowed():
    with pytest.raises(ValueError, match="one of baseline, baseline-small, film"):
        networks.build({"name": "flim"})
    with pytest.raises(ValueError, match="wdith"):
        networks.build({"name": "film", "wdith": 3})
    network = networks.build({"name": "film"})
    with pytest.raises(ValueError, match=r"shape of condition is \(2, 5\), but must be \[2, 512\]"):
        network(torch.randn(2, 4, 2), torch.rand(2), torch.randn(2, 5))
    with pytest.raises(ValueError, match=r"shape of x is \(2, 4, 3\), but must be \[B, N, 2\]"):
        network(torch.randn(2, 4, 3), torch.rand(2))
    with pytest.raises(ValueError, match=r"shape of t is \(3,\), but must be \[2\]"):
        network(torch.randn(2, 4, 2), torch.rand(3))
