"""The haircuts as geometry: shells round the head that end at a hairline, given as height over longitude, and balls."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from demo.faces.head import mesh, shell

THETA = np.radians(np.linspace(-180, 180, 181))
Line = tuple[tuple[float, float], ...]
"""round the head: knots of (degrees from the front, height)"""


@dataclass(frozen=True)
class Style:
    """A cut: the shell's size and its hairline as (degrees from the front, height) knots, the same on both sides
    unless `part` moves the front's crest to one side; `fringe` is the length of the forehead's jags."""

    grow: float
    rise: float
    hairline: Line
    part: float = 0.0
    straight_from: float | None = None
    bottom: float = 0.6
    fringe: float = 0.0


_TIGHT = ((0, -0.63), (35, -0.58), (58, -0.4), (70, -0.2), (82, -0.16), (108, -0.2), (125, 0.3), (180, 0.45))
_SHORT = (
    *((0, -0.7), (30, -0.63), (56, -0.44), (66, -0.02), (76, 0.1)),
    *((84, -0.18), (110, -0.2), (125, 0.35), (180, 0.5)),
)
_CURLY = ((0, -0.56), (40, -0.5), (60, -0.34), (70, 0.05), (84, 0.0), (108, -0.1), (125, 0.4), (180, 0.5))
_AFRO = ((0, -0.6), (40, -0.54), (62, -0.32), (74, 0.0), (108, 0.0), (125, 0.4), (180, 0.5))
_BOB = ((0, -0.62), (38, -0.58), (52, -0.42), (60, 0.1), (66, 0.66), (80, 0.78), (180, 0.82))
_LONG = ((0, -0.78), (14, -0.7), (30, -0.56), (40, -0.3), (46, 0.2), (49, 0.9), (53, 1.5), (180, 1.55))

STYLES = {
    "short": Style(1.12, 0.07, _SHORT, part=0.08, bottom=0.5, fringe=0.1),
    "spiky": Style(1.07, 0.02, _TIGHT, bottom=0.45),
    "curly": Style(1.1, 0.05, _CURLY, bottom=0.5),
    "afro": Style(1.14, 0.05, _AFRO, bottom=0.5),
    "bob": Style(1.1, 0.03, _BOB, straight_from=0.12, bottom=0.82),
    "long": Style(1.11, 0.03, _LONG, straight_from=0.1, bottom=1.55),
    "ponytail": Style(1.06, 0.03, _TIGHT, bottom=0.45),
    "bun": Style(1.06, 0.03, _TIGHT, bottom=0.45),
}
BEANIE = Style(1.13, 0.03, ((0, -0.7), (90, -0.5), (180, -0.3)), bottom=-0.1)


def height_of(line: Line, degrees: np.ndarray) -> np.ndarray:
    """The height of a line at each of `degrees` [...]."""
    at, height = zip(*line, strict=True)
    return np.interp(degrees, at, height)


@lru_cache(maxsize=64)
def hairline(style: Style, jaw: float) -> np.ndarray:
    """The closed curve [181, 3] at which a cut ends."""
    degrees = np.degrees(THETA)
    height = height_of(style.hairline, np.abs(degrees))
    height = height - style.part * np.sin(degrees / 62 * 2.85) * np.sqrt(np.clip(1 - np.abs(degrees) / 62, 0, 1))
    height = height + style.fringe * ((degrees / 15.5) % 1 - 0.5) * (np.abs(degrees) < 62)
    return shell(THETA, height, jaw, style.grow, style.rise, style.straight_from)


@lru_cache(maxsize=64)
def body(style: Style, jaw: float) -> np.ndarray:
    """Points [N, 3] of the shell that carry hair: those above the hairline."""
    points = mesh(jaw, style.grow, style.rise, style.bottom, style.straight_from)
    degrees = np.abs(np.degrees(np.arctan2(points[:, 0], points[:, 2])))
    return points[points[:, 1] <= height_of(style.hairline, degrees) + 0.02]


@lru_cache(maxsize=64)
def strands(style: Style, jaw: float) -> np.ndarray:
    """Lines [M, 12, 3] from the crown to the hairline, which say how the hair lies."""
    lines = []
    for degrees in (-150, -120, -95, -78, -40, -20, 8, 30, 50, 78, 95, 120, 150):
        low = float(height_of(style.hairline, np.array(abs(degrees))))
        low = min(low, 0.6) if abs(degrees) > 90 else low - style.part * (abs(degrees) < 62)
        y = np.linspace(-0.93 * style.grow, low - 0.12, 12)
        theta = np.radians(degrees * np.linspace(0.75, 1.0, 12))
        lines.append(shell(theta, y, jaw, style.grow, style.rise, style.straight_from))
    return np.stack(lines)


@lru_cache(maxsize=64)
def balls(name: str, jaw: float) -> tuple[tuple[tuple[float, float, float], float], ...]:
    """Balls (centre, radius) that curls, afro, bun and tail are made of."""
    style = STYLES[name]
    found: list[tuple[np.ndarray, float]] = []
    if name == "bun":
        found = [(np.array((0.0, -1.2, -0.3)), 0.36)]
    elif name == "ponytail":
        t = np.linspace(0, 1, 10)
        x, y, z = 0.2 + 1.0 * np.sin(t * 1.9), -1.0 - 0.25 * np.sin(t * 3.0) + 1.6 * t**1.6, -0.5 - 0.15 * t
        found = [(np.array(c), r) for *c, r in zip(x, y, z, 0.2 + 0.12 * np.sin(t * np.pi), strict=True)]
    elif name == "curly":
        for shift, level, count in ((0, -1.05, 1), (0, -0.78, 9), (20, -0.52, 11)):
            for degrees in shift + 360 * np.arange(count) / count:
                found.append((shell(np.radians(degrees), level, jaw, style.grow, style.rise), 0.24))
        for degrees, level in ((72, -0.22), (78, 0.04), (130, 0.0), (180, 0.1), (150, 0.35)):
            for side in (-1, 1):
                found.append((shell(np.radians(side * degrees), level, jaw, style.grow, style.rise), 0.2))
    elif name == "afro":
        for latitude, count in ((90, 1), (66, 7), (42, 12), (20, 16), (-2, 17), (-24, 16), (-44, 12)):
            a, b = np.radians(latitude), 2 * np.pi * (np.arange(count) + 0.5 * (latitude % 4 == 2)) / count
            x, y, z = 1.12 * np.cos(a) * np.sin(b), -0.34 - np.sin(a), -0.22 + 0.98 * np.cos(a) * np.cos(b)
            behind = z < 0.25 - 0.7 * max(0.0, y + 0.45)
            for left, deep in zip(x[behind | (y < -0.66)], z[behind | (y < -0.66)], strict=True):
                found.append((np.array((left, y, deep)), 0.21))
    return tuple((tuple(center.tolist()), radius) for center, radius in found)
