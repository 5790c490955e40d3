"""Eyes, brows, nose, mouth, beard and glasses: curves on the head's surface, projected and filled."""

import numpy as np
from numpy.typing import ArrayLike

from demo.faces.canvas import Canvas, Color, View, mix
from demo.faces.characters import Character
from demo.faces.expressions import Face
from demo.faces.head import on_face

EYE_X, EYE_Y, EYE_HALF, EYE_HIGH = 0.335, -0.1, 0.185, 0.175
MOUTH_Y = 0.52
WHITE, DARK, MOUTH, TONGUE = (252, 252, 250), (38, 28, 32), (98, 22, 34), (226, 98, 110)
IRIS = {"brown": (112, 68, 36), "blue": (62, 128, 196), "green": (74, 146, 86)}
SPAN = np.linspace(-1, 1, 25)
CIRCLE = np.linspace(0, 2 * np.pi, 32, endpoint=False)


class Features:
    """Draws the parts of one face. Every part takes the canvas, so that the caller decides what covers what."""

    def __init__(self, view: View, character: Character, face: Face, skin: Color, hair: Color, jaw: float):
        self.view, self.who, self.face, self.skin, self.hair, self.jaw = view, character, face, skin, hair, jaw
        self.ink = mix(skin, (60, 12, 8), 0.62)
        self.dark_skin = sum(skin) < 330

    def at(self, x: ArrayLike, y: ArrayLike, lift: float = 0.0) -> np.ndarray:
        return self.view.project(on_face(x, y, self.jaw, lift))

    def eye(self, canvas: Canvas, side: int) -> None:
        face = self.face
        opening = face.eye_left if side < 0 else face.eye_right
        shape = 1 - np.abs(SPAN) ** 2.4
        x = side * EYE_X + EYE_HALF * SPAN
        slit = EYE_Y - face.eye_arc * 0.14 * (1 - SPAN**2) * (1 if opening < 0.3 else 0.35)
        inner = -SPAN * side
        if face.lid_slant > 0:
            lid = opening - face.lid_slant * 0.55 * (1 + inner) / 2
        else:
            lid = opening + face.lid_slant * 0.8 * (1 - inner) / 2
        lid = np.maximum(lid, 0.05 if opening > 0.1 else 0)
        upper = self.at(x, slit - lid * EYE_HIGH * shape)
        lower = self.at(x, slit + min(opening, 1.0) * face.lower_lid * EYE_HIGH * 1.05 * shape)
        if opening < 0.12:
            canvas.line(self.at(x, slit + 0.03), DARK, 0.062)
            if self.who.gender == "female":
                self._lashes(canvas, side, self.at(side * (EYE_X + EYE_HALF), slit[-1 if side > 0 else 0] + 0.03)[0])
            return
        hole = np.vstack((upper, lower[::-1]))
        with canvas.clipped(hole) as inside:
            inside.polygon(hole, WHITE)
            shade = np.vstack((upper, (upper + np.array((0, 0.05 * canvas.unit)))[::-1]))
            inside.polygon(shade, (206, 208, 216))
            middle_x = side * EYE_X - 0.015 * side + 0.045 * np.sin(self.view.yaw)
            middle_y = EYE_Y + 0.01 - 0.2 * face.gaze + 0.045 * self.view.rotation[1, 2]
            iris = IRIS[self.who.eye_color]
            for radius, color in ((0.138, mix(iris, DARK, 0.55)), (0.112, iris), (0.066, (20, 16, 20))):
                size = radius * face.iris
                inside.polygon(self.at(middle_x + size * np.cos(CIRCLE), middle_y + size * np.sin(CIRCLE)), color)
            inside.disc(self.at(middle_x - 0.045, middle_y - 0.055)[0], 0.036, WHITE)
            inside.disc(self.at(middle_x + 0.04, middle_y + 0.05)[0], 0.016, (225, 230, 240))
        canvas.line(lower, self.ink, 0.02)
        canvas.line(upper, DARK, 0.05 if self.who.gender == "female" else 0.042)
        if self.who.gender == "female":
            self._lashes(canvas, side, upper[-2 if side > 0 else 1])

    def _lashes(self, canvas: Canvas, side: int, root: np.ndarray) -> None:
        x = side * (EYE_X + EYE_HALF)
        for dx, dy in ((0.075, -0.075), (0.09, -0.02)):
            tip = root + (self.at(x + side * dx, EYE_Y + dy)[0] - self.at(x, EYE_Y)[0])
            canvas.line(np.stack((root, tip)), DARK, 0.03)

    def brow(self, canvas: Canvas, side: int) -> None:
        face = self.face
        inner = (1 - SPAN * side) / 2
        raised = face.brow_right if side > 0 else 0.0
        x = side * 0.36 + 0.215 * SPAN
        y = -0.42 - face.brow_inner * inner - (face.brow_outer * (1 - inner)) - face.brow_arch * (1 - SPAN**2) - raised
        thick = (0.036 if self.who.gender == "female" else 0.055) * (0.55 + 0.75 * inner) * (1 - 0.5 * SPAN**8)
        color = mix(self.hair, (40, 26, 24), 0.55)
        if self.dark_skin:
            color = mix(color, (18, 10, 12), 0.6)
        outline = np.vstack((self.at(x, y - thick, 0.03), self.at(x, y + thick, 0.03)[::-1]))
        canvas.polygon(outline, color)

    def nose(self, canvas: Canvas) -> None:
        sway = np.sin(self.view.yaw)
        base = on_face(np.array(0.0), np.array(0.2), self.jaw)[2]
        wings = np.array(
            [
                (side * 0.115 + 0.055 * np.cos(a), 0.245 + 0.055 * np.sin(a), base + 0.04)
                for side in (-1, 1)
                for a in CIRCLE[::4]
            ]
        )
        tip = np.array([(0.085 * np.cos(a), 0.2 + 0.09 * np.sin(a), base + 0.2) for a in CIRCLE[::3]])
        ridge = np.array([(0.03 * s, -0.12 + 0.06 * i, base + 0.03 + 0.028 * i) for i in range(5) for s in (-1, 1)])
        body = self.view.outline(np.vstack((wings, tip, ridge)), 72)
        canvas.solid(body, mix(self.skin, (255, 224, 205), 0.1), 0.42)
        nod = round(9 * max(self.view.rotation[1, 2], 0) / 0.45)
        canvas.line(body[21 + nod : 51 - nod], self.ink, 0.03)
        if (turned := abs(sway)) > 0.12:
            far = body[50:70] if sway < 0 else body[3:23][::-1]
            canvas.line(far, self.ink, 0.014 + 0.022 * min(turned / 0.5, 1))
        for s in (-1, 1):
            nostril = self.view.project(np.array((s * 0.062, 0.275, base + 0.13)))[0]
            if s * sway < 0.35 and self.view.rotation[1, 2] < 0.1:
                canvas.disc(nostril, 0.024, mix(self.ink, DARK, 0.4))

    def _lip_lines(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x and the heights of the upper and the lower edge of the mouth's opening."""
        f = self.face
        corner = SPAN**2 * (1 - 0.25 * SPAN**2) / 0.75
        middle = MOUTH_Y - f.mouth_y + f.mouth_lift * 0.35
        line = middle - f.mouth_lift * corner - f.mouth_slant * SPAN
        arch = np.sqrt(np.clip(1 - SPAN**2, 0, 1))
        upper = line - f.mouth_open * 0.5 * f.mouth_round * arch
        lower = line + f.mouth_open * (1 - 0.5 * f.mouth_round) * arch
        return f.mouth_width * SPAN, upper, lower

    def mouth(self, canvas: Canvas) -> None:
        f = self.face
        x, upper, lower = self._lip_lines()
        female = self.who.gender == "female"
        lips = mix(self.skin, (196, 52, 72), 0.62 if female else 0.3)
        if self.dark_skin:
            lips = mix(self.skin, (206, 84, 96), 0.62 if female else 0.45)
        rim = mix(self.ink, (70, 8, 22), 0.55)
        if f.mouth_open > 0.03:
            hole = np.vstack((self.at(x, upper, 0.02), self.at(x, lower, 0.02)[::-1]))
            canvas.line(np.vstack((hole, hole[:1])), lips, 0.1 if female else 0.075)
            with canvas.clipped(hole) as inside:
                inside.polygon(hole, MOUTH)
                if f.tongue > 0.1:
                    wide, high = 0.62 * f.mouth_width, 0.42 * f.mouth_open * f.tongue
                    low = lower.max() + 0.02
                    inside.polygon(self.at(wide * np.cos(CIRCLE), low + high * np.sin(CIRCLE)), TONGUE)
                if f.teeth > 0.05:
                    edge = upper + (lower - upper) * f.teeth + 0.01
                    inside.polygon(np.vstack((self.at(x, upper - 0.02), self.at(x, edge)[::-1])), WHITE)
                    if f.mouth_round > 0.2 and f.teeth > 0.5:
                        inside.line(self.at(x, (upper + lower) / 2), (112, 88, 96), 0.022)
                        for i in (6, 12, 18):
                            inside.line(self.at(x[[i, i]], np.array((upper[i], lower[i]))), (150, 130, 136), 0.014)
            canvas.line(np.vstack((hole, hole[:1])), rim, 0.026)
        else:
            arch = 1 - SPAN**2
            above, below = (self.at(x * 0.86, upper + height * arch, 0.01) for height in (-0.05, 0.095))
            canvas.polygon(np.vstack((above, below[::-1])), lips)
            canvas.line(self.at(x, upper, 0.01), rim, 0.048)
        if f.mouth_lift > 0.08:
            for s in (-1, 1):
                i = 0 if s < 0 else -1
                t = np.linspace(-1, 1, 7)
                canvas.line(self.at(x[i] + s * (0.045 - 0.03 * t**2), upper[i] + 0.06 * t, 0.01), self.ink, 0.022)

    def cheeks(self, canvas: Canvas) -> None:
        if self.face.cheeks > 0.05:
            blush = mix(self.skin, (232, 84, 84), 0.6)
            for s in (-1, 1):
                for size, strength in ((0.17, 0.11), (0.135, 0.11), (0.1, 0.11)):
                    spot = self.at(s * 0.5 + size * np.cos(CIRCLE), 0.22 + 0.75 * size * np.sin(CIRCLE))
                    canvas.veil(spot, blush, strength * self.face.cheeks)

    def moustache(self, canvas: Canvas) -> None:
        x = np.concatenate((0.33 * SPAN, 0.33 * SPAN[::-1]))
        rise = self.face.mouth_y
        top = 0.335 - rise * 0.5 + 0.1 * np.abs(SPAN) ** 2.2 - 0.025 * (np.abs(SPAN) < 0.1)
        low = 0.42 - rise * 0.5 + 0.035 * np.abs(SPAN) ** 1.5
        outline = self.at(x, np.concatenate((top, low[::-1])), 0.07)
        canvas.solid(outline, self.hair, 0.5, mix(self.hair, (30, 20, 20), 0.6))

    def glasses(self, canvas: Canvas) -> None:
        if self.who.glasses == "none":
            return
        frame = (236, 224, 200) if self.dark_skin else (52, 46, 62) if self.who.glasses == "square" else (134, 70, 40)
        power = 1.0 if self.who.glasses == "round" else 0.42
        cos, sin = np.cos(CIRCLE), np.sin(CIRCLE)
        z = 0.93
        near = -np.sign(self.view.yaw)
        if abs(self.view.yaw) > 0.08:
            arm = np.array(((near * 0.62, -0.14, z - 0.16), (near * 0.85, -0.14, 0.3), (near * 0.9, -0.12, -0.1)))
            canvas.line(self.view.project(arm), frame, 0.05)
        bend = 0.4
        for s in (-1, 1):
            x = s * 0.35 + 0.275 * np.sign(cos) * np.abs(cos) ** power
            y = -0.08 + (0.265 if power == 1 else 0.22) * np.sign(sin) * np.abs(sin) ** power
            rim = self.view.project(np.stack((x, y, z - bend * np.abs(x) ** 2), axis=-1))
            canvas.veil(rim, WHITE, 0.16)
            canvas.line(np.vstack((rim, rim[:1])), frame, 0.046)
        x = np.linspace(-0.085, 0.085, 7)
        bridge = np.stack((x, -0.13 - 0.03 * (1 - (x / 0.085) ** 2), np.full(7, z)), axis=-1)
        canvas.line(self.view.project(bridge), frame, 0.046)
