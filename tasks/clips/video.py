"""The pictures of a video, read by FFmpeg from front to back; only the frames that are kept are converted."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from math import atan2, degrees
from pathlib import Path
from struct import unpack
from typing import Any, NamedTuple

import av
from av.container import InputContainer
from av.filter import Graph
from av.stream import Disposition
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from PIL import Image, ImageOps

from tasks.clips import hdr
from tasks.clips.clock import Clock
from tasks.clips.picture import Picture, check_size, fit, over_white, without_padding
from tasks.errors import Refused

CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg"  # a playlist in disguise must not open other files
SMALL = 4 << 20  # bytes of a video that one thread decodes; the other cores have the next files meanwhile
PICTURES_ONLY = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders know no transparency
DEPTH_32 = {"rawvideo", "qtrle", "rpza", "msrle", "zlib", "cscd", "fraps", "tscc"}  # a fourth byte may be padding
UNSPECIFIED = 2  # colour space, ITU-T H.273
HD = 720  # lines: from here on players take colours that nobody named for those of BT.709

# No lines on stderr: what goes wrong arrives as an exception. Any other level calls Python from FFmpeg's threads, which
# blocks for ever when a video is closed before its end.
av.logging.set_level(None)


class Frame(NamedTuple):
    """A decoded frame without damage, its number in the file and its time after the first, in seconds."""

    number: int
    time: float
    frame: av.VideoFrame


def pictures(path: Path, every: int, max_side: int) -> Iterator[Picture]:
    """Yield frames 0, `every`, 2 `every`, … of `path`. Raises Refused at the end if some of its frames are lost."""
    only = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    with av.open(str(path.absolute()), options=only, metadata_errors="replace") as container:
        stream = _chosen(container)
        stream.thread_type = "AUTO" if path.stat().st_size > SMALL else "NONE"
        check_size(stream.codec_context.width, stream.codec_context.height)
        pixel_aspect = float(stream.sample_aspect_ratio or 1)
        padded = stream.codec_context.name in DEPTH_32
        scaler = VideoReformatter()  # keeps its tables from frame to frame, where `frame.reformat` makes them anew
        reader = _Reader(container, stream)
        for index, time, frame in _deinterlaced(reader.frames()):
            if index % every == 0:
                yield Picture(index, time, _picture(frame, scaler, pixel_aspect, max_side, padded))
        reader.check_whole(path)


def _chosen(container: InputContainer) -> av.VideoStream:
    """The video that a player would show: the default one, and no cover or thumbnail."""
    streams = [s for s in container.streams.video if not s.disposition & PICTURES_ONLY]
    if not streams:
        raise Refused("has no video stream (sound only)" if container.streams.audio else "has no video stream")
    streams = [stream for stream in streams if stream.codec_context is not None]
    if not streams:
        raise Refused("is of a codec that cannot be decoded")
    return max(streams, key=lambda stream: (stream.frames != 1, bool(stream.disposition & Disposition.default)))


class _Reader:
    """Decodes a stream, goes on at the next key frame where it is damaged, and remembers what is lost."""

    def __init__(self, container: InputContainer, stream: av.VideoStream) -> None:
        self.container, self.stream = container, stream
        self.decoder: av.VideoCodecContext = stream.codec_context
        noted = {key.lower(): value for key, value in stream.metadata.items()}
        if noted.get("alpha_mode") == "1" and self.decoder.name in WITH_ALPHA:
            self.decoder = av.CodecContext.create(WITH_ALPHA[self.decoder.name], "r")  # type: ignore[assignment]
        self.clock = Clock(stream, sort="avi" in container.format.name.split(","))
        self.decoded = 0
        self.gaps: list[tuple[int, int]] = []  # from, to (exclusive)
        self.broken: int | None = None  # the first frame of the damage that we are in
        self.waiting: set[int] = set()  # times of packets whose frames did not come yet
        self.every_packet_is_a_frame = "mp4" in container.format.name.split(",") and stream.codec_context.name in (
            "h264",
            "hevc",
        )

    def frames(self) -> Iterator[Frame]:
        """The frames that can be trusted."""
        failed: av.FFmpegError | None = None
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:  # an empty one says that the frame before it is shown on
                    for frame in self._decoded(packet):
                        yield from self._judged(frame)
        except av.FFmpegError as error:
            failed = error
        end = av.Packet()
        end.time_base = self.stream.time_base or end.time_base
        for frame in self._decoded(end):
            yield from self._judged(frame)
        if not self.decoded:
            raise failed or Refused("has a video stream without a single frame")
        if failed:
            self._damaged()

    def _decoded(self, packet: av.Packet) -> list[av.VideoFrame]:
        self.clock.send(packet)
        if self.every_packet_is_a_frame and packet.pts is not None and not packet.is_discard:
            self.waiting.add(packet.pts)
        try:
            return self.decoder.decode(packet)
        except av.FFmpegError:
            self._damaged()
            if packet.size:
                self.decoded += 1
                self.waiting.discard(packet.pts)
                self.clock.drop()
            return []

    def _damaged(self, index: int | None = None) -> None:
        if self.broken is None:
            self.broken = self.decoded if index is None else index

    def _judged(self, frame: av.VideoFrame) -> Iterator[Frame]:
        self.clock.settle()
        if skipped := self._skipped(frame):
            if self.decoded and self.broken is None:
                self.gaps.append((self.decoded, self.decoded + skipped))
            self.decoded += skipped if self.decoded else 0
        index, time = self.decoded, self.clock.time(frame, self.decoded)
        self.decoded += 1
        if frame.is_corrupt:
            self._damaged(index)
        elif self.broken is not None and frame.key_frame:
            self.gaps.append((self.broken, index))
            self.broken = None
        if self.broken is None:
            yield Frame(index, time, frame)

    def _skipped(self, frame: av.VideoFrame) -> int:
        """How many frames there should have been before this one, which the decoder left out without a word."""
        shown = frame.pts
        if frame.interlaced_frame or shown is None:  # then two packets can be the fields of one frame
            self.every_packet_is_a_frame = False
        if not self.every_packet_is_a_frame or shown is None or self.clock.sort:
            return 0
        before = {pts for pts in self.waiting if pts < shown}
        self.waiting -= {shown, *before}
        return len(before)

    def check_whole(self, path: Path) -> None:
        """Raise Refused if frames are lost."""
        lost = [f"{first} to {last - 1}" if last - first > 1 else str(first) for first, last in self.gaps]
        named = f"lost frames: {', '.join(lost[:3])}{f' and in {len(lost) - 3} more places' if lost[3:] else ''}"
        if self.broken is not None:
            before = f" ({named})" if lost else ""
            raise Refused(f"is damaged or cut short from frame {self.broken} on{before}")
        if lost:
            raise Refused(f"is damaged; {named}")
        size = path.stat().st_size
        if "mp4" in self.container.format.name.split(","):
            behind = sum(entry.pos + entry.size > size for entry in self.stream.index_entries)
            if behind:
                raise Refused(f"is cut short: {behind} of {len(self.stream.index_entries)} frames are not there")
        elif "avi" in self.container.format.name.split(",") and _riff_end(path) > size:
            raise Refused(f"is cut short: {size} of {_riff_end(path)} bytes are there")


def _riff_end(path: Path) -> int:
    """Where the first part of an AVI says that it ends; 0 where it says nothing."""
    with path.open("rb") as file:
        size: int = unpack("<4xI", file.read(8))[0]
    return size + 8 if 0 < size < 0xFFFFFF00 else 0


def _deinterlaced(frames: Iterator[Frame]) -> Iterator[Frame]:
    """`frames`, those that are marked as interlaced with their two fields made one moment's picture."""
    graph: Graph | None = None
    shape, waiting = None, deque[Frame]()

    def ready(graph: Graph) -> Iterator[Frame]:
        while waiting:
            try:
                frame = graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            number, time, sent = waiting.popleft()
            frame.colorspace, frame.color_range = sent.colorspace, sent.color_range
            frame.color_trc, frame.color_primaries = sent.color_trc, sent.color_primaries
            yield Frame(number, time, frame)

    for number, time, frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield Frame(number, time, frame)
            continue
        if graph is None or shape != (frame.width, frame.height, frame.format.name):
            if graph is not None:
                graph.vpush(None)
                yield from ready(graph)
            shape = (frame.width, frame.height, frame.format.name)
            graph = Graph()
            graph.threads = 1
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
            graph.configure()
        waiting.append(Frame(number, time, frame))
        graph.vpush(frame)
        yield from ready(graph)
    if graph is not None:
        graph.vpush(None)
        yield from ready(graph)


def _picture(
    frame: av.VideoFrame, scaler: VideoReformatter, pixel_aspect: float, max_side: int, padded: bool
) -> Image.Image:
    width, height = fit(frame.width * pixel_aspect, frame.height, max_side)
    alpha = frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
    bright = frame.color_trc in (hdr.PQ, hdr.HLG)
    colorspace = None
    if frame.colorspace == UNSPECIFIED and len(frame.format.components) > 2 and not frame.format.is_rgb:
        colorspace = Colorspace.BT2020 if bright else Colorspace.ITU709 if frame.height >= HD else None
    scaled = scaler.reformat(
        frame,
        width,
        height,
        "rgb48le" if bright else "rgba" if alpha else "rgb24",
        src_colorspace=colorspace,
        interpolation=Interpolation.AREA,
        threads=1,
    ).to_ndarray()
    image = Image.fromarray(hdr.to_sdr(scaled, frame.color_trc) if bright else scaled)
    return _upright(over_white(without_padding(image) if padded else image), frame)


def _upright(image: Image.Image, frame: av.VideoFrame) -> Image.Image:
    """`image` turned and mirrored as the container says."""
    matrix: Any = None
    with suppress(ValueError):  # PyAV does not know all kinds of what can be there
        matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        a, b, _, c, d = unpack("=5i", bytes(matrix)[:20])
        if a * d - b * c < 0:
            return ImageOps.mirror(image).rotate(round(degrees(-atan2(-b, -a))), expand=True)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
