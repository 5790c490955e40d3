"""On CUDA a step is replayed as a graph; it learns what steps that are launched learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fm import networks, training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

FILM = {"name": "film", "dim": 2, "condition_dim": 4, "width": 32, "blocks": 2, "embedding": 32}
CONFIG = training.TrainConfig(steps=40, hidden_learning_rate=1e-2, warmup=5, ema=0.9, precision="no")


def rings(generator):
    angle = torch.rand(16, 32, generator=generator) * 6.3
    return torch.stack([angle.cos(), angle.sin()], dim=-1), torch.randn(16, 4, generator=generator)


def trained(monkeypatch, replayable, config=CONFIG, draw=rings, **options):
    monkeypatch.setattr(networks.Film, "replayable", replayable)
    return training.train(networks.build(FILM), draw, config, **options)


def close(one, other):
    torch.testing.assert_close(one.losses, other.losses, rtol=1e-2, atol=1e-3)
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-3)


def test_replayed_steps_learn_what_launched_ones_do(monkeypatch):
    close(trained(monkeypatch, True), trained(monkeypatch, False))


def test_batches_of_other_shapes_are_launched(monkeypatch):
    def uneven():
        calls = 0

        def draw(generator):
            nonlocal calls
            calls += 1
            clouds, conditions = rings(generator)
            return (clouds[:9], conditions[:9]) if calls % 5 == 0 else (clouds, conditions)

        return draw

    close(trained(monkeypatch, True, draw=uneven()), trained(monkeypatch, False, draw=uneven()))


def test_a_run_that_was_cut_goes_on(monkeypatch, tmp_path):
    def cut(progress):
        if progress.step == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(monkeypatch, True, checkpoint_dir=tmp_path, on_step=cut)
    again = trained(monkeypatch, True, checkpoint_dir=tmp_path)
    assert again.resumed_at == 17
    close(again, trained(monkeypatch, True))


def test_a_run_that_diverges_is_found_out_before_a_checkpoint_is_written(monkeypatch, tmp_path):
    config = replace(CONFIG, learning_rate=1e30, clip=float("inf"), checkpoint_every=20)
    with pytest.raises(training.NotFinite, match=r"step \d+: training stopped"):
        trained(monkeypatch, True, config, checkpoint_dir=tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()
