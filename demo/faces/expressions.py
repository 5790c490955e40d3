"""What each expression does to brows, eyes and mouth, as numbers that can be blended with the face at rest."""

from dataclasses import dataclass, fields

from demo.faces.characters import EXPRESSIONS, Pose


@dataclass(frozen=True)
class Face:
    """The mimic of a face; lengths in half head heights, heights upwards.

    Pairs of eyes and brows count from the picture's left in a front view.
    """

    eye_left: float = 0.88  # opening: 0 shut, 1 wide awake, above that staring
    eye_right: float = 0.88
    eye_arc: float = -0.1  # bend of the eye's slit: 1 like a rainbow (shut for joy), below 0 hanging
    lower_lid: float = 0.75  # how far the lower lid hangs down
    lid_slant: float = 0.0  # upper lid lowered at the inner (above 0) or the outer end (below 0)
    iris: float = 1.0
    gaze: float = 0.0  # upwards
    brow_inner: float = 0.0
    brow_outer: float = 0.0
    brow_arch: float = 0.07
    brow_right: float = 0.0  # one brow raised more
    mouth_width: float = 0.25
    mouth_lift: float = 0.02  # corners above (or below) the middle
    mouth_open: float = 0.0
    mouth_round: float = 0.0  # 0: a flat upper lip, 1: an O
    mouth_slant: float = 0.0  # the corner at the picture's right above the other
    mouth_y: float = 0.0
    teeth: float = 0.0  # share of the opening; 1 is clenched
    tongue: float = 0.0
    cheeks: float = 0.0


FACES = {
    "neutral": Face(),
    "smiling": Face(
        eye_left=0.72,
        eye_right=0.72,
        lower_lid=0.5,
        eye_arc=0.1,
        brow_inner=0.03,
        brow_outer=0.03,
        brow_arch=0.1,
        mouth_width=0.37,
        mouth_lift=0.17,
        mouth_open=0.16,
        teeth=1.0,
        cheeks=0.8,
    ),
    "laughing": Face(
        eye_left=0.0,
        eye_right=0.0,
        eye_arc=0.75,
        lower_lid=0.0,
        brow_inner=0.1,
        brow_outer=0.08,
        brow_arch=0.13,
        mouth_width=0.38,
        mouth_lift=0.1,
        mouth_open=0.37,
        mouth_y=-0.02,
        teeth=0.3,
        tongue=1.0,
        cheeks=1.0,
    ),
    "sad": Face(
        eye_left=0.55,
        eye_right=0.55,
        eye_arc=-0.2,
        lid_slant=-0.45,
        gaze=-0.25,
        brow_inner=0.17,
        brow_outer=-0.12,
        brow_arch=0.0,
        mouth_width=0.27,
        mouth_lift=-0.19,
        mouth_y=-0.08,
    ),
    "surprised": Face(
        eye_left=1.35,
        eye_right=1.35,
        lower_lid=1.15,
        iris=0.72,
        brow_inner=0.22,
        brow_outer=0.2,
        brow_arch=0.13,
        mouth_width=0.17,
        mouth_lift=0.0,
        mouth_open=0.4,
        mouth_round=1.0,
        mouth_y=-0.04,
        tongue=0.5,
    ),
    "angry": Face(
        eye_left=0.72,
        eye_right=0.72,
        lower_lid=0.5,
        lid_slant=0.75,
        iris=0.85,
        brow_inner=-0.2,
        brow_outer=0.14,
        brow_arch=0.0,
        mouth_width=0.31,
        mouth_lift=-0.12,
        mouth_open=0.17,
        mouth_round=0.5,
        mouth_y=-0.1,
        teeth=1.0,
    ),
    "winking": Face(
        eye_left=1.0,
        eye_right=0.0,
        eye_arc=0.5,
        brow_inner=0.05,
        brow_outer=0.1,
        brow_arch=0.12,
        brow_right=-0.2,
        mouth_width=0.33,
        mouth_lift=0.15,
        mouth_slant=0.1,
        cheeks=0.8,
    ),
}
assert tuple(FACES) == EXPRESSIONS


def face_of(pose: Pose) -> Face:
    """The pose's mimic: from the face at rest to the full expression by the pose's intensity."""
    rest, full = FACES["neutral"], FACES[pose.expression]
    return Face(
        **{
            field.name: getattr(rest, field.name)
            + pose.intensity * (getattr(full, field.name) - getattr(rest, field.name))
            for field in fields(Face)
        }
    )
