"""Stills and animations as browsers and viewers show them, made on the spot."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from tasks import frames
from tasks.clips import media
from tasks.errors import Refused
from tasks.store import tables
from tests.support.clips import moving_square, refused, settings_with, video

SQUARE = moving_square(0)
INSIDE = (30, 10)  # row and column in the dark square of `SQUARE`


def pictures(path: Path, every: int = 1) -> list[Any]:
    return list(media.pictures(path, every, 1024))


def pixels(path: Path) -> np.ndarray:
    (picture,) = pictures(path)
    return np.asarray(picture.image).astype(int)


def write_png(path: Path, kind: int, depth: int, size: tuple[int, int], rows: list[bytes], *chunks: bytes) -> Path:
    """A PNG of colour type `kind`, which Pillow would not write; `chunks` are type and content."""
    header = b"IHDR" + struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"".join(b"\0" + row for row in rows))
    body = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, *chunks, data, b"IEND")
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    return path


def icc(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A colour profile of version 2, with the D50 white that all have."""
    fixed = lambda *values: b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)  # noqa: E731
    content = {b"wtpt": fixed(0.9642, 1, 0.8249)} | {
        k: fixed(*v) if isinstance(v, tuple) else v for k, v in tags.items()
    }
    table, body, at = struct.pack(">I", len(content)), b"", 128 + 4 + 12 * len(content)
    for name, value in content.items():
        value += b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"\0\0\0\0", 0x02400000, kind, space, connection)
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def swapped_colours() -> bytes:
    """A profile whose red is sRGB's green, green is blue and blue is red."""
    red, green, blue = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(2.2))
    return icc(b"RGB ", b"XYZ ", b"mntr", {b"rXYZ": green, b"gXYZ": blue, b"bXYZ": red, **curves})


def inks() -> bytes:
    """A CMYK profile in which every ink but black turns white paper into Lab (50, 60, 40)."""
    paper, coloured, black = bytes([255, 128, 128]), bytes([128, 188, 168]), bytes([0, 128, 128])
    nodes = paper + black + (coloured + black) * 7
    identity = b"".join(struct.pack(">i", 65536 * (i % 4 == 0)) for i in range(9))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4 + nodes + bytes(range(256)) * 3
    return icc(b"CMYK", b"Lab ", b"prtr", {b"A2B0": lut})


@pytest.mark.parametrize("exif", [b"Exif\0\0this is no TIFF", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01", b"Exif\0\0"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_malformed_exif_data_do_not_cost_the_picture(tmp_path: Path, suffix: str, exif: bytes) -> None:
    Image.fromarray(SQUARE).save(tmp_path / f"a.{suffix}", exif=exif)
    assert np.abs(pixels(tmp_path / f"a.{suffix}") - SQUARE).mean() < 4


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "many", "iCCP", "unknown compression"])
def test_large_or_malformed_metadata_do_not_cost_the_picture(tmp_path: Path, kind: str) -> None:
    info, save = PngImagePlugin.PngInfo(), {}
    if kind == "zTXt":
        info.add_text("workflow", "x" * (20 << 20), zip=True)
    elif kind == "iTXt":
        info.add_itxt("workflow", "x" * (20 << 20), zip=True)
    elif kind == "many":
        for number in range(6):
            info.add_text(f"prompt {number}", "x" * (15 << 20), zip=True)
    elif kind == "iCCP":
        save["icc_profile"] = b"x" * (20 << 20)
    else:
        info.add(b"zTXt", b"key\0\x07what")
    Image.fromarray(SQUARE).save(tmp_path / "a.png", pnginfo=info, compress_level=1, **save)
    assert (pixels(tmp_path / "a.png") == SQUARE).all()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_last_marker_is_whole_and_one_without_its_last_rows_is_not(
    tmp_path: Path, progressive: bool
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg", progressive=progressive)
    content, want = (tmp_path / "whole.jpg").read_bytes(), pixels(tmp_path / "whole.jpg")
    for end in (-1, -2):
        (tmp_path / "a.jpg").write_bytes(content[:end])
        assert (pixels(tmp_path / "a.jpg") == want).all()
    for end in (-40, len(content) // 2):
        (tmp_path / "a.jpg").write_bytes(content[:end])
        with pytest.raises(Refused, match="truncated"):
            pixels(tmp_path / "a.jpg")


def test_a_png_and_a_gif_without_their_last_bytes_are_whole(tmp_path: Path) -> None:
    images = [Image.fromarray(moving_square(i)) for i in range(3)]
    images[0].save(tmp_path / "a.png")
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=40)
    for name, end, count in (("a.png", -12, 1), ("a.gif", -1, 3)):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:end])
        assert len(pictures(tmp_path / name)) == count


def test_content_decides_before_the_suffix_does(tmp_path: Path) -> None:
    Image.fromarray(SQUARE).save(tmp_path / "photo.jpg", quality=95)
    moving = [Image.fromarray(moving_square(i)) for i in range(3)]
    moving[0].save(tmp_path / "moving.gif", save_all=True, append_images=moving[1:], duration=40)
    clips = {name: video(tmp_path / name, 3) for name in ("clip.mp4", "clip.mkv", "clip.avi")}
    for name in ("photo.heic", "photo.png", "photo.mp4", "photo.gif"):
        (tmp_path / name).write_bytes((tmp_path / "photo.jpg").read_bytes())
        assert np.abs(pixels(tmp_path / name) - SQUARE).mean() < 4, name
    for path in (tmp_path / "moving.gif", *clips.values()):
        for suffix in (".jpg", ".mp4", ".heic", ".png"):
            assert len(pictures(path.rename(tmp_path / f"other{suffix}"))) == 3, (path, suffix)
            (tmp_path / f"other{suffix}").rename(path)
    (tmp_path / "odd.mp4").write_bytes(b"\xff\xff\xff\xffftypisom" + b"\0" * 600)  # a box of 4 GB
    with pytest.raises(Refused, match="not a video or picture"):
        pictures(tmp_path / "odd.mp4")
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100)
    with pytest.raises(Refused, match=r"HEIC picture.*convert it to JPEG"):
        pictures(tmp_path / "phone.jpg")


def test_common_suffixes_are_read_and_what_is_ignored_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video(tmp_path / "clips" / "camera.m2ts", 7, codec="libx264")
    video(tmp_path / "clips" / "old.ogv", 7, codec="libvpx")
    for name in ("photo.jfif", "photo.jpe"):
        Image.fromarray(SQUARE).save(tmp_path / "clips" / name, "jpeg")
    Image.fromarray(SQUARE).save(tmp_path / "clips" / "scan.jp2")
    for number in range(7):
        (tmp_path / "clips" / f"note{number}.txt").write_text("not a clip")
    assert frames.run(settings_with(), tmp_path)["ignored_files"] == 7
    sources = {row["source"] for row in tables.read(tmp_path / "data" / "frames.parquet")}
    assert sources == {"camera.m2ts", "old.ogv", "photo.jfif", "photo.jpe", "scan.jp2"} and refused(tmp_path) == {}
    assert "note0.txt, note1.txt, note2.txt, note3.txt, note4.txt and 2 more" in caplog.text


def test_a_fourth_byte_that_is_zero_everywhere_is_padding(tmp_path: Path) -> None:
    padded = np.dstack([SQUARE[..., ::-1], np.zeros((64, 96), np.uint8)])[::-1]
    masks = struct.pack("<IIII4s36s12x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs", b"")
    header = struct.pack("<IiiHHIIiiII", 108, 96, 64, 1, 32, 3, padded.size, 0, 0, 0, 0) + masks
    head = struct.pack("<2sIII", b"BM", 14 + len(header) + padded.size, 0, 14 + len(header))
    (tmp_path / "a.bmp").write_bytes(head + header + padded.tobytes())
    assert (pixels(tmp_path / "a.bmp") == SQUARE).all()
    padded[:, 0, 3] = 255
    (tmp_path / "a.bmp").write_bytes(head + header + padded.tobytes())
    assert (pixels(tmp_path / "a.bmp")[:, 1:] == 255).all()


def test_an_rgb_profile_is_applied(tmp_path: Path) -> None:
    Image.fromarray(SQUARE).save(tmp_path / "a.png", icc_profile=swapped_colours())
    Image.fromarray(SQUARE).save(tmp_path / "a.jpg", icc_profile=swapped_colours(), quality=95, subsampling=0)
    Image.fromarray(np.dstack([SQUARE, np.full((64, 96), 255, np.uint8)])).save(
        tmp_path / "b.png", icc_profile=swapped_colours()
    )
    Image.fromarray(SQUARE).quantize(4).save(tmp_path / "c.png", icc_profile=swapped_colours())
    for name in ("a.png", "a.jpg", "b.png", "c.png"):
        assert pixels(tmp_path / name)[INSIDE] == pytest.approx(np.array([30, 200, 30]), abs=6), name


def test_a_cmyk_profile_is_applied(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (96, 64), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 0), (0, 20, 20, 40))
    picture.save(tmp_path / "a.jpg", icc_profile=inks(), quality=95)
    picture.save(tmp_path / "a.tif", icc_profile=inks())
    for name in ("a.jpg", "a.tif"):
        got = pixels(tmp_path / name)
        assert got[INSIDE] == pytest.approx(np.array([214, 60, 56]), abs=5)  # Lab (50, 60, 40), D50
        assert (got[5, 50] >= 252).all()


def test_a_grey_profile_is_applied(tmp_path: Path) -> None:
    linear = icc(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": gamma(1)})
    Image.new("L", (9, 9), 128).save(tmp_path / "a.png", icc_profile=linear)
    assert (np.abs(pixels(tmp_path / "a.png") - 188) <= 1).all()


def test_srgb_by_any_name_and_broken_profiles_change_nothing(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile", inks(), srgb[:300]):
        Image.fromarray(SQUARE).save(tmp_path / "a.png", icc_profile=profile)
        assert (pixels(tmp_path / "a.png") == SQUARE).all()


def test_one_transparent_value_of_a_png_is_white(tmp_path: Path) -> None:
    size, rows = (2, 2), range(2)
    grey16 = [struct.pack(">HH", 40000, 5000) for _ in rows]
    write_png(tmp_path / "a.png", 0, 16, size, grey16, b"tRNS" + struct.pack(">H", 40000))
    grey4 = [bytes([0x73]) for _ in rows]
    write_png(tmp_path / "b.png", 0, 4, size, grey4, b"tRNS" + struct.pack(">H", 7))
    rgb16 = [struct.pack(">HHHHHH", 40000, 50, 9000, 5000, 5000, 5000) for _ in rows]
    write_png(tmp_path / "c.png", 2, 16, size, rgb16, b"tRNS" + struct.pack(">HHH", 40000, 50, 9000))
    for name, dark in (("a.png", 19), ("b.png", 51), ("c.png", 19)):
        got = pixels(tmp_path / name)
        assert (got[:, 0] == 255).all() and (got[:, 1] == dark).all(), name


def test_sixteen_bits_white_is_zero(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 96).astype(np.uint16).reshape(64, 96)
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    black_is_zero, white_is_zero = (struct.pack("<HHIHH", 262, 3, 1, value, 0) for value in (1, 0))
    content = (tmp_path / "a.tif").read_bytes()
    assert content.count(black_is_zero) == 1
    (tmp_path / "a.tif").write_bytes(content.replace(black_is_zero, white_is_zero))
    assert np.abs(pixels(tmp_path / "a.tif")[..., 0] - (255 - ramp / 257)).max() <= 1


def test_twelve_bits_in_sixteen_are_scaled_by_their_range_or_refused(tmp_path: Path) -> None:
    values = (SQUARE[..., 0].astype(np.uint16) << 4) | 7
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert np.abs(pixels(tmp_path / name)[..., 0] - SQUARE[..., 0]).max() <= 1
    rgb = [(SQUARE.astype(np.uint16) << 4)[row].astype(">u2").tobytes() for row in range(64)]
    with pytest.raises(Refused, match="12 bits or fewer in 16"):
        pixels(write_png(tmp_path / "b.png", 2, 16, (96, 64), rgb))


@pytest.mark.parametrize("low", [0, -1000])
def test_integers_of_unknown_range_are_refused(tmp_path: Path, low: int) -> None:
    Image.fromarray(np.arange(low, low + 6144, dtype=np.int32).reshape(64, 96)).save(tmp_path / "a.tif")
    with pytest.raises(Refused, match=r"integers.*convert it to 8 or 16 bits"):
        pixels(tmp_path / "a.tif")


@pytest.mark.parametrize("milliseconds", [0, 10])
def test_a_gif_without_delays_plays_as_in_browsers(tmp_path: Path, milliseconds: int) -> None:
    images = [Image.fromarray(moving_square(i)) for i in range(4)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=milliseconds)
    assert [p.timestamp_s for p in pictures(tmp_path / "a.gif")] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_the_fallback_picture_of_an_apng_is_no_frame(tmp_path: Path) -> None:
    images = [Image.fromarray(moving_square(i)) for i in range(3)]
    other = Image.new("RGB", (96, 64), "blue")
    other.save(tmp_path / "a.png", save_all=True, append_images=images, default_image=True, duration=50)
    kept = pictures(tmp_path / "a.png")
    assert [p.index for p in kept] == [0, 1, 2]
    assert [p.timestamp_s for p in kept] == pytest.approx([0, 0.05, 0.1])
    for picture in kept:
        assert (np.asarray(picture.image) == moving_square(picture.index)).all()
