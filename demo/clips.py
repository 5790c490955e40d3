"""Makes the demo clips: `python -m demo.clips` writes demo/clips and demo/truth.json, the same bytes every time.

A clip is one character who goes through three states, each an orientation and an expression: a state is held, drifting
all the while, then the head turns or the expression changes to the next. `truth.json` says for every frame what the
script had the face do; the pipeline never reads it, it only scores what the pipeline's models said.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import av
import numpy as np
from PIL import Image
from tqdm import tqdm

from demo.faces.characters import CAST, EXPRESSIONS, ORIENTATIONS, Character, Pose
from demo.faces.render import draw

HERE = Path(__file__).parent
SIDE, FPS, CRF = 256, 24, 29
STATES, HOLD, MOVE = 3, 7, 4  # of a clip; frames for which a state is held, and of the way to the next

Pair = tuple[str, str]
"""orientation and expression"""

NEVER: tuple[Pair, ...] = (("left", "surprised"), ("right", "angry"), ("up", "winking"))
"""Combinations that no frame shows, not even on the way, though each half of them is shown often: what a model draws
of them it cannot have seen."""

PAIRS = tuple(pair for pair in product(ORIENTATIONS, EXPRESSIONS) if pair not in NEVER)
PORTRAITS: tuple[Pair, ...] = (
    ("front", "smiling"),
    ("left", "neutral"),
    ("right", "laughing"),
    ("front", "surprised"),
    ("up", "smiling"),
    ("front", "winking"),
)


@dataclass(frozen=True)
class Clip:
    name: str
    character: Character
    poses: tuple[Pose, ...]


def _state(pair: Pair, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """First and last pose of a state: both show the pair clearly, the head turned less in one and farther in the other.

    The axis that does not matter swings from one side of the middle to the other, for a front view both do.
    """
    orientation, expression = pair
    turns = rng.permutation((rng.uniform(0.57, 0.7), rng.uniform(0.87, 1.0)))
    aside = rng.uniform(0.07, 0.14, (2, 2)) * rng.permutation((-1, 1))[:, None] * rng.choice((-1, 1), 2)
    poses = []
    for turn, (yaw, pitch), intensity in zip(turns, aside, rng.uniform(0.78, 1.0, 2), strict=True):
        if orientation in ("left", "right"):
            yaw = -turn if orientation == "left" else turn
        elif orientation in ("up", "down"):
            pitch = -turn if orientation == "down" else turn
        poses.append(Pose(float(yaw), float(pitch), expression, float(intensity)))
    return poses[0], poses[1]


def _between(a: Pose, b: Pose, share: float) -> Pose:
    """The pose on the way from a to b; one expression fades before another grows."""
    yaw, pitch = a.yaw + share * (b.yaw - a.yaw), a.pitch + share * (b.pitch - a.pitch)
    if a.expression == b.expression:
        expression, intensity = a.expression, a.intensity + share * (b.intensity - a.intensity)
    elif a.expression == "neutral":
        expression, intensity = b.expression, share * b.intensity
    elif b.expression == "neutral":
        expression, intensity = a.expression, (1 - share) * a.intensity
    elif share < 0.5:
        expression, intensity = a.expression, (1 - 2 * share) * a.intensity
    else:
        expression, intensity = b.expression, (2 * share - 1) * b.intensity
    return Pose(yaw, pitch, expression, intensity)


def _way(a: Pose, b: Pose) -> list[Pose]:
    """The poses between two states."""
    shares = np.arange(1, MOVE + 1) / (MOVE + 1)
    return [_between(a, b, float(share**2 * (3 - 2 * share))) for share in shares]


def _states(shown: Counter[Pair], rng: np.random.Generator) -> list[tuple[Pose, Pose]]:
    """The states of a clip, each the rarest that can be reached; `shown` counts them over the clips."""
    states: list[tuple[Pose, Pose]] = []
    left = list(PAIRS)
    while len(states) < STATES:
        for pair in sorted(left, key=lambda pair: (shown[pair], rng.random())):
            state = _state(pair, rng)
            if not states or not any(_pair(pose) in NEVER for pose in _way(states[-1][1], state[0])):
                states.append(state)
                left.remove(pair)
                shown[pair] += 1
                break
    return states


def _pair(pose: Pose) -> Pair:
    return pose.orientation, pose.expression_name


def _played(states: list[tuple[Pose, Pose]]) -> Iterator[Pose]:
    """Every pose of a clip."""
    for number, (first, last) in enumerate(states):
        if number:
            yield from _way(states[number - 1][1], first)
        yield from (_between(first, last, frame / (HOLD - 1)) for frame in range(HOLD))


def script() -> Iterator[Clip]:
    """All clips and stills, in order; a still is a clip of one pose."""
    shown: Counter[Pair] = Counter()
    for number, actor in enumerate(CAST):
        states = _states(shown, np.random.default_rng([20, number]))
        yield Clip(f"{actor.name}.mp4", actor, tuple(_played(states)))
    for number, pair in enumerate(PORTRAITS):
        actor = CAST[17 * number + 11]
        pose, _ = _state(pair, np.random.default_rng([21, number]))
        yield Clip(f"{actor.name}-portrait.png", actor, (pose,))


def truth() -> dict[str, dict[str, object]]:
    """What every frame shows, by frame id ("ada.mp4/000042")."""
    return {
        f"{clip.name}/{index:06d}": {
            "character": clip.character.name,
            "orientation": pose.orientation,
            "orientation_clear": pose.orientation_clear,
            "expression": pose.expression_name,
            "expression_clear": pose.expression_clear,
            "degree": pose.degree,
            "yaw": round(pose.yaw, 3),
            "pitch": round(pose.pitch, 3),
            "intensity": round(pose.intensity, 3),
        }
        for clip in script()
        for index, pose in enumerate(clip.poses)
    }


def write_clip(clip: Clip, folder: Path) -> Path:
    """Renders one clip as h264 in mp4, or one still as PNG; one encoder thread, so that the bytes repeat."""
    path = folder / clip.name
    pictures: Iterator[Image.Image] = (draw(clip.character, pose, SIDE) for pose in clip.poses)
    if path.suffix == ".png":
        next(pictures).save(path, optimize=True)
        return path
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        options = {"crf": str(CRF), "preset": "slow", "tune": "animation", "threads": "1"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def main() -> None:
    folder = HERE / "clips"
    folder.mkdir(exist_ok=True)
    clips = list(script())
    for stale in {path.name for path in folder.iterdir()} - {clip.name for clip in clips}:
        (folder / stale).unlink()
    for clip in tqdm(clips, desc="clips", unit="clip"):
        write_clip(clip, folder)
    lines = (f"{json.dumps(frame)}: {json.dumps(facts)}" for frame, facts in truth().items())
    (HERE / "truth.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
