"""Pictures out of a file: every n-th frame of a video or an animation, or the one picture of a still.

Videos are decoded from front to back and only the frames that are kept are converted. Everything comes out as an
upright RGB picture with square pixels, transparency over white, at most `max_side` pixels on its longer side.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.errors import Refused

VIDEOS = {".mp4", ".mov", ".m4v", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv"}
STILLS = {".jpg", ".jpeg", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv"  # a playlist in disguise must not open other files
UNSUPPORTED = {".heic", ".heif"}
MEDIA = VIDEOS | STILLS | UNSUPPORTED
SMALL = 4 << 20  # bytes of a video that one thread decodes; the other cores have the next files meanwhile
MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs: 1 GiB as 16-bit RGB

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # _check_size decides
# No lines on stderr: what goes wrong arrives as an exception. Any other level calls Python from FFmpeg's threads, which
# blocks for ever when a video is closed before its end.
av.logging.set_level(None)


@dataclass(frozen=True)
class Picture:
    """A kept frame: its index in the file, its time after the first frame, and the RGB picture."""

    index: int
    timestamp_s: float
    image: Image.Image


def pictures(path: Path, every: int, max_side: int) -> Iterator[Picture]:
    """Yield frames 0, `every`, 2 `every`, … of `path`.

    Raises Refused where the file stops making sense; what was yielded until then is good.
    """
    suffix = path.suffix.lower()
    if suffix in UNSUPPORTED:
        raise Refused(f"{suffix} pictures cannot be read; convert it to JPEG or PNG")
    try:
        yield from (_still if suffix in STILLS else _video)(path, every, max_side)
    except (Refused, GeneratorExit):
        raise
    except Exception as error:  # whatever a hostile or damaged file makes a decoder say is this file's problem alone
        raise Refused(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, av.FFmpegError | UnidentifiedImageError):
        return "is not a video or picture that can be decoded: damaged, cut short, or another kind of file"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be decoded: {' '.join(text.split()) or type(error).__name__}"


def _video(path: Path, every: int, max_side: int) -> Iterator[Picture]:
    with av.open(
        str(path.absolute()), options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    ) as container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise Refused("has no video stream (sound only)" if container.streams.audio else "has no video stream")
        stream = streams[0]
        stream.thread_type = "AUTO" if path.stat().st_size > SMALL else "NONE"
        _check_size(stream.codec_context.width, stream.codec_context.height)
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
    width, height = _fit(frame.width * pixel_aspect, frame.height, max_side)
    alpha = frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
    scaled = scaler.reformat(
        frame, width, height, "rgba" if alpha else "rgb24", interpolation=Interpolation.AREA, threads=1
    )
    image = Image.fromarray(scaled.to_ndarray())
    return _over_white(image).rotate(frame.rotation, expand=True) if frame.rotation else _over_white(image)


def _still(path: Path, every: int, max_side: int) -> Iterator[Picture]:
    with Image.open(path) as file:
        _check_size(*file.size)
        time = 0.0
        for index in range(1 if file.format == "MPO" else getattr(file, "n_frames", 1)):
            file.seek(index)
            file.draft("RGB", (max_side, max_side))
            file.load()
            if index % every == 0:
                image = _over_white(_eight_bits(ImageOps.exif_transpose(file)))
                size = _fit(*image.size, max_side)
                image = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
                yield Picture(index, time, image)
            time += file.info.get("duration", 0) / 1000


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise Refused("holds floating-point pixels; convert it to 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image


def _over_white(image: Image.Image) -> Image.Image:
    """`image` as RGB, transparent parts composited on white."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _fit(width: float, height: float, max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Refused(f"is {width}×{height} pixels; the limit is {MAX_PIXELS // 1_000_000} megapixels")
