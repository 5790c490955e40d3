"""Sampling: guidance, noise, and the solver that follows it."""

import copy

import pytest
import torch

from fm import networks, sampling, solvers


@pytest.fixture(scope="module")
def network():
    network = networks.build({"name": "film", "condition_dim": 8, "width": 16, "blocks": 2, "embedding": 64})
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
        assert torch.allclose(sampling.guided(network, c, weight)(x, t), wanted, atol=1e-5)


def test_sampling_is_decided_by_the_generator_and_rows_do_not_meet(network):
    numbers = torch.Generator().manual_seed(0)
    condition = torch.randn(4, 8, generator=numbers)
    first, second = (
        sampling.sample(network, condition, 50, steps=3, generator=torch.Generator().manual_seed(1)).x for _ in range(2)
    )
    assert torch.equal(first, second) and first.shape == (4, 50, 2)
    noise = torch.randn(4, 50, 2, generator=numbers)
    network = copy.deepcopy(network).double()  # single precision rounds otherwise in a smaller batch
    together = sampling.sample(network, condition, 50, steps=3, x0=noise, guidance=2).x
    alone = sampling.sample(network, condition[2:3], 50, steps=3, x0=noise[2:3], guidance=2).x
    assert torch.allclose(together[2:3], alone, atol=1e-5)


def test_bad_calls_say_what_is_allowed(network):
    condition = torch.randn(2, 8)
    with pytest.raises(ValueError, match="method is 'rk5', but must be one of euler, heun, midpoint, rk4"):
        sampling.sample(network, condition, 5, method="rk5")
    with pytest.raises(ValueError, match="steps is 0"):
        sampling.sample(network, condition, 5, steps=0)
    with pytest.raises(ValueError, match="num_points is 0"):
        sampling.sample(network, condition, 0)
    with pytest.raises(ValueError, match=r"shape of x0 is \(2, 4, 2\), but must be \[2, 5, 2\]"):
        sampling.sample(network, condition, 5, x0=torch.zeros(2, 4, 2))
    with pytest.raises(ValueError, match="guidance is 2, but must be 1 or 0 when there is no condition"):
        sampling.sample(network, None, 5, guidance=2)
    with pytest.raises(ValueError, match="kind is 'more', but must be one of plain, rescaled, zero-star"):
        sampling.sample(network, condition, 5, guidance=2, guidance_kind="more")
    with pytest.raises(ValueError, match=r"shift is 3\.0, but must be 1 with dopri5"):
        sampling.sample(network, condition, 5, method="dopri5", shift=3.0)
    with pytest.raises(ValueError, match=r"on_step is .* but must be None with dopri5"):
        sampling.sample(network, condition, 5, method="dopri5", on_step=print)
    with pytest.raises(ValueError, match="x0 is None, but must be given for a network that has no `dim`"):
        sampling.sample(torch.nn.Linear(2, 2), None, 5)
    with pytest.raises(ValueError, match="trajectory is True, but must be False with dopri5"):
        sampling.sample(network, condition, 5, method="dopri5", trajectory=True)


def test_guidance_variants_do_what_they_say(network):
    x, t, c = torch.randn(3, 5, 2), torch.rand(3), torch.randn(3, 8)
    conditional, unconditional = network(x, t, c), network(x, t)
    v = sampling.guided(network, c, 4.0, kind="rescaled")(x, t)
    assert torch.allclose(v.flatten(1).std(1), conditional.flatten(1).std(1), rtol=1e-4)
    scale = (conditional * unconditional).sum((1, 2)) / unconditional.square().sum((1, 2))
    starred = scale[:, None, None] * unconditional
    wanted = starred + 4.0 * (conditional - starred)
    assert torch.allclose(sampling.guided(network, c, 4.0, kind="zero-star")(x, t), wanted, atol=1e-5)
    t = torch.tensor([0.1, 0.5, 0.9])
    within = sampling.guided(network, c, 4.0, interval=(0.3, 0.7))(x, t)
    everywhere, plain = sampling.guided(network, c, 4.0)(x, t), network(x, t, c)
    assert torch.allclose(within[[0, 2]], plain[[0, 2]], atol=1e-5) and torch.allclose(within[1], everywhere[1])


@pytest.mark.parametrize("kind", sampling.GUIDANCES)
def test_without_weight_kind_and_interval_hold_as_with_a_small_one(network, kind):
    x, t, c = torch.randn(3, 5, 2), torch.tensor([0.1, 0.5, 0.9]), torch.randn(3, 8)
    for interval in ((0.0, 1.0), (0.4, 0.6)):
        none, small = (sampling.guided(network, c, w, kind=kind, interval=interval)(x, t) for w in (0, 1e-7))
        assert torch.allclose(none, small, atol=1e-5)
    assert torch.allclose(none[[0, 2]], network(x, t, c)[[0, 2]], atol=1e-6)


def test_rescaled_guidance_leaves_a_sample_without_contrast_as_it_is():
    for shape in ((2, 1, 1), (2, 3, 2)):
        v = sampling.rescaled(torch.full(shape, 0.7), torch.full(shape, 0.1), 2.0)
        assert torch.allclose(v, torch.tensor(1.3))


def test_guidance_at_every_time_compiles_to_one_graph(network):
    x, t, c = torch.randn(3, 5, 2), torch.rand(3), torch.randn(3, 8)
    velocity = sampling.guided(network, c, 2.0)
    compiled = torch.compile(velocity, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x, t), velocity(x, t))


@torch.no_grad()
def test_adaptive_and_many_equal_steps_agree(network):
    generator = torch.Generator().manual_seed(0)
    condition, noise = torch.randn(2, 8, generator=generator), torch.randn(2, 30, 2, generator=generator)
    exact, x0 = sampling.guided(copy.deepcopy(network).double(), condition.double()), noise.double()
    fine = solvers.integrate(exact, x0, torch.linspace(0, 1, 401, dtype=torch.float64), method="rk4").x
    loose, tight = (float((solvers.dopri5(exact, x0, rtol=r, atol=r).x - fine).abs().max()) for r in (1e-5, 1e-7))
    assert tight < 1e-3 and tight < loose / 10
    drawn = sampling.sample(network, condition, 30, method="dopri5", x0=noise).x
    assert torch.equal(drawn, solvers.dopri5(sampling.guided(network, condition), noise).x)


def test_gradients_are_kept_when_asked_for(network):
    condition = torch.randn(2, 8, requires_grad=True)
    assert not sampling.sample(network, condition, 5, steps=2).x.requires_grad
    sampling.sample(network, condition, 5, steps=2, differentiable=True).x.sum().backward()
    assert float(condition.grad.abs().sum()) > 0


class Still(torch.nn.Module):
    """A module of one's own, with neither weights nor `dim`."""

    def forward(self, x, t, condition=None, keep=None):
        return 0 * x


def test_a_module_without_dim_takes_it_from_the_noise():
    noise = torch.randn(2, 5, 7)
    assert torch.equal(sampling.sample(Still(), torch.eye(2), 5, x0=noise, steps=2).x, noise)


class Ones(torch.nn.Module):
    """Velocity 1, by way of x and t."""

    dim = 2

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(3, 8), torch.nn.Linear(8, 2)
        torch.nn.init.zeros_(self.last.weight)
        torch.nn.init.ones_(self.last.bias)
        self.times = []

    def forward(self, x, t, condition=None, keep=None):
        self.times.append(float(t[0]))
        return self.last(self.first(torch.cat([x, t[:, None, None].expand(*x.shape[:-1], 1)], dim=-1)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["euler", "rk4", "dopri5"])
def test_state_and_time_stay_in_single_precision_whatever_the_networks(dtype, method):
    network = Ones().to(dtype)
    drawn = sampling.sample(network, None, 1, x0=torch.full((1, 1, 2), 2.0), steps=200, method=method).x
    assert drawn.dtype == torch.float32 and torch.allclose(drawn, torch.tensor(3.0), atol=1e-5)
    assert method == "dopri5" or len(set(network.times)) >= 200


@pytest.mark.parametrize("name", ["film", "set-film", "baseline-small"])
def test_networks_in_half_precision_draw_what_they_draw_in_single(name):
    network = networks.build({"name": name, "condition_dim": 8})
    torch.nn.init.normal_(network.get_submodule("head" if name != "baseline-small" else "layers.6").weight, std=0.1)
    noise, condition = torch.randn(2, 30, 2), torch.randn(2, 8)
    wanted = sampling.sample(network, condition, 30, x0=noise, steps=100, guidance=2.0).x
    found = sampling.sample(copy.deepcopy(network).bfloat16(), condition, 30, x0=noise, steps=100, guidance=2.0).x
    assert float((found - wanted).abs().mean()) < 0.02 * float((wanted - noise).abs().mean())
