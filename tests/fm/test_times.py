"""Times: their laws, and that the generator decides them."""

import pytest
import torch

from fm import couplings, paths, times, training


@pytest.mark.parametrize("name", times.TIMES)
@pytest.mark.parametrize("n", [1, 2, 64, 1000])
def test_times_lie_in_the_unit_interval_and_repeat(name, n):
    first, second = (times.TIMES[name](n, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (n,) and bool(((first >= 0) & (first < 1)).all())
    assert torch.equal(first, second)


def test_stratified_puts_one_time_in_each_interval():
    t = times.stratified(32, torch.Generator().manual_seed(0))
    assert sorted((t * 32).long().tolist()) == list(range(32))
    assert t.tolist() != sorted(t.tolist())


def test_logit_normal_has_the_law_it_names():
    t = times.logit_normal(20000, torch.Generator().manual_seed(0), mean=0.5, std=0.8)
    z = torch.logit(t)
    assert float(z.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(z.std()) == pytest.approx(0.8, abs=0.01)


def test_bad_calls_say_what_is_allowed():
    with pytest.raises(ValueError, match="n is 0"):
        times.uniform(0)
    with pytest.raises(ValueError, match="std is 0"):
        times.logit_normal(4, std=0)
    with pytest.raises(ValueError, match="scale is 3"):
        times.mode_heavy(4, scale=3)
    with pytest.raises(ValueError, match="factor is 0"):
        times.shift(torch.rand(3), 0)


def test_mode_heavy_puts_its_weight_in_the_middle_and_is_uniform_at_zero():
    def middle(scale):
        t = times.mode_heavy(4000, torch.Generator().manual_seed(0), scale=scale)
        return float(((t > 0.25) & (t < 0.75)).float().mean())

    assert middle(0.0) == pytest.approx(0.5, abs=0.01)
    assert middle(-0.8) < middle(0.0) < middle(1.29)


def test_shift_keeps_the_ends_is_undone_by_its_inverse_and_reaches_the_grid_once():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(times.shift(times.shift(t, 3.0), 1 / 3), t)
    assert torch.equal(times.grid(10, factor=3.0), times.shift(t, 3.0))
    assert times.grid(10, factor=3.0)[[0, -1]].tolist() == [0.0, 1.0]
    assert bool((times.grid(10, factor=3.0)[1:-1] < t[1:-1]).all())
    drawn = times.shifted(1000, torch.Generator().manual_seed(0), factor=3.0)
    assert torch.allclose(
        times.shift(drawn, 1 / 3), times.stratified(1000, torch.Generator().manual_seed(0)), atol=1e-5
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("at", ["cpu", "cuda"])
def test_one_generator_serves_data_on_any_device(at):
    generator = torch.Generator(at).manual_seed(0)
    for name in times.TIMES:
        assert times.TIMES[name](8, generator).device.type == at
    for device in ("cpu", "cuda"):
        x0, x1 = torch.zeros(8, 2, device=device), torch.rand(8, 2, device=device)
        drawn = [
            couplings.mixed(x0, x1, share=0.5, generator=generator),
            couplings.sinkhorn_ot(x0, x1, regularization=1.0, generator=generator),
            paths.bridge()(x0, x1, torch.full((8,), 0.5, device=device), generator=generator).x,
            training.gaussian(x1, generator),
        ]
        assert {x.device.type for x in drawn} == {device}
