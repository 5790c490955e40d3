"""Hair, beards and headwear: shells round the head that end at a hairline given as height over longitude.

A shell's outline is drawn behind the head; in front of it lies the part above the hairline, which is bounded by the
stretch of the hairline that faces the viewer and by the outline over the crown.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from demo.canvas import Canvas, Color, View, ball, mix
from demo.characters import Character
from demo.head import DEPTH, WIDTH, mesh, shell

THETA = np.radians(np.linspace(-180, 180, 181))


@dataclass(frozen=True)
class Style:
    """A cut: the shell's size and its hairline as (degrees from the front, height) knots, the same on both sides
    unless `part` moves the front's crest to one side; `fringe` is the length of the forehead's jags."""

    grow: float
    rise: float
    hairline: tuple[tuple[float, float], ...]
    part: float = 0.0
    straight_from: float | None = None
    bottom: float = 0.6
    fringe: float = 0.0


_TIGHT = ((0, -0.63), (35, -0.58), (58, -0.4), (70, -0.2), (82, -0.16), (108, -0.2), (125, 0.3), (180, 0.45))
STYLES = {
    "short": Style(1.12, 0.07, ((0, -0.7), (30, -0.63), (56, -0.44), (66, -0.02), (76, 0.1), (84, -0.18), (110, -0.2), (125, 0.35), (180, 0.5)), 0.08, bottom=0.5, fringe=0.1),
    "spiky": Style(1.07, 0.02, _TIGHT, bottom=0.45),
    "curly": Style(1.1, 0.05, ((0, -0.56), (40, -0.5), (60, -0.34), (70, 0.05), (84, 0.0), (108, -0.1), (125, 0.4), (180, 0.5)), bottom=0.5),
    "afro": Style(1.14, 0.05, ((0, -0.6), (40, -0.54), (62, -0.32), (74, 0.0), (108, 0.0), (125, 0.4), (180, 0.5)), bottom=0.5),
    "bob": Style(1.1, 0.03, ((0, -0.62), (38, -0.58), (52, -0.42), (60, 0.1), (66, 0.66), (80, 0.78), (180, 0.82)), 0.0, 0.12, 0.82),
    "long": Style(1.11, 0.03, ((0, -0.78), (14, -0.7), (30, -0.56), (40, -0.3), (46, 0.2), (49, 0.9), (53, 1.5), (180, 1.55)), 0.0, 0.1, 1.55),
    "ponytail": Style(1.06, 0.03, _TIGHT, bottom=0.45),
    "bun": Style(1.06, 0.03, _TIGHT, bottom=0.45),
}
BEANIE = Style(1.13, 0.03, ((0, -0.7), (90, -0.5), (180, -0.3)), bottom=-0.1)


def run_facing(facing: np.ndarray) -> np.ndarray:
    """Indices of the longest unbroken run of True round a closed curve."""
    if facing.all():
        return np.arange(len(facing))
    start = int(np.flatnonzero(~facing)[0])
    order = np.roll(np.arange(len(facing)), -start)
    best, current = [], []
    for index in order:
        current = [*current, index] if facing[index] else []
        best = max(best, current, key=len)
    return np.array(best, dtype=int)


def cap(view: View, curve: np.ndarray, outline: np.ndarray, over: str = "top") -> np.ndarray | None:
    """The region [N, 2] between a closed curve [M, 3] round the head and the silhouette, over the crown or the chin."""
    normals = view.rotate(curve * np.array((1 / WIDTH**2, 0.15, 1 / DEPTH**2)))
    run = run_facing(normals[:, 2] > 0)
    if len(run) < 3:
        return None
    edge = view.project(curve[run])
    edge = edge if edge[0, 0] < edge[-1, 0] else edge[::-1]
    first, last = (int(((outline - end) ** 2).sum(1).argmin()) for end in (edge[-1], edge[0]))
    step = -1 if over == "top" else 1
    count = (step * (last - first)) % len(outline)
    return np.vstack((edge, outline[(first + step * np.arange(count + 1)) % len(outline)]))


@lru_cache(maxsize=64)
def hairline(style: Style, jaw: float) -> np.ndarray:
    """The closed curve [181, 3] at which a cut ends."""
    degrees = np.degrees(THETA)
    height = np.interp(np.abs(degrees), *zip(*style.hairline, strict=True))
    height = height - style.part * np.sin(degrees / 62 * 2.85) * np.sqrt(np.clip(1 - np.abs(degrees) / 62, 0, 1))
    height = height + style.fringe * ((degrees / 15.5) % 1 - 0.5) * (np.abs(degrees) < 62)
    return shell(THETA, height, jaw, style.grow, style.rise, style.straight_from)


@lru_cache(maxsize=64)
def body(style: Style, jaw: float) -> np.ndarray:
    """Points [N, 3] of the shell that carry hair: those above the hairline."""
    points = mesh(jaw, style.grow, style.rise, style.bottom, style.straight_from)
    degrees = np.abs(np.degrees(np.arctan2(points[:, 0], points[:, 2])))
    return points[points[:, 1] <= np.interp(degrees, *zip(*style.hairline, strict=True)) + 0.02]


@lru_cache(maxsize=64)
def strands(style: Style, jaw: float) -> np.ndarray:
    """Lines [M, 12, 3] from the crown to the hairline, which say how the hair lies."""
    lines = []
    for degrees in (-150, -120, -95, -78, -40, -20, 8, 30, 50, 78, 95, 120, 150):
        low = float(np.interp(abs(degrees), *zip(*style.hairline, strict=True)))
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
        for shift, y, count in ((0, -1.05, 1), (0, -0.78, 9), (20, -0.52, 11)):
            for degrees in shift + 360 * np.arange(count) / count:
                found.append((shell(np.radians(degrees), y, jaw, style.grow, style.rise), 0.24))
        for degrees, y in ((72, -0.22), (78, 0.04), (130, 0.0), (180, 0.1), (150, 0.35)):
            for side in (-1, 1):
                found.append((shell(np.radians(side * degrees), y, jaw, style.grow, style.rise), 0.2))
    elif name == "afro":
        for latitude, count in ((90, 1), (66, 7), (42, 12), (20, 16), (-2, 17), (-24, 16), (-44, 12)):
            a, b = np.radians(latitude), 2 * np.pi * (np.arange(count) + 0.5 * (latitude % 4 == 2)) / count
            ring = np.stack((1.12 * np.cos(a) * np.sin(b), np.full(count, -0.34 - np.sin(a)), -0.22 + 0.98 * np.cos(a) * np.cos(b)), -1)
            found += [(place, 0.21) for place in ring if place[2] < 0.25 - 0.7 * max(0.0, place[1] + 0.45) or place[1] < -0.66]
    return tuple((tuple(center.tolist()), radius) for center, radius in found)


@lru_cache(maxsize=512)
def ball_sprite(color: Color, edge: Color | None, radius: int) -> tuple[Image.Image, Image.Image]:
    """A shaded ball of `radius` pixels with a curl drawn on it (none without an edge colour), and its mask."""
    size = 2 * radius + 1
    picture = ball(color, 0.6).resize((size, size), Image.Resampling.BILINEAR)
    if edge is not None:
        pen = ImageDraw.Draw(picture)
        for inset, start, end in ((0.02, 190, 320), (0.5, 200, 310)):
            box = (inset * radius, inset * radius, size - 1 - inset * radius, size - 1 - inset * radius)
            pen.arc(box, start, end, fill=edge, width=max(1, radius // 10))
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).ellipse((0, 0, size - 1, size - 1), fill=255)
    return picture, mask


class Hair:
    """The hair and headwear of one character in one view."""

    def __init__(self, view: View, character: Character, color: Color, accent: Color, jaw: float):
        self.view, self.who, self.color, self.accent, self.jaw = view, character, color, accent, jaw
        self.edge = mix(color, (24, 16, 24), 0.5) if sum(color) > 240 else mix(color, (190, 170, 180), 0.17)
        self.rim = mix(color, (24, 16, 24), 0.55)
        self.style = STYLES.get(character.hair_style)
        self.balls: list[tuple[float, np.ndarray, float]] = []
        if self.style is not None:
            self.outline = view.outline(body(self.style, jaw))
            if character.headwear != "beanie":
                found = balls(character.hair_style, jaw)
                self.balls = sorted(((self._depth(np.array(c)), np.array(c), r) for c, r in found), key=lambda b: b[0])

    def _depth(self, center: np.ndarray) -> float:
        return float(self.view.rotate(center - View.PIVOT)[2] + View.PIVOT[2])

    def _draw_balls(self, canvas: Canvas, front: bool) -> None:
        curled = self.edge if self.who.hair_style != "ponytail" else None
        chosen = [(self.view.project(c)[0], r) for depth, c, r in self.balls if (depth >= 0.1) == front]
        for pixel, radius in chosen:
            canvas.disc(pixel, radius + 0.024, self.rim)
        for pixel, radius in chosen:
            size = round(radius * canvas.unit)
            x, y = np.rint(pixel).astype(int).tolist()
            picture, mask = ball_sprite(self.color, curled, size)
            canvas.image.paste(picture, (x - size, y - size), mask)

    def behind(self, canvas: Canvas) -> None:
        if self.style is None:
            return
        if self.who.hair_style == "spiky":
            self._spikes(canvas, front=False)
        self._draw_balls(canvas, front=False)
        canvas.solid(self.outline, mix(self.color, (20, 14, 24), 0.25), 0.5, self.rim)

    def front(self, canvas: Canvas) -> None:
        if self.style is not None:
            region = cap(self.view, hairline(self.style, self.jaw), self.outline)
            if region is not None:
                canvas.solid(region, self.color, 0.62, self.rim)
                if self.who.hair_style not in ("curly", "afro", "spiky"):
                    self._strands(canvas)
            if self.who.hair_style == "spiky":
                self._spikes(canvas, front=True)
            self._draw_balls(canvas, front=True)
            if self.who.headwear == "headband":
                self._band(canvas)
        if self.who.headwear == "beanie":
            self._beanie(canvas)

    def _strands(self, canvas: Canvas) -> None:
        lines = strands(self.style, self.jaw)
        facing = ((lines * np.array((1, 0.3, 1))) @ self.view.rotation[2]).min(axis=1) > 0.12
        for line in lines[facing]:
            canvas.line(self.view.project(line), self.edge, 0.016)

    def _spikes(self, canvas: Canvas, front: bool) -> None:
        rings = ((0, -0.98, 1), (0, -0.8, 8), (22, -0.55, 10), (0, -0.3, 10))
        spikes = []
        for shift, y, count in rings:
            for i in range(count):
                theta = np.radians(shift + 360 * i / count)
                if abs(np.cos(theta)) > 0.55 and np.cos(theta) > 0 and y > -0.5:
                    continue
                root = shell(np.array((theta - 0.36, theta, theta + 0.36)), y, self.jaw, 1.04, 0.02)
                tip = root[1] * np.array((1.3, 1.0, 1.3)) + np.array((0.08, -0.42, 0.06))
                spikes.append((self._depth(root[1]), np.vstack((root[0], tip, root[2], root[1] + np.array((0, 0.1, 0))))))
        for depth, points in sorted(spikes, key=lambda spike: spike[0]):
            if (depth >= 0.0) == front:
                canvas.solid(self.view.project(points), self.color, 0.6, self.edge if front else self.rim)

    def _band(self, canvas: Canvas) -> None:
        band = self._ring(self.style.grow + 0.02, self.style.rise, ((0, -0.78), (90, -0.62), (180, -0.5)), 0.13)
        canvas.solid(band, self.accent, 0.55, mix(self.accent, (20, 16, 30), 0.5))

    def _ring(self, grow: float, rise: float, line: tuple[tuple[float, float], ...], half: float) -> np.ndarray:
        """The visible part of a band round the head, `half` above and below a line of (degrees, height) knots."""
        height = np.interp(np.abs(np.degrees(THETA)), *zip(*line, strict=True))
        curve = shell(THETA, height, self.jaw, grow, rise)
        run = run_facing(self.view.rotate(curve * np.array((1 / WIDTH**2, 0.15, 1 / DEPTH**2)))[:, 2] > 0)
        upper = shell(THETA[run], height[run] - half, self.jaw, grow, rise)
        lower = shell(THETA[run], height[run] + half, self.jaw, grow, rise)
        return np.vstack((self.view.project(upper), self.view.project(lower)[::-1]))

    def _beanie(self, canvas: Canvas) -> None:
        outline = self.view.outline(body(BEANIE, self.jaw))
        region = cap(self.view, hairline(BEANIE, self.jaw), outline)
        edge = mix(self.accent, (20, 16, 30), 0.5)
        if region is not None:
            canvas.solid(region, self.accent, 0.55, edge)
        canvas.solid(self._ring(1.17, BEANIE.rise, BEANIE.hairline, 0.12), mix(self.accent, (255, 255, 255), 0.15), 0.5, edge)
