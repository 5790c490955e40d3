"""Videos as players show them: made on the spot, or in `data/` where no encoder here makes such a file.

The files of `data/` show numbered frames, 160 × 120, 0.04 s apart: the number as 8 blocks on top, lowest bit left.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from tasks.clips import media
from tasks.clips import video as videos
from tasks.errors import Refused
from tests.support.clips import moving_square, video

DATA = Path(__file__).with_name("data")
SQUARE = moving_square(0)


def pictures(path: Path) -> tuple[list[Any], str]:
    """The pictures of `path`, and why it is refused at its end."""
    found: list[Any] = []
    try:
        found.extend(media.pictures(path, 1, 1024))
    except Refused as refused:
        return found, str(refused)
    return found, ""


def number(picture: Any) -> int:
    grey = np.asarray(picture.image.convert("L"), float)
    return sum(int(grey[12:24, 20 + bit * 16 : 28 + bit * 16].mean() > 127) << bit for bit in range(8))


def step(picture: Any) -> int:
    """How many steps the square of `moving_square` has moved."""
    dark = (np.asarray(picture.image)[25:35, :, 1] < 130).mean(0) > 0.5
    return round(float(np.flatnonzero(dark).mean() - 9.5) / 2)


def encoded(path: Path, frames: list[av.VideoFrame], codec: str, pixels: str, **context: Any) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=context.pop("options", {}))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pixels
        stream.metadata.update(context.pop("metadata", {}))
        if "matrix" in context:
            stream.set_display_matrix(context.pop("matrix"))
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("matrix", "want"),
    [
        ((1, 0, 0, 1), SQUARE),
        ((0, 1, -1, 0), np.rot90(SQUARE, -1)),
        ((-1, 0, 0, -1), np.rot90(SQUARE, 2)),
        ((0, -1, 1, 0), np.rot90(SQUARE, 1)),
        ((-1, 0, 0, 1), np.fliplr(SQUARE)),
        ((1, 0, 0, -1), np.flipud(SQUARE)),
        ((0, 1, 1, 0), SQUARE.transpose(1, 0, 2)),
        ((0, -1, -1, 0), np.rot90(SQUARE, 2).transpose(1, 0, 2)),
    ],
)
def test_a_video_is_turned_and_mirrored_as_its_matrix_says(tmp_path: Path, matrix: tuple, want: np.ndarray) -> None:
    a, b, c, d = (value << 16 for value in matrix)
    frames = [av.VideoFrame.from_ndarray(SQUARE, format="rgb24")]
    path = encoded(tmp_path / "a.mp4", frames, "libx264", "yuv444p", matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    got = np.asarray(pictures(path)[0][0].image, float)
    assert got.shape == want.shape
    assert np.abs(got - want).mean() < 4


def test_the_default_video_is_read_and_no_thumbnail() -> None:
    found, refused = pictures(DATA / "thumbnail_first.mp4")
    assert [number(picture) for picture in found] == list(range(60)) and not refused


def test_a_lone_picture_beside_a_video_is_not_the_clip(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        cover, stream = (container.add_stream(codec, rate=25) for codec in ("mjpeg", "libx264"))
        for each, pixels in ((cover, "yuvj420p"), (stream, "yuv420p")):
            each.width, each.height, each.pix_fmt = 96, 64, pixels
        for index in range(10):
            for each in (cover, stream)[index > 0 :]:
                frame = av.VideoFrame.from_ndarray(moving_square(index), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(each.encode(frame))
        for each in (cover, stream):
            container.mux(each.encode())
    found, refused = pictures(tmp_path / "a.mp4")
    assert [step(picture) for picture in found] == list(range(10)) and not refused


@pytest.mark.parametrize("metadata", [{}, {"alpha_mode": "1"}])
@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparent_webm_is_over_white(tmp_path: Path, codec: str, metadata: dict[str, str]) -> None:
    clear = np.dstack([np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)])
    clear[20:40, 20:60] = (200, 30, 30, 255)
    frames = [av.VideoFrame.from_ndarray(clear, format="rgba") for _ in range(7)]
    path = encoded(*(tmp_path / "a.webm", frames, codec, "yuva420p"), options={"auto-alt-ref": "0"}, metadata=metadata)
    found, refused = pictures(path)
    assert len(found) == 7 and not refused
    got = np.asarray(found[6].image).astype(int)
    assert (got[5, 5] >= 250).all()
    assert got[30, 40] == pytest.approx(np.array([200, 30, 30]), abs=12)


@pytest.mark.parametrize(("codec", "pixels"), [("qtrle", "argb"), ("rawvideo", "bgra")])
def test_a_fourth_byte_that_is_zero_everywhere_is_padding(tmp_path: Path, codec: str, pixels: str) -> None:
    padded = np.dstack([SQUARE, np.zeros((64, 96), np.uint8)])
    frames = [av.VideoFrame.from_ndarray(padded, format="rgba")]
    found, _ = pictures(encoded(tmp_path / "a.mov", frames, codec, pixels))
    assert np.abs(np.asarray(found[0].image, float) - SQUARE).mean() < 2


def test_times_of_b_frames_in_avi_are_those_of_their_places(tmp_path: Path) -> None:
    path = video(tmp_path / "a.avi", 30)
    found, refused = pictures(path)
    assert [step(picture) for picture in found] == list(range(30)) and not refused
    assert [picture.timestamp_s for picture in found] == pytest.approx([0.04 * i for i in range(30)], abs=1e-3)


def test_times_in_the_order_of_decoding_are_put_in_the_order_of_showing(tmp_path: Path) -> None:
    with (
        av.open(str(video(tmp_path / "a.mkv", 30))) as container,
        av.open(str(tmp_path / "a.mp4"), "w", options={"use_editlist": "0"}) as careless,
    ):
        stream = careless.add_stream_from_template(container.streams.video[0])
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [packet.pts for packet in packets] != sorted(packet.pts for packet in packets)
        for index, packet in enumerate(packets):
            packet.pts = packet.dts = 40 * index
            packet.stream = stream
            careless.mux(packet)
    found, refused = pictures(tmp_path / "a.mp4")
    assert [step(picture) for picture in found] == list(range(30)) and not refused
    assert [picture.timestamp_s for picture in found] == pytest.approx([0.04 * i for i in range(30)], abs=2e-3)


def test_pictures_that_an_avi_repeats_are_not_called_lost(tmp_path: Path) -> None:
    times = [0, 40, 80, 400, 440, 2000]
    found, refused = pictures(video(tmp_path / "a.avi", 6, times=times, codec="mpeg4"))
    assert [picture.timestamp_s for picture in found] == pytest.approx([t / 1000 for t in times], abs=0.041)
    assert not refused


def test_a_cut_avi_is_cut_short(tmp_path: Path) -> None:
    content = video(tmp_path / "a.avi", 60, codec="mjpeg", pixels="yuvj420p").read_bytes()
    (tmp_path / "a.avi").write_bytes(content[: len(content) // 2])
    found, refused = pictures(tmp_path / "a.avi")
    assert 10 < len(found) < 50 and "cut short" in refused


def test_a_title_that_is_not_utf_8_does_not_cost_the_clip(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        container.metadata["title"] = "Caf\xe9s"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 96, 64
        container.mux(stream.encode(av.VideoFrame.from_ndarray(SQUARE, format="rgb24")))
        container.mux(stream.encode())
    content = (tmp_path / "a.avi").read_bytes()
    assert content.count(b"Caf\xc3\xa9s") == 1
    (tmp_path / "a.avi").write_bytes(content.replace(b"Caf\xc3\xa9s", b"Caf\xe9s\0"))
    found, refused = pictures(tmp_path / "a.avi")
    assert len(found) == 1 and not refused


def test_an_edit_list_is_no_loss() -> None:
    found, refused = pictures(DATA / "trimmed.mp4")
    assert [number(picture) for picture in found] == list(range(10, 30)) and not refused


def test_frames_without_a_time_at_the_beginning_come_first() -> None:
    found, refused = pictures(DATA / "first_times_missing.mkv")
    assert [number(picture) for picture in found] == list(range(60)) and not refused
    assert [picture.timestamp_s for picture in found] == pytest.approx([0.04 * i for i in range(60)], abs=2e-3)


@pytest.mark.parametrize("length", [4, 25])
def test_times_of_joined_streams_go_on(tmp_path: Path, length: int) -> None:
    parts = [video(tmp_path / f"{i}.ts", length, first=i).read_bytes() for i in range(3)]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    found, _ = pictures(tmp_path / "joined.ts")
    times = [picture.timestamp_s for picture in found]
    assert len(found) == 3 * length and times == sorted(times)
    assert np.diff(times) == pytest.approx(0.04, abs=0.021)


@pytest.mark.parametrize("small", [0, 4 << 20])  # with the decoder's threads and without
def test_a_clip_damaged_in_the_middle_goes_on_at_the_next_key_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(videos, "SMALL", small)
    path = video(tmp_path / "a.mp4", 60, size=(192, 128), options={"movflags": "faststart"}, codec="mpeg4")
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size, p.is_keyframe) for p in container.demux(video=0) if p.size]
    keys = [index for index, packet in enumerate(packets) if packet[2]]
    assert keys == [0, 12, 24, 36, 48]
    clean, _ = pictures(path)
    content = bytearray(path.read_bytes())
    for position, size, _ in packets[14:17]:
        content[position + 6 : position + size] = bytes(size - 6)
    path.write_bytes(content)
    found, refused = pictures(path)
    indices = [picture.index for picture in found]
    assert indices[:12] == list(range(12)) and indices[-36:] == list(range(24, 60))
    assert not {14, 15, 16, 17, 23} & set(indices)
    assert "damaged" in refused and "to 23" in refused
    for picture in found:
        assert picture.image.tobytes() == clean[picture.index].image.tobytes()
        assert picture.timestamp_s == pytest.approx(0.04 * picture.index)


def test_a_frame_that_the_decoder_leaves_out_is_reported_and_counted() -> None:
    found, refused = pictures(DATA / "lost_frame_hevc.mp4")
    assert [picture.index for picture in found] == [i for i in range(60) if i != 7]
    assert refused == "is damaged; lost frames: 7"


def alternation(image: Any) -> float:
    """Mean |2nd difference| over the mean |difference over two lines|, where there is an edge: above 1 if combed."""
    grey = np.asarray(image.convert("L"), float)
    return np.abs(grey[2:] - 2 * grey[1:-1] + grey[:-2]).mean() / np.abs(grey[2:] - grey[:-2]).mean()


def test_interlaced_video_is_not_combed() -> None:
    found, refused = pictures(DATA / "interlaced.mp4")
    assert len(found) == 15 and not refused
    assert [picture.timestamp_s for picture in found] == pytest.approx([0.04 * i for i in range(15)])
    assert max(alternation(picture.image) for picture in found) < 1.2


def test_hdr_is_brought_to_srgb() -> None:
    found, refused = pictures(DATA / "hdr_pq.mp4")
    got = np.asarray(found[0].image).astype(int)
    assert len(found) == 20 and not refused
    assert got[62, 150] == pytest.approx(np.array([200] * 3), abs=8)
    assert got[46, 20] == pytest.approx(np.array([220, 30, 30]), abs=12)
    assert got[46, 140] == pytest.approx(np.array([30, 180, 30]), abs=12)


def test_white_of_hlg_is_white(tmp_path: Path) -> None:
    signal = np.full((64, 96, 3), round(0.75 * 65535), np.uint16)
    signal[20:40] = round(0.38 * 65535)  # the HLG signal of a grey card, 26 cd/m²
    frames = [av.VideoFrame.from_ndarray(signal, format="rgb48le") for _ in range(3)]
    path = encoded(
        *(tmp_path / "a.mp4", frames, "libx264", "yuv420p10le"), color_trc=18, color_primaries=9, colorspace=9
    )
    got = np.asarray(pictures(path)[0][1].image).astype(int)
    assert (got[5, 5] > 235).all()
    assert got[30, 50] == pytest.approx(np.array([101] * 3), abs=12)


@pytest.mark.parametrize(("lines", "colours"), [(720, Colorspace.ITU709), (576, Colorspace.ITU601)])
def test_untagged_colours_are_those_of_the_size(tmp_path: Path, lines: int, colours: Colorspace) -> None:
    red = np.broadcast_to(np.array([220, 30, 30], np.uint8), (lines, 64, 3)).copy()
    frame = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(format="yuv420p", dst_colorspace=colours)
    frame.colorspace = 2
    path = encoded(tmp_path / "a.mp4", [frame], "libx264", "yuv420p", options={"qp": "4"})
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == 2
    got = np.asarray(pictures(path)[0][0].image).astype(int)
    assert got[lines // 2, 32] == pytest.approx(np.array([220, 30, 30]), abs=4)
