"""Drawing with Pillow at twice the size, reduced at the end, and the view that turns a head in space.

Space is measured in half head heights: x to the picture's right, y down, z towards the viewer, origin inside the head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 2
Color = tuple[int, int, int]


def mix(a: Color, b: Color, share: float) -> Color:
    """The colour `share` (0 to 1) of the way from a to b."""
    red, green, blue = (round(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return red, green, blue


@lru_cache(maxsize=256)
def ball(color: Color, depth: float) -> Image.Image:
    """A 64x64 picture of a matt ball of that colour lit from the upper left; `depth` is how dark its far side gets."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    light = 1.0 - ((x + 0.25) ** 2 + (y + 0.35) ** 2) / 2.2
    light = np.clip(light, -0.6, 1.0)[..., None]
    base = np.array(color, dtype=float)
    lit = base + np.where(light > 0, light * depth * 0.45 * (255 - base), 0)
    shaded = lit * (1 - depth * 0.55 * np.clip(0.35 - light, 0, 1))
    return Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))


class View:
    """Projects points of the head's space to pixels of the large canvas: turned about the neck, slight perspective."""

    PIVOT = np.array((0.0, 0.5, -0.2))
    DISTANCE = 7.0

    def __init__(self, yaw: float, pitch: float, side: int):
        """Yaw and pitch in radians, `side` in pixels of the finished picture."""
        cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
        turn = np.array(((cy, 0, sy), (0, 1, 0), (-sy, 0, cy)))
        nod = np.array(((1, 0, 0), (0, cp, -sp), (0, sp, cp)))
        self.rotation = turn @ nod
        self.yaw = yaw
        self.unit = 0.305 * side * SUPERSAMPLING
        self.center = np.array((0.5, 0.515)) * side * SUPERSAMPLING

    def rotate(self, vectors: np.ndarray) -> np.ndarray:
        return vectors @ self.rotation.T

    def project(self, points: np.ndarray, turned: bool = True) -> np.ndarray:
        """Pixels [N, 2] of points [N, 3]; `turned=False` for what does not follow the head, such as shoulders."""
        points = np.atleast_2d(np.asarray(points, dtype=float))
        if turned:
            points = self.rotate(points - self.PIVOT) + self.PIVOT
        return points[:, :2] * (self.DISTANCE / (self.DISTANCE - points[:, 2:])) * self.unit + self.center

    def outline(self, points: np.ndarray, directions: int = 120) -> np.ndarray:
        """Silhouette [directions, 2] of a convex body given by points on it: its farthest point in each direction,
        counted from the picture's top clockwise."""
        angle = np.linspace(0, 2 * np.pi, directions, endpoint=False)
        pixels = self.project(points)
        return pixels[(pixels @ np.stack((np.sin(angle), -np.cos(angle)))).argmax(0)]


class Canvas:
    def __init__(self, image: Image.Image, unit: float, origin: tuple[int, int] = (0, 0)):
        self.image, self.unit, self.origin = image, unit, np.array(origin)
        self.pen = ImageDraw.Draw(image)

    def _local(self, pixels: np.ndarray) -> list[float]:
        return (pixels - self.origin).ravel().tolist()

    def _masked(self, pixels: np.ndarray) -> tuple[tuple[int, int, int, int], Image.Image] | None:
        """The polygon's box, inside the image, and its mask there; None when nothing of it is in the picture."""
        low = np.maximum(np.floor(pixels.min(0) - self.origin), 0).astype(int)
        high = np.minimum(np.ceil(pixels.max(0) - self.origin) + 1, self.image.size).astype(int)
        if (high <= low).any():
            return None
        mask = Image.new("L", tuple((high - low).tolist()))
        ImageDraw.Draw(mask).polygon((pixels - self.origin - low).ravel().tolist(), fill=255)
        return (*low.tolist(), *high.tolist()), mask

    def polygon(self, pixels: np.ndarray, color: Color) -> None:
        self.pen.polygon(self._local(pixels), fill=color)

    def solid(self, pixels: np.ndarray, color: Color, depth: float = 0.5, edge: Color | None = None) -> None:
        """A polygon shaded like a ball, with a thin line round it when `edge` is given."""
        if (found := self._masked(pixels)) is None:
            return
        box, mask = found
        low, high = pixels.min(0) - self.origin, pixels.max(0) - self.origin
        texture = ball(color, depth)
        scale = 64 / np.maximum(high - low, 1)
        part = ((np.array(box[:2]) - low) * scale).clip(0, 64), ((np.array(box[2:]) - low) * scale).clip(0, 64)
        size = (box[2] - box[0], box[3] - box[1])
        self.image.paste(texture.resize(size, Image.Resampling.BILINEAR, box=(*part[0], *part[1])), box, mask)
        if edge is not None:
            self.line(np.vstack((pixels, pixels[:1])), edge, 0.028)

    def line(self, pixels: np.ndarray, color: Color, width: float) -> None:
        """A line with round ends, `width` in half head heights."""
        half = max(0.5, width * self.unit / 2)
        along = np.empty_like(pixels)
        along[1:-1] = pixels[2:] - pixels[:-2]
        along[0], along[-1] = pixels[1] - pixels[0], pixels[-1] - pixels[-2]
        length = np.sqrt((along**2).sum(1, keepdims=True))
        aside = along[:, ::-1] / np.maximum(length, 0.3) * (-half, half)
        self.pen.polygon(self._local(np.concatenate((pixels + aside, (pixels - aside)[::-1]))), fill=color)
        for x, y in (pixels[0] - self.origin, pixels[-1] - self.origin):
            self.pen.ellipse((x - half, y - half, x + half, y + half), fill=color)

    def disc(self, pixel: np.ndarray, radius: float, color: Color) -> None:
        (x, y), r = pixel - self.origin, radius * self.unit
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def veil(self, pixels: np.ndarray, color: Color, strength: float) -> None:
        """A translucent polygon; strength from 0 (nothing) to 1 (opaque)."""
        if (found := self._masked(pixels)) is not None:
            box, mask = found
            self.image.paste(color, box, mask.point([round(v * strength) for v in range(256)]))

    @contextmanager
    def clipped(self, pixels: np.ndarray) -> "Iterator[Canvas]":
        """A canvas whose drawing shows only inside the polygon."""
        if (found := self._masked(pixels)) is None:
            yield Canvas(Image.new("RGB", (1, 1)), self.unit)
            return
        box, mask = found
        part = Canvas(self.image.crop(box), self.unit, tuple((self.origin + box[:2]).tolist()))
        yield part
        self.image.paste(part.image, box, mask)
