"""What belongs together is one clip: copies, numbered sequences, near-copies; and what is new moves nothing old."""

import os
import random
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tasks import dataset, frames
from tasks.clips import grouping
from tasks.clips.grouping import File
from tests.support.clips import settings_with, video


def face(seed: int, size: int = 192) -> Image.Image:
    """A picture unlike any of another seed."""
    cells = np.random.default_rng(seed).integers(0, 255, (8, 9), dtype=np.uint8)
    image = Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC)
    ImageDraw.Draw(image).ellipse((20, 20, 60, 60), outline=0)
    return image


def clips_in(root) -> dict[str, str]:
    """File → clip, as the stage `dataset` will see them."""
    frames.run(settings_with(), root)
    distance = settings_with().params.frames.near_duplicate_distance
    return grouping.identities(dataset.source_files(root), distance)[0]


@pytest.fixture
def folder(tmp_path):
    video(tmp_path / "clips" / "a.mp4", 13)
    video(tmp_path / "clips" / "b.mp4", 13, first=20)
    return tmp_path / "clips"


@pytest.mark.parametrize("make", [shutil.copy, os.link, os.symlink])
def test_the_same_content_is_one_clip_whatever_it_is_called(folder, tmp_path, make):
    (folder / "best").mkdir()
    make(folder / "a.mp4", folder / "best" / "copy of a.mp4")
    found = clips_in(tmp_path)
    assert found["a.mp4"] == found["best/copy of a.mp4"] != found["b.mp4"]


def test_two_spellings_of_a_name_are_one_clip(folder, tmp_path):
    for form in ("NFC", "NFD"):
        shutil.copy(folder / "a.mp4", folder / unicodedata.normalize(form, "café.mp4"))
    assert len(set(clips_in(tmp_path).values())) == 2


def test_a_numbered_sequence_is_one_clip_and_its_copy_belongs_to_it(folder, tmp_path):
    for place in ("walk", "run", "other/walk"):
        (folder / place).mkdir(parents=True)
    for number in range(6):
        face(number).save(folder / "walk" / f"{number:04}.png")
        face(10 + number).save(folder / "run" / f"left_{number}.png")
        face(20 + number).save(folder / "run" / f"right_{number}.png")
        face(30 + number).save(folder / f"{number:04}.png")
    shutil.copy(folder / "walk" / "0003.png", folder / "other" / "walk" / "9.png")
    found = clips_in(tmp_path)
    assert {found[f"walk/{number:04}.png"] for number in range(6)} == {found["other/walk/9.png"]} == {"walk/"}
    assert {found[f"run/left_{number}.png"] for number in range(6)} == {"run/left_"}
    assert {found[f"run/right_{number}.png"] for number in range(6)} == {"run/right_"}
    assert len({found[f"{number:04}.png"] for number in range(6)}) == 6


def test_near_copies_of_a_picture_belong_to_it(folder, tmp_path):
    for number in range(4):
        face(number).save(folder / f"face {number}.png")
        face(number).resize((120, 120)).save(folder / f"small face {number}.jpg", quality=70)
        face(number).point(lambda value: value // 2 + 100).save(folder / f"pale face {number}.png")
    found = clips_in(tmp_path)
    assert len(set(found.values())) == 2 + 4
    for number in range(4):
        assert found[f"small face {number}.jpg"] == found[f"pale face {number}.png"] == found[f"face {number}.png"]


def test_a_near_copy_of_a_near_copy_belongs_to_both():
    files = [File(f"{i}.png", f"picture {i}", (1 << 4 * i) - 1) for i in range(8)] + [File("z.png", "z", 1 << 63)]
    assert len({clip for name, clip in grouping.identities(files, 4)[0].items() if name != "z.png"}) == 1
    assert len(set(grouping.identities(files, 3)[0].values())) == 8  # z is near the first, which has no bit


def test_a_folder_of_copies_of_numbered_pictures_is_no_sequence(folder, tmp_path):
    for place in ("best", "small"):
        (folder / place).mkdir()
    for number in range(4):
        face(number).save(folder / f"face{number}.png")
        face(number).resize((120, 120)).save(folder / "small" / f"{number}.jpg", quality=70)
        shutil.copy(folder / f"face{number}.png", folder / "best" / f"copy of face{number}.png")
    found = clips_in(tmp_path)
    assert len(set(found.values())) == 2 + 4
    for number in range(4):
        names = (f"face{number}.png", f"small/{number}.jpg", f"best/copy of face{number}.png")
        assert len({found[name] for name in names}) == 1


def test_what_is_new_moves_no_clip():
    rng = random.Random(0)
    old = [File(f"walk {i}/{n:03}.png", f"{i} {n}", rng.getrandbits(64)) for i in range(9) for n in range(3)]
    old += [File(f"{i}.mp4", f"video {i}") for i in range(30)]
    old += [File(f"face {i}.png", f"picture {i}", rng.getrandbits(64)) for i in range(30)]
    sequences = [File(f"walk {i}/{n:03}.png", f"new {i} {n}", rng.getrandbits(64)) for i in range(12) for n in (3, 4)]
    copies = [File(f"copies/{file.name}", file.sha256, file.dhash) for file in old]
    near = [File(f"small {file.name}", f"small {file.sha256}", file.dhash ^ 5) for file in old if "face" in file.name]
    others = [File(f"{i}.gif", f"animation {i}") for i in range(20)]
    before = grouping.identities(old, 4)[0]
    held_out = dataset.held_out_clips(before, 0.2)
    assert len(set(before.values())) == 9 + 60 and 5 < len(held_out) < 30
    for new in (sequences, copies, near, others, sequences + copies + near + others):
        for files in ([*old, *new], rng.sample([*new, *old], len(old) + len(new))):
            after = grouping.identities(files, 4)[0]
            assert {name: after[name] for name in before} == before
            assert dataset.held_out_clips(after, 0.2) & set(before.values()) == held_out
