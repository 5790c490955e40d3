"""Set metrics: what they say of equal, collapsed and distant set_metrics."""

import pytest
import torch

from fm import metrics, set_metrics


def clouds(seed, count, centre=0.0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (
        centre
        + spread * torch.randn(count, 1, 2, generator=generator)
        + 0.1 * torch.randn(count, 32, 2, generator=generator)
    )


def scores(generated, reference):
    tables = [metrics.pairwise_sliced_w2(a, b) for a, b in
              ((generated, generated), (generated, reference), (reference, reference))]  # fmt: skip
    return (
        set_metrics.nearest_neighbour_accuracy(*tables),
        set_metrics.coverage(tables[1]),
        set_metrics.minimum_matching_distance(tables[1]),
    )


def test_like_sets_score_near_a_half_and_distant_ones_near_one():
    same = scores(clouds(0, 100), clouds(1, 100))
    far = scores(clouds(0, 100, centre=9.0), clouds(1, 100))
    assert same[0] == pytest.approx(0.5, abs=0.12) and far[0] == 1.0
    assert far[1] < 0.2 < same[1] and far[2] > 5 > same[2]


def test_a_collapsed_set_covers_little_and_is_found_out():
    collapsed = scores(clouds(0, 100, spread=0.01), clouds(1, 100))
    assert collapsed[0] > 0.6 and collapsed[1] < 0.2


def test_tables_by_hand():
    table = torch.tensor([[1.0, 5, 9], [2, 4, 8]])
    assert set_metrics.minimum_matching_distance(table) == pytest.approx((1 + 4 + 8) / 3)
    assert set_metrics.coverage(table) == pytest.approx(1 / 3)


def test_bad_tables_are_refused():
    with pytest.raises(ValueError, match=r"shape of generated is \(2, 3\), but must be square"):
        set_metrics.nearest_neighbour_accuracy(torch.zeros(2, 3), torch.zeros(2, 2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="generated_to_reference is"):
        set_metrics.coverage(torch.zeros(0, 3))
