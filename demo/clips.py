"""Makes the demo clips: `python -m demo.clips` writes demo/clips and demo/truth.json, the same bytes every time.

A clip is one movement of one character: a state is held, the head turns or the expression changes, the next state is
held. Every movement is played by a woman and a man of the cast. `truth.json` says for every frame what the script had
the face do; the pipeline never reads it, it only scores what the pipeline's models said.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image
from tqdm import tqdm

from demo.faces.characters import CAST, Character, Pose
from demo.faces.render import draw

HERE = Path(__file__).parent
SIDE, FPS, CRF = 256, 24, 23
HOLD, MOVE, STAY = 13, 11, 18  # frames: the first state, the way, the second state

MOVEMENTS = {
    "turns-left": "front neutral, left neutral",
    "turns-right": "front neutral, right neutral",
    "looks-up": "front neutral, up neutral",
    "looks-down": "front neutral, down neutral",
    "comes-back-smiling": "left neutral, front smiling",
    "comes-back-laughing": "right neutral, front laughing",
    "smiles": "front neutral, front smiling",
    "turns-left-smiling": "front smiling, left smiling",
    "turns-right-smiling": "front smiling, right smiling",
    "laughs-on-the-left": "left smiling, left laughing",
    "laughs-on-the-right": "right smiling, right laughing",
    "turns-left-laughing": "front laughing, left laughing",
    "turns-right-laughing": "front laughing, right laughing",
    "laughs-at-the-sky": "up smiling, up laughing",
    "smiles-downwards": "front smiling, down smiling",
    "winks": "front neutral, front winking",
    "turns-left-winking": "front winking, left winking",
    "winks-on-the-left": "left smiling, left winking",
    "winks-on-the-right": "right neutral, right winking",
    "winks-farther-right": "right winking, right winking",
    "grows-sad": "front neutral, front sad",
    "turns-left-sadly": "front sad, left sad",
    "hangs-the-head": "right sad, down sad",
    "gets-angry-on-the-left": "left sad, left angry",
    "calms-down-on-the-right": "right angry, right sad",
    "turns-left-angrily": "front angry, left angry",
    "turns-right-angrily": "front angry, right angry",
    "is-startled": "front neutral, front surprised",
    "is-startled-on-the-left": "left surprised, left surprised",
    "turns-left-surprised": "front surprised, left surprised",
    "turns-right-surprised": "front surprised, right surprised",
    "wonders-at-the-sky": "right surprised, up surprised",
}
PORTRAITS = ("front smiling", "left neutral", "right laughing", "front surprised", "up smiling", "front winking")


@dataclass(frozen=True)
class Clip:
    name: str
    character: Character
    poses: tuple[Pose, ...]


def _state(words: str, rng: np.random.Generator) -> Pose:
    """A pose that shows the named orientation and expression clearly, never quite the same twice."""
    orientation, expression = words.split()
    yaw, pitch = rng.uniform(-0.07, 0.07, 2)
    turn = rng.uniform(0.65, 0.95)
    if orientation in ("left", "right"):
        yaw = -turn if orientation == "left" else turn
    elif orientation in ("up", "down"):
        pitch = -turn if orientation == "down" else turn
    return Pose(float(yaw), float(pitch), expression, float(rng.uniform(0.88, 1.0)))


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


def script() -> Iterator[Clip]:
    """All clips and stills, in order; a still is a clip of one pose."""
    women = [member for member in CAST if member.gender == "female"]
    men = [member for member in CAST if member.gender == "male"]
    for number, (movement, words) in enumerate(MOVEMENTS.items()):
        for actor in (women[number % 4], men[(number + number // 4) % 4]):
            rng = np.random.default_rng([20, number, CAST.index(actor)])
            first, second = (_state(state, rng) for state in words.split(", "))
            poses = []
            for frame in range(HOLD + MOVE + STAY):
                share = np.clip((frame - HOLD + 1) / (MOVE + 1), 0, 1)
                pose = _between(first, second, float(share**2 * (3 - 2 * share)))
                sway = 0.025 * float(np.sin(2 * np.pi * frame / 34))
                poses.append(Pose(pose.yaw + sway, pose.pitch + 0.5 * sway, pose.expression, pose.intensity))
            yield Clip(f"{actor.name}-{movement}.mp4", actor, tuple(poses))
    for number, words in enumerate(PORTRAITS):
        actor = CAST[number + 1]
        yield Clip(f"{actor.name}-portrait.png", actor, (_state(words, np.random.default_rng([21, number])),))


def truth() -> dict[str, dict[str, object]]:
    """What every frame shows, by frame id ("ada-turns-left.mp4/000042")."""
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
