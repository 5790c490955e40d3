"""Hair and headwear, drawn.

A shell's outline is drawn behind the head; in front of it lies the part above the hairline, which is bounded by the
stretch of the hairline that faces the viewer and by the outline over the crown.
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from demo.faces.canvas import Canvas, Color, View, ball, mix
from demo.faces.characters import Character
from demo.faces.haircuts import BEANIE, STYLES, THETA, Line, Style, balls, body, hairline, height_of, strands
from demo.faces.head import DEPTH, WIDTH, shell

FACING = np.array((1 / WIDTH**2, 0.15, 1 / DEPTH**2))  # turns a point of a shell into (about) its normal


def run_facing(facing: np.ndarray) -> np.ndarray:
    """Indices of the longest unbroken run of True round a closed curve."""
    if facing.all():
        return np.arange(len(facing))
    start = int(np.flatnonzero(~facing)[0])
    order = np.roll(np.arange(len(facing)), -start)
    best: list[int] = []
    current: list[int] = []
    for index in order.tolist():
        current = [*current, index] if facing[index] else []
        best = max(best, current, key=len)
    return np.array(best, dtype=int)


def cap(view: View, curve: np.ndarray, outline: np.ndarray, over: str = "top") -> np.ndarray | None:
    """The region [N, 2] between a closed curve [M, 3] round the head and the silhouette, over the crown or the chin."""
    normals = view.rotate(curve * FACING)
    run = run_facing(normals[:, 2] > 0)
    if len(run) < 3:
        return None
    edge = view.project(curve[run])
    edge = edge if edge[0, 0] < edge[-1, 0] else edge[::-1]
    first, last = (int(((outline - end) ** 2).sum(1).argmin()) for end in (edge[-1], edge[0]))
    step = -1 if over == "top" else 1
    count = (step * (last - first)) % len(outline)
    return np.vstack((edge, outline[(first + step * np.arange(count + 1)) % len(outline)]))


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
                self._band(canvas, self.style)
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
                foot = root[1] + np.array((0, 0.1, 0))
                spikes.append((self._depth(root[1]), np.vstack((root[0], tip, root[2], foot))))
        for depth, points in sorted(spikes, key=lambda spike: spike[0]):
            if (depth >= 0.0) == front:
                canvas.solid(self.view.project(points), self.color, 0.6, self.edge if front else self.rim)

    def _band(self, canvas: Canvas, style: Style) -> None:
        band = self._ring(style.grow + 0.02, style.rise, ((0, -0.78), (90, -0.62), (180, -0.5)), 0.13)
        canvas.solid(band, self.accent, 0.55, mix(self.accent, (20, 16, 30), 0.5))

    def _ring(self, grow: float, rise: float, line: Line, half: float) -> np.ndarray:
        """The visible part of a band round the head, `half` above and below a line of (degrees, height) knots."""
        height = height_of(line, np.abs(np.degrees(THETA)))
        curve = shell(THETA, height, self.jaw, grow, rise)
        run = run_facing(self.view.rotate(curve * FACING)[:, 2] > 0)
        upper = shell(THETA[run], height[run] - half, self.jaw, grow, rise)
        lower = shell(THETA[run], height[run] + half, self.jaw, grow, rise)
        return np.vstack((self.view.project(upper), self.view.project(lower)[::-1]))

    def _beanie(self, canvas: Canvas) -> None:
        outline = self.view.outline(body(BEANIE, self.jaw))
        region = cap(self.view, hairline(BEANIE, self.jaw), outline)
        edge = mix(self.accent, (20, 16, 30), 0.5)
        if region is not None:
            canvas.solid(region, self.accent, 0.55, edge)
        brim = self._ring(1.17, BEANIE.rise, BEANIE.hairline, 0.12)
        canvas.solid(brim, mix(self.accent, (255, 255, 255), 0.15), 0.5, edge)
