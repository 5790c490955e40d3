"""Pictures out of a file: every n-th frame of a video or an animation, or the one picture of a still.

What a file is, its first bytes say; its suffix decides only where they say nothing. Everything comes out as an upright
RGB picture with square pixels, in sRGB, transparency over white, at most `max_side` pixels on its longer side.
"""

from collections.abc import Iterator
from pathlib import Path

import av
from PIL import UnidentifiedImageError

from tasks.clips import stills, video
from tasks.clips.picture import Picture
from tasks.errors import Refused

VIDEOS = {
    *(".mp4", ".mov", ".m4v", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".wmv", ".asf", ".flv", ".ogv"),
    *(".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".m2t"),
}
STILLS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif"),
    *(".jp2", ".j2k", ".jpx"),
}
HEIF = {".heic", ".heif"}
MEDIA = VIDEOS | STILLS | HEIF

STILL_SIGNS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
)
VIDEO_SIGNS = (b"RIFF", b"\x1aE\xdf\xa3", b"OggS", b"FLV", b"\x30\x26\xb2\x75", b"\0\0\1\xba", b"\0\0\1\xb3")
BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}  # that MP4 and QuickTime files begin with
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
TS_PACKET = 188  # bytes, each packet begins with a G; cameras put four bytes before it


def pictures(path: Path, every: int, max_side: int) -> Iterator[Picture]:
    """Yield frames 0, `every`, 2 `every`, … of `path`.

    Raises Refused at the end of what makes sense, also where something before it is lost; what was yielded is good.
    """
    try:
        match kind(path):
            case "still":
                yield from stills.pictures(path, every, max_side)
            case "video":
                yield from video.pictures(path, every, max_side)
            case _:
                raise Refused("is a HEIC picture, which cannot be read; convert it to JPEG or PNG")
    except (Refused, GeneratorExit):
        raise
    except Exception as error:  # whatever a hostile or damaged file makes a decoder say is this file's problem alone
        raise Refused(_reason(error)) from None


def kind(path: Path) -> str:
    """Is the file a "video", a "still" (an animation is one, too) or "heif"?"""
    with path.open("rb") as file:
        head = file.read(512)
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4]), len(head))
        brands = {head[at : at + 4] for at in (8, *range(16, end, 4))}
        if brands & {b"avif", b"avis"}:
            return "still"
        return "heif" if head[8:12] in HEIF_BRANDS else "video"
    if head.startswith(STILL_SIGNS) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return "still"
    packets = any(head[at :: TS_PACKET + at][:2] == b"GG" for at in (0, 4))
    if packets or head.startswith(VIDEO_SIGNS) or head[4:8] in BOXES:
        return "video"
    suffix = path.suffix.lower()
    return "still" if suffix in STILLS else "heif" if suffix in HEIF else "video"


def _reason(error: Exception) -> str:
    if isinstance(error, av.FFmpegError | UnidentifiedImageError):
        return "is not a video or picture that can be decoded: damaged, cut short, or another kind of file"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be decoded: {' '.join(text.split()) or type(error).__name__}"
