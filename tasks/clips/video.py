"""The pictures of a video, read by FFmpeg from front to back; only the frames that are kept are converted."""

from collections.abc import Iterator
from pathlib import Path

import av
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from tasks.clips.picture import Picture, check_size, fit, over_white
from tasks.errors import Refused

CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg"  # a playlist in disguise must not open other files
SMALL = 4 << 20  # bytes of a video that one thread decodes; the other cores have the next files meanwhile

# No lines on stderr: what goes wrong arrives as an exception. Any other level calls Python from FFmpeg's threads, which
# blocks for ever when a video is closed before its end.
av.logging.set_level(None)


def pictures(path: Path, every: int, max_side: int) -> Iterator[Picture]:
    with av.open(
        str(path.absolute()), options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    ) as container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise Refused("has no video stream (sound only)" if container.streams.audio else "has no video stream")
        stream = streams[0]
        stream.thread_type = "AUTO" if path.stat().st_size > SMALL else "NONE"
        check_size(stream.codec_context.width, stream.codec_context.height)
        pixel_aspect = float(stream.sample_aspect_ratio or 1)
        scaler = VideoReformatter()  # keeps its tables from frame to frame, where `frame.reformat` makes them anew
        start, time, decoded = None, 0.0, 0
        try:
            for decoded, frame in enumerate(container.decode(stream), start=1):
                if frame.is_corrupt:
                    raise Refused(f"is damaged or cut short from frame {decoded - 1} on")
                if frame.time is not None:
                    start = frame.time if start is None else start
                    time = frame.time - start
                elif stream.average_rate:
                    time = (decoded - 1) / float(stream.average_rate)
                if (decoded - 1) % every == 0:
                    yield Picture(decoded - 1, time, _from_video(frame, scaler, pixel_aspect, max_side))
        except av.FFmpegError as error:
            if decoded:
                raise Refused(f"is damaged or cut short from frame {decoded} on") from error
            raise
        if decoded == 0:
            raise Refused("has a video stream without a single frame")
        _check_whole(stream, decoded, time)


def _check_whole(stream: av.VideoStream, decoded: int, time: float) -> None:
    """Raise Refused if the header promises clearly more than came: some formats end early without an error."""
    if not (stream.frames and stream.duration and stream.time_base):
        return
    seconds = float(stream.duration * stream.time_base)
    frame_time = seconds / stream.frames
    if decoded < stream.frames and time + 2 * frame_time < seconds - 0.1:
        raise Refused(f"is cut short: {decoded} of {stream.frames} frames are there")


def _from_video(frame: av.VideoFrame, scaler: VideoReformatter, pixel_aspect: float, max_side: int) -> Image.Image:
    width, height = fit(frame.width * pixel_aspect, frame.height, max_side)
    alpha = frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
    scaled = scaler.reformat(
        frame, width, height, "rgba" if alpha else "rgb24", interpolation=Interpolation.AREA, threads=1
    )
    image = Image.fromarray(scaled.to_ndarray())
    return over_white(image).rotate(frame.rotation, expand=True) if frame.rotation else over_white(image)
