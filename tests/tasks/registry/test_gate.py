"""The gate: what is better is promoted, what is equal, worse, lucky or hardly tested is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.registry.gate import BETTER, Scores, decide
from tasks.settings import Promote, Tolerance

RULES = Promote(
    metric="chamfer",
    margin=0.02,
    tolerance=Tolerance(energy=0.01, chamfer=0.01, sliced_w2=0.01, retrieval=0.05),
    confidence=0.95,
    min_clips=8,
    frames=64,
    draws=2,
)
CLIPS = tuple(f"clip{i // 3}.mp4" for i in range(36))  # 12 clips of 3 frames
FLOOR = {"energy": 0.03, "chamfer": 0.06, "sliced_w2": 0.08, "retrieval": 1.0}
MIDDLING = {"energy": 0.08, "chamfer": 0.12, "sliced_w2": 0.11, "retrieval": 0.5}


def scores(values=MIDDLING, clips=CLIPS, **changes) -> Scores:
    return Scores(clips, {metric: np.full(len(clips), (values | changes)[metric]) for metric in BETTER})


def noisy(rng: np.random.Generator, clips=CLIPS, shift: float = 0.0, spread: float = 0.01) -> Scores:
    """Middling scores whose Chamfer distance varies from clip to clip, and its frames with it."""
    names, clip_of_frame = np.unique(clips, return_inverse=True)
    values = dict(scores(clips=clips).values)
    return Scores(clips, values | {"chamfer": 0.12 + shift + rng.normal(0, spread, len(names))[clip_of_frame]})


def rules(**changes) -> Promote:
    return RULES.model_copy(update=changes)


@pytest.mark.parametrize("metric", BETTER)
def test_what_is_clearly_better_is_promoted(metric):
    better = (MIDDLING[metric] + FLOOR[metric]) / 2
    decision = decide(scores(), scores(**{metric: better}), scores(FLOOR), rules(metric=metric))
    assert decision.promote
    assert not any(reason.startswith("not ") for reason in decision.reasons)


def test_a_gain_below_the_margin_is_not_enough_though_it_is_certain():
    almost, enough = (0.12 - share * (0.12 - 0.06) for share in (0.019, 0.021))
    assert not decide(scores(), scores(chamfer=almost), scores(FLOOR), RULES).promote
    assert decide(scores(), scores(chamfer=enough), scores(FLOOR), RULES).promote


def test_the_margin_is_a_share_of_what_is_left_to_the_floor():
    near = scores(chamfer=0.061)
    assert decide(near, scores(chamfer=0.0608), scores(FLOOR), RULES).promote
    assert not decide(scores(), scores(chamfer=0.1198), scores(FLOOR), RULES).promote


@pytest.mark.parametrize("metric, loss", [("sliced_w2", 0.02), ("retrieval", -0.1)])
def test_a_loss_beyond_tolerance_on_another_metric_is_named(metric, loss):
    challenger = scores(chamfer=0.08, **{metric: MIDDLING[metric] + loss})
    decision = decide(scores(), challenger, scores(FLOOR), RULES)
    assert not decision.promote
    assert [reason for reason in decision.reasons if reason.startswith("not ")] == [
        f"not within tolerance by {metric}: {MIDDLING[metric]:.4f} → {MIDDLING[metric] + loss:.4f}, "
        f"tolerance {getattr(RULES.tolerance, metric):g}"
    ]
    bearable = scores(chamfer=0.08, **{metric: MIDDLING[metric] + loss / 2.5})
    assert decide(scores(), bearable, scores(FLOOR), RULES).promote


def test_one_lucky_clip_is_luck_however_many_frames_it_has():
    clips = (*CLIPS, *["long.mp4"] * 500)
    champion, lucky = scores(clips=clips), scores(clips=clips)
    lucky.values["chamfer"][len(CLIPS) :] = 0.06
    decision = decide(champion, lucky, scores(FLOOR, clips), RULES)
    assert not decision.promote
    assert any(reason.startswith("not more than luck") for reason in decision.reasons)


@pytest.mark.parametrize("clips", [6, 8, 20])
def test_equal_models_that_were_lucky_are_seldom_promoted(clips):
    """A two-sided 95 % interval lies above zero by luck in 2.5 % of all cases, and with few clips in hardly more."""
    rng, names = np.random.default_rng(0), tuple(f"{i}.mp4" for i in range(clips))
    milder = rules(margin=0.0, min_clips=2)
    decisions = [decide(noisy(rng, names), noisy(rng, names), scores(FLOOR, names), milder) for _ in range(400)]
    assert np.mean([decision.promote for decision in decisions]) < 0.045


def test_a_true_gain_is_found_in_the_noise():
    rng = np.random.default_rng(0)
    promoted = [decide(noisy(rng), noisy(rng, shift=-0.02), scores(FLOOR), RULES).promote for _ in range(100)]
    assert np.mean(promoted) > 0.9


def test_what_is_not_a_number_is_never_promoted():
    for metric in BETTER:
        broken = scores(chamfer=0.08)
        broken.values[metric][0] = np.nan
        assert not decide(scores(), broken, scores(FLOOR), RULES).promote


def test_scores_of_different_frames_cannot_be_compared():
    with pytest.raises(ValueError, match="same frames"):
        decide(scores(), scores(clips=CLIPS[1:]), scores(FLOOR), RULES)


def test_what_was_asked_and_not_met_is_said_without_claiming_it():
    worse = decide(scores(), scores(chamfer=0.14), scores(FLOOR), rules(min_clips=20))
    assert [reason for reason in worse.reasons if reason.startswith("not ")] == [
        "not enough held-out clips: 12, asked: 20 or more",
        "not better by the margin: chamfer 0.1200 → 0.1400, a gain of -0.02, asked: 0.0012 or more "
        "(2% of the 0.0600 to the floor)",
        "not more than luck: the gain's 95% interval is -0.02 to -0.02, asked: above 0",
    ]
    equal = decide(scores(FLOOR), scores(FLOOR), scores(FLOOR), RULES)
    assert "a gain of 0, asked: above 0 (2% of the 0.0000 to the floor)" in equal.reasons[1]


values = st.floats(0, 1, allow_nan=False, width=32)
any_clips = st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=40).map(tuple)
any_rules = st.builds(rules, metric=st.sampled_from(list(BETTER)), margin=st.floats(0, 0.5))


@st.composite
def contests(draw, contenders: int):
    """Any scores of as many contenders on the same frames, and of the floor."""
    clips = draw(any_clips)
    return [
        Scores(clips, {metric: draw(arrays(float, len(clips), elements=values)) for metric in BETTER})
        for _ in range(contenders + 1)
    ]


@given(contests(1), any_rules)
def test_a_model_is_never_promoted_over_itself(contest, rules):
    model, floor = contest
    assert not decide(model, model, floor, rules).promote


@given(contests(2), any_rules)
def test_two_models_never_beat_each_other(contest, rules):
    one, other, floor = contest
    assert not (decide(one, other, floor, rules).promote and decide(other, one, floor, rules).promote)


@given(contests(2), any_rules, st.sampled_from(list(BETTER)))
def test_a_model_that_is_worse_on_every_clip_is_never_promoted(contest, rules, metric):
    champion, challenger, floor = contest
    rules = rules.model_copy(update={"metric": metric})
    worse = champion.values[metric] - BETTER[metric] * np.abs(challenger.values[metric])
    assert not decide(champion, Scores(champion.clips, challenger.values | {metric: worse}), floor, rules).promote


@given(contests(2), any_rules, st.integers(2, 20))
def test_too_few_clips_never_promote(contest, rules, least):
    champion, challenger, floor = contest
    decision = decide(champion, challenger, floor, rules.model_copy(update={"min_clips": least}))
    assert not (decision.promote and len(set(champion.clips)) < least)


@given(contests(2), st.randoms(use_true_random=False))
def test_the_order_of_the_frames_does_not_matter(contest, random):
    order = list(range(len(contest[0].clips)))
    random.shuffle(order)
    shuffled = [
        Scores(tuple(s.clips[i] for i in order), {metric: v[order] for metric, v in s.values.items()}) for s in contest
    ]
    for one, other in zip(contest, shuffled, strict=True):
        for metric in BETTER:
            np.testing.assert_allclose(one.by_clip(metric), other.by_clip(metric), atol=1e-12)
