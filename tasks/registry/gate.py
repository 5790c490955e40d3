"""The gate: may a challenger take the champion's place?

A pure decision over scores that both earned on the same held-out frames. What counts is a clip, not a frame: neighbours
in a clip are near-copies, and ten of them are one piece of evidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tasks.settings import Promote

BETTER = {"energy": -1, "chamfer": -1, "sliced_w2": -1, "retrieval": 1}
"""The metrics, and the sign of what is better."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Scores:
    """What one contender scored: the clip of each frame, and metric → a value for each frame [F]."""

    clips: tuple[str, ...]
    values: Mapping[str, np.ndarray]

    def by_clip(self, metric: str) -> np.ndarray:
        """The mean over the frames of each clip, in the order of the clips' names: [C]."""
        names, clip_of_frame, frames = np.unique(self.clips, return_inverse=True, return_counts=True)
        return np.bincount(clip_of_frame, self.values[metric], len(names)) / frames

    def mean(self, metric: str) -> float:
        """The mean over clips; a clip counts once, however long it is."""
        return float(self.by_clip(metric).mean())


@dataclass(frozen=True)
class Decision:
    promote: bool
    reasons: tuple[str, ...]
    """One line for each thing asked of the challenger, with its numbers; those not met begin with "not"."""


def decide(champion: Scores, challenger: Scores, floor: Scores, rules: Promote) -> Decision:
    """Promote only a challenger that is better by more than luck.

    Asked of it, all on the same frames: enough held-out clips; by `rules.metric`, a gain of `rules.margin` of the way
    that the champion still has to the floor (as good as two samples of the same frame); a confidence interval of that
    gain that lies above zero (paired bootstrap over clips, with a fixed seed); and on each other metric
    no loss beyond its tolerance.
    """
    if not champion.clips == challenger.clips == floor.clips:
        raise ValueError("champion, challenger and floor were not scored on the same frames")
    gains = {metric: gain(champion, challenger, metric) for metric in BETTER}
    clips, won = len(set(challenger.clips)), gains[rules.metric].mean()
    way = max(float(gain(champion, floor, rules.metric).mean()), 0.0)
    least = rules.margin * way
    low, high = interval(gains[rules.metric], rules.confidence)
    change = f"{rules.metric} {champion.mean(rules.metric):.4f} → {challenger.mean(rules.metric):.4f}"
    asked = [
        (clips >= rules.min_clips, f"enough held-out clips: {clips}, asked: {rules.min_clips} or more"),
        (
            won > 0 and won >= least,
            f"better by the margin: {change}, a gain of {won:.4g}, asked: "
            f"{f'{least:.4g} or more' if least else 'above 0'} ({rules.margin:.0%} of the {way:.4f} to the floor)",
        ),
        (
            low > 0,
            f"more than luck: the gain's {rules.confidence:.0%} interval is {low:.4g} to {high:.4g}, asked: above 0",
        ),
    ]
    for metric in BETTER:
        if metric != rules.metric:
            loss, tolerance = -gains[metric].mean(), getattr(rules.tolerance, metric)
            scores = f"{champion.mean(metric):.4f} → {challenger.mean(metric):.4f}"
            asked.append((loss <= tolerance, f"within tolerance by {metric}: {scores}, tolerance {tolerance:g}"))
    met = [bool(answer) for answer, _ in asked]
    return Decision(all(met), tuple(("" if ok else "not ") + text for ok, (_, text) in zip(met, asked, strict=True)))


def gain(before: Scores, after: Scores, metric: str) -> np.ndarray:
    """How much better `after` is than `before` on each clip: [C]."""
    return BETTER[metric] * (after.by_clip(metric) - before.by_clip(metric))


def interval(gains: np.ndarray, confidence: float) -> tuple[float, float]:
    """Bootstrap interval of the mean of `gains` [C], widened to hold what it says with few clips, too.

    The percentile interval is too narrow for small samples; the expanded one takes the percentiles at which a normal
    distribution is as wide as Student's (Hesterberg, arXiv 1411.5279).
    """
    clips, degrees = len(gains), max(len(gains) - 1, 1)
    tail = stats.norm.cdf(np.sqrt(clips / degrees) * stats.t.ppf((1 - confidence) / 2, degrees))
    chosen = np.random.default_rng(0).integers(clips, size=(RESAMPLES, clips))
    low, high = np.quantile(gains[chosen].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)
