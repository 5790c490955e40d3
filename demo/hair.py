"""Hair, beards and headwear: shells round the head that end at a hairline given as height over longitude.

A shell's outline is drawn behind the head; in front of it lies the part above the hairline, which is bounded by the
stretch of the hairline that faces the viewer and by the outline over the crown.
"""

from dataclasses import dataclass

import numpy as np

from demo.canvas import Canvas, Color, View, mix
from demo.characters import Character
from demo.head import DEPTH, WIDTH, mesh, shell

THETA = np.radians(np.linspace(-180, 180, 181))


@dataclass(frozen=True)
class Style:
    """A cut: the shell's size and its hairline as (degrees from the front, height) knots, the same on both sides
    unless `part` moves the front's crest to one side."""

    grow: float
    rise: float
    hairline: tuple[tuple[float, float], ...]
    part: float = 0.0
    straight_from: float | None = None
    bottom: float = 0.6


_TIGHT = ((0, -0.63), (35, -0.58), (58, -0.4), (70, -0.2), (82, -0.16), (108, -0.2), (125, 0.3), (180, 0.45))
STYLES = {
    "short": Style(1.09, 0.05, ((0, -0.6), (30, -0.5), (56, -0.4), (66, -0.02), (76, 0.1), (84, -0.18), (110, -0.2), (125, 0.35), (180, 0.5)), 0.16, bottom=0.5),
    "spiky": Style(1.07, 0.02, _TIGHT, bottom=0.45),
    "curly": Style(1.1, 0.05, ((0, -0.56), (40, -0.5), (60, -0.34), (70, 0.05), (84, 0.0), (108, -0.1), (125, 0.4), (180, 0.5)), bottom=0.5),
    "afro": Style(1.14, 0.05, ((0, -0.6), (40, -0.54), (62, -0.32), (74, 0.0), (108, 0.0), (125, 0.4), (180, 0.5)), bottom=0.5),
    "bob": Style(1.13, 0.03, ((0, -0.47), (40, -0.45), (54, -0.36), (62, 0.1), (68, 0.66), (80, 0.78), (180, 0.82)), 0.0, 0.12, 0.82),
    "long": Style(1.11, 0.03, ((0, -0.74), (14, -0.66), (36, -0.44), (54, -0.2), (62, 0.2), (70, 0.9), (76, 1.5), (180, 1.55)), 0.0, 0.1, 1.55),
    "ponytail": Style(1.06, 0.03, _TIGHT, bottom=0.45),
    "bun": Style(1.06, 0.03, _TIGHT, bottom=0.45),
}
BEANIE = Style(1.13, 0.03, ((0, -0.5), (90, -0.34), (180, -0.1)), bottom=-0.1)


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


class Hair:
    def __init__(self, view: View, character: Character, color: Color, accent: Color, jaw: float):
        self.view, self.who, self.color, self.accent, self.jaw = view, character, color, accent, jaw
        self.edge = mix(color, (24, 16, 24), 0.5) if sum(color) > 240 else mix(color, (190, 170, 180), 0.22)
        self.rim = mix(color, (24, 16, 24), 0.55)
        self.style = STYLES.get(character.hair_style)
        if self.style is not None:
            s = self.style
            self.outline = view.outline(mesh(jaw, s.grow, s.rise, s.bottom, s.straight_from))
            self.blobs = self._blobs()

    def _line(self, style: Style) -> np.ndarray:
        degrees = np.abs(np.degrees(THETA))
        height = np.interp(degrees, *zip(*style.hairline, strict=True))
        if style.part:
            front = np.clip(1 - degrees / 62, 0, 1)
            height = height - style.part * np.sin(np.degrees(THETA) / 62 * np.pi / 1.1) * np.sqrt(front)
        return shell(THETA, height, self.jaw, style.grow, style.rise, style.straight_from)

    def _blobs(self) -> list[tuple[np.ndarray, float]]:
        """Balls (centre, radius) that curls, afro, bun and tail are made of."""
        style, name = self.style, self.who.hair_style
        if self.who.headwear == "beanie" and name in ("curly", "afro"):
            return []
        if name == "bun":
            return [(np.array((0.0, -1.2, -0.3)), 0.36)]
        if name == "ponytail":
            t = np.linspace(0, 1, 9)
            x, y, z = 0.25 + 0.95 * np.sin(t * 1.9), -1.0 - 0.28 * np.sin(t * 3.0) + 1.75 * t**1.6, -0.55 - 0.15 * t
            return [(np.array(c), r) for c, r in zip(zip(x, y, z, strict=True), 0.2 + 0.12 * np.sin(t * np.pi), strict=True)]
        if name == "curly":
            rings = ((0, -1.05, 1), (0, -0.78, 9), (20, -0.52, 11), (0, -0.2, 0))
            found = []
            for shift, y, count in rings:
                for i in range(count):
                    theta = np.radians(shift + 360 * i / count)
                    found.append((shell(theta, y, self.jaw, style.grow, style.rise), 0.24))
            for degrees, y in ((72, -0.22), (-72, -0.22), (78, 0.04), (-78, 0.04), (130, 0.0), (-130, 0.0), (180, 0.1), (150, 0.35), (-150, 0.35)):
                found.append((shell(np.radians(degrees), y, self.jaw, style.grow, style.rise), 0.2))
            return found
        if name == "afro":
            found = []
            for latitude, count in ((80, 3), (50, 9), (22, 13), (-8, 14)):
                for i in range(count):
                    a, b = np.radians(latitude), np.radians(360 * (i + 0.5) / count)
                    place = np.array((1.12 * np.cos(a) * np.sin(b), -0.38 - 1.0 * np.sin(a), -0.22 + 0.98 * np.cos(a) * np.cos(b)))
                    if place[2] < 0.62 or place[1] < -0.72:
                        found.append((place, 0.27))
            return found
        return []

    def _ball(self, canvas: Canvas, center: np.ndarray, radius: float, texture: bool) -> None:
        angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        pixel = self.view.project(center)[0]
        circle = pixel + radius * canvas.unit * np.stack((np.cos(angle), np.sin(angle)), axis=-1)
        canvas.solid(circle, self.color, 0.6)
        if texture:
            canvas.line(circle[15:25], self.edge, 0.022)
            canvas.line(pixel + 0.5 * (circle[16:24] - pixel), self.edge, 0.018)

    def _depth(self, center: np.ndarray) -> float:
        return float(self.view.rotate(center - View.PIVOT)[2] + View.PIVOT[2])

    def behind(self, canvas: Canvas) -> None:
        if self.style is None:
            return
        if self.who.hair_style == "spiky":
            self._spikes(canvas, front=False)
        for center, radius in sorted(self.blobs, key=lambda blob: self._depth(blob[0])):
            if self._depth(center) < 0.1:
                self._ball(canvas, center, radius, self.who.hair_style in ("curly", "bun", "afro"))
        canvas.solid(self.outline, mix(self.color, (20, 14, 24), 0.25), 0.5, self.rim)

    def front(self, canvas: Canvas) -> None:
        if self.style is not None:
            curve = self._line(self.style)
            region = cap(self.view, curve, self.outline)
            if region is not None:
                canvas.solid(region, self.color, 0.62, self.rim)
                self._strands(canvas)
            if self.who.hair_style == "spiky":
                self._spikes(canvas, front=True)
            for center, radius in sorted(self.blobs, key=lambda blob: self._depth(blob[0])):
                if self._depth(center) >= 0.1:
                    self._ball(canvas, center, radius, True)
            if self.who.headwear == "headband":
                self._band(canvas)
        if self.who.headwear == "beanie":
            self._beanie(canvas)

    def _strands(self, canvas: Canvas) -> None:
        """A few lines from the crown to the hairline, which say how the hair lies."""
        if self.who.hair_style in ("curly", "afro", "spiky"):
            return
        style = self.style
        for degrees in (-150, -120, -95, -78, -40, -20, 8, 30, 50, 78, 95, 120, 150):
            low = float(np.interp(abs(degrees), *zip(*style.hairline, strict=True)))
            if style.part and abs(degrees) < 62:
                low -= style.part
            if abs(degrees) > 90:
                low = min(low, 0.6)
            y = np.linspace(-0.93 * style.grow, low - 0.12, 12)
            theta = np.radians(degrees * np.linspace(0.75, 1.0, 12))
            points = shell(theta, y, self.jaw, style.grow, style.rise, style.straight_from)
            if (self.view.rotate(points * np.array((1, 0.3, 1)))[:, 2] > 0.12).all():
                canvas.line(self.view.project(points), self.edge, 0.016)

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
        outline = self.view.outline(mesh(self.jaw, BEANIE.grow, BEANIE.rise, BEANIE.bottom))
        region = cap(self.view, self._line(BEANIE), outline)
        edge = mix(self.accent, (20, 16, 30), 0.5)
        if region is not None:
            canvas.solid(region, self.accent, 0.55, edge)
        canvas.solid(self._ring(1.17, BEANIE.rise, BEANIE.hairline, 0.12), mix(self.accent, (255, 255, 255), 0.15), 0.5, edge)
