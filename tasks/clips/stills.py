"""The pictures of a still or an animation, read by Pillow, in 8 bits and in sRGB."""

import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from tasks.clips.picture import Picture, check_size, fit, over_white, without_padding
from tasks.errors import Refused

TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""
SHORTEST, USUAL = 10, 100  # ms: browsers show a frame that says `SHORTEST` or less for `USUAL`
TWELVE_BITS = 4095
END = b"\xff\xd9"  # of a JPEG
EXTRA_SAMPLES, PHOTOMETRIC, WHITE_IS_ZERO = 338, 262, 0  # tags and a value of TIFF
LEVELS = {"L;2": 85, "L;4": 17}  # what Pillow multiplies a PNG's few grey levels with

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # check_size decides
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # what is wrong with metadata, at length
PngImagePlugin.MAX_TEXT_CHUNK = 16 << 20  # bytes, unpacked; some colour profiles have more than Pillow's 1 MiB


class _Chunks(PngImagePlugin.PngStream):
    """Pillow refuses a picture whose texts or profile are too large or malformed; here they alone are left out."""

    def chunk_iCCP(self, pos: int, length: int) -> bytes:
        return self._or_skip(super().chunk_iCCP, pos, length)

    def chunk_tEXt(self, pos: int, length: int) -> bytes:
        return self._or_skip(super().chunk_tEXt, pos, length)

    def chunk_zTXt(self, pos: int, length: int) -> bytes:
        return self._or_skip(super().chunk_zTXt, pos, length)

    def chunk_iTXt(self, pos: int, length: int) -> bytes:
        return self._or_skip(super().chunk_iTXt, pos, length)

    def _or_skip(self, chunk, pos, length):  # type: ignore[no-untyped-def]
        try:
            return chunk(pos, length)
        except (ValueError, SyntaxError, IndexError):
            assert self.fp is not None
            self.fp.seek(pos)
            return self.fp.read(length)


PngImagePlugin.PngStream = _Chunks  # type: ignore[misc]


def pictures(path: Path, every: int, max_side: int) -> Iterator[Picture]:
    """Yield frames 0, `every`, 2 `every`, … of `path`; of several sizes or views of one still only the first."""
    with Image.open(path) as file:
        check_size(*file.size)
        count = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
        hidden = int(count > 1 and getattr(file, "default_image", False))  # an APNG's, for programs that know no APNG
        time = 0.0
        for index in range(count - hidden):
            file.seek(index + hidden)
            file.draft("RGB", (max_side, max_side))
            packed = _packed(file)
            image = _loaded(file, path, max_side)
            if index % every == 0:
                image = over_white(_in_srgb(_eight_bits(_upright(image), file, packed), file.info.get("icc_profile")))
                size = fit(*image.size, max_side)
                image = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
                yield Picture(index, time, image)
            if file.format != "TIFF":
                duration = file.info.get("duration", 0)
                time += (duration if duration > SHORTEST else USUAL) / 1000


def _packed(file: Image.Image) -> str:
    """How the file holds its pixels, in Pillow's terms, such as "RGB;16B"; "" where it does not say."""
    tiles = getattr(file, "tile", [])
    args = tiles[0].args if tiles else ""
    packed = args[0] if isinstance(args, tuple) and args else args
    return packed if isinstance(packed, str) else ""


def _loaded(file: Image.Image, path: Path, max_side: int) -> Image.Image:
    """The decoded file. A JPEG without its end is good if all its rows are there: then what follows changes nothing."""
    try:
        file.load()
        return file
    except OSError:
        if file.format not in ("JPEG", "MPO"):
            raise
        content = path.read_bytes().rstrip(END[:1])
        ended = []
        for noise in (b"", b"\x55" * 4096):
            with Image.open(BytesIO(content + noise + END)) as again:
                again.draft("RGB", (max_side, max_side))
                again.load()
                ended.append(again)
        if ended[0].tobytes() != ended[1].tobytes():
            raise
        return ended[0]


def _upright(image: Image.Image) -> Image.Image:
    try:
        method = TRANSPOSED.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # malformed EXIF data, in many ways
        method = None
    return image.copy() if method is None else image.transpose(method)


def _eight_bits(image: Image.Image, file: Image.Image, packed: str) -> Image.Image:
    """`image` with 8 bits a channel. `packed` is how the file holds it."""
    tags = getattr(file, "tag_v2", {})
    clear = image.info.get("transparency")
    if image.mode == "F":
        raise Refused("holds floating-point pixels; convert it to 8 or 16 bits")
    if image.mode == "I" and file.format == "TIFF":
        raise Refused("holds signed or 32-bit integers, whose range it does not say; convert it to 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).clip(0, 65535)
        grey = values // 257 if values.max() > TWELVE_BITS else values.astype(np.uint32) * 255 // TWELVE_BITS
        grey = 255 - grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey
        image = Image.fromarray(grey.astype(np.uint8))
        if clear is not None:
            image.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return image
    if ";16" in packed and file.format in ("PNG", "TIFF"):
        brightest = np.asarray(image.convert("RGB")).max()
        if 0 < brightest <= TWELVE_BITS >> 8:
            raise Refused("holds 12 bits or fewer in 16, which makes it black; scale it to its range")
        if isinstance(clear, tuple):
            image.info["transparency"] = tuple(value >> 8 for value in clear)
    if packed in LEVELS and isinstance(clear, int):
        image.info["transparency"] = clear * LEVELS[packed]
    if file.format in ("BMP", "DIB") or (file.format == "TIFF" and EXTRA_SAMPLES not in tags):
        return without_padding(image)
    return image


def _in_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """`image` through its ICC profile, as it is without one and where the profile is damaged or of other colours."""
    if not icc and image.mode != "LAB":
        return image
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    mode = image.mode if image.mode in ("RGB", "CMYK", "L", "LAB") else "L" if image.mode in ("LA", "La") else "RGB"
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc) if icc else ImageCms.createProfile("LAB"))
        space = profile.profile.xcolor_space.strip()
        if mode == "L" and space == "RGB":
            mode = "RGB"
        if {"RGB": "RGB", "CMYK": "CMYK", "L": "GRAY", "LAB": "Lab"}[mode] != space:
            return image
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    if mode in PROBES and _near(ImageCms.applyTransform(PROBES[mode], transform), PROBES[mode].convert("RGB")):
        return image
    through = ImageCms.applyTransform(image if image.mode == mode else image.convert(mode), transform)
    assert through is not None
    if alpha is not None:
        through.putalpha(alpha)
    return through


def _near(image: Image.Image | None, other: Image.Image) -> bool:
    """Are they the same but for rounding? Then the profile is sRGB by another name."""
    return bool(np.abs(np.asarray(image, int) - np.asarray(other, int)).max() <= 2)


_LEVELS = np.arange(0, 256, 15, dtype=np.uint8)
PROBES = {
    "RGB": Image.fromarray(np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), -1).reshape(1, -1, 3)),
    "L": Image.fromarray(np.arange(256, dtype=np.uint8)[None]),
}
"""Pictures that tell what a profile does to colours and to greys."""
