"""Who can be drawn and how a head can be held: the vocabulary that renderer, words and clips of the demo share.

A `Character` is what stays the same through a clip, a `Pose` is what moves. Whether an orientation or an expression is
*clear* is decided here, from the pose's numbers, by thresholds chosen on sheets of rendered faces: clear means that a
person sees it at a glance.
"""

from dataclasses import dataclass, fields

import numpy as np

from demo.faces.cast import PEOPLE

ORIENTATIONS = ("front", "left", "right", "up", "down")
EXPRESSIONS = ("neutral", "smiling", "laughing", "sad", "surprised", "angry", "winking")

GENDERS = ("female", "male")
SKINS = ("porcelain", "fair", "olive", "tan", "brown", "dark")
HAIR_STYLES = ("bald", "short", "spiky", "curly", "afro", "bob", "long", "ponytail", "bun")
HAIR_COLORS = ("black", "brown", "blond", "red", "grey", "pink")
EYE_COLORS = ("brown", "blue", "green")
GLASSES = ("none", "round", "square")
FACIAL_HAIR = ("none", "moustache", "beard")
HEADWEAR = ("none", "headband", "beanie")
TOP_COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")

FEMALE_STYLES = ("short", "curly", "afro", "bob", "long", "ponytail", "bun")
MALE_STYLES = ("bald", "short", "spiky", "curly", "afro", "bob", "long", "bun")
BEANIE_STYLES = ("bald", "short", "curly", "bob", "long")
HEADBAND_STYLES = ("short", "curly", "bob", "long", "ponytail", "bun")

TURNED, CLEARLY_TURNED, FAR_TURNED = 0.3, 0.55, 0.85
CLEARLY_LEVEL = 0.15
SHOWN, CLEARLY_SHOWN, CLEARLY_NEUTRAL = 0.35, 0.7, 0.1


@dataclass(frozen=True)
class Character:
    """Everything about a face that a pose does not change. Headwear has the colour of the top."""

    name: str
    gender: str
    skin: str
    hair_style: str
    hair_color: str
    eye_color: str
    glasses: str
    facial_hair: str
    headwear: str
    earrings: bool
    top_color: str

    @property
    def attributes(self) -> tuple[str | bool, ...]:
        """All attributes but the name: two characters look alike exactly when these are equal."""
        return tuple(getattr(self, field.name) for field in fields(self) if field.name != "name")


@dataclass(frozen=True)
class Pose:
    """How a head is held: directions are those of the picture, so "left" has the nose point to the picture's left.

    Args:
        yaw: -1 (far to the left) to 1 (far to the right).
        pitch: -1 (far down) to 1 (far up).
        expression: one of `EXPRESSIONS`.
        intensity: 0 (nothing of the expression shows) to 1 (all of it).
    """

    yaw: float = 0.0
    pitch: float = 0.0
    expression: str = "neutral"
    intensity: float = 1.0

    @property
    def orientation(self) -> str:
        if max(abs(self.yaw), abs(self.pitch)) < TURNED:
            return "front"
        if abs(self.yaw) >= abs(self.pitch):
            return "left" if self.yaw < 0 else "right"
        return "down" if self.pitch < 0 else "up"

    @property
    def orientation_clear(self) -> bool:
        most, least = sorted((abs(self.yaw), abs(self.pitch)), reverse=True)
        return most <= CLEARLY_LEVEL or (most >= CLEARLY_TURNED and least <= most / 2)

    @property
    def degree(self) -> str:
        """How far the head is turned: "slightly", "" (plainly) or "far"; "" for a front view."""
        turn = max(abs(self.yaw), abs(self.pitch))
        if self.orientation == "front" or CLEARLY_TURNED <= turn < FAR_TURNED:
            return ""
        return "far" if turn >= FAR_TURNED else "slightly"

    @property
    def expression_name(self) -> str:
        return self.expression if self.intensity >= SHOWN else "neutral"

    @property
    def expression_clear(self) -> bool:
        return self.expression == "neutral" or self.intensity >= CLEARLY_SHOWN or self.intensity <= CLEARLY_NEUTRAL


CAST = tuple(Character(*person) for person in PEOPLE)
_TAKEN = frozenset(member.attributes for member in CAST)


def any_character(rng: np.random.Generator) -> Character:
    """A character without a name: every attribute drawn, within what goes together."""

    def pick(options: tuple[str, ...], weights: tuple[float, ...] | None = None) -> str:
        return options[rng.choice(len(options), p=weights)]

    gender = pick(GENDERS)
    style = pick(FEMALE_STYLES if gender == "female" else MALE_STYLES)
    headwear = pick(HEADWEAR, (0.76, 0.12, 0.12))
    if (headwear == "beanie" and style not in BEANIE_STYLES) or (
        headwear == "headband" and (gender == "male" or style not in HEADBAND_STYLES)
    ):
        headwear = "none"
    return Character(
        name="",
        gender=gender,
        skin=pick(SKINS),
        hair_style=style,
        hair_color=pick(HAIR_COLORS),
        eye_color=pick(EYE_COLORS),
        glasses=pick(GLASSES, (0.5, 0.25, 0.25)),
        facial_hair=pick(FACIAL_HAIR, (0.5, 0.25, 0.25)) if gender == "male" else "none",
        headwear=headwear,
        earrings=bool(style not in ("bob", "long") and rng.random() < (0.4 if gender == "female" else 0.1)),
        top_color=pick(TOP_COLORS),
    )


def random_character(rng: np.random.Generator) -> Character:
    """Any character that is none of the `CAST`."""
    while (character := any_character(rng)).attributes in _TAKEN:
        pass
    return character


def random_pose(rng: np.random.Generator) -> Pose:
    """A pose from the whole range, also aslant and in between; all expressions alike often."""
    axis = rng.choice(3, p=(0.2, 0.5, 0.3))
    yaw, pitch = rng.normal(0.0, 0.08, 2)
    if axis == 1:
        yaw = rng.choice((-1, 1)) * rng.uniform(0.1, 1.0)
        pitch = rng.normal(0.0, 0.2)
    elif axis == 2:
        pitch = rng.choice((-1, 1)) * rng.uniform(0.1, 1.0)
        yaw = rng.normal(0.0, 0.2)
    intensity = rng.uniform(0.7, 1.0) if rng.random() < 0.75 else rng.uniform(0.0, 0.7)
    return Pose(
        yaw=float(np.clip(yaw, -1, 1)),
        pitch=float(np.clip(pitch, -1, 1)),
        expression=EXPRESSIONS[rng.integers(len(EXPRESSIONS))],
        intensity=float(intensity),
    )
