"""The renderer, the cast and the committed clips: what is drawn is what the pose says, and it repeats to the byte."""

import json
from collections import Counter
from dataclasses import fields, replace
from itertools import pairwise, product
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.clips import HERE, NEVER, PAIRS, STATES, script, truth, write_clip
from demo.faces import casting
from demo.faces.cast import PEOPLE
from demo.faces.characters import (
    CAST,
    EXPRESSIONS,
    GENDERS,
    HAIR_COLORS,
    HAIR_STYLES,
    ORIENTATIONS,
    SKINS,
    Pose,
    random_character,
    random_pose,
)
from demo.faces.features import MOUTH
from demo.faces.render import BACKGROUND, draw
from tasks.clips import media
from tasks.frames import dhash

TURNS = {"front": (0, 0), "left": (-0.8, 0), "right": (0.8, 0), "up": (0, 0.8), "down": (0, -0.8)}
number = st.floats(-1, 1, allow_nan=False)


def edges(picture) -> np.ndarray:
    """Magnitude of the grey picture's gradient."""
    return np.hypot(*np.gradient(np.asarray(picture.convert("L"), dtype=float)))


def test_a_picture_repeats_and_has_the_asked_size():
    character, pose = CAST[1], Pose(-0.4, 0.2, "laughing", 0.9)
    first, again = draw(character, pose, 128), draw(character, pose, 128)
    assert first.size == (128, 128) and first.mode == "RGB"
    assert first.tobytes() == again.tobytes()
    assert first.getpixel((0, 0)) == BACKGROUND


@settings(max_examples=20, deadline=None)
@given(number, number, st.sampled_from(EXPRESSIONS), st.floats(0, 1), st.integers(0, 999))
def test_every_character_can_be_drawn_in_every_pose(yaw, pitch, expression, share, seed):
    character = random_character(np.random.default_rng(seed))
    picture = np.asarray(draw(character, Pose(yaw, pitch, expression, share), 96))
    assert 0.2 < (picture != BACKGROUND).any(axis=-1).mean() < 0.9


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_skin_and_hair_of_every_tone_leave_the_face_visible(style):
    """Between eyes and chin every tone shows about as many edges as the lightest."""
    counts = []
    for index, skin in enumerate(SKINS):
        character = replace(CAST[4], skin=skin, hair_style=style, hair_color=HAIR_COLORS[index], glasses="none")
        face = edges(draw(character, Pose(0, 0, "smiling"), 128))[48:100, 40:88]
        counts.append((face > 6).mean())
    assert min(counts) > 0.5 * counts[0]


def test_the_mouth_moves_to_where_the_pose_points():
    places = {}
    for name, (yaw, pitch) in TURNS.items():
        picture = np.asarray(draw(CAST[4], Pose(yaw, pitch, "surprised")), dtype=float)
        rows, columns = np.nonzero(np.abs(picture - MOUTH).sum(axis=-1) < 30)
        places[name] = columns.mean(), rows.mean()
    assert places["left"][0] + 20 < places["front"][0] < places["right"][0] - 20
    assert places["up"][1] + 6 < places["front"][1] < places["down"][1] - 6


def test_expressions_differ_from_each_other_in_line_form():
    for character in (CAST[0], CAST[1], CAST[6]):
        lines = {e: edges(draw(character, Pose(0, 0, e), 128)) > 8 for e in EXPRESSIONS}
        for first in EXPRESSIONS:
            for second in EXPRESSIONS[: EXPRESSIONS.index(first)]:
                assert (lines[first] ^ lines[second]).sum() > 0.08 * lines[first].sum(), (character.name, first, second)


def test_clear_means_far_from_the_thresholds():
    assert Pose().orientation == "front" and Pose().orientation_clear
    assert Pose(yaw=-0.4).orientation == "left" and not Pose(yaw=-0.4).orientation_clear
    assert Pose(yaw=-0.4).degree == "slightly" and Pose(yaw=0.9).degree == "far" and Pose(pitch=0.7).degree == ""
    assert Pose(pitch=0.7).orientation == "up" and Pose(pitch=0.7).orientation_clear
    assert not Pose(yaw=0.7, pitch=0.6).orientation_clear
    faint = Pose(expression="smiling", intensity=0.2)
    assert faint.expression_name == "neutral" and not faint.expression_clear
    assert Pose(expression="sad", intensity=0.9).expression_clear


def test_random_characters_are_never_of_the_cast_and_cover_the_vocabulary():
    rng = np.random.default_rng(0)
    people = [random_character(rng) for _ in range(600)]
    assert not {member.attributes for member in CAST} & {person.attributes for person in people}
    assert {person.hair_style for person in people} == set(HAIR_STYLES)
    assert not any(person.gender == "female" and person.facial_hair != "none" for person in people)
    poses = [random_pose(rng) for _ in range(900)]
    seen = Counter((pose.orientation, pose.expression_name) for pose in poses)
    assert len(seen) == len(ORIENTATIONS) * len(EXPRESSIONS)
    assert any(pose.degree == "slightly" for pose in poses)


def test_the_cast_is_as_drawn_distinct_and_new_to_the_captioner():
    assert list(CAST) == casting.cast()
    assert len({member.name for member in CAST}) == len({member.attributes for member in CAST}) == len(PEOPLE) == 300
    assert not {member.attributes for member in CAST} & casting.learned()


def test_every_kind_of_face_is_cast_several_times():
    counts = Counter(
        (field.name, member.gender, getattr(member, field.name)) for member in CAST for field in fields(member)[2:]
    )
    assert min(counts.values()) >= 5
    assert {value for name, _, value in counts if name == "hair_style"} == set(HAIR_STYLES)
    assert Counter(member.gender for member in CAST) == dict.fromkeys(GENDERS, 150)


def test_the_committed_truth_is_the_scripts():
    assert json.loads((HERE / "truth.json").read_text()) == json.loads(json.dumps(truth()))


def test_no_frame_shows_what_is_never_shown():
    seen = {(facts["orientation"], facts["expression"]) for facts in truth().values()}
    assert seen == set(PAIRS) and not seen & set(NEVER)
    assert set(PAIRS) | set(NEVER) == set(product(ORIENTATIONS, EXPRESSIONS))


def test_the_script_shows_every_other_pair_of_many_characters():
    kept = [facts for frame, facts in truth().items() if int(frame[-6:]) % 6 == 0]
    clear = [facts for facts in kept if facts["orientation_clear"] and facts["expression_clear"]]
    assert len(kept) >= 1500 and len(clear) > 0.7 * len(kept)
    shown = {((facts["orientation"], facts["expression"]), facts["character"]) for facts in clear}
    characters = Counter(pair for pair, _ in shown)
    assert set(characters) == set(PAIRS)
    assert min(characters.values()) >= 20 and max(characters.values()) <= 35
    assert max(Counter(character for _, character in shown).values()) <= STATES + 1  # and that of a portrait


def test_few_kept_frames_nearly_repeat_the_one_before():
    near = []
    for clip in sorted((HERE / "clips").glob("*.mp4"))[::4]:
        hashes = [dhash(picture.image) for picture in media.pictures(clip, 6, 256)]
        near += [(one ^ other).bit_count() <= 4 for one, other in pairwise(hashes)]
    assert np.mean(near) < 0.25


def test_the_committed_clips_are_all_there_and_small():
    folder = HERE / "clips"
    clips = {clip.name: clip for clip in script()}
    assert {path.name for path in folder.iterdir()} == set(clips)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8_000_000
    name = "ada.mp4"
    with av.open(str(folder / name)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == len(clips[name].poses)
    drawn = np.asarray(draw(clips[name].character, clips[name].poses[-1]), dtype=float)
    assert np.abs(frames[-1] - drawn).mean() < 4  # 9 of the frame before


def test_a_clip_repeats_to_the_byte(tmp_path: Path):
    clip = next(script())
    short = replace(clip, poses=clip.poses[:4])
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        write_clip(short, folder)
    first, second = ((folder / clip.name).read_bytes() for folder in folders)
    assert first == second
