import io
import shutil

import numpy as np
import pytest
from PIL import Image

from tasks import frames
from tasks.clips import media
from tasks.clips import video as videos
from tasks.errors import Refused
from tasks.store import tables
from tests.support.clips import moving_square, refused, settings_with, video


def run(root, previous=lambda table: None, **params):
    return frames.run(settings_with(frames=params), root, previous=previous)


def rows(root):
    return list(tables.read(root / "data" / "frames.parquet"))


def opened(row):
    return Image.open(io.BytesIO(row["image"]["bytes"]))


def pictures(path, every=1, max_side=1024):
    return list(media.pictures(path, every, max_side))


def test_every_sixth_frame_with_its_time_and_its_picture(tmp_path):
    video(tmp_path / "clips" / "a.mp4", 30)
    summary = run(tmp_path)
    assert (summary["rows"], summary["quarantined"]) == (5, 0)
    table = rows(tmp_path)
    assert [row["frame_id"] for row in table] == [f"a.mp4/{i:06d}" for i in (0, 6, 12, 18, 24)]
    assert [row["timestamp_s"] for row in table] == pytest.approx([0, 0.24, 0.48, 0.72, 0.96])
    for row in table:
        assert (row["width"], row["height"]) == opened(row).size == (96, 64)
        difference = np.abs(np.asarray(opened(row), float) - moving_square(row["frame_index"]))
        assert difference.mean() < 4


def test_frame_ids_do_not_change_when_clips_are_added_and_old_clips_are_not_decoded_again(tmp_path, monkeypatch):
    for name in ("b", "d"):
        video(tmp_path / "clips" / f"{name}.mp4", 20, first=ord(name))
    run(tmp_path)
    before = {row["frame_id"]: row for row in rows(tmp_path)}
    decoded = []
    real = media.pictures
    monkeypatch.setattr(media, "pictures", lambda path, *rest: decoded.append(path.name) or real(path, *rest))
    for name in ("a", "c", "e"):
        video(tmp_path / "clips" / f"{name}.mp4", 20, first=ord(name))
    summary = run(tmp_path)
    after = {row["frame_id"]: row for row in rows(tmp_path)}
    assert (summary["computed"], summary["reused"]) == (12, 8)
    assert decoded == ["a.mp4", "c.mp4", "e.mp4"]
    assert list(after) == sorted(after) and before.items() <= after.items()


def test_how_many_files_are_decoded_at_once_changes_nothing(tmp_path, monkeypatch):
    for name, count in zip("abde", (40, 3, 12, 1), strict=True):
        video(tmp_path / "clips" / f"{name}.mp4", count, first=count)
    whole = video(tmp_path / "c.mp4", 60, options={"movflags": "faststart"}, codec="mpeg4").read_bytes()
    (tmp_path / "clips" / "c.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    written = set()
    for workers, ahead, small in ((1, 16, 0), (2, 1, 1 << 20), (4, 3, 0), (3, 2, 1 << 20)):
        monkeypatch.setattr(frames, "WORKERS", workers)
        monkeypatch.setattr(frames, "AHEAD", ahead)
        monkeypatch.setattr(videos, "SMALL", small)
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        shutil.rmtree(tmp_path / ".stipple", ignore_errors=True)
        run(tmp_path, every=1)
        written.add((tmp_path / "data" / "frames.parquet").read_bytes())
    assert len(written) == 1
    ids = [row["frame_id"] for row in rows(tmp_path)]
    assert ids == sorted(ids) and 66 < len(ids) < 116


def test_reuse_gives_the_same_bytes_as_computing_afresh(tmp_path):
    for name in "abc":
        video(tmp_path / "clips" / f"{name}.mp4", 20, first=ord(name))
    run(tmp_path)
    fresh = (tmp_path / "data" / "frames.parquet").read_bytes()
    assert run(tmp_path)["computed"] == 0
    assert (tmp_path / "data" / "frames.parquet").read_bytes() == fresh
    earlier = shutil.move(tmp_path / "data" / "frames.parquet", tmp_path / "cached")
    assert run(tmp_path, previous=lambda table: earlier)["computed"] == 0
    assert (tmp_path / "data" / "frames.parquet").read_bytes() == fresh
    (tmp_path / "data" / "frames.parquet").unlink()
    assert run(tmp_path)["reused"] == 0
    assert (tmp_path / "data" / "frames.parquet").read_bytes() == fresh
    assert run(tmp_path)["computed"] == 0
    assert list((tmp_path / ".stipple" / "frames").iterdir()) == []


def test_a_renamed_clip_keeps_its_rows_under_its_new_name(tmp_path):
    video(tmp_path / "clips" / "z.mp4", 20)
    video(tmp_path / "clips" / "y.mp4", 20, first=40)
    run(tmp_path)
    (tmp_path / "clips" / "z.mp4").rename(tmp_path / "clips" / "a.mp4")
    assert run(tmp_path)["computed"] == 0
    assert [row["source"] for row in rows(tmp_path)] == ["a.mp4"] * 4 + ["y.mp4"] * 4
    assert rows(tmp_path)[0]["frame_id"] == "a.mp4/000000"
    assert np.abs(np.asarray(opened(rows(tmp_path)[0]), float) - moving_square(0)).mean() < 4


def test_other_parameters_are_other_rows(tmp_path):
    video(tmp_path / "clips" / "a.mp4", 20)
    run(tmp_path)
    summary = run(tmp_path, every=3, max_side=32)
    assert (summary["computed"], summary["reused"]) == (7, 0)
    assert {opened(row).size for row in rows(tmp_path)} == {(32, 21)}


def test_a_killed_run_keeps_the_batches_it_had(tmp_path, monkeypatch):
    for i in range(5):
        video(tmp_path / "clips" / f"{i}.mp4", 10, first=10 * i)
    monkeypatch.setattr(frames, "BATCH_FILES", 2)

    def two_then_dead(fn, batches):
        for number, batch in enumerate(batches):
            if number == 2:
                raise KeyboardInterrupt
            yield fn(batch)

    with pytest.raises(KeyboardInterrupt):
        frames.run(settings_with(), tmp_path, map_batches=two_then_dead)
    sizes = []
    frames.run(settings_with(), tmp_path, map_batches=lambda fn, b: [sizes.append(len(x[1])) or fn(x) for x in b])
    assert sizes == [1]
    assert len(rows(tmp_path)) == 10


def test_near_duplicates_are_counted_and_dropped_only_on_demand(tmp_path):
    still = [moving_square(0)] * 4 + [np.flip(moving_square(0), 1)] * 2
    gif = tmp_path / "clips" / "a.gif"
    gif.parent.mkdir()
    stamps = []
    for i, frame in enumerate(still):  # a pixel changes, or Pillow would merge equal frames
        stamps.append(Image.fromarray(frame.copy()))
        stamps[-1].putpixel((i, 0), (0, 0, 0))
    stamps[0].save(gif, save_all=True, append_images=stamps[1:], duration=100)
    assert run(tmp_path, every=1)["near_duplicates"] == 4
    assert len(rows(tmp_path)) == 6
    for _ in range(2):  # decoded, then reused
        summary = run(tmp_path, every=1, drop_near_duplicates=True)
        assert (summary["rows"], summary["near_duplicates"]) == (2, 4)
        assert [row["frame_index"] for row in rows(tmp_path)] == [0, 4]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_phone_video_is_upright(tmp_path, degrees):
    path = video(tmp_path / "a.mp4", 2, rotation=degrees)
    upright = np.rot90(moving_square(0), -degrees // 90)
    image = np.asarray(pictures(path)[0].image, float)
    assert image.shape == upright.shape
    assert np.abs(image - upright).mean() < 4


def test_a_variable_frame_rate_keeps_its_own_times(tmp_path):
    times = [0, 10, 200, 210, 900, 2000, 2001]
    path = video(tmp_path / "a.mp4", 7, times=times)
    assert [p.timestamp_s for p in pictures(path)] == pytest.approx([t / 1000 for t in times])


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "tolerance"),
    [
        ("a.mp4", "libx264", "gray", 4),
        ("a.mp4", "libx264", "yuv420p10le", 4),
        ("a.mp4", "libx264", "yuv444p", 3),
        ("a.webm", "libvpx-vp9", "yuv420p", 6),
        ("a.avi", "mjpeg", "yuvj420p", 6),
        ("a.mov", "qtrle", "argb", 1),
        ("a.mkv", "ffv1", "bgr0", 1),
    ],
)
def test_formats(tmp_path, name, codec, pixels, tolerance):
    frame = pictures(video(tmp_path / name, 3, codec=codec, pixels=pixels))[2]
    want = moving_square(2).astype(float)
    if pixels == "gray":  # written without a note on its range, so read as video's 16 to 235
        want = ((want @ [0.299, 0.587, 0.114] - 16) * 255 / 219)[..., None]
    assert frame.image.mode == "RGB"
    assert np.abs(np.asarray(frame.image, float) - want).mean() < tolerance


def test_wide_pixels_become_square(tmp_path):
    path = video(tmp_path / "a.mp4", 2, size=(96, 64), pixel_aspect=2)
    assert pictures(path)[0].image.size == (192, 64)


def test_transparency_is_white(tmp_path):
    clear = np.dstack([moving_square(0), np.zeros((64, 96), np.uint8)])
    clear[20:40, :20, 3] = 255
    for name, image in {
        "a.png": Image.fromarray(clear),
        "b.webp": Image.fromarray(clear),
        "c.png": Image.fromarray(clear).convert("LA"),
        "d.png": Image.fromarray(clear).quantize(8, Image.Quantize.FASTOCTREE),
    }.items():
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        pixels = np.asarray(pictures(tmp_path / name)[0].image)
        assert (pixels[0, 0] == 255).all(), name
        assert pixels[30, 10].mean() < 120, name


def test_sixteen_bits_and_one_bit(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 96).astype(np.uint16).reshape(64, 96)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pixels = np.asarray(pictures(tmp_path / "a.png")[0].image)
    assert np.abs(pixels[..., 0] - (ramp / 257)).max() <= 1
    Image.fromarray(ramp > 30000).save(tmp_path / "b.png")
    assert set(np.unique(np.asarray(pictures(tmp_path / "b.png")[0].image))) == {0, 255}


def test_a_photo_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to look at it
    Image.fromarray(moving_square(0)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = np.asarray(pictures(tmp_path / "a.jpg")[0].image, float)
    assert np.abs(image - np.rot90(moving_square(0), -1)).mean() < 4


def test_an_animation_is_a_clip(tmp_path):
    images = [Image.fromarray(moving_square(i)) for i in range(13)]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=50, lossless=True)
    kept = pictures(tmp_path / "a.webp", every=6)
    assert [p.index for p in kept] == [0, 6, 12]
    assert [p.timestamp_s for p in kept] == pytest.approx([0, 0.3, 0.6])
    np.testing.assert_array_equal(np.asarray(kept[2].image), moving_square(12))


def test_what_a_file_yields_before_it_breaks_off_is_kept_and_its_rest_is_reported(tmp_path):
    fast = video(tmp_path / "fast.mp4", 60, options={"movflags": "faststart"}, codec="mpeg4").read_bytes()
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "cut.mp4").write_bytes(fast[: len(fast) * 2 // 3])
    summary = run(tmp_path, every=1)
    assert 10 < summary["rows"] < 60
    assert "cut short" in refused(tmp_path)["cut.mp4"]
    again = run(tmp_path, every=1)  # the reason must not get lost when rows are reused
    assert again == summary and "cut short" in refused(tmp_path)["cut.mp4"]


def test_dhash_tells_a_turned_picture_from_a_brighter_one():
    picture = np.random.default_rng(0).integers(0, 200, (64, 96), dtype=np.uint8)
    look = frames.dhash(Image.fromarray(picture))
    assert frames.dhash(Image.fromarray(picture + 40)) == look
    assert (frames.dhash(Image.fromarray(np.fliplr(picture))) ^ look).bit_count() > 16


def test_links_and_hidden_files(tmp_path):
    video(tmp_path / "elsewhere" / "a.mp4", 7)
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "linked.mp4").symlink_to(tmp_path / "elsewhere" / "a.mp4")
    (clips / "folder").symlink_to(tmp_path / "elsewhere")
    (clips / "loop").symlink_to(clips)
    (clips / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (clips / ".hidden.mp4").write_bytes(b"")
    (clips / "notes.txt").write_text("not a clip")
    summary = run(tmp_path)
    assert {row["source"] for row in rows(tmp_path)} == {"linked.mp4", "folder/a.mp4"}
    assert refused(tmp_path) == {"gone.mp4": "is a link to a file that is not there"}
    assert summary["ignored_files"] == 1


def test_a_picture_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"heic")
    with pytest.raises(Refused, match="convert it to JPEG"):
        pictures(tmp_path / "a.heic")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(Refused, match="floating-point"):
        pictures(tmp_path / "a.tiff")
