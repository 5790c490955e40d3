"""Velocity, data, noise and score of one path say the same thing."""

import itertools

import pytest
import torch

from fm import paths
from fm.conversions import PREDICTIONS, convert, schedule

PATHS = {
    "linear": paths.linear(),
    "linear-noisy": paths.linear(0.3),
    "lipman": paths.lipman(0.1),
    "bridge": paths.bridge(0.5),
    "variance-preserving": paths.variance_preserving(),
}
MEAN, STD = 1.5, 0.7


def truths(path, t):
    """The four exact predictions at random x_t when the data are N(MEAN, STD²) and the source is N(0, 1)."""
    b, gamma, db, dgamma = (c[:, None] for c in schedule(path, t))
    x = torch.randn(len(t), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = (b * STD).square() + gamma.square()
    centred = x - b * MEAN
    data, noise = MEAN + b * STD**2 / spread * centred, gamma / spread * centred
    return x, {"data": data, "noise": noise, "velocity": db * data + dgamma * noise, "score": -centred / spread}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("given,wanted", itertools.permutations(PREDICTIONS, 2))
def test_conversions_agree_with_the_closed_form_of_a_gaussian(name, given, wanted):
    t = torch.tensor([0.05, 0.3, 0.5, 0.77, 0.95], dtype=torch.float64)
    x, truth = truths(PATHS[name], t)
    got = convert(truth[given], x, t, PATHS[name], given=given, wanted=wanted)
    assert torch.allclose(got, truth[wanted], rtol=1e-8, atol=1e-8)


def test_the_ends_where_one_does_not_determine_the_other_are_refused():
    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"t is 1\.0, where the data does not determine the velocity"):
        convert(x, x, torch.tensor([0.5, 1.0]), paths.linear(), given="data", wanted="velocity")
    with pytest.raises(ValueError, match=r"t is 0\.0, where the score does not determine the data"):
        convert(x, x, torch.tensor([0.0, 0.5]), paths.linear(), given="score", wanted="data")
    assert torch.isfinite(
        convert(x, x, torch.tensor([0.0, 1.0]), paths.linear(), given="velocity", wanted="data")
    ).all()


def test_bad_calls_say_what_is_allowed():
    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match="wanted is 'speed', but must be one of data, noise, score, velocity"):
        convert(x, x, torch.rand(2), paths.linear(), given="data", wanted="speed")
