"""Files that are wrong in every way we could think of: the run goes on, and the quarantine says why in plain words."""

import os
import re
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

from tasks import frames, points
from tasks.errors import StippleError
from tasks.store import tables
from tests.support.bad_files import BAD
from tests.support.clips import refused, settings_with, video


@pytest.fixture
def clips(tmp_path):
    video(tmp_path / "clips" / "good.mp4", 13)
    return tmp_path / "clips"


def make_folder(path):
    path.mkdir()
    return path


def sources(root):
    return sorted({row["source"] for row in tables.read(root / "data" / "frames.parquet", ["source"])})


@pytest.mark.parametrize(("name", "make", "reason"), BAD, ids=[os.fsencode(name) for name, _, _ in BAD])
def test_a_useless_file_is_quarantined_and_the_run_goes_on(clips, tmp_path, monkeypatch, name, make, reason):
    monkeypatch.chdir(tmp_path)
    make(clips / name)
    summary = frames.run(settings_with(), tmp_path)
    assert sources(tmp_path) == ["good.mp4"]
    assert summary["quarantined"] == 1
    entry = refused(tmp_path)
    assert list(entry) == [os.fsencode(name).decode("utf-8", "backslashreplace")]
    assert re.search(reason, *entry.values())


def test_one_frame_is_a_clip(tmp_path):
    video(tmp_path / "clips" / "one.mp4", 1)
    assert frames.run(settings_with(), tmp_path)["rows"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(clips, tmp_path):
    video(clips / "secret.mp4").chmod(0)
    frames.run(settings_with(), tmp_path)
    assert refused(tmp_path) == {"secret.mp4": "cannot be read: Permission denied"}


@pytest.mark.parametrize(
    "name", ["with spaces.mp4", 'it\'s "quoted".mp4', "😀 smile.mp4", "two\nlines.mp4", "percent %06d.mp4", "a:b.mp4"]
)
def test_names_are_data(tmp_path, name):
    video(tmp_path / "plain.mp4", 7).rename(make_folder(tmp_path / "clips") / name)
    frames.run(settings_with(), tmp_path)
    points.run(settings_with(), tmp_path)
    for table in ("frames", "points"):
        ids = [row["frame_id"] for row in tables.read(tmp_path / "data" / f"{table}.parquet", ["frame_id"])]
        assert ids == [f"{name}/000000", f"{name}/000006"]


def test_names_that_differ_by_extension_or_case_are_different_clips(tmp_path):
    names = ["a.MP4", "a.mkv", "a.mp4", "sub/a.mp4"]
    for number, name in enumerate(names):
        video(tmp_path / "clips" / name, 7, first=10 * number)
    frames.run(settings_with(), tmp_path)
    assert sources(tmp_path) == names


def test_pictures_of_odd_sizes(clips, tmp_path):
    Image.new("RGB", (1, 1), "red").save(clips / "dot.png")
    Image.new("RGB", (320, 240), "white").save(clips / "white.png")
    big = np.full((6000, 8000), 255, np.uint8)
    big[2000:4000, 3000:5000] = 0
    Image.fromarray(big).save(clips / "big.jpg")
    Image.fromarray(big).save(clips / "big.png", compress_level=1)
    frames.run(settings_with(), tmp_path)
    size = {row["source"]: (row["width"], row["height"]) for row in tables.read(tmp_path / "data" / "frames.parquet")}
    assert size["dot.png"] == (1, 1) and size["white.png"] == (320, 240)
    assert size["big.jpg"] == size["big.png"] == (1024, 768)
    points.run(settings_with(), tmp_path)
    assert set(refused(tmp_path, "points")) == {"dot.png/000000", "white.png/000000"}


def test_a_picture_too_large_to_trust(clips, tmp_path):
    Image.new("L", (1, 1)).save(clips / "bomb.png")
    png = bytearray((clips / "bomb.png").read_bytes())
    png[16:24] = struct.pack(">II", 200_000, 200_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (clips / "bomb.png").write_bytes(png)
    frames.run(settings_with(), tmp_path)
    assert "40000000000 pixels" in refused(tmp_path)["bomb.png"]


def test_an_empty_or_missing_input_folder_is_one_line_with_a_remedy(tmp_path):
    with pytest.raises(StippleError, match=r"clips is not a folder; put videos and pictures there, or set `input`"):
        frames.run(settings_with(), tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "notes.txt").write_text("nothing here")
    with pytest.raises(StippleError, match=r"clips has no videos or pictures \(1 other files\)"):
        frames.run(settings_with(), tmp_path)


def test_nothing_usable_ends_the_run_and_the_quarantine_is_there(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"")
    with pytest.raises(StippleError, match=r"none of its 1 files can be used; the first, 'a.mp4', is empty"):
        frames.run(settings_with(), tmp_path)
    assert refused(tmp_path) == {"a.mp4": "is empty (0 bytes)"}
    assert not (tmp_path / "data" / "frames.parquet").exists()


def test_a_full_disk_is_one_line_and_leaves_the_old_table(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine does not let a test mount a small disk")
    try:
        (disk / "clips").symlink_to(tmp_path / "clips")
        noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
        (tmp_path / "clips").mkdir()
        for number in range(9):
            Image.fromarray(np.roll(noise, number)).save(tmp_path / "clips" / f"{number}.png")
        with pytest.raises(StippleError, match="no space left to write"):
            frames.run(settings_with(), disk)
        assert not (disk / "data" / "frames.parquet").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
