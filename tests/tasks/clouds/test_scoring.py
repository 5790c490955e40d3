"""Scores whose right value is known: of the truth itself, and of what takes another's place."""

import pytest
import torch

from tasks.clouds import scoring


def clouds(n=6, points=200):
    """Rings of different sizes: two samples of each."""
    angle = torch.rand(2, n, points, generator=torch.Generator().manual_seed(0)) * 6.283
    ring = torch.stack([angle.cos(), angle.sin()], dim=-1)
    return ring * torch.linspace(0.5, 3, n).reshape(-1, 1, 1)


def test_the_truth_itself_is_at_distance_zero_and_finds_itself():
    truth, again = clouds()
    scores = scoring.distances({"truth": truth, "again": again}, truth)
    assert all(values["truth"] == 0 < values["again"] for values in scores.values())
    found = scoring.retrievals({"again": again}, truth, list("abcdef"), list("abcdef"))
    assert all(values["again"] == 1 for values in found.values())


def test_a_frame_with_the_same_text_or_of_the_same_clip_counts_as_found():
    truth, again = clouds()
    swapped = {"swapped": again[[1, 0, 3, 2, 5, 4]]}
    found = scoring.retrievals(swapped, truth, summaries=list("aabbcd"), clips=list("xxyyzz"))
    shares = {kind: (values["swapped"], values["chance"]) for kind, values in found.items()}
    assert shares == {
        "retrieval_frame": (0, pytest.approx(1 / 6, abs=1e-3)),
        "retrieval_summary": (pytest.approx(4 / 6, abs=1e-3), pytest.approx(10 / 36, abs=1e-3)),
        "retrieval_clip": (1, pytest.approx(2 / 6, abs=1e-3)),
    }
