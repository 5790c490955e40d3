"""The training loop: it learns, it goes on to the same bytes, it stops on NaN and says where."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from fm import couplings, networks, paths, sampling, times, training

CENTRES = torch.tensor([[1.5, 0.0], [-1.5, 0.0], [0.0, 1.5], [0.0, -1.5]])
SMALL = {"name": "film", "condition_dim": 4, "width": 32, "blocks": 1, "frequencies": 8, "bandwidth": 1.0}
CONFIG = training.TrainConfig(steps=12, warmup=3, checkpoint_every=4, times_per_cloud=2)


def discs(generator):
    """Four kinds of cloud, each a small disc at its own centre."""
    kind = torch.randint(4, (8,), generator=generator)
    return CENTRES[kind].unsqueeze(1) + 0.1 * torch.randn(8, 32, 2, generator=generator), torch.eye(4)[kind]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_where_each_condition_lies():
    result = training.train(networks.build(SMALL), discs, replace(CONFIG, steps=300, learning_rate=5e-3))
    assert float(result.losses[-20:].mean()) < 0.3 * float(result.losses[:5].mean())
    clouds = sampling.sample(result.network, torch.eye(4), 200, steps=8, generator=torch.Generator().manual_seed(0)).x
    assert torch.allclose(clouds.mean(1), CENTRES, atol=0.15)


@pytest.mark.parametrize("name", ["film", "set-film", "baseline"])
def test_muon_trains_the_hidden_matrices_and_no_others(name):
    network = networks.build({"name": name})
    adam, muon = training.optimizers_of(network, replace(CONFIG, hidden_learning_rate=0.01))
    grouped = [p for optimizer in (adam, muon) for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(network.parameters()))
    hidden = muon.param_groups[0]["params"]
    assert hidden and all(p.ndim == 2 and p.shape[0] > network.dim for p in hidden)
    assert len(training.optimizers_of(network, CONFIG)) == 1


class Killed(Exception):
    pass


@pytest.mark.parametrize("hidden_learning_rate", [None, 0.01])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, hidden_learning_rate):
    config = replace(CONFIG, hidden_learning_rate=hidden_learning_rate)
    whole = training.train(networks.build(SMALL), discs, config, checkpoint_dir=tmp_path / "whole")

    batches = iter(range(7))

    def cut_short(generator):
        if next(batches, None) is None:
            raise Killed
        return discs(generator)

    with pytest.raises(Killed):
        training.train(networks.build(SMALL), cut_short, config, checkpoint_dir=tmp_path / "killed")
    resumed = training.train(networks.build({**SMALL, "seed": 9}), discs, config, checkpoint_dir=tmp_path / "killed")
    assert resumed.resumed_at == 4
    assert same(whole.network, resumed.network) and torch.equal(whole.losses, resumed.losses)
    assert [p.name for p in (tmp_path / "killed").iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Killed])
@pytest.mark.parametrize("last", [1, 7, 8, 12])
def test_a_run_that_on_step_ends_has_lost_no_step(tmp_path, last, interruption):
    whole = training.train(networks.build(SMALL), discs, CONFIG, checkpoint_dir=tmp_path / "whole")

    def interrupt(progress):
        if progress.step == last:
            raise interruption

    with pytest.raises(interruption):
        training.train(networks.build(SMALL), discs, CONFIG, checkpoint_dir=tmp_path / "cut", on_step=interrupt)
    resumed = training.train(networks.build(SMALL), discs, CONFIG, checkpoint_dir=tmp_path / "cut")
    assert resumed.resumed_at == last
    assert same(whole.network, resumed.network) and torch.equal(whole.losses, resumed.losses)


def test_a_finished_run_is_not_run_again(tmp_path):
    first = training.train(networks.build(SMALL), discs, CONFIG, checkpoint_dir=tmp_path)
    steps = []
    again = training.train(networks.build(SMALL), discs, CONFIG, checkpoint_dir=tmp_path, on_step=steps.append)
    assert same(first.network, again.network) and steps == [] and again.resumed_at == 12


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    training.train(networks.build(SMALL), discs, CONFIG, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"learning_rate: 0\.002 then, 0\.001 now"):
        training.train(networks.build(SMALL), discs, replace(CONFIG, learning_rate=1e-3), checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="network of other sizes"):
        training.train(networks.build({**SMALL, "width": 16}), discs, CONFIG, checkpoint_dir=tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="is no checkpoint"):
        training.train(networks.build(SMALL), discs, CONFIG, checkpoint_dir=tmp_path)


class Noise:
    def __init__(self, scale):
        self.scale, self.calls = scale, 0

    def __call__(self, x1, generator):
        self.calls += 1
        return self.scale * torch.randn(x1.shape, generator=generator)


def made(scale):
    return lambda x1, generator: scale * torch.randn(x1.shape, generator=generator)


def network_as_source(seed):
    torch.manual_seed(seed)
    layer = torch.nn.Linear(2, 2)
    return lambda x1, generator: layer(torch.randn(x1.shape, generator=generator)).detach()


def looped():
    """A function whose closure holds itself."""

    def source(x1, generator, again=True):
        return source(x1, generator, False) if again else torch.randn(x1.shape, generator=generator)

    return source


@pytest.mark.parametrize(
    "field, make, other",
    [
        ("path", lambda: paths.lipman(0.01), lambda: paths.lipman(0.5)),
        ("path", lambda: paths.bridge(0.1), lambda: paths.linear(0.1)),
        ("source", lambda: Noise(1.0), lambda: Noise(2.0)),
        ("source", lambda: Noise(1.0).__call__, lambda: Noise(2.0).__call__),
        ("source", lambda: made(1.0), lambda: made(2.0)),
        ("source", lambda: made(torch.ones(1)), lambda: made(torch.zeros(1))),
        ("source", lambda: network_as_source(0), lambda: network_as_source(1)),
        ("source", looped, lambda: training.gaussian),
        ("source", lambda: lambda x1, g: torch.rand(x1.shape, generator=g), lambda: lambda x1, g: 0 * x1),
        ("times", lambda: lambda n, g: torch.rand(n, generator=g) / 2, lambda: lambda n, g: torch.zeros(n)),
        ("times", lambda: lambda n, g: torch.full((n,), 0.2), lambda: lambda n, g: torch.full((n,), 0.3)),
        ("times", lambda: partial(times.logit_normal, mean=0.1), lambda: partial(times.logit_normal, mean=0.2)),
    ],
)  # fmt: skip
def test_a_checkpoint_knows_its_settings_and_no_others(tmp_path, field, make, other):
    config = replace(CONFIG, steps=2, coupling=couplings.independent)
    training.train(networks.build(SMALL), discs, replace(config, **{field: make()}), checkpoint_dir=tmp_path)
    again = training.train(networks.build(SMALL), discs, replace(config, **{field: make()}), checkpoint_dir=tmp_path)
    assert again.resumed_at == 2
    with pytest.raises(ValueError, match=f"belongs to a run with other settings .{field}: "):
        training.train(networks.build(SMALL), discs, replace(config, **{field: other()}), checkpoint_dir=tmp_path)


def test_a_setting_is_described_alike_in_every_process():
    code = (
        "from tests.fm.test_training import Noise, made; from fm import training, _resume;"
        "source = lambda x1, g: x1 if g in {'a', 'b', 'c'} else made(2.0)(x1, g);"
        "print([_resume.describe(training.TrainConfig(steps=1, source=s)) for s in (Noise(1.0), made(1.0), source)])"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                       env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in "12"
    ]  # fmt: skip
    assert said[0] == said[1] and "fm.couplings.exact_ot" in said[0]


def test_the_seed_decides_the_run():
    one, two, other = (training.train(networks.build(SMALL), discs, replace(CONFIG, seed=s)) for s in (0, 0, 1))
    assert same(one.network, two.network) and not same(one.network, other.network)


@pytest.mark.parametrize(
    "choice",
    [
        {"coupling": couplings.independent, "times": times.uniform, "times_per_cloud": 1},
        {"path": paths.lipman(0.01), "times": times.logit_normal, "times_per_cloud": 64},
        {"path": paths.bridge(0.2), "schedule": "constant", "ema": 0.0, "condition_dropout": 0.0},
    ],
)
def test_choices_are_independent(choice):
    assert torch.isfinite(training.train(networks.build(SMALL), discs, replace(CONFIG, **choice)).losses).all()


def test_trainings_of_different_precision_share_a_process_and_leave_others_theirs():
    outside = Accelerator()
    before = outside.mixed_precision
    network = networks.build(SMALL)
    seen = []
    network.head.register_forward_hook(lambda module, given, said: seen.append(said.dtype))
    for precision in ("no", "bf16", "no"):
        training.train(network, discs, replace(CONFIG, steps=2, precision=precision))
        assert outside.mixed_precision == before
    assert seen == [torch.float32] * 2 + [torch.bfloat16] * 2 + [torch.float32] * 2


def test_progress_tells_the_step_and_the_schedule():
    seen = []
    training.train(networks.build(SMALL), discs, CONFIG, on_step=seen.append)
    rates = [p.learning_rate for p in seen]
    assert [p.step for p in seen] == list(range(1, 13)) and max(rates) == rates[3] == CONFIG.learning_rate
    assert rates[-1] < 0.1 * CONFIG.learning_rate and all(p.steps == 12 for p in seen)


def test_without_ema_the_result_is_the_network_itself():
    network = networks.build(SMALL)
    assert same(training.train(network, discs, replace(CONFIG, ema=0.0)).network, network)


def test_the_result_has_the_trained_buffers_and_what_was_frozen_stays_frozen(tmp_path):
    class Normalized(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.out = torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2)

        def forward(self, x, t, condition=None, keep=None):
            return self.out(self.norm(x.flatten(0, 1)).view_as(x))

    def far(generator):
        return (3 * torch.randn(8, 32, 2, generator=generator) + 5,)

    network = Normalized()
    network.out.bias.requires_grad_(False)
    result = training.train(network, far, CONFIG, checkpoint_dir=tmp_path).network
    assert all(torch.equal(a, b) for a, b in zip(result.buffers(), network.buffers(), strict=True))
    assert float(result.norm.running_mean.min()) > 1
    assert [p.requires_grad for p in result.parameters()] == [True, True, True, False]
    again = training.train(Normalized(), far, CONFIG, checkpoint_dir=tmp_path).network
    assert all(torch.equal(a, b) for a, b in zip(result.buffers(), again.buffers(), strict=True))


def test_nan_data_stops_the_run_naming_step_and_place():
    calls = []

    def spoilt(generator):
        clouds, condition = discs(generator)
        calls.append(1)
        if len(calls) == 3:
            clouds[5, 0, 0] = float("nan")
        return clouds, condition

    with pytest.raises(training.NotFinite, match=r"step 2: the data .* at batch positions \[5\]"):
        training.train(networks.build(SMALL), spoilt, CONFIG)


def test_a_diverging_run_stops_naming_step_and_place():
    class Exploding(torch.nn.Module):
        dim, calls = 2, 0

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x, t, condition=None, keep=None):
            self.calls += 1
            return x * self.scale if self.calls < 5 else x * self.scale * float("inf")

    with pytest.raises(training.NotFinite, match=r"step 4: .*not finite at batch positions \[0, 1, "):
        training.train(Exploding(), discs, CONFIG)


def test_data_of_any_type_is_cast_to_the_networks():
    def as_type(dtype, *parts):
        def draw(generator):
            drawn = [(4 * v).round() / 4 for v in discs(generator)]
            return [(v * 4 if not dtype.is_floating_point else v).to(dtype) if v is not None else v for v in drawn]

        return draw

    config = replace(CONFIG, steps=3, coupling=couplings.independent)
    single, double = (training.train(networks.build(SMALL), as_type(d), config) for d in (torch.float32, torch.float64))
    assert torch.allclose(single.losses, double.losses, rtol=0.5) and torch.isfinite(double.losses).all()
    assert torch.isfinite(training.train(networks.build(SMALL), as_type(torch.int64), CONFIG).losses).all()
    whole = training.train(networks.build(SMALL).double(), discs, config)
    assert next(whole.network.parameters()).dtype == torch.float64
    assert torch.allclose(whole.losses, training.train(networks.build(SMALL), discs, config).losses, rtol=1e-4)
    alone = training.train(networks.build(SMALL), lambda generator: discs(generator)[0], config)
    assert torch.equal(alone.losses, training.train(networks.build(SMALL), lambda g: (discs(g)[0],), config).losses)


def test_muon_wants_to_be_told_the_hidden_matrices():
    class Own(torch.nn.Linear):
        def forward(self, x, t, condition=None, keep=None):
            return super().forward(x)

    with pytest.raises(ValueError, match=r"hidden_learning_rate is 0.01, but must be None for Own, which has no hid"):
        training.train(Own(2, 2), discs, replace(CONFIG, hidden_learning_rate=0.01))
    assert torch.isfinite(training.train(Own(2, 2), discs, replace(CONFIG, steps=2)).losses).all()


def test_bad_settings_say_what_is_allowed():
    for field, value in {"steps": 0, "learning_rate": 0.0, "ema": 1.0, "condition_dropout": -0.1, "clip": 0}.items():
        with pytest.raises(ValueError, match=f"{field} is"):
            replace(CONFIG, **{field: value})
    with pytest.raises(ValueError, match="schedule is 'linear', but must be one of constant, cosine"):
        replace(CONFIG, schedule="linear")
    with pytest.raises(ValueError, match="times_per_cloud is 5, but must be a divisor of the 32 points"):
        training.train(networks.build(SMALL), discs, replace(CONFIG, times_per_cloud=5))


def launched(folder, *words):
    """The outcome of two processes that run two_processes.py."""
    script = str(Path(__file__).with_name("two_processes.py"))
    processes = ["--multi_gpu", "--num_processes=2", "--main_process_port=0"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", *processes, script, str(folder), *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(launch, capture_output=True, text=True, env=env)


def written(folder, done):
    """What both processes wrote."""
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((folder / process).read_text()) for process in "01")
    assert first == second
    return first


def test_two_launched_processes_agree_and_go_on_to_the_same_bytes_after_sigkill(tmp_path):
    killed = launched(tmp_path, "kill")
    assert killed.returncode != 0 and "Signal 9 (SIGKILL)" in killed.stderr
    first = written(tmp_path, launched(tmp_path))
    assert [first["whole"][0], first["cut"][0]] == [6, 3]
    assert first["cut"][1] == first["whole"][1]


def test_two_launched_processes_train_networks_whose_batches_leave_weights_out(tmp_path):
    assert len(written(tmp_path, launched(tmp_path, "left_out"))) == 3


@pytest.mark.parametrize("dim", [3, 5])
def test_clouds_of_any_dimension_are_learned(dim):
    middles = torch.stack([torch.ones(dim), -torch.ones(dim)])

    def draw_batch(generator):
        label = torch.randint(2, (8,), generator=generator)
        return middles[label, None] + 0.1 * torch.randn(8, 32, dim, generator=generator), torch.eye(2)[label]

    sizes = {"name": "film", "dim": dim, "condition_dim": 2, "width": 32, "blocks": 2, "bandwidth": 1.0}
    config = training.TrainConfig(steps=150, learning_rate=5e-3, warmup=5, ema=0.9)
    network = training.train(networks.build(sizes), draw_batch, config).network
    drawn = sampling.sample(network, torch.eye(2), 100, steps=8, generator=torch.Generator().manual_seed(0)).x
    assert drawn.shape == (2, 100, dim)
    assert (drawn.mean(1) - middles).abs().max() < 0.2 and drawn.std(1).max() < 0.5
