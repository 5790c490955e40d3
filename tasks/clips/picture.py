"""What videos and stills have in common: the picture that comes out, its size, transparency over white."""

from dataclasses import dataclass

from PIL import Image

from tasks.errors import Refused

MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs: 1 GiB as 16-bit RGB


@dataclass(frozen=True)
class Picture:
    """A kept frame: its index in the file, its time after the first frame, and the RGB picture."""

    index: int
    timestamp_s: float
    image: Image.Image


def over_white(image: Image.Image) -> Image.Image:
    """`image` as RGB, transparent parts composited on white."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def without_padding(image: Image.Image) -> Image.Image:
    """`image`; a fourth byte that is 0 everywhere is no transparency but padding, and left out."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image


def fit(width: float, height: float, max_side: int) -> tuple[int, int]:
    """The size of a `width` × `height` picture with at most `max_side` pixels on its longer side."""
    scale = min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def check_size(width: int, height: int) -> None:
    """Raise Refused for a picture that is too large to trust."""
    if width * height > MAX_PIXELS:
        raise Refused(f"is {width}×{height} pixels; the limit is {MAX_PIXELS // 1_000_000} megapixels")
